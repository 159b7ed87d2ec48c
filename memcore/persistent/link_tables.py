"""The arithmetic of `memcore.persistent.links`, on its tables.

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
from memcore.persistent.buffers import Buffers, lazy_zeros

__all__ = [
    "LinkWrite",
    "check_tables",
    "empty_tables",
    "held",
    "largest_totals",
    "rows_at",
    "rows_of",
]

SLOT_BITS = 40


def empty_tables(rows: int, reads: int, dtype: torch.dtype, device: torch.device) -> Buffers:
    """No links."""
    return (
        lazy_zeros((rows, reads), torch.int32, device),
        lazy_zeros((rows, reads), dtype, device),
        lazy_zeros((rows, reads), torch.int32, device),
        lazy_zeros((rows,), torch.int32, device),
    )


def rows_at(table: Tensor, rows: Tensor) -> Tensor:
    """``table[rows]``, in half the time of that."""
    return table.index_select(0, rows.flatten()).view(*rows.shape, *table.shape[1:])


def held(before: Tensor, value: Tensor, rows: Tensor, column: Tensor) -> Tensor:
    """What rows hold of a column: their entries ``[..., C, K]``, 0 where another's.

    Args:
        before: the table.
        value: the table.
        rows: ``[..., C]``, of the tables.
        column: ``[..., 1]``, int32, the slot whose column it is, by 1 too high.
    """
    others = rows_at(before, rows) != column.unsqueeze(-1)
    return rows_at(value, rows).masked_fill_(others, 0)


def rows_of(named: Tensor, column: Tensor, offsets: Tensor) -> Tensor:
    """The rows that a column names; where none, the column's own, which holds no link to itself.

    Args:
        named: ``[..., C]``, int32, slots by 1 too high, 0: none.
        column: ``[..., 1]``, int32, likewise, the slot whose column it is.
        offsets: where each example begins in the tables.
    """
    return torch.where(named > 0, named, column) + (offsets - 1)


class LinkWrite:
    """One write: which rows of the tables it touches, and what it makes of them.

    Args:
        index: ``[B, J]``, int64, the slots written; repeats add up.
        weights: ``[B, J]``.
        on: ``[B, K]``, int64, the slots that the precedence is on.
        precedence: ``[B, K]``.
        offsets: ``[B, 1]``, where each example begins in the tables.
    """

    def __init__(
        self, index: Tensor, weights: Tensor, on: Tensor, precedence: Tensor, offsets: Tensor
    ) -> None:
        self._weights, self._precedence, self._offsets = weights, precedence, offsets
        slots = torch.cat([index, on], 1)
        sizes = [index.shape[1], on.shape[1]]
        self._touched = slots + offsets
        self._written, self._preceding = self._touched.split(sizes, 1)
        # As the tables name them: by 1 too high.
        self._slots = (slots + 1).int()
        self._index, self._on = self._slots.split(sizes, 1)

    def columns(self, buffers: Buffers) -> Tensor:
        """The columns of the slots written and of those of the precedence, ``[B, J + K, K]``."""
        return rows_at(buffers[2], self._touched)

    def rows(self, columns: Tensor) -> Tensor:
        """All rows of the tables that the write touches, ``[n]``, given those columns."""
        self._columns_on = columns[:, self._index.shape[1] :]
        self._holders = rows_of(columns, self._slots.unsqueeze(-1), self._offsets.unsqueeze(-1))
        return torch.cat([self._touched.flatten(), self._holders.flatten()])

    def change(self, buffers: Buffers, lost: Buffers) -> None:
        """Edit the tables in place."""
        before, value, after, place = buffers
        self._add_up(place)
        old = rows_at(before, self._written), rows_at(value, self._written)
        self._decay_columns(before, value)
        self._renew_rows(before, value, place, *old)
        self._renew_columns(before, value, after)

    def _add_up(self, place: Tensor) -> None:
        """Total the weights of each slot; one of its repeats is to stand for it."""
        flat = self._flat = self._written.flatten()
        number = torch.arange(len(flat), dtype=torch.int32, device=flat.device)
        place[flat] = number
        chosen = place.index_select(0, flat)
        sums = self._weights.new_zeros(len(flat))
        self._sums = sums.index_add_(0, chosen, self._weights.flatten())
        self._total = self._sums.index_select(0, chosen).view_as(self._weights)
        self._repeats = (chosen != number).view_as(self._weights)
        self._once = self._total.masked_fill(self._repeats, 0)

    def _weight_of(self, named: Tensor, place: Tensor) -> Tensor:
        """The weights that slots ``[B, J, K]``, by 1 too high, are written with."""
        rows = (named + (self._offsets - 1).unsqueeze(-1)).clamp_(min=0).flatten()
        chosen = place.index_select(0, rows).clamp_(max=len(self._flat) - 1)
        weights = self._sums.index_select(0, chosen)
        # What names none has led to a row of the example before.
        none = (self._flat.index_select(0, chosen) != rows).logical_or_(named.flatten() == 0)
        return weights.masked_fill_(none, 0).view_as(named)

    def _decay_columns(self, before: Tensor, value: Tensor) -> None:
        """Take ``w_j L[i, j]`` from the links to each slot j written, wherever they stand."""
        rows = self._holders[:, : self._index.shape[1]]
        entries = held(before, value, rows, self._index.unsqueeze(-1))
        lost = entries.mul_(self._once.neg()[..., None, None])
        value.index_add_(0, rows.flatten(), lost.flatten(0, 2))

    def _renew_rows(
        self, before: Tensor, value: Tensor, place: Tensor, named: Tensor, held: Tensor
    ) -> None:
        """Decay the rows of the slots written, add ``w_i p``, and keep the K largest of each.

        Repeats of a slot compute, and write, the same row.
        """
        total, on = self._total.unsqueeze(-1), self._on.unsqueeze(1)
        lost = self._weight_of(named, place).add_(total)
        gained = total * self._precedence.unsqueeze(1)
        other = named.unsqueeze(-1) != on.unsqueeze(2)  # [B, J, K, K]
        # Where rounding makes this negative, one of the K ≥ 0 that are gained is larger.
        kept = lost.neg_().add_(1).mul_(held)
        kept += gained.unsqueeze(2).masked_fill(other, 0).sum(-1)
        new = other.all(2).logical_and_(on != self._index.unsqueeze(-1))
        values = torch.cat([kept, gained.mul_(new)], -1)
        names = torch.cat([named, on.expand_as(named)], -1)
        names, values, _ = largest(names, values, held.shape[-1])
        before[self._written] = names.masked_fill_(values <= 0, 0)
        value[self._written] = values

    def _renew_columns(self, before: Tensor, value: Tensor, after: Tensor) -> None:
        """Name the slots written in the columns of the precedence, and keep the K largest of each.

        What a column drops is deleted from its row.
        """
        count, named = self._index.shape[1], self._columns_on
        known = (self._index[:, None, :, None] == named.unsqueeze(2)).any(-1)  # [B, K, J]
        known |= self._repeats.unsqueeze(1)
        new = self._index.unsqueeze(1).masked_fill(known, 0)
        added = rows_of(new, self._on.unsqueeze(-1), self._offsets.unsqueeze(-1))
        rows = torch.cat([self._holders[:, count:], added], -1)
        entries = held(before, value, rows, self._on.unsqueeze(-1))
        values = entries.sum(-1)
        # That a column names a row without a link to it does no harm.
        names, _, chosen = largest(torch.cat([named, new], -1), values, named.shape[-1])
        after[self._preceding] = names
        dropped = torch.full_like(values, -1).scatter_(-1, chosen, 0)
        value.index_add_(0, rows.flatten(), entries.mul_(dropped.unsqueeze(-1)).flatten(0, 2))

    def precedence(self) -> tuple[Tensor, Tensor]:
        """The precedence after the write: slots ``[B, K]``, distinct, and weights."""
        same = self._index.unsqueeze(2) == self._on.unsqueeze(1)
        remaining = (1 - self._weights.sum(-1, keepdim=True)).clamp_(min=0) * self._precedence
        remaining += self._once.unsqueeze(-1).masked_fill(~same, 0).sum(1)
        new = self._once.masked_fill(same.any(-1) | self._repeats, -1)
        values = torch.cat([remaining, new], -1)
        slots = torch.cat([self._on, self._index], -1)
        slots, values, _ = largest(slots, values, remaining.shape[-1])
        return slots.long().sub_(1), values


def largest(slots: Tensor, values: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` slots with the largest values, of equal ones the lowest slot.

    Values are compared by their first 15 binary digits: equal weights are common, and rounding
    must not choose among them, else the batch size or the device would.

    Args:
        slots: ``[..., n]``, integers in [0, 2⁴⁰).
        values: ``[..., n]``.
        count: at most n.

    Returns:
        Slots ``[..., count]``, their values, descending, and their places in ``n``.
    """
    # One integer ranks by value, then by slot; the bits of a positive float rank as it does.
    ranks = values.float().view(torch.int32).long().bitwise_right_shift_(8)
    ranks = ranks.bitwise_left_shift_(SLOT_BITS).sub_(slots)
    chosen = ranks.topk(count, -1).indices
    return slots.gather(-1, chosen), values.gather(-1, chosen), chosen


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
