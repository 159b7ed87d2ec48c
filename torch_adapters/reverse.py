"""The second controller of a bidirectional module: it reads the sequence backward."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

__all__ = ["Reverse"]

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Reverse(nn.Module):
    """torch's own RNN over each example from its last step to its first, without memory.

    Franke et al. 2018, "Robust and Scalable Differentiable Neural Computer for Question Answering"
    (arXiv 1807.02658), "Bidirectional DNC".

    Args:
        input_size: X.
        hidden_size: H.
        num_layers: of the RNN.
        rnn_type: ``'lstm'``, ``'gru'`` or ``'rnn'``.
        nonlinearity: ``'tanh'`` or ``'relu'``, for ``'rnn'``.
        bias: whether it has biases.
        dropout: between its layers.
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
        extra = {"nonlinearity": nonlinearity} if rnn_type == "rnn" else {}
        self.rnn = KINDS[rnn_type](
            input_size,
            hidden_size,
            num_layers,
            bias=bias,
            dropout=dropout if num_layers > 1 else 0,
            device=device,
            dtype=dtype,
            **extra,
        )

    def forward(self, rows: Tensor, batch_sizes: tuple[int, ...]) -> Tensor:
        """Rows ``[all steps, X]``, in the order of `torch_adapters.sequence.Steps`, to ``[·, H]``.

        What stands at a step knows it and all that come after it.
        """
        turned = _turned(batch_sizes).to(rows.device)
        packed = PackedSequence(rows[turned], torch.tensor(batch_sizes))
        output, _ = self.rnn(packed)
        return output.data[turned]


def _turned(batch_sizes: tuple[int, ...]) -> Tensor:
    """For each row that of the same example as far from its end as this is from its beginning."""
    sizes = torch.tensor(batch_sizes)
    begins = sizes.cumsum(0) - sizes
    examples = torch.cat([torch.arange(size) for size in batch_sizes])
    times = torch.arange(len(batch_sizes)).repeat_interleave(sizes)
    lengths = (sizes[:, None] > torch.arange(batch_sizes[0])).sum(0)
    return begins[lengths[examples] - 1 - times] + examples
