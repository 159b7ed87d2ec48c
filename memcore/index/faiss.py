"""FAISS's inverted lists: approximate search whose cost grows with the root of the rows."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import check_size
from memcore.index.approximate import ApproximateIndex
from memcore.index.checks import check_search, check_update
from memcore.index.clusters import TRAIN_FROM, Clusters
from memcore.index.faiss_lists import InvertedLists
from memcore.index.libraries import library
from memcore.index.unwritten import (
    NOTHING,
    RESOLUTION,
    SLOT_BITS,
    Unwritten,
    finite_units,
    rank,
    slots_of,
)

__all__ = ["FaissIndex"]

SPARE = 12  # rows asked of the lists beyond k, for those that are as near as the last


class FaissIndex(ApproximateIndex):
    """Inverted lists of the rows ever written, updated row by row, on a CPU.

    One object of FAISS holds the lists of all examples, so that a batch is searched in one call.
    An example with few rows has one list; with more, about two times their root, around centroids
    trained on its rows, and again when they have changed (`Clusters`). A memory on another device
    keeps its rows there: only keys, touched rows and the slots found are moved.

    With one list, as below 4,096 rows, what it finds depends on the rows and keys alone, equal
    cosines going to the lowest slot. With more it depends on when the lists were trained too: the
    same memory searched again later, as activation checkpointing does, may give other rows.

    Args:
        batch_size: B.
        slots: N.
        word_size: W.
        dtype: of the rows; FAISS computes in float32.
        device: where the rows are.
        probes: how many lists are searched for a key.
        seed: of the training.

    Raises:
        ImportError: FAISS is not installed.
    """

    def __init__(
        self,
        batch_size: int,
        slots: int,
        word_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | int | None = None,
        probes: int = 16,
        seed: int = 0,
    ) -> None:
        library("faiss")
        self._probes = check_size("probes", probes)
        super().__init__(
            batch_size, slots, word_size, dtype=dtype, device=device, seed=seed, probes=self._probes
        )

    def _clear(self) -> None:
        batch, slots, width = self._shape
        self._unwritten = Unwritten(batch, slots, torch.uint8)
        self._lists = InvertedLists(batch, width)
        self._clusters = Clusters(batch, width, self._seed)
        self._rows = np.zeros(batch, np.int64)  # held of each example

    @property
    def lists(self) -> list[int]:
        """How many inverted lists each example has."""
        return self._clusters.count.tolist()

    def load(self, example: int, slots: np.ndarray, rows: np.ndarray) -> None:
        """Rows ``[n, W]`` of length 1, in distinct slots, of an example that holds none yet."""
        names = slots + example * self._shape[1]
        self._rows[example] = len(slots)
        self._unwritten.place[names] = 1
        self._unwritten.wrote(np.array([example]))
        self._train(example, names, rows.astype(np.float32, copy=False))

    @outside_of_graphs
    def update(
        self,
        index: Int[Tensor, "b J"],
        rows: Float[Tensor, "b J W"],
        examples: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Slots ``[b, J]`` now hold ``rows``: O(b·J·√rows), and now and then training."""
        check_update(self._shape, self._dtype, self._device, index, rows, examples)
        mine, slots, values = self._mine(examples), index.cpu().numpy(), finite_units(rows)
        lists = self._clusters.nearest(values, slots, mine).ravel()
        names, first = np.unique(slots + mine[:, None] * self._shape[1], return_index=True)
        known = self._unwritten.place[names] != 0
        if known.any():
            self._lists.remove(names[known])
        if not known.all():
            new = names[~known]
            self._unwritten.place[new] = 1
            example = new // self._shape[1]
            self._rows += np.bincount(example, minlength=len(self._rows))
            self._unwritten.wrote(example)
        self._lists.add(names, values.reshape(-1, self._shape[2])[first], lists[first])
        for example in self._clusters.due(mine, self._rows).tolist():
            if self._clusters.worn(example, self._sizes(example)):
                self._train(example, *self._take(example))

    @outside_of_graphs
    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best first: O(b·R·√rows)."""
        check_search(self._shape, self._dtype, self._device, keys, k, examples)
        mine, units = self._mine(examples), finite_units(keys)
        ranks = self._ranks(units, k, mine, self._probes)
        if bool((ranks < NOTHING // 2).any()):  # the lists probed hold fewer than k rows
            ranks = self._ranks(units, k, mine, self._clusters.capacity)
        return slots_of(ranks).to(self._device)

    def _ranks(self, units: np.ndarray, k: int, mine: np.ndarray, probes: int) -> Tensor:
        shape = units.shape[:2]
        lists = self._clusters.probe(units, mine, probes)
        most, count = min(int(self._rows.max()), TRAIN_FROM), k + SPARE
        while True:
            found = self._lists.search(units.reshape(-1, self._shape[2]), count, lists)
            cosines, names = (part.reshape(*shape, count) for part in found)
            # −1 names nothing, and has the least of all numbers for a cosine.
            slots = np.where(names < 0, NOTHING, (mine * self._shape[1])[:, None, None] - names)
            cosines = np.maximum(cosines, -1) * RESOLUTION
            last, complete = np.rint(cosines[..., -1]), names[..., -1] < 0
            parts = (cosines, slots), self._unwritten.part(units * RESOLUTION, k, mine)
            ranks = rank(parts, shape, k)
            # Among equal cosines FAISS goes by the place in a list: ask until none is left out.
            worst = -(-ranks[..., -1].numpy() >> SLOT_BITS)
            if (complete | (last < worst)).all() or count >= most:
                return ranks
            count = min(4 * count, most)

    def _release(self, example: int) -> np.ndarray:
        if not self._rows[example]:
            return np.zeros(0, np.int64)
        names, _ = self._take(example)
        self._rows[example] = 0
        return names

    def _own(self, example: int) -> range:
        begin = int(example) * self._clusters.capacity
        return range(begin, begin + int(self._clusters.count[example]))

    def _sizes(self, example: int) -> np.ndarray:
        return np.array([self._lists.size(one) for one in self._own(example)])

    def _held(self, example: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Names, rows and, within the example, lists of all that it holds."""
        contents = [self._lists.content(one) for one in self._own(example)]
        numbers = np.repeat(np.arange(len(contents)), [len(names) for names, _ in contents])
        names, rows = (np.concatenate(parts) for parts in zip(*contents, strict=True))
        return names, rows, numbers

    def _take(self, example: int) -> tuple[np.ndarray, np.ndarray]:
        """Names and rows of an example, out of the lists."""
        names, rows, _ = self._held(example)
        if len(self._rows) == 1:
            self._lists = InvertedLists(self._clusters.capacity, self._shape[2])
        else:
            self._lists.remove(names)
        return names, rows

    def _train(self, example: int, names: np.ndarray, rows: np.ndarray) -> None:
        """Put all rows of an example into lists made for them."""
        wanted = self._clusters.lists_for(len(rows))
        if wanted > self._clusters.capacity:
            self._widen(wanted)
        self._clusters.train(example, rows)
        own = np.array([example])
        slots = names - example * self._shape[1]
        lists = self._clusters.nearest(rows[None], slots[None], own)[0]
        self._lists.add(names, rows, lists)
        self._clusters.trained(example, self._sizes(example))

    def _widen(self, capacity: int) -> None:
        others = [(example, *self._held(example)) for example in range(len(self._rows))]
        self._lists = InvertedLists(capacity * len(self._rows), self._shape[2])
        self._clusters.widen(capacity)
        for example, names, rows, numbers in others:
            if len(names):
                self._lists.add(names, rows, numbers + example * capacity)
