"""DAM, the dense control of SAM, as a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from memcore import dam
from memcore.options import PLAIN_SAM, SAMOptions, options_among
from torch_adapters.cell import DenseMemory
from torch_adapters.options import RNNOptions
from torch_adapters.recurrence import MemoryRNN

__all__ = ["DAM", "DAMCell"]


@dataclass(frozen=True)
class DAMCell(DenseMemory[dam.DAMState]):
    """DAM's memory, batched: `memcore.dam`."""

    options: SAMOptions = PLAIN_SAM

    kernel: ClassVar[str] = "DAM"
    memory: ClassVar[Any] = dam
    state_type: ClassVar[type[Any]] = dam.DAMState

    def empty(self, *, dtype: torch.dtype, device: torch.device | str) -> dam.DAMState:
        """An empty memory for one example."""
        sizes = self.nr_cells, self.cell_size, self.read_heads
        return dam.init_state(*sizes, dtype=dtype, device=device)


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
        bidirectional: as in `DNC`.
        nr_cells: N, the slots of the memory.
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
        masking: as in `DNC`, of read keys.
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
        super().__init__(DAMCell(nr_cells, cell_size, read_heads, own), options)
