"""The gradients that are products over all steps and examples: of weights and biases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from memcore.kernels.layout import Layout
from memcore.kernels.parts import Parts

__all__ = ["weight_gradients", "with_norms"]


def weight_gradients(
    layout: Layout,
    parts: Parts,
    found: Parts,
    outputs: Tensor,
    hidden_tape: Tensor,
    d_gates: Tensor,
    d_vectors: Tensor,
) -> Parts:
    """``found`` with the gradients of the cells and the interfaces.

    Args:
        layout: the call's sizes.
        parts: what the segment took.
        found: the other gradients.
        outputs: ``[L, T, B, H + R·W]``, the layers' rows.
        hidden_tape: ``[C, T + 1, B, WIDTH]``, the cells' states.
        d_gates: ``[C, T, B, G]``, gradients of the gates' sums.
        d_vectors: ``[L, T, B, INTERFACE_WIDTH]``, gradients of the interface vectors.
    """
    cells, total = layout.segment.cells, layout.steps * layout.examples
    d_cells = [
        _cell(layout, parts, cell, outputs, hidden_tape, d_gates[cell].view(total, -1))
        for cell in range(layout.segment.cell_count)
    ]
    d_interfaces = []
    for layer in range(cells.layers):
        own = d_vectors[layer].view(total, -1)[:, : layout.segment.memory.interface]
        rows = outputs[layer].view(total, -1)[:, : cells.hidden]
        d_interfaces.append((own.t() @ rows, own.sum(0)))
    return found._replace(cells=d_cells, interfaces=d_interfaces)


def _cell(
    layout: Layout, parts: Parts, cell: int, outputs: Tensor, hidden_tape: Tensor, slope: Tensor
) -> tuple[Any, ...]:
    """Of one cell, from the gradients of its gates' sums ``[T·B, G]``."""
    cells, hidden, total = layout.segment.cells, layout.segment.cells.hidden, len(slope)
    layer, depth = divmod(cell, cells.depth)
    if depth:
        inputs = [hidden_tape[cell - 1, 1:, :, :hidden]]
        if parts.masks is not None:
            inputs = [inputs[0] * parts.masks[layer, :, depth - 1]]
    elif layer:
        inputs = [outputs[layer - 1]]
    else:
        assert parts.reads is not None
        reads_before = torch.cat([parts.reads[None], outputs[-1, :-1, :, hidden:]])
        inputs = [parts.inputs, reads_before]
    before = hidden_tape[cell, :-1, :, :hidden]
    # The biases' gradients are those of the weights of an input that is always 1.
    always = slope.new_ones(()).expand(layout.steps, layout.examples, 1)
    factors = torch.cat([*inputs, before[:, :, : layout.segment.own], always], dim=2)
    factors = factors.view(total, -1)
    by_input, by_state = layout.gates.by_input(slope), layout.gates.by_state(slope)
    width = factors.shape[1] - layout.segment.own - 1
    first = by_input.t() @ factors
    second = first if by_state is None else by_state.t() @ factors
    found = (first[:, :width], second[:, width:-1], first[:, -1], second[:, -1])
    return tuple(
        None if given is None else own for given, own in zip(parts.cells[cell], found, strict=True)
    )


def with_norms(layout: Layout, found: Parts, normed: Tensor, d_normed: Tensor) -> Parts:
    """``found`` with the gradients of layer norm's gain and shift.

    Args:
        layout: the call's sizes.
        found: the other gradients.
        normed: ``[L, T, B, INTERFACE_WIDTH]``, vectors of mean 0 and variance 1.
        d_normed: the same, gradients of what was made of these.
    """
    length = layout.segment.memory.interface
    slopes = d_normed[..., :length]
    shift, gain = slopes.sum((1, 2)), (slopes * normed[..., :length]).sum((1, 2))
    norms = zip(found.interfaces, gain, shift, strict=True)
    return found._replace(interfaces=[(*own, *norm) for own, *norm in norms])
