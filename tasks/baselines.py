"""What a memory is measured against: a controller alone, and attention over what came before."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Attention", "ControllerAlone"]


class ControllerAlone(nn.Module):
    """An RNN and a linear layer.

    Args:
        input_size: width of the input.
        hidden_size: width of the RNN.
        output_size: width of the output.
        rnn_type: ``'lstm'``, ``'gru'`` or ``'rnn'``.
        num_layers: its layers.
        dropout: between them.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        rnn_type: str = "lstm",
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kinds = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
        own = dropout if num_layers > 1 else 0.0  # torch warns of one that has no effect
        self.rnn = kinds[rnn_type](
            input_size, hidden_size, num_layers, batch_first=True, dropout=own
        )
        self.output = nn.Linear(hidden_size, output_size)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Input ``[B, T, X]`` to output ``[B, T, Y]``, and the RNN's state to go on from."""
        hidden, hx = self.rnn(input, hx)
        return self.output(hidden), hx


class Attention(nn.Module):
    """Layers of causal attention, each with a feed-forward part, over embedded steps.

    Vaswani et al. 2017, with the normalization in front, as is usual by now; the position is added
    as sines and cosines.

    Args:
        input_size: width of the input.
        hidden_size: width of a layer; a multiple of ``heads``.
        output_size: width of the output.
        heads: of each layer.
        num_layers: how many.
        dropout: within them.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        heads: int = 1,
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(input_size, hidden_size)
        layer = nn.TransformerEncoderLayer(
            hidden_size,
            heads,
            dim_feedforward=2 * hidden_size,
            dropout=dropout,
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.output = nn.Sequential(nn.LayerNorm(hidden_size), nn.Linear(hidden_size, output_size))

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Input ``[B, T, X]`` to output ``[B, T, Y]``, and all inputs so far to go on from."""
        seen = input if hx is None else torch.cat((hx, input), 1)
        embedded = self.embedding(seen)
        steps, width = embedded.shape[1:]
        mask = nn.Transformer.generate_square_subsequent_mask(
            steps, device=input.device, dtype=embedded.dtype
        )
        embedded = embedded + _positions(steps, width).to(embedded)
        attended = self.layers(embedded, mask=mask, is_causal=True)
        return self.output(attended[:, -input.shape[1] :]), seen


def _positions(steps: int, width: int) -> Tensor:
    """Sines and cosines ``[steps, width]`` of wavelengths from 2π to 20,000π."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angle = torch.arange(steps).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1)[:, :width]
