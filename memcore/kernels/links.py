"""Temporal links: `memcore.linkage` for one example, forward and backward.

Links [P, P] are by far the largest part of a step. They are gone over in blocks of four rows that
stay in the nearest cache; what lies beyond the last slot is 0.
"""

from __future__ import annotations

from memcore.kernels.compiling import kernel
from memcore.kernels.lanes import filled, fma, lane_count, load, spread, store, total
from memcore.kernels.products import multiply, multiply_transposed

__all__ = ["links_backward", "links_forward"]

ROWS = 4  # of a block; the number of slots is rounded up to a multiple


@kernel
def links_forward(
    before, after, write_weights, precedence, read_weights, forward, backward, heads, padded
):  # fmt: skip
    """``L = (1 − w_i − w_j) L' + w_i p'_j``, then ``forward = L w_r``, ``backward = Lᵀ w_r``.

    ``after`` may be ``before``. With no ``heads`` only the links are made.
    """
    lanes = lane_count(before)
    one = filled(before, 1)
    forward[: heads * padded] = 0
    backward[: heads * padded] = 0
    for first in range(0, padded, ROWS):
        row0, row1 = first * padded, (first + 1) * padded
        row2, row3 = (first + 2) * padded, (first + 3) * padded
        w0, w1 = spread(write_weights, first), spread(write_weights, first + 1)
        w2, w3 = spread(write_weights, first + 2), spread(write_weights, first + 3)
        for j in range(0, padded, lanes):
            kept, last = one - load(write_weights, j), load(precedence, j)
            store(after, row0 + j, fma(kept - w0, load(before, row0 + j), w0 * last))
            store(after, row1 + j, fma(kept - w1, load(before, row1 + j), w1 * last))
            store(after, row2 + j, fma(kept - w2, load(before, row2 + j), w2 * last))
            store(after, row3 + j, fma(kept - w3, load(before, row3 + j), w3 * last))
        for i in range(first, first + ROWS):
            after[i * padded + i] = 0
        if heads > 0:
            multiply(
                read_weights, first, padded, 1, after, row0, padded, 2 * lanes,
                backward, 0, padded, heads, ROWS, padded, True,
            )  # fmt: skip
            multiply_transposed(
                after, row0, padded, read_weights, 0, padded, forward, first, 1, padded,
                ROWS, heads, padded,
            )  # fmt: skip


@kernel
def links_backward(
    before, after, write_weights, precedence, reads, directions, d_links, d_write_weights,
    d_precedence, d_read_weights, heads, padded,
):  # fmt: skip
    """``d_links`` becomes that of the step before; the other gradients grow.

    ``reads`` [2 heads, P] are the read weights, then the gradient of ``backward``; ``directions``
    the gradient of ``forward``, then the read weights.
    """
    lanes = lane_count(before)
    one = filled(before, 1)
    for first in range(0, padded, ROWS):
        row0, row1 = first * padded, (first + 1) * padded
        row2, row3 = (first + 2) * padded, (first + 3) * padded
        # dL += df wᵀ + w dbᵀ; dw += Lᵀ df + L db
        multiply(
            directions, first, 1, padded, reads, 0, padded, 2 * lanes, d_links, row0, padded,
            ROWS, 2 * heads, padded, True,
        )  # fmt: skip
        multiply(
            directions, first, padded, 1, after, row0, padded, 2 * lanes, d_read_weights, 0, padded,
            heads, ROWS, padded, True,
        )  # fmt: skip
        multiply_transposed(
            after, row0, padded, reads, heads * padded, padded, d_read_weights, first, 1, padded,
            ROWS, heads, padded,
        )  # fmt: skip
        for i in range(first, first + ROWS):
            d_links[i * padded + i] = 0
        w0, w1 = spread(write_weights, first), spread(write_weights, first + 1)
        w2, w3 = spread(write_weights, first + 2), spread(write_weights, first + 3)
        own0 = filled(before, 0)
        own1, own2, own3 = own0, own0, own0
        for j in range(0, padded, lanes):
            kept, last = one - load(write_weights, j), load(precedence, j)
            d_last, d_kept = load(d_precedence, j), load(d_write_weights, j)
            link, gradient = load(before, row0 + j), load(d_links, row0 + j)
            own0 = fma(gradient, last - link, own0)
            d_last, d_kept = fma(w0, gradient, d_last), d_kept - gradient * link
            store(d_links, row0 + j, (kept - w0) * gradient)
            link, gradient = load(before, row1 + j), load(d_links, row1 + j)
            own1 = fma(gradient, last - link, own1)
            d_last, d_kept = fma(w1, gradient, d_last), d_kept - gradient * link
            store(d_links, row1 + j, (kept - w1) * gradient)
            link, gradient = load(before, row2 + j), load(d_links, row2 + j)
            own2 = fma(gradient, last - link, own2)
            d_last, d_kept = fma(w2, gradient, d_last), d_kept - gradient * link
            store(d_links, row2 + j, (kept - w2) * gradient)
            link, gradient = load(before, row3 + j), load(d_links, row3 + j)
            own3 = fma(gradient, last - link, own3)
            d_last, d_kept = fma(w3, gradient, d_last), d_kept - gradient * link
            store(d_links, row3 + j, (kept - w3) * gradient)
            store(d_precedence, j, d_last)
            store(d_write_weights, j, d_kept)
        d_write_weights[first] += total(own0)
        d_write_weights[first + 1] += total(own1)
        d_write_weights[first + 2] += total(own2)
        d_write_weights[first + 3] += total(own3)
