"""Weights as kernels want them: one matrix a cell, cut into panels as wide as two registers."""

from __future__ import annotations

import torch
from torch import Tensor

from memcore.kernels.controllers import GRU, LSTM, RNN_RELU, RNN_TANH
from memcore.kernels.panels import turn
from memcore.kernels.sizes import padded_to

__all__ = ["BLOCKS", "Gates", "in_panels"]

BLOCKS = {LSTM: 4, GRU: 4, RNN_TANH: 1, RNN_RELU: 1}


def in_panels(matrix: Tensor, unit: int) -> Tensor:
    """``[terms, columns]`` to ``[columns / unit, terms, unit]``, zeros beyond the last column."""
    terms, columns = matrix.shape
    width = padded_to(unit, columns)
    if width != columns:
        matrix = torch.nn.functional.pad(matrix, (0, width - columns))
    return matrix.reshape(terms, width // unit, unit).transpose(0, 1).contiguous()


class Gates:
    """How a cell's weights, by torch's gates, lie in the kernels' blocks of H, rounded up.

    A GRU has three gates but four blocks, since its new gate keeps apart what comes from the
    input and from the state.

    Args:
        kind: one of `memcore.kernels.controllers`.
        hidden: H.
        unit: to what H is rounded up.
    """

    def __init__(self, kind: int, hidden: int, unit: int) -> None:
        self.hidden, self.unit = hidden, unit
        self.width = padded_to(unit, hidden)
        self.blocks = BLOCKS[kind]
        every = slice(0, self.blocks)
        # Which blocks torch's gates stand in; of a state's new gate in a GRU the fourth.
        self._from_input = slice(0, 3) if kind == GRU else every
        self._last_from_state = 3 if kind == GRU else None
        self._plain = self.width == hidden and kind != GRU  # as torch has them

    @property
    def size(self) -> int:
        """G, the length of a row of gates."""
        return self.blocks * self.width

    def _by_block(self, target: Tensor) -> Tensor:
        return target.view(self.blocks, self.width, *target.shape[1:])[:, : self.hidden]

    def _add_input(self, target: Tensor, source: Tensor) -> None:
        """Add rows by torch's gates to rows by blocks."""
        own = source.reshape(-1, self.hidden, *source.shape[1:])
        self._by_block(target)[self._from_input].add_(own)

    def _add_state(self, target: Tensor, source: Tensor) -> None:
        if self._last_from_state is None:
            self._add_input(target, source)
            return
        own, blocks = source.reshape(-1, self.hidden, *source.shape[1:]), self._by_block(target)
        blocks[:2].add_(own[:2])
        blocks[self._last_from_state].add_(own[2])

    def panels(self, from_input: Tensor, from_state: Tensor | None) -> Tensor:
        """`matrix`, transposed and in panels, [G / unit, inputs + H, unit]."""
        inputs, hidden = from_input.shape[1], self.hidden
        if from_state is None:
            result = self._panels(from_input, inputs)
            turn(from_input, result, self.blocks)
            return result
        result = self._panels(from_input, inputs + hidden)
        turn(from_input, result, len(from_input) // hidden)
        if self._last_from_state is None:
            turn(from_state, result, self.blocks, term=inputs)
        else:
            turn(from_state[: 2 * hidden], result, 2, term=inputs)
            turn(from_state[2 * hidden :], result, 1, self._at(self._last_from_state), inputs)
        return result

    def bias(self, from_input: Tensor, from_state: Tensor | None) -> Tensor:
        """``bias_ih`` and ``bias_hh``, [G]."""
        both = (from_input if from_state is None else from_input + from_state)[:, None]
        result = self._panels(both, 1)
        if self._last_from_state is None:
            turn(both, result, self.blocks)
        else:
            rest = slice(2 * self.hidden, None)
            turn(both[: 2 * self.hidden], result, 2)
            assert from_state is not None
            turn(from_input[rest, None], result, 1, self._at(2))
            turn(from_state[rest, None], result, 1, self._at(self._last_from_state))
        return result.flatten()

    def _panels(self, like: Tensor, terms: int) -> Tensor:
        """Panels to fill; zeros where a gate is not made of both."""
        new = like.new_empty if self._last_from_state is None else like.new_zeros
        return new(self.size // self.unit, terms, self.unit)

    def _at(self, block: int) -> int:
        """The first panel of a block."""
        return block * self.width // self.unit

    def matrix(self, from_input: Tensor, from_state: Tensor | None) -> Tensor:
        """``weight_ih`` and ``weight_hh`` side by side, [G, inputs + H]; the latter may be None."""
        inputs = from_input.shape[1]
        if self._plain:
            return from_input if from_state is None else torch.cat([from_input, from_state], 1)
        own = 0 if from_state is None else self.hidden
        result = from_input.new_zeros(self.size, inputs + own)
        self._add_input(result[:, :inputs], from_input)
        if from_state is not None:
            self._add_state(result[:, inputs:], from_state)
        return result

    def by_input(self, gradients: Tensor) -> Tensor:
        """Gradients of gates [n, G] in the rows of ``weight_ih``."""
        if self._plain:
            return gradients
        return self._parts(gradients)[:, self._from_input].reshape(len(gradients), -1)

    def by_state(self, gradients: Tensor) -> Tensor | None:
        """Gradients of gates [n, G] in the rows of ``weight_hh``; None: as `by_input` has them."""
        if self._last_from_state is None:
            return None
        return self._parts(gradients)[:, [0, 1, 3]].reshape(len(gradients), -1)

    def _parts(self, gradients: Tensor) -> Tensor:
        return gradients.view(-1, self.blocks, self.width)[:, :, : self.hidden]
