"""What the time loop carries from step to step, and how it is cut to part of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_adapters.cell import Cell
from torch_adapters.state import Hidden, map_hidden

__all__ = ["Carried"]


class Carried(NamedTuple):
    """Controller states, memories and reads of a batch; no method changes it."""

    hidden: list[Hidden]  # one a layer: [num_hidden_layers, B, H], a pair of them for an LSTM
    memories: list[Any]  # one state for all layers, or one a layer
    reads: Tensor  # [B, R·W], what the last layer read

    def take(self, cell: Cell[Any], examples: Tensor) -> Carried:
        """The examples in another order, ``[B]``."""
        return self._each(
            lambda value, batch: value.index_select(batch, examples),
            lambda memory: cell.take(memory, examples),
        )

    def narrow(self, cell: Cell[Any], count: int) -> Carried:
        """The first ``count`` examples."""
        return self._each(
            lambda value, batch: value.narrow(batch, 0, count).contiguous(),
            lambda memory: cell.narrow(memory, count),
        )

    def widen(self, cell: Cell[Any], before: Carried) -> Carried:
        """These examples, then those of ``before`` that come after them."""
        count = self.reads.shape[0]

        def joined(new: Tensor, old: Tensor, batch: int) -> Tensor:
            rest = old.narrow(batch, count, old.shape[batch] - count)
            return torch.cat([new, rest], dim=batch)

        def joined_hidden(new: Hidden, old: Hidden) -> Hidden:
            if isinstance(new, Tensor) and isinstance(old, Tensor):
                return joined(new, old, 1)
            return joined(new[0], old[0], 1), joined(new[1], old[1], 1)

        return Carried(
            [joined_hidden(*pair) for pair in zip(self.hidden, before.hidden, strict=True)],
            [cell.widen(*pair) for pair in zip(self.memories, before.memories, strict=True)],
            joined(self.reads, before.reads, 0),
        )

    def empty(self, cell: Cell[Any], examples: Tensor) -> Carried:
        """Memory and reads of those examples, a bool ``[B]``, back at the beginning."""
        return self._replace(
            memories=[cell.reset(memory, examples) for memory in self.memories],
            reads=self.reads.masked_fill(examples[:, None], 0),
        )

    def begin(self, cell: Cell[Any], examples: Tensor) -> Carried:
        """Those examples, a bool ``[B]``, wholly back at the beginning."""
        hidden = [
            map_hidden(lambda state: state.masked_fill(examples[None, :, None], 0), layer)
            for layer in self.hidden
        ]
        return self._replace(hidden=hidden).empty(cell, examples)

    def _each(
        self, on_tensor: Callable[[Tensor, int], Tensor], on_memory: Callable[[Any], Any]
    ) -> Carried:
        return Carried(
            [map_hidden(lambda state: on_tensor(state, 1), layer) for layer in self.hidden],
            [on_memory(memory) for memory in self.memories],
            on_tensor(self.reads, 0),
        )
