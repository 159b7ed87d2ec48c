"""FAISS's inverted lists of a whole batch in one object, with rows that come and go by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from memcore.index.libraries import library

__all__ = ["InvertedLists", "one_thread"]


@contextmanager
def one_thread(faiss: ModuleType) -> Iterator[None]:
    """FAISS on one thread, for this thread of Python.

    Its package brings an OpenMP of its own beside torch's. Where the two together have more
    threads than there are cores, each waits, spinning, for what the other keeps from running: on
    2 cores a search of 0.1 ms took 16 ms.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class InvertedLists:
    """Rows with a name, each in one of some lists; the best of the lists asked for.

    Args:
        lists: how many.
        width: W.
    """

    def __init__(self, lists: int, width: int) -> None:
        faiss = library("faiss")
        self._faiss, self._width = faiss, width
        # Which list is ours to choose: FAISS's own quantizer stays empty.
        self._quantizer = faiss.IndexFlatIP(width)
        self._index: Any = faiss.IndexIVFFlat(
            self._quantizer, width, lists, faiss.METRIC_INNER_PRODUCT
        )
        self._index.is_trained = True
        # A name leads to its row in O(1).
        self._index.set_direct_map_type(faiss.DirectMap.Hashtable)

    def add(self, names: np.ndarray, rows: np.ndarray, lists: np.ndarray) -> None:
        """Rows ``[n, W]``, float32, of new names ``[n]`` to these lists ``[n]``."""
        pointer = self._faiss.swig_ptr
        names, lists = np.ascontiguousarray(names), np.ascontiguousarray(lists)
        rows = np.ascontiguousarray(rows)
        with one_thread(self._faiss):
            self._index.add_core(len(names), pointer(rows), pointer(names), pointer(lists))

    def remove(self, names: np.ndarray) -> None:
        """Rows of these names, where they are."""
        names = np.ascontiguousarray(names)
        chosen = self._faiss.IDSelectorArray(len(names), self._faiss.swig_ptr(names))
        with one_thread(self._faiss):
            self._index.remove_ids(chosen)

    def search(self, keys: np.ndarray, k: int, lists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inner products and names ``[n, k]`` of the best rows, name −1 where there are none.

        Args:
            keys: ``[n, W]``, float32, finite.
            k: how many rows.
            lists: ``[n, p]``, where to look, −1: nowhere.
        """
        self._index.nprobe = lists.shape[1]
        nothing = np.zeros(lists.shape, np.float32)
        keys = np.ascontiguousarray(keys)
        with one_thread(self._faiss):
            return self._index.search_preassigned(keys, k, lists, nothing)

    def size(self, one: int) -> int:
        """How many rows a list holds."""
        return self._index.invlists.list_size(one)

    def content(self, one: int) -> tuple[np.ndarray, np.ndarray]:
        """Names ``[n]`` and rows ``[n, W]`` of one list, copied."""
        store, count = self._index.invlists, self.size(one)
        if not count:
            return np.zeros(0, np.int64), np.zeros((0, self._width), np.float32)
        names = self._faiss.rev_swig_ptr(store.get_ids(one), count).copy()
        codes = self._faiss.rev_swig_ptr(store.get_codes(one), count * 4 * self._width)
        return names, codes.copy().view(np.float32).reshape(count, self._width)
