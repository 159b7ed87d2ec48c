"""Products of matrices, a block of the result in registers.

A matrix stands in a flat array: element (i, q) at ``at + i·row + q·step``. Each element of
a result is summed in the order of its terms whatever the shape of its block, so that a row of a
batch comes out the same, bit for bit, wherever it stands.
"""

from __future__ import annotations

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.lanes import filled, fma, lane_count, load, spread, store, total
from memcore.kernels.squares import column_of, fma_square

__all__ = ["multiply", "multiply_rows", "multiply_transposed"]


@inlined
def _block_of_four(
    left, left_at, left_row, left_step, right, right_at, right_row, out, out_at, out_row, terms, add
):
    lanes = lane_count(left)
    left1, left2, left3 = left_at + left_row, left_at + 2 * left_row, left_at + 3 * left_row
    out1, out2, out3 = out_at + out_row, out_at + 2 * out_row, out_at + 3 * out_row
    if add:
        s00, s01 = load(out, out_at), load(out, out_at + lanes)
        s10, s11 = load(out, out1), load(out, out1 + lanes)
        s20, s21 = load(out, out2), load(out, out2 + lanes)
        s30, s31 = load(out, out3), load(out, out3 + lanes)
    else:
        s00 = filled(left, 0)
        s01, s10, s11, s20, s21, s30, s31 = s00, s00, s00, s00, s00, s00, s00
    for q in range(terms):
        low, high, place = load(right, right_at), load(right, right_at + lanes), q * left_step
        factor = spread(left, left_at + place)
        s00, s01 = fma(factor, low, s00), fma(factor, high, s01)
        factor = spread(left, left1 + place)
        s10, s11 = fma(factor, low, s10), fma(factor, high, s11)
        factor = spread(left, left2 + place)
        s20, s21 = fma(factor, low, s20), fma(factor, high, s21)
        factor = spread(left, left3 + place)
        s30, s31 = fma(factor, low, s30), fma(factor, high, s31)
        right_at += right_row
    store(out, out_at, s00)
    store(out, out_at + lanes, s01)
    store(out, out1, s10)
    store(out, out1 + lanes, s11)
    store(out, out2, s20)
    store(out, out2 + lanes, s21)
    store(out, out3, s30)
    store(out, out3 + lanes, s31)


@inlined
def _block_of_one(left, left_at, left_step, right, right_at, right_row, out, out_at, terms, add):
    lanes = lane_count(left)
    if add:
        low, high = load(out, out_at), load(out, out_at + lanes)
    else:
        low = filled(left, 0)
        high = low
    for q in range(terms):
        factor = spread(left, left_at + q * left_step)
        low = fma(factor, load(right, right_at), low)
        high = fma(factor, load(right, right_at + lanes), high)
        right_at += right_row
    store(out, out_at, low)
    store(out, out_at + lanes, high)


@inlined
def _row_of_four(
    left, left_at, left_step, right, right_at, right_row, panel, out, out_at, terms, add
):
    """One row, four times two registers wide: sums enough to wait for none."""
    lanes = lane_count(left)
    right1, right2, right3 = right_at + panel, right_at + 2 * panel, right_at + 3 * panel
    if add:
        s00, s01 = load(out, out_at), load(out, out_at + lanes)
        s10, s11 = load(out, out_at + 2 * lanes), load(out, out_at + 3 * lanes)
        s20, s21 = load(out, out_at + 4 * lanes), load(out, out_at + 5 * lanes)
        s30, s31 = load(out, out_at + 6 * lanes), load(out, out_at + 7 * lanes)
    else:
        s00 = filled(left, 0)
        s01, s10, s11, s20, s21, s30, s31 = s00, s00, s00, s00, s00, s00, s00
    for q in range(terms):
        factor, place = spread(left, left_at + q * left_step), q * right_row
        s00 = fma(factor, load(right, right_at + place), s00)
        s01 = fma(factor, load(right, right_at + place + lanes), s01)
        s10 = fma(factor, load(right, right1 + place), s10)
        s11 = fma(factor, load(right, right1 + place + lanes), s11)
        s20 = fma(factor, load(right, right2 + place), s20)
        s21 = fma(factor, load(right, right2 + place + lanes), s21)
        s30 = fma(factor, load(right, right3 + place), s30)
        s31 = fma(factor, load(right, right3 + place + lanes), s31)
    store(out, out_at, s00)
    store(out, out_at + lanes, s01)
    store(out, out_at + 2 * lanes, s10)
    store(out, out_at + 3 * lanes, s11)
    store(out, out_at + 4 * lanes, s20)
    store(out, out_at + 5 * lanes, s21)
    store(out, out_at + 6 * lanes, s30)
    store(out, out_at + 7 * lanes, s31)


@kernel
def multiply(
    left,
    left_at,
    left_row,
    left_step,
    right,
    right_at,
    right_row,
    panel,
    out,
    out_at,
    out_row,
    rows,
    terms,
    width,
    add,
):
    """``C = A B``, or ``C += A B`` where ``add``; B and C are a multiple of two registers wide.

    ``panel`` is the way from two registers' columns of B to the next two: two registers for a
    plain matrix, ``terms`` times as much for one that was packed by panels.
    """
    columns = 2 * lane_count(left)
    whole = rows // 4 * 4
    if whole > 0:
        place = right_at
        for first in range(0, width, columns):
            for row in range(0, whole, 4):
                _block_of_four(
                    left, left_at + row * left_row, left_row, left_step, right, place, right_row,
                    out, out_at + row * out_row + first, out_row, terms, add,
                )  # fmt: skip
            place += panel
    for row in range(whole, rows):
        first, place, begin = 0, right_at, left_at + row * left_row
        while first + 4 * columns <= width:
            _row_of_four(
                left, begin, left_step, right, place, right_row, panel,
                out, out_at + row * out_row + first, terms, add,
            )  # fmt: skip
            first += 4 * columns
            place += 4 * panel
        while first < width:
            _block_of_one(
                left, begin, left_step, right, place, right_row,
                out, out_at + row * out_row + first, terms, add,
            )  # fmt: skip
            first += columns
            place += panel


@kernel
def multiply_rows(left, left_at, right, right_at, right_row, out, out_at, rows, terms):
    """``c += a Bᵀ`` for one row ``a``, each sum as `multiply` has it, of a matrix as torch has it.

    What is told of B are its rows; ``out`` is a multiple of two registers wide, and gets what zeros
    would give beyond the last of them.
    """
    lanes = lane_count(left)
    for first in range(0, rows, 2 * lanes):
        own, to = rows - first, out_at + first
        at = right_at + first * right_row
        above = at + lanes * right_row if own > lanes else at
        low, high, term = load(out, to), load(out, to + lanes), 0
        while term + lanes <= terms:
            low = fma_square(low, left, left_at + term, right, at + term, right_row, own)
            high = fma_square(
                high, left, left_at + term, right, above + term, right_row, own - lanes
            )
            term += lanes
        while term < terms:
            factor = spread(left, left_at + term)
            low = fma(factor, column_of(right, at + term, right_row, own), low)
            high = fma(factor, column_of(right, above + term, right_row, own - lanes), high)
            term += 1
        store(out, to, low)
        store(out, to + lanes, high)


@inlined
def _dots_of_four(
    left, left_at, left_row, right, right_at, right_row, out, out_at, out_row, out_step, length
):
    lanes = lane_count(left)
    left1, left2, left3 = left_at + left_row, left_at + 2 * left_row, left_at + 3 * left_row
    s00 = filled(left, 0)
    s01, s10, s11, s20, s21, s30, s31 = s00, s00, s00, s00, s00, s00, s00
    for j in range(0, length, lanes):
        low, high = load(right, right_at + j), load(right, right_at + right_row + j)
        row = load(left, left_at + j)
        s00, s01 = fma(row, low, s00), fma(row, high, s01)
        row = load(left, left1 + j)
        s10, s11 = fma(row, low, s10), fma(row, high, s11)
        row = load(left, left2 + j)
        s20, s21 = fma(row, low, s20), fma(row, high, s21)
        row = load(left, left3 + j)
        s30, s31 = fma(row, low, s30), fma(row, high, s31)
    out[out_at] += total(s00)
    out[out_at + out_step] += total(s01)
    out_at += out_row
    out[out_at] += total(s10)
    out[out_at + out_step] += total(s11)
    out_at += out_row
    out[out_at] += total(s20)
    out[out_at + out_step] += total(s21)
    out_at += out_row
    out[out_at] += total(s30)
    out[out_at + out_step] += total(s31)


@inlined
def _dot(left, left_at, right, right_at, length):
    lanes = lane_count(left)
    found = filled(left, 0)
    for j in range(0, length, lanes):
        found = fma(load(left, left_at + j), load(right, right_at + j), found)
    return total(found)


@kernel
def multiply_transposed(
    left,
    left_at,
    left_row,
    right,
    right_at,
    right_row,
    out,
    out_at,
    out_row,
    out_step,
    rows,
    columns,
    length,
):
    """``C += A Bᵀ``: dot products of rows, whose length is a multiple of a register."""
    row = 0
    while row + 4 <= rows:
        column = 0
        while column + 2 <= columns:
            _dots_of_four(
                left, left_at + row * left_row, left_row,
                right, right_at + column * right_row, right_row,
                out, out_at + row * out_row + column * out_step, out_row, out_step, length,
            )  # fmt: skip
            column += 2
        if column < columns:
            for i in range(row, row + 4):
                out[out_at + i * out_row + column * out_step] += _dot(
                    left, left_at + i * left_row, right, right_at + column * right_row, length
                )
        row += 4
    while row < rows:
        for column in range(columns):
            out[out_at + row * out_row + column * out_step] += _dot(
                left, left_at + row * left_row, right, right_at + column * right_row, length
            )
        row += 1
