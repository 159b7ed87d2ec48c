"""Search indexes: which rows of a memory resemble a key most.

`Index` is what each must do, `make_index` makes one by name, `Mirror` keeps one in step with the
versions of a memory.
"""

from __future__ import annotations

from typing import Any

import torch

from memcore.errors import MemcoreError, check_device, check_float_dtype, check_size
from memcore.index.exact import AllRowsIndex, WrittenRowsIndex, exact_index
from memcore.index.mirror import Mirror
from memcore.index.protocol import Index

__all__ = ["Index", "Mirror", "check_index", "index_name", "make_index"]

INDEXES = {"auto": exact_index, "exact": exact_index}


def index_name(index: Index) -> str:
    """The name that makes an index of this kind; ``'auto'`` for a kind of one's own."""
    return "exact" if isinstance(index, AllRowsIndex | WrittenRowsIndex) else "auto"


def check_index(argument: str, index: object) -> None:
    """Raise, naming the argument, unless `make_index` can make something of ``index``."""
    if isinstance(index, str):
        if index not in INDEXES:
            raise MemcoreError(f"{argument}: expected one of {', '.join(INDEXES)}, got {index!r}")
    elif not isinstance(index, Index):
        raise TypeError(f"{argument}: expected a str or an Index, got {type(index).__name__}")


def make_index(
    name: str | Index,
    *,
    batch_size: int,
    slots: int,
    word_size: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
    **options: Any,
) -> Index:
    """An index for ``batch_size`` memories of ``slots`` rows of zeros.

    Args:
        name: ``'exact'``, or ``'auto'`` for the fastest one here; an object that keeps the
            protocol `Index` gives an empty one of its kind.
        batch_size: B.
        slots: N.
        word_size: W.
        dtype: of the rows, float32 or float64.
        device: where the rows are.
        **options: those of the index.

    Raises:
        TypeError: an argument of the wrong type, or an option that the index does not have.
        MemcoreError: an unknown name, a size below 1, another dtype, or a device not there.
    """
    check_index("name", name)
    if not isinstance(name, str):
        return name.empty(check_size("batch_size", batch_size))
    check_size("batch_size", batch_size)
    check_size("slots", slots)
    check_size("word_size", word_size)
    check_float_dtype("dtype", dtype)
    check_device("device", device)
    return INDEXES[name](batch_size, slots, word_size, dtype=dtype, device=device, **options)
