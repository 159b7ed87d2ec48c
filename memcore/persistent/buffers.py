"""Tensors that are edited in place, row by row: making them, changing them, looking at them."""

from __future__ import annotations

import mmap
import sys
from math import prod
from typing import Any, TypeAlias

import torch
from torch import Tensor

from memcore.errors import allocated

__all__ = ["Buffers", "array", "by_example", "lazy_zeros", "put"]

Buffers: TypeAlias = "tuple[Tensor, ...]"  # each [rows, ...], with the same number of rows

LAZY_FROM = 2**20  # bytes


def lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Zeros that cost no work up front on a CPU, whatever their number.

    Large ones are fresh pages of the operating system, which are zero when first touched and
    take no memory before. (`torch.zeros` writes them all; `calloc` does so too where it uses
    memory that was freed before.)
    """

    def make() -> Tensor:
        count = prod(shape) * dtype.itemsize
        if torch.device(device).type != "cpu" or count < LAZY_FROM:
            return torch.zeros(shape, dtype=dtype, device=device)
        own = {} if sys.platform == "win32" else {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
        return torch.frombuffer(mmap.mmap(-1, count, **own), dtype=dtype).view(shape)

    return allocated(make, shape, dtype, "take fewer slots, narrower ones or a smaller batch")


def put(buffers: Buffers, rows: Tensor, values: Buffers) -> None:
    """Rows of each buffer become these values."""
    for buffer, value in zip(buffers, values, strict=True):
        buffer.index_copy_(0, rows, value)


def array(tensor: Tensor) -> Any:
    """A NumPy view of a tensor on a CPU, else the tensor.

    For bookkeeping without gradients, in code that both can run: on a CPU small NumPy
    operations take a quarter of the time of torch's.
    """
    if tensor.device.type != "cpu":
        return tensor
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


def by_example(rows: Tensor, offsets: Tensor, count: int) -> Tensor:
    """Sort flat rows by example.

    Args:
        rows: ``[n]``, ascending and distinct.
        offsets: ``[B, 1]``, where the ``count`` rows of each example begin, each a multiple of it.
        count: rows of an example.

    Returns:
        ``[B, P]``, each example's rows counted from its offset; where it has fewer than others
        the last is repeated, or 0 where it has none. Rows of no example here are left out.
    """
    begin = torch.searchsorted(rows, offsets)
    end = torch.searchsorted(rows, offsets + count)
    most = int((end - begin).max()) if len(rows) and len(offsets) else 0
    place = torch.minimum(begin + torch.arange(most, device=rows.device), end - 1)
    found = rows[place.clamp(min=0)] - offsets if most else place
    return found.masked_fill(begin == end, 0)
