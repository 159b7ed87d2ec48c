"""SAM as a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memcore import RowMemory, sam, sparse_batched, sparse_state
from memcore.index import Index
from memcore.options import PLAIN_SAM, SAMOptions, options_among
from torch_adapters.options import RNNOptions
from torch_adapters.recurrence import MemoryRNN
from torch_adapters.sparse_cell import SparseCell

__all__ = ["SAM", "SAMCell"]


@dataclass(frozen=True)
class SAMCell(SparseCell[sam.SAMState]):
    """SAM's memory, `memcore.sam`."""

    nr_cells: int
    cell_size: int
    read_heads: int
    sparse_reads: int
    index: str | Index = "auto"
    options: SAMOptions = PLAIN_SAM
    kernel: ClassVar[str] = "SAM"

    def __post_init__(self) -> None:
        self._check_sizes("sparse_reads")

    @property
    def interface_sizes(self) -> Mapping[str, int]:
        """How many numbers each part of the interface vector takes, in order."""
        sizes = self.cell_size, self.read_heads
        return sam.interface_sizes(*sizes, options=self.options)

    def first_read_index(self, device: torch.device) -> Tensor:
        """The slots ``[K]`` that each head is on before the first step."""
        return torch.arange(self.sparse_reads, device=device)

    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        row: Tensor | None = None,
    ) -> sam.SAMState:
        """An empty memory for each example; ``row [W]``, where given, is that of all slots."""
        sizes = (self.nr_cells, self.cell_size, self.read_heads, self.sparse_reads)
        memory = None if row is None else RowMemory.filled(row, batch_size, self.nr_cells)
        place = {"dtype": dtype, "device": device}
        return sam.init_state(batch_size, *sizes, memory=memory, index=self.finder, **place)

    def check_state(
        self, name: str, state: object, batch_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Raise unless ``state`` is one of this memory's, for so many examples."""
        if not isinstance(state, sam.SAMState):
            raise TypeError(f"{name}: expected a SAMState, got {type(state).__name__}")
        sparse_state.check_parts(name, state)
        self.check_sizes(name, state, batch_size, dtype, device)

    def step(
        self, state: sam.SAMState, interface: Tensor, backend: str = "auto"
    ) -> tuple[Tensor, sam.SAMState]:
        """From interface vectors ``[B, I]`` to read vectors ``[B, R·W]`` and the next state."""
        # What reaches a cell was checked at the module's door.
        reads, state = sparse_batched.batched_step(
            state, interface, 0, self.options, backend, self._plain_step
        )
        return reads.flatten(1), state

    def _plain_step(self, state: sam.SAMState, interface: Tensor) -> tuple[Tensor, sam.SAMState]:
        sizes = self.cell_size, self.read_heads
        parsed = sam.parse_interface.unchecked(interface, *sizes, options=self.options)
        return sam.step_unchecked(state, parsed)


class SAM(MemoryRNN):
    """Sparse Access Memory: a recurrent controller with a memory of any size.

    Each step reads ``sparse_reads`` slots a head and writes to those and one more; its time and
    memory do not depend on ``nr_cells``. Rae et al. 2016, "Scaling Memory-Augmented Neural
    Networks with Sparse Reads and Writes" (arXiv 1610.09027). The memory is `memcore.sam`; how to
    call the module stands in `forward`.

    Args:
        input_size: X, the width of the input.
        hidden_size: H, the width of the controller.
        rnn_type: as in `DNC`; so are all that are not explained here.
        num_layers: as in `DNC`.
        num_hidden_layers: as in `DNC`.
        bias: as in `DNC`.
        batch_first: as in `DNC`.
        dropout: as in `DNC`.
        bidirectional: as in `DNC`.
        nr_cells: N, the slots of the memory.
        sparse_reads: K, the slots that a head reads; at most ``nr_cells``.
        read_heads: R.
        cell_size: W, the width of a slot.
        nonlinearity: as in `DNC`.
        gpu_id: as in `DNC`.
        independent_linears: as in `DNC`.
        share_memory: as in `DNC`.
        debug: as in `DNC`.
        clip: as in `DNC`.
        bypass_dropout: as in `DNC`.
        layer_norm: as in `DNC`.
        index: what finds the rows to read: a name that `memcore.make_index` knows, or an object
            that keeps the protocol `memcore.Index`, of which each state gets an empty one.
        masking: as in `DNC`, of read keys; what finds the rows must know of masks, as exact
            search does.
        mask_minimum: as in `DNC`.
        temperature: as in `DNC`.
        learned_memory: as in `DNC`.
        output_size: as in `DNC`.
        device: as in `DNC`.
        dtype: as in `DNC`.
        backend: as in `DNC`; an index other than exact search is asked from Python at each step.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: an argument out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        rnn_type: str = "lstm",
        num_layers: int = 1,
        num_hidden_layers: int = 2,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0,
        bidirectional: bool = False,
        nr_cells: int = 5000,
        sparse_reads: int = 4,
        read_heads: int = 4,
        cell_size: int = 10,
        nonlinearity: str = "tanh",
        gpu_id: int = -1,
        independent_linears: bool = False,
        share_memory: bool = True,
        debug: bool | int = False,
        clip: float = 20,
        *,
        bypass_dropout: float = 0,
        layer_norm: bool = False,
        index: str | Index = "auto",
        masking: bool = False,
        mask_minimum: float = 0,
        temperature: float = 1,
        learned_memory: bool = False,
        output_size: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None:
        options, own = RNNOptions.among(locals()), options_among(SAMOptions, locals())
        cell = SAMCell(nr_cells, cell_size, read_heads, sparse_reads, index, own)
        super().__init__(cell, options)
