"""Whether what a checkpoint holds is of the kind that this program would have put there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models import build_optimizer

__all__ = ["out_of_range", "unlike", "wrong_optimizer"]


def out_of_range(name: str, found: int, least: int) -> str | None:
    """What is wrong with a whole number, if anything is."""
    return None if least <= found < 2**31 else f"{name} is {found}"


def unlike(name: str, found: object, expected: object) -> str | None:
    """What of a saved value is not of the kind of another, if anything is.

    Numbers and texts are compared by their type, tensors by dtype and shape, what is in a list by
    the first there. The name is for the answer.
    """
    if isinstance(expected, Tensor):
        if isinstance(found, Tensor) and (found.dtype, found.shape) == (
            expected.dtype, expected.shape,
        ):  # fmt: skip
            return None
        return f"{name} is {_briefly(found)}"
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(expected, dict):
        if not isinstance(found, dict) or found.keys() != expected.keys():
            return f"{name} is {_briefly(found)}"
        parts = [(f"{name}[{k!r}]", found[k], expected[k]) for k in expected]
    elif isinstance(expected, list | tuple):
        if type(found) is not type(expected):
            return f"{name} is {_briefly(found)}"
        parts = [(f"{name}[{at}]", own, expected[0]) for at, own in enumerate(found) if expected]
    elif type(found) is not type(expected) and {type(found), type(expected)} != {int, float}:
        return f"{name} is {_briefly(found)}"
    return next(filter(None, (unlike(*part) for part in parts)), None)


def wrong_optimizer(found: dict[str, Any], kind: str, parameters: Sequence[Tensor]) -> str | None:
    """What of an optimizer's saved state is wrong, if anything is: as after a step of these."""
    own = [torch.nn.Parameter(torch.zeros_like(parameter)) for parameter in parameters]
    for parameter in own:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = build_optimizer(kind, own, 0.1)
    optimizer.step()
    expected = optimizer.state_dict()
    states, wrong = found.get("state"), None
    if not isinstance(states, dict) or not states.keys() <= set(range(len(own))):
        return f"optimizer['state'] is {_briefly(states)}"
    # A parameter that has had no gradient has no state.
    for key, state in states.items():
        wrong = wrong or unlike(f"optimizer['state'][{key}]", state, expected["state"].get(key, {}))
    return wrong


def _briefly(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} of shape {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
