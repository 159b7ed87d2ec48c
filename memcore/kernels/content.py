"""Content addressing: `memcore.content` for one example, forward and backward.

The memory stands by words: element w of slot n at ``w·P + n``, where P is the number of slots,
rounded up to whole registers. What belongs to slots beyond the last is 0.
"""

from __future__ import annotations

import math

from memcore.kernels.compiling import kernel
from memcore.kernels.functions import exponential, fill
from memcore.kernels.lanes import (
    filled,
    fma,
    lane_count,
    larger,
    largest,
    load,
    spread,
    store,
    total,
)
from memcore.kernels.products import multiply, multiply_transposed

__all__ = ["content_backward", "content_weighting", "inverse_norms", "softmax"]

NORM_EPSILON = 1e-6  # that of memcore.numerics


@kernel
def inverse_norms(memory, target, words, padded):
    """``1 / √(|m|² + ε)`` of each slot."""
    lanes = lane_count(memory)
    for n in range(0, padded, lanes):
        squared = filled(memory, 0)
        for w in range(words):
            row = load(memory, w * padded + n)
            squared = fma(row, row, squared)
        store(target, n, squared)
    for n in range(padded):
        target[n] = 1 / math.sqrt(target[n] + NORM_EPSILON)


@kernel
def _inverse_key_norm(interface, key, words):
    squared = 0.0
    for w in range(words):
        squared += interface[key + w] * interface[key + w]
    return 1 / math.sqrt(squared + NORM_EPSILON)


@kernel
def softmax(weights, row, slots, padded):
    """Of ``weights[row : row + slots]``, in place; beyond that comes 0."""
    lanes = lane_count(weights)
    fill(weights, row + slots, row + padded, -math.inf)
    top = filled(weights, -math.inf)
    for n in range(row, row + padded, lanes):
        top = larger(load(weights, n), top)
    most, summed = filled(weights, largest(top)), filled(weights, 0)
    for n in range(row, row + padded, lanes):
        weight = exponential(load(weights, n) - most)
        summed = summed + weight
        store(weights, n, weight)
    share = filled(weights, 1 / total(summed))
    for n in range(row, row + padded, lanes):
        store(weights, n, load(weights, n) * share)
    fill(weights, row + slots, row + padded, 0.0)


@kernel
def content_weighting(
    memory, inverse, interface, keys, strengths, cosines, weights, heads, words, slots, padded
):  # fmt: skip
    """``softmax(β cos(k, m))`` into ``weights``, the cosines into ``cosines``; both [heads, P].

    Keys begin at ``interface[keys]``, strengths at ``interface[strengths]``.
    """
    lanes = lane_count(memory)
    multiply(
        interface, keys, words, 1, memory, 0, padded, 2 * lanes, cosines, 0, padded,
        heads, words, padded, False,
    )  # fmt: skip
    for head in range(heads):
        row = head * padded
        scale = filled(memory, _inverse_key_norm(interface, keys + head * words, words))
        strength = spread(interface, strengths + head)
        for n in range(row, row + padded, lanes):
            cosine = load(cosines, n) * scale * load(inverse, n - row)
            store(cosines, n, cosine)
            store(weights, n, cosine * strength)
        softmax(weights, row, slots, padded)


@kernel
def content_backward(
    memory, inverse, interface, keys, strengths, cosines, weights, gradient, gradient_at, shrink,
    d_interface, heads, words, padded,
):  # fmt: skip
    """From the gradient of the weights to those of keys and strengths.

    ``gradient[gradient_at:]`` [heads, P] is that of the weights; in its place comes X, with which
    the gradient of the memory is ``Kᵀ X − M ∘ shrink``. To ``shrink`` [P] the heads' share is
    added, to ``d_interface`` the gradients of keys and of strengths.
    """
    lanes = lane_count(memory)
    for head in range(heads):
        row, place, key = head * padded, gradient_at + head * padded, keys + head * words
        dot = filled(memory, 0)
        for n in range(0, padded, lanes):
            dot = fma(load(weights, row + n), load(gradient, place + n), dot)
        mean = filled(memory, total(dot))
        key_norm = _inverse_key_norm(interface, key, words)
        scale = filled(memory, key_norm)
        strength = spread(interface, strengths + head)
        along = filled(memory, 0)
        for n in range(0, padded, lanes):
            cosine, norm = load(cosines, row + n), load(inverse, n)
            d_score = load(weights, row + n) * (load(gradient, place + n) - mean)
            along = fma(d_score, cosine, along)
            d_product = d_score * strength * norm
            store(gradient, place + n, d_product * scale)
            store(shrink, n, fma(d_product * norm, cosine, load(shrink, n)))
        d_strength = total(along)
        d_interface[strengths + head] += d_strength
        factor = d_strength * interface[strengths + head] * key_norm * key_norm
        for w in range(words):
            d_interface[key + w] -= factor * interface[key + w]
    multiply_transposed(
        gradient, gradient_at, padded, memory, 0, padded, d_interface, keys, words, 1,
        heads, words, padded,
    )  # fmt: skip
