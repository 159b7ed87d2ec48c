"""What a segment takes and gives, as tensors in groups and in one list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from memcore.kernels.controllers import LSTM
from memcore.kernels.kinds import Kind

__all__ = ["Cells", "Memory", "Parts", "Result", "Segment"]


class Memory(NamedTuple):
    """Which memory, and its sizes."""

    kind: Kind
    slots: int
    words: int
    heads: int
    interface: int
    reads: int = 0  # K, of a sparse memory
    temporal: int = 0  # K_L
    writes: int = 1  # H
    masking: bool = False
    mask_minimum: float = 0.0
    deallocation: bool = False
    sharpness: bool = False
    temperature: float = 1.0


class Cells(NamedTuple):
    """Which controller, and its sizes; none at all where ``layers`` is 0."""

    kind: int = LSTM
    layers: int = 0
    depth: int = 0
    hidden: int = 0
    clip: float = 0.0  # 0: the output is not clamped
    shared: bool = True  # one memory for all layers
    recurrent: bool = True  # cells take their own state
    normed: bool = False  # layer norm of interface vectors


class Parts(NamedTuple):
    """All tensors that a segment takes."""

    inputs: Tensor  # [T, B, X], or interface vectors [T, B, I] where there is no controller
    reads: Tensor | None  # [B, R·W]
    masks: Tensor | None  # [L, T, D − 1, B, H], dropout
    hidden: Sequence[Sequence[Any]]  # of each cell (h,) or (h, c), each [B, H]
    states: Sequence[Sequence[Any]]  # of each memory its fields
    cells: Sequence[Sequence[Any]]  # of each cell weight_ih, weight_hh, bias_ih, bias_hh or None
    interfaces: Sequence[Sequence[Any]]  # of each layer weight, bias; normed also gain, shift


class Result(NamedTuple):
    """What a segment gives."""

    rows: Tensor  # [T, B, H + R·W] of the last layer
    reads: Tensor | None  # [B, R·W]
    hidden: Sequence[Sequence[Any]]
    states: Sequence[Sequence[Any]]


class Segment(NamedTuple):
    """The sizes of a segment, by which its tensors come in one list and out of one again."""

    memory: Memory
    cells: Cells

    @property
    def cell_count(self) -> int:
        """L·D."""
        return self.cells.layers * self.cells.depth

    @property
    def memory_count(self) -> int:
        """One, or one a layer."""
        return 1 if self.cells.shared else self.cells.layers

    @property
    def own(self) -> int:
        """Numbers of its own state that a cell takes."""
        return self.cells.hidden if self.cells.recurrent else 0

    @property
    def per_state(self) -> int:
        """Tensors in a cell's state."""
        return 2 if self.cells.kind == LSTM else 1

    def flatten(self, parts: Parts) -> list[Any]:
        """All tensors in one list."""
        groups = (*parts.hidden, *parts.states, *parts.cells, *parts.interfaces)
        flat = [parts.inputs, parts.reads, parts.masks]
        return flat + [tensor for group in groups for tensor in group]

    def split(self, flat: Sequence[Any]) -> Parts:
        """Undo `flatten`."""
        rest = iter(flat[3:])
        return Parts(
            flat[0],
            flat[1],
            flat[2],
            _groups(rest, self.cell_count, self.per_state),
            _groups(rest, self.memory_count, self.memory.kind.given),
            _groups(rest, self.cell_count, 4),
            _groups(rest, self.cells.layers, 4 if self.cells.normed else 2),
        )

    def kept(self, flat: Sequence[Any]) -> Sequence[Any]:
        """What backward needs of the tensors in one list: nothing of a sparse memory's state."""
        if self.memory.kind.keeps_states:
            return flat
        nothing = [(None,) * self.memory.kind.given] * self.memory_count
        return self.flatten(self.split(flat)._replace(states=nothing))

    def flatten_result(self, result: Result) -> tuple[Any, ...]:
        """All tensors in one tuple."""
        groups = (*result.hidden, *result.states)
        return (result.rows, result.reads, *(tensor for group in groups for tensor in group))

    def split_result(self, flat: Sequence[Any]) -> Result:
        """Undo `flatten_result`."""
        rest = iter(flat[2:])
        return Result(
            flat[0],
            flat[1],
            _groups(rest, self.cell_count, self.per_state),
            _groups(rest, self.memory_count, self.memory.kind.made),
        )


def _groups(rest: Any, count: int, each: int) -> list[tuple[Any, ...]]:
    return [tuple(next(rest) for _ in range(each)) for _ in range(count)]
