"""The recurrent controller, one time step at a time."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from torch_adapters.cells import CELLS

__all__ = ["Controller", "ControllerState"]

# One entry for each layer of the RNN: (h,), or (h, c) for an LSTM; each [B, H].
ControllerState: TypeAlias = "list[tuple[Tensor, ...]]"


class Controller(nn.Module):
    """A stack of recurrent cells, the equal of `torch.nn.LSTM`, ``GRU`` or ``RNN``.

    The memory needs a step at a time; for a single step cells take half the time of the
    sequence modules on a CPU.

    Args:
        input_size: width of the input.
        hidden_size: H.
        num_layers: cells in the stack.
        rnn_type: ``'lstm'``, ``'gru'``, ``'rnn'`` or ``'linear'``.
        nonlinearity: ``'tanh'`` or ``'relu'``, for ``'rnn'`` and ``'linear'``.
        bias: whether the cells have biases.
        dropout: between the cells.
        device: PyTorch's convention.
        dtype: PyTorch's convention.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        rnn_type: str,
        nonlinearity: str,
        bias: bool,
        dropout: float,
        device: torch.device | str | int | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        extra = {"nonlinearity": nonlinearity} if rnn_type in ("rnn", "linear") else {}
        self.cells = nn.ModuleList(
            CELLS[rnn_type](width, hidden_size, bias=bias, device=device, dtype=dtype, **extra)
            for width in [input_size] + [hidden_size] * (num_layers - 1)
        )
        self.is_lstm = rnn_type == "lstm"
        self.dropout = dropout

    def extra_repr(self) -> str:
        """The one setting that the cells do not show."""
        return f"dropout={self.dropout:g}"

    def forward(self, input: Tensor, state: ControllerState) -> tuple[Tensor, ControllerState]:
        """``[B, input_size]`` and a state to ``[B, H]`` and the next state."""
        result: ControllerState = []
        for depth, (cell, before) in enumerate(zip(self.cells, state, strict=True)):
            if depth and self.dropout:
                input = dropout(input, self.dropout, self.training)
            after = cell(input, before) if self.is_lstm else (cell(input, before[0]),)
            input = after[0]
            result.append(after)
        return input, result
