"""The one error of this library, and the checks that raise it.

Shapes, dtypes and devices are checked always: that costs no device synchronisation and works
under ``vmap`` and ``torch.compile``. What the shapes are is read off the annotations, so that
signature, documentation and check cannot disagree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from math import prod
from numbers import Integral
from types import UnionType
from typing import Any, ParamSpec, Protocol, TypeVar, get_args, get_type_hints, runtime_checkable

import torch
from torch import Tensor

__all__ = ["MemcoreError"]

FLOAT_DTYPES = (torch.float32, torch.float64)
DISTRIBUTION = "torch-memcore"  # the name memcore belongs to another package

Axes = tuple[str | int, ...]
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class MemcoreError(ValueError):
    """An argument has the wrong rank, size, dtype, device or value.

    The message names the argument, says what it must be and what it was. A call that raises
    it has changed nothing.
    """


@runtime_checkable
class Checked(Protocol[Parameters, Result]):
    """A function that checks its arguments, and the same one without."""

    unchecked: Callable[Parameters, Result]

    def __call__(self, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        """Check, then call."""
        ...


def checked(function: Callable[Parameters, Result]) -> Checked[Parameters, Result]:
    """Check tensors against the shapes in a function's annotations before each call.

    In ``Float[Tensor, "N W"]`` an axis name must mean the same size in all arguments, and a
    number means itself; no axis may be empty. Batch axes, ``"*batch N W"``, are for the unchecked
    form alone: a call takes one example. Another axis with a star may be missing, then in all
    arguments that have it. All tensors must be float32 or all float64, on one device. An argument
    annotated as a named tuple must be one, and its fields are checked; one that may be ``()`` is
    looked at where it is not.
    ``function.unchecked`` is the function itself, for callers that have checked already.
    """
    hints = get_type_hints(function)
    parameters = tuple(inspect.signature(function).parameters)
    tensors = _shapes({name: hints[name] for name in parameters})
    tuples = {
        name: (hints[name], _shapes(get_type_hints(hints[name])))
        for name in parameters
        if hasattr(hints[name], "_fields")
    }

    def arguments(given: dict[str, Any]) -> Iterable[tuple[str, Tensor, Axes]]:
        for name, axes in tensors.items():
            if name in given:
                yield name, given[name], axes
        for name, (kind, fields) in tuples.items():
            if name not in given:
                continue
            value = given[name]
            if not isinstance(value, kind):
                raise TypeError(f"{name}: expected a {kind.__name__}, got {type(value).__name__}")
            for field, axes in fields.items():
                part: Any = getattr(value, field)
                if not (_is_nothing(part) and field in kind._field_defaults):
                    yield f"{name}.{field}", part, axes

    @wraps(function)
    def check_then_call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        # Missing and superfluous arguments are left to the call, which says so.
        _check_arguments(arguments({**dict(zip(parameters, args, strict=False)), **kwargs}))
        return function(*args, **kwargs)

    check_then_call.unchecked = function  # pyright: ignore[reportAttributeAccessIssue]
    return check_then_call  # pyright: ignore[reportReturnType]


def _is_nothing(part: object) -> bool:
    """Whether a field is ``()``, an option that is left out."""
    return isinstance(part, tuple) and not part


def _shapes(hints: Mapping[str, Any]) -> dict[str, Axes]:
    # Of a tensor that may be left out, Float[Tensor, "N"] | tuple[()], the first.
    first = {
        name: get_args(hint)[0] if isinstance(hint, UnionType) else hint
        for name, hint in hints.items()
    }
    return {
        name: tuple(
            int(axis) if axis.isdigit() else axis
            for axis in hint.dim_str.split()
            if axis != "*batch"
        )
        for name, hint in first.items()
        if hasattr(hint, "dim_str")
    }


def _check_arguments(arguments: Iterable[tuple[str, Tensor, Axes]]) -> None:
    """Check tensors, given as (name, tensor, axes), against their shapes and each other."""
    sizes: dict[str, int] = {}
    dtype = device = None
    for name, value, axes in arguments:
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
        check_layout(name, value)
        actual = value.shape
        if axes and str(axes[0]).startswith("*"):
            axes = _with_or_without(axes, sizes, len(actual))
        if len(actual) != len(axes):
            hint = " (one example at a time: batch with torch.func.vmap)"
            batched = len(actual) == len(axes) + 1
            raise MemcoreError(
                f"{name}: expected shape {_show(axes)}, got {list(actual)}{hint if batched else ''}"
            )
        for axis, size in zip(axes, actual, strict=True):
            expected = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
            if size != expected:
                why = "" if axis == expected else f" with {axis} = {expected} as in the others"
                raise MemcoreError(f"{name}: expected shape {_show(axes)}{why}, got {list(actual)}")
            if size == 0:
                raise MemcoreError(
                    f"{name}: expected shape {_show(axes)} with {axis} of at least 1, "
                    f"got {list(actual)}"
                )
        if value.dtype is not dtype:
            if value.dtype not in FLOAT_DTYPES or dtype is not None:
                expectation = "float32 or float64" if dtype is None else f"{dtype} as the others"
                raise MemcoreError(f"{name}: expected dtype {expectation}, got {value.dtype}")
            dtype = value.dtype
        if value.device != device:
            if device is not None:
                raise MemcoreError(
                    f"{name}: expected device {device} as the others, got {value.device}"
                )
            device = value.device


def _with_or_without(axes: Axes, sizes: dict[str, int], rank: int) -> Axes:
    """The axes where the first may be missing: whether it is, is the same for all tensors."""
    optional = str(axes[0])
    present = sizes.setdefault(optional, int(rank >= len(axes)))
    return (optional[1:], *axes[1:]) if present else axes[1:]


def _show(axes: Axes) -> str:
    return f"[{', '.join(map(str, axes))}]"


def check_layout(name: str, tensor: Tensor) -> None:
    """Raise unless a tensor is an ordinary one: not sparse, nested or in another layout."""
    if tensor.is_nested or tensor.layout is not torch.strided:
        got = "a nested tensor" if tensor.is_nested else f"one of layout {tensor.layout}"
        raise MemcoreError(f"{name}: expected a dense tensor (torch.strided), got {got}")


def check_floats(name: str, value: object, least_rank: int) -> None:
    """Raise unless ``value`` is a float32 or float64 tensor of at least that rank."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    check_layout(name, value)
    if value.dtype not in FLOAT_DTYPES:
        raise MemcoreError(f"{name}: expected dtype float32 or float64, got {value.dtype}")
    if value.dim() < least_rank:
        raise MemcoreError(f"{name}: expected at least one axis, got shape {list(value.shape)}")


def check_device(name: str, value: object) -> None:
    """Raise unless ``value`` is None or names a device that this machine has."""
    if value is None:
        return
    if not isinstance(value, torch.device | str | int) or isinstance(value, bool):
        raise TypeError(
            f"{name}: expected a torch.device, a str or an int, got {type(value).__name__}"
        )
    try:
        device = torch.device(value)
    except RuntimeError:
        raise MemcoreError(f"{name}: expected a device that torch knows, got {value!r}") from None
    missing = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    # Under a dispatch mode, fake tensors can be on devices that are not there.
    if missing and torch._C._len_torch_dispatch_stack() == 0:
        raise MemcoreError(
            f"{name}: expected one of the {torch.cuda.device_count()} CUDA devices of this "
            f"machine, got {value!r}"
        )


def how_to_install(extra: str) -> str:
    """The command that installs an extra, also where the library is a checkout."""
    return f"pip install '{DISTRIBUTION}[{extra}]', in a checkout pip install -e '.[{extra}]'"


def allocated(
    make: Callable[[], Result], shape: tuple[Any, ...], dtype: torch.dtype, way_out: str
) -> Result:
    """What ``make`` makes, or an error that names the argument that asks for too much memory.

    Args:
        make: makes tensors.
        shape: of the largest of them.
        dtype: its dtype.
        way_out: what else can be done.

    Raises:
        MemcoreError: in place of what the system says where there is too little memory.
    """
    # Tracing, sizes are tensors.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore
        return make()
    count = prod(shape) * dtype.itemsize
    message = (
        f"slots: expected what there is memory for, got {count} bytes for {dtype} of shape "
        f"{list(shape)}; {way_out}"
    )
    if count >= 2**63:
        raise MemcoreError(message)
    try:
        return make()
    except (MemoryError, OSError, RuntimeError) as error:
        # Torch has no error of its own for a CPU that has too little.
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise MemcoreError(message) from error


def check_size(name: str, value: object, minimum: int = 1) -> int:
    """``value`` as an int; raise unless it is a whole number of at least ``minimum``."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if int(value) < minimum:
        raise MemcoreError(f"{name}: expected an int of at least {minimum}, got {value}")
    return int(value)


def check_float_dtype(name: str, dtype: object) -> None:
    """Raise unless ``dtype`` is float32 or float64."""
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name}: expected a torch.dtype, got {type(dtype).__name__}")
    if dtype not in FLOAT_DTYPES:
        raise MemcoreError(f"{name}: expected torch.float32 or torch.float64, got {dtype}")


def check_tensor(
    name: str, value: object, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """Raise unless ``value`` is a tensor of that shape, dtype and device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    check_layout(name, value)
    if value.shape == shape and value.dtype == dtype and value.device == device:
        return
    for what, expected, actual in (
        ("shape", list(shape), list(value.shape)),
        ("dtype", dtype, value.dtype),
        ("device", device, value.device),
    ):
        if expected != actual:
            raise MemcoreError(f"{name}: expected {what} {expected}, got {actual}")
