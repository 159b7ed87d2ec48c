"""Temporal links: `memcore.linkage` for one example, forward and backward.

Links [P, P] are by far the largest part of a step. They are gone over in blocks of four rows that
stay in the nearest cache; what lies beyond the last slot is 0.
"""

from __future__ import annotations

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.functions import fill
from memcore.kernels.lanes import filled, fma, lane_count, load, part, spread, store, total

__all__ = ["links_backward", "links_forward"]

ROWS = 4  # of a block: not more than the unit to which the number of slots is rounded up


@inlined
def _update(before, at, after, to, write_weights, precedence, first, padded):
    """Rows ``first`` to ``first + 3`` of ``L = (1 − w_i − w_j) L' + w_i p'_j``, the diagonal 0."""
    lanes, one = lane_count(before), filled(before, 1)
    w0, w1 = spread(write_weights, first), spread(write_weights, first + 1)
    w2, w3 = spread(write_weights, first + 2), spread(write_weights, first + 3)
    at1, at2, at3 = at + padded, at + 2 * padded, at + 3 * padded
    to1, to2, to3 = to + padded, to + 2 * padded, to + 3 * padded
    for j in range(0, padded, lanes):
        kept, last = one - load(write_weights, j), load(precedence, j)
        store(after, to + j, fma(kept - w0, load(before, at + j), w0 * last))
        store(after, to1 + j, fma(kept - w1, load(before, at1 + j), w1 * last))
        store(after, to2 + j, fma(kept - w2, load(before, at2 + j), w2 * last))
        store(after, to3 + j, fma(kept - w3, load(before, at3 + j), w3 * last))
    for i in range(ROWS):
        after[to + i * padded + first + i] = 0


@inlined
def _follow(links, at, factors, first, vector, along, columns, padded):
    """Of a block of rows: ``columns += Σ_i factors[i] L[i]``, ``along[i] += L[i]·vector``."""
    lanes, nothing = lane_count(links), filled(links, 0)
    f0, f1 = spread(factors, first), spread(factors, first + 1)
    f2, f3 = spread(factors, first + 2), spread(factors, first + 3)
    s0, s1, s2, s3 = nothing, nothing, nothing, nothing
    at1, at2, at3 = at + padded, at + 2 * padded, at + 3 * padded
    for j in range(0, padded, lanes):
        weight, column = load(vector, j), load(columns, j)
        row = load(links, at + j)
        s0, column = fma(row, weight, s0), fma(f0, row, column)
        row = load(links, at1 + j)
        s1, column = fma(row, weight, s1), fma(f1, row, column)
        row = load(links, at2 + j)
        s2, column = fma(row, weight, s2), fma(f2, row, column)
        row = load(links, at3 + j)
        s3, column = fma(row, weight, s3), fma(f3, row, column)
        store(columns, j, column)
    along[first] += total(s0)
    along[first + 1] += total(s1)
    along[first + 2] += total(s2)
    along[first + 3] += total(s3)


@kernel
def links_forward(
    before, after, write_weights, precedence, read_weights, forward, backward, heads, padded
):  # fmt: skip
    """``L = (1 − w_i − w_j) L' + w_i p'_j``, then ``forward = L w_r``, ``backward = Lᵀ w_r``.

    ``after`` may be ``before``. With no ``heads`` only the links are made.
    """
    fill(forward, 0, heads * padded, 0.0)
    fill(backward, 0, heads * padded, 0.0)
    for first in range(0, padded, ROWS):
        at = first * padded
        _update(before, at, after, at, write_weights, precedence, first, padded)
        for head in range(heads):
            own = part(read_weights, head * padded, padded)
            _follow(
                after, at, own, first, own, part(forward, head * padded, padded),
                part(backward, head * padded, padded), padded,
            )  # fmt: skip


@kernel
def links_backward(
    before, write_weights, precedence, reads, directions, d_links, d_write_weights,
    d_precedence, d_read_weights, block, heads, padded,
):  # fmt: skip
    """``d_links`` becomes that of the step before; the other gradients grow.

    ``reads`` [2 heads, P] are the read weights, then the gradient of ``backward``; ``directions``
    the gradient of ``forward``, then the read weights. ``block`` [4 P] is to work in: the links
    after the step are made again there, row by row.
    """
    lanes, one, nothing = lane_count(before), filled(before, 1), filled(before, 0)
    for first in range(0, padded, ROWS):
        at0 = first * padded
        at1, at2, at3 = at0 + padded, at0 + 2 * padded, at0 + 3 * padded
        _update(before, at0, block, 0, write_weights, precedence, first, padded)
        for head in range(heads):
            row = head * padded
            _follow(
                block, 0, part(directions, row, padded), first,
                part(reads, heads * padded + row, padded), part(d_read_weights, row, padded),
                part(d_read_weights, row, padded), padded,
            )  # fmt: skip
        w0, w1 = spread(write_weights, first), spread(write_weights, first + 1)
        w2, w3 = spread(write_weights, first + 2), spread(write_weights, first + 3)
        own0, own1, own2, own3 = nothing, nothing, nothing, nothing
        for j in range(0, padded, 2 * lanes):
            k = j + lanes
            g00, g01 = load(d_links, at0 + j), load(d_links, at0 + k)
            g10, g11 = load(d_links, at1 + j), load(d_links, at1 + k)
            g20, g21 = load(d_links, at2 + j), load(d_links, at2 + k)
            g30, g31 = load(d_links, at3 + j), load(d_links, at3 + k)
            # dL += df w_rᵀ + w_r dbᵀ
            for row in range(0, 2 * heads * padded, padded):
                left, right = load(reads, row + j), load(reads, row + k)
                factor = spread(directions, row + first)
                g00, g01 = fma(factor, left, g00), fma(factor, right, g01)
                factor = spread(directions, row + first + 1)
                g10, g11 = fma(factor, left, g10), fma(factor, right, g11)
                factor = spread(directions, row + first + 2)
                g20, g21 = fma(factor, left, g20), fma(factor, right, g21)
                factor = spread(directions, row + first + 3)
                g30, g31 = fma(factor, left, g30), fma(factor, right, g31)
            if j <= first and first < j + 2 * lanes:
                # The diagonal, which is always 0, passes through these columns.
                store(d_links, at0 + j, g00)
                store(d_links, at0 + k, g01)
                store(d_links, at1 + j, g10)
                store(d_links, at1 + k, g11)
                store(d_links, at2 + j, g20)
                store(d_links, at2 + k, g21)
                store(d_links, at3 + j, g30)
                store(d_links, at3 + k, g31)
                for i in range(ROWS):
                    d_links[at0 + i * padded + first + i] = 0
                g00, g01 = load(d_links, at0 + j), load(d_links, at0 + k)
                g10, g11 = load(d_links, at1 + j), load(d_links, at1 + k)
                g20, g21 = load(d_links, at2 + j), load(d_links, at2 + k)
                g30, g31 = load(d_links, at3 + j), load(d_links, at3 + k)
            for half in range(2):
                place = j + half * lanes
                if half == 1:
                    g00, g10, g20, g30 = g01, g11, g21, g31
                kept, last = one - load(write_weights, place), load(precedence, place)
                d_last, d_kept = load(d_precedence, place), load(d_write_weights, place)
                link = load(before, at0 + place)
                own0, d_last = fma(g00, last - link, own0), fma(w0, g00, d_last)
                d_kept = d_kept - g00 * link
                store(d_links, at0 + place, (kept - w0) * g00)
                link = load(before, at1 + place)
                own1, d_last = fma(g10, last - link, own1), fma(w1, g10, d_last)
                d_kept = d_kept - g10 * link
                store(d_links, at1 + place, (kept - w1) * g10)
                link = load(before, at2 + place)
                own2, d_last = fma(g20, last - link, own2), fma(w2, g20, d_last)
                d_kept = d_kept - g20 * link
                store(d_links, at2 + place, (kept - w2) * g20)
                link = load(before, at3 + place)
                own3, d_last = fma(g30, last - link, own3), fma(w3, g30, d_last)
                d_kept = d_kept - g30 * link
                store(d_links, at3 + place, (kept - w3) * g30)
                store(d_precedence, place, d_last)
                store(d_write_weights, place, d_kept)
        d_write_weights[first] += total(own0)
        d_write_weights[first + 1] += total(own1)
        d_write_weights[first + 2] += total(own2)
        d_write_weights[first + 3] += total(own3)
