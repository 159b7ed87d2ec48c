"""Exponentials of registers: how far they are from the true ones, and what becomes of NaN."""

# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

import numba

import memcore
from memcore.kernels.functions import exponential, oneplus, oneplus_slope, sigmoid, tanh
from memcore.kernels.lanes import lane_count, load, store

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


# Kernels are called from kernels only, and these of whole registers.
@numba.njit
def _exponentials(source, target):
    for place in range(0, len(source), lane_count(source)):
        store(target, place, exponential(load(source, place)))


@numba.njit
def _sigmoids(source, target):
    for place in range(0, len(source), lane_count(source)):
        store(target, place, sigmoid(load(source, place)))


@numba.njit
def _tanhs(source, target):
    for place in range(0, len(source), lane_count(source)):
        store(target, place, tanh(load(source, place)))


@numba.njit
def _oneplus(source, target):
    for place in range(len(source)):
        target[place] = oneplus(source[place])


@numba.njit
def _oneplus_slopes(source, target):
    for place in range(len(source)):
        target[place] = oneplus_slope(source[place])


def run(kernel: Callable[..., None], values: Any, dtype: Any) -> np.ndarray:
    source = np.zeros(-(-len(values) // 16) * 16, dtype)
    source[: len(values)] = values
    target = np.full_like(source, np.nan)
    kernel(source, target)
    return target[: len(values)]


def units_off(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest error in units in the last place of the exact result, rounded."""
    unit = np.spacing(np.abs(exact).astype(found.dtype)).astype(np.longdouble)
    return float(np.max(np.abs(found.astype(np.longdouble) - exact) / unit))


def values(dtype: Any, most: float) -> np.ndarray:
    """Of all sizes, both signs, and where the reduction changes over."""
    generator = np.random.default_rng(0)
    even = generator.uniform(-most, most, 20_000)
    small = np.exp(generator.uniform(-40, np.log(most), 20_000))
    halves = (np.arange(-100, 101) + 0.5) * np.log(2)
    halves = halves[np.abs(halves) < most]
    drawn = np.concatenate([even, small, -small, halves, [0.0, -0.0]]).astype(dtype)
    return np.concatenate(
        [drawn, np.nextafter(drawn, dtype(most)), np.nextafter(drawn, -dtype(most))]
    )


@dtypes
def test_exponential(dtype: Any) -> None:
    source = values(dtype, 86 if dtype == np.float32 else 700)
    exact = np.exp(source.astype(np.longdouble))
    assert units_off(run(_exponentials, source, dtype), exact) < 2


@dtypes
def test_exponential_beyond_its_range(dtype: Any) -> None:
    """What is too small or too large comes out at the ends of the range, never inf."""
    source = np.array([-1e30, -np.inf, -800, 1e30, np.inf, 800, np.nan], dtype)
    *found, nan = run(_exponentials, source, dtype)
    assert np.isnan(nan)
    low, high = found[:3], found[3:]
    assert len(set(low)) == len(set(high)) == 1
    tiny = np.finfo(dtype).tiny
    assert tiny <= low[0] < 4 * tiny
    assert np.finfo(dtype).max / 8 < high[0] < np.inf


@dtypes
def test_sigmoid(dtype: Any) -> None:
    source = values(dtype, 86 if dtype == np.float32 else 700)
    exact = 1 / (1 + np.exp(-source.astype(np.longdouble)))
    found = run(_sigmoids, source, dtype)
    # Far below 0, in float64, the sigmoid of a small number is the exponential's.
    assert units_off(found, exact) < 4
    assert (found >= 0).all()
    assert (found <= 1).all()
    ends = run(_sigmoids, [-np.inf, np.inf, -1e30, 1e30, np.nan, 0], dtype)
    np.testing.assert_allclose(ends, [0, 1, 0, 1, np.nan, 0.5], atol=np.finfo(dtype).tiny * 4)


@dtypes
def test_tanh(dtype: Any) -> None:
    source = values(dtype, 30)
    exact = np.tanh(source.astype(np.longdouble))
    found = run(_tanhs, source, dtype)
    assert units_off(found, exact) < 4
    assert (np.abs(found) <= 1).all()
    ends = run(_tanhs, [-np.inf, np.inf, -1e30, 1e30, np.nan, 0, 1e-30, -1e-30], dtype)
    np.testing.assert_array_equal(ends[:6], np.array([-1, 1, -1, 1, np.nan, 0], dtype))
    np.testing.assert_allclose(ends[6:], np.array([1e-30, -1e-30]), rtol=1e-6)


@dtypes
def test_oneplus_is_that_of_the_reference(dtype: Any) -> None:
    generator = np.random.default_rng(0)
    source = generator.uniform(-60, 60, 1_000).astype(dtype)
    bound = np.array([20, np.nextafter(dtype(20), dtype(21)), 19.99, 0, -0.0], dtype)
    far = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30], dtype)
    source = np.concatenate([source, bound, far])
    expected = torch.from_numpy(source).requires_grad_()
    result = memcore.oneplus(expected)
    (slope,) = torch.autograd.grad(result.sum(), expected)
    digits = 4 * np.finfo(dtype).eps
    found = run(_oneplus, source, dtype)
    np.testing.assert_allclose(found, result.detach().numpy(), rtol=digits)
    found = run(_oneplus_slopes, source, dtype)
    np.testing.assert_allclose(found, slope.numpy(), rtol=4 * digits, atol=np.finfo(dtype).tiny)
