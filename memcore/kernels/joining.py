"""What each example has noted, one after the other."""

from __future__ import annotations

import ctypes
from math import prod
from typing import Any, NamedTuple

from torch import Tensor

from memcore.kernels.compiling import Entry, kernel, sources_digest
from memcore.kernels.lanes import int64s_at, uint8s_at
from memcore.kernels.told import ANYTHING

__all__ = ["Counts", "join", "join_rows"]


@kernel
def _join(source, most, width, counts, counters, counter, examples, target):
    """Copy so many rows of so many bytes of each example."""
    to = 0
    for example in range(examples):
        count = counts[example * counters + counter] * width
        at = example * most * width
        for byte in range(count):
            target[to + byte] = source[at + byte]
        to += count


@kernel
def _join_rows(source, most, offsets, counts, counters, counter, examples, target):
    """Copy so many numbers of rows of each example, which begin where its offset says."""
    to = 0
    for example in range(examples):
        count = counts[example * counters + counter]
        for row in range(count):
            target[to + row] = source[example * most + row] + offsets[example]
        to += count


def _join_entry(digest: str) -> Any:
    def run(source, most, width, offsets, counts, counters, counter, examples, target):
        if len(digest) > 0:
            count = int64s_at(counts, ANYTHING)
            if offsets != 0:
                _join_rows(
                    int64s_at(source, ANYTHING), most, int64s_at(offsets, ANYTHING), count,
                    counters, counter, examples, int64s_at(target, ANYTHING),
                )  # fmt: skip
            else:
                _join(
                    uint8s_at(source, ANYTHING), most, width, count, counters, counter, examples,
                    uint8s_at(target, ANYTHING),
                )  # fmt: skip

    return run


JOIN = Entry(_join_entry(sources_digest()), 9)
_PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 9)


class Counts(NamedTuple):
    """How many rows each example noted."""

    address: int  # of int64 [examples, counters]
    counters: int
    counter: int  # which of them it is
    examples: int


def join(source: int, most: int, counts: Counts, target: Tensor, begin: int = 0) -> None:
    """Put what all examples noted into rows of a tensor.

    Args:
        source: the address of ``[B, most, ...]``.
        most: rows there are of each example.
        counts: how many each example noted.
        target: ``[n, ...]``, contiguous.
        begin: the first row.
    """
    width = target.element_size() * prod(target.shape[1:])
    run = _PROTOTYPE(JOIN.address)
    run(source, most, width, 0, *counts, target.data_ptr() + begin * width)


def join_rows(
    source: int, most: int, offsets: Tensor, counts: Counts, target: Tensor, begin: int = 0
) -> None:
    """Put the numbers of rows that all examples noted, each more by the example's offset.

    Args:
        source: the address of int64 ``[B, most]``.
        most: rows there are of each example.
        offsets: int64, B numbers, contiguous.
        counts: how many each example noted.
        target: int64 ``[n]``, contiguous.
        begin: the first place.
    """
    run = _PROTOTYPE(JOIN.address)
    run(source, most, 8, offsets.data_ptr(), *counts, target.data_ptr() + 8 * begin)
