"""The sizes of one call, and the block of numbers that a kernel is told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memcore.kernels import plan
from memcore.kernels.packing import Gates, in_panels
from memcore.kernels.pages import new_tape
from memcore.kernels.parts import Parts, Segment
from memcore.kernels.sizes import Sizes, padded_to, registers

__all__ = ["Layout", "Packed"]

THREAD_PAYS = 1 << 17  # multiplications from which a further thread pays

# Packed weights by their place, one set for forward and one for backward: made once a call.
Packed = dict[bool, list[tuple[int, Tensor]]]


class Layout:
    """What is known of a call before it runs; it writes what `memcore.kernels.plan` describes."""

    def __init__(self, segment: Segment, parts: Parts, recording: bool) -> None:
        memory, cells = segment.memory, segment.cells
        self.recording = recording
        self.segment, self.dtype = segment, parts.inputs.dtype
        self.itemsize = self.dtype.itemsize
        self.steps, self.examples, self.inputs = parts.inputs.shape
        self.unit = registers(self.itemsize)
        kind = memory.kind
        self.padded = kind.padded(memory.slots, memory.words, self.unit)
        self.gates = Gates(cells.kind, cells.hidden, self.unit)
        self.vector_width = padded_to(self.unit, memory.interface)
        self.reads = memory.heads * memory.words
        self.memory_steps = self.steps * (max(cells.layers, 1) if cells.shared else 1)
        self.kept_steps = self.memory_steps + 1 if recording else 2
        sizes = Sizes(
            memory.slots, self.padded, memory.words, memory.heads, memory.interface, memory.reads,
            memory.temporal,
        )  # fmt: skip
        self.sizes = sizes
        self.record, self.order = kind.record_size(sizes), kind.order_size(sizes)
        self._kept: list[Any] = []  # what an address stands for must live as long as it
        self._cells_at = plan.HEADER
        self._layers_at = self._cells_at + segment.cell_count * plan.CELL_SIZE
        self._memories_at = self._layers_at + cells.layers * plan.LAYER_SIZE
        self._told = [0] * (self._memories_at + segment.memory_count * plan.MEMORY_SIZE)
        for place, value in {
            plan.STEPS: self.steps, plan.EXAMPLES: self.examples, plan.INPUT: self.inputs,
            plan.LAYERS: cells.layers,
            plan.DEPTH: cells.depth, plan.HIDDEN: cells.hidden, plan.WIDTH: self.gates.width,
            plan.GATES: self.gates.size, plan.CELL_KIND: cells.kind,
            plan.MEMORIES: segment.memory_count, plan.MEMORY_STEPS: self.memory_steps,
            plan.SLOTS: memory.slots, plan.PADDED: self.padded, plan.WORDS: memory.words,
            plan.HEADS: memory.heads, plan.INTERFACE: memory.interface,
            plan.READS: memory.reads, plan.TEMPORAL: memory.temporal,
            plan.INTERFACE_WIDTH: self.vector_width, plan.RECORDING: int(recording),
            plan.RECORD: self.record, plan.ORDER: self.order,
            plan.GRADIENT: kind.gradient_size(sizes), plan.WORK: kind.work_size(sizes),
            plan.CLIP: struct.unpack("q", struct.pack("d", cells.clip))[0],
        }.items():  # fmt: skip
            self._told[place] = value

    @property
    def chunks(self) -> int:
        """Into how many parts the batch is cut."""
        memory, cells = self.segment.memory, self.segment.cells
        work = memory.kind.cost(self.sizes)
        work += cells.layers * cells.depth * self.gates.size * (cells.hidden + self.reads)
        threads = min(torch.get_num_threads(), self.examples)
        return max(1, min(threads, self.memory_steps * self.examples * work // THREAD_PAYS))

    def told(self, memory_step: int) -> np.ndarray:
        """The block, with the address of the memory's entry."""
        self._told[plan.MEMORY_STEP] = memory_step
        return np.array(self._told, np.int64)

    def put(self, place: int, number: int) -> None:
        """Put a number in its place."""
        self._told[place] = number

    def tell(self, place: int, tensor: Tensor | None) -> None:
        """Put the address of a tensor, contiguous, in its place."""
        if tensor is not None:
            self._kept.append(tensor)
            self._told[place] = tensor.data_ptr()

    def tell_array(self, place: int, array: np.ndarray) -> None:
        """Put the address of an array, contiguous, in its place."""
        self._kept.append(array)
        self._told[place] = array.__array_interface__["data"][0]

    def new(self, *shape: int) -> Tensor:
        """Memory that the kernel fills."""
        return torch.empty(shape, dtype=self.dtype, device="cpu")

    def zeros(self, *shape: int) -> Tensor:
        """Zeros."""
        return torch.zeros(shape, dtype=self.dtype, device="cpu")

    def tape(self, *shape: int) -> Tensor:
        """Memory that the kernel fills, and that is freed only after backward."""
        return new_tape(shape, self.dtype)

    def memory_tapes(self, memory: int) -> list[Tensor]:
        """A memory's records and, int32, the whole numbers that each step keeps; told of."""
        tape = self.tape(self.examples, self.kept_steps, self.record)
        shape = (self.examples, self.kept_steps, self.order)
        orders = torch.empty(shape, dtype=torch.int32, device="cpu")
        self.tell(self.memory_at(memory) + plan.TAPE, tape)
        self.tell(self.memory_at(memory) + plan.ORDERS, orders)
        return [tape, orders]

    def memory_at(self, memory: int) -> int:
        """Where a memory's block begins."""
        return self._memories_at + memory * plan.MEMORY_SIZE

    def tell_weights(self, parts: Parts, backward: bool, packed: Packed) -> None:
        """Tell of the weights, packed; what is in ``packed`` is not packed again."""
        if backward not in packed:
            packed[backward] = self._pack(parts, backward)
        for place, tensor in packed[backward]:
            self.tell(place, tensor)

    def _pack(self, parts: Parts, backward: bool) -> list[tuple[int, Tensor]]:
        result: list[tuple[int, Tensor]] = []
        own = plan.CELL_BACK_WEIGHTS if backward else plan.CELL_WEIGHTS
        for cell, (from_input, from_state, *biases) in enumerate(parts.cells):
            at = self._cells_at + cell * plan.CELL_SIZE
            matrix = self.gates.matrix(from_input, from_state)
            result.append((at + own, in_panels(matrix if backward else matrix.t(), self.unit)))
            if not backward:
                result.append((at + plan.CELL_BIAS, self._bias(biases)))
        own = plan.LAYER_BACK_WEIGHTS if backward else plan.LAYER_WEIGHTS
        for layer, (weight, bias) in enumerate(parts.interfaces):
            at = self._layers_at + layer * plan.LAYER_SIZE
            result.append((at + own, in_panels(weight if backward else weight.t(), self.unit)))
            if not backward:
                rest = self.vector_width - len(bias)
                padded = torch.nn.functional.pad(bias, (0, rest)) if rest else bias.contiguous()
                result.append((at + plan.LAYER_BIAS, padded))
        return result

    def _bias(self, biases: Sequence[Tensor | None]) -> Tensor:
        """Both biases of a cell as one, [G]."""
        from_input, from_state = biases
        if from_input is None or from_state is None:
            return self.zeros(self.gates.size)
        return self.gates.bias(from_input, from_state)
