"""The DNC's step for one example, forward and backward: `memcore.dnc` in loops.

All that a step makes stands in one record, of which the first fields are what the next step needs.
[P] is a number for each slot, rounded up to whole registers, 0 beyond the last slot.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from memcore.kernels.allocation import (
    allocation_backward,
    allocation_weighting,
    ascending,
    usage,
    usage_backward,
)
from memcore.kernels.compiling import kernel
from memcore.kernels.content import content_backward, content_weighting
from memcore.kernels.functions import copy, fill, oneplus, oneplus_slope, sigmoids
from memcore.kernels.lanes import filled, fma, lane_count, load, part, spread, store, total
from memcore.kernels.links import links_backward, links_forward
from memcore.kernels.products import multiply, multiply_transposed
from memcore.kernels.sizes import Sizes

__all__ = [
    "DNCRecord",
    "backward",
    "fields",
    "forward",
    "gradient_size",
    "order_size",
    "record_size",
    "work_size",
]


class DNCRecord(NamedTuple):
    """One step's numbers; beside each, how many."""

    memory: Any  # W·P, by words
    usage: Any  # P
    precedence: Any  # P
    write_weights: Any  # P
    read_weights: Any  # R·P
    inverse_norms: Any  # P: of the memory's rows; the state ends here
    allocation: Any  # P
    write_content: Any  # P
    write_cosines: Any  # P
    read_content: Any  # R·P
    read_cosines: Any  # R·P
    forward: Any  # R·P
    backward: Any  # R·P
    interface: Any  # I, each part in its range
    slopes: Any  # R + 1: derivatives of the strengths


def gradient_size(sizes: Sizes) -> int:
    """How many numbers of a record a gradient with respect to the state takes."""
    return sizes.words * sizes.padded + (3 + sizes.heads) * sizes.padded


def work_size(sizes: Sizes) -> int:
    """How many numbers `backward` needs to work in, and then one more set of links."""
    own = (6 * sizes.heads + 7 + sizes.padded) * sizes.padded
    return own + 2 * sizes.heads * sizes.words + 16


def order_size(sizes: Sizes) -> int:
    """How many whole numbers a step keeps: the slots in the order of allocation."""
    return sizes.padded


def record_size(sizes: Sizes) -> int:
    """How many numbers a record takes, a multiple of a cache line."""
    count = gradient_size(sizes) + (4 + 4 * sizes.heads) * sizes.padded
    return (count + sizes.interface + sizes.heads + 1 + 2 * 16) // 16 * 16


@kernel
def fields(tape, at, sizes: Sizes):
    """The fields of the record that begins at ``tape[at]``."""
    padded, heads = sizes.padded, sizes.heads
    reads = heads * padded
    memory = part(tape, at, sizes.words * padded)
    at += sizes.words * padded
    used = part(tape, at, padded)
    precedence = part(tape, at + padded, padded)
    write_weights = part(tape, at + 2 * padded, padded)
    at += 3 * padded
    read_weights = part(tape, at, reads)
    at += reads
    inverse_norms = part(tape, at, padded)
    allocation = part(tape, at + padded, padded)
    write_content = part(tape, at + 2 * padded, padded)
    write_cosines = part(tape, at + 3 * padded, padded)
    at += 4 * padded
    read_content = part(tape, at, reads)
    read_cosines = part(tape, at + reads, reads)
    forward = part(tape, at + 2 * reads, reads)
    backward = part(tape, at + 3 * reads, reads)
    at += 4 * reads
    interface = part(tape, at, sizes.interface)
    slopes = part(tape, at + sizes.interface, heads + 1)
    return DNCRecord(
        memory, used, precedence, write_weights, read_weights, inverse_norms, allocation,
        write_content, write_cosines, read_content, read_cosines, forward, backward, interface,
        slopes,
    )  # fmt: skip


@kernel
def _parts(sizes: Sizes):
    """Where in the interface vector each part begins, in the order of `memcore.DNCInterface`."""
    words, heads = sizes.words, sizes.heads
    strengths = heads * words
    write_key = strengths + heads
    write_strength = write_key + words
    erase = write_strength + 1
    add = erase + words
    free_gates = add + words
    allocation_gate = free_gates + heads
    return strengths, write_key, write_strength, erase, add, free_gates, allocation_gate


@kernel
def _activate(vector, interface, slopes, scratch, sizes: Sizes):
    """`memcore.dnc.parse_interface`."""
    strengths, _, write_strength, erase, add, free_gates, allocation_gate = _parts(sizes)
    for i in range(sizes.interface):
        interface[i] = vector[i]
    for head in range(sizes.heads):
        interface[strengths + head] = oneplus(vector[strengths + head])
        slopes[head] = oneplus_slope(vector[strengths + head])
    interface[write_strength] = oneplus(vector[write_strength])
    slopes[sizes.heads] = oneplus_slope(vector[write_strength])
    sigmoids(vector, scratch, erase, sizes.words)
    copy(scratch, interface, erase, add)
    sigmoids(vector, scratch, free_gates, sizes.heads + 2)
    modes = allocation_gate + 2
    copy(scratch, interface, free_gates, modes)
    for head in range(sizes.heads):
        at = modes + 3 * head
        top = max(vector[at], vector[at + 1], vector[at + 2])
        summed = 0.0
        for mode in range(at, at + 3):
            interface[mode] = math.exp(vector[mode] - top)
            summed += interface[mode]
        for mode in range(at, at + 3):
            interface[mode] /= summed


@kernel
def _write(before, after, erase, add, sizes: Sizes):
    """``M = M' (1 − w eᵀ) + w vᵀ``, and the norms of its rows."""
    padded, weights, norms = sizes.padded, after.write_weights, after.inverse_norms
    fill(norms, 0, padded, 0.0)
    for w in range(sizes.words):
        erased, added = spread(after.interface, erase + w), spread(after.interface, add + w)
        row = w * padded
        for n in range(0, padded, lane_count(norms)):
            weight, old = load(weights, n), load(before.memory, row + n)
            new = fma(weight, added - old * erased, old)
            store(after.memory, row + n, new)
            store(norms, n, fma(new, new, load(norms, n)))
    for n in range(padded):
        norms[n] = 1 / math.sqrt(norms[n] + 1e-6)


@kernel
def forward(
    before, after, order, links_before, links_after, vector, reads, scratch, sizes: Sizes
):  # fmt: skip
    """One step: from the record ``before`` and an interface vector to ``after`` and ``reads``.

    ``order`` [N] holds the slots in the order of the step before, and of this one afterwards.
    """
    heads, words, slots, padded = sizes.heads, sizes.words, sizes.slots, sizes.padded
    lanes = lane_count(reads)
    strengths, write_key, write_strength, erase, add, free_gates, gates = _parts(sizes)
    interface, weights = after.interface, after.write_weights
    _activate(vector, interface, after.slopes, scratch, sizes)
    usage(
        before.usage, before.write_weights, before.read_weights, interface, free_gates,
        after.usage, heads, padded,
    )  # fmt: skip
    ascending(after.usage, order, slots)
    allocation_weighting(after.usage, order, after.allocation, slots, padded)
    content_weighting(
        before.memory, before.inverse_norms, interface, write_key, write_strength,
        after.write_cosines, after.write_content, 1, words, slots, padded,
    )  # fmt: skip
    by_allocation, by_content = filled(reads, 0), filled(reads, 0)
    by_allocation = spread(interface, gates) * spread(interface, gates + 1)
    by_content = (filled(reads, 1) - spread(interface, gates)) * spread(interface, gates + 1)
    summed = filled(reads, 0)
    for n in range(0, padded, lanes):
        weight = by_allocation * load(after.allocation, n) + by_content * load(
            after.write_content, n
        )
        summed = summed + weight
        store(weights, n, weight)
    _write(before, after, erase, add, sizes)
    links_forward(
        links_before, links_after, weights, before.precedence, before.read_weights,
        after.forward, after.backward, heads, padded,
    )  # fmt: skip
    kept = filled(reads, 1 - total(summed))
    for n in range(0, padded, lanes):
        store(after.precedence, n, fma(kept, load(before.precedence, n), load(weights, n)))
    content_weighting(
        after.memory, after.inverse_norms, interface, 0, strengths, after.read_cosines,
        after.read_content, heads, words, slots, padded,
    )  # fmt: skip
    modes = gates + 2
    for head in range(heads):
        back, by_content = spread(interface, modes), spread(interface, modes + 1)
        forth = spread(interface, modes + 2)
        modes += 3
        for n in range(head * padded, (head + 1) * padded, lanes):
            found = by_content * load(after.read_content, n)
            found = fma(back, load(after.backward, n), found)
            store(after.read_weights, n, fma(forth, load(after.forward, n), found))
    fill(reads, 0, heads * words, 0.0)
    multiply_transposed(
        after.read_weights, 0, padded, after.memory, 0, padded, reads, 0, words, 1,
        heads, words, padded,
    )  # fmt: skip


@kernel
def _read_modes_backward(after, gradient, pairs, reads, directions, d_interface, modes, sizes):
    """Split the gradient of the read weights over the three ways of reading."""
    heads, padded = sizes.heads, sizes.padded
    interface, own = after.interface, heads * padded
    for head in range(heads):
        at = modes + 3 * head
        back, by_content = spread(interface, at), spread(interface, at + 1)
        forth = spread(interface, at + 2)
        d_back = filled(interface, 0)
        d_content, d_forth = d_back, d_back
        for n in range(head * padded, (head + 1) * padded, lane_count(interface)):
            slope = load(gradient, n)
            d_back = fma(slope, load(after.backward, n), d_back)
            d_content = fma(slope, load(after.read_content, n), d_content)
            d_forth = fma(slope, load(after.forward, n), d_forth)
            store(reads, own + n, back * slope)
            store(pairs, own + n, by_content * slope)
            store(directions, n, forth * slope)
        slopes = total(d_back), total(d_content), total(d_forth)
        mean = interface[at] * slopes[0] + interface[at + 1] * slopes[1]
        mean += interface[at + 2] * slopes[2]
        for mode in range(3):
            d_interface[at + mode] = interface[at + mode] * (slopes[mode] - mean)


@kernel
def _write_backward(
    before, after, d_memory, shrink, d_write_weights, d_interface, erase, add, sizes
):
    padded, interface = sizes.padded, after.interface
    for w in range(sizes.words):
        erased, added = spread(interface, erase + w), spread(interface, add + w)
        d_erase = filled(interface, 0)
        d_add, row = d_erase, w * padded
        for n in range(0, padded, lane_count(interface)):
            weight, old = load(after.write_weights, n), load(before.memory, row + n)
            slope = load(d_memory, row + n) - load(after.memory, row + n) * load(shrink, n)
            weighted = slope * weight
            d_add = d_add + weighted
            d_erase = fma(weighted, old, d_erase)
            own = load(d_write_weights, n)
            store(d_write_weights, n, fma(slope, added - old * erased, own))
            store(d_memory, row + n, slope - weighted * erased)
        d_interface[erase + w] = -total(d_erase)
        d_interface[add + w] = total(d_add)


@kernel
def backward(
    before, after, order, links, d_reads, d_state, d_links, d_interface, work, sizes: Sizes
):  # fmt: skip
    """Gradients with respect to the state after become those before; ``d_interface`` is set.

    ``links`` are those before the step. ``d_state`` is a record of which the state's fields are
    gradients; ``work`` holds `work_size` numbers, less P².
    """
    heads, words, slots, padded = sizes.heads, sizes.words, sizes.slots, sizes.padded
    lanes = lane_count(work)
    strengths, write_key, write_strength, erase, add, free_gates, gates = _parts(sizes)
    interface, weights, own = after.interface, after.write_weights, heads * padded
    pairs = part(work, 0, 2 * own)  # read weights, gradient of their content
    reads = part(work, 2 * own, 2 * own)  # read weights before, gradient of backward
    directions = part(work, 4 * own, 2 * own)  # gradient of forward, read weights before
    at = 6 * own
    shrink, by_content = part(work, at, padded), part(work, at + padded, padded)
    products = part(work, at + 2 * padded, padded)
    block = part(work, at + 3 * padded, 4 * padded)
    factors = part(work, at + 7 * padded, 2 * heads * words)
    d_memory, d_weights = d_state.memory, d_state.write_weights
    fill(d_interface, 0, sizes.interface, 0.0)
    fill(shrink, 0, padded, 0.0)

    # r = Mᵀ w
    multiply(
        d_reads, 0, words, 1, after.memory, 0, padded, 2 * lanes, d_state.read_weights, 0, padded,
        heads, words, padded, True,
    )  # fmt: skip
    for n in range(own):
        pairs[n] = after.read_weights[n]
        reads[n] = before.read_weights[n]
        directions[own + n] = before.read_weights[n]
    _read_modes_backward(
        after, d_state.read_weights, pairs, reads, directions, d_interface, gates + 2, sizes
    )
    content_backward(
        after.memory, after.inverse_norms, interface, 0, strengths, after.read_cosines,
        after.read_content, pairs, own, shrink, d_interface, heads, words, padded,
    )  # fmt: skip
    for n in range(heads * words):
        factors[n] = d_reads[n]
        factors[heads * words + n] = interface[n]
    multiply(
        factors, 0, 1, words, pairs, 0, padded, 2 * lanes, d_memory, 0, padded,
        words, 2 * heads, padded, True,
    )  # fmt: skip

    # p = (1 − Σ w) p' + w
    summed, dot = filled(work, 0), filled(work, 0)
    for n in range(0, padded, lanes):
        summed = summed + load(weights, n)
        dot = fma(load(before.precedence, n), load(d_state.precedence, n), dot)
    kept, loss = filled(work, 1 - total(summed)), filled(work, total(dot))
    for n in range(0, padded, lanes):
        slope = load(d_state.precedence, n)
        store(d_weights, n, load(d_weights, n) + slope - loss)
        store(d_state.precedence, n, kept * slope)
    fill(d_state.read_weights, 0, own, 0.0)
    links_backward(
        links, weights, before.precedence, reads, directions, d_links, d_weights,
        d_state.precedence, d_state.read_weights, block, heads, padded,
    )  # fmt: skip
    _write_backward(before, after, d_memory, shrink, d_weights, d_interface, erase, add, sizes)

    # w = g_w (g_a a + (1 − g_a) c)
    one = filled(work, 1)
    write_gate, allocation_gate = spread(interface, gates + 1), spread(interface, gates)
    d_write, d_allocate = filled(work, 0), filled(work, 0)
    for n in range(0, padded, lanes):
        slope = load(d_weights, n)
        allocated, found = load(after.allocation, n), load(after.write_content, n)
        difference = allocated - found
        d_write = fma(slope, fma(allocation_gate, difference, found), d_write)
        d_allocate = fma(slope, difference, d_allocate)
        store(by_content, n, slope * write_gate * (one - allocation_gate))
        store(d_weights, n, slope * write_gate * allocation_gate)
        store(shrink, n, filled(work, 0))
    gate, write = interface[gates], interface[gates + 1]
    d_interface[gates] = total(d_allocate) * write * gate * (1 - gate)
    d_interface[gates + 1] = total(d_write) * write * (1 - write)
    content_backward(
        before.memory, before.inverse_norms, interface, write_key, write_strength,
        after.write_cosines, after.write_content, by_content, 0, shrink, d_interface,
        1, words, padded,
    )  # fmt: skip
    for w in range(words):
        key = spread(interface, write_key + w)
        for n in range(0, padded, lanes):
            slope = fma(key, load(by_content, n), load(d_memory, w * padded + n))
            slope = slope - load(before.memory, w * padded + n) * load(shrink, n)
            store(d_memory, w * padded + n, slope)
    allocation_backward(after.usage, order, d_weights, d_state.usage, products, slots)
    usage_backward(
        before.usage, before.write_weights, before.read_weights, interface, free_gates,
        d_state.usage, d_weights, d_state.read_weights, d_interface, heads, padded,
    )  # fmt: skip

    for head in range(heads):
        d_interface[strengths + head] *= after.slopes[head]
    d_interface[write_strength] *= after.slopes[heads]
    for i in range(erase, add):
        d_interface[i] *= interface[i] * (1 - interface[i])
    for i in range(free_gates, free_gates + heads):
        d_interface[i] *= interface[i] * (1 - interface[i])
