"""FLANN's trees: approximate search, with the rows written since in a list that is exact."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import check_size
from memcore.index.approximate import ApproximateIndex
from memcore.index.checks import check_search, check_update
from memcore.index.flann_tree import Tree
from memcore.index.libraries import library
from memcore.index.row_table import RowTable
from memcore.index.unwritten import (
    NOTHING,
    RESOLUTION,
    Part,
    Unwritten,
    finite_units,
    inner,
    rank,
    slots_of,
)

__all__ = ["FlannIndex"]

IN_TREE = -1  # the place of a row that the tree has right
BUILD_FROM = 4096  # rows; fewer are searched one by one
RECENT = 48  # times the root of the rows: where rebuilding costs as much as searching the list
SPARE = 12  # places asked of a tree beyond k, for those written since


class FlannIndex(ApproximateIndex):
    """A tree over the rows of each example at some moment, and a list of those written since.

    FLANN's trees cannot change. A row that is written is searched for exactly, and where the tree
    finds it as it was, that is left out. When there are 48 · √rows such rows, the tree is built
    anew, as the paper of SAM does. On a CPU; a memory on another device keeps its rows there.

    Below 4,096 rows what it finds depends on the rows and keys alone. With more it depends on when
    the trees were built too: the same memory searched again later, as activation checkpointing
    does, may give other rows.

    Args:
        batch_size: B.
        slots: N.
        word_size: W.
        dtype: of the rows; computed in float32.
        device: where the rows are.
        checks: rows that a search of the tree looks at; half their root where that is more.
        seed: of the trees.

    Raises:
        ImportError: pyflann is not installed.
    """

    def __init__(
        self,
        batch_size: int,
        slots: int,
        word_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | int | None = None,
        checks: int = 256,
        seed: int = 0,
    ) -> None:
        library("flann")
        self._checks = check_size("checks", checks)
        super().__init__(
            batch_size, slots, word_size, dtype=dtype, device=device, seed=seed, checks=self._checks
        )

    def _clear(self) -> None:
        batch, slots, width = self._shape
        self._unwritten = Unwritten(batch, slots)
        self._recent = RowTable(self._unwritten, slots, width, np.dtype(np.float32))
        self._trees: list[Tree | None] = [None] * batch
        self._slots = [np.zeros(0, np.int64)] * batch  # of the rows that each tree was built of

    @property
    def trees(self) -> list[int]:
        """How many rows each example's tree was built of; 0: it has none."""
        return [len(slots) for slots in self._slots]

    def load(self, example: int, slots: np.ndarray, rows: np.ndarray) -> None:
        """Rows ``[n, W]`` of length 1, in distinct slots, of an example that holds none yet."""
        own, rows = np.array([example]), rows.astype(np.float32, copy=False)
        if len(slots) < BUILD_FROM:
            self._recent.put(slots[None], rows[None], own)
            return
        self._unwritten.place[slots + example * self._shape[1]] = IN_TREE
        self._unwritten.wrote(own)
        self._slots[example] = slots
        self._trees[example] = Tree(rows, max(self._checks, int(len(rows) ** 0.5) // 2), self._seed)

    @outside_of_graphs
    def update(
        self,
        index: Int[Tensor, "b J"],
        rows: Float[Tensor, "b J W"],
        examples: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Slots ``[b, J]`` now hold ``rows``: O(b·J), and now and then building."""
        check_update(self._shape, self._dtype, self._device, index, rows, examples)
        mine = self._mine(examples)
        self._recent.put(index.cpu().numpy(), finite_units(rows), mine)
        if self._recent.most < BUILD_FROM:
            return
        for example in mine.tolist():
            rows_held = len(self._slots[example]) + self._recent.used[example]
            if self._recent.used[example] >= max(BUILD_FROM, RECENT * rows_held**0.5):
                self.load(example, *self._taken(example))

    @outside_of_graphs
    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best first."""
        check_search(self._shape, self._dtype, self._device, keys, k, examples)
        units = finite_units(keys)
        mine = None if examples is None else examples.cpu().numpy()
        scaled = units * RESOLUTION
        parts = [self._recent.part(scaled, mine), self._unwritten.part(scaled, k, mine)]
        if any(tree is not None for tree in self._trees):
            parts.append(self._in_trees(units, k, self._unwritten.all if mine is None else mine))
        return slots_of(rank(parts, units.shape[:2], k)).to(self._device)

    def _in_trees(self, units: np.ndarray, k: int, mine: np.ndarray) -> Part:
        """The best k that the trees have right, for `rank`."""
        shape = (*units.shape[:2], k)
        cosines, names = np.zeros(shape, np.float32), np.full(shape, NOTHING)

        def search(place: int) -> None:
            found = self._in_tree(int(mine[place]), units[place], k)
            if found is not None:
                cosines[place], names[place] = found

        if len(mine) == 1:
            search(0)
        else:
            list(_workers().map(search, range(len(mine))))
        return cosines, names

    def _in_tree(self, example: int, keys: np.ndarray, k: int) -> Part | None:
        tree, slots = self._trees[example], self._slots[example]
        if tree is None:
            return None
        begin, count = example * self._shape[1], k + SPARE
        while True:
            if 8 * count > len(slots):
                places = np.broadcast_to(np.arange(len(slots)), (len(keys), len(slots)))
                cosines = inner(keys[None], tree.rows[None])[0]
            else:
                places = tree.nearest(keys, count)
                cosines = np.einsum("rw,rcw->rc", keys, tree.rows[places])
            found = slots[places]
            right = self._unwritten.place[found + begin] == IN_TREE
            if places.shape[1] == len(slots) or (right.sum(1) >= k).all():
                break
            count *= 4
        cosines = np.where(right, cosines, -np.inf)
        # As `rank` will rank them: of equal cosines the lowest slot.
        best = np.lexsort((found, -np.rint(cosines * RESOLUTION)))[:, :k]
        cosines = np.take_along_axis(cosines, best, 1)
        names = np.where(cosines == -np.inf, NOTHING, -np.take_along_axis(found, best, 1))
        pad = ((0, 0), (0, k - best.shape[1]))
        return (
            np.pad(np.maximum(cosines, -1) * RESOLUTION, pad),
            np.pad(names, pad, constant_values=NOTHING),
        )

    def _release(self, example: int) -> np.ndarray:
        return self._taken(example)[0] + example * self._shape[1]

    def _taken(self, example: int) -> tuple[np.ndarray, np.ndarray]:
        """Slots and rows of all that an example holds, which no longer does."""
        slots, rows = (part.copy() for part in self._recent.of(example))
        self._recent.clear(np.array([example]))
        tree, built = self._trees[example], self._slots[example]
        self._trees[example], self._slots[example] = None, built[:0]
        if tree is None:
            return slots, rows
        right = self._unwritten.place[built + example * self._shape[1]] == IN_TREE
        return np.concatenate([built[right], slots]), np.concatenate([tree.rows[right], rows])


@cache
def _workers() -> ThreadPoolExecutor:
    """What searches the trees of a batch: FLANN lets other threads of Python run meanwhile."""
    return ThreadPoolExecutor(max(1, torch.get_num_threads()), "memcore-flann")


if hasattr(os, "register_at_fork"):
    # The parent's threads do not come along.
    os.register_at_fork(after_in_child=_workers.cache_clear)
