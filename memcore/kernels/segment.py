"""A segment – a batch over some time steps – as one differentiable operation.

`run` takes everything it depends on as tensors and gives new ones; autograd sees one node. What
is linear in the inputs stays torch's: the first cell's share of the input before, the gradients
of the weights after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memcore.kernels import plan
from memcore.kernels.controllers import LSTM
from memcore.kernels.memories import Kind
from memcore.kernels.packing import Gates, in_panels
from memcore.kernels.pool import run as run_kernel
from memcore.kernels.sequence import BACKWARD, FORWARD
from memcore.kernels.sizes import Sizes, padded_to, registers

__all__ = ["Cells", "Memory", "Parts", "Segment", "run"]

SMALL = 1 << 15  # multiplications a thread below which a second one does not pay


class Memory(NamedTuple):
    """Which memory, and its sizes."""

    kind: Kind
    slots: int
    words: int
    heads: int
    interface: int


class Cells(NamedTuple):
    """Which controller, and its sizes; none at all where ``layers`` is 0."""

    kind: int = LSTM
    layers: int = 0
    depth: int = 0
    hidden: int = 0
    clip: float = 0.0
    shared: bool = True


class Parts(NamedTuple):
    """All tensors that a segment takes; `Segment.split` and `flatten` go back and forth."""

    inputs: Tensor  # [T, B, X], or interface vectors [T, B, I] where there is no controller
    reads: Tensor | None  # [B, R·W]
    masks: Tensor | None  # [L, T, D − 1, B, H], dropout
    hidden: list[tuple[Tensor, ...]]  # of each cell (h,) or (h, c), each [B, H]
    states: list[tuple[Tensor, ...]]  # of each memory its fields
    cells: list[tuple[Tensor | None, ...]]  # of each cell weight_ih, weight_hh, bias_ih, bias_hh
    interfaces: list[tuple[Tensor | None, ...]]  # of each layer weight, bias


class Result(NamedTuple):
    """What a segment gives."""

    rows: Tensor  # [T, B, H + R·W] of the last layer
    reads: Tensor | None  # [B, R·W]
    hidden: list[tuple[Tensor, ...]]
    states: list[tuple[Tensor, ...]]


class Segment(NamedTuple):
    """The sizes of a segment."""

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
    def per_state(self) -> int:
        """2 for an LSTM, 1 else."""
        return 2 if self.cells.kind == LSTM else 1

    def flatten(self, parts: Parts) -> list[Tensor | None]:
        """All tensors in one list."""
        groups: list[Sequence[Sequence[Tensor | None]]] = [
            parts.hidden, parts.states, parts.cells, parts.interfaces,
        ]  # fmt: skip
        flat: list[Tensor | None] = [parts.inputs, parts.reads, parts.masks]
        return flat + [tensor for group in groups for own in group for tensor in own]

    def split(self, flat: Sequence[Any]) -> Parts:
        """Undo `flatten`."""
        rest = iter(flat)

        def take(groups: int, each: int) -> list[tuple[Any, ...]]:
            return [tuple(next(rest) for _ in range(each)) for _ in range(groups)]

        inputs, reads, masks = (next(rest) for _ in range(3))
        return Parts(
            inputs,
            reads,
            masks,
            take(self.cell_count, self.per_state),
            take(self.memory_count, len(self.memory.kind.fields)),
            take(self.cell_count, 4),
            take(self.cells.layers, 2),
        )

    def flatten_result(self, result: Result) -> tuple[Tensor | None, ...]:
        """All tensors in one tuple."""
        hidden = [tensor for own in result.hidden for tensor in own]
        states = [tensor for own in result.states for tensor in own]
        return (result.rows, result.reads, *hidden, *states)

    def split_result(self, flat: Sequence[Any]) -> Result:
        """Undo `flatten_result`."""
        rest = iter(flat)
        rows, reads = next(rest), next(rest)
        each, fields = self.per_state, len(self.memory.kind.fields)
        return Result(
            rows,
            reads,
            [tuple(next(rest) for _ in range(each)) for _ in range(self.cell_count)],
            [tuple(next(rest) for _ in range(fields)) for _ in range(self.memory_count)],
        )


Plain = Callable[[Segment, Parts], Result]


def run(segment: Segment, parts: Parts, plain: Plain) -> Result:
    """Run a segment on the CPU.

    Args:
        segment: its sizes.
        parts: its tensors, all float32 or all float64, on the CPU; not changed.
        plain: the same in torch's operations, for second derivatives.
    """
    flat = segment.flatten(parts)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in flat):
        return segment.split_result(_Run.apply(segment, plain, *flat))
    with torch.no_grad():
        return _forward(segment, parts, False)[0]


class _Layout:
    """A segment's sizes for one call, and the block of numbers that a kernel is told."""

    def __init__(self, segment: Segment, parts: Parts, recording: bool) -> None:
        memory, cells = segment.memory, segment.cells
        self.segment, self.dtype = segment, parts.inputs.dtype
        self.itemsize = self.dtype.itemsize
        self.steps, self.examples = parts.inputs.shape[:2]
        self.unit = registers(self.itemsize)
        self.padded = padded_to(self.unit, memory.slots)
        self.gates = Gates(cells.kind, max(cells.hidden, 1), self.unit)
        self.vector_width = padded_to(self.unit, memory.interface)
        self.reads = memory.heads * memory.words
        self.memory_steps = self.steps * (max(cells.layers, 1) if cells.shared else 1)
        self.recording = recording
        sizes = Sizes(memory.slots, self.padded, memory.words, memory.heads, memory.interface)
        of = memory.kind
        self.record, self.order = of.record_size(sizes), of.order_size(sizes)
        self.stride = self._stride()
        self.told = np.zeros(
            plan.HEADER
            + segment.cell_count * plan.CELL_SIZE
            + cells.layers * plan.LAYER_SIZE
            + segment.memory_count * plan.MEMORY_SIZE,
            np.int64,
        )
        self._kept: list[Tensor] = []  # what an address stands for must live as long as it
        told = {
            plan.STEPS: self.steps, plan.EXAMPLES: self.examples, plan.LAYERS: cells.layers,
            plan.DEPTH: cells.depth, plan.HIDDEN: cells.hidden, plan.WIDTH: self.gates.width,
            plan.GATES: self.gates.size, plan.CELL_KIND: cells.kind,
            plan.MEMORIES: segment.memory_count,
            plan.MEMORY_STEPS: self.memory_steps, plan.SLOTS: memory.slots,
            plan.PADDED: self.padded, plan.WORDS: memory.words, plan.HEADS: memory.heads,
            plan.INTERFACE: memory.interface, plan.INTERFACE_WIDTH: self.vector_width,
            plan.RECORDING: recording, plan.STRIDE: self.stride, plan.RECORD: self.record,
            plan.ORDER: self.order, plan.GRADIENT: of.gradient_size(sizes),
            plan.WORK: of.work_size(sizes),
        }  # fmt: skip
        for place, value in told.items():
            self.told[place] = value
        if cells.layers and cells.clip > 0:
            self.tell(plan.CLIP, torch.tensor([cells.clip], dtype=self.dtype, device="cpu"))

    def _stride(self) -> int:
        """How many steps apart links are kept: all where that is little, else every fourth."""
        size = self.memory_steps * self.examples * self.padded**2 * self.itemsize
        return 1 if size <= 1 << 22 else 4

    @property
    def marks(self) -> int:
        """How many links are kept of each example."""
        return (self.memory_steps - 1) // self.stride

    def tell(self, place: int, tensor: Tensor | None) -> None:
        """Put the address of a tensor, contiguous, in its place."""
        if tensor is not None:
            self._kept.append(tensor)
            self.told[place] = tensor.data_ptr()

    def new(self, *shape: int) -> Tensor:
        """Memory that the kernel fills."""
        return torch.empty(shape, dtype=self.dtype, device="cpu")

    def cell_place(self, cell: int) -> int:
        """Where a cell's block begins."""
        return plan.HEADER + cell * plan.CELL_SIZE

    def layer_place(self, layer: int) -> int:
        """Where a layer's block begins."""
        return self.cell_place(self.segment.cell_count) + layer * plan.LAYER_SIZE

    def memory_place(self, memory: int) -> int:
        """Where a memory's block begins."""
        return self.layer_place(self.segment.cells.layers) + memory * plan.MEMORY_SIZE

    def chunks(self) -> int:
        """Into how many parts the batch is cut."""
        memory, cells = self.segment.memory, self.segment.cells
        work = memory.slots * memory.words * memory.heads
        if memory.kind.links is not None:
            work += memory.slots**2 * (2 * memory.heads + 1)
        work += cells.layers * cells.depth * self.gates.size * (cells.hidden + self.reads)
        threads = min(torch.get_num_threads(), self.examples)
        return max(1, min(threads, self.memory_steps * self.examples * work // SMALL))

    def squared(self, links: Tensor) -> Tensor:
        """Links ``[B, N, N]`` as kernels have them, [B, P, P]."""
        rest = self.padded - links.shape[-1]
        return torch.nn.functional.pad(links, (0, rest, 0, rest)) if rest else links.contiguous()

    def unsquare(self, states: list[list[Tensor]]) -> None:
        """Undo `squared` in each state."""
        own, slots = self.segment.memory.kind.links, self.segment.memory.slots
        if own is not None and slots != self.padded:
            for state in states:
                state[own] = state[own][:, :slots, :slots].contiguous()

    def tell_states(self, place: int, states: Sequence[Sequence[Tensor | None]]) -> None:
        """Tell of the fields of each memory's state but the links, contiguous."""
        for memory, fields in enumerate(states):
            at = self.memory_place(memory) + place
            for field, tensor in zip(self.segment.memory.kind.fields, fields, strict=True):
                if field is not None and tensor is not None:
                    self.tell(at + field, tensor.contiguous())

    def new_states(self, like: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
        """States of the same shapes, to be filled; links are made elsewhere."""
        return [
            [
                field if place is None else self.new(*field.shape)
                for place, field in zip(self.segment.memory.kind.fields, state, strict=True)
            ]
            for state in like
        ]


def _prepare_cells(layout: _Layout, parts: Parts, backward: bool) -> None:
    """Tell of the weights: their packed copies."""
    segment, gates, unit = layout.segment, layout.gates, layout.unit
    own = plan.CELL_BACK_WEIGHTS if backward else plan.CELL_WEIGHTS
    for cell, (from_input, from_state, *biases) in enumerate(parts.cells):
        assert from_input is not None and from_state is not None
        if cell == 0:
            from_input = from_input[:, parts.inputs.shape[2] :]
        matrix = gates.matrix(from_input, from_state)
        packed = in_panels(matrix if backward else matrix.t(), unit)
        layout.tell(layout.cell_place(cell) + own, packed)
        if not backward and cell > 0:
            bias = layout.new(gates.size).zero_() if biases[0] is None else gates.bias(*biases)
            layout.tell(layout.cell_place(cell) + plan.CELL_BIAS, bias)
    own = plan.LAYER_BACK_WEIGHTS if backward else plan.LAYER_WEIGHTS
    for layer, (weight, bias) in enumerate(parts.interfaces):
        assert weight is not None and bias is not None
        packed = in_panels(weight if backward else weight.t(), unit)
        layout.tell(layout.layer_place(layer) + own, packed)
        if not backward:
            rest = layout.vector_width - segment.memory.interface
            padded = torch.nn.functional.pad(bias, (0, rest)) if rest else bias.contiguous()
            layout.tell(layout.layer_place(layer) + plan.LAYER_BIAS, padded)


def _forward(
    segment: Segment, parts: Parts, recording: bool
) -> tuple[Result, list[Tensor], list[Tensor]]:
    """The result, and what backward needs: outputs and tapes of the cells; of the memories."""
    layout = _Layout(segment, parts, recording)
    steps, examples, cells = layout.steps, layout.examples, segment.cells
    row = cells.hidden + layout.reads
    layers, count, width = cells.layers, segment.cell_count, layout.gates.width
    outputs = layout.new(max(layers, 1), steps, examples, row)
    layout.tell(plan.OUTPUTS, outputs)
    tapes: list[Tensor] = []
    if layers:
        assert parts.reads is not None
        gate_tape = layout.new(count, steps, examples, layout.gates.size)
        from_input, _, *biases = parts.cells[0]
        assert from_input is not None
        weight = layout.gates.rows(from_input[:, : parts.inputs.shape[2]])
        inputs, sums = parts.inputs.reshape(steps * examples, -1), gate_tape[0].flatten(0, 1)
        if biases[0] is None:
            torch.mm(inputs, weight.t(), out=sums)
        else:
            torch.addmm(layout.gates.bias(*biases), inputs, weight.t(), out=sums)
        tapes = [gate_tape]
        layout.tell(plan.GATE_TAPE, gate_tape)
        for place, own in zip(
            (plan.HIDDEN_TAPE, plan.CELL_TAPE), zip(*parts.hidden, strict=True), strict=False
        ):
            tape = layout.new(count, steps + 1, examples, width)
            for cell, state in enumerate(own):
                tape[cell, 0, :, : cells.hidden] = state
            if width != cells.hidden:
                tape[:, 0, :, cells.hidden :] = 0
            layout.tell(place, tape)
            tapes.append(tape)
        layout.tell(plan.FIRST_READS, parts.reads.contiguous())
        layout.tell(plan.MASKS, parts.masks)
        _prepare_cells(layout, parts, backward=False)
    else:
        layout.tell(plan.VECTORS, parts.inputs.contiguous())
    states, own_links = layout.new_states(parts.states), segment.memory.kind.links
    slots = layout.memory_steps + 1 if recording else 2
    of_memories: list[Tensor] = []
    for memory, given in enumerate(parts.states):
        at = layout.memory_place(memory)
        tape = layout.new(examples, slots, layout.record)
        orders = torch.empty(examples, slots, layout.order, dtype=torch.int32, device="cpu")
        layout.tell(at + plan.TAPE, tape)
        layout.tell(at + plan.ORDERS, orders)
        kept = [tape, orders]
        if own_links is not None:
            links = layout.squared(given[own_links])
            running = layout.new(examples, layout.padded, layout.padded)
            layout.tell(at + plan.LINKS_IN, links)
            layout.tell(at + plan.LINKS, running)
            states[memory][own_links] = running
            if recording:
                marks = layout.new(examples, layout.marks, layout.padded, layout.padded)
                layout.tell(at + plan.LINK_MARKS, marks)
                kept += [links, marks]
        of_memories += kept
    layout.tell_states(plan.STATE_IN, parts.states)
    layout.tell_states(plan.STATE_OUT, states)
    layout.told[plan.MEMORY_STEP] = segment.memory.kind.forward[layout.itemsize].address
    run_kernel(FORWARD[layout.itemsize], layout.told, layout.chunks())
    layout.unsquare(states)
    hidden = [
        tuple(tape[cell, -1, :, : cells.hidden].clone() for tape in tapes[1:])
        for cell in range(count)
    ]
    rows = outputs[-1]
    reads = rows[-1, :, cells.hidden :].clone() if layers else None
    result = Result(rows, reads, hidden, [tuple(state) for state in states])
    return result, [outputs, *tapes], of_memories


class _Run(torch.autograd.Function):
    """Forward and backward of a segment."""

    @staticmethod
    def forward(ctx: Any, segment: Segment, plain: Plain, *flat: Tensor | None) -> Any:
        result, tapes, of_memories = _forward(segment, segment.split(flat), True)
        ctx.segment, ctx.plain = segment, plain
        ctx.counts = len(flat), len(tapes), len(of_memories)
        ctx.save_for_backward(*flat, *tapes, *of_memories)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(
            *(state[at] for state in result.states for at in segment.memory.kind.without_gradient)
        )
        return segment.flatten_result(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        segment, saved = ctx.segment, ctx.saved_tensors
        given, tapes, of_memories = ctx.counts
        flat = saved[:given]
        if torch.is_grad_enabled():
            return None, None, *_by_the_plain_form(ctx, segment, flat, gradients)
        parts, slope = segment.split(flat), segment.split_result(gradients)
        middle = given + tapes
        found = _backward(
            segment, parts, slope, saved[given], saved[given + 1 : middle],
            saved[middle : middle + of_memories], ctx.needs_input_grad[2:],
        )  # fmt: skip
        return None, None, *found


def _by_the_plain_form(
    ctx: Any, segment: Segment, flat: Sequence[Tensor | None], gradients: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Run the segment again in torch's operations and differentiate that, again if need be."""
    needed = ctx.needs_input_grad[2:]
    result = segment.flatten_result(ctx.plain(segment, segment.split(flat)))
    pairs = [
        (output, gradient)
        for output, gradient in zip(result, gradients, strict=True)
        if gradient is not None and output is not None and output.requires_grad
    ]
    wanted = [tensor for tensor, need in zip(flat, needed, strict=True) if need]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs],
            wanted,  # pyright: ignore
            [gradient for _, gradient in pairs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if need else None for need in needed]


def _backward(
    segment: Segment,
    parts: Parts,
    slope: Any,
    outputs: Tensor,
    tapes: Sequence[Tensor],
    of_memories: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    layout = _Layout(segment, parts, True)
    steps, examples, cells, gates = layout.steps, layout.examples, segment.cells, layout.gates
    layers, count, hidden = cells.layers, segment.cell_count, cells.hidden
    zeros: Any = lambda *shape: torch.zeros(shape, dtype=layout.dtype, device="cpu")  # noqa: E731
    row = hidden + layout.reads
    d_rows = zeros(steps, examples, row) if slope.rows is None else slope.rows.contiguous()
    layout.tell(plan.D_OUTPUTS, d_rows)
    d_vectors = layout.new(max(layers, 1), steps, examples, layout.vector_width)
    layout.tell(plan.D_VECTORS, d_vectors)
    d_gates, d_states_in, d_hidden = None, [], []
    d_reads = zeros(examples, layout.reads)
    if layers:
        d_gates = layout.new(count, steps, examples, gates.size)
        layout.tell(plan.D_GATES, d_gates)
        for places, tape, own in zip(
            ((plan.HIDDEN_TAPE, plan.D_HIDDEN), (plan.CELL_TAPE, plan.D_CELL)),
            tapes[1:],
            zip(*slope.hidden, strict=True),
            strict=False,
        ):
            gradient = zeros(count, examples, gates.width)
            for cell, value in enumerate(own):
                if value is not None:
                    gradient[cell, :, :hidden] = value
            layout.tell(places[0], tape)
            layout.tell(places[1], gradient)
            d_hidden.append(gradient)
        layout.tell(plan.GATE_TAPE, tapes[0])
        layout.tell(plan.MASKS, parts.masks)
        if slope.reads is not None:
            d_reads.copy_(slope.reads)
        layout.tell(plan.D_READS, d_reads)
        _prepare_cells(layout, parts, backward=True)
    d_states, own_links = layout.new_states(parts.states), segment.memory.kind.links
    each = len(of_memories) // segment.memory_count
    for memory in range(segment.memory_count):
        at, own = layout.memory_place(memory), of_memories[memory * each : (memory + 1) * each]
        layout.tell(at + plan.TAPE, own[0])
        layout.tell(at + plan.ORDERS, own[1])
        if own_links is not None:
            layout.tell(at + plan.LINKS_IN, own[2])
            layout.tell(at + plan.LINK_MARKS, own[3])
            square = (layout.padded, layout.padded)
            given = slope.states[memory][own_links]
            # The kernel changes it in place, and somebody else may hold the given one.
            d_links = zeros(examples, *square)
            if given is not None:
                d_links[:, : segment.memory.slots, : segment.memory.slots] = given
            layout.tell(at + plan.D_LINKS, d_links)
            d_states[memory][own_links] = d_links
    layout.tell_states(plan.D_STATE_IN, slope.states)
    layout.tell_states(plan.D_STATE_OUT, d_states)
    layout.told[plan.MEMORY_STEP] = segment.memory.kind.backward[layout.itemsize].address
    run_kernel(BACKWARD[layout.itemsize], layout.told, layout.chunks())
    layout.unsquare(d_states)
    found = Parts(
        inputs=d_vectors[0, :, :, : segment.memory.interface],
        reads=d_reads if layers else None,
        masks=None,
        hidden=[tuple(own[cell, :, :hidden] for own in d_hidden) for cell in range(count)],
        states=[
            tuple(
                None if at in segment.memory.kind.without_gradient else gradient
                for at, gradient in enumerate(state)
            )
            for state in d_states
        ],
        cells=[],
        interfaces=[],
    )
    if layers:
        assert d_gates is not None
        found = _weight_gradients(layout, parts, found, outputs, tapes[1], d_gates, d_vectors)
    return [
        value if need else None for value, need in zip(segment.flatten(found), needed, strict=True)
    ]


def _weight_gradients(
    layout: _Layout,
    parts: Parts,
    found: Parts,
    outputs: Tensor,
    hidden_tape: Tensor,
    d_gates: Tensor,
    d_vectors: Tensor,
) -> Parts:
    """The gradients that are products over all steps and examples."""
    cells, gates, hidden = layout.segment.cells, layout.gates, layout.segment.cells.hidden
    total, given = layout.steps * layout.examples, parts.inputs.shape[2]
    assert parts.reads is not None
    reads_before = torch.cat([parts.reads[None], outputs[-1, :-1, :, hidden:]])
    d_cells: list[tuple[Tensor | None, ...]] = []
    d_inputs = None
    for cell, (from_input, _, *biases) in enumerate(parts.cells):
        layer, depth = divmod(cell, cells.depth)
        if depth:
            inputs = hidden_tape[cell - 1, 1:, :, :hidden]
            if parts.masks is not None:
                inputs = inputs * parts.masks[layer, :, depth - 1]
        elif layer:
            inputs = outputs[layer - 1]
        else:
            inputs = torch.cat([parts.inputs, reads_before], dim=2)
        own = d_gates[cell].view(total, -1)
        by_input, by_state = gates.by_input(own), gates.by_state(own)
        before = hidden_tape[cell, :-1, :, :hidden].reshape(total, hidden)
        weights = (by_input.t() @ inputs.reshape(total, -1), by_state.t() @ before)
        if biases[0] is None:
            d_cells.append((*weights, None, None))
        else:
            d_bias = by_input.sum(0)
            d_cells.append((*weights, d_bias, d_bias if by_state is by_input else by_state.sum(0)))
        if cell == 0:
            assert from_input is not None
            d_inputs = (by_input @ from_input[:, :given]).view(layout.steps, layout.examples, given)
    d_interfaces = []
    for layer in range(cells.layers):
        own = d_vectors[layer].view(total, -1)[:, : layout.segment.memory.interface]
        rows = outputs[layer].view(total, -1)[:, :hidden]
        d_interfaces.append((own.t() @ rows, own.sum(0)))
    assert d_inputs is not None
    return found._replace(inputs=d_inputs, cells=d_cells, interfaces=d_interfaces)
