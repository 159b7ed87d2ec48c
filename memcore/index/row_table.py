"""Rows in a table, for search by brute force on a CPU."""

from __future__ import annotations

import numpy as np

from memcore.index.unwritten import NOTHING, Part, Unwritten, inner, shown

__all__ = ["RowTable"]

REGISTER = 32  # bytes


class RowTable:
    """Rows of each example in a table, in the order in which they came.

    Args:
        unwritten: its `place` is that in the table, from 1; here or elsewhere not above 0.
        width: W.
        kind: of the rows.
    """

    def __init__(self, unwritten: Unwritten, slots: int, width: int, kind: np.dtype) -> None:
        batch = len(unwritten.all)
        self._unwritten, self._slots, self._width = unwritten, slots, width
        # Rows of length 1, with zeros up to whole registers; −slot, or NOTHING; how many places
        # each example uses.
        registers = -(-width * kind.itemsize // REGISTER)
        self._rows = np.zeros((batch, 0, registers * REGISTER // kind.itemsize), kind)
        self._names = np.zeros((batch, 0), np.int64)
        self.used = np.zeros(batch, np.int64)
        self.most = 0

    def put(self, index: np.ndarray, rows: np.ndarray, mine: np.ndarray) -> None:
        """Slots ``[b, J]`` of the examples ``mine [b]`` now hold ``rows [b, J, W]``."""
        mine = mine[:, None]
        flat = index + mine * self._slots
        place = self._unwritten.place[flat]
        if place.size and place.min() <= 0:
            self._give_places(flat[place <= 0])
            place = self._unwritten.place[flat]
        self._rows[mine, place - 1, : self._width] = rows

    def part(self, keys: np.ndarray, examples: np.ndarray | None) -> Part:
        """All rows, for `rank`."""
        rows = self._rows[:, : self.most, : self._width]
        names = self._names[:, : self.most]
        if examples is not None:
            rows, names = rows[examples], names[examples]
        return inner(keys, rows), names[:, None]

    def masked_part(
        self, keys: np.ndarray, squares: np.ndarray, examples: np.ndarray | None
    ) -> Part:
        """As `part`, the rows as far as masks show them, of which ``squares`` are the squares."""
        cosines, names = self.part(keys, examples)
        rows = self._rows[:, : self.most, : self._width]
        if examples is not None:
            rows = rows[examples]
        return shown(cosines, inner(squares - 1, rows * rows)), names

    def of(self, example: int) -> tuple[np.ndarray, np.ndarray]:
        """Slots ``[n]`` of one example, and their rows ``[n, W]``; not to be changed."""
        used = self.used[example]
        return -self._names[example, :used], self._rows[example, :used, : self._width]

    def arrays(self, more: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows ``[B, C, P]`` and −slots ``[B, C]``, with room for so many more of each example.

        Kernels change them in place, and say so by `changed`.
        """
        self._grow(min(self.most + more, self._slots))
        return self._rows, self._names

    def changed(self) -> None:
        """`used` has changed."""
        self.most = int(self.used.max())

    def clear(self, examples: np.ndarray) -> np.ndarray:
        """Empty the table of these examples; the flat slots that it held."""
        names = self._names[examples]
        flat = (examples[:, None] * self._slots - names)[names != NOTHING]
        self._names[examples] = NOTHING
        self.used[examples] = 0
        self.most = int(self.used.max())
        return flat

    def _give_places(self, flat: np.ndarray) -> None:
        """A place in the table for each of these slots ``[n]``, repeats allowed."""
        # Few at a step: plain Python is faster than NumPy then.
        flat = np.array(sorted(set(flat.tolist()))) if flat.size < 64 else np.unique(flat)
        batch = len(self.used)
        if batch == 1:
            example, place = flat[:0], self.used[0] + np.arange(len(flat))
            self.used[0] += len(flat)
            own = 0
        else:
            own = example = flat // self._slots
            # Ascending, so an example's slots stand together and count from where they begin.
            place = self.used[example] + np.arange(len(flat)) - example.searchsorted(example)
            self.used += np.bincount(example, minlength=batch)
        self.most = int(self.used.max())
        self._grow(self.most)
        self._unwritten.place[flat] = place + 1
        self._names[own, place] = own * self._slots - flat
        self._unwritten.wrote(example)

    def _grow(self, places: int) -> None:
        batch, capacity, width = self._rows.shape
        if places > capacity:
            more = max(places - capacity, capacity, 64)
            # Zeros that nobody touches take no memory: kernels ask for more room than they use.
            rows = np.zeros((batch, capacity + more, width), self._rows.dtype)
            used = min(self.most, capacity)
            rows[:, :used] = self._rows[:, :used]
            self._rows = rows
            names = np.full((batch, more), NOTHING, np.int64)
            self._names = np.concatenate([self._names, names], 1)
