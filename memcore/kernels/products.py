"""Products of matrices, a block of the result in registers.

A matrix stands in a flat array: element (i, q) of A at ``a + i·a_row + q·a_step``. Each element of
a result is summed in the order of its terms whatever the shape of its block, so that a row of a
batch comes out the same, bit for bit, wherever it stands.
"""

from __future__ import annotations

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.lanes import filled, fma, lane_count, load, spread, store, total

__all__ = ["multiply", "multiply_transposed"]


@inlined
def _block_of_four(A, a, a_row, a_step, B, b, b_row, C, c, c_row, terms, add):
    lanes = lane_count(A)
    a1, a2, a3 = a + a_row, a + 2 * a_row, a + 3 * a_row
    c1, c2, c3 = c + c_row, c + 2 * c_row, c + 3 * c_row
    if add:
        s00, s01 = load(C, c), load(C, c + lanes)
        s10, s11 = load(C, c1), load(C, c1 + lanes)
        s20, s21 = load(C, c2), load(C, c2 + lanes)
        s30, s31 = load(C, c3), load(C, c3 + lanes)
    else:
        s00 = filled(A, 0)
        s01, s10, s11, s20, s21, s30, s31 = s00, s00, s00, s00, s00, s00, s00
    for q in range(terms):
        left, right, place = load(B, b), load(B, b + lanes), q * a_step
        factor = spread(A, a + place)
        s00, s01 = fma(factor, left, s00), fma(factor, right, s01)
        factor = spread(A, a1 + place)
        s10, s11 = fma(factor, left, s10), fma(factor, right, s11)
        factor = spread(A, a2 + place)
        s20, s21 = fma(factor, left, s20), fma(factor, right, s21)
        factor = spread(A, a3 + place)
        s30, s31 = fma(factor, left, s30), fma(factor, right, s31)
        b += b_row
    store(C, c, s00), store(C, c + lanes, s01)
    store(C, c1, s10), store(C, c1 + lanes, s11)
    store(C, c2, s20), store(C, c2 + lanes, s21)
    store(C, c3, s30), store(C, c3 + lanes, s31)


@inlined
def _block_of_one(A, a, a_step, B, b, b_row, C, c, terms, add):
    lanes = lane_count(A)
    if add:
        left, right = load(C, c), load(C, c + lanes)
    else:
        left = filled(A, 0)
        right = left
    for q in range(terms):
        factor = spread(A, a + q * a_step)
        left = fma(factor, load(B, b), left)
        right = fma(factor, load(B, b + lanes), right)
        b += b_row
    store(C, c, left), store(C, c + lanes, right)


@kernel
def multiply(A, a, a_row, a_step, B, b, b_row, panel, C, c, c_row, rows, terms, width, add):
    """``C = A B``, or ``C += A B`` where ``add``; columns of B and C are a multiple of two registers.

    ``panel`` is the way from two registers' columns of B to the next two: two registers for a
    plain matrix, ``terms`` times as much for one that was packed by panels.
    """
    columns = 2 * lane_count(A)
    for first in range(0, width, columns):
        row = 0
        while row + 4 <= rows:
            _block_of_four(
                A, a + row * a_row, a_row, a_step, B, b, b_row, C, c + row * c_row + first, c_row,
                terms, add,
            )  # fmt: skip
            row += 4
        while row < rows:
            _block_of_one(
                A, a + row * a_row, a_step, B, b, b_row, C, c + row * c_row + first, terms, add
            )
            row += 1
        b += panel


@inlined
def _dots_of_four(A, a, a_row, B, b, b_row, C, c, c_row, c_step, length):
    lanes = lane_count(A)
    a1, a2, a3 = a + a_row, a + 2 * a_row, a + 3 * a_row
    s00 = filled(A, 0)
    s01, s10, s11, s20, s21, s30, s31 = s00, s00, s00, s00, s00, s00, s00
    for j in range(0, length, lanes):
        left, right = load(B, b + j), load(B, b + b_row + j)
        row = load(A, a + j)
        s00, s01 = fma(row, left, s00), fma(row, right, s01)
        row = load(A, a1 + j)
        s10, s11 = fma(row, left, s10), fma(row, right, s11)
        row = load(A, a2 + j)
        s20, s21 = fma(row, left, s20), fma(row, right, s21)
        row = load(A, a3 + j)
        s30, s31 = fma(row, left, s30), fma(row, right, s31)
    C[c] += total(s00)
    C[c + c_step] += total(s01)
    c += c_row
    C[c] += total(s10)
    C[c + c_step] += total(s11)
    c += c_row
    C[c] += total(s20)
    C[c + c_step] += total(s21)
    c += c_row
    C[c] += total(s30)
    C[c + c_step] += total(s31)


@inlined
def _dot(A, a, B, b, length):
    lanes = lane_count(A)
    found = filled(A, 0)
    for j in range(0, length, lanes):
        found = fma(load(A, a + j), load(B, b + j), found)
    return total(found)


@kernel
def multiply_transposed(A, a, a_row, B, b, b_row, C, c, c_row, c_step, rows, columns, length):
    """``C += A Bᵀ``: dot products of rows, whose length is a multiple of a register."""
    row = 0
    while row + 4 <= rows:
        column = 0
        while column + 2 <= columns:
            _dots_of_four(
                A, a + row * a_row, a_row, B, b + column * b_row, b_row,
                C, c + row * c_row + column * c_step, c_row, c_step, length,
            )  # fmt: skip
            column += 2
        if column < columns:
            for i in range(row, row + 4):
                C[c + i * c_row + column * c_step] += _dot(
                    A, a + i * a_row, B, b + column * b_row, length
                )
        row += 4
    while row < rows:
        for column in range(columns):
            C[c + row * c_row + column * c_step] += _dot(
                A, a + row * a_row, B, b + column * b_row, length
            )
        row += 1
