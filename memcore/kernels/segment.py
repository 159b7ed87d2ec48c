"""A segment – a batch over some time steps – as one differentiable operation.

`run` takes everything it depends on as tensors and gives new ones; autograd sees one node. What
does not recur stays torch's: the gradients of the weights, products over all steps and examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from memcore.kernels import plan
from memcore.kernels.layout import Layout, Packed
from memcore.kernels.parts import Cells, Memory, Parts, Result, Segment
from memcore.kernels.pool import run as run_kernel
from memcore.kernels.sequence import BACKWARD, FORWARD
from memcore.kernels.weight_gradients import weight_gradients

__all__ = ["Cells", "Memory", "Parts", "Result", "Segment", "run"]

Plain = Callable[[Segment, Parts], Result]


def run(segment: Segment, parts: Parts, plain: Plain, packed: Packed | None = None) -> Result:
    """Run a segment on the CPU.

    Args:
        segment: its sizes.
        parts: its tensors, all float32 or all float64, on the CPU; not changed.
        plain: the same in torch's operations, for second derivatives.
        packed: of an earlier segment with the same weights, which are then not packed again;
            filled where it is empty.
    """
    packed = {} if packed is None else packed
    flat = segment.flatten(parts)
    if any(x is not None and x.is_neg() for x in flat):
        # Views with a note that they are yet to be negated: kernels read what is there.
        flat = [x if x is None else x.resolve_neg() for x in flat]
        parts = segment.split(flat)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in flat):
        return segment.split_result(_Run.apply(segment, plain, packed, *flat))
    with torch.no_grad():
        return _forward(segment, parts, False, packed)[0]


def _forward(
    segment: Segment, parts: Parts, recording: bool, packed: Packed
) -> tuple[Result, list[Tensor], list[Tensor]]:
    """The result, and what backward needs: outputs and tapes of the cells; of the memories."""
    layout, cells = Layout(segment, parts, recording), segment.cells
    steps, examples, hidden = layout.steps, layout.examples, cells.hidden
    outputs = layout.tape(max(cells.layers, 1), steps, examples, hidden + layout.reads)
    layout.tell(plan.OUTPUTS, outputs)
    tapes: list[Tensor] = []
    if cells.layers:
        assert parts.reads is not None
        shape = (segment.cell_count, steps, examples, layout.gates.size)
        tapes = [layout.tape(*shape), *_state_tapes(layout, parts)]
        for place, tape in zip(
            (plan.GATE_TAPE, plan.HIDDEN_TAPE, plan.CELL_TAPE), tapes, strict=False
        ):
            layout.tell(place, tape)
        layout.tell(plan.INPUTS, parts.inputs.contiguous())
        layout.tell(plan.FIRST_READS, parts.reads.contiguous())
        layout.tell(plan.MASKS, parts.masks)
        layout.tell_weights(parts, False, packed)
    else:
        layout.tell(plan.INPUTS, parts.inputs.contiguous())
    states, own = layout.new_states(parts.states), segment.memory.kind.links
    of_memories: list[Tensor] = []
    for memory, given in enumerate(parts.states):
        at = layout.memory_at(memory)
        tape = layout.tape(examples, layout.kept_steps, layout.record)
        shape = (examples, layout.kept_steps, layout.order)
        orders = torch.empty(shape, dtype=torch.int32, device="cpu")
        layout.tell(at + plan.TAPE, tape)
        layout.tell(at + plan.ORDERS, orders)
        of_memories += [tape, orders]
        if own is not None:
            square = (layout.padded, layout.padded)
            links, last = layout.squared(given[own]), layout.new(examples, *square)
            layout.tell(at + plan.LINKS_IN, links)
            layout.tell(at + plan.LINKS, last)
            states[memory][own] = last
            if recording:
                marks = layout.tape(examples, layout.marks, *square)
                layout.tell(at + plan.LINK_MARKS, marks)
                of_memories += [links, marks]
    layout.tell_states(plan.STATE_IN, parts.states)
    layout.tell_states(plan.STATE_OUT, states)
    entry = segment.memory.kind.forward[layout.itemsize]
    run_kernel(FORWARD[layout.itemsize], layout.told(entry.address), layout.chunks)
    layout.unsquare(states)
    # Without a controller the caller gets the rows themselves, and may change them in place.
    rows = outputs[-1] if cells.layers else outputs[-1].clone()
    result = Result(
        rows,
        rows[-1, :, hidden:].clone() if cells.layers else None,
        [
            tuple(tape[cell, -1, :, :hidden].clone() for tape in tapes[1:])
            for cell in range(segment.cell_count)
        ],
        states,
    )
    return result, [outputs, *tapes], of_memories


def _state_tapes(layout: Layout, parts: Parts) -> list[Tensor]:
    """The tapes of the cells' states, of which the first step is given."""
    hidden, width = layout.segment.cells.hidden, layout.gates.width
    tapes = []
    for states in zip(*parts.hidden, strict=True):
        tape = layout.tape(len(states), layout.steps + 1, layout.examples, width)
        for cell, state in enumerate(states):
            tape[cell, 0, :, :hidden] = state
        if width != hidden:
            tape[:, 0, :, hidden:] = 0
        tapes.append(tape)
    return tapes


class _Run(torch.autograd.Function):
    """Forward and backward of a segment."""

    @staticmethod
    def forward(
        ctx: Any, segment: Segment, plain: Plain, packed: Packed, *flat: Tensor | None
    ) -> Any:
        result, tapes, of_memories = _forward(segment, segment.split(flat), True, packed)
        ctx.segment, ctx.plain, ctx.packed = segment, plain, packed
        ctx.counts = len(flat), len(tapes)
        ctx.save_for_backward(*flat, *tapes, *of_memories)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(
            *(state[at] for state in result.states for at in segment.memory.kind.without_gradient)
        )
        return segment.flatten_result(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        segment, saved, needed = ctx.segment, ctx.saved_tensors, ctx.needs_input_grad[3:]
        given, tapes = ctx.counts
        flat = saved[:given]
        if torch.is_grad_enabled():
            found = _by_the_plain_form(ctx.plain, segment, flat, gradients, needed)
        elif not all(map(_has_numbers, gradients)):
            # As with is_grads_batched, where each gradient stands for a batch of gradients.
            with torch.enable_grad():
                own = [
                    x if x is None else x.detach().requires_grad_(need)
                    for x, need in zip(flat, needed, strict=True)
                ]
                found = _by_the_plain_form(ctx.plain, segment, own, gradients, needed, False)
        else:
            read = [x if x is None else x.resolve_neg() for x in gradients]
            parts, slope = segment.split(flat), segment.split_result(read)
            middle = given + tapes
            found = segment.flatten(
                _backward(segment, parts, slope, saved[given:middle], saved[middle:], ctx.packed)
            )
            found = [value if need else None for value, need in zip(found, needed, strict=True)]
        return None, None, None, *found


def _has_numbers(gradient: Tensor | None) -> bool:
    """Whether kernels can read it, or it is None: not what a transform or a subclass wraps."""
    return gradient is None or (type(gradient) is Tensor and torch._C._has_storage(gradient))


def _by_the_plain_form(
    plain: Plain,
    segment: Segment,
    flat: Sequence[Any],
    gradients: Sequence[Tensor | None],
    needed: Sequence[bool],
    create_graph: bool = True,
) -> list[Tensor | None]:
    """Run the segment again in torch's operations and differentiate that, again if need be."""
    # Views, of which each is of one place only and has no history but itself: what a tensor owes to
    # an earlier segment, or has given to another place too, is theirs to count.
    own: list[Any] = [x if x is None else x.view_as(x) for x in flat]
    result = segment.flatten_result(plain(segment, segment.split(own)))
    pairs = [
        (output, gradient)
        for output, gradient in zip(result, gradients, strict=True)
        if gradient is not None and output is not None and output.requires_grad
    ]
    found = iter(
        torch.autograd.grad(
            [output for output, _ in pairs],
            [tensor for tensor, need in zip(own, needed, strict=True) if need],
            [gradient for _, gradient in pairs],
            create_graph=create_graph,
            allow_unused=True,
        )
    )
    return [next(found) if need else None for need in needed]


def _backward(
    segment: Segment,
    parts: Parts,
    slope: Result,
    tapes: Sequence[Tensor],
    of_memories: Sequence[Tensor],
    packed: Packed,
) -> Parts:
    """The gradients of all parts."""
    layout, kind = Layout(segment, parts, True), segment.memory.kind
    # What hooks on saved tensors give back may lie in memory otherwise than it did.
    tapes, of_memories = ([tape.contiguous() for tape in group] for group in (tapes, of_memories))
    steps, examples, cells = layout.steps, layout.examples, segment.cells
    hidden, count = cells.hidden, segment.cell_count
    shape = (steps, examples, hidden + layout.reads)
    d_rows = layout.zeros(*shape) if slope.rows is None else slope.rows.contiguous()
    layout.tell(plan.D_OUTPUTS, d_rows)
    d_vectors = layout.new(max(cells.layers, 1), steps, examples, layout.vector_width)
    layout.tell(plan.D_VECTORS, d_vectors)
    d_gates = layout.new(count, steps, examples, layout.gates.size)
    d_inputs = layout.new(steps, examples, layout.inputs)
    d_reads, d_hidden = layout.zeros(examples, layout.reads), []
    if cells.layers:
        layout.tell(plan.GATE_TAPE, tapes[1])
        layout.tell(plan.D_GATES, d_gates)
        layout.tell(plan.D_INPUTS, d_inputs)
        for place, d_place, tape, own in zip(
            (plan.HIDDEN_TAPE, plan.CELL_TAPE), (plan.D_HIDDEN, plan.D_CELL), tapes[2:],
            zip(*slope.hidden, strict=True), strict=False,
        ):  # fmt: skip
            gradient = layout.zeros(count, examples, layout.gates.width)
            for cell, value in enumerate(own):
                if value is not None:
                    gradient[cell, :, :hidden] = value
            layout.tell(place, tape)
            layout.tell(d_place, gradient)
            d_hidden.append(gradient)
        layout.tell(plan.MASKS, parts.masks)
        if slope.reads is not None:
            d_reads.copy_(slope.reads)
        layout.tell(plan.D_READS, d_reads)
        layout.tell_weights(parts, True, packed)
    d_states = layout.new_states(parts.states)
    each = len(of_memories) // segment.memory_count
    for memory in range(segment.memory_count):
        at, own = layout.memory_at(memory), of_memories[memory * each : (memory + 1) * each]
        layout.tell(at + plan.TAPE, own[0])
        layout.tell(at + plan.ORDERS, own[1])
        if kind.links is not None:
            layout.tell(at + plan.LINKS_IN, own[2])
            layout.tell(at + plan.LINK_MARKS, own[3])
            # The kernel changes it in place, and somebody else may hold the given one.
            d_links = layout.zeros(examples, layout.padded, layout.padded)
            given, slots = slope.states[memory][kind.links], segment.memory.slots
            if given is not None:
                d_links[:, :slots, :slots] = given
            layout.tell(at + plan.D_LINKS, d_links)
            d_states[memory][kind.links] = d_links
    layout.tell_states(plan.D_STATE_IN, slope.states)
    layout.tell_states(plan.D_STATE_OUT, d_states)
    told = layout.told(kind.backward[layout.itemsize].address)
    run_kernel(BACKWARD[layout.itemsize], told, layout.chunks)
    layout.unsquare(d_states)
    for state in d_states:
        for at in kind.without_gradient:
            state[at] = None
    found = Parts(
        inputs=d_inputs if cells.layers else d_vectors[0, :, :, : segment.memory.interface],
        reads=d_reads if cells.layers else None,
        masks=None,
        hidden=[tuple(own[cell, :, :hidden] for own in d_hidden) for cell in range(count)],
        states=d_states,
        cells=[],
        interfaces=[],
    )
    if cells.layers:
        found = weight_gradients(layout, parts, found, tapes[0], tapes[2], d_gates, d_vectors)
    return found
