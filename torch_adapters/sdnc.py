"""The Sparse DNC as a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memcore import MemcoreError, RowMemory, sdnc, sparse_batched
from memcore.index import Index
from memcore.options import PLAIN_SAM, SAMOptions, options_among
from torch_adapters.options import RNNOptions
from torch_adapters.recurrence import MemoryRNN
from torch_adapters.sparse_cell import SparseCell

__all__ = ["SDNC", "SDNCCell"]


@dataclass(frozen=True)
class SDNCCell(SparseCell[sdnc.SDNCState]):
    """The SDNC's memory, `memcore.sdnc`."""

    nr_cells: int
    cell_size: int
    read_heads: int
    sparse_reads: int
    temporal_reads: int
    index: str | Index = "auto"
    options: SAMOptions = PLAIN_SAM
    kernel: ClassVar[str] = "SDNC"

    def __post_init__(self) -> None:
        self._check_sizes("sparse_reads", "temporal_reads")

    @property
    def interface_sizes(self) -> Mapping[str, int]:
        """How many numbers each part of the interface vector takes, in order."""
        sizes = self.cell_size, self.read_heads
        return sdnc.interface_sizes(*sizes, options=self.options)

    @property
    def kept_links(self) -> int:
        """K_L."""
        return self.temporal_reads

    def first_read_index(self, device: torch.device) -> Tensor:
        """The slots ``[V]`` that each head is on before the first step."""
        return sdnc.first_read_index(self.sparse_reads, self.temporal_reads, device)

    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
        row: Tensor | None = None,
    ) -> sdnc.SDNCState:
        """An empty memory for each example; ``row [W]``, where given, is that of all slots."""
        sizes = (self.nr_cells, self.cell_size, self.read_heads)
        reads = (self.sparse_reads, self.temporal_reads)
        memory = None if row is None else RowMemory.filled(row, batch_size, self.nr_cells)
        place = {"dtype": dtype, "device": device}
        return sdnc.init_state(
            batch_size, *sizes, *reads, memory=memory, index=self.finder, **place
        )

    def check_state(
        self, name: str, state: object, batch_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Raise unless ``state`` is one of this memory's, for so many examples."""
        if not isinstance(state, sdnc.SDNCState):
            raise TypeError(f"{name}: expected an SDNCState, got {type(state).__name__}")
        sdnc.check_state(name, state)
        self.check_sizes(name, state, batch_size, dtype, device)
        if state.links.temporal_reads != self.temporal_reads:
            raise MemcoreError(
                f"{name}.links: expected temporal_reads {self.temporal_reads}, "
                f"got {state.links.temporal_reads}"
            )

    def step(
        self, state: sdnc.SDNCState, interface: Tensor, backend: str = "auto"
    ) -> tuple[Tensor, sdnc.SDNCState]:
        """From interface vectors ``[B, I]`` to read vectors ``[B, R·W]`` and the next state."""
        # What reaches a cell was checked at the module's door.
        reads, state = sparse_batched.batched_step(
            state, interface, self.temporal_reads, self.options, backend, self._plain_step
        )
        return reads.flatten(1), state

    def _plain_step(
        self, state: sdnc.SDNCState, interface: Tensor
    ) -> tuple[Tensor, sdnc.SDNCState]:
        sizes = self.cell_size, self.read_heads
        parsed = sdnc.parse_interface.unchecked(interface, *sizes, options=self.options)
        return sdnc.step_unchecked(state, parsed)

    def trace_one(self, one: sdnc.SDNCState) -> dict[str, Tensor]:
        """The debug dictionary's row of a batch of one; links are those among the visible slots."""
        row = super().trace_one(one)
        links = one.links.among(row["read_positions"][None])[0]
        on, weights = one.links.precedence()
        precedence = weights.new_zeros(self.nr_cells).scatter(0, on[0], weights[0])
        return {
            **row,
            "link_matrix": links.flatten(),
            "rev_link_matrix": links.mT.flatten(),
            "precedence": precedence,
        }


class SDNC(MemoryRNN):
    """The Sparse DNC: SAM that also follows the order of writing, with a memory of any size.

    Each step reads, for each head, ``sparse_reads`` slots by content and ``temporal_reads`` each
    before and after those it read last, and writes to all of these and one more; its time and
    memory do not depend on ``nr_cells``. Rae et al. 2016, "Scaling Memory-Augmented Neural
    Networks with Sparse Reads and Writes" (arXiv 1610.09027), supplementary D. The memory is
    `memcore.sdnc`; how to call the module stands in `forward`.

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
        temporal_reads: K_L, the slots that a head follows in each direction of time, and the links
            that a slot keeps; at most ``nr_cells``.
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
        backend: as in `DNC`.

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
        temporal_reads: int = 4,
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
        cell = SDNCCell(nr_cells, cell_size, read_heads, sparse_reads, temporal_reads, index, own)
        super().__init__(cell, options)
