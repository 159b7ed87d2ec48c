"""Usage and allocation: `memcore.allocation` for one example, forward and backward."""

from __future__ import annotations

import math

import numpy as np

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.lanes import (
    clamped,
    filled,
    fma,
    lane_count,
    load,
    spread,
    store,
    total,
    within,
)

__all__ = [
    "allocation_backward",
    "allocation_weighting",
    "ascending",
    "retention",
    "usage",
    "usage_backward",
]


@kernel
def _kept(read_weights, interface, gates, n, without, heads, padded):
    """``Π_r (1 − f_r w_r)`` over all heads but ``without``."""
    one = filled(read_weights, 1)
    kept = one
    for head in range(heads):
        if head != without:
            freed = spread(interface, gates + head) * load(read_weights, head * padded + n)
            kept = kept * clamped(one - freed, 0.0, math.inf)
    return kept


@kernel
def _spared(write_weights, n, without, writes, padded):
    """``Π_h (1 − w_h)`` over all write heads but ``without``."""
    one = filled(write_weights, 1)
    spared = one
    for write in range(writes):
        if write != without:
            rest = one - load(write_weights, write * padded + n)
            spared = spared * clamped(rest, 0.0, math.inf)
    return spared


@inlined
def _written(write_weights, n, writes, padded):
    """How much was written, by one head or by any of several."""
    if writes == 1:
        return load(write_weights, n)
    return filled(write_weights, 1) - _spared(write_weights, n, -1, writes, padded)


@kernel
def retention(read_weights, interface, gates, target, heads, padded):
    """``ψ = Π_r (1 − f_r w_r)``; the free gates begin at ``interface[gates]``."""
    for n in range(0, padded, lane_count(read_weights)):
        store(target, n, _kept(read_weights, interface, gates, n, -1, heads, padded))


@kernel
def usage(
    previous, write_weights, read_weights, interface, gates, target, heads, padded, writes
):  # fmt: skip
    """``u = (u' + w − u' w) Π_r (1 − f_r w_r)``; the free gates begin at ``interface[gates]``."""
    one = filled(previous, 1)
    for n in range(0, padded, lane_count(previous)):
        before = load(previous, n)
        used = fma(one - before, _written(write_weights, n, writes, padded), before)
        store(target, n, used * _kept(read_weights, interface, gates, n, -1, heads, padded))


@kernel
def usage_backward(
    previous, write_weights, read_weights, interface, gates, d_usage, d_retention,
    d_write_weights, d_read_weights, d_interface, heads, padded, writes, retaining,
):  # fmt: skip
    """``d_usage`` becomes that of the step before, ``d_write_weights`` is set, the others grow.

    ``d_retention`` [P] is what else depends on the retention, looked at if ``retaining``.
    """
    one, lanes = filled(previous, 1), lane_count(previous)
    for head in range(heads):
        gate, d_gate = spread(interface, gates + head), filled(previous, 0)
        for n in range(0, padded, lanes):
            before, weight = load(previous, n), load(read_weights, head * padded + n)
            used = fma(one - before, _written(write_weights, n, writes, padded), before)
            others = _kept(read_weights, interface, gates, n, head, heads, padded)
            d_kept = load(d_usage, n) * used
            if retaining:
                d_kept = d_kept + load(d_retention, n)
            # No gradient where the retention was clamped.
            slope = within(one - gate * weight, 0.0, math.inf, d_kept * others)
            d_gate = fma(slope, weight, d_gate)
            place = head * padded + n
            store(d_read_weights, place, load(d_read_weights, place) - slope * gate)
        d_interface[gates + head] -= total(d_gate)
    for n in range(0, padded, lanes):
        kept = _kept(read_weights, interface, gates, n, -1, heads, padded)
        gradient = load(d_usage, n) * kept
        store(d_usage, n, gradient * (one - _written(write_weights, n, writes, padded)))
        slope = gradient * (one - load(previous, n))
        if writes == 1:
            store(d_write_weights, n, slope)
        else:
            for write in range(writes):
                place = write * padded + n
                others = _spared(write_weights, n, write, writes, padded)
                rest = one - load(write_weights, place)
                store(d_write_weights, place, within(rest, 0.0, math.inf, slope * others))


@kernel
def _comes_before(usage, one, other):
    """Whether slot ``one`` is allocated before ``other``: NaN last, of equals the lower slot."""
    left, right = usage[one], usage[other]
    if left < right:
        return True
    if left > right:
        return False
    if left != left or right != right:
        if left == left:
            return True
        if right == right:
            return False
    return one < other


@kernel
def ascending(usage, order, slots):
    """Bring ``order``, some order of the slots, into that of allocation.

    From step to step few slots change places, so each is moved to where it belongs; where that
    is more work than sorting anew, they are merged.
    """
    moves = 0
    for place in range(1, slots):
        slot, free = order[place], place
        while free > 0 and _comes_before(usage, slot, order[free - 1]):
            order[free] = order[free - 1]
            free -= 1
        order[free] = slot
        moves += place - free
        if moves > 8 * slots:
            _merge_sorted(usage, order, slots)
            return


@kernel
def _merge_sorted(usage, order, slots):
    source, target = order, np.empty(slots, np.int32)
    width = 1
    while width < slots:
        for begin in range(0, slots, 2 * width):
            middle, end = min(begin + width, slots), min(begin + 2 * width, slots)
            left, right = begin, middle
            for place in range(begin, end):
                if left < middle and (
                    right >= end or _comes_before(usage, source[left], source[right])
                ):
                    target[place] = source[left]
                    left += 1
                else:
                    target[place] = source[right]
                    right += 1
        for place in range(slots):
            source[place] = target[place]
        width *= 2


@kernel
def allocation_weighting(usage, order, allocation, slots, padded):
    """``a[φ_j] = (1 − u[φ_j]) Π_{i<j} u[φ_i]`` with ``order`` as φ."""
    product = usage.dtype.type(1)
    one = product
    for place in range(slots):
        slot = order[place]
        allocation[slot] = (one - usage[slot]) * product
        product *= usage[slot]
    for slot in range(slots, padded):
        allocation[slot] = 0


@kernel
def allocation_backward(usage, order, d_allocation, d_usage, products, slots):
    """Add to ``d_usage`` what comes from the allocation; ``products`` [P] is to work in."""
    product = usage.dtype.type(1)
    one = product
    for place in range(slots):
        products[place] = product
        product *= usage[order[place]]
    # What the products after this place depend on its usage, without dividing by it.
    after = usage.dtype.type(0)
    for place in range(slots - 1, -1, -1):
        slot = order[place]
        gradient = d_allocation[slot]
        d_usage[slot] += (after - gradient) * products[place]
        after = gradient * (one - usage[slot]) + after * usage[slot]
