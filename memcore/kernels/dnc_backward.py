"""The DNC's step for one example, backward: the gradient of `memcore.kernels.dnc`."""

from __future__ import annotations

from typing import Any, NamedTuple

from memcore.kernels.allocation import allocation_backward, usage_backward
from memcore.kernels.compiling import inlined
from memcore.kernels.content import content_backward
from memcore.kernels.dnc_record import places_of
from memcore.kernels.functions import fill
from memcore.kernels.lanes import filled, fma, lane_count, load, part, spread, store, total
from memcore.kernels.links import links_backward
from memcore.kernels.masked_content import masked_content_backward, masked_keys
from memcore.kernels.products import multiply
from memcore.kernels.sharpening import sharpen_backward
from memcore.kernels.sizes import Sizes

__all__ = ["backward", "work_size"]


class Work(NamedTuple):
    """Where a step backward works; beside each, how many numbers."""

    pairs: Any  # 2·R·P: read weights, gradient of their content
    # 4·R·P for each write head: read weights before and gradient of backward, then gradient of
    # forward and read weights before.
    ways: Any
    shrink: Any  # P: what the norms of rows take from the gradient of the memory
    by_content: Any  # H·P: gradient of the write heads' content
    d_taken: Any  # P: gradient of the usage that a write head finds
    d_retention: Any  # P
    block: Any  # 4·P
    factors: Any  # 2·R·W or H·W
    masked: Any  # max(R, H)·(P + W + 1)


def work_size(sizes: Sizes) -> int:
    """How many numbers `backward` needs to work in, and then one more set of links."""
    heads, writes, most = sizes.heads, sizes.writes, max(sizes.heads, sizes.writes)
    rows = 2 * heads + 4 * heads * writes + 1 + writes + 2 + 4 + most * sizes.masking
    numbers = 2 * most * sizes.words + most * (sizes.words + 1) * sizes.masking
    return (rows + sizes.padded * writes) * sizes.padded + numbers + 16


@inlined
def _work(work, sizes: Sizes):
    padded, heads, writes = sizes.padded, sizes.heads, sizes.writes
    own, most = heads * padded, max(heads, writes)
    pairs, at = part(work, 0, 2 * own), 2 * own
    ways = part(work, at, 4 * own * writes)
    at += 4 * own * writes
    shrink = part(work, at, padded)
    by_content = part(work, at + padded, writes * padded)
    at += padded + writes * padded
    d_taken, d_retention = part(work, at, padded), part(work, at + padded, padded)
    block = part(work, at + 2 * padded, 4 * padded)
    at += 6 * padded
    masked = part(work, at, sizes.masking * most * (padded + sizes.words + 1))
    at += sizes.masking * most * padded
    factors = part(work, at + sizes.masking * most * (sizes.words + 1), 2 * most * sizes.words)
    return Work(pairs, ways, shrink, by_content, d_taken, d_retention, block, factors, masked)


@inlined
def _read_modes_backward(after, gradient, space, d_interface, sizes: Sizes):
    """Split the gradient of the read weights over the ways of reading."""
    at, heads, padded, writes = places_of(sizes), sizes.heads, sizes.padded, sizes.writes
    interface, own, lanes = after.interface, heads * padded, lane_count(gradient)
    count = 2 * writes + 1
    for head in range(heads):
        modes, row, mean = at.modes + count * head, head * padded, 0.0
        by_content, d_content = spread(interface, modes + writes), filled(interface, 0)
        for n in range(row, row + padded, lanes):
            slope = load(gradient, n)
            d_content = fma(slope, load(after.read_content, n), d_content)
            store(space.pairs, own + n, by_content * slope)
        d_interface[modes + writes] = total(d_content)
        for write in range(writes):
            first, second = modes + write, modes + writes + 1 + write
            back, forth, begin = spread(interface, first), spread(interface, second), write * own
            d_back = filled(interface, 0)
            d_forth = d_back
            for n in range(row, row + padded, lanes):
                slope = load(gradient, n)
                d_back = fma(slope, load(after.backward, begin + n), d_back)
                d_forth = fma(slope, load(after.forward, begin + n), d_forth)
                store(space.ways, 4 * begin + own + n, back * slope)
                store(space.ways, 4 * begin + 2 * own + n, forth * slope)
            d_interface[first] = total(d_back)
            d_interface[second] = total(d_forth)
        for mode in range(modes, modes + count):
            mean += interface[mode] * d_interface[mode]
        for mode in range(modes, modes + count):
            d_interface[mode] = interface[mode] * (d_interface[mode] - mean)


@inlined
def _links_backward(before, after, links, d_state, d_links, d_interface, space, sizes: Sizes):
    """Of all write heads: precedence, links, and where they lead."""
    at, heads, padded = places_of(sizes), sizes.heads, sizes.padded
    own, square, lanes = heads * padded, padded * padded, lane_count(after.memory)
    both = sizes.writes * own
    for write in range(sizes.writes):
        row, begin = write * padded, write * own
        reads = part(space.ways, 4 * begin, 2 * own)
        directions = part(space.ways, 4 * begin + 2 * own, 2 * own)
        if sizes.sharpness:
            for head in range(heads):
                place, line = at.sharpness + 2 * head, head * padded
                sharpen_backward(
                    after.blurred, begin + line, after.forward, begin + line, after.interface,
                    place, directions, line, d_interface, sizes.slots, padded,
                )  # fmt: skip
                sharpen_backward(
                    after.blurred, both + begin + line, after.backward, begin + line,
                    after.interface, place + 1, reads, own + line, d_interface, sizes.slots,
                    padded,
                )  # fmt: skip
        weights, last = part(after.write_weights, row, padded), part(before.precedence, row, padded)
        d_weights = part(d_state.write_weights, row, padded)
        d_precedence = part(d_state.precedence, row, padded)
        # p = (1 − Σ w) p' + w
        summed, dot = filled(weights, 0), filled(weights, 0)
        for n in range(0, padded, lanes):
            summed = summed + load(weights, n)
            dot = fma(load(last, n), load(d_precedence, n), dot)
        kept, loss = filled(weights, 1 - total(summed)), filled(weights, total(dot))
        for n in range(0, padded, lanes):
            slope = load(d_precedence, n)
            store(d_weights, n, load(d_weights, n) + slope - loss)
            store(d_precedence, n, kept * slope)
        links_backward(
            part(links, write * square, square), weights, last, reads, directions,
            part(d_links, write * square, square), d_weights, d_precedence, d_state.read_weights,
            space.block, heads, padded,
        )  # fmt: skip


@inlined
def _write_backward(before, after, d_memory, space, d_weights, d_interface, sizes: Sizes):
    """Of ``M = M' (1 − w eᵀ) + w vᵀ``, one write head; M' may be faded."""
    at, padded, interface = places_of(sizes), sizes.padded, after.interface
    fading = sizes.deallocation != 0
    fill(space.d_retention, 0, padded, 0.0)
    for w in range(sizes.words):
        erased, added = spread(interface, at.erase + w), spread(interface, at.add + w)
        d_erase = filled(interface, 0)
        d_add, row = d_erase, w * padded
        for n in range(0, padded, lane_count(interface)):
            weight, old = load(after.write_weights, n), load(before.memory, row + n)
            slope = load(d_memory, row + n) - load(after.memory, row + n) * load(space.shrink, n)
            weighted = slope * weight
            d_add = d_add + weighted
            whole, kept = old, weight
            if fading:
                kept = load(after.retention, n)
                old = old * kept
            d_erase = fma(weighted, old, d_erase)
            own = load(d_weights, n)
            store(d_weights, n, fma(slope, added - old * erased, own))
            slope = slope - weighted * erased
            if fading:
                faded = load(space.d_retention, n)
                store(space.d_retention, n, fma(slope, whole, faded))
                slope = slope * kept
            store(d_memory, row + n, slope)
        d_interface[at.erase + w] = -total(d_erase)
        d_interface[at.add + w] = total(d_add)


@inlined
def _spared(weights, interface, erase, n, without, sizes: Sizes):
    """``Π_h (1 − w_h e_h)`` of one word over all write heads but ``without``."""
    one = filled(weights, 1)
    spared = one
    for write in range(sizes.writes):
        if write != without:
            erased = spread(interface, erase + write * sizes.words)
            spared = spared * (one - load(weights, write * sizes.padded + n) * erased)
    return spared


@inlined
def _writes_backward(before, after, d_memory, space, d_weights, d_interface, sizes: Sizes):
    """As `_write_backward`, of several write heads."""
    at, padded, interface = places_of(sizes), sizes.padded, after.interface
    weights, lanes, fading = after.write_weights, lane_count(interface), sizes.deallocation != 0
    fill(space.d_retention, 0, padded, 0.0)
    for w in range(sizes.words):
        row = w * padded
        for n in range(0, padded, lanes):
            slope = load(d_memory, row + n) - load(after.memory, row + n) * load(space.shrink, n)
            store(d_memory, row + n, slope)
        for write in range(sizes.writes):
            place, line = write * sizes.words + w, write * padded
            erased, added = spread(interface, at.erase + place), spread(interface, at.add + place)
            d_erase = filled(interface, 0)
            d_add = d_erase
            for n in range(0, padded, lanes):
                weight, slope = load(weights, line + n), load(d_memory, row + n)
                old = load(before.memory, row + n)
                if fading:
                    old = old * load(after.retention, n)
                old = old * _spared(weights, interface, at.erase + w, n, write, sizes)
                d_add = fma(slope, weight, d_add)
                d_erase = fma(slope * weight, old, d_erase)
                own = load(d_weights, line + n)
                store(d_weights, line + n, fma(slope, added - old * erased, own))
            d_interface[at.erase + place] = -total(d_erase)
            d_interface[at.add + place] = total(d_add)
        for n in range(0, padded, lanes):
            slope = load(d_memory, row + n)
            slope = slope * _spared(weights, interface, at.erase + w, n, -1, sizes)
            if fading:
                faded = load(space.d_retention, n)
                store(space.d_retention, n, fma(slope, load(before.memory, row + n), faded))
                slope = slope * load(after.retention, n)
            store(d_memory, row + n, slope)


@inlined
def _write_weights_backward(after, order, d_state, d_interface, space, sizes: Sizes):
    """Of ``w = g_w (g_a a + (1 − g_a) c)`` and what each head takes; the last head first."""
    at, padded, writes, slots = places_of(sizes), sizes.padded, sizes.writes, sizes.slots
    interface, lanes, one = after.interface, lane_count(after.memory), filled(after.memory, 1)
    d_taken = space.d_taken
    fill(d_taken, 0, padded, 0.0)
    for write in range(writes - 1, -1, -1):
        row = write * padded
        d_weights, own = (
            part(d_state.write_weights, row, padded),
            part(after.allocation, row, padded),
        )
        used = after.usage
        if write > 0:
            used = part(after.taken, row - padded, padded)
        place, other = at.allocation_gates + write, at.write_gates + write
        write_gate, allocation_gate = spread(interface, other), spread(interface, place)
        taking = allocation_gate * write_gate
        d_write, d_allocate, d_taking = filled(one, 0), filled(one, 0), filled(one, 0)
        for n in range(0, padded, lanes):
            slope = load(d_weights, n)
            allocated, found = load(own, n), load(after.write_content, row + n)
            difference = allocated - found
            d_write = fma(slope, fma(allocation_gate, difference, found), d_write)
            d_allocate = fma(slope, difference, d_allocate)
            store(space.by_content, row + n, slope * write_gate * (one - allocation_gate))
            d_allocated = slope * write_gate * allocation_gate
            if write + 1 < writes:
                # u_{h+1} = u_h + (1 − u_h) g_a g_w a_h
                d_next = load(d_taken, n)
                free = d_next * (one - load(used, n))
                d_taking = fma(free, allocated, d_taking)
                d_allocated = fma(free, taking, d_allocated)
                store(d_taken, n, d_next * (one - taking * allocated))
            store(d_weights, n, d_allocated)
        gate, opened, taken = interface[place], interface[other], total(d_taking)
        d_gate = total(d_allocate) * opened + taken * opened
        d_interface[place] = d_gate * gate * (1 - gate)
        d_interface[other] = (total(d_write) + taken * gate) * opened * (1 - opened)
        allocation_backward(used, part(order, row, padded), d_weights, d_taken, space.block, slots)
    for n in range(0, padded, lanes):
        store(d_state.usage, n, load(d_state.usage, n) + load(d_taken, n))


@inlined
def _write_content_backward(before, after, d_memory, d_interface, space, sizes: Sizes):
    """Of the write heads' look-ups in the memory before the step."""
    at, words, padded, writes = places_of(sizes), sizes.words, sizes.padded, sizes.writes
    interface, lanes = after.interface, lane_count(after.memory)
    fill(space.shrink, 0, padded, 0.0)
    if sizes.masking:
        masked_content_backward(
            before.memory, after.write_norms, interface, at.write_keys, at.write_strengths,
            at.write_masks, after.write_cosines, after.write_content, space.by_content, 0,
            d_memory, d_interface, space.masked, writes, words, padded,
        )  # fmt: skip
        masked_keys(interface, at.write_keys, at.write_masks, space.factors, 0, writes * words)
    else:
        content_backward(
            before.memory, before.inverse_norms, interface, at.write_keys, at.write_strengths,
            after.write_cosines, after.write_content, space.by_content, 0, space.shrink,
            d_interface, writes, words, padded,
        )  # fmt: skip
        for i in range(writes * words):
            space.factors[i] = interface[at.write_keys + i]
    for w in range(words):
        key, row = spread(space.factors, w), w * padded
        for n in range(0, padded, lanes):
            slope = fma(key, load(space.by_content, n), load(d_memory, row + n))
            slope = slope - load(before.memory, row + n) * load(space.shrink, n)
            store(d_memory, row + n, slope)
        for write in range(1, writes):
            key = spread(space.factors, write * words + w)
            for n in range(0, padded, lanes):
                found = load(space.by_content, write * padded + n)
                store(d_memory, row + n, fma(key, found, load(d_memory, row + n)))


@inlined
def _deactivate(after, d_interface, sizes: Sizes):
    """From the gradients of an interface in its ranges to those of the vector."""
    at, heads, writes = places_of(sizes), sizes.heads, sizes.writes
    interface = after.interface
    for head in range(heads):
        d_interface[at.read_strengths + head] *= after.slopes[head]
    for write in range(writes):
        d_interface[at.write_strengths + write] *= after.slopes[heads + write]
    for i in range(at.erase, at.add):
        d_interface[i] *= interface[i] * (1 - interface[i])
    for i in range(at.free_gates, at.allocation_gates):
        d_interface[i] *= interface[i] * (1 - interface[i])
    # m = σ (1 − μ) + μ
    for i in range(at.read_masks, at.sharpness):
        share = (interface[i] - sizes.mask_minimum) * (1 - interface[i])
        d_interface[i] *= share / (1 - sizes.mask_minimum)
    for i in range(2 * heads * sizes.sharpness):
        d_interface[at.sharpness + i] *= after.slopes[heads + writes + i]


@inlined
def backward(
    before, after, order, links, d_reads, d_state, d_links, d_interface, work, sizes: Sizes
):  # fmt: skip
    """Gradients with respect to the state after become those before; ``d_interface`` is set.

    ``links`` [H, P, P] are those before the step. ``d_state`` is a record of which the state's
    fields are gradients; ``work`` holds `work_size` numbers, less H·P².
    """
    heads, words, padded, writes = sizes.heads, sizes.words, sizes.padded, sizes.writes
    lanes, own, at = lane_count(work), heads * padded, places_of(sizes)
    space, interface, d_memory = _work(work, sizes), after.interface, d_state.memory
    fill(d_interface, 0, sizes.interface, 0.0)
    fill(space.shrink, 0, padded, 0.0)

    # r = Mᵀ w
    multiply(
        d_reads, 0, words, 1, after.memory, 0, padded, 2 * lanes, d_state.read_weights, 0, padded,
        heads, words, padded, True,
    )  # fmt: skip
    for n in range(own):
        space.pairs[n] = after.read_weights[n]
        for write in range(writes):
            space.ways[4 * write * own + n] = before.read_weights[n]
            space.ways[(4 * write + 3) * own + n] = before.read_weights[n]
    _read_modes_backward(after, d_state.read_weights, space, d_interface, sizes)
    for n in range(heads * words):
        space.factors[n] = d_reads[n]
    if sizes.masking:
        masked_content_backward(
            after.memory, after.read_norms, interface, at.read_keys, at.read_strengths,
            at.read_masks, after.read_cosines, after.read_content, space.pairs, own, d_memory,
            d_interface, space.masked, heads, words, padded,
        )  # fmt: skip
        masked_keys(
            interface, at.read_keys, at.read_masks, space.factors, heads * words, heads * words
        )
    else:
        content_backward(
            after.memory, after.inverse_norms, interface, at.read_keys, at.read_strengths,
            after.read_cosines, after.read_content, space.pairs, own, space.shrink, d_interface,
            heads, words, padded,
        )  # fmt: skip
        for n in range(heads * words):
            space.factors[heads * words + n] = interface[n]
    multiply(
        space.factors, 0, 1, words, space.pairs, 0, padded, 2 * lanes, d_memory, 0, padded,
        words, 2 * heads, padded, True,
    )  # fmt: skip

    fill(d_state.read_weights, 0, own, 0.0)
    _links_backward(before, after, links, d_state, d_links, d_interface, space, sizes)
    if writes == 1:
        _write_backward(before, after, d_memory, space, d_state.write_weights, d_interface, sizes)
    else:
        _writes_backward(before, after, d_memory, space, d_state.write_weights, d_interface, sizes)
    _write_weights_backward(after, order, d_state, d_interface, space, sizes)
    _write_content_backward(before, after, d_memory, d_interface, space, sizes)
    usage_backward(
        before.usage, before.write_weights, before.read_weights, interface, at.free_gates,
        d_state.usage, space.d_retention, d_state.write_weights, d_state.read_weights, d_interface,
        heads, padded, writes, sizes.deallocation != 0,
    )  # fmt: skip
    _deactivate(after, d_interface, sizes)
