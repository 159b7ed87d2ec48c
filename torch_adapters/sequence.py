"""The layouts a sequence comes in, taken apart into time steps and put together again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from memcore import MemcoreError
from memcore.errors import check_layout

__all__ = ["Steps", "join", "split", "split_flags"]


class Steps(NamedTuple):
    """A batch of sequences, step by step, the longest examples first."""

    rows: Tensor  # [all steps, X], b rows a step
    batch_sizes: tuple[int, ...]  # b of each step; never grows
    sorted_indices: Tensor | None  # [B]: which example stands where; None: as given
    unsorted_indices: Tensor | None  # [B]: where each example stands

    def length_of(self, example: int) -> int:
        """Number of steps of one example, counted as given."""
        place = self.place_of(example)
        return sum(size > place for size in self.batch_sizes)

    def place_of(self, example: int) -> int:
        """Where an example of the batch as given stands in the steps."""
        return example if self.unsorted_indices is None else int(self.unsorted_indices[example])


def split(
    input: Tensor | PackedSequence,
    batch_first: bool,
    input_size: int,
    dtype: torch.dtype,
    device: torch.device,
    autocast: bool = False,
) -> Steps:
    """Take a padded ``[B, T, X]`` or ``[T, B, X]`` or a packed sequence apart.

    Raises:
        TypeError: another type.
        MemcoreError: wrong rank, size, dtype (under autocast any floating one will do) or device.
    """
    data = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(data, Tensor):
        raise TypeError(
            f"input: expected a torch.Tensor or PackedSequence, got {type(input).__name__}"
        )
    check_layout("input", data)
    axes = ("batch", "time", "input_size") if batch_first else ("time", "batch", "input_size")
    if isinstance(input, PackedSequence):
        axes = ("packed steps", "input_size")
    layout = f"[{', '.join(axes[:-1])}, {input_size}]"
    if data.dim() != len(axes) or data.shape[-1] != input_size or data.numel() == 0:
        raise MemcoreError(
            f"input: expected shape {layout} with no empty axis, got {list(data.shape)}"
        )
    if autocast and data.is_floating_point():
        data = data.to(dtype)
    if data.dtype != dtype:
        raise MemcoreError(f"input: expected the parameters' dtype {dtype}, got {data.dtype}")
    if data.device != device:
        raise MemcoreError(f"input: expected the parameters' device {device}, got {data.device}")
    if isinstance(input, PackedSequence):
        sizes = _packed_sizes("input", input)
        return Steps(data, sizes, input.sorted_indices, input.unsorted_indices)
    steps = data.transpose(0, 1) if batch_first else data
    sizes = (steps.shape[1],) * steps.shape[0]
    return Steps(steps.flatten(0, 1), sizes, None, None)


def join(outputs: Tensor, input: Tensor | PackedSequence, batch_first: bool) -> Tensor:
    """Bring outputs ``[all steps, Y]``, in the order of the steps, into the input's layout."""
    if isinstance(input, PackedSequence):
        return input._replace(data=outputs)  # pyright: ignore[reportReturnType]
    steps = outputs.view(input.shape[1 if batch_first else 0], -1, outputs.shape[-1])
    return steps.transpose(0, 1) if batch_first else steps


def split_flags(
    name: str, flags: Tensor | PackedSequence | None, batch_first: bool, steps: Steps
) -> list[Tensor | None]:
    """Take a bool for each example and step apart into steps.

    Args:
        name: what to call it in errors.
        flags: ``[B, T]``, ``[T, B]`` if not ``batch_first``, or packed as the input was.
        batch_first: the layout.
        steps: the input's steps.

    Returns:
        One ``[b]`` a step, or None where it holds no True.

    Raises:
        TypeError: another type.
        MemcoreError: wrong shape, dtype or device.
    """
    sizes = steps.batch_sizes
    if flags is None:
        return [None] * len(sizes)
    packed = isinstance(flags, PackedSequence)
    data = flags.data if packed else flags
    if not isinstance(data, Tensor):
        raise TypeError(
            f"{name}: expected a bool tensor or PackedSequence, got {type(flags).__name__}"
        )
    check_layout(name, data)
    padded_shape = [sizes[0], len(sizes)] if batch_first else [len(sizes), sizes[0]]
    shape = [sum(sizes)] if packed else padded_shape
    axes = "" if packed else " [batch, time]" if batch_first else " [time, batch]"
    if data.dtype != torch.bool or list(data.shape) != shape:
        raise MemcoreError(
            f"{name}: expected a bool tensor of shape {shape}{axes}, "
            f"got {data.dtype} of shape {list(data.shape)}"
        )
    device = steps.rows.device
    if data.device != device:
        raise MemcoreError(f"{name}: expected device {device}, got {data.device}")
    if packed:
        if _packed_sizes(name, flags) != sizes or not _same(
            flags.sorted_indices, steps.sorted_indices
        ):
            raise MemcoreError(f"{name}: expected to be packed just as the input is")
        rows = data.split(sizes)
    else:
        by_example = data if batch_first else data.t()
        if steps.sorted_indices is not None:
            by_example = by_example[steps.sorted_indices]
        rows = [by_example[:size, time] for time, size in enumerate(sizes)]
    some = torch.stack([row.any() for row in rows]).tolist()
    return [row if any_set else None for row, any_set in zip(rows, some, strict=True)]


def _packed_sizes(name: str, packed: PackedSequence) -> tuple[int, ...]:
    """How many examples have each step; raise unless the parts of a packed sequence fit."""
    given, count = packed.batch_sizes, len(packed.data)
    if given.dim() != 1 or given.dtype != torch.int64 or not len(given):
        raise MemcoreError(
            f"{name}.batch_sizes: expected a non-empty int64 tensor [T], "
            f"got {given.dtype} of shape {list(given.shape)}"
        )
    sizes = tuple(given.tolist())
    if sizes[-1] < 1 or any(one < other for one, other in pairwise(sizes)) or sum(sizes) != count:
        raise MemcoreError(
            f"{name}.batch_sizes: expected positive numbers that never grow and have the sum "
            f"{count}, the steps in {name}.data, got {_some(sizes)}"
        )
    orders = packed.sorted_indices, packed.unsorted_indices
    if (orders[0] is None) != (orders[1] is None):
        raise MemcoreError(
            f"{name}.unsorted_indices: expected the inverse of {name}.sorted_indices, got only one "
            "of them"
        )
    names = ("sorted_indices", "unsorted_indices")
    for field, order in zip(names, orders, strict=True):
        if order is None:
            return sizes
        if order.dtype != torch.int64 or order.shape != (sizes[0],):
            raise MemcoreError(
                f"{name}.{field}: expected an int64 tensor [{sizes[0]}], "
                f"got {order.dtype} of shape {list(order.shape)}"
            )
    first, second = orders
    if first is not None and second is not None and first.is_cpu and second.is_cpu:
        there, back = first.tolist(), second.tolist()
        every = range(sizes[0])
        if sorted(there) != list(every) or any(there[back[one]] != one for one in every):
            raise MemcoreError(
                f"{name}.sorted_indices: expected each of 0 to {sizes[0] - 1} once, and "
                f"{name}.unsorted_indices its inverse, got {_some(there)} and {_some(back)}"
            )
    return sizes


def _some(numbers: Sequence[int]) -> str:
    """As a list, the middle of a long one left out."""
    if len(numbers) <= 12:
        return str(list(numbers))
    begin, end = (", ".join(map(str, part)) for part in (numbers[:6], numbers[-3:]))
    return f"[{begin}, …, {end}]"


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one, other)
