"""A segment – a batch over some time steps – as one differentiable operation.

`run` takes everything it depends on as tensors and gives new ones; autograd sees one node. What
does not recur stays torch's: the gradients of the weights, products over all steps and examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memcore.errors import MemcoreError
from memcore.kernels import dense_states, plan, sparse_states
from memcore.kernels.layout import Layout, Packed
from memcore.kernels.parts import Cells, Memory, Parts, Result, Segment
from memcore.kernels.pool import run as run_kernel
from memcore.kernels.sequence import BACKWARD, FORWARD
from memcore.kernels.weight_gradients import weight_gradients, with_norms

__all__ = [
    "Cells",
    "Done",
    "Memory",
    "Parts",
    "Plain",
    "Result",
    "Segment",
    "collected",
    "launched",
    "recorded",
    "resolved",
    "run",
]

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
    parts, flat = resolved(segment, parts)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in flat):
        return recorded(segment, flat, plain, packed, None)
    with torch.no_grad():
        return collected(segment, launched(segment, parts, False, packed))


def resolved(segment: Segment, parts: Parts) -> tuple[Parts, list[Any]]:
    """The parts as kernels can read them, and all in one list."""
    flat = segment.flatten(parts)
    if any(x is not None and x.is_neg() for x in flat):
        # Views with a note that they are yet to be negated: kernels read what is there.
        flat = [x if x is None else x.resolve_neg() for x in flat]
        parts = segment.split(flat)
    return parts, flat


def recorded(
    segment: Segment, flat: Sequence[Any], plain: Plain | None, packed: Packed, done: Done | None
) -> Result:
    """The result as one operation of autograd; computed here unless it is ``done``."""
    return segment.split_result(_Run.apply(segment, plain, packed, done, *flat))


def _host(segment: Segment) -> Any:
    """The module that brings the memories' states in and out."""
    return sparse_states if segment.memory.kind.sparse else dense_states


class Done(NamedTuple):
    """What a forward kernel has left."""

    outputs: Tensor  # [L, T, B, H + R·W]
    tapes: list[Tensor]  # gates and states of the cells
    hidden: list[tuple[Tensor, ...]]  # of each cell its last state
    states: list[list[Any]]  # of the memories
    of_memories: list[Tensor]  # what backward needs of them


def launched(
    segment: Segment, parts: Parts, recording: bool, packed: Packed, opened: Any = None
) -> Done:
    """Run the forward kernel."""
    layout, cells, kind = Layout(segment, parts, recording), segment.cells, segment.memory.kind
    steps, examples, hidden = layout.steps, layout.examples, cells.hidden
    outputs = layout.tape(max(cells.layers, 1), steps, examples, hidden + layout.reads)
    layout.tell(plan.OUTPUTS, outputs)
    tapes: list[Tensor] = []
    made: list[tuple[Tensor, ...]] = []
    if cells.layers:
        assert parts.reads is not None
        shape = (segment.cell_count, steps, examples, layout.gates.size)
        tapes = [layout.tape(*shape), *_state_tapes(layout)]
        made = _tell_states(layout, parts)
        for place, tape in zip(
            (plan.GATE_TAPE, plan.HIDDEN_TAPE, plan.CELL_TAPE), tapes, strict=False
        ):
            layout.tell(place, tape)
        layout.tell(plan.INPUTS, parts.inputs.contiguous())
        layout.tell(plan.FIRST_READS, parts.reads.contiguous())
        layout.tell(plan.MASKS, parts.masks)
        layout.tell_weights(parts, False, packed)
        if cells.normed:
            normed = _norm_tapes(layout, recording)
            tapes += normed if recording else []
    else:
        layout.tell(plan.INPUTS, parts.inputs.contiguous())
    states, of_memories = _host(segment).tell_forward(layout, parts.states, opened)
    entry, told = FORWARD[layout.itemsize], layout.told(kind.forward[layout.itemsize].address)
    if kind.sparse and sparse_states.asks_index(opened):
        for told[plan.HALF], told[plan.TIME], told[plan.LAYER] in sparse_states.halves(
            layout, opened, of_memories[::2]
        ):
            run_kernel(entry, told, layout.chunks)
    else:
        run_kernel(entry, told, layout.chunks)
    _host(segment).finish(layout, states, False)
    return Done(outputs, tapes, made, states, of_memories)


def collected(segment: Segment, done: Done) -> Result:
    """The result of a forward kernel."""
    cells, outputs = segment.cells, done.outputs
    # Without a controller the caller gets the rows themselves, and may change them in place.
    rows = outputs.select(0, -1)
    if not cells.layers:
        return Result(rows.clone(), None, done.hidden, done.states)
    reads = rows.select(0, -1).narrow(1, cells.hidden, rows.shape[2] - cells.hidden)
    return Result(rows, reads.clone(), done.hidden, done.states)


def _state_tapes(layout: Layout) -> list[Tensor]:
    """The tapes of the cells' states, of which the first is that given."""
    shape = (layout.segment.cell_count, layout.steps + 1, layout.examples, layout.gates.width)
    return [layout.tape(*shape) for _ in range(layout.segment.per_state)]


def _norm_tapes(layout: Layout, recording: bool) -> list[Tensor]:
    """What layer norm keeps: vectors of mean 0 and variance 1, and their scales."""
    shape = [layout.examples]
    if recording:
        shape = [layout.segment.cells.layers, layout.steps, layout.examples]
    tapes = [layout.tape(*shape, layout.vector_width), layout.tape(*shape)]
    layout.tell(plan.NORMED, tapes[0])
    layout.tell(plan.SCALES, tapes[1])
    return tapes


def _tell_states(layout: Layout, parts: Parts) -> list[tuple[Tensor, ...]]:
    """Tell of the cells' states that are given, and of those that are made, which come back."""
    shape, made = (layout.examples, layout.segment.cells.hidden), []
    for cell, states in enumerate(parts.hidden):
        at = layout.cell_at(cell)
        own = tuple(layout.new(*shape) for _ in states)
        for which, (before, after) in enumerate(zip(states, own, strict=True)):
            layout.tell(at + plan.CELL_GIVEN + which, before.contiguous())
            layout.tell(at + plan.CELL_MADE + which, after)
        made.append(own)
    return made


class _Run(torch.autograd.Function):
    """Forward and backward of a segment."""

    @staticmethod
    def forward(
        ctx: Any,
        segment: Segment,
        plain: Plain | None,
        packed: Packed,
        done: Done | None,
        *flat: Tensor | None,
    ) -> Any:
        if done is None:
            done = launched(segment, segment.split(flat), True, packed)
        result = collected(segment, done)
        tapes = [done.outputs, *done.tapes]
        ctx.segment, ctx.plain, ctx.packed = segment, plain, packed
        ctx.counts = len(flat), len(tapes)
        ctx.save_for_backward(*segment.kept(flat), *tapes, *done.of_memories)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(
            *(state[at] for state in result.states for at in segment.memory.kind.without_gradient)
        )
        return segment.flatten_result(result)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        segment, saved, needed = ctx.segment, ctx.saved_tensors, ctx.needs_input_grad[4:]
        given, tapes = ctx.counts
        flat = saved[:given]
        if ctx.plain is None:
            _check_first_order(gradients)
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
        return None, None, None, None, *found


def _check_first_order(gradients: Sequence[Tensor | None]) -> None:
    if torch.is_grad_enabled():
        raise MemcoreError(
            "create_graph: expected False where gradients flow through a RowMemory, got True; "
            "it has no second derivative (memcore.erase_and_add and memcore.read have)"
        )
    if not all(map(_has_numbers, gradients)):
        raise MemcoreError(
            "is_grads_batched: expected False where gradients flow through a RowMemory, got True; "
            "a backward pass takes one gradient at a time"
        )


def _has_numbers(gradient: Tensor | None) -> bool:
    """Whether kernels can read it, or it is None: not what a transform or a subclass wraps."""
    return gradient is None or (type(gradient) is Tensor and torch._C._has_storage(gradient))


def _by_the_plain_form(
    plain: Any,
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
    d_inputs, d_normed = layout.new(steps, examples, layout.inputs), None
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
        if cells.normed:
            layout.tell(plan.NORMED, tapes[-2])
            layout.tell(plan.SCALES, tapes[-1])
            d_normed = torch.empty_like(d_vectors)
            layout.tell(plan.D_NORMED, d_normed)
        if slope.reads is not None:
            d_reads.copy_(slope.reads)
        layout.tell(plan.D_READS, d_reads)
        layout.tell_weights(parts, True, packed)
    d_states = _host(segment).tell_backward(layout, parts.states, slope.states, of_memories)
    told = layout.told(kind.backward[layout.itemsize].address)
    run_kernel(BACKWARD[layout.itemsize], told, layout.chunks)
    _host(segment).finish(layout, d_states, True)
    found = Parts(
        inputs=d_inputs if cells.layers else d_vectors[0, :, :, : segment.memory.interface],
        reads=d_reads if cells.layers else None,
        masks=None,
        hidden=[
            tuple(own[cell, :, :hidden] if cells.recurrent else None for own in d_hidden)
            for cell in range(count)
        ],
        states=d_states,
        cells=[],
        interfaces=[],
    )
    if cells.layers:
        found = weight_gradients(layout, parts, found, tapes[0], tapes[2], d_gates, d_vectors)
    if d_normed is not None:
        found = with_norms(layout, found, tapes[-2], d_normed)
    return found
