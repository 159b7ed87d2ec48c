"""Exact search: by brute force over all rows, or over those ever written."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.numerics import NORM_EPSILON, safe_norm
from memcore.rows import RowMemory
from memcore.versions import lazy_zeros

__all__ = ["AllRowsIndex", "WrittenRowsIndex", "exact_index"]

RESOLUTION = 10_000  # cosines are ranked in steps of 1e-4
SLOT_BITS = 40
SLOT_MASK = 2**SLOT_BITS - 1
NOTHING = -(2**62)


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
        return _made, (AllRowsIndex, self._shape, self._rows.dtype, self._rows.device)

    def reset(self, memory: RowMemory, examples: Int[Tensor, "b"] | None = None) -> None:
        """Mirror ``memory``: O(b·N)."""
        with torch.no_grad():
            rows = memory.detach().to_tensor()
            self._rows[self._all if examples is None else examples] = rows / safe_norm(rows)

    def update(
        self,
        index: Int[Tensor, "b J"],
        rows: Float[Tensor, "b J W"],
        examples: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Slots ``[b, J]`` now hold ``rows``: O(b·J)."""
        with torch.no_grad():
            mine = self._all if examples is None else examples
            flat = (index + mine[:, None] * self._shape[1]).flatten()
            unit = (rows / safe_norm(rows)).flatten(0, 1)
            self._rows.view(-1, self._shape[2]).index_copy_(0, flat, unit)

    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best first: O(b·R·N)."""
        with torch.no_grad():
            rows = self._rows if examples is None else self._rows[examples]
            cosines = torch.bmm(keys * (RESOLUTION / safe_norm(keys)), rows.mT)
            # What is not a number comes last.
            cosines = cosines.nan_to_num_(nan=-RESOLUTION)
            ranks = cosines.round_().long().bitwise_left_shift_(SLOT_BITS).sub_(self._slots)
            return ranks.topk(k).values.neg_().bitwise_and_(SLOT_MASK)


class WrittenRowsIndex:
    """Brute force over the rows ever written, on a CPU.

    All other rows hold the initial row, so the lowest k of them stand for all. The written ones
    stand in a table in the order in which they were first written. NumPy, not torch: the arrays
    are small and a NumPy operation takes a quarter of the time to start.

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
        self._all = np.arange(batch)
        # Each slot's place in the table, from 1; 0: none. Flat, and by example.
        self._place = lazy_zeros((batch * slots,), torch.int32, "cpu").numpy()
        self._places = self._place.reshape(batch, slots)
        # The table: rows of length 1; −slot, or NOTHING; how many places each example uses.
        self._rows = torch.zeros(batch, 0, width, dtype=self._dtype).numpy()
        self._names = np.zeros((batch, 0), np.int64)
        self._used = np.zeros(batch, np.int64)
        self._most = 0
        self._initial: np.ndarray | None = None  # [B, W], of length 1; None: zeros
        self._first_free = np.zeros(batch, np.int64)  # no slot below is without a place
        self._free = np.zeros((batch, 0), np.int64)  # −slot of the lowest without a place
        self._stale = self._all  # examples whose row in _free must be made anew

    def empty(self, batch_size: int) -> WrittenRowsIndex:
        """A new index of the same kind, for so many memories of zeros."""
        return WrittenRowsIndex(batch_size, *self._shape[1:], dtype=self._dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        # Its content is a cache: made again when it is asked about a memory.
        return _made, (WrittenRowsIndex, self._shape, self._dtype)

    def reset(self, memory: RowMemory, examples: Int[Tensor, "b"] | None = None) -> None:
        """Mirror ``memory``: O(rows written)."""
        if examples is None:
            self._clear()
            mine = self._all
        else:
            mine = examples.numpy()
            names = self._names[mine]
            known = names != NOTHING
            self._place[(mine[:, None] * self._shape[1] - names)[known]] = 0
            self._names[mine] = NOTHING
            self._used[mine] = self._first_free[mine] = 0
            self._most = int(self._used.max())
            self._stale = np.union1d(self._stale, mine)
        row = memory.initial_row
        if row.any() or self._initial is not None:
            if self._initial is None:
                self._initial = np.zeros((len(self._all), len(row)), row.numpy().dtype)
            self._initial[mine] = (row / safe_norm(row)).numpy()
        written = memory.written()
        if written.numel():
            self.update(written, memory.peek(written), examples)

    def update(
        self,
        index: Int[Tensor, "b J"],
        rows: Float[Tensor, "b J W"],
        examples: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Slots ``[b, J]`` now hold ``rows``: O(b·J)."""
        mine = (self._all if examples is None else examples.numpy())[:, None]
        flat = index.numpy() + mine * self._shape[1]
        place = self._place[flat]
        if not place.all():
            self._give_places(flat[place == 0])
            place = self._place[flat]
        values = rows.detach().numpy()
        self._rows[mine, place - 1] = _unit(values, 1)

    def _give_places(self, flat: np.ndarray) -> None:
        """A place in the table for each of these slots ``[n]``, repeats allowed."""
        # Few at a step: plain Python is faster than NumPy then.
        flat = np.array(sorted(set(flat.tolist()))) if flat.size < 64 else np.unique(flat)
        batch, slots, _ = self._shape
        if batch == 1:
            example, place = 0, self._used[0] + np.arange(len(flat))
            self._used[0] += len(flat)
        else:
            example = flat // slots
            # Ascending, so an example's slots stand together and count from where they begin.
            place = self._used[example] + np.arange(len(flat)) - example.searchsorted(example)
            self._used += np.bincount(example, minlength=batch)
        self._most = int(self._used.max())
        self._grow(self._most)
        self._place[flat] = place + 1
        self._names[example, place] = example * slots - flat
        self._stale = self._all if batch == 1 else np.union1d(self._stale, example)

    def _grow(self, places: int) -> None:
        batch, capacity, width = self._rows.shape
        if places > capacity:
            more = max(places - capacity, capacity, 64)
            rows = np.zeros((batch, more, width), self._rows.dtype)
            self._rows = np.concatenate([self._rows, rows], 1)
            names = np.full((batch, more), NOTHING, np.int64)
            self._names = np.concatenate([self._names, names], 1)

    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best first: O(rows written)."""
        most = self._most
        rows, names = self._rows[:, :most], self._names[:, :most]
        free, initial = self._lowest_free(k), self._initial
        if examples is not None:
            mine = examples.numpy()
            rows, names, free = rows[mine], names[mine], free[mine]
            initial = initial if initial is None else initial[mine]
        values = keys.detach().numpy()
        unit = _unit(values, RESOLUTION)
        ranks = np.empty((*unit.shape[:2], most + k), np.int64)
        # One integer ranks by cosine, then by slot, and tells the slot.
        ranks[:, :, :most] = _rounded(unit @ rows.swapaxes(1, 2))
        ranks[:, :, most:] = 0 if initial is None else _rounded(unit @ initial[:, :, None])
        ranks <<= SLOT_BITS
        ranks[:, :, :most] += names[:, None]
        ranks[:, :, most:] += free[:, None]
        best = torch.from_numpy(ranks).topk(k).values
        return best.neg_().bitwise_and_(SLOT_MASK)

    def _lowest_free(self, k: int) -> np.ndarray:
        """−slot ``[B, k]`` of the lowest slots without a place, NOTHING where there are fewer."""
        if self._free.shape[1] != k:
            self._free, self._stale = np.zeros((len(self._all), k), np.int64), self._all
        slots = self._shape[1]
        for example in self._stale:
            begin, window = self._first_free[example], 2 * k + 64
            while True:
                free = np.flatnonzero(self._places[example, begin : begin + window] == 0)
                if len(free) >= k or begin + window >= slots:
                    break
                window *= 4
            free = free[:k] + begin
            self._first_free[example] = free[0] if len(free) else slots
            self._free[example] = NOTHING
            self._free[example, : len(free)] = -free
        self._stale = self._all[:0]
        return self._free


def _unit(vectors: np.ndarray, length: float) -> np.ndarray:
    """Vectors ``[b, n, W]`` brought to that length."""
    lengths = np.sqrt(np.einsum("bnw,bnw->bn", vectors, vectors) + NORM_EPSILON)
    with np.errstate(invalid="ignore"):
        return vectors * (length / lengths)[:, :, None]


def _rounded(cosines: np.ndarray) -> np.ndarray:
    # What is not a number comes last: fmax takes the other argument then.
    return np.rint(np.fmax(cosines, -RESOLUTION, out=cosines), out=cosines)


def _made(
    kind: Any,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    device: torch.device | None = None,
) -> Any:
    return kind(*shape, dtype=dtype, device=device)
