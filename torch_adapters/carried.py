"""What the time loop carries from step to step, and how it is cut to part of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_adapters.cell import Cell
from torch_adapters.controller import ControllerState

__all__ = ["Carried"]


class Carried(NamedTuple):
    """Controller states, memories and reads, the batch in front; no method changes it."""

    hidden: list[ControllerState]  # one a layer
    memories: list[Any]  # one state for all layers, or one a layer
    reads: Tensor  # [B, R·W], what the last layer read

    def take(self, cell: Cell[Any], examples: Tensor) -> Carried:
        """The examples in another order, ``[B]``."""
        return Carried(
            self._map_hidden(lambda state: state[examples]),
            [cell.take(memory, examples) for memory in self.memories],
            self.reads[examples],
        )

    def narrow(self, cell: Cell[Any], count: int) -> Carried:
        """The first ``count`` examples."""
        return Carried(
            self._map_hidden(lambda state: state[:count]),
            [cell.narrow(memory, count) for memory in self.memories],
            self.reads[:count],
        )

    def widen(self, cell: Cell[Any], before: Carried) -> Carried:
        """These examples, then those of ``before`` that come after them."""

        def joined(new: Tensor, old: Tensor) -> Tensor:
            return torch.cat([new, old[len(new) :]])

        hidden = [
            [tuple(map(joined, *states)) for states in zip(new, old, strict=True)]
            for new, old in zip(self.hidden, before.hidden, strict=True)
        ]
        memories = zip(self.memories, before.memories, strict=True)
        return Carried(
            hidden,
            [cell.widen(new, old) for new, old in memories],
            joined(self.reads, before.reads),
        )

    def empty(self, cell: Cell[Any], examples: Tensor, rows: Sequence[Tensor]) -> Carried:
        """Memory and reads of those examples, a bool ``[B]``, back at the beginning.

        ``rows`` are those that the memories begin with, none at all where they are zeros.
        """
        pairs = zip(self.memories, rows or [None] * len(self.memories), strict=True)
        return self._replace(
            memories=[cell.reset(memory, examples, row) for memory, row in pairs],
            reads=self.reads.masked_fill(examples[:, None], 0),
        )

    def begin(self, cell: Cell[Any], examples: Tensor, rows: Sequence[Tensor]) -> Carried:
        """Those examples, a bool ``[B]``, wholly back at the beginning."""
        hidden = self._map_hidden(lambda state: state.masked_fill(examples[:, None], 0))
        return self._replace(hidden=hidden).empty(cell, examples, rows)

    def _map_hidden(self, function: Callable[[Tensor], Tensor]) -> list[ControllerState]:
        return [[tuple(map(function, state)) for state in layer] for layer in self.hidden]
