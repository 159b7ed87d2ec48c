"""DAM's step for one example, forward and backward: `memcore.dam` in loops.

Records as in `memcore.kernels.dnc`. No gradient flows through the usage.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from memcore.kernels.compiling import kernel
from memcore.kernels.content import content_backward, content_weighting
from memcore.kernels.functions import copy, fill, oneplus, oneplus_slope, sigmoids
from memcore.kernels.lanes import filled, fma, lane_count, load, part, spread, store, total
from memcore.kernels.masked_content import (
    masked_content_backward,
    masked_content_weighting,
    masked_keys,
)
from memcore.kernels.products import multiply, multiply_transposed
from memcore.kernels.sizes import Sizes

__all__ = [
    "DAMRecord",
    "backward",
    "fields",
    "forward",
    "gradient_size",
    "order_size",
    "record_size",
    "work_size",
]

USAGE_DECAY = 0.99  # that of memcore.dam


class DAMRecord(NamedTuple):
    """One step's numbers; beside each, how many."""

    memory: Any  # W·P, by words
    usage: Any  # P
    write_weights: Any  # P
    read_weights: Any  # R·P
    inverse_norms: Any  # P: of the memory's rows; the state ends here
    read_cosines: Any  # R·P
    interface: Any  # I, each part in its range
    slopes: Any  # R: derivatives of the strengths
    read_norms: Any  # R·P, with masking: of the rows, inverse, as masks show them


def gradient_size(sizes: Sizes) -> int:
    """How many numbers of a record a gradient with respect to the state takes."""
    return sizes.words * sizes.padded + (2 + sizes.heads) * sizes.padded


def work_size(sizes: Sizes) -> int:
    """How many numbers `backward` needs to work in."""
    own = (2 * sizes.heads + 1) * sizes.padded + 2 * sizes.heads * sizes.words + 16
    return own + sizes.masking * sizes.heads * (sizes.padded + sizes.words + 1)


def order_size(sizes: Sizes) -> int:
    """How many whole numbers a step keeps: the slot that was erased."""
    return 1


def record_size(sizes: Sizes) -> int:
    """How many numbers a record takes, a multiple of a cache line."""
    count = gradient_size(sizes) + (1 + sizes.heads * (1 + sizes.masking)) * sizes.padded
    return (count + sizes.interface + sizes.heads + 2 * 16) // 16 * 16


@kernel
def fields(tape, at, sizes: Sizes):
    """The fields of the record that begins at ``tape[at]``."""
    padded, reads = sizes.padded, sizes.heads * sizes.padded
    memory = part(tape, at, sizes.words * padded)
    at += sizes.words * padded
    used, write_weights = part(tape, at, padded), part(tape, at + padded, padded)
    at += 2 * padded
    read_weights = part(tape, at, reads)
    inverse_norms = part(tape, at + reads, padded)
    at += reads + padded
    cosines = part(tape, at, reads)
    interface = part(tape, at + reads, sizes.interface)
    at += reads + sizes.interface
    slopes = part(tape, at, sizes.heads)
    read_norms = part(tape, at + sizes.heads, sizes.masking * reads)
    return DAMRecord(
        memory, used, write_weights, read_weights, inverse_norms, cosines, interface, slopes,
        read_norms,
    )  # fmt: skip


@kernel
def _least_used(used, slots):
    """The least used slot: the first that is NaN, else the lowest of the smallest."""
    least = 0
    for slot in range(slots):
        if used[slot] != used[slot]:
            return slot
        if used[slot] < used[least]:
            least = slot
    return least


@kernel
def _activate(vector, interface, slopes, scratch, sizes: Sizes):
    """`memcore.sam_interface.parse_interface`."""
    strengths = sizes.heads * sizes.words
    gates = strengths + sizes.heads + sizes.words
    for i in range(gates):
        interface[i] = vector[i]
    for head in range(sizes.heads):
        interface[strengths + head] = oneplus(vector[strengths + head]) * sizes.temperature
        slopes[head] = oneplus_slope(vector[strengths + head]) * sizes.temperature
    sigmoids(vector, scratch, gates, 2)
    copy(scratch, interface, gates, gates + 2)
    if sizes.masking:
        masks = gates + 2
        sigmoids(vector, scratch, masks, strengths)
        for i in range(masks, masks + strengths):
            interface[i] = scratch[i] * (1 - sizes.mask_minimum) + sizes.mask_minimum


@kernel
def forward(before, after, chosen, vector, reads, scratch, sizes: Sizes):
    """One step: from the record ``before`` and an interface vector to ``after`` and ``reads``.

    ``chosen[0]`` is set to the slot that was erased.
    """
    heads, words, padded = sizes.heads, sizes.words, sizes.padded
    interface, weights, norms = after.interface, after.write_weights, after.inverse_norms
    lanes, strengths = lane_count(reads), heads * words
    add = strengths + heads
    _activate(vector, interface, after.slopes, scratch, sizes)
    least = _least_used(before.usage, sizes.slots)
    chosen[0] = least
    alpha, gamma = interface[add + words], interface[add + words + 1]
    share = filled(reads, alpha * gamma / heads)
    for n in range(0, padded, lanes):
        recent = load(before.read_weights, n)
        for head in range(1, heads):
            recent = recent + load(before.read_weights, head * padded + n)
        store(weights, n, share * recent)
    weights[least] += alpha * (1 - gamma)
    fill(norms, 0, padded, 0.0)
    for w in range(words):
        added, row = spread(interface, add + w), w * padded
        for n in range(0, padded, lanes):
            store(after.memory, row + n, fma(load(weights, n), added, load(before.memory, row + n)))
        after.memory[row + least] = weights[least] * interface[add + w]
        for n in range(0, padded, lanes):
            new = load(after.memory, row + n)
            store(norms, n, fma(new, new, load(norms, n)))
    for n in range(padded):
        norms[n] = 1 / math.sqrt(norms[n] + 1e-6)
    if sizes.masking:
        masked_content_weighting(
            after.memory, interface, 0, strengths, add + words + 2, after.read_cosines,
            after.read_norms, after.read_weights, scratch, heads, words, sizes.slots, padded,
        )  # fmt: skip
    else:
        content_weighting(
            after.memory, norms, interface, 0, strengths, after.read_cosines, after.read_weights,
            heads, words, sizes.slots, padded,
        )  # fmt: skip
    decay = filled(reads, USAGE_DECAY)
    for n in range(0, padded, lanes):
        accessed = load(weights, n)
        for head in range(heads):
            accessed = accessed + load(after.read_weights, head * padded + n)
        store(after.usage, n, fma(decay, load(before.usage, n), accessed))
    fill(reads, 0, heads * words, 0.0)
    multiply_transposed(
        after.read_weights, 0, padded, after.memory, 0, padded, reads, 0, words, 1,
        heads, words, padded,
    )  # fmt: skip


@kernel
def backward(before, after, chosen, d_reads, d_state, d_interface, work, sizes: Sizes):
    """Gradients with respect to the state after become those before; ``d_interface`` is set.

    ``d_state`` is a record of which the state's fields are gradients; ``work`` holds `work_size`
    numbers.
    """
    heads, words, padded = sizes.heads, sizes.words, sizes.padded
    interface, weights, own = after.interface, after.write_weights, heads * padded
    lanes, strengths, least = lane_count(work), heads * words, chosen[0]
    add = strengths + heads
    pairs, shrink = part(work, 0, 2 * own), part(work, 2 * own, padded)
    factors = part(work, 2 * own + padded, 2 * heads * words)
    d_memory, d_weights, d_recent = d_state.memory, d_state.write_weights, d_state.read_weights
    fill(d_interface, 0, sizes.interface, 0.0)
    fill(shrink, 0, padded, 0.0)

    # r = Mᵀ w
    multiply(
        d_reads, 0, words, 1, after.memory, 0, padded, 2 * lanes, d_recent, 0, padded,
        heads, words, padded, True,
    )  # fmt: skip
    for n in range(own):
        pairs[n] = after.read_weights[n]
        pairs[own + n] = d_recent[n]
    masks = add + words + 2
    if sizes.masking:
        at = 2 * own + padded + 2 * heads * words
        masked_content_backward(
            after.memory, after.read_norms, interface, 0, strengths, masks, after.read_cosines,
            after.read_weights, pairs, own, d_memory, d_interface,
            part(work, at, heads * (padded + words + 1)), heads, words, padded,
        )  # fmt: skip
        masked_keys(interface, 0, masks, factors, heads * words, heads * words)
    else:
        content_backward(
            after.memory, after.inverse_norms, interface, 0, strengths, after.read_cosines,
            after.read_weights, pairs, own, shrink, d_interface, heads, words, padded,
        )  # fmt: skip
        for n in range(heads * words):
            factors[heads * words + n] = interface[n]
    for n in range(heads * words):
        factors[n] = d_reads[n]
    multiply(
        factors, 0, 1, words, pairs, 0, padded, 2 * lanes, d_memory, 0, padded,
        words, 2 * heads, padded, True,
    )  # fmt: skip

    # the row that was erased holds what was added only
    for w in range(words):
        added, d_add, row = spread(interface, add + w), filled(work, 0), w * padded
        for n in range(0, padded, lanes):
            slope = load(d_memory, row + n) - load(after.memory, row + n) * load(shrink, n)
            d_add = fma(slope, load(weights, n), d_add)
            store(d_weights, n, fma(slope, added, load(d_weights, n)))
            store(d_memory, row + n, slope)
        d_interface[add + w] = total(d_add)
        d_memory[row + least] = 0

    # w = α (γ mean_r w_r + (1 − γ) 1[least])
    alpha, gamma = interface[add + words], interface[add + words + 1]
    share, along = filled(work, alpha * gamma / heads), filled(work, 0)
    for n in range(0, padded, lanes):
        slope = load(d_weights, n)
        recent = load(before.read_weights, n)
        for head in range(1, heads):
            recent = recent + load(before.read_weights, head * padded + n)
        along = fma(slope, recent, along)
        for head in range(heads):
            store(d_recent, head * padded + n, share * slope)
    recent, erased = total(along) / heads, d_weights[least]
    d_alpha = gamma * recent + (1 - gamma) * erased
    d_interface[add + words] = d_alpha * alpha * (1 - alpha)
    d_interface[add + words + 1] = alpha * (recent - erased) * gamma * (1 - gamma)
    fill(d_weights, 0, padded, 0.0)
    for head in range(heads):
        d_interface[strengths + head] *= after.slopes[head]
    # m = σ (1 − μ) + μ
    for i in range(masks, masks + heads * words * sizes.masking):
        share = (interface[i] - sizes.mask_minimum) * (1 - interface[i])
        d_interface[i] *= share / (1 - sizes.mask_minimum)
