"""Which of torch's own tools a call runs under, and what is done about it.

What is edited in place takes no part in transforms, and `torch.compile` breaks its graph at it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from memcore.errors import MemcoreError

__all__ = [
    "check_outside_transforms",
    "check_reverse_mode",
    "has_dynamo",
    "has_numbers",
    "is_exporting",
    "is_transformed",
    "is_wrapped",
    "outside_of_graphs",
    "without_dynamo",
]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])
EXPORT_TELLS = hasattr(torch.compiler, "is_exporting")


def is_transformed() -> bool:
    """Whether a ``torch.func`` transform is active: ``vmap``, ``grad``, ``jvp`` or the like."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore


def is_wrapped(tensor: Tensor) -> bool:
    """Whether it stands for others: in a ``torch.func`` transform, or a batch of gradients."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    wrapped = functorch.is_functorch_wrapped_tensor(tensor)
    return wrapped or functorch.is_legacy_batchedtensor(tensor)


def check_reverse_mode(name: str, instead: str) -> None:
    """Raise under what a value that is edited in place cannot take part in.

    Args:
        name: the value or model.
        instead: what can, a clause without a full stop.

    Raises:
        MemcoreError: forward-mode differentiation or a ``torch.func`` transform is active.
    """
    if forward_ad._current_level >= 0:
        raise MemcoreError(
            f"{name}: expected to be differentiated backward, got forward-mode differentiation "
            f"(jvp, jacfwd); {instead}"
        )
    if is_transformed():
        raise MemcoreError(_inside(name, instead))


def check_outside_transforms(name: str) -> None:
    """Raise where a ``torch.func`` transform is active, of which sparse values know nothing."""
    if is_transformed():
        raise MemcoreError(_inside(name, "what is sparse comes in batches of its own"))


def _inside(name: str, instead: str) -> str:
    return (
        f"{name}: expected to be used outside of torch.func transforms, got one (grad, vmap or the "
        f"like) that is active; {instead}"
    )


def has_numbers(tensor: Tensor) -> bool:
    """Whether its numbers can be looked at: no subclass, transform, mode or compiler is between."""
    return (
        type(tensor) in (Tensor, nn.Parameter, nn.Buffer)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # pyright: ignore
        and not is_transformed()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._has_storage(tensor)
    )


def is_exporting() -> bool:
    """Whether `torch.export` traces; always false before torch 2.7, which does not tell."""
    return EXPORT_TELLS and torch.compiler.is_exporting()


def has_dynamo() -> bool:
    """Whether `torch.compile` was used in this process, or at least its compiler loaded."""
    return "torch._dynamo" in sys.modules


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
