"""How the states of the dense memories come into a segment and out of it, field by field."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from memcore.kernels import plan
from memcore.kernels.layout import Layout

__all__ = ["finish", "tell_backward", "tell_forward"]

KEEP_ALL_LINKS = 1 << 22  # bytes of links up to which those of every step are kept
LINK_STRIDE = 4  # every which is kept else
CONTIGUOUS = torch.contiguous_format


def _stride(layout: Layout) -> int:
    """Of how many steps' links one is kept."""
    links = layout.memory_steps * layout.examples * layout.itemsize * prod(_square(layout))
    return 1 if links <= KEEP_ALL_LINKS else LINK_STRIDE


def _square(layout: Layout) -> tuple[int, ...]:
    """The shape of an example's links, [P, P] or of several write heads [H, P, P]."""
    square, writes = (layout.padded, layout.padded), layout.sizes.writes
    return (writes, *square) if writes > 1 else square


def tell_forward(
    layout: Layout, given: Sequence[Sequence[Any]], _: Any
) -> tuple[list[list[Any]], list[Tensor]]:
    """Tell of the states given and of those to be made: these, and what backward needs."""
    states, own = _new_states(layout, given), layout.segment.memory.kind.links
    stride = _stride(layout)
    layout.put(plan.STRIDE, stride)
    kept: list[Tensor] = []
    for memory, state in enumerate(given):
        at = layout.memory_at(memory)
        kept += layout.memory_tapes(memory)
        if own is not None:
            square = _square(layout)
            links, last = _squared(layout, state[own]), layout.new(layout.examples, *square)
            layout.tell(at + plan.LINKS_IN, links)
            layout.tell(at + plan.LINKS, last)
            states[memory][own] = last
            if layout.recording:
                count = (layout.memory_steps - 1) // stride
                marks = layout.tape(layout.examples, count, *square)
                layout.tell(at + plan.LINK_MARKS, marks)
                kept += [links, marks]
    _tell_states(layout, plan.STATE_IN, given)
    _tell_states(layout, plan.STATE_OUT, states)
    return states, kept


def tell_backward(
    layout: Layout,
    given: Sequence[Sequence[Any]],
    slopes: Sequence[Sequence[Any]],
    kept: Sequence[Tensor],
) -> list[list[Any]]:
    """Tell of the gradients of the states made and of those given, which are returned."""
    own = layout.segment.memory.kind.links
    layout.put(plan.STRIDE, _stride(layout))
    d_states = _new_states(layout, given)
    each = len(kept) // len(given)
    for memory, slope in enumerate(slopes):
        at, parts = layout.memory_at(memory), kept[memory * each : (memory + 1) * each]
        layout.tell(at + plan.TAPE, parts[0])
        layout.tell(at + plan.ORDERS, parts[1])
        if own is not None:
            layout.tell(at + plan.LINKS_IN, parts[2])
            layout.tell(at + plan.LINK_MARKS, parts[3])
            # The kernel changes it in place, and somebody else may hold the given one.
            d_links = layout.zeros(layout.examples, *_square(layout))
            slots = layout.segment.memory.slots
            if slope[own] is not None:
                d_links[..., :slots, :slots] = slope[own]
            layout.tell(at + plan.D_LINKS, d_links)
            d_states[memory][own] = d_links
    _tell_states(layout, plan.D_STATE_IN, slopes)
    _tell_states(layout, plan.D_STATE_OUT, d_states)
    return d_states


def finish(layout: Layout, states: list[list[Any]], backward: bool) -> None:
    """Bring what the kernel has left into the shapes of a state."""
    kind, slots = layout.segment.memory.kind, layout.segment.memory.slots
    for state in states:
        if kind.links is not None and slots != layout.padded:
            state[kind.links] = state[kind.links][..., :slots, :slots].contiguous()
        for at in kind.without_gradient if backward else ():
            state[at] = None


def _tell_states(layout: Layout, place: int, states: Sequence[Sequence[Tensor | None]]) -> None:
    """Tell of the fields of each memory's state but the links."""
    for memory, fields in enumerate(states):
        at = layout.memory_at(memory) + place
        for field, tensor in zip(layout.segment.memory.kind.fields, fields, strict=True):
            if field is not None and tensor is not None:
                layout.tell(at + field, tensor.contiguous())


def _new_states(layout: Layout, like: Sequence[Sequence[Tensor]]) -> list[list[Any]]:
    """States of the same shapes, to be filled; links are made elsewhere."""
    fields = layout.segment.memory.kind.fields
    return [
        [
            None if place is None else torch.empty_like(field, memory_format=CONTIGUOUS)
            for place, field in zip(fields, state, strict=True)
        ]
        for state in like
    ]


def _squared(layout: Layout, links: Tensor) -> Tensor:
    """Links ``[B, N, N]`` or ``[B, H, N, N]`` as kernels have them, with P for N."""
    rest = layout.padded - links.shape[-1]
    return torch.nn.functional.pad(links, (0, rest, 0, rest)) if rest else links.contiguous()
