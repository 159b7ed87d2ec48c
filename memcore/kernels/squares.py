"""Squares of a matrix, as wide and as high as a register has lanes, turned in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from memcore.kernels.lanes import (
    INT32,
    Lanes,
    element_of,
    intrinsic,
    llvm_function,
    loaded,
    repeated,
    stored,
)

__all__ = ["column_of", "fma_square", "turn_square"]


@intrinsic
def turn_square(
    typing_context: Any, source: Any, at: Any, row: Any, own: Any, target: Any, to: Any, step: Any
) -> Any:
    """Rows of the source become columns of the target, both as many and as long as a register.

    Rows begin at ``source[at + i * row]``, of which there are ``own``, else zeros; columns at
    ``target[to + j * step]``.
    """
    lanes = Lanes(source.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, to, step = arguments[4:]
        square = _turned(context, builder, lanes, signature.args[0], *arguments[:4])
        for j, column in enumerate(square):
            place = builder.add(to, builder.mul(step, _number(j)))
            stored(context, builder, lanes, signature.args[4], array, place, column)
        return context.get_dummy_value()

    places = (types.intp, types.intp)
    return types.void(source, *places, types.intp, target, *places), generate


@intrinsic
def fma_square(
    typing_context: Any, total: Any, left: Any, begin: Any, source: Any, at: Any, row: Any, own: Any
) -> Any:
    """Add to each lane the product of a row of the source and of ``left[begin:]``, term by term.

    Rows are those of `turn_square`; as many terms are added as a register has lanes.
    """
    lanes = Lanes(source.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, array, begin = arguments[:3]
        function = llvm_function(builder, "fmuladd", lanes, 3)
        square = _turned(context, builder, lanes, signature.args[3], *arguments[3:])
        for j, column in enumerate(square):
            place = builder.add(begin, _number(j))
            element = element_of(context, builder, signature.args[1], array, place)
            factor = repeated(builder, builder.load(element), lanes)
            sums = builder.call(function, [factor, column, sums])
        return sums

    places = (types.intp, types.intp, types.intp)
    return total(total, left, types.intp, source, *places), generate


@intrinsic
def column_of(typing_context: Any, source: Any, at: Any, row: Any, own: Any) -> Any:
    """``source[at + i * row]`` in lane i, of which there are ``own``, else zeros."""
    lanes = Lanes(source.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, row, own = arguments
        result = ir.Constant(lanes.llvm, [0.0] * lanes.count)
        zero = ir.Constant(lanes.llvm.element, 0.0)
        for i in range(lanes.count):
            is_there, place = _row_or_first(builder, at, row, own, i)
            value = builder.load(element_of(context, builder, signature.args[0], array, place))
            value = builder.select(is_there, value, zero)
            result = builder.insert_element(result, value, ir.Constant(INT32, i))
        return result

    return lanes(source, types.intp, types.intp, types.intp), generate


def _number(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)


def _row_or_first(builder: Any, at: Any, row: Any, own: Any, i: int) -> tuple[Any, Any]:
    """Whether there is an i-th row, and where it begins, or else the first."""
    is_there = builder.icmp_signed("<", _number(i), own)
    real = builder.select(is_there, _number(i), _number(0))
    return is_there, builder.add(at, builder.mul(row, real))


def _turned(
    context: Any, builder: Any, lanes: Lanes, kind: Any, array: Any, at: Any, row: Any, own: Any
) -> list[Any]:
    """The columns of a square as long as a register, zeros in place of rows from ``own`` on."""
    zeros = ir.Constant(lanes.llvm, [0.0] * lanes.count)
    square: list[Any] = []
    for i in range(lanes.count):
        is_there, place = _row_or_first(builder, at, row, own, i)
        values = loaded(context, builder, lanes, kind, array, place)
        square.append(builder.select(is_there, values, zeros))
    bit = 1
    while bit < lanes.count:
        for low in range(lanes.count):
            if not low & bit:
                pair = square[low], square[low | bit]
                square[low], square[low | bit] = _exchanged(builder, lanes, *pair, bit)
        bit *= 2
    return square


def _exchanged(builder: Any, lanes: Lanes, low: Any, high: Any, bit: int) -> tuple[Any, Any]:
    """Two rows of a square, one bit apart, with what is off the diagonal exchanged."""

    def mixed(own: int) -> Any:
        places = [(lane & ~bit | own) + (lanes.count if lane & bit else 0)
                  for lane in range(lanes.count)]  # fmt: skip
        mask = ir.Constant(ir.VectorType(INT32, lanes.count), places)
        return builder.shuffle_vector(low, high, mask)

    return mixed(0), mixed(bit)
