"""Tensors, calls and states as Python that can be pasted."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["call", "name_of", "named_tuple", "numbers", "tensor"]

WIDTH = 88
MANY = 6  # zeros, which are not written out


def numbers(values: Tensor) -> str:
    """The numbers of a tensor, as short as their dtype lets them be: ``[0.5, 0.1]``."""
    values = values.detach()
    if values.dim():
        return f"[{', '.join(map(numbers, values))}]"
    return str(values.numpy()) if values.is_floating_point() else str(values.item())


def tensor(values: Any) -> str:
    """``torch.tensor([0.5, 0.1], dtype=torch.float64)``; what is no tensor as its repr."""
    if not isinstance(values, Tensor):
        return repr(values)
    more = "" if values.dtype == torch.float32 else f", dtype={values.dtype}"
    more += ", requires_grad=True" if values.requires_grad else ""
    if values.numel() > MANY and not (values != 0).any():
        return f"torch.zeros({', '.join(map(str, values.shape))}{more})"
    return f"torch.tensor({numbers(values)}{more})"


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called, as far as that is a name."""
    name = getattr(function, "__name__", "")
    return name if name.isidentifier() else "function"


def call(function: Callable[..., Any], arguments: tuple[Any, ...], inside: str = "{}") -> str:
    """A call of a function, by the names of its own parameters."""
    names = _parameters(function)
    if len(names) < len(arguments):
        return _called(inside.format(name_of(function)), [tensor(value) for value in arguments])
    return named(inside.format(name_of(function)), dict(zip(names, arguments, strict=False)))


def named(name: str, arguments: Mapping[str, Any]) -> str:
    """A call by keywords; named tuples in the arguments are written out."""
    return _called(name, [f"{key}={_value(value)}" for key, value in arguments.items()])


def named_tuple(value: Any) -> str:
    """A named tuple of tensors as the call that makes it."""
    return named(type(value).__name__, value._asdict())


def _value(value: Any) -> str:
    return named_tuple(value) if hasattr(value, "_asdict") else tensor(value)


def _called(name: str, arguments: list[str]) -> str:
    line = f"{name}({', '.join(arguments)})"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    if len(arguments) == 1:
        return line
    body = "".join(f"{argument},\n" for argument in arguments)
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{name}(\n{indented})"


def _parameters(function: Callable[..., Any]) -> list[str]:
    """Those that may be given by position and by name, up to the first that may not."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin may have none
        return []
    names = []
    for parameter in parameters:
        if parameter.kind != parameter.POSITIONAL_OR_KEYWORD:
            break
        names.append(parameter.name)
    return names
