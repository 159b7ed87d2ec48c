"""The recurrent cells of a controller: torch's, which stay right under ``torch.func`` transforms.

torch runs a cell as one operation, for which ``vmap`` over weights has no rule (LSTM), or which
edits in place what ``vmap`` cannot (biases, all three). There the same equations run in small ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from memcore.circumstances import is_transformed

__all__ = ["CELLS", "GRUCell", "LSTMCell", "LinearCell", "RNNCell", "cell_equations"]


def cell_equations(
    nonlinearity: str, input: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor | None]
) -> tuple[Tensor, ...]:
    """The next state of `torch.nn.LSTMCell`, ``GRUCell`` or ``RNNCell``, as torch documents them.

    Args:
        nonlinearity: ``'tanh'`` or ``'relu'``, of an RNN or a `LinearCell`; else ``''``.
        input: ``[B, X]``.
        state: ``(h, c)`` of an LSTM, else ``(h,)``, each ``[B, H]``.
        weights: ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh``; both biases or none.
            Of a `LinearCell` those of the state are None.
    """
    from_input, from_state, input_bias, state_bias = weights
    assert from_input is not None
    given = linear(input, from_input, input_bias)
    if from_state is None:
        return (getattr(torch, nonlinearity)(given),)
    own = linear(state[0], from_state, state_bias)
    if nonlinearity:
        return (getattr(torch, nonlinearity)(given + own),)
    if len(state) == 1:
        reset, update, fresh = given.chunk(3, 1)
        own_reset, own_update, own_fresh = own.chunk(3, 1)
        update = (update + own_update).sigmoid()
        fresh = (fresh + (reset + own_reset).sigmoid() * own_fresh).tanh()
        return ((1 - update) * fresh + update * state[0],)
    into, keep, fresh, out = (given + own).chunk(4, 1)
    inner = keep.sigmoid() * state[1] + into.sigmoid() * fresh.tanh()
    return out.sigmoid() * inner.tanh(), inner


class LSTMCell(nn.LSTMCell):
    """`torch.nn.LSTMCell`, under transforms too."""

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """``[B, X]`` and ``(h, c)`` to the next ``(h, c)``."""
        if hx is None or not is_transformed():
            return super().forward(input, hx)
        hidden, inner = cell_equations("", input, hx, _weights(self))
        return hidden, inner


class GRUCell(nn.GRUCell):
    """`torch.nn.GRUCell`, under transforms too."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """``[B, X]`` and ``h`` to the next ``h``."""
        if hx is None or not is_transformed():
            return super().forward(input, hx)
        return cell_equations("", input, [hx], _weights(self))[0]


class RNNCell(nn.RNNCell):
    """`torch.nn.RNNCell`, under transforms too."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """``[B, X]`` and ``h`` to the next ``h``."""
        if hx is None or not is_transformed():
            return super().forward(input, hx)
        return cell_equations(self.nonlinearity, input, [hx], _weights(self))[0]


class LinearCell(nn.Linear):
    """A layer of a feed-forward controller, ``φ(W x + b)``: called as a cell, without recurrence.

    Args:
        input_size: X.
        hidden_size: H.
        bias: whether there is b.
        nonlinearity: φ, ``'tanh'`` or ``'relu'``.
        device: PyTorch's convention.
        dtype: PyTorch's convention.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        """The nonlinearity beside the sizes."""
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity}"

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:  # pyright: ignore
        """``[B, X]`` to ``[B, H]``; the last output, its state, is not looked at."""
        return cell_equations(self.nonlinearity, input, [], [self.weight, None, self.bias, None])[0]


CELLS = {"lstm": LSTMCell, "gru": GRUCell, "rnn": RNNCell, "linear": LinearCell}


def _weights(cell: nn.RNNCellBase) -> list[Tensor | None]:
    # Without biases the attributes are None.
    return [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]  # pyright: ignore
