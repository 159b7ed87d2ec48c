"""The DNC's step for one example, forward: `memcore.dnc` in loops. Backward: `dnc_backward`."""

from __future__ import annotations

import math

from memcore.kernels.allocation import allocation_weighting, ascending, retention, usage
from memcore.kernels.compiling import inlined
from memcore.kernels.content import content_weighting
from memcore.kernels.dnc_record import places_of
from memcore.kernels.functions import copy, fill, oneplus, oneplus_slope, sigmoids
from memcore.kernels.lanes import filled, fma, lane_count, load, part, spread, store, total
from memcore.kernels.links import links_forward
from memcore.kernels.masked_content import masked_content_weighting
from memcore.kernels.products import multiply_transposed
from memcore.kernels.sharpening import sharpen
from memcore.kernels.sizes import Sizes

__all__ = ["forward"]


@inlined
def _activate(vector, interface, slopes, scratch, sizes: Sizes):
    """`memcore.dnc.parse_interface`."""
    at, heads, writes, words = places_of(sizes), sizes.heads, sizes.writes, sizes.words
    for i in range(sizes.interface):
        interface[i] = vector[i]
    for head in range(heads + writes):
        place = at.read_strengths + head if head < heads else at.write_strengths + head - heads
        interface[place] = oneplus(vector[place]) * sizes.temperature
        slopes[head] = oneplus_slope(vector[place]) * sizes.temperature
    sigmoids(vector, scratch, at.erase, writes * words)
    copy(scratch, interface, at.erase, at.add)
    sigmoids(vector, scratch, at.free_gates, heads + 2 * writes)
    copy(scratch, interface, at.free_gates, at.modes)
    count = 2 * writes + 1
    for head in range(heads):
        first = at.modes + count * head
        top = vector[first]
        for mode in range(first + 1, first + count):
            top = max(top, vector[mode])
        summed = 0.0
        for mode in range(first, first + count):
            interface[mode] = math.exp(vector[mode] - top)
            summed += interface[mode]
        for mode in range(first, first + count):
            interface[mode] /= summed
    if sizes.masking:
        sigmoids(vector, scratch, at.read_masks, at.sharpness - at.read_masks)
        for i in range(at.read_masks, at.sharpness):
            interface[i] = scratch[i] * (1 - sizes.mask_minimum) + sizes.mask_minimum
    if sizes.sharpness:
        for i in range(2 * heads):
            interface[at.sharpness + i] = oneplus(vector[at.sharpness + i])
            slopes[heads + writes + i] = oneplus_slope(vector[at.sharpness + i])


@inlined
def _where_to_write(before, after, order, scratch, sizes: Sizes):
    """Usage, allocation, content and the write weights of all heads."""
    at, words, slots, padded = places_of(sizes), sizes.words, sizes.slots, sizes.padded
    interface, weights, writes = after.interface, after.write_weights, sizes.writes
    lanes, one = lane_count(weights), filled(weights, 1)
    usage(
        before.usage, before.write_weights, before.read_weights, interface, at.free_gates,
        after.usage, sizes.heads, padded, writes,
    )  # fmt: skip
    if sizes.masking:
        masked_content_weighting(
            before.memory, interface, at.write_keys, at.write_strengths, at.write_masks,
            after.write_cosines, after.write_norms, after.write_content, scratch, writes, words,
            slots, padded,
        )  # fmt: skip
    else:
        content_weighting(
            before.memory, before.inverse_norms, interface, at.write_keys, at.write_strengths,
            after.write_cosines, after.write_content, writes, words, slots, padded,
        )  # fmt: skip
    for write in range(writes):
        row = write * padded
        used, own = after.usage, part(after.allocation, row, padded)
        if write > 0:
            used = part(after.taken, row - padded, padded)
        ascending(used, part(order, row, padded), slots)
        allocation_weighting(used, part(order, row, padded), own, slots, padded)
        gate = spread(interface, at.allocation_gates + write)
        by_allocation = gate * spread(interface, at.write_gates + write)
        by_content = (one - gate) * spread(interface, at.write_gates + write)
        for n in range(0, padded, lanes):
            found = by_content * load(after.write_content, row + n)
            store(weights, row + n, by_allocation * load(own, n) + found)
        if write + 1 < writes:
            for n in range(0, padded, lanes):
                free = one - load(used, n)
                taken = fma(free, by_allocation * load(own, n), load(used, n))
                store(after.taken, row + n, taken)


@inlined
def _write(before, after, sizes: Sizes):
    """``M = M' ψ Π_h (1 − w_h e_hᵀ) + Σ_h w_h v_hᵀ``, and the norms of its rows."""
    at, padded, writes = places_of(sizes), sizes.padded, sizes.writes
    interface, weights, norms = after.interface, after.write_weights, after.inverse_norms
    lanes, one, old = lane_count(norms), filled(norms, 1), before.memory
    if sizes.deallocation:
        for w in range(sizes.words):
            for n in range(0, padded, lanes):
                faded = load(old, w * padded + n) * load(after.retention, n)
                store(after.memory, w * padded + n, faded)
        old = after.memory
    for write in range(writes if writes > 1 else 0):
        for w in range(sizes.words):
            erased = spread(interface, at.erase + write * sizes.words + w)
            for n in range(0, padded, lanes):
                kept = one - load(weights, write * padded + n) * erased
                store(after.memory, w * padded + n, load(old, w * padded + n) * kept)
        old = after.memory
    for write in range(1, writes):
        for w in range(sizes.words):
            added = spread(interface, at.add + write * sizes.words + w)
            for n in range(0, padded, lanes):
                value, weight = load(old, w * padded + n), load(weights, write * padded + n)
                store(after.memory, w * padded + n, fma(weight, added, value))
    fill(norms, 0, padded, 0.0)
    for w in range(sizes.words):
        erased, added = spread(interface, at.erase + w), spread(interface, at.add + w)
        if writes > 1:
            erased = filled(norms, 0)
        row = w * padded
        for n in range(0, padded, lanes):
            weight, value = load(weights, n), load(old, row + n)
            new = fma(weight, added - value * erased, value)
            store(after.memory, row + n, new)
            store(norms, n, fma(new, new, load(norms, n)))
    for n in range(padded):
        norms[n] = 1 / math.sqrt(norms[n] + 1e-6)


@inlined
def _follow_links(before, after, links_before, links_after, sizes: Sizes):
    """Links, precedence and where the links lead, of all write heads."""
    at, heads, padded = places_of(sizes), sizes.heads, sizes.padded
    square, own, both = padded * padded, heads * padded, sizes.writes * heads * padded
    lanes = lane_count(after.memory)
    for write in range(sizes.writes):
        row, reads = write * padded, write * own
        weights = part(after.write_weights, row, padded)
        last = part(before.precedence, row, padded)
        forth, back = part(after.forward, reads, own), part(after.backward, reads, own)
        if sizes.sharpness:
            forth = part(after.blurred, reads, own)
            back = part(after.blurred, both + reads, own)
        links_forward(
            part(links_before, write * square, square), part(links_after, write * square, square),
            weights, last, before.read_weights, forth, back, heads, padded,
        )  # fmt: skip
        if sizes.sharpness:
            for head in range(heads):
                place, begin = at.sharpness + 2 * head, head * padded
                sharpen(
                    forth, begin, after.forward, reads + begin, after.interface, place,
                    sizes.slots, padded,
                )  # fmt: skip
                sharpen(
                    back, begin, after.backward, reads + begin, after.interface, place + 1,
                    sizes.slots, padded,
                )  # fmt: skip
        summed = filled(weights, 0)
        for n in range(0, padded, lanes):
            summed = summed + load(weights, n)
        kept = filled(weights, 1 - total(summed))
        for n in range(0, padded, lanes):
            store(after.precedence, row + n, fma(kept, load(last, n), load(weights, n)))


@inlined
def _where_to_read(after, sizes: Sizes):
    """The read weights: as the modes mix the ways of reading."""
    at, heads, padded, writes = places_of(sizes), sizes.heads, sizes.padded, sizes.writes
    interface, lanes, own = after.interface, lane_count(after.memory), heads * padded
    for head in range(heads):
        modes, row = at.modes + (2 * writes + 1) * head, head * padded
        back, by_content = spread(interface, modes), spread(interface, modes + writes)
        forth = spread(interface, modes + writes + 1)
        for n in range(row, row + padded, lanes):
            found = by_content * load(after.read_content, n)
            found = fma(back, load(after.backward, n), found)
            store(after.read_weights, n, fma(forth, load(after.forward, n), found))
        for write in range(1, writes):
            back = spread(interface, modes + write)
            forth = spread(interface, modes + writes + 1 + write)
            for n in range(row, row + padded, lanes):
                found = load(after.read_weights, n)
                found = fma(back, load(after.backward, write * own + n), found)
                found = fma(forth, load(after.forward, write * own + n), found)
                store(after.read_weights, n, found)


@inlined
def forward(
    before, after, order, links_before, links_after, vector, reads, scratch, sizes: Sizes
):  # fmt: skip
    """One step: from the record ``before`` and an interface vector to ``after`` and ``reads``.

    ``order`` [H, P] holds the slots in the order of the step before, and of this one afterwards;
    links are [H, P, P].
    """
    heads, words, slots, padded = sizes.heads, sizes.words, sizes.slots, sizes.padded
    at, interface = places_of(sizes), after.interface
    _activate(vector, interface, after.slopes, scratch, sizes)
    _where_to_write(before, after, order, scratch, sizes)
    if sizes.deallocation:
        retention(before.read_weights, interface, at.free_gates, after.retention, heads, padded)
    _write(before, after, sizes)
    _follow_links(before, after, links_before, links_after, sizes)
    if sizes.masking:
        masked_content_weighting(
            after.memory, interface, at.read_keys, at.read_strengths, at.read_masks,
            after.read_cosines, after.read_norms, after.read_content, scratch, heads, words,
            slots, padded,
        )  # fmt: skip
    else:
        content_weighting(
            after.memory, after.inverse_norms, interface, at.read_keys, at.read_strengths,
            after.read_cosines, after.read_content, heads, words, slots, padded,
        )  # fmt: skip
    _where_to_read(after, sizes)
    fill(reads, 0, heads * words, 0.0)
    multiply_transposed(
        after.read_weights, 0, padded, after.memory, 0, padded, reads, 0, words, 1,
        heads, words, padded,
    )  # fmt: skip
