"""Which of two forms runs: torch's operations, or kernels that numba compiles for the CPU.

The reference is what `memcore`'s operations say, one at a time; the kernels compute the same in
loops. They are taken where they apply, and this module says where they do not.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from memcore.circumstances import is_transformed
from memcore.errors import FLOAT_DTYPES, MemcoreError, how_to_install

__all__ = [
    "BACKENDS",
    "COMPILING",
    "NUMBA",
    "check_backend",
    "is_forked",
    "log_reference",
    "numba_is_missing",
    "why_not_numba",
]

BACKENDS = ("auto", "reference", "numba")
COMPILING = "torch is compiling or tracing, which sees through torch's operations only"

NUMBA = importlib.util.find_spec("numba") is not None

logger = logging.getLogger("memcore")

_forked = False


def is_forked() -> bool:
    """Whether this process was forked from one that had this library: no threads came along."""
    return _forked


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def check_backend(name: str, backend: object) -> str:
    """``backend``; raise unless it is one of those there are."""
    if not isinstance(backend, str):
        raise TypeError(f"{name}: expected a str, got {type(backend).__name__}")
    if backend not in BACKENDS:
        raise MemcoreError(f"{name}: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    return backend


@cache
def numba_is_missing() -> str | None:
    """None where numba is installed, else the sentence that says how to get it."""
    if NUMBA:
        return None
    return f"the package numba is not installed: {how_to_install('fast')}"


def why_not_numba(tensors: Iterable[Tensor]) -> str | None:
    """Why kernels cannot take these tensors, in one sentence; None where they can."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore
        return COMPILING
    missing = numba_is_missing()
    if missing is not None:
        return missing
    if is_transformed():
        return "a torch.func transform is active, which sees through torch's operations only"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation is active, and kernels know reverse mode only"
    if torch._C._len_torch_dispatch_stack() > 0:
        return "a torch dispatch mode is active, which sees torch's operations only"
    dtype = None
    for tensor in tensors:
        if type(tensor) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer):
            return f"a tensor is a {type(tensor).__name__}, of which kernels know nothing"
        if not tensor.is_cpu:
            return f"a tensor is on {tensor.device}, and kernels run on the CPU"
        if tensor.dtype not in FLOAT_DTYPES:
            return f"a tensor is {tensor.dtype}, and kernels take float32 and float64"
        if tensor.layout != torch.strided:
            return f"a tensor is {tensor.layout}, and kernels take strided ones"
        if not tensor.data_ptr() and tensor.numel():
            return "a tensor has no memory of its own, which kernels would read"
        dtype = dtype or tensor.dtype
        if tensor.dtype != dtype:
            return f"tensors are of {dtype} and {tensor.dtype}, and kernels take one dtype"
    return None


@cache
def log_reference(what: str, reason: str) -> None:
    """Tell once, at level INFO, why ``auto`` takes the reference."""
    logger.info("%s: backend 'auto' takes the reference, since %s", what, reason)
