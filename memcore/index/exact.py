"""Exact search: by brute force over all rows, or over those ever written."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.index.checks import check_fits, check_masks, check_search, check_update
from memcore.index.row_table import RowTable
from memcore.index.unwritten import (
    HIDDEN,
    RESOLUTION,
    SLOT_BITS,
    SLOT_MASK,
    Unwritten,
    made,
    rank,
    slots_of,
    unit,
)
from memcore.numerics import safe_norm
from memcore.persistent.rows import RowMemory

CPU = torch.device("cpu")

__all__ = ["AllRowsIndex", "WrittenRowsIndex", "exact_index"]


def exact_index(
    batch_size: int,
    slots: int,
    word_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
) -> AllRowsIndex | WrittenRowsIndex:
    """Exact search: over the rows written on a CPU, over all rows where bandwidth is plenty.

    Rows are ranked by their cosine with the key, rounded to 1e-4, of equals the lowest slot
    first: rows that are multiples of one vector tie exactly, and rounding noise must not choose
    among them.

    Args:
        batch_size: B.
        slots: N.
        word_size: W.
        dtype: of the rows.
        device: where the rows are.
    """
    place = torch.empty(0, device=device).device
    kind = WrittenRowsIndex if place.type == "cpu" else AllRowsIndex
    return kind(batch_size, slots, word_size, dtype=dtype, device=place)


class AllRowsIndex:
    """Brute force over all rows; the plain form of exact search, for any device.

    Args are those of `exact_index`.
    """

    def __init__(
        self,
        batch_size: int,
        slots: int,
        word_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | int | None = None,
    ) -> None:
        self._shape = batch_size, slots, word_size
        with torch.inference_mode(False):
            self._rows = torch.zeros(self._shape, dtype=dtype, device=device)  # of length 1
            self._all = torch.arange(batch_size, device=device)
            self._slots = torch.arange(slots, device=device)

    def empty(self, batch_size: int) -> AllRowsIndex:
        """A new index of the same kind, for so many memories of zeros."""
        place = {"dtype": self._rows.dtype, "device": self._rows.device}
        return AllRowsIndex(batch_size, *self._shape[1:], **place)

    def __reduce__(self) -> tuple[Any, ...]:
        # Its content is a cache: made again when it is asked about a memory.
        place = {"dtype": self._rows.dtype, "device": self._rows.device}
        return made, (AllRowsIndex, self._shape, place)

    @outside_of_graphs
    def reset(self, memory: RowMemory, examples: Int[Tensor, "b"] | None = None) -> None:
        """Mirror ``memory``: O(b·N)."""
        check_fits(self._shape, self._rows.dtype, memory)
        with torch.no_grad():
            rows = memory.detach().to_tensor()
            self._rows[self._all if examples is None else examples] = rows / safe_norm(rows)

    @outside_of_graphs
    def update(
        self,
        index: Int[Tensor, "b J"],
        rows: Float[Tensor, "b J W"],
        examples: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Slots ``[b, J]`` now hold ``rows``: O(b·J)."""
        check_update(self._shape, self._rows.dtype, self._rows.device, index, rows, examples)
        with torch.no_grad():
            mine = self._all if examples is None else examples
            flat = (index + mine[:, None] * self._shape[1]).flatten()
            unit = (rows / safe_norm(rows)).flatten(0, 1)
            self._rows.view(-1, self._shape[2]).index_copy_(0, flat, unit)

    @outside_of_graphs
    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best first: O(b·R·N)."""
        check_search(self._shape, self._rows.dtype, self._rows.device, keys, k, examples)
        with torch.no_grad():
            rows = self._rows if examples is None else self._rows[examples]
            return self._best(torch.bmm(keys * (RESOLUTION / safe_norm(keys)), rows.mT), k)

    @outside_of_graphs
    def search_masked(
        self,
        keys: Float[Tensor, "b R W"],
        masks: Float[Tensor, "b R W"],
        k: int,
        examples: Int[Tensor, "b"] | None = None,
    ) -> Int[Tensor, "b R k"]:
        """As `search`, by the cosine of what masks show of keys and of rows of length 1.

        In float32 rows of which a mask shows less than 1e-5 of the squared length count as less
        similar than they are.
        """
        check_search(self._shape, self._rows.dtype, self._rows.device, keys, k, examples)
        check_masks(keys, masks)
        with torch.no_grad():
            rows = self._rows if examples is None else self._rows[examples]
            squares = masks.square()
            scaled = keys * squares * (RESOLUTION / safe_norm(keys * masks))
            # See `memcore.index.unwritten.shown`.
            lengths = 1 + torch.bmm(squares - 1, rows.square().mT)
            lengths.clamp_(min=HIDDEN[rows.itemsize]).sqrt_()
            cosines = torch.bmm(scaled, rows.mT).div_(lengths)
            return self._best(cosines, k)

    def _best(self, cosines: Tensor, k: int) -> Tensor:
        # What is not a number comes last.
        cosines = cosines.nan_to_num_(nan=-RESOLUTION)
        ranks = cosines.round_().long().bitwise_left_shift_(SLOT_BITS).sub_(self._slots)
        return ranks.topk(k).values.neg_().bitwise_and_(SLOT_MASK)


class WrittenRowsIndex:
    """Brute force over the rows ever written, on a CPU.

    Args are those of `exact_index`.
    """

    def __init__(
        self,
        batch_size: int,
        slots: int,
        word_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | int | None = None,
    ) -> None:
        self._shape = batch_size, slots, word_size
        self._dtype = dtype
        self._clear()

    def _clear(self) -> None:
        batch, slots, width = self._shape
        self._unwritten = Unwritten(batch, slots)
        kind = torch.empty(0, dtype=self._dtype).numpy().dtype
        self._table = RowTable(self._unwritten, slots, width, kind)

    @property
    def table(self) -> RowTable:
        """The rows written."""
        return self._table

    @property
    def unwritten(self) -> Unwritten:
        """The other rows."""
        return self._unwritten

    def changed(self) -> None:
        """Kernels have changed the table and `unwritten` in place."""
        self._table.changed()
        self._unwritten.wrote(self._unwritten.all)

    def empty(self, batch_size: int) -> WrittenRowsIndex:
        """A new index of the same kind, for so many memories of zeros."""
        return WrittenRowsIndex(batch_size, *self._shape[1:], dtype=self._dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        # Its content is a cache: made again when it is asked about a memory.
        return made, (WrittenRowsIndex, self._shape, {"dtype": self._dtype})

    @outside_of_graphs
    def reset(self, memory: RowMemory, examples: Int[Tensor, "b"] | None = None) -> None:
        """Mirror ``memory``: O(rows written)."""
        check_fits(self._shape, self._dtype, memory)
        if examples is None:
            if self._table.most or self._unwritten.initial is not None:
                self._clear()
            mine = self._unwritten.all
        else:
            mine = examples.numpy()
            self._unwritten.forget(mine, self._table.clear(mine))
        self._unwritten.begin(mine, memory.initial_rows)
        written = memory.written()
        if written.numel():
            self.update(written, memory.peek(written), examples)

    @outside_of_graphs
    def update(
        self,
        index: Int[Tensor, "b J"],
        rows: Float[Tensor, "b J W"],
        examples: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Slots ``[b, J]`` now hold ``rows``: O(b·J)."""
        check_update(self._shape, self._dtype, CPU, index, rows, examples)
        mine = self._unwritten.all if examples is None else examples.numpy()
        self._table.put(index.numpy(), unit(rows.detach().numpy(), 1), mine)

    @outside_of_graphs
    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best first: O(rows written)."""
        check_search(self._shape, self._dtype, CPU, keys, k, examples)
        mine = None if examples is None else examples.numpy()
        scaled = unit(keys.detach().numpy(), RESOLUTION)
        parts = self._table.part(scaled, mine), self._unwritten.part(scaled, k, mine)
        return slots_of(rank(parts, scaled.shape[:2], k))

    @outside_of_graphs
    def search_masked(
        self,
        keys: Float[Tensor, "b R W"],
        masks: Float[Tensor, "b R W"],
        k: int,
        examples: Int[Tensor, "b"] | None = None,
    ) -> Int[Tensor, "b R k"]:
        """As `search`, by the cosine of what masks show of keys and of rows of length 1.

        In float32 rows of which a mask shows less than 1e-5 of the squared length count as less
        similar than they are.
        """
        check_search(self._shape, self._dtype, CPU, keys, k, examples)
        check_masks(keys, masks)
        mine = None if examples is None else examples.numpy()
        shown = masks.detach().numpy()
        squares = shown * shown
        scaled = unit(keys.detach().numpy() * shown, RESOLUTION) * shown
        parts = (
            self._table.masked_part(scaled, squares, mine),
            self._unwritten.masked_part(scaled, squares, k, mine),
        )
        return slots_of(rank(parts, scaled.shape[:2], k))
