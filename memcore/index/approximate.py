"""What FAISS's and FLANN's indexes have in common: making, copying, mirroring a memory."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import check_size
from memcore.index.checks import check_fits
from memcore.index.unwritten import Unwritten, finite_units, made
from memcore.persistent.rows import RowMemory

__all__ = ["ApproximateIndex"]

# Not typing.Self: what checks the types of the functions in tests knows no classes.
# ruff: noqa: PYI019
Own = TypeVar("Own", bound="ApproximateIndex")


class ApproximateIndex:
    """The rows ever written, on a CPU, of a memory that may be elsewhere.

    A subclass makes what holds them in `_clear`, gives up an example's in `_release` and takes
    those of an example that has none in `load`.

    Args:
        batch_size: B.
        slots: N.
        word_size: W.
        dtype: of the rows.
        device: where the rows are.
        seed: of what is random.
        options: those of a subclass.
    """

    _unwritten: Unwritten

    def __init__(
        self,
        batch_size: int,
        slots: int,
        word_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str | int | None,
        seed: int,
        **options: Any,
    ) -> None:
        self._shape = batch_size, slots, word_size
        self._dtype, self._device = dtype, torch.empty(0, device=device).device
        self._seed = check_size("seed", seed, 0)
        place = {"dtype": self._dtype, "device": self._device}
        self._options = {**place, "seed": self._seed, **options}
        self._clear()

    def _clear(self) -> None:
        """Hold nothing."""
        raise NotImplementedError

    def _release(self, example: int) -> np.ndarray:
        """Flat slots of all that an example holds, which no longer does."""
        raise NotImplementedError

    def load(self, example: int, slots: np.ndarray, rows: np.ndarray) -> None:
        """Rows ``[n, W]`` of length 1, in distinct slots, of an example that holds none yet."""
        raise NotImplementedError

    @property
    def unwritten(self) -> Unwritten:
        """The rows that it does not hold."""
        return self._unwritten

    def empty(self: Own, batch_size: int) -> Own:
        """A new index of the same kind, for so many memories of zeros."""
        return type(self)(batch_size, *self._shape[1:], **self._options)

    def __reduce__(self) -> tuple[Any, ...]:
        # Its content is a cache: made again when it is asked about a memory.
        return made, (type(self), self._shape, self._options)

    @outside_of_graphs
    def reset(self, memory: RowMemory, examples: Int[Tensor, "b"] | None = None) -> None:
        """Mirror ``memory``: O(rows written), and training or building."""
        check_fits(self._shape, self._dtype, memory)
        if examples is None:
            self._clear()
        mine = self._mine(examples)
        for example in mine.tolist():
            self._unwritten.forget(np.array([example]), self._release(example))
        self._unwritten.begin(mine, memory.initial_rows)
        written = memory.written()
        if not written.numel():
            return
        slots, rows = written.cpu().numpy(), finite_units(memory.peek(written))
        for place, example in enumerate(mine.tolist()):
            distinct, first = np.unique(slots[place], return_index=True)
            self.load(example, distinct, rows[place, first])

    def _mine(self, examples: Tensor | None) -> np.ndarray:
        return self._unwritten.all if examples is None else examples.cpu().numpy()
