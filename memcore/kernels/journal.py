"""What one example edits in place, and what it held before: each row is noted when first touched.

Rows are numbered in the order in which they were touched, by a hash table over the rows touched, so
that nothing is as long as the memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from memcore.kernels.compiling import inlined

__all__ = ["Touched", "find", "number_of"]


class Touched(NamedTuple):
    """The rows that were touched, and where to find the number of each."""

    rows: Any  # int64 [most], in the order in which they came
    table: Any  # int32 [mask + 1]: numbers from 1; 0: none
    mask: Any  # a power of two at least twice ``most``, less 1
    counts: Any  # int64, counters of the example
    at: Any  # which of them is the number of rows


@inlined
def _first_place(touched: Touched, row):
    return ((row * 0x2545F4914F6CDD1D) >> 31) & touched.mask


@inlined
def find(touched: Touched, row):
    """The number of a row, or −1 where it was not touched."""
    place = _first_place(touched, row)
    while touched.table[place] != 0:
        number = touched.table[place] - 1
        if touched.rows[number] == row:
            return number
        place = (place + 1) & touched.mask
    return -1


@inlined
def number_of(touched: Touched, row):
    """The number of a row; the number of rows there were where it is new, and now there."""
    count = touched.counts[touched.at]
    place = _first_place(touched, row)
    while touched.table[place] != 0:
        number = touched.table[place] - 1
        if touched.rows[number] == row:
            return number
        place = (place + 1) & touched.mask
    touched.table[place] = count + 1
    touched.rows[count] = row
    touched.counts[touched.at] = count + 1
    return count
