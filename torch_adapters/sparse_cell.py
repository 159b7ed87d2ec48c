"""What the sparse cells, SAM's and the SDNC's, have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from memcore import MemcoreError, sparse_state
from memcore.errors import check_size
from memcore.index import Index, MaskedIndex, check_choice
from memcore.options import SAMOptions

__all__ = ["SparseCell"]

State = TypeVar("State", bound=Any)

WITHOUT_MASKS = ("faiss", "flann")  # what finds rows by whole keys only


class SparseCell(ABC, Generic[State]):
    """A cell whose state is one of those that `memcore.sparse_state` handles."""

    nr_cells: int
    cell_size: int
    read_heads: int
    sparse_reads: int
    index: str | Index
    options: SAMOptions

    def _check_sizes(self, *names: str) -> None:
        for name in ("nr_cells", "cell_size", "read_heads", *names):
            # Frozen: a field can be normalised in this way only.
            object.__setattr__(self, name, check_size(name, getattr(self, name)))
        for name in names:
            if getattr(self, name) > self.nr_cells:
                raise MemcoreError(
                    f"{name}: expected at most nr_cells = {self.nr_cells}, "
                    f"got {getattr(self, name)}"
                )
        named = isinstance(self.index, str)
        without = self.index in WITHOUT_MASKS if named else not isinstance(self.index, MaskedIndex)
        if self.options.masking and without and isinstance(self.index, str | Index):
            shown = repr(self.index) if named else f"{type(self.index).__name__}, which has none"
            raise MemcoreError(
                "index: expected 'auto', 'exact' or one that has search_masked where masking is "
                f"on, got {shown}"
            )
        check_choice("index", self.index)

    @property
    def finder(self) -> str | Index:
        """What finds rows: with masks exact search, where none was named."""
        return "exact" if self.options.masking and self.index == "auto" else self.index

    @property
    def read_size(self) -> int:
        """Length of an example's read vectors."""
        return self.read_heads * self.cell_size

    @property
    def kept_links(self) -> int:
        """How many temporal links each slot keeps."""
        return 0

    @abstractmethod
    def first_read_index(self, device: torch.device) -> Tensor:
        """The slots ``[V]`` that each head is on before the first step."""

    def check_sizes(
        self, name: str, state: State, batch_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Raise unless a state whose parts fit each other is for this cell's sizes."""
        for what, expected, actual in (
            ("shape", [batch_size, self.nr_cells, self.cell_size], list(state.memory.shape)),
            ("dtype", dtype, state.memory.dtype),
            ("device", device, state.memory.device),
        ):
            if expected != actual:
                raise MemcoreError(f"{name}.memory: expected {what} {expected}, got {actual}")
        read = [batch_size, self.read_heads, self.sparse_reads + 2 * self.kept_links]
        if list(state.read_index.shape) != read:
            raise MemcoreError(
                f"{name}.read_index: expected shape {read}, got {list(state.read_index.shape)}"
            )

    def reset(self, state: State, examples: Tensor, row: Tensor | None = None) -> State:
        """The state with those examples, a bool tensor ``[B]``, back at the beginning."""
        flags = examples[:, None, None]
        first = self.first_read_index(examples.device)
        values = {
            name: part.cleared(examples)
            for name, part in state._asdict().items()
            if name in sparse_state.VALUES and not (row is not None and name == "memory")
        }
        if row is not None:
            values["memory"] = state.memory.refilled(examples, row)
        return state._replace(
            **values,
            read_index=torch.where(flags, first, state.read_index),
            read_weights=state.read_weights.masked_fill(flags, 0),
            write_index=state.write_index.masked_fill(examples[:, None], 0),
            write_weights=state.write_weights.masked_fill(examples[:, None], 0),
        )

    def take(self, state: State, examples: Tensor) -> State:
        """The state of those examples, given as a permutation ``[B]`` of the batch."""
        return sparse_state.select(state, examples)

    def narrow(self, state: State, count: int) -> State:
        """The state of the first ``count`` examples."""
        return sparse_state.narrow(state, count)

    def widen(self, state: State, before: State) -> State:
        """Undo `narrow`: the examples that it left out, as they were ``before``."""
        return sparse_state.widen(state, before)

    def trace(self, state: State, example: int) -> dict[str, Tensor]:
        """The debug dictionary's row; visible are the slots that the next step can write to."""
        with torch.no_grad():
            chosen = torch.tensor([example], device=state.read_index.device)
            return self.trace_one(sparse_state.select(state, chosen))

    def trace_one(self, one: State) -> dict[str, Tensor]:
        """The debug dictionary's row of a batch of one."""
        visible = torch.cat([one.read_index.flatten(1), one.recency.least()[:, None]], dim=1)
        dense = one.read_weights.new_zeros(self.read_heads, self.nr_cells)
        written = dense[0].clone()
        return {
            "memory": one.memory.to_tensor().flatten(),
            "visible_memory": one.memory.read_unchecked(visible).flatten(),
            "read_positions": visible.flatten(),
            "read_weights": dense.scatter_add(1, one.read_index[0], one.read_weights[0]).flatten(),
            "write_weights": written.scatter_add(0, one.write_index[0], one.write_weights[0]),
            "usage": one.recency.last_access().flatten(),
        }
