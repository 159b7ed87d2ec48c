"""Memory for tapes, used again from call to call.

A tape of tens of megabytes comes from the operating system page by page, each zeroed at its first
touch, and goes back when it is freed: with 256 slots that costs a fifth of a training step. So what
a tape leaves is kept for the next one, up to a limit, as CUDA's allocator does on a GPU.
"""

from __future__ import annotations

import os
import threading
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["LIMIT", "forget", "lent", "new_tape"]

LIMIT = 1 << 27  # bytes that are kept for later
SMALL = 1 << 20  # bytes below which memory is had faster from torch
ALIGNMENT = 64

# Garbage may be collected, and a loan with it, while this very thread is at work below.
_lock = threading.RLock()
_free: list[np.ndarray] = []
_lent = 0  # bytes


class _Loan:
    """Memory that is lent to a tensor, and comes back when nothing refers to that any more."""

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        global _lent
        with _lock:
            _lent -= len(self._memory)
            if sum(map(len, _free)) + len(self._memory) <= LIMIT:
                _free.append(self._memory)


def _renew_lock() -> None:
    # Another thread of the parent may have held it.
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def lent() -> int:
    """Bytes that tapes have at this moment; torch's own counts do not see them."""
    return _lent


def forget() -> None:
    """Give back what is kept for later."""
    with _lock:
        _free.clear()


def _borrow(count: int) -> np.ndarray:
    global _lent
    with _lock:
        best: int | None = None
        for at, free in enumerate(_free):
            if count <= len(free) <= 2 * count and (best is None or len(free) < len(_free[best])):
                best = at
        memory = np.empty(count, np.uint8) if best is None else _free.pop(best)
        _lent += len(memory)
    return memory


def new_tape(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the CPU, whose memory is used again once it is freed."""
    count = prod(shape) * dtype.itemsize
    if count < SMALL:
        return torch.empty(shape, dtype=dtype, device="cpu")
    lent = np.asarray(_Loan(_borrow(count + ALIGNMENT)))
    begin = -lent.ctypes.data % ALIGNMENT
    tape = torch.from_numpy(lent[begin : begin + count]).view(dtype).view(shape)
    filled: bool = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore
    if filled and torch.are_deterministic_algorithms_enabled():
        tape.fill_(torch.nan)  # as torch.empty does then
    return tape
