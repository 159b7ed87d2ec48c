"""How kernels are compiled, and where what was compiled is kept.

Inner functions are compiled with the entry that calls them and kept with it: one file on the disk
for each entry and dtype. Entries call each other by address. numba looks only at the entry's own
file to see whether that is still current, so the entries carry a digest of all the sources.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.errors import NumbaWarning

__all__ = ["Entry", "entries", "inlined", "joined", "kernel", "sources_digest"]

logger = logging.getLogger("memcore")

# Not "fast": that would leave undefined what becomes of NaN.
FAST_MATH = {"contract", "reassoc", "nsz", "arcp"}

_cfunc: Any = numba.cfunc
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": FAST_MATH}
# Nobody calls an inner function from Python: what would take arrays apart for it is left out.
_INNER = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def kernel(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function that other kernels call."""
    dispatcher: Any = numba.njit(**_OPTIONS, **_INNER, **options)(function)
    template = dispatcher.get_call_template

    def one_for_all_numbers(arguments: Any, keywords: Any) -> Any:
        # numba would compile anew for each number written out in a call.
        plain = tuple(types.unliteral(argument) for argument in arguments)
        return template(plain, {name: types.unliteral(kind) for name, kind in keywords.items()})

    dispatcher.get_call_template = one_for_all_numbers
    return dispatcher


def joined(function: Callable[..., Any]) -> Any:
    """Make a function part of the one entry that calls it, before anything is compiled."""
    return kernel(function, inline="always")


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that becomes part of those that call it."""
    return kernel(function, forceinline=True)


_lock = threading.Lock()


def _renew_lock() -> None:
    # Another thread of the parent may have held it.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


# Files of this folder that nothing is compiled from.
PLAIN_PYTHON = {
    "dense_states",
    "kinds",
    "layout",
    "packing",
    "pages",
    "parts",
    "pool",
    "room",
    "segment",
    "sparse_room",
    "sparse_segment",
    "sparse_states",
    "weight_gradients",
}


@cache
def sources_digest() -> str:
    """A digest of this folder's kernels, by which what was compiled of older ones is not taken."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in PLAIN_PYTHON:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def entries(factory: Callable[[Any, str], Any], arguments: int) -> dict[int, Entry]:
    """An entry for each dtype, by the size of its numbers.

    Args:
        factory: from a dtype of NumPy and the sources' digest to the function.
        arguments: how many it takes.
    """
    digest = sources_digest()
    return {
        real().itemsize: Entry(factory(real, digest), arguments)
        for real in (np.float32, np.float64)
    }


class Entry:
    """A kernel that is called by its address with int64 numbers: compiled when first asked for.

    Args:
        function: a function of that many numbers, without a result.
        arguments: how many.
    """

    def __init__(self, function: Callable[..., None], arguments: int) -> None:
        self._function = function
        self._arguments = arguments
        self._compiled: Any = None

    @property
    def address(self) -> int:
        """Where the machine code begins."""
        if self._compiled is None:
            with _lock:
                if self._compiled is None:
                    self._compiled = self._compile()
        return self._compiled.address

    def _compile(self) -> Any:
        signature = types.void(*[types.int64] * self._arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaWarning)
            try:
                return _cfunc(signature, cache=True, **_OPTIONS)(self._function)
            except Exception as error:
                # Neither the package's folder nor the user's cache can be written, the disk is
                # full, or what is there is damaged: compile for this process alone.
                logger.info("kernels are compiled for this process alone: %s", error)
                return _cfunc(signature, **_OPTIONS)(self._function)
