"""A tree of FLANN over some vectors, built once.

Its library is called directly. The Python wrapper that comes with it (pyflann3 1.8.4) passes the
parameters in the layout of an older release: ``eps`` takes what is meant for another field, the
number of trees and the seed are not what was asked for.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import cache
from typing import Any

import numpy as np

from memcore.index.libraries import library

__all__ = ["Tree"]

KMEANS_TREE = 2
BRANCHING = 16
ITERATIONS = 5

FLOATS = {
    "eps",
    "cb_index",
    "target_precision",
    "build_weight",
    "memory_weight",
    "sample_fraction",
}


class Parameters(ctypes.Structure):
    """``FLANNParameters`` of FLANN 1.8 and 1.9, in the order of its header."""

    _fields_ = [
        *(
            (name, ctypes.c_float if name in FLOATS else ctypes.c_int)
            for name in (
                "algorithm checks eps sorted max_neighbors cores trees leaf_max_size branching "
                "iterations centers_init cb_index target_precision build_weight memory_weight "
                "sample_fraction table_number key_size multi_probe_level log_level"
            ).split()
        ),
        ("random_seed", ctypes.c_long),
    ]


@cache
def _functions() -> tuple[Any, Any, Any]:
    """Build, search and free; objects of our own, so that the wrapper's stay as they are."""
    found: Any = library("flann")
    flann = ctypes.CDLL(found.bindings.flann_ctypes.flannlib._name)
    pointer, number, parameters = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Parameters)
    build = flann.flann_build_index_float
    build.restype = pointer
    build.argtypes = [pointer, number, number, ctypes.POINTER(ctypes.c_float), parameters]
    search = flann.flann_find_nearest_neighbors_index_float
    search.restype = number
    search.argtypes = [pointer, pointer, number, pointer, pointer, number, parameters]
    free = flann.flann_free_index_float
    free.restype = number
    free.argtypes = [pointer, parameters]
    return build, search, free


class Tree:
    """A hierarchical k-means tree over vectors of length at most 1, for the inner product.

    A further coordinate brings each to length 1, so that the Euclidean distance that FLANN knows
    ranks as the inner product does.

    Args:
        rows: ``[n, W]``, float32, finite, n at least 1.
        checks: vectors that a search looks at; more find better ones.
        seed: from 0.
    """

    def __init__(self, rows: np.ndarray, checks: int, seed: int) -> None:
        build, self._search, free = _functions()
        rest = np.sqrt(np.maximum(0, 1 - np.einsum("nw,nw->n", rows, rows)))
        # Kept, as FLANN reads it while it searches.
        self._points = np.concatenate([rows, rest[:, None]], 1, dtype=np.float32)
        self._parameters = Parameters(
            algorithm=KMEANS_TREE,
            checks=checks,
            sorted=1,
            max_neighbors=-1,
            cores=1,
            branching=BRANCHING,
            iterations=ITERATIONS,
            cb_index=0.2,
            random_seed=seed + 1,
        )
        count, width = self._points.shape
        speedup = ctypes.c_float()
        self._tree = build(
            self._points.ctypes.data,
            count,
            width,
            ctypes.byref(speedup),
            ctypes.byref(self._parameters),
        )
        if not self._tree:
            raise RuntimeError(f"FLANN: no tree could be built of {count} rows")
        # 0 leaves the C library's random numbers alone, which other threads may be using.
        self._parameters.random_seed = 0
        weakref.finalize(self, free, self._tree, ctypes.byref(self._parameters))

    @property
    def rows(self) -> np.ndarray:
        """What it was built of ``[n, W]``."""
        return self._points[:, :-1]

    def nearest(self, keys: np.ndarray, count: int) -> np.ndarray:
        """Places ``[R, count]`` of the rows nearest to keys ``[R, W]``, best first.

        Args:
            keys: float32, finite.
            count: at most n.
        """
        queries = np.zeros((len(keys), self._points.shape[1]), np.float32)
        queries[:, :-1] = keys
        places = np.full((len(keys), count), -1, np.int32)
        distances = np.empty((len(keys), count), np.float32)
        failed = self._search(
            self._tree,
            queries.ctypes.data,
            len(keys),
            places.ctypes.data,
            distances.ctypes.data,
            count,
            ctypes.byref(self._parameters),
        )
        if failed:
            raise RuntimeError("FLANN: the search failed")
        return places
