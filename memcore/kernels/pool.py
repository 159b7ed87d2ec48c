"""Threads for kernels: those of torch's own OpenMP pool, else some of Python's.

After each parallel operation torch's threads go on spinning for a while and hold the cores that
other threads would want; run by those very threads, kernels have them at once.
"""

from __future__ import annotations

import ctypes
import os
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memcore.backends import is_forked
from memcore.kernels import plan
from memcore.kernels.compiling import Entry

__all__ = ["run"]

_lock = threading.Lock()
_own_threads: ThreadPoolExecutor | None = None


def _begin_in_child() -> None:
    # No thread came along, and another of the parent's may have held the lock.
    global _lock, _own_threads
    _lock, _own_threads = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def run(entry: Entry, told: np.ndarray, chunks: int) -> None:
    """Run a kernel on so many chunks of examples at once, and wait for all.

    Args:
        entry: the kernel.
        told: int64, what it is told (`memcore.kernels.plan`).
        chunks: at least 1; at most one a thread is of use.
    """
    told[plan.CHUNKS] = chunks
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(entry.address)
    if chunks == 1:
        function(told.ctypes.data)
        return
    # OpenMP's threads do not come along in a fork, and its library would wait for them for ever.
    team = None if is_forked() else _torch_team()
    if team is not None:
        told[plan.THREAD_NUMBER], told[plan.THREAD_COUNT] = team.number, team.count
        team.parallel(entry.address, told.ctypes.data, chunks, 0)
        return
    each = [told.copy() for _ in range(chunks)]
    for chunk, own in enumerate(each):
        own[plan.CHUNK] = chunk
    others = [_threads().submit(function, own.ctypes.data) for own in each[1:]]
    try:
        function(each[0].ctypes.data)
    finally:
        wait(others)  # after an interrupt too, they are still at work on the same memory
    for other in others:
        other.result()


class _Team:
    """The entry points of a libgomp that torch has loaded."""

    def __init__(self, library: Any) -> None:
        self.parallel = library.GOMP_parallel
        self.parallel.restype = None
        self.parallel.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_uint] * 2
        self.number = ctypes.cast(library.omp_get_thread_num, ctypes.c_void_p).value
        self.count = ctypes.cast(library.omp_get_num_threads, ctypes.c_void_p).value


@cache
def _torch_team() -> _Team | None:
    """None where torch brought no libgomp; a system's own one would be a second pool."""
    root = Path(torch.__file__).parent
    for folder in (root / "lib", root.parent / "torch.libs"):
        for path in sorted(folder.glob("libgomp*.so*")):
            try:
                return _Team(ctypes.CDLL(str(path)))
            except (OSError, AttributeError):
                continue
    return None


def _threads() -> ThreadPoolExecutor:
    global _own_threads
    with _lock:
        if _own_threads is None:
            count = max(os.cpu_count() or 1, torch.get_num_threads())
            _own_threads = ThreadPoolExecutor(count, thread_name_prefix="memcore")
        return _own_threads
