"""What values that come in batches check of slots and of examples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memcore.circumstances import check_outside_transforms, has_numbers
from memcore.errors import MemcoreError, check_layout

__all__ = ["check_examples", "check_flags", "check_narrowed", "check_slots"]

FEW = 256  # numbers, of which Python finds the least sooner than torch


def check_examples(name: str, examples: object, batch: int) -> list[int]:
    """``examples`` as a list; raise unless it is an int64 tensor ``[b]`` of numbers in [0, B)."""
    check_outside_transforms(name)
    if not isinstance(examples, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(examples).__name__}")
    check_layout(name, examples)
    if examples.dim() != 1 or examples.dtype != torch.int64 or not len(examples):
        raise MemcoreError(
            f"{name}: expected a non-empty int64 tensor [b], got {examples.dtype} of shape "
            f"{list(examples.shape)}"
        )
    chosen = examples.tolist()
    if not all(0 <= example < batch for example in chosen):
        raise MemcoreError(f"{name}: expected numbers in [0, {batch}), got {chosen}")
    return chosen


def check_flags(name: str, flags: object, batch: int) -> None:
    """Raise unless ``flags`` is a bool tensor ``[B]``."""
    check_outside_transforms(name)
    if not isinstance(flags, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(flags).__name__}")
    check_layout(name, flags)
    if flags.dtype != torch.bool or flags.shape != (batch,):
        raise MemcoreError(
            f"{name}: expected a bool tensor [{batch}], got {flags.dtype} of shape "
            f"{list(flags.shape)}"
        )


def check_narrowed(name: str, value: Any, before: Any) -> None:
    """Raise unless ``value`` may be what became of some examples of ``before``."""
    kind = type(value).__name__
    if type(before) is not type(value):
        raise TypeError(f"{name}: expected a {kind}, got {type(before).__name__}")
    if before._version.origin is not value._version.origin:
        raise MemcoreError(
            f"{name}: expected the {kind} that this was narrowed from, got another, which began by "
            "itself"
        )


def check_slots(name: str, index: object, batch: int, slots: int) -> None:
    """Raise unless ``index`` is an int tensor ``[B, J]`` of, on a CPU, slots in [0, N)."""
    check_outside_transforms(name)
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(index).__name__}")
    check_layout(name, index)
    if index.dim() != 2 or index.shape[0] != batch:
        raise MemcoreError(f"{name}: expected shape [{batch}, J], got {list(index.shape)}")
    if index.dtype not in (torch.int64, torch.int32):
        raise MemcoreError(f"{name}: expected dtype int64 or int32, got {index.dtype}")
    if index.is_cpu and index.numel():
        if index.numel() < FEW and has_numbers(index):  # the sooner done in Python
            chosen = index.flatten().tolist()
            least, most = min(chosen), max(chosen)
        else:
            least, most = map(int, index.aminmax())
        if least < 0 or most >= slots:
            raise MemcoreError(
                f"{name}: expected slots in [0, {slots}), got {least if least < 0 else most}"
            )
