"""The least recently accessed slot of one example: `memcore.persistent.recency` in place.

A tree of block minima: level 0 holds the step of each slot's last access, each entry of a further
level the least of a block of 128 below it. Beyond what there is stands a number that is never the
least.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.journal import Touched, number_of

__all__ = ["Times", "access", "least_recent"]

FAN_BITS = 7  # that of memcore.persistent.recency
FAN_OUT = 1 << FAN_BITS


class Times(NamedTuple):
    """One example's tree, and the journal of the entries touched."""

    times: Any  # int32, all levels
    starts: Any  # int64 [levels], where each begins
    levels: Any
    begun: Any  # the step before this segment
    leaves: Any  # int64, entries of level 0 that were touched
    leaves_before: Any  # int32
    touched: Touched  # the other entries
    before: Any  # int32
    counts: Any  # int64, counters of the example
    at: Any  # which of them is the number of leaves


@kernel
def least_recent(times: Times):
    """The slot accessed longest ago; of several the lowest."""
    entry = 0
    for level in range(times.levels - 1, -1, -1):
        begin = times.starts[level] + entry * FAN_OUT
        best, least = begin, times.times[begin]
        for at in range(begin + 1, begin + FAN_OUT):
            if times.times[at] < least:
                best, least = at, times.times[at]
        entry = best - times.starts[level]
    return entry


@inlined
def access(times: Times, slot, now):
    """A slot is accessed at step ``now``."""
    own, tree = times.starts[0] + slot, times.times
    old = tree[own]
    if old == now:
        return
    if old <= times.begun:
        number = times.counts[times.at]
        times.leaves[number], times.leaves_before[number] = own, old
        times.counts[times.at] = number + 1
    tree[own] = now
    entry = slot
    for level in range(1, times.levels):
        above = entry >> FAN_BITS
        own = times.starts[level] + above
        if tree[own] != old:
            return  # another one is the least of the block
        begin = times.starts[level - 1] + above * FAN_OUT
        least = tree[begin]
        for at in range(begin + 1, begin + FAN_OUT):
            least = min(least, tree[at])
        if least == old:
            return
        known = times.touched.counts[times.touched.at]
        number = number_of(times.touched, own)
        if number == known:
            times.before[number] = old
        tree[own] = least
        entry = above
