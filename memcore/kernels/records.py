"""From tensors as `memcore` has them to records, and back, for one example.

A memory stands by words in a record, [W, P]; other fields by rows, [rows, P]. P is the number of
slots, rounded up to whole registers; what lies beyond the last slot is 0.
"""

from __future__ import annotations

from memcore.kernels.compiling import kernel
from memcore.kernels.functions import fill
from memcore.kernels.lanes import floats_at
from memcore.kernels.sizes import Sizes

__all__ = ["enter_memory", "enter_rows", "leave_memory", "leave_rows"]


@kernel
def enter_rows(target, address, example, rows, sizes: Sizes, zero):
    """Fill ``target`` from a tensor [B, rows, N]; with zeros where the address is 0."""
    fill(target, 0, rows * sizes.padded, 0.0)
    if address != 0:
        length = rows * sizes.slots
        source = floats_at(address, (example + 1) * length, zero)
        for row in range(rows):
            for n in range(sizes.slots):
                target[row * sizes.padded + n] = source[example * length + row * sizes.slots + n]


@kernel
def leave_rows(source, address, example, rows, sizes: Sizes, zero):
    """Undo `enter_rows`; nothing goes where the address is 0."""
    if address != 0:
        length = rows * sizes.slots
        target = floats_at(address, (example + 1) * length, zero)
        for row in range(rows):
            for n in range(sizes.slots):
                target[example * length + row * sizes.slots + n] = source[row * sizes.padded + n]


@kernel
def enter_memory(target, address, example, sizes: Sizes, zero):
    """Fill ``target`` from a tensor [B, N, W]; with zeros where the address is 0."""
    fill(target, 0, sizes.words * sizes.padded, 0.0)
    if address != 0:
        length = sizes.slots * sizes.words
        source = floats_at(address, (example + 1) * length, zero)
        for n in range(sizes.slots):
            for w in range(sizes.words):
                target[w * sizes.padded + n] = source[example * length + n * sizes.words + w]


@kernel
def leave_memory(source, address, example, sizes: Sizes, zero):
    """Undo `enter_memory`; nothing goes where the address is 0."""
    if address != 0:
        length = sizes.slots * sizes.words
        target = floats_at(address, (example + 1) * length, zero)
        for n in range(sizes.slots):
            for w in range(sizes.words):
                target[example * length + n * sizes.words + w] = source[w * sizes.padded + n]
