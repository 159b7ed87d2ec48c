"""What a step of SAM or the SDNC leaves: one record, of which the first field is carried on.

K_L, the links followed each way, is 0 for SAM, which has none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.lanes import part
from memcore.kernels.sizes import Sizes

__all__ = [
    "SparseRecord",
    "fields",
    "gradient_size",
    "keys_at",
    "order_size",
    "record_size",
    "seen_by",
    "visible",
]


class SparseRecord(NamedTuple):
    """One step's numbers; beside each, how many. V = K_L + K + K_L; P is W in whole registers."""

    read_weights: Any  # R·V; what is carried on ends here
    content: Any  # R·K
    cosines: Any  # R·K
    row_norms: Any  # R·K, inverse
    temporal: Any  # R·2·K_L: backward, then forward weightings
    keys: Any  # R·P
    masks: Any  # R·P, with masking
    shown: Any  # R·P, with masking: keys times the squares of masks; else the keys
    key_norms: Any  # R, inverse
    strengths: Any  # R
    slopes: Any  # R: their derivatives
    modes: Any  # R·3
    gates: Any  # 2: write gate, interpolation gate
    add: Any  # P
    rows: Any  # R·V·P: what was read


def visible(sizes: Sizes) -> int:
    """V, the slots that a head reads."""
    return sizes.reads + 2 * sizes.temporal


seen_by = inlined(visible)  # the same in kernels


def gradient_size(sizes: Sizes) -> int:
    """How many numbers of a record a gradient with respect to the state takes."""
    return sizes.heads * visible(sizes)


def order_size(sizes: Sizes) -> int:
    """How many whole numbers a step keeps: the rows read, then the row erased."""
    return sizes.heads * visible(sizes) + 1


def record_size(sizes: Sizes) -> int:
    """How many numbers a record takes, a multiple of a cache line."""
    heads, reads = sizes.heads, sizes.reads
    count = heads * (visible(sizes) + 3 * reads + 2 * sizes.temporal + 6) + 2
    count += (heads * (1 + 2 * sizes.masking) + 1 + heads * visible(sizes)) * sizes.padded
    return (count + 2 * 16) // 16 * 16


def keys_at(sizes: Sizes) -> int:
    """Where in a record the keys begin, and the masks that there may be after them."""
    return sizes.heads * (visible(sizes) + 3 * sizes.reads + 2 * sizes.temporal)


@kernel
def fields(tape, at, sizes: Sizes):
    """The fields of the record that begins at ``tape[at]``."""
    heads, padded, seen = sizes.heads, sizes.padded, seen_by(sizes)
    reads = heads * sizes.reads
    temporal = 2 * heads * sizes.temporal
    read_weights = part(tape, at, heads * seen)
    at += heads * seen
    content, cosines = part(tape, at, reads), part(tape, at + reads, reads)
    row_norms = part(tape, at + 2 * reads, reads)
    at += 3 * reads
    followed, keys = part(tape, at, temporal), part(tape, at + temporal, heads * padded)
    at += temporal + heads * padded
    masks, shown = part(tape, at, sizes.masking * heads * padded), keys
    if sizes.masking != 0:
        shown = part(tape, at + heads * padded, heads * padded)
    at += 2 * sizes.masking * heads * padded
    key_norms, strengths = part(tape, at, heads), part(tape, at + heads, heads)
    slopes, modes = part(tape, at + 2 * heads, heads), part(tape, at + 3 * heads, 3 * heads)
    at += 6 * heads
    gates, add = part(tape, at, 2), part(tape, at + 2, padded)
    at += 2 + padded
    rows = part(tape, at, heads * seen * padded)
    return SparseRecord(
        read_weights, content, cosines, row_norms, followed, keys, masks, shown, key_norms,
        strengths, slopes, modes, gates, add, rows,
    )  # fmt: skip
