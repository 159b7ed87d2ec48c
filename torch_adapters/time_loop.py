"""The one time loop: it threads controller state, memory and reads through a sequence.

It knows no particular memory; see `torch_adapters.cell.Cell` for what it asks of one. The reference
goes step by step; for kernels a call is cut into segments, stretches of one batch in which nobody
begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from memcore.circumstances import is_transformed
from memcore.numerics import bounded
from torch_adapters.backend import has_kernels
from torch_adapters.carried import Carried
from torch_adapters.debug import Trace
from torch_adapters.segment import Weights, run_segment
from torch_adapters.sequence import Steps

if TYPE_CHECKING:
    from torch_adapters.recurrence import MemoryRNN

__all__ = ["autocast_is_on", "run_segments", "run_steps", "time_step"]

STEPS_WITHOUT_GRADIENT = 1024  # of a segment, at the most


def run_segments(
    module: MemoryRNN,
    steps: Steps,
    starts: list[Tensor | None],
    carried: Carried,
    weights: Weights,
) -> tuple[list[Tensor], Carried]:
    """By kernels, each segment at once.

    Returns:
        For each segment the rows of its steps, for the output layer, and what is carried on.
    """
    rows: list[Tensor] = []
    ended: list[Carried] = []
    begin = 0
    # A segment notes all its steps for backward: without that it takes the fewer at a time.
    most = len(starts) if torch.is_grad_enabled() else STEPS_WITHOUT_GRADIENT
    for count, size, start in _segments(steps.batch_sizes, starts, most):
        carried = _next(module, size, start, carried, ended)
        inputs = steps.rows[begin : begin + count * size].view(count, size, -1)
        own, carried = run_segment(module, inputs, carried, weights)
        rows.append(own.flatten(0, 1))
        begin += count * size
    weights.packed.pop(False, None)  # forward is done with them
    for before in reversed(ended):
        carried = carried.widen(module.cell, before)
    return rows, carried


def run_steps(
    module: MemoryRNN,
    steps: Steps,
    starts: list[Tensor | None],
    carried: Carried,
    pass_through_memory: bool,
    trace: Trace | None,
) -> tuple[list[Tensor], Carried]:
    """The reference: step by step, in torch's operations.

    Returns:
        The rows of each step, for the output layer, and what is carried on.
    """
    rows: list[Tensor] = []
    ended: list[Carried] = []
    traced = 0 if trace is None else steps.place_of(trace.example)
    sizes = steps.batch_sizes
    run, compiled = time_step, module.compiled_step
    # Compilers take no traces, are at work already, or fail under transforms.
    if compiled and trace is None and not (torch.compiler.is_compiling() or is_transformed()):
        run = compiled
    for input, size, start in zip(steps.rows.split(sizes), sizes, starts, strict=True):
        carried = _next(module, size, start, carried, ended)
        watch = trace if size > traced else None
        row, carried = run(module, input, carried, pass_through_memory, watch, traced)
        rows.append(row)
    for before in reversed(ended):
        carried = carried.widen(module.cell, before)
    return rows, carried


def _next(
    module: MemoryRNN, size: int, start: Tensor | None, carried: Carried, ended: list[Carried]
) -> Carried:
    """What the next step begins with: the examples that go on, those that begin anew."""
    if size < carried.reads.shape[0]:
        ended.append(carried)
        carried = carried.narrow(module.cell, size)
    return carried if start is None else carried.begin(module.cell, start, module.first_rows())


def time_step(
    module: MemoryRNN,
    input: Tensor,
    carried: Carried,
    pass_through_memory: bool,
    trace: Trace | None,
    traced: int,
) -> tuple[Tensor, Carried]:
    """One step of all layers in torch's operations."""
    all_hidden, memories, reads = list(carried.hidden), list(carried.memories), carried.reads
    output = torch.cat([input, reads.to(input.dtype)], dim=-1)
    for layer, controller in enumerate(module.controllers):
        hidden, all_hidden[layer] = controller(output, all_hidden[layer])
        if module.clip > 0:
            hidden = bounded(hidden, module.clip)
        which = 0 if module.shared_memory else layer
        if pass_through_memory:
            vectors = module.interfaces[layer](hidden)
            with _no_autocast(vectors.device.type):
                reads, memories[which] = module.cell.step(
                    memories[which], vectors.to(reads.dtype), *_without_kernels(module)
                )
        output = torch.cat([hidden, reads.to(hidden.dtype)], dim=-1)
        if trace is not None:
            trace.add(module.cell.trace(memories[which], traced))
    return output, Carried(all_hidden, memories, reads)


def _without_kernels(module: MemoryRNN) -> tuple[str, ...]:
    """What is added to a cell's step: it may be compiled also where the sequence cannot be."""
    plainly = module.backend == "reference" and has_kernels(module.cell)
    return ("reference",) if plainly else ()


def _segments(
    sizes: tuple[int, ...], starts: list[Tensor | None], most: int
) -> Iterator[tuple[int, int, Tensor | None]]:
    """How many steps, of how many examples, and which of these begin anew before the first."""
    begin = 0
    for step in range(1, len(sizes) + 1):
        full = step - begin == most
        if step == len(sizes) or full or sizes[step] != sizes[begin] or starts[step] is not None:
            yield step - begin, sizes[begin], starts[begin]
            begin = step


def _no_autocast(device_type: str) -> Any:
    if autocast_is_on(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def autocast_is_on(device_type: str) -> bool:
    """Whether autocast is active for a device of this type."""
    available = torch.amp.is_autocast_available(device_type)
    return available and torch.is_autocast_enabled(device_type)
