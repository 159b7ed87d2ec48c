"""DAM, the dense control of SAM, as a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from memcore import dam
from memcore.errors import check_size
from torch_adapters.cell import DenseCell, batched_zeros
from torch_adapters.options import RNNOptions
from torch_adapters.recurrence import MemoryRNN

__all__ = ["DAM", "DAMCell"]


@dataclass(frozen=True)
class DAMCell(DenseCell[dam.DAMState]):
    """DAM's memory, batched: `memcore.dam` in compiled loops or under one ``vmap``."""

    nr_cells: int
    cell_size: int
    read_heads: int

    kernel: ClassVar[str] = "DAM"
    state_type: ClassVar[type[Any]] = dam.DAMState

    def __post_init__(self) -> None:
        for name in ("nr_cells", "cell_size", "read_heads"):
            # Frozen: a field can be normalised in this way only.
            object.__setattr__(self, name, check_size(name, getattr(self, name)))

    @property
    def interface_sizes(self) -> Mapping[str, int]:
        """How many numbers each part of the interface vector takes, in order."""
        return dam.interface_sizes(self.cell_size, self.read_heads)

    @property
    def read_size(self) -> int:
        """Length of an example's read vectors."""
        return self.read_heads * self.cell_size

    def init_state(
        self, batch_size: int, *, dtype: torch.dtype, device: torch.device | str
    ) -> dam.DAMState:
        """An empty memory for each example."""
        state = dam.init_state(
            self.nr_cells, self.cell_size, self.read_heads, dtype=dtype, device=device
        )
        return batched_zeros(state, batch_size)

    def step(
        self, state: dam.DAMState, interface: Tensor, backend: str = "auto"
    ) -> tuple[Tensor, dam.DAMState]:
        """From interface vectors ``[B, I]`` to read vectors ``[B, R·W]`` and the next state."""
        # What reaches a cell was checked at the module's door.
        reads, state = dam.batched_step_unchecked(state, interface, backend)
        return reads.flatten(1), state

    def trace(self, state: dam.DAMState, example: int) -> dict[str, Tensor]:
        """The debug dictionary's row."""
        return {name: value[example].flatten() for name, value in state._asdict().items()}


class DAM(MemoryRNN):
    """Dense Access Memory: the equations of `SAM` with a softmax over all slots, its dense control.

    Every step copies the whole memory. Rae et al. 2016, "Scaling Memory-Augmented Neural Networks
    with Sparse Reads and Writes" (arXiv 1610.09027). The memory is `memcore.dam`; how to call the
    module stands in `forward`.

    Args:
        input_size: X, the width of the input.
        hidden_size: H, the width of the controller.
        rnn_type: as in `DNC`; so are all that are not explained here.
        num_layers: as in `DNC`.
        num_hidden_layers: as in `DNC`.
        bias: as in `DNC`.
        batch_first: as in `DNC`.
        dropout: as in `DNC`.
        bidirectional: must be False.
        nr_cells: N, the slots of the memory.
        read_heads: R.
        cell_size: W, the width of a slot.
        nonlinearity: as in `DNC`.
        gpu_id: as in `DNC`.
        independent_linears: as in `DNC`.
        share_memory: as in `DNC`.
        debug: as in `DNC`.
        clip: as in `DNC`.
        output_size: as in `DNC`.
        device: as in `DNC`.
        dtype: as in `DNC`.
        backend: as in `DNC`.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: an argument out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        rnn_type: str = "lstm",
        num_layers: int = 1,
        num_hidden_layers: int = 2,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0,
        bidirectional: bool = False,
        nr_cells: int = 5000,
        read_heads: int = 4,
        cell_size: int = 10,
        nonlinearity: str = "tanh",
        gpu_id: int = -1,
        independent_linears: bool = False,
        share_memory: bool = True,
        debug: bool = False,
        clip: float = 20,
        output_size: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None:
        options = RNNOptions(
            input_size=input_size,
            hidden_size=hidden_size,
            rnn_type=rnn_type,
            num_layers=num_layers,
            num_hidden_layers=num_hidden_layers,
            bias=bias,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            nonlinearity=nonlinearity,
            gpu_id=gpu_id,
            independent_linears=independent_linears,
            share_memory=share_memory,
            debug=debug,
            clip=clip,
            output_size=output_size,
            device=device,
            dtype=dtype,
            backend=backend,
        )
        super().__init__(DAMCell(nr_cells, cell_size, read_heads), options)
