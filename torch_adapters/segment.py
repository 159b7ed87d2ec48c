"""From a module and what it carries to one segment of `memcore.kernels`, and back.

A segment is a stretch of time steps of one batch in which nobody begins anew: its whole recurrence,
controller included, is one differentiable operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import dropout, layer_norm, linear

from memcore.numerics import bounded
from memcore.options import told_to_kernels
from torch_adapters.carried import Carried
from torch_adapters.cells import cell_equations
from torch_adapters.sparse_cell import SparseCell

if TYPE_CHECKING:
    from memcore.kernels.layout import Packed
    from memcore.kernels.parts import Parts, Result, Segment
    from torch_adapters.recurrence import MemoryRNN

__all__ = ["Weights", "is_sparse", "run_segment"]


class Weights:
    """A module's weights for one call, read as attributes: a parametrization computes them."""

    def __init__(self, module: MemoryRNN) -> None:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        if module.rnn_type == "linear":
            names = ("weight", "", "bias", "")
        self.cells: list[tuple[Tensor | None, ...]] = []
        for controller in module.controllers:
            cells: Any = controller.cells
            self.cells += [
                tuple(getattr(cell, name) if name else None for name in names) for cell in cells
            ]
        self.interfaces: list[tuple[Tensor, ...]] = []
        for interface in module.interfaces:
            maps: Any = interface.parts
            parts = [(part.weight, part.bias) for part in maps.values()]
            if len(parts) > 1:
                weights, biases = zip(*parts, strict=True)
                parts = [(torch.cat(weights), torch.cat(biases))]
            norm: Any = interface.norm
            self.interfaces += [(*own, norm.weight, norm.bias) if norm else own for own in parts]
        self.packed: Packed = {}  # the segments of a call pack them once

    def tensors(self) -> list[Tensor]:
        """All of them."""
        groups = (*self.cells, *self.interfaces)
        return [tensor for own in groups for tensor in own if tensor is not None]


def is_sparse(cell: object) -> bool:
    """Whether a memory's state is made of values that are edited in place."""
    return isinstance(cell, SparseCell)


def run_segment(
    module: MemoryRNN, inputs: Tensor, carried: Carried, weights: Weights
) -> tuple[Tensor, Carried]:
    """Run over ``inputs`` ``[T, B, X]``.

    Returns:
        The last layer's rows ``[h_t ; r_t]``, ``[T, B, H + R·W]``, and what is carried on.
    """
    from memcore.kernels import sparse_segment
    from memcore.kernels.parts import Parts
    from memcore.kernels.segment import run

    sparse = is_sparse(module.cell)

    parts = Parts(
        inputs=inputs,
        reads=carried.reads,
        masks=_dropout_masks(module, inputs),
        hidden=[state for layer in carried.hidden for state in layer],
        states=[] if sparse else carried.memories,
        cells=weights.cells,
        interfaces=weights.interfaces,
    )
    nonlinearity = _nonlinearity(module)
    segment, depth = _segment_of(module, nonlinearity), module.num_hidden_layers
    if sparse:
        result, memories = sparse_segment.run(segment, parts, carried.memories, weights.packed)
    else:
        result = run(segment, parts, _Plain(module.cell, nonlinearity), weights.packed)
        kinds = [type(state) for state in carried.memories]
        memories = [kind(*state) for kind, state in zip(kinds, result.states, strict=True)]
    hidden: list[Any] = [
        list(result.hidden[begin : begin + depth])
        for begin in range(0, module.num_layers * depth, depth)
    ]
    assert result.reads is not None
    return result.rows, Carried(hidden, memories, result.reads)


def _nonlinearity(module: MemoryRNN) -> str:
    first: Any = module.controllers[0].cells[0]  # pyright: ignore
    return first.nonlinearity if module.rnn_type in ("rnn", "linear") else ""


def _segment_of(module: MemoryRNN, nonlinearity: str) -> Segment:
    from memcore.kernels import controllers, kinds
    from memcore.kernels.parts import Cells, Memory, Segment

    cells = {
        ("lstm", ""): controllers.LSTM,
        ("gru", ""): controllers.GRU,
        ("rnn", "tanh"): controllers.RNN_TANH,
        ("rnn", "relu"): controllers.RNN_RELU,
        ("linear", "tanh"): controllers.RNN_TANH,
        ("linear", "relu"): controllers.RNN_RELU,
    }
    cell: Any = module.cell
    kind = getattr(kinds, cell.kernel)
    sizes = (cell.nr_cells, cell.cell_size, cell.read_heads, sum(cell.interface_sizes.values()))
    reads = (cell.sparse_reads, cell.kept_links) if is_sparse(cell) else (0, 0)
    return Segment(
        Memory(kind, *sizes, *reads, **told_to_kernels(cell.options)),
        Cells(
            cells[module.rnn_type, nonlinearity],
            module.num_layers,
            module.num_hidden_layers,
            module.hidden_size,
            module.clip,
            module.shared_memory,
            module.rnn_type != "linear",
            module.interfaces[0].norm is not None,
        ),
    )


def _dropout_masks(module: MemoryRNN, inputs: Tensor) -> Tensor | None:
    """What the cells' outputs are multiplied by, drawn in the order of the loop of steps."""
    depth = module.num_hidden_layers
    controllers: Any = module.controllers
    rates = [own.dropout if own.training else 0.0 for own in controllers]
    if depth == 1 or not any(rates):
        return None
    steps, examples = inputs.shape[:2]
    shape = (module.num_layers, steps, depth - 1, examples, module.hidden_size)
    masks = inputs.new_ones(shape)
    for step in range(steps):
        for layer, rate in enumerate(rates):
            for below in range(depth - 1):
                if rate:
                    masks[layer, step, below] = dropout(masks[layer, step, below], rate, True)
    return masks


class _Plain:
    """The same segment in torch's operations from the same tensors, for second derivatives."""

    def __init__(self, cell: Any, nonlinearity: str) -> None:
        self.cell = cell
        self.nonlinearity = nonlinearity

    def __call__(self, segment: Segment, parts: Parts) -> Result:
        from memcore.kernels.parts import Result

        sizes, depth = segment.cells, segment.cells.depth
        hidden, reads = list(parts.hidden), parts.reads
        assert reads is not None
        states = [self.cell.state_type(*state) for state in parts.states]
        rows = []
        for step, input in enumerate(parts.inputs.unbind(0)):
            output = torch.cat([input, reads], dim=1)
            for layer in range(sizes.layers):
                for below in range(depth):
                    which = layer * depth + below
                    if below and parts.masks is not None:
                        output = output * parts.masks[layer, step, below - 1]
                    hidden[which] = cell_equations(
                        self.nonlinearity, output, hidden[which], parts.cells[which]
                    )
                    output = hidden[which][0]
                if sizes.clip > 0:
                    output = bounded(output, sizes.clip)
                weight, bias, *norm = parts.interfaces[layer]
                vectors = linear(output, weight, bias)
                if norm:
                    vectors = layer_norm(vectors, vectors.shape[1:], *norm)
                which = 0 if sizes.shared else layer
                reads, states[which] = self.cell.step(states[which], vectors, "reference")
                output = torch.cat([output, reads], dim=1)
            rows.append(output)
        return Result(torch.stack(rows), reads, hidden, [tuple(state) for state in states])
