"""The one error of this library, and the checks that raise it.

Shapes, dtypes and devices are checked always: they cost no device synchronisation and hold
under ``vmap`` and ``torch.compile``. Values are checked only where the docstring says so.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

__all__ = ["MemcoreError"]

FLOAT_DTYPES = (torch.float32, torch.float64)


class MemcoreError(ValueError):
    """An argument has the wrong rank, size, dtype, device or value.

    The message names the argument, says what it must be and what it was. A call that raises
    it has changed nothing.
    """


def check_tensor(name: str, value: object) -> None:
    """Raise ``TypeError`` unless ``value`` is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")


def check_shapes(**arguments: tuple[Tensor, str]) -> dict[str, int]:
    """Check tensors against shapes written as axis names, and against each other.

    Args:
        **arguments: name → (tensor, shape), the shape as in ``"N W"`` or ``"R 3"``; an axis
            name must mean the same size everywhere, a number means itself, ``""`` a scalar.

    Returns:
        The size of each named axis.

    Raises:
        TypeError: an argument is not a tensor.
        MemcoreError: a rank, a size, a dtype (float32 or float64, the same for all) or a
            device (the same for all) is wrong.
    """
    sizes: dict[str, int] = {}
    dtype = device = None
    for name, (value, shape) in arguments.items():
        check_tensor(name, value)
        axes, actual = _axes(shape), value.shape
        if len(actual) != len(axes):
            hint = (
                " (one example at a time: batch with torch.func.vmap)"
                if len(actual) == len(axes) + 1
                else ""
            )
            raise MemcoreError(f"{name}: expected shape {_show(axes)}, got {list(actual)}{hint}")
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
    return sizes


@cache
def _axes(shape: str) -> tuple[str | int, ...]:
    return tuple(int(axis) if axis.isdigit() else axis for axis in shape.split())


def _show(axes: tuple[str | int, ...]) -> str:
    return f"[{', '.join(map(str, axes))}]"


def check_size(name: str, value: object, minimum: int = 1) -> None:
    """Raise unless ``value`` is an int of at least ``minimum``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if value < minimum:
        raise MemcoreError(f"{name}: expected an int of at least {minimum}, got {value}")


def check_float_dtype(name: str, dtype: object) -> None:
    """Raise unless ``dtype`` is float32 or float64."""
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{name}: expected a torch.dtype, got {type(dtype).__name__}")
    if dtype not in FLOAT_DTYPES:
        raise MemcoreError(f"{name}: expected torch.float32 or torch.float64, got {dtype}")
