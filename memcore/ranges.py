"""Values out of their range, looked for where that costs little: on a CPU, in a call by itself.

Under ``vmap``, tracing and the like values cannot be looked at, and on another device that would be
a wait; there, as in a step of a model, an operation does with any number what its equation says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from memcore.circumstances import has_numbers
from memcore.errors import Checked, MemcoreError

__all__ = ["UNIT", "WEIGHTING", "in_range"]

UNIT = "numbers in [0, 1]"
WEIGHTING = "weights of at least 0 with sums of at most 1"

SLACK = 1e-3  # what roundings, or finite differences, take over an edge

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_range(
    **ranges: str,
) -> Callable[[Checked[Parameters, Result]], Checked[Parameters, Result]]:
    """Check, after shapes, that arguments are in their range but for rounding; NaN passes.

    Args:
        ranges: `UNIT` or `WEIGHTING` for the arguments to look at. The sums of a `WEIGHTING` are
            those along the last axis.
    """

    def decorate(function: Checked[Parameters, Result]) -> Checked[Parameters, Result]:
        parameters = tuple(inspect.signature(function).parameters)

        @wraps(function)
        def check_then_call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            result = function(*args, **kwargs)
            given = {**dict(zip(parameters, args, strict=False)), **kwargs}
            for name, expected in ranges.items():
                _check(name, given[name], expected)  # pyright: ignore[reportArgumentType]
            return result

        return check_then_call  # pyright: ignore[reportReturnType]

    return decorate


def _check(name: str, value: Tensor, expected: str) -> None:
    if not value.is_cpu or not has_numbers(value):
        return
    with torch.no_grad():
        least, most = map(float, value.aminmax())
        if least < -SLACK or most > 1 + SLACK:
            raise MemcoreError(
                f"{name}: expected {expected}, got {least if least < -SLACK else most:g}"
            )
        if expected is WEIGHTING:
            most = float(value.sum(-1).amax())
            if most > 1 + SLACK:
                raise MemcoreError(f"{name}: expected {expected}, got a sum of {most:g}")
