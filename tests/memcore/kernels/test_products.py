"""Products in blocks against those of NumPy; a row comes out the same wherever it stands."""

# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

import numba
import torch

from memcore.kernels.controllers import GRU, LSTM, RNN_TANH
from memcore.kernels.packing import Gates, in_panels
from memcore.kernels.panels import turned
from memcore.kernels.products import multiply, multiply_rows, multiply_transposed
from memcore.kernels.sizes import padded_to, registers

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Kernels are called from kernels only.
_multiply = numba.njit(lambda *arguments: multiply(*arguments))
_multiply_rows = numba.njit(lambda *arguments: multiply_rows(*arguments))
_multiply_transposed = numba.njit(lambda *arguments: multiply_transposed(*arguments))
AROUND = 7  # numbers before and after an operand, which are to stay as they are


class Operand:
    """A matrix inside a flat array: rows ``row`` apart, NaN or a mark all around."""

    def __init__(self, values: np.ndarray, gap: int = 0, around: float = np.nan) -> None:
        rows, columns = values.shape
        self.row, self.shape = columns + gap, values.shape
        self.flat = np.full(2 * AROUND + rows * self.row, around, values.dtype)
        self.view = np.lib.stride_tricks.as_strided(
            self.flat[AROUND:], values.shape,
            (self.row * values.itemsize, values.itemsize), writeable=True,
        )  # fmt: skip
        self.view[:] = values

    def outside(self) -> np.ndarray:
        mask = np.ones(len(self.flat), bool)
        for row in range(self.shape[0]):
            mask[AROUND + row * self.row :][: self.shape[1]] = False
        return self.flat[mask]


def random(generator: Any, dtype: Any, *shape: int) -> np.ndarray:
    return generator.standard_normal(shape).astype(dtype)


def close(found: np.ndarray, expected: np.ndarray, terms: int) -> None:
    tolerance = 8 * (terms + 1) * np.finfo(found.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@dtypes
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_multiply(dtype: Any, seed: int, packed: bool, add: bool, transposed: bool) -> None:
    generator = np.random.default_rng(seed)
    unit = registers(np.dtype(dtype).itemsize)
    rows, terms = generator.integers(1, 12), generator.integers(1, 20)
    width = unit * int(generator.integers(1, 4))
    left, right = random(generator, dtype, rows, terms), random(generator, dtype, terms, width)
    start = random(generator, dtype, rows, width)
    expected = left.astype(np.float64) @ right.astype(np.float64) + (start if add else 0)
    factors = Operand(left.T if transposed else left, gap=3)
    steps = (1, factors.row) if transposed else (factors.row, 1)
    out = Operand(start, gap=5, around=123.0)
    if packed:
        panels = in_panels(torch.from_numpy(right), unit).numpy().reshape(1, -1)
        matrix, row, panel = Operand(panels), unit, int(terms) * unit
    else:
        matrix = Operand(right, gap=2)
        row, panel = matrix.row, unit
    _multiply(
        factors.flat, AROUND, *steps, matrix.flat, AROUND, row, panel,
        out.flat, AROUND, out.row, rows, terms, width, add,
    )  # fmt: skip
    close(out.view, expected, int(terms))
    assert (out.outside() == 123).all()


@dtypes
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("flipped", [False, True])
def test_multiply_transposed(dtype: Any, seed: int, flipped: bool) -> None:
    generator = np.random.default_rng(seed)
    lanes = registers(np.dtype(dtype).itemsize) // 2
    rows, columns = (int(size) for size in generator.integers(1, 11, 2))
    length = lanes * int(generator.integers(1, 6))
    left, right = random(generator, dtype, rows, length), random(generator, dtype, columns, length)
    start = random(generator, dtype, rows, columns)
    expected = left.astype(np.float64) @ right.T.astype(np.float64) + start
    ones, others = Operand(left, gap=3), Operand(right, gap=1)
    out = Operand(start.T if flipped else start, gap=2, around=123.0)
    steps = (1, out.row) if flipped else (out.row, 1)
    _multiply_transposed(
        ones.flat, AROUND, ones.row, others.flat, AROUND, others.row, out.flat, AROUND, *steps,
        rows, columns, length,
    )  # fmt: skip
    close(out.view.T if flipped else out.view, expected, length)
    assert (out.outside() == 123).all()


@dtypes
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 13])
def test_a_row_does_not_see_the_others(dtype: Any, rows: int) -> None:
    """Bit for bit, since what a batch gives may not depend on who else is in it."""
    generator = np.random.default_rng(rows)
    unit = registers(np.dtype(dtype).itemsize)
    terms, width = 37, 3 * unit
    left, right = random(generator, dtype, rows, terms), random(generator, dtype, terms, width)
    flat, whole = right.reshape(-1), np.zeros(rows * width, dtype)
    _multiply(
        left.reshape(-1), 0, terms, 1, flat, 0, width, unit, whole, 0, width, rows, terms, width,
        False,
    )  # fmt: skip
    for row in range(rows):
        alone = np.zeros(width, dtype)
        _multiply(
            left[row].copy(), 0, terms, 1, flat, 0, width, unit, alone, 0, width, 1, terms, width,
            False,
        )  # fmt: skip
        np.testing.assert_array_equal(alone, whole[row * width : (row + 1) * width])


@dtypes
@pytest.mark.parametrize("rows", [3, 4, 6, 9])
def test_a_dot_does_not_see_the_others(dtype: Any, rows: int) -> None:
    generator = np.random.default_rng(rows)
    length, columns = 5 * registers(np.dtype(dtype).itemsize), 3
    left, right = random(generator, dtype, rows, length), random(generator, dtype, columns, length)
    whole = np.zeros(rows * columns, dtype)
    _multiply_transposed(
        left.reshape(-1), 0, length, right.reshape(-1), 0, length, whole, 0, columns, 1,
        rows, columns, length,
    )  # fmt: skip
    for row in range(rows):
        for column in range(columns):
            alone = np.zeros(1, dtype)
            _multiply_transposed(
                left[row].copy(), 0, length, right[column].copy(), 0, length, alone, 0, 1, 1,
                1, 1, length,
            )  # fmt: skip
            assert alone[0] == whole[row * columns + column]


def test_panels() -> None:
    matrix = torch.arange(3 * 10.0).view(3, 10)
    panels = in_panels(matrix, 4)
    assert panels.shape == (3, 3, 4)
    assert padded_to(4, 10) == 12
    together = panels.transpose(0, 1).reshape(3, 12)
    assert torch.equal(together[:, :10], matrix)
    assert not together[:, 10:].any()


@dtypes
@pytest.mark.parametrize("seed", range(12))
def test_rows_as_they_are_give_what_panels_give(dtype: Any, seed: int) -> None:
    """Bit for bit, whatever stands around them."""
    generator = np.random.default_rng(seed)
    unit = registers(np.dtype(dtype).itemsize)
    count, terms = (int(own) for own in generator.integers(1, 40, 2))
    width = padded_to(unit, count)
    weight, factors = random(generator, dtype, count, terms), random(generator, dtype, 1, terms)
    start = random(generator, dtype, 1, width)
    packed, plain = Operand(start, around=123.0), Operand(start, around=123.0)
    panels = turned(torch.from_numpy(weight), unit).numpy().ravel()
    left, rows = Operand(factors), Operand(weight, gap=int(generator.integers(0, 3)))
    _multiply(
        left.flat, AROUND, left.row, 1, panels, 0, unit, terms * unit,
        packed.flat, AROUND, packed.row, 1, terms, width, True,
    )  # fmt: skip
    _multiply_rows(left.flat, AROUND, rows.flat, AROUND, rows.row, plain.flat, AROUND, count, terms)
    np.testing.assert_array_equal(plain.view, packed.view)
    assert (plain.outside() == 123).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "terms"), [(1, 1), (16, 8), (5, 17), (37, 24), (100, 31)])
def test_weights_are_turned(dtype: torch.dtype, rows: int, terms: int) -> None:
    unit = registers(dtype.itemsize)
    weight = torch.randn(rows, terms, dtype=dtype)
    expected = in_panels(weight.t(), unit)
    assert torch.equal(turned(weight, unit), expected)
    assert torch.equal(turned(weight.t().contiguous().t(), unit), expected)
    assert torch.equal(turned(weight.repeat(1, 2)[:, :terms], unit), expected)


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN_TANH])
@pytest.mark.parametrize("hidden", [3, 16, 21])
def test_panels_of_gates_are_those_of_the_matrix(kind: int, hidden: int) -> None:
    gates, rows = Gates(kind, hidden, 16), {LSTM: 4, GRU: 3, RNN_TANH: 1}[kind] * hidden
    from_input, from_state = torch.randn(rows, 7), torch.randn(rows, hidden)
    matrix = gates.matrix(from_input, from_state)
    assert torch.equal(gates.panels(from_input, from_state), in_panels(matrix.t(), 16))
    alone = torch.zeros_like(from_state)
    alone[:, 0] = from_state[:, 0]
    biases = gates.matrix(from_input[:, :1], alone).sum(1)
    assert torch.equal(gates.bias(from_input[:, 0], from_state[:, 0]), biases)
