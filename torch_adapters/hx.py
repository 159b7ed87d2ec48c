"""From the ``hx`` that a caller passes to what the time loop carries, checked at the door."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memcore import MemcoreError
from memcore.errors import check_tensor
from torch_adapters.carried import Carried
from torch_adapters.cell import Cell
from torch_adapters.controller import ControllerState
from torch_adapters.state import Hidden, ModuleState

__all__ = ["Door"]


@dataclass(frozen=True)
class Door:
    """What a module's state looks like for one batch: makes it, lets it in, hands it out."""

    cell: Cell[Any]
    batch_size: int
    hidden_shape: tuple[int, int]  # num_hidden_layers, H
    num_layers: int
    is_lstm: bool
    shared_memory: bool
    dtype: torch.dtype  # of the parameters
    device: torch.device
    rows: Sequence[Tensor]  # of each memory the [W] that it begins with; none: zeros

    @property
    def memory_dtype(self) -> torch.dtype:
        """The parameters' dtype, but float32 for the half precisions."""
        return torch.promote_types(self.dtype, torch.float32)

    def new_hidden(self) -> list[ControllerState]:
        """Controller states of zeros."""
        layers, width = self.hidden_shape
        parts = 2 if self.is_lstm else 1
        shape = (self.num_layers, layers, parts, self.batch_size, width)
        zeros = torch.zeros(shape, dtype=self.dtype, device=self.device)
        # A tensor each: what is compiled for one given twice is not for two.
        return [[part.unbind(0) for part in layer.unbind(0)] for layer in zeros.unbind(0)]

    def new_memories(self) -> list[Any]:
        """Empty memories."""
        count = 1 if self.shared_memory else self.num_layers
        place = {"dtype": self.memory_dtype, "device": self.device}
        try:
            rows = self.rows or [None] * count
            return [self.cell.init_state(self.batch_size, row=row, **place) for row in rows]
        except MemcoreError as error:
            # A module calls them by another name.
            raise MemcoreError(re.sub("^slots:", "nr_cells:", str(error))) from error

    def new_reads(self) -> Tensor:
        """Read vectors of zeros."""
        shape = (self.batch_size, self.cell.read_size)
        return torch.zeros(shape, dtype=self.memory_dtype, device=self.device)

    def enter(self, hx: object) -> Carried:
        """Check ``hx`` and fill what is None.

        Raises:
            TypeError: a part of the wrong type.
            MemcoreError: a part of the wrong shape, dtype or device.
        """
        if hx is None:
            hx = (None, None, None)
        if not isinstance(hx, tuple | list) or len(hx) != 3:
            also = "; state_from_dict makes one of what state_to_dict gave"
            raise TypeError(
                "hx: expected None or a tuple (controller_hidden, memory, read_vectors), "
                f"got {_describe(hx)}{also if isinstance(hx, dict) else ''}"
            )
        hidden, memory, reads = hx
        return Carried(
            self.new_hidden() if hidden is None else self._check_hidden(hidden),
            self.new_memories() if memory is None else self._check_memories(memory),
            self.new_reads() if reads is None else self._check_reads(reads),
        )

    def empty(self, carried: Carried, which: bool | Tensor) -> Carried:
        """Empty memory and reads of all or of some examples, as ``reset_experience`` asks."""
        if which is False:
            return carried
        if which is True:
            return Carried(carried.hidden, self.new_memories(), self.new_reads())
        if not isinstance(which, Tensor):
            raise TypeError(
                f"reset_experience: expected a bool or a bool tensor, got {_describe(which)}"
            )
        check_tensor("reset_experience", which, (self.batch_size,), torch.bool, self.device)
        return carried.empty(self.cell, which, self.rows)

    def leave(self, carried: Carried) -> ModuleState:
        """What the caller gets; controller states in the parameters' dtype after autocast too."""
        # RNN states as torch's own RNNs have them: [num_hidden_layers, B, H]. Under autocast
        # they can come out in a half precision.
        hidden: list[Hidden] = []
        for layer in carried.hidden:
            stacked = [torch.stack(part).to(self.dtype) for part in zip(*layer, strict=True)]
            hidden.append((stacked[0], stacked[1]) if self.is_lstm else stacked[0])
        memory = carried.memories[0] if self.shared_memory else carried.memories
        return hidden, memory, carried.reads

    def _check_hidden(self, hidden: Any) -> list[ControllerState]:
        if not isinstance(hidden, list) or len(hidden) != self.num_layers:
            raise MemcoreError(
                f"hx[0]: expected a list of {self.num_layers} RNN states, one a layer, "
                f"got {_describe(hidden)}"
            )
        layers, width = self.hidden_shape
        shape = (layers, self.batch_size, width)
        result: list[ControllerState] = []
        for layer, state in enumerate(hidden):
            name = f"hx[0][{layer}]"
            if self.is_lstm and (not isinstance(state, tuple) or len(state) != 2):
                raise TypeError(
                    f"{name}: expected a tuple of two tensors (LSTM), got {_describe(state)}"
                )
            parts: tuple[Any, ...] = state if self.is_lstm else (state,)
            for part, value in enumerate(parts):
                label = f"{name}[{part}]" if self.is_lstm else name
                check_tensor(label, value, shape, self.dtype, self.device)
            result.append(list(zip(*(value.unbind(0) for value in parts), strict=True)))
        return result

    def _check_memories(self, memory: Any) -> list[Any]:
        if self.shared_memory:
            named = {"hx[1]": memory}
        elif isinstance(memory, list) and len(memory) == self.num_layers:
            named = {f"hx[1][{layer}]": state for layer, state in enumerate(memory)}
        else:
            raise MemcoreError(
                f"hx[1]: expected a list of {self.num_layers} memory states, one a layer "
                f"(share_memory=False), got {_describe(memory)}"
            )
        for name, state in named.items():
            self.cell.check_state(name, state, self.batch_size, self.memory_dtype, self.device)
        return list(named.values())

    def _check_reads(self, reads: Any) -> Tensor:
        shape = (self.batch_size, self.cell.read_size)
        check_tensor("hx[2]", reads, shape, self.memory_dtype, self.device)
        return reads


def _describe(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
