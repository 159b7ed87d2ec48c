"""What the time loop asks of a memory, and the answer for states of plain tensors.

A cell is the batched form of one of memcore's models. It holds sizes, never state: states go
in and out of its methods, and are not changed by them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from memcore.errors import allocated, check_size, check_tensor

__all__ = ["Cell", "DenseCell", "DenseMemory", "batched_zeros"]

State = TypeVar("State")


class Cell(Protocol[State]):
    """A memory as the time loop sees it; ``State`` holds a whole batch."""

    @property
    def interface_sizes(self) -> Mapping[str, int]:
        """How many numbers each part of the interface vector takes, in order."""
        ...

    @property
    def read_size(self) -> int:
        """Length of an example's read vectors, all heads together."""
        ...

    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        row: Tensor | None = None,
    ) -> State:
        """The state before the first step; ``row [W]``, where given, is that of all slots."""
        ...

    def check_state(
        self, name: str, state: object, batch_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Raise unless ``state`` is one of this memory's, for so many examples."""
        ...

    def step(self, state: State, interface: Tensor) -> tuple[Tensor, State]:
        """From interface vectors ``[B, I]`` to read vectors ``[B, R·W]`` and the next state."""
        ...

    def reset(self, state: State, examples: Tensor, row: Tensor | None = None) -> State:
        """The state with those examples, a bool tensor ``[B]``, as `init_state` has them."""
        ...

    def take(self, state: State, examples: Tensor) -> State:
        """The state of those examples, given as a permutation ``[B]`` of the batch."""
        ...

    def narrow(self, state: State, count: int) -> State:
        """The state of the first ``count`` examples."""
        ...

    def widen(self, state: State, before: State) -> State:
        """Undo `narrow`: the examples that it left out, as they were ``before``."""
        ...

    def trace(self, state: State, example: int) -> dict[str, Tensor]:
        """What the debug dictionary shows of one example, each a tensor ``[size]``."""
        ...


class DenseCell(ABC, Generic[State]):
    """A cell whose state is a named tuple of tensors, each with the batch in front."""

    @abstractmethod
    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        row: Tensor | None = None,
    ) -> State:
        """The state before the first step."""

    def check_state(
        self, name: str, state: object, batch_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Raise unless ``state`` has the type and shapes of this cell's initial state."""
        expected = self.init_state(batch_size, dtype=dtype, device="meta")
        if not isinstance(state, type(expected)):
            raise TypeError(
                f"{name}: expected a {type(expected).__name__}, got {type(state).__name__}"
            )
        for field, shape in _fields(expected).items():
            check_tensor(f"{name}.{field}", getattr(state, field), shape.shape, dtype, device)

    def reset(self, state: State, examples: Tensor, row: Tensor | None = None) -> State:
        """The state with those examples back at the beginning."""
        fields = _fields(state)
        first = next(iter(fields.values()))
        place = {"dtype": first.dtype, "device": first.device}
        empty = _fields(self.init_state(1, row=row, **place))
        chosen = {
            name: torch.where(examples.view(-1, *[1] * (value.dim() - 1)), empty[name], value)
            for name, value in fields.items()
        }
        return type(state)(**chosen)

    def take(self, state: State, examples: Tensor) -> State:
        """The state of those examples."""
        return type(state)(*(value[examples] for value in _fields(state).values()))

    def narrow(self, state: State, count: int) -> State:
        """The state of the first ``count`` examples."""
        return type(state)(*(value[:count] for value in _fields(state).values()))

    def widen(self, state: State, before: State) -> State:
        """The examples of ``state``, then those of ``before`` that come after them."""
        pairs = zip(_fields(state).values(), _fields(before).values(), strict=True)
        return type(state)(*(torch.cat([new, old[len(new) :]]) for new, old in pairs))


@dataclass(frozen=True)
class DenseMemory(DenseCell[State]):
    """The cell of one of memcore's dense models, in compiled loops or under one ``vmap``.

    Args:
        nr_cells: N.
        cell_size: W.
        read_heads: R.
        options: what the memory's functions take by that name.
    """

    nr_cells: int
    cell_size: int
    read_heads: int
    options: Any

    memory: ClassVar[Any]  # `memcore.dnc` or `memcore.dam`

    def __post_init__(self) -> None:
        for name in ("nr_cells", "cell_size", "read_heads"):
            # Frozen: a field can be normalised in this way only.
            object.__setattr__(self, name, check_size(name, getattr(self, name)))

    @property
    def interface_sizes(self) -> Mapping[str, int]:
        """How many numbers each part of the interface vector takes, in order."""
        sizes = self.cell_size, self.read_heads
        return self.memory.interface_sizes(*sizes, options=self.options)

    @property
    def read_size(self) -> int:
        """Length of an example's read vectors."""
        return self.read_heads * self.cell_size

    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        row: Tensor | None = None,
    ) -> State:
        """An empty memory for each example; ``row [W]``, where given, is that of all slots."""
        state: Any = batched_zeros(self.empty(dtype=dtype, device=device), batch_size)
        if row is not None:
            # A copy: the parameter may move on while the state is kept.
            state = state._replace(memory=row.expand_as(state.memory).clone())
        return state

    @abstractmethod
    def empty(self, *, dtype: torch.dtype, device: torch.device | str) -> State:
        """An empty memory for one example."""

    def step(self, state: State, interface: Tensor, backend: str = "auto") -> tuple[Tensor, State]:
        """From interface vectors ``[B, I]`` to read vectors ``[B, R·W]`` and the next state."""
        # What reaches a cell was checked at the module's door.
        reads, state = self.memory.batched_step_unchecked(state, interface, self.options, backend)
        return reads.flatten(1), state

    def trace(self, state: State, example: int) -> dict[str, Tensor]:
        """The debug dictionary's row."""
        return {name: value[example].flatten() for name, value in _fields(state).items()}


def batched_zeros(state: State, batch_size: int) -> State:
    """Zeros of the shapes of a state, for so many examples.

    Raises:
        MemcoreError: there is too little memory for them.
    """
    fields = list(_fields(state).values())
    sizes = [field.numel() for field in fields]
    largest = fields[sizes.index(max(sizes))]

    def make() -> State:
        return type(state)(*(x.new_zeros(batch_size, *x.shape) for x in fields))

    shape = (batch_size, *largest.shape)
    return allocated(make, shape, largest.dtype, "take fewer slots or a smaller batch")


def _fields(state: object) -> dict[str, Tensor]:
    return state._asdict()  # pyright: ignore[reportAttributeAccessIssue]
