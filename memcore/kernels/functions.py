"""Exponentials of whole registers, and what else works on pieces of arrays.

``eˣ = 2ⁿ e^r`` with ``|r| ≤ ln 2 / 2``, and ``e^r − 1`` by its Taylor polynomial, of degree 7 in
float32 and 13 in float64: relative error below 2 units in the last place. What is smaller than the
smallest normal number comes out as that number. NaN stays NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from memcore.kernels.compiling import kernel
from memcore.kernels.lanes import (
    Lanes,
    clamped,
    filled,
    floor,
    fma,
    lane_count,
    load,
    store,
    two_to,
)

__all__ = ["copy", "exponential", "fill", "oneplus", "oneplus_slope", "sigmoid", "sigmoids", "tanh"]


def _reduced(value: Any) -> Any:
    """``(n, e^r − 1)`` of lanes; compiled for each dtype by the overload below."""
    raise NotImplementedError


@overload(_reduced, inline="always")
def _reduced_for(value):
    if not isinstance(value, Lanes):
        return None
    single = value.dtype == types.float32
    real = np.float32 if single else np.float64
    degree = 7 if single else 13
    least, most = (-87.0, 88.0) if single else (-708.0, 709.0)
    # ln 2 in two parts: the first has so few digits that n times it is exact.
    high = 0.693359375 if single else 0.6931471803691238
    low = -2.12194440e-4 if single else 1.9082149292705877e-10
    c = [real(1 / math.factorial(power)) for power in range(14)]
    least, most, high, low = real(least), real(most), real(-high), real(-low)
    scale, half = real(1 / math.log(2)), real(0.5)
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = c[2:]
    if degree == 7:

        def reduced(value):
            value = clamped(value, least, most)
            whole = floor(fma(value, filled(value, scale), filled(value, half)))
            rest = fma(whole, filled(value, low), fma(whole, filled(value, high), value))
            tail = fma(filled(value, c7), rest, filled(value, c6))
            tail = fma(tail, rest, filled(value, c5))
            tail = fma(tail, rest, filled(value, c4))
            tail = fma(tail, rest, filled(value, c3))
            tail = fma(tail, rest, filled(value, c2))
            return whole, fma(tail, rest * rest, rest)

    else:

        def reduced(value):
            value = clamped(value, least, most)
            whole = floor(fma(value, filled(value, scale), filled(value, half)))
            rest = fma(whole, filled(value, low), fma(whole, filled(value, high), value))
            tail = fma(filled(value, c13), rest, filled(value, c12))
            tail = fma(tail, rest, filled(value, c11))
            tail = fma(tail, rest, filled(value, c10))
            tail = fma(tail, rest, filled(value, c9))
            tail = fma(tail, rest, filled(value, c8))
            tail = fma(tail, rest, filled(value, c7))
            tail = fma(tail, rest, filled(value, c6))
            tail = fma(tail, rest, filled(value, c5))
            tail = fma(tail, rest, filled(value, c4))
            tail = fma(tail, rest, filled(value, c3))
            tail = fma(tail, rest, filled(value, c2))
            return whole, fma(tail, rest * rest, rest)

    return reduced


@kernel
def exponential(value):
    """``eˣ``."""
    whole, rest = _reduced(value)
    scale = two_to(whole)
    return fma(rest, scale, scale)


@kernel
def sigmoid(value):
    """``1 / (1 + e⁻ˣ)``."""
    one = filled(value, 1)
    return one / (one + exponential(filled(value, 0) - value))


@kernel
def tanh(value):
    """``(e²ˣ − 1) / (e²ˣ + 1)``, by ``e²ˣ − 1``, which keeps its digits near 0."""
    whole, rest = _reduced(clamped(value + value, -40.0, 40.0))
    scale = two_to(whole)
    difference = fma(rest, scale, scale - filled(value, 1))
    return difference / (difference + filled(value, 2))


@kernel
def sigmoids(source, target, begin, length):
    """Sigmoids of ``source[begin : begin + length]``, rounded up to whole registers."""
    for place in range(begin, begin + length, lane_count(source)):
        store(target, place, sigmoid(load(source, place)))


@kernel
def oneplus(value):
    """``1 + log(1 + eˣ)``; from 20 on ``1 + x``, as torch's softplus has it."""
    if value > 20:
        return value + 1.0
    above = max(value, 0.0) if value == value else value
    return above + math.log1p(math.exp(-abs(value))) + 1.0


@kernel
def oneplus_slope(value):
    """The derivative of `oneplus`."""
    if value > 20:
        return 1.0
    return 1 / (1 + math.exp(-value))


@kernel
def fill(array, begin, end, value):
    """``array[begin:end] = value``, for which numba compiles much that is not needed here."""
    for place in range(begin, end):
        array[place] = value


@kernel
def copy(source, target, begin, end):
    """``target[begin:end] = source[begin:end]``."""
    for place in range(begin, end):
        target[place] = source[place]
