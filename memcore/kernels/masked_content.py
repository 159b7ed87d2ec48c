"""Masked content addressing: `memcore.masked_content_weighting` for one example.

As `memcore.kernels.content`, where each key has a mask [W], and rows have other norms for each key.
With ``s = m²`` the product of what is shown of key and row is ``Σ k s M``, their squares ``Σ k² s``
and ``Σ s M²``.
"""

from __future__ import annotations

import math

from memcore.kernels.compiling import kernel
from memcore.kernels.content import NORM_EPSILON, softmax
from memcore.kernels.functions import fill
from memcore.kernels.lanes import filled, fma, lane_count, load, spread, store, total
from memcore.kernels.products import multiply, multiply_transposed

__all__ = ["masked_content_backward", "masked_content_weighting", "masked_keys"]


@kernel
def masked_keys(interface, keys, masks, target, at, count):
    """``k m²`` of ``count`` numbers, into ``target[at:]``."""
    for i in range(count):
        mask = interface[masks + i]
        target[at + i] = interface[keys + i] * mask * mask


@kernel
def _inverse_key_norm(interface, key, mask, words):
    squared = 0.0
    for w in range(words):
        shown = interface[key + w] * interface[mask + w]
        squared += shown * shown
    return 1 / math.sqrt(squared + NORM_EPSILON)


@kernel
def _inverse_norms(memory, interface, mask, inverse, row, words, padded):
    """``1 / √(Σ s M² + ε)`` of each slot, as one mask shows it."""
    fill(inverse, row, row + padded, 0.0)
    for w in range(words):
        shown = spread(interface, mask + w)
        square = shown * shown
        for n in range(0, padded, lane_count(memory)):
            value = load(memory, w * padded + n)
            store(inverse, row + n, fma(square, value * value, load(inverse, row + n)))
    for n in range(row, row + padded):
        inverse[n] = 1 / math.sqrt(inverse[n] + NORM_EPSILON)


@kernel
def masked_content_weighting(
    memory, interface, keys, strengths, masks, cosines, inverse, weights, scratch, heads, words,
    slots, padded,
):  # fmt: skip
    """``softmax(β cos(k∘m, M∘m))`` into ``weights``; cosines, norms and weights are [heads, P].

    ``scratch`` has room for a number of each key.
    """
    lanes = lane_count(memory)
    masked_keys(interface, keys, masks, scratch, 0, heads * words)
    multiply(
        scratch, 0, words, 1, memory, 0, padded, 2 * lanes, cosines, 0, padded,
        heads, words, padded, False,
    )  # fmt: skip
    for head in range(heads):
        row, own = head * padded, head * words
        _inverse_norms(memory, interface, masks + own, inverse, row, words, padded)
        scale = filled(memory, _inverse_key_norm(interface, keys + own, masks + own, words))
        strength = spread(interface, strengths + head)
        for n in range(row, row + padded, lanes):
            cosine = load(cosines, n) * scale * load(inverse, n)
            store(cosines, n, cosine)
            store(weights, n, cosine * strength)
        softmax(weights, row, slots, padded)


@kernel
def masked_content_backward(
    memory, inverse, interface, keys, strengths, masks, cosines, weights, gradient, gradient_at,
    d_memory, d_interface, work, heads, words, padded,
):  # fmt: skip
    """From the gradient of the weights to those of keys, strengths and masks, which grow.

    ``gradient[gradient_at:]`` [heads, P] is that of the weights; in its place comes X, with which
    the gradient of the memory is ``Qᵀ X``, Q the `masked_keys`, and what is done here to
    ``d_memory``. ``work`` has room for heads·(P + W + 1) numbers.
    """
    lanes, products = lane_count(memory), heads * padded
    factors = products + heads * words
    for head in range(heads):
        row, place, own = head * padded, gradient_at + head * padded, head * words
        dot = filled(memory, 0)
        for n in range(0, padded, lanes):
            dot = fma(load(weights, row + n), load(gradient, place + n), dot)
        mean, along = filled(memory, total(dot)), filled(memory, 0)
        key_norm = _inverse_key_norm(interface, keys + own, masks + own, words)
        scale = filled(memory, key_norm)
        strength = spread(interface, strengths + head)
        for n in range(0, padded, lanes):
            cosine, norm = load(cosines, row + n), load(inverse, row + n)
            d_score = load(weights, row + n) * (load(gradient, place + n) - mean)
            along = fma(d_score, cosine, along)
            d_product = d_score * strength * norm
            store(gradient, place + n, d_product * scale)
            store(work, row + n, d_product * norm * cosine)
        d_strength = total(along)
        d_interface[strengths + head] += d_strength
        work[factors + head] = d_strength * interface[strengths + head] * key_norm * key_norm
    fill(work, products, factors, 0.0)
    multiply_transposed(
        gradient, gradient_at, padded, memory, 0, padded, work, products, words, 1,
        heads, words, padded,
    )  # fmt: skip
    for head in range(heads):
        factor = work[factors + head]
        for w in range(words):
            i = head * words + w
            key, mask = interface[keys + i], interface[masks + i]
            shown = spread(interface, masks + i)
            square, squares = shown * shown, filled(memory, 0)
            for n in range(0, padded, lanes):
                value = load(memory, w * padded + n)
                shrunk = load(work, head * padded + n) * value
                squares = fma(shrunk, value, squares)
                slope = load(d_memory, w * padded + n)
                store(d_memory, w * padded + n, slope - square * shrunk)
            d_key = work[products + i]
            d_interface[keys + i] += (d_key - factor * key) * mask * mask
            d_square = d_key * key - 0.5 * (total(squares) + factor * key * key)
            d_interface[masks + i] += 2 * mask * d_square
