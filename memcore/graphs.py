"""Where ``torch.compile`` breaks its graph: at what is edited in place underneath."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

__all__ = ["outside_of_graphs", "without_dynamo"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])


def without_dynamo(function: Function) -> Function:
    """A function that `torch.compile` does not look into, nor into what it calls."""
    # torch.compiler.disable imports the compiler at once, which takes two seconds.
    disable: Any = getattr(torch, "_disable_dynamo", None) or torch.compiler.disable
    return disable(function)


def outside_of_graphs(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Have ``torch.compile`` break its graph at a call, which then runs as it is.

    It would trace into edits of NumPy views, and make of them operations on copies.
    """
    as_it_is = without_dynamo(function)

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if torch.compiler.is_compiling():
            return as_it_is(*args, **kwargs)
        return function(*args, **kwargs)

    return call
