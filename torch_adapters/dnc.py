"""The DNC as a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from memcore import dnc
from memcore.options import PLAIN_DNC, options_among
from torch_adapters.cell import DenseMemory
from torch_adapters.options import RNNOptions
from torch_adapters.recurrence import MemoryRNN

__all__ = ["DNC", "DNCCell"]


@dataclass(frozen=True)
class DNCCell(DenseMemory[dnc.DNCState]):
    """The DNC's memory, batched: `memcore.dnc`."""

    options: dnc.DNCOptions = PLAIN_DNC

    kernel: ClassVar[str] = "DNC"
    memory: ClassVar[Any] = dnc
    state_type: ClassVar[type[Any]] = dnc.DNCState

    def empty(self, *, dtype: torch.dtype, device: torch.device | str) -> dnc.DNCState:
        """An empty memory for one example."""
        sizes = self.nr_cells, self.cell_size, self.read_heads
        return dnc.init_state(*sizes, options=self.options, dtype=dtype, device=device)

    def trace(self, state: dnc.DNCState, example: int) -> dict[str, Tensor]:
        """The debug dictionary's row."""
        names = {"usage": "usage_vector", "link": "link_matrix"}
        row = super().trace(state, example)
        return {names.get(name, name): value for name, value in row.items()}


class DNC(MemoryRNN):
    """Differentiable Neural Computer: a recurrent controller with a memory it writes and reads.

    Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory".
    The memory is `memcore.dnc`; how to call the module stands in `forward`.

    Args:
        input_size: X, the width of the input.
        hidden_size: H, the width of the controller.
        rnn_type: ``'lstm'``, ``'gru'``, ``'rnn'`` or ``'linear'``: a feed-forward controller,
            ``φ(W x + b)`` in each layer, whose state is the output that nobody looks at.
        num_layers: controller layers, each of which writes and reads the memory once a step
            through an interface of its own.
        num_hidden_layers: layers of the RNN in each controller layer.
        bias: whether the RNNs have biases.
        batch_first: inputs and outputs are ``[B, T, ·]`` rather than ``[T, B, ·]``.
        dropout: in [0, 1), between the RNN's own layers; without effect where there is one.
        bidirectional: a second controller, without memory, reads the sequence from its end and
            joins the output. It needs whole sequences: no ``hx``, ``episode_start`` or `step`.
        nr_cells: N, the slots of the memory.
        read_heads: R.
        cell_size: W, the width of a slot.
        nonlinearity: φ, ``'tanh'`` or ``'relu'``, for ``rnn_type='rnn'`` and ``'linear'``.
        gpu_id: -1, or the CUDA device to build on, as ``device=f"cuda:{gpu_id}"``.
        independent_linears: one linear map for each part of the interface, with parameters by
            name, rather than one for all.
        share_memory: one memory for all layers rather than one each.
        debug: True, or the number of an example: return the debug dictionary of the first, or of
            that example as a third value. 0 is the first example too. Can be set on the module
            later.
        clip: the controller's output is clamped to ±clip; 0: not at all.
        bypass_dropout: in [0, 1), on the way from the controller past the memory to the output.
            Franke et al. 2018 (arXiv 1807.02658), as ``layer_norm`` and ``bidirectional``.
        layer_norm: normalize the interface vector.
        write_heads: how many heads write at each step, one after the other. As in
            google-deepmind/dnc.
        masking: each key, of reading and of writing, brings a mask and is compared with slots as
            far as that shows them. Csordás & Schmidhuber 2019 (arXiv 1904.10278), as
            ``deallocation`` and ``link_sharpness``.
        mask_minimum: in [0, 1), what a mask shows at the least; above 0 with ``masking`` only.
        deallocation: what the free gates release is faded.
        link_sharpness: where links lead is concentrated as the controller says.
        temperature: above 0: the strengths of keys are multiplied by it.
        learned_memory: what every row of an empty memory holds is a parameter, ``memory_rows``
            [memories, W], at first uniform in ±1/√W. A call that is given a memory in ``hx`` does
            not use it.
        output_size: Y, the width of the output; None: ``input_size``.
        device: PyTorch's convention.
        dtype: PyTorch's convention. The memory is kept in float32 where it is a half precision.
        backend: ``'numba'``: compiled loops on the CPU, or an error that says why not;
            ``'reference'``: torch's operations; ``'auto'``: the former where they apply. Can be
            set on the module later.

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
        nr_cells: int = 5,
        read_heads: int = 2,
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
        write_heads: int = 1,
        masking: bool = False,
        mask_minimum: float = 0,
        deallocation: bool = False,
        link_sharpness: bool = False,
        temperature: float = 1,
        learned_memory: bool = False,
        output_size: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None:
        options, own = RNNOptions.among(locals()), options_among(dnc.DNCOptions, locals())
        super().__init__(DNCCell(nr_cells, cell_size, read_heads, own), options)
