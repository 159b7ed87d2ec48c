"""The sizes of one call, and the block of numbers that a kernel is told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memcore.kernels import plan
from memcore.kernels.packing import Gates, in_panels
from memcore.kernels.pages import new_tape
from memcore.kernels.panels import turned
from memcore.kernels.parts import Parts, Segment
from memcore.kernels.sizes import Sizes, padded_to, registers

__all__ = ["Layout", "Packed"]

THREAD_PAYS = 1 << 17  # multiplications from which a further thread pays
NORM = plan.LAYER_GAIN, plan.LAYER_SHIFT
FEW_ROWS = 8  # examples times steps, for which weights are not packed

# Packed weights by their place, one set for forward and one for backward: made once a call.
Packed = dict[bool, list[tuple[int, Tensor]]]


class _Measures:
    """What depends on sizes only."""

    def __init__(
        self, segment: Segment, dtype: torch.dtype, inputs: torch.Size, recording: bool
    ) -> None:
        memory, cells, kind = segment.memory, segment.cells, segment.memory.kind
        self.itemsize = dtype.itemsize
        self.steps, self.examples, self.inputs = inputs
        self.unit = registers(self.itemsize)
        self.padded = kind.padded(memory.slots, memory.words, self.unit)
        self.gates = Gates(cells.kind, cells.hidden, self.unit)
        self.vector_width = padded_to(self.unit, memory.interface)
        self.reads = memory.heads * memory.words
        self.memory_steps = self.steps * (max(cells.layers, 1) if cells.shared else 1)
        self.kept_steps = self.memory_steps + 1 if recording else 2
        self.sizes = sizes = Sizes(
            memory.slots, self.padded, memory.words, memory.heads, memory.interface, memory.reads,
            memory.temporal, memory.writes, int(memory.masking), int(memory.deallocation),
            int(memory.sharpness), memory.mask_minimum, memory.temperature,
        )  # fmt: skip
        self.record, self.order = kind.record_size(sizes), kind.order_size(sizes)
        self.work = kind.cost(sizes)  # multiplications of a step
        self.work += cells.layers * cells.depth * self.gates.size * (cells.hidden + self.reads)
        self.layers_at = plan.HEADER + segment.cell_count * plan.CELL_SIZE
        self.memories_at = self.layers_at + cells.layers * plan.LAYER_SIZE
        self.told = [0] * (self.memories_at + segment.memory_count * plan.MEMORY_SIZE)
        for place, value in {
            plan.STEPS: self.steps, plan.EXAMPLES: self.examples, plan.INPUT: self.inputs,
            plan.OWN: segment.own, plan.LAYERS: cells.layers,
            plan.DEPTH: cells.depth, plan.HIDDEN: cells.hidden, plan.WIDTH: self.gates.width,
            plan.GATES: self.gates.size, plan.CELL_KIND: cells.kind,
            plan.MEMORIES: segment.memory_count, plan.MEMORY_STEPS: self.memory_steps,
            plan.SLOTS: memory.slots, plan.PADDED: self.padded, plan.WORDS: memory.words,
            plan.HEADS: memory.heads, plan.INTERFACE: memory.interface,
            plan.READS: memory.reads, plan.TEMPORAL: memory.temporal,
            plan.WRITES: sizes.writes, plan.MASKING: sizes.masking,
            plan.DEALLOCATION: sizes.deallocation, plan.SHARPNESS: sizes.sharpness,
            plan.MASK_MINIMUM: _bits(sizes.mask_minimum),
            plan.TEMPERATURE: _bits(sizes.temperature),
            plan.INTERFACE_WIDTH: self.vector_width, plan.RECORDING: int(recording),
            plan.RECORD: self.record, plan.ORDER: self.order,
            plan.GRADIENT: kind.gradient_size(sizes), plan.WORK: kind.work_size(sizes),
            plan.CLIP: _bits(cells.clip),
        }.items():  # fmt: skip
            self.told[place] = value


def _bits(number: float) -> int:
    """Those of a float64, as a whole number."""
    return struct.unpack("q", struct.pack("d", number))[0]


_measured = lru_cache(maxsize=128)(_Measures)


class Layout:
    """What is known of a call before it runs; it writes what `memcore.kernels.plan` describes."""

    def __init__(self, segment: Segment, parts: Parts, recording: bool) -> None:
        self.recording, self.segment, self.dtype = recording, segment, parts.inputs.dtype
        own = self._own = _measured(segment, self.dtype, parts.inputs.shape, recording)
        self.itemsize, self.unit, self.gates, self.sizes = (
            own.itemsize, own.unit, own.gates, own.sizes,
        )  # fmt: skip
        self.steps, self.examples, self.inputs = own.steps, own.examples, own.inputs
        self.memory_steps, self.kept_steps = own.memory_steps, own.kept_steps
        self.padded, self.reads, self.vector_width = own.padded, own.reads, own.vector_width
        self.record, self.order = own.record, own.order
        self._told = own.told.copy()
        self._kept: list[Any] = []  # what an address stands for must live as long as it

    @property
    def chunks(self) -> int:
        """Into how many parts the batch is cut."""
        threads = min(torch.get_num_threads(), self.examples)
        work = self.memory_steps * self.examples * self._own.work
        return max(1, min(threads, work // THREAD_PAYS))

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

    def tell_all(self, at: int, addresses: dict[int, int], kept: object) -> None:
        """Put numbers in their places, counted from ``at``; what they stand for is kept."""
        self._kept.append(kept)
        for place, address in addresses.items():
            self._told[at + place] = address

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
        return self._own.memories_at + memory * plan.MEMORY_SIZE

    def cell_at(self, cell: int) -> int:
        """Where a cell's block begins."""
        return plan.HEADER + cell * plan.CELL_SIZE

    def tell_weights(self, parts: Parts, backward: bool, packed: Packed) -> None:
        """Tell of the weights, packed; what is in ``packed`` is not packed again."""
        if backward not in packed and not backward and self.steps * self.examples <= FEW_ROWS:
            self._tell_unpacked(parts)
            return
        if backward not in packed:
            packed[backward] = self._pack(parts, backward)
        for place, tensor in packed[backward]:
            self.tell(place, tensor)

    def _tell_unpacked(self, parts: Parts) -> None:
        """Tell of the weights as they are: for so few rows packing would take longer."""
        places = (plan.CELL_FROM_INPUT, plan.CELL_FROM_STATE)
        places += (plan.CELL_INPUT_BIAS, plan.CELL_STATE_BIAS)
        for cell, weights in enumerate(parts.cells):
            for place, weight in zip(places, weights, strict=True):
                if weight is not None:
                    self.tell(self.cell_at(cell) + place, weight.contiguous())
        for layer, weights in enumerate(parts.interfaces):
            at = self._own.layers_at + layer * plan.LAYER_SIZE
            for place, weight in zip(
                (plan.LAYER_ROWS, plan.LAYER_BIAS, *NORM), weights, strict=False
            ):
                self.tell(at + place, weight.contiguous())

    def _pack(self, parts: Parts, backward: bool) -> list[tuple[int, Tensor]]:
        result: list[tuple[int, Tensor]] = []
        for cell, (from_input, from_state, *biases) in enumerate(parts.cells):
            at = self.cell_at(cell)
            if backward:
                matrix = self.gates.matrix(from_input, from_state)
                result.append((at + plan.CELL_BACK_WEIGHTS, in_panels(matrix, self.unit)))
            else:
                panels = self.gates.panels(from_input, from_state)
                result.append((at + plan.CELL_WEIGHTS, panels))
                result.append((at + plan.CELL_BIAS, self._bias(biases)))
        for layer, (weight, bias, *norm) in enumerate(parts.interfaces):
            at = self._own.layers_at + layer * plan.LAYER_SIZE
            pairs = zip(NORM, norm, strict=False)
            result += [(at + place, own.contiguous()) for place, own in pairs]
            if backward:
                result.append((at + plan.LAYER_BACK_WEIGHTS, in_panels(weight, self.unit)))
            else:
                result.append((at + plan.LAYER_WEIGHTS, turned(weight, self.unit)))
                result.append((at + plan.LAYER_BIAS, turned(bias[:, None], self.unit)))
        return result

    def _bias(self, biases: Sequence[Tensor | None]) -> Tensor:
        """Both biases of a cell as one, [G]."""
        from_input, from_state = biases
        if from_input is None:
            return self.zeros(self.gates.size)
        return self.gates.bias(from_input, from_state)
