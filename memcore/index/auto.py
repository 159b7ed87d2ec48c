"""The index for those who name none: exact while that is faster, then approximate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.backends import numba_is_missing
from memcore.index.exact import AllRowsIndex, WrittenRowsIndex, exact_index
from memcore.index.faiss import FaissIndex
from memcore.index.flann import FlannIndex
from memcore.index.libraries import has_library
from memcore.index.unwritten import finite, made
from memcore.persistent.rows import RowMemory

__all__ = ["AutoIndex"]

# Rows of an example from which the other is faster than exact search. By NumPy, a step of SAM (17
# rows of 32 updated, 4 keys) in ms on 2 cores, exact, FAISS and FLANN: of one example 0.33, 0.48,
# 0.64 at 4096 rows, 0.41, 0.45, 0.78 at 8192, 0.86, 0.57, 1.6 at 16384, 1.6, 0.48, 1.0 at 32768; of
# eight 2.5, 1.2, 4.2 at 4096 and 3.6, 1.0, 5.2 at 8192 (tests/benchmarks/index.py). Where kernels
# search, a training step of one example 0.53, 2.0, 1.7 at 4096 rows, 0.94, 2.0, 2.0 at 32768, and
# 1.5, 2.4 at 65536, 2.8, 2.5 at 131072 (exact and FAISS); of eight 4.9, 6.8 at 65536.
BREAK_EVEN = (
    {"faiss": 8192, "flann": 32768} if numba_is_missing() else {"faiss": 131_072, "flann": 131_072}
)
MAKE: dict[str, Callable[..., FaissIndex | FlannIndex]] = {
    "faiss": FaissIndex,
    "flann": FlannIndex,
}


class AutoIndex:
    """Exact search; on a CPU, from many rows of an example on, FAISS, else FLANN.

    From 8,192 rows (FLANN: 32,768), or 131,072 where numba is installed, which searches faster.

    FLANN where FAISS is not installed, and exact search for ever where neither is, or on another
    device. FAISS and FLANN are imported when first needed.

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
        place = torch.empty(0, device=device).device
        self._place: dict[str, Any] = {"dtype": dtype, "device": place}
        self._limit: int | None = None
        self._later = ""
        if place.type == "cpu":
            self._later = next((name for name in BREAK_EVEN if has_library(name)), "")
        self._index: WrittenRowsIndex | AllRowsIndex | FaissIndex | FlannIndex = self._exact()

    def _exact(self) -> WrittenRowsIndex | AllRowsIndex:
        self._limit = BREAK_EVEN.get(self._later)
        return exact_index(*self._shape, **self._place)

    @property
    def index(self) -> WrittenRowsIndex | AllRowsIndex | FaissIndex | FlannIndex:
        """What searches at present."""
        return self._index

    def empty(self, batch_size: int) -> AutoIndex:
        """A new index of the same kind, for so many memories of zeros."""
        return AutoIndex(batch_size, *self._shape[1:], **self._place)

    def __reduce__(self) -> tuple[Any, ...]:
        # Its content is a cache: made again when it is asked about a memory.
        return made, (AutoIndex, self._shape, self._place)

    def reset(self, memory: RowMemory, examples: Int[Tensor, "b"] | None = None) -> None:
        """Mirror ``memory``: O(rows written)."""
        if examples is None:
            if not isinstance(self._index, WrittenRowsIndex):
                self._index = self._exact()
            if self._limit is not None and memory.written().shape[1] > self._limit:
                self._index, self._limit = MAKE[self._later](*self._shape, **self._place), None
        self._index.reset(memory, examples)
        self._hand_over()

    def update(
        self,
        index: Int[Tensor, "b J"],
        rows: Float[Tensor, "b J W"],
        examples: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Slots ``[b, J]`` now hold ``rows``."""
        self._index.update(index, rows, examples)
        self._hand_over()

    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best first."""
        return self._index.search(keys, k, examples)

    def changed(self) -> None:
        """Kernels have changed `index` in place."""
        if isinstance(self._index, WrittenRowsIndex):
            self._index.changed()
        self._hand_over()

    def _hand_over(self) -> None:
        """All rows to the index for many, once an example has many."""
        if self._limit is None or not isinstance(self._index, WrittenRowsIndex):
            return
        before = self._index
        if before.table.most <= self._limit:
            return
        after = MAKE[self._later](*self._shape, **self._place)
        initial = before.unwritten.initial
        after.unwritten.initial = None if initial is None else finite(initial)
        for example in range(self._shape[0]):
            slots, rows = before.table.of(example)
            after.load(example, slots, finite(rows))
        self._index, self._limit = after, None
