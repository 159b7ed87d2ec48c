"""What a DNC's step leaves: one record, of which the first fields are what the next step needs.

[P] is a number for each slot, rounded up to whole registers, 0 beyond the last slot.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from memcore.kernels.compiling import inlined
from memcore.kernels.lanes import part
from memcore.kernels.sizes import Sizes

__all__ = [
    "DNCRecord",
    "Places",
    "fields",
    "gradient_size",
    "order_size",
    "places_of",
    "record_size",
]


class DNCRecord(NamedTuple):
    """One step's numbers; beside each, how many."""

    memory: Any  # W·P, by words
    usage: Any  # P
    precedence: Any  # H·P
    write_weights: Any  # H·P
    read_weights: Any  # R·P
    inverse_norms: Any  # P: of the memory's rows; the state ends here
    allocation: Any  # H·P
    write_content: Any  # H·P
    write_cosines: Any  # H·P
    read_content: Any  # R·P
    read_cosines: Any  # R·P
    forward: Any  # H·R·P
    backward: Any  # H·R·P
    interface: Any  # I, each part in its range
    slopes: Any  # R + H + 2·R: derivatives of strengths and sharpness
    taken: Any  # (H − 1)·P: the usage that each write head but the first finds
    retention: Any  # P, with deallocation
    write_norms: Any  # H·P, with masking: of the memory before, inverse, as masks show it
    read_norms: Any  # R·P, with masking: of the memory after
    blurred: Any  # 2·H·R·P, with sharpness: forward, then backward, as links gave them


class Places(NamedTuple):
    """Where in the interface vector each part begins, in the order of `memcore.DNCInterface`."""

    read_keys: int
    read_strengths: int
    write_keys: int
    write_strengths: int
    erase: int
    add: int
    free_gates: int
    allocation_gates: int
    write_gates: int
    modes: int
    read_masks: int
    write_masks: int
    sharpness: int


@inlined
def places_of(sizes: Sizes):
    """The places for these sizes."""
    words, heads, writes = sizes.words, sizes.heads, sizes.writes
    read_strengths = heads * words
    write_keys = read_strengths + heads
    write_strengths = write_keys + writes * words
    erase = write_strengths + writes
    add = erase + writes * words
    free_gates = add + writes * words
    allocation_gates = free_gates + heads
    write_gates = allocation_gates + writes
    modes = write_gates + writes
    read_masks = modes + heads * (2 * writes + 1)
    write_masks = read_masks + sizes.masking * heads * words
    sharpness = write_masks + sizes.masking * writes * words
    return Places(
        0, read_strengths, write_keys, write_strengths, erase, add, free_gates, allocation_gates,
        write_gates, modes, read_masks, write_masks, sharpness,
    )  # fmt: skip


def gradient_size(sizes: Sizes) -> int:
    """How many numbers of a record a gradient with respect to the state takes."""
    return (sizes.words + 2 + 2 * sizes.writes + sizes.heads) * sizes.padded


def order_size(sizes: Sizes) -> int:
    """How many whole numbers a step keeps: for each write head the slots in order of allocation."""
    return sizes.writes * sizes.padded


def record_size(sizes: Sizes) -> int:
    """How many numbers a record takes, a multiple of a cache line."""
    heads, writes = sizes.heads, sizes.writes
    rows = 3 * writes + 2 * heads + 2 * writes * heads + (writes - 1)
    rows += sizes.deallocation + sizes.masking * (writes + heads)
    rows += sizes.sharpness * 2 * writes * heads
    count = gradient_size(sizes) + rows * sizes.padded
    return (count + sizes.interface + _slopes(sizes) + 2 * 16) // 16 * 16


def _slopes(sizes: Sizes) -> int:
    return sizes.heads + sizes.writes + 2 * sizes.heads * sizes.sharpness


@inlined
def fields(tape, at, sizes: Sizes):
    """The fields of the record that begins at ``tape[at]``."""
    padded, heads, writes = sizes.padded, sizes.heads, sizes.writes
    reads, written, both = heads * padded, writes * padded, writes * heads * padded
    memory = part(tape, at, sizes.words * padded)
    at += sizes.words * padded
    used = part(tape, at, padded)
    precedence = part(tape, at + padded, written)
    write_weights = part(tape, at + padded + written, written)
    at += padded + 2 * written
    read_weights = part(tape, at, reads)
    at += reads
    inverse_norms = part(tape, at, padded)
    at += padded
    allocation = part(tape, at, written)
    write_content = part(tape, at + written, written)
    write_cosines = part(tape, at + 2 * written, written)
    at += 3 * written
    read_content = part(tape, at, reads)
    read_cosines = part(tape, at + reads, reads)
    at += 2 * reads
    forward = part(tape, at, both)
    backward = part(tape, at + both, both)
    at += 2 * both
    interface = part(tape, at, sizes.interface)
    at += sizes.interface
    counted = heads + writes + 2 * heads * sizes.sharpness
    slopes = part(tape, at, counted)
    at += counted
    taken = part(tape, at, written - padded)
    at += written - padded
    retention = part(tape, at, sizes.deallocation * padded)
    at += sizes.deallocation * padded
    write_norms = part(tape, at, sizes.masking * written)
    at += sizes.masking * written
    read_norms = part(tape, at, sizes.masking * reads)
    at += sizes.masking * reads
    blurred = part(tape, at, sizes.sharpness * 2 * both)
    return DNCRecord(
        memory, used, precedence, write_weights, read_weights, inverse_norms, allocation,
        write_content, write_cosines, read_content, read_cosines, forward, backward, interface,
        slopes, taken, retention, write_norms, read_norms, blurred,
    )  # fmt: skip
