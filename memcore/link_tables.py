"""The arithmetic of `memcore.sparse_linkage`, on its tables.

Four tables ``[B·N, ·]``, all 0 at the beginning; slots are stored by 1 too high, so that 0 is
none:

- ``before [K]``: the slots written before this one, a row of the links;
- ``value [K]``: how strong each of these links is;
- ``after [K]``: the slots in whose rows this one may stand, a column of the links;
- ``place []``: scratch, to find a slot's place among those of one write. Its content says nothing
  by itself: what it names is looked up there (Briggs & Torczon 1993, "An efficient
  representation for sparse sets").
"""

from __future__ import annotations

import torch
from torch import Tensor

from memcore.errors import MemcoreError
from memcore.versions import Buffers, lazy_zeros

__all__ = ["LinkWrite", "check_tables", "empty_tables", "held", "largest_totals"]

SLOT_BITS = 40


def empty_tables(rows: int, reads: int, dtype: torch.dtype, device: torch.device) -> Buffers:
    """No links."""
    return (
        lazy_zeros((rows, reads), torch.int32, device),
        lazy_zeros((rows, reads), dtype, device),
        lazy_zeros((rows, reads), torch.int32, device),
        lazy_zeros((rows,), torch.int32, device),
    )


def held(
    before: Tensor, value: Tensor, named: Tensor, column: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """What the rows that a column names hold of it.

    Args:
        before: the table.
        value: the table.
        named: ``[..., C]``, slots by 1 too high, 0: none.
        column: ``[...]``, the slot whose column it is.
        offsets: where each example begins, to be added to ``[..., C]``.

    Returns:
        The rows ``[..., C]``, and of each its entries ``[..., C, K]``, 0 where another's.
    """
    rows = (named - 1).clamp_(min=0) + offsets
    mine = before[rows] == column[..., None, None] + 1
    mine &= (named > 0).unsqueeze(-1)
    return rows, value[rows].mul_(mine)


class LinkWrite:
    """One write: which rows of the tables it touches, and what it makes of them.

    Args:
        index: ``[B, J]``, int64, the slots written; repeats add up.
        weights: ``[B, J]``.
        on: ``[B, K]``, the slots that the precedence is on.
        precedence: ``[B, K]``.
        offsets: ``[B, 1]``, where each example begins in the tables.
    """

    def __init__(
        self, index: Tensor, weights: Tensor, on: Tensor, precedence: Tensor, offsets: Tensor
    ) -> None:
        self._index, self._weights, self._offsets = index, weights, offsets
        self._on, self._precedence = on, precedence
        self._written, self._preceding = index + offsets, on + offsets

    def columns(self, buffers: Buffers) -> Tensor:
        """The columns of the slots written and of those of the precedence, ``[B, J + K, K]``."""
        return buffers[2][torch.cat([self._written, self._preceding], 1)]

    def rows(self, columns: Tensor) -> Tensor:
        """All rows of the tables that the write touches, ``[n]``, given those columns."""
        self._columns_written, self._columns_on = columns.split(
            [self._index.shape[1], self._on.shape[1]], 1
        )
        holders = (columns.flatten(1) - 1).clamp_(min=0) + self._offsets
        return torch.cat([self._written, self._preceding, holders], 1).flatten()

    def change(self, buffers: Buffers, lost: Buffers) -> None:
        """Edit the tables in place."""
        before, value, after, place = buffers
        self._add_up(place)
        old = before[self._written], value[self._written]
        self._decay_columns(before, value)
        self._renew_rows(before, value, place, *old)
        self._renew_columns(before, value, after)

    def _add_up(self, place: Tensor) -> None:
        """Total the weights of each slot; one of its repeats is to stand for it."""
        flat = self._written.flatten()
        number = torch.arange(len(flat), device=flat.device)
        place[flat] = number.int()
        chosen = place[flat].long()
        sums = torch.zeros_like(self._weights).flatten()
        self._sums = sums.index_add_(0, chosen, self._weights.flatten())
        self._total = self._sums[chosen].view_as(self._weights)
        self._stands = (chosen == number).view_as(self._index)

    def _weight_of(self, slots: Tensor, place: Tensor) -> Tensor:
        """The weights that slots ``[B, n]``, by 1 too high, are written with."""
        rows = slots - 1 + self._offsets
        chosen = place[rows].clamp_(max=self._written.numel() - 1).long()
        return self._sums[chosen] * (self._written.flatten()[chosen] == rows)

    def _decay_columns(self, before: Tensor, value: Tensor) -> None:
        """Take ``w_j L[i, j]`` from the links to each slot j written, wherever they stand."""
        rows, entries = held(
            before, value, self._columns_written, self._index, self._offsets[:, :, None]
        )
        weight = -self._total * self._stands
        value.index_add_(0, rows.flatten(), entries.mul_(weight[..., None, None]).flatten(0, 2))

    def _renew_rows(
        self, before: Tensor, value: Tensor, place: Tensor, named: Tensor, held: Tensor
    ) -> None:
        """Decay the rows of the slots written, add ``w_i p``, and keep the K largest of each.

        Repeats of a slot compute, and write, the same row.
        """
        total, on = self._total.unsqueeze(-1), self._on.unsqueeze(1)
        lost = self._weight_of(named.flatten(1), place).view_as(held).add_(total)
        gained = total * self._precedence.unsqueeze(1)
        same = named.unsqueeze(-1) == (on + 1).unsqueeze(2)  # [B, J, K, K]
        kept = (1 - lost).clamp_(min=0) * held + (same * gained.unsqueeze(2)).sum(-1)
        known = same.any(2).logical_or_(on == self._index.unsqueeze(-1))
        values = torch.cat([kept, gained.masked_fill_(known, 0)], -1)
        names = torch.cat([named, (on + 1).int().expand_as(named)], -1)
        names, values, _ = largest(names, values, held.shape[-1])
        before[self._written] = names.mul_(values > 0).int()
        value[self._written] = values

    def _renew_columns(self, before: Tensor, value: Tensor, after: Tensor) -> None:
        """Name the slots written in the columns of the precedence, and keep the K largest of each.

        What a column drops is deleted from its row.
        """
        named, slots = self._columns_on, (self._index + 1).int()
        new = (slots[:, :, None, None] == named.unsqueeze(1)).any(-1).logical_not_()  # [B, J, K]
        new &= self._stands.unsqueeze(-1)
        candidates = torch.cat([named, (new * slots.unsqueeze(-1)).mT], -1)
        rows, entries = held(before, value, candidates, self._on, self._offsets[:, :, None])
        values = entries.sum(-1)
        names, kept, chosen = largest(candidates, values, named.shape[-1])
        after[self._preceding] = names.mul_(kept > 0).int()
        dropped = torch.full_like(values, -1).scatter_(-1, chosen, 0)
        value.index_add_(0, rows.flatten(), entries.mul_(dropped.unsqueeze(-1)).flatten(0, 2))

    def precedence(self) -> tuple[Tensor, Tensor]:
        """The precedence after the write: slots ``[B, K]``, distinct, and weights."""
        same = self._index.unsqueeze(2) == self._on.unsqueeze(1)
        weights = self._total * self._stands
        remaining = (1 - self._weights.sum(-1, keepdim=True)).clamp_(min=0) * self._precedence
        remaining += (same * weights.unsqueeze(-1)).sum(1)
        new = weights.masked_fill(same.any(-1) | ~self._stands, -1)
        slots, values = torch.cat([self._on, self._index], -1), torch.cat([remaining, new], -1)
        slots, values, _ = largest(slots, values, remaining.shape[-1])
        return slots, values


def largest(slots: Tensor, values: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` slots with the largest values, of equal ones the lowest slot.

    Values are compared by their first 15 binary digits: equal weights are common, and rounding
    must not choose among them, else the batch size or the device would.

    Args:
        slots: ``[..., n]``, integers in [0, 2⁴⁰).
        values: ``[..., n]``.
        count: at most n.

    Returns:
        Slots ``[..., count]``, int64, their values, descending, and their places in ``n``.
    """
    # One integer ranks by value, then by slot; the bits of a positive float rank as it does.
    ranks = values.float().view(torch.int32).long().bitwise_right_shift_(8)
    ranks = ranks.bitwise_left_shift_(SLOT_BITS).sub_(slots)
    chosen = ranks.topk(count, -1).indices
    return slots.gather(-1, chosen).long(), values.gather(-1, chosen), chosen


def largest_totals(slots: Tensor, values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` slots with the largest totals.

    Args:
        slots: ``[..., n]``, by 1 too high, 0: none; repeats add up.
        values: ``[..., n]``, at least 0.
        count: at most n.

    Returns:
        Slots ``[..., count]``, int64, and totals, as by `largest`; where the total is 0 the slot
        is 0.
    """
    slots, order = slots.sort(-1)
    values = values.gather(-1, order)
    run = torch.zeros_like(slots, dtype=torch.int64)
    run[..., 1:] = (slots[..., 1:] != slots[..., :-1]).cumsum(-1)
    totals = torch.zeros_like(values).scatter_add_(-1, run, values)
    names = torch.zeros_like(run).scatter_(-1, run, slots.long())
    slots, totals, _ = largest(names, totals, count)
    return slots.sub_(1).mul_(totals > 0), totals


def check_tables(rows: Tensor, before: Tensor, value: Tensor, after: Tensor, slots: int) -> None:
    """Raise unless these rows of the tables are such as writes leave.

    Args:
        rows: ``[n]``.
        before: ``[n, K]``.
        value: ``[n, K]``.
        after: ``[n, K]``.
        slots: N.

    Raises:
        MemcoreError: rows not ascending, or a link of a slot to itself or that no column names.
    """
    row, place = (value > 0).nonzero(as_tuple=True)
    slot = rows[row] % slots
    column = rows[row] - slot + before[row, place] - 1
    found = torch.searchsorted(rows, column).clamp_(max=len(rows) - 1)
    named = (rows[found] == column) & (after[found] == slot.unsqueeze(1) + 1).any(-1)
    if (rows[1:] <= rows[:-1]).any() or not named.all() or (column == rows[row]).any():
        raise MemcoreError(
            "saved: expected ascending rows, no link of a slot to itself, and each link named in "
            "the row of the slot before"
        )
