"""A vector register as a numba type: eight float32 or four float64 that are worked on at once.

LLVM makes vector instructions of a plain loop only where it can show, cheaply, that its arrays do
not overlap, and never keeps a block of a matrix in registers. With `Lanes` a kernel says so
itself: products run at the processor's speed, and the order of every sum is the one written, so
that a row's result does not depend on how many rows there are. Where registers are shorter, LLVM
takes several.

Kernels see memory as flat arrays: `part` cuts a piece out of one, `floats_at` makes one of an
address. Neither checks bounds, nor do `load` and `store`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import overload, register_model
from numba.np.arrayobj import make_array, populate_array

__all__ = [
    "Lanes",
    "address_of",
    "call",
    "clamped",
    "filled",
    "float_of",
    "floats_at",
    "floor",
    "fma",
    "int32s_at",
    "int64s_at",
    "lane_count",
    "larger",
    "largest",
    "load",
    "number_from",
    "part",
    "spread",
    "store",
    "total",
    "two_to",
    "uint8s_at",
    "where_above_zero",
    "within",
]

# Called from kernels, an intrinsic takes what follows the typing context: no checker knows that.
intrinsic: Any = numba_intrinsic

REGISTER_BITS = 256
INT32 = ir.IntType(32)


class Lanes(types.Type):
    """The numba type of a register full of ``dtype``."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.count = REGISTER_BITS // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype})")

    @property
    def llvm(self) -> ir.VectorType:
        """The type in LLVM."""
        scalar = ir.FloatType() if self.dtype == types.float32 else ir.DoubleType()
        return ir.VectorType(scalar, self.count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, lanes.llvm)


def element_of(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index], inbounds=True)


def repeated(builder: Any, scalar: Any, lanes: Lanes) -> Any:
    empty = ir.Constant(lanes.llvm, ir.Undefined)
    first = builder.insert_element(empty, scalar, ir.Constant(INT32, 0))
    everywhere = ir.Constant(ir.VectorType(INT32, lanes.count), [0] * lanes.count)
    return builder.shuffle_vector(first, empty, everywhere)


@intrinsic
def lane_count(typing_context: Any, array: Any) -> Any:
    """How many elements of this array a register holds."""
    count = Lanes(array.dtype).count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(64), count)

    return types.intp(array), generate


@intrinsic
def load(typing_context: Any, array: Any, index: Any) -> Any:
    """The elements from ``array[index]`` on."""
    lanes = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return loaded(context, builder, lanes, signature.args[0], *arguments)

    return lanes(array, types.intp), generate


def loaded(context: Any, builder: Any, lanes: Lanes, kind: Any, array: Any, index: Any) -> Any:
    element = element_of(context, builder, kind, array, index)
    value = builder.load(builder.bitcast(element, lanes.llvm.as_pointer()))
    value.align = lanes.dtype.bitwidth // 8
    return value


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Put lanes at ``array[index]`` and after."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        stored(context, builder, value, signature.args[0], *arguments)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def stored(
    context: Any, builder: Any, lanes: Lanes, kind: Any, array: Any, index: Any, value: Any
) -> None:
    element = element_of(context, builder, kind, array, index)
    place = builder.bitcast(element, lanes.llvm.as_pointer())
    builder.store(value, place).align = lanes.dtype.bitwidth // 8


@intrinsic
def spread(typing_context: Any, array: Any, index: Any) -> Any:
    """``array[index]`` in every lane."""
    lanes = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = element_of(context, builder, signature.args[0], *arguments)
        return repeated(builder, builder.load(element), lanes)

    return lanes(array, types.intp), generate


@intrinsic
def filled(typing_context: Any, like: Any, number: Any) -> Any:
    """A number in every lane, in the dtype of ``like``, an array or lanes."""
    lanes = Lanes(like.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar = context.cast(builder, arguments[1], number, lanes.dtype)
        return repeated(builder, scalar, lanes)

    return lanes(like, number), generate


@intrinsic
def fma(typing_context: Any, left: Any, right: Any, addend: Any) -> Any:
    """``left * right + addend``, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.call(llvm_function(builder, "fmuladd", left, 3), arguments)

    return left(left, right, addend), generate


@intrinsic
def floor(typing_context: Any, value: Any) -> Any:
    """The next whole number below, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.call(llvm_function(builder, "floor", value, 1), arguments)

    return value(value), generate


def llvm_function(builder: Any, name: str, lanes: Lanes, arity: int) -> Any:
    kind = ir.FunctionType(lanes.llvm, [lanes.llvm] * arity)
    suffix = f"v{lanes.count}f{lanes.dtype.bitwidth}"
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{suffix}")


@intrinsic
def clamped(typing_context: Any, value: Any, least: Any, most: Any) -> Any:
    """``value`` between two numbers, lane by lane; NaN stays NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result, bounds = arguments[0], arguments[1:]
        for relation, bound in zip(("<", ">"), bounds, strict=True):
            limit = repeated(builder, bound, value)
            beyond = builder.fcmp_ordered(relation, result, limit)
            result = builder.select(beyond, limit, result)
        return result

    return value(value, value.dtype, value.dtype), generate


@intrinsic
def within(typing_context: Any, value: Any, least: Any, most: Any, otherwise: Any) -> Any:
    """``otherwise`` where ``least ≤ value ≤ most``, lane by lane, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        low, high = (repeated(builder, bound, value) for bound in arguments[1:3])
        inside = builder.and_(
            builder.fcmp_ordered(">=", arguments[0], low),
            builder.fcmp_ordered("<=", arguments[0], high),
        )
        return builder.select(inside, arguments[3], ir.Constant(value.llvm, None))

    return value(value, value.dtype, value.dtype, value), generate


@intrinsic
def where_above_zero(typing_context: Any, value: Any, otherwise: Any) -> Any:
    """``otherwise`` where ``value`` is above 0 or NaN, lane by lane, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(value.llvm, None)
        above = builder.fcmp_unordered(">", arguments[0], zero)
        return builder.select(above, arguments[1], zero)

    return value(value, value), generate


@intrinsic
def larger(typing_context: Any, left: Any, right: Any) -> Any:
    """The larger of two, lane by lane; ``right`` where one is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return left(left, right), generate


@intrinsic
def two_to(typing_context: Any, exponent: Any) -> Any:
    """``2ⁿ`` for whole numbers n in the range of the exponent, lane by lane."""
    bits = exponent.dtype.bitwidth
    digits, bias = (23, 127) if bits == 32 else (52, 1023)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # Added to 1.5·2^digits, a whole number stands in the last bits of the sum.
        shift = ir.Constant(exponent.llvm, [1.5 * 2.0**digits + bias] * exponent.count)
        whole = ir.VectorType(ir.IntType(bits), exponent.count)
        number = builder.bitcast(builder.fadd(arguments[0], shift), whole)
        moved = builder.shl(number, ir.Constant(whole, [digits] * exponent.count))
        return builder.bitcast(moved, exponent.llvm)

    return exponent(exponent), generate


def _folded(combine: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    """From lanes to one number, by halves, so that the order is the same everywhere."""

    def typed(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector, count = arguments[0], value.count
            while count > 1:
                count //= 2
                halves = []
                for first in (0, count):
                    chosen = ir.Constant(
                        ir.VectorType(INT32, count), list(range(first, first + count))
                    )
                    empty = ir.Constant(vector.type, ir.Undefined)
                    halves.append(builder.shuffle_vector(vector, empty, chosen))
                vector = combine(builder, *halves)
            return builder.extract_element(vector, ir.Constant(INT32, 0))

        return value.dtype(value), generate

    return typed


def _larger(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


total = intrinsic(_folded(lambda builder, left, right: builder.fadd(left, right)))
largest = intrinsic(_folded(_larger))


def _arithmetic(operation: Any, instruction: str) -> None:
    @intrinsic
    def emit(typing_context: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return left(left, right), generate

    @overload(operation, inline="always")
    def _choose(left, right):
        if isinstance(left, Lanes) and isinstance(right, Lanes):
            return lambda left, right: emit(left, right)
        return None


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


def _array(context: Any, builder: Any, array_type: Any, data: Any, length: Any) -> Any:
    result = make_array(array_type)(context, builder)
    size = context.get_constant(types.intp, array_type.dtype.bitwidth // 8)
    populate_array(result, data=data, shape=[length], strides=[size], itemsize=size, meminfo=None)
    return result._getvalue()


@intrinsic
def part(typing_context: Any, array: Any, begin: Any, length: Any) -> Any:
    """``array[begin : begin + length]``, without checks and without owning it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = element_of(context, builder, signature.args[0], *arguments[:2])
        return _array(context, builder, signature.return_type, data, arguments[2])

    return array(array, types.intp, types.intp), generate


def _array_at(dtype: Any, address: Any, builder: Any, context: Any, length: Any) -> Any:
    kind = types.Array(dtype, 1, "C")
    data = builder.inttoptr(address, context.get_data_type(dtype).as_pointer())
    return _array(context, builder, kind, data, length)


@intrinsic
def floats_at(typing_context: Any, address: Any, length: Any, like: Any) -> Any:
    """The array that begins at an address, of the dtype of the number ``like``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _array_at(like, arguments[0], builder, context, arguments[1])

    return types.Array(like, 1, "C")(types.int64, types.intp, like), generate


@intrinsic
def int64s_at(typing_context: Any, address: Any, length: Any) -> Any:
    """The array of int64 that begins at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _array_at(types.int64, arguments[0], builder, context, arguments[1])

    return types.Array(types.int64, 1, "C")(types.int64, types.intp), generate


@intrinsic
def int32s_at(typing_context: Any, address: Any, length: Any) -> Any:
    """The array of int32 that begins at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _array_at(types.int32, arguments[0], builder, context, arguments[1])

    return types.Array(types.int32, 1, "C")(types.int64, types.intp), generate


@intrinsic
def uint8s_at(typing_context: Any, address: Any, length: Any) -> Any:
    """The array of bytes that begins at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _array_at(types.uint8, arguments[0], builder, context, arguments[1])

    return types.Array(types.uint8, 1, "C")(types.int64, types.intp), generate


@intrinsic
def float_of(typing_context: Any, bits: Any) -> Any:
    """The float64 that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def address_of(typing_context: Any, array: Any, index: Any) -> Any:
    """Where ``array[index]`` is."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        element = element_of(context, builder, signature.args[0], *arguments)
        return builder.ptrtoint(element, ir.IntType(64))

    return types.int64(array, types.intp), generate


@intrinsic
def call(typing_context: Any, address: Any, arguments: Any) -> Any:
    """Call the C function at an address, of int64 numbers and without a result.

    Entries call each other so rather than by name: LLVM would go over the whole of the inner one
    again for each that calls it.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        int64 = ir.IntType(64)
        numbers = cgutils.unpack_tuple(builder, given[1], len(arguments))
        kind = ir.FunctionType(ir.VoidType(), [int64] * len(numbers)).as_pointer()
        builder.call(builder.inttoptr(given[0], kind), numbers)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, len(arguments))), generate


@intrinsic
def number_from(typing_context: Any, address: Any) -> Any:
    """The result of the C function ``int f(void)`` at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(INT32, []).as_pointer()
        number = builder.call(builder.inttoptr(arguments[0], kind), [])
        return builder.sext(number, ir.IntType(64))

    return types.int64(types.int64), generate
