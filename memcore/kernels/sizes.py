"""The sizes of a memory, as kernels are told them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Sizes", "padded_to", "registers"]


class Sizes(NamedTuple):
    """Numbers that are all known before a kernel runs."""

    slots: int  # N
    padded: int  # P, N rounded up to two registers; of a sparse memory W, to one
    words: int  # W
    heads: int  # R
    interface: int  # length of the interface vector
    reads: int  # K, of a sparse memory
    temporal: int  # K_L
    writes: int  # H
    masking: int  # 0 or 1, as the next two
    deallocation: int
    sharpness: int
    mask_minimum: float  # μ
    temperature: float


def registers(itemsize: int) -> int:
    """How many numbers two registers hold: the unit to which rows are rounded up."""
    return 64 // itemsize


def padded_to(unit: int, length: int) -> int:
    """``length`` rounded up to a multiple of ``unit``."""
    return -(-length // unit) * unit
