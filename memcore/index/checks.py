"""What every index checks of its arguments, at the price of a few comparisons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memcore.circumstances import check_outside_transforms
from memcore.errors import MemcoreError, check_tensor

__all__ = ["check_fits", "check_masks", "check_options", "check_search", "check_update"]

Sizes = tuple[int, int, int]


def check_fits(sizes: Sizes, dtype: torch.dtype, memory: Any) -> None:
    """Raise unless an index of ``sizes`` (B, N, W) was made for memories like this one.

    Kernels would write beyond the table of one with fewer slots.

    Raises:
        MemcoreError: another number of slots, another word size or dtype.
    """
    made, asked = (*sizes[1:], dtype), (*memory.shape[1:], memory.dtype)
    if made != asked:
        raise MemcoreError(
            f"index: expected one for {asked[0]} slots of {asked[1]} numbers of {asked[2]}, "
            f"got one for {made[0]} of {made[1]} of {made[2]}"
        )


def check_search(
    sizes: Sizes,
    dtype: torch.dtype,
    device: torch.device,
    keys: Any,
    k: Any,
    examples: Any,
) -> None:
    """Raise unless ``keys [b, R, W]`` and ``k`` fit an index of ``sizes`` (B, N, W).

    Raises:
        TypeError: ``keys`` is not a tensor, or ``k`` not an int.
        MemcoreError: another shape, dtype or device, or ``k`` outside 1 to N.
    """
    check_outside_transforms("keys")
    if not isinstance(keys, Tensor):
        raise TypeError(f"keys: expected a torch.Tensor, got {type(keys).__name__}")
    batch = _batch(sizes, examples)
    if keys.dim() != 3 or keys.shape[0] != batch or keys.shape[2] != sizes[2]:
        raise MemcoreError(f"keys: expected shape [{batch}, R, {sizes[2]}], got {list(keys.shape)}")
    _check_kind("keys", keys, dtype, device)
    if type(k) is not int:
        raise TypeError(f"k: expected an int, got {type(k).__name__}")
    if not 1 <= k <= sizes[1]:
        raise MemcoreError(f"k: expected 1 to N = {sizes[1]}, got {k}")


def check_masks(keys: Tensor, masks: Any) -> None:
    """Raise unless ``masks`` are a tensor like ``keys``."""
    check_tensor("masks", masks, tuple(keys.shape), keys.dtype, keys.device)


def check_update(
    sizes: Sizes,
    dtype: torch.dtype,
    device: torch.device,
    index: Any,
    rows: Any,
    examples: Any,
) -> None:
    """Raise unless ``index [b, J]`` and ``rows [b, J, W]`` fit an index of ``sizes`` (B, N, W).

    That the slots are in [0, N) is left to the memory that they come from.

    Raises:
        TypeError: not tensors.
        MemcoreError: another shape, dtype or device.
    """
    check_outside_transforms("index")
    for name, value in (("index", index), ("rows", rows)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    batch = _batch(sizes, examples)
    if index.dim() != 2 or index.shape[0] != batch:
        raise MemcoreError(f"index: expected shape [{batch}, J], got {list(index.shape)}")
    if rows.shape != (*index.shape, sizes[2]):
        raise MemcoreError(
            f"rows: expected shape {[*index.shape, sizes[2]]}, got {list(rows.shape)}"
        )
    _check_kind("index", index, torch.int64, device)
    _check_kind("rows", rows, dtype, device)


def check_options(name: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
    """Raise, naming it, where an option is not among those ``known``.

    Raises:
        TypeError: an option of another name.
    """
    for option in options:
        if option not in known:
            has = f"expected one of {', '.join(known)}" if known else "it has none"
            raise TypeError(f"options of index {name!r}: {has}, got {option!r}")


def _batch(sizes: Sizes, examples: Any) -> int:
    return sizes[0] if examples is None else len(examples)


def _check_kind(name: str, value: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    if value.dtype is not dtype:
        raise MemcoreError(f"{name}: expected dtype {dtype}, got {value.dtype}")
    if value.device != device:
        raise MemcoreError(f"{name}: expected device {device}, got {value.device}")
