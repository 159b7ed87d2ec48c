"""Each piece of a step, forward and backward, against memcore's operation and torch's autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

import numba

import memcore
from memcore.kernels import controllers
from memcore.kernels.allocation import (
    allocation_backward,
    allocation_weighting,
    ascending,
    usage,
    usage_backward,
)
from memcore.kernels.content import content_backward, content_weighting, inverse_norms
from memcore.kernels.controllers import cell_backward, cell_forward
from memcore.kernels.links import links_backward, links_forward
from memcore.kernels.products import multiply
from memcore.kernels.sizes import padded_to, registers

slots = pytest.mark.parametrize("slots", [1, 2, 5, 8, 13, 32])
heads = pytest.mark.parametrize("heads", [1, 2, 3, 5])
UNIT = registers(8)
W = 3

# Kernels are called from kernels only.
_usage = numba.njit(lambda *arguments: usage(*arguments))
_usage_backward = numba.njit(lambda *arguments: usage_backward(*arguments))
_ascending = numba.njit(lambda *arguments: ascending(*arguments))
_allocation = numba.njit(lambda *arguments: allocation_weighting(*arguments))
_allocation_backward = numba.njit(lambda *arguments: allocation_backward(*arguments))
_inverse_norms = numba.njit(lambda *arguments: inverse_norms(*arguments))
_content = numba.njit(lambda *arguments: content_weighting(*arguments))
_content_backward = numba.njit(lambda *arguments: content_backward(*arguments))
_links = numba.njit(lambda *arguments: links_forward(*arguments))
_links_backward = numba.njit(lambda *arguments: links_backward(*arguments))
_cell = numba.njit(lambda *arguments: cell_forward(*arguments))
_cell_backward = numba.njit(lambda *arguments: cell_backward(*arguments))
_multiply = numba.njit(lambda *arguments: multiply(*arguments))


class Draw:
    """Random arguments in their ranges."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.generator = torch.Generator().manual_seed(slots)

    def real(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def gate(self, *shape: int) -> Tensor:
        return self.real(*shape).sigmoid()

    def weights(self, *shape: int) -> Tensor:
        rows = self.real(*shape, self.slots).softmax(-1)
        return rows * self.gate(*shape, 1) if shape else rows * self.gate()

    def links(self) -> Tensor:
        off_diagonal = 1 - torch.eye(self.slots, dtype=torch.float64)
        return self.gate(self.slots, self.slots) * off_diagonal / self.slots


def padded(values: Tensor, fill: float = 0.0) -> np.ndarray:
    """Rows of slots as kernels have them: each rounded up, flat."""
    width = padded_to(UNIT, values.shape[-1])
    rest = width - values.shape[-1]
    return torch.nn.functional.pad(values.detach(), (0, rest), value=fill).flatten().numpy().copy()


def squared(links: Tensor) -> np.ndarray:
    width = padded_to(UNIT, links.shape[0])
    rest = width - links.shape[0]
    return torch.nn.functional.pad(links.detach(), (0, rest, 0, rest)).flatten().numpy().copy()


def rows(flat: np.ndarray, count: int, slots: int) -> Tensor:
    """Undo `padded`; what is beyond the last slot must be 0."""
    whole = torch.from_numpy(flat).view(count, -1)
    assert not whole[:, slots:].any()
    return whole[:, :slots]


def close(found: Any, expected: Any) -> None:
    expected = torch.as_tensor(expected).detach()
    found = torch.as_tensor(found).view(expected.shape)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def slopes(output: Tensor, cotangent: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(output, inputs, cotangent, allow_unused=True)
    pairs = zip(found, inputs, strict=True)
    return [torch.zeros_like(x) if value is None else value for value, x in pairs]


@slots
@heads
def test_usage(slots: int, heads: int) -> None:
    draw, wide = Draw(slots), padded_to(UNIT, slots)
    arguments = draw.gate(slots), draw.weights(), draw.weights(heads), draw.gate(heads)
    # A weight that rounding took above 1, with an open gate, is clamped.
    arguments[2][0, 0], arguments[3][0] = 1.5, 1.0
    before, written, read, gates = leaves(*arguments)
    kept = memcore.retention.unchecked(gates, read)
    expected = memcore.usage(before, written, kept)
    # The gates stand somewhere in the interface.
    interface = np.concatenate([np.full(4, np.nan), gates.detach().numpy(), np.full(4, np.nan)])
    target, flat = np.full(wide, np.nan), [padded(x) for x in (before, written, read)]
    _usage(*flat, interface, 4, target, heads, wide, 1)
    close(rows(target, 1, slots)[0], expected)
    cotangent = draw.real(slots)
    d_before, d_written, d_read, d_gates = slopes(
        expected, cotangent, (before, written, read, gates)
    )
    d_usage, found_written = padded(cotangent), np.full(wide, np.nan)
    found_read, d_interface = np.ones(heads * wide), np.ones(len(interface))
    _usage_backward(
        *flat, interface, 4, d_usage, target, found_written, found_read, d_interface, heads, wide,
        1, False,
    )  # fmt: skip
    close(rows(d_usage, 1, slots)[0], d_before)
    close(rows(found_written, 1, slots)[0], d_written)
    close(found_read.reshape(heads, wide)[:, :slots] - 1, d_read)
    close(d_interface[4 : 4 + heads] - 1, d_gates)
    assert (np.delete(d_interface, range(4, 4 + heads)) == 1).all()


@slots
@pytest.mark.parametrize("kind", ["any", "free", "full", "tied"])
def test_allocation(slots: int, kind: str) -> None:
    draw, wide = Draw(slots), padded_to(UNIT, slots)
    value = draw.gate(slots)
    if kind == "free":
        value[: slots // 2 + 1] = 0
    elif kind == "full":
        value[:] = 1
    elif kind == "tied":
        value = (3 * value).round() / 3
    (used,) = leaves(value)
    expected = memcore.allocation_weighting(used)
    flat, order, found = padded(used), np.arange(wide, dtype=np.int32), np.full(wide, np.nan)
    _ascending(flat, order, slots)
    assert order[:slots].tolist() == used.sort(stable=True).indices.tolist()
    _allocation(flat, order, found, slots, wide)
    # At a usage of 0 the reference is off by the square root of the smallest number.
    close(rows(found, 1, slots)[0], expected)
    cotangent = draw.real(slots)
    (d_used,) = slopes(expected, cotangent, [used])
    d_usage, products = np.ones(wide), np.full(wide, np.nan)
    _allocation_backward(flat, order, padded(cotangent), d_usage, products, slots)
    close(d_usage[:slots] - 1, d_used)
    assert (d_usage[slots:] == 1).all()


@slots
@heads
@pytest.mark.parametrize("empty", [False, True])
def test_content(slots: int, heads: int, empty: bool) -> None:
    draw, wide = Draw(slots), padded_to(UNIT, slots)
    memory, keys, strengths = leaves(
        draw.real(slots, W) * (not empty), draw.real(heads, W), 1 + draw.real(heads).square()
    )
    expected = memcore.content_weighting(memory, keys, strengths)
    flat, inverse = padded(memory.mT), np.full(wide, np.nan)
    _inverse_norms(flat, inverse, W, wide)
    close(inverse[:slots], 1 / memcore.safe_norm(memory).squeeze(-1))
    interface = np.concatenate(
        [[np.nan], keys.detach().flatten().numpy(), [np.nan], strengths.detach().numpy()]
    )
    at = (1, 2 + heads * W)
    cosines, weights = np.full(heads * wide, np.nan), np.full(heads * wide, np.nan)
    _content(flat, inverse, interface, *at, cosines, weights, heads, W, slots, wide)
    close(rows(weights, heads, slots), expected)
    close(rows(cosines, heads, slots), memcore.cosine_similarity(memory, keys))
    cotangent = draw.real(heads, slots)
    d_memory, d_keys, d_strengths = slopes(expected, cotangent, (memory, keys, strengths))
    gradient = np.concatenate([np.full(UNIT, np.nan), padded(cotangent)])
    shrink, d_interface = np.ones(wide), np.ones(len(interface))
    _content_backward(
        flat, inverse, interface, *at, cosines, weights, gradient, UNIT, shrink, d_interface,
        heads, W, wide,
    )  # fmt: skip
    close(d_interface[1 : 1 + heads * W] - 1, d_keys.flatten())
    close(d_interface[at[1] :] - 1, d_strengths)
    assert d_interface[0] == d_interface[1 + heads * W] == 1
    x, shrunk = rows(gradient[UNIT:], heads, slots), torch.from_numpy(shrink[:slots] - 1)
    close(keys.detach().mT @ x - memory.detach().mT * shrunk, d_memory.mT)


@slots
@heads
@pytest.mark.parametrize("in_place", [False, True])
def test_links(slots: int, heads: int, in_place: bool) -> None:
    draw, wide = Draw(slots), padded_to(UNIT, slots)
    before, written, precedence, read = leaves(
        draw.links(), draw.weights(), draw.weights(), draw.weights(heads)
    )
    links = memcore.link(before, written, precedence)
    forward, backward = memcore.directional_weightings(links, read)
    flat, vectors = squared(before), [padded(x) for x in (written, precedence, read)]
    after = flat.copy() if in_place else np.full(wide * wide, np.nan)
    ways = [np.full(heads * wide, np.nan) for _ in range(2)]
    _links(after if in_place else flat, after, *vectors, *ways, heads, wide)
    close(torch.from_numpy(after).view(wide, wide)[:slots, :slots], links)
    close(rows(ways[0], heads, slots), forward)
    close(rows(ways[1], heads, slots), backward)
    assert not torch.from_numpy(after).view(wide, wide)[slots:].any()
    assert not torch.from_numpy(after).view(wide, wide)[:, slots:].any()
    given = draw.real(slots, slots), draw.real(heads, slots), draw.real(heads, slots)
    expected = torch.autograd.grad(
        (links, forward, backward), (before, written, precedence, read), given
    )
    weights = vectors[2]
    pairs = np.concatenate([weights, padded(given[2])])
    directions = np.concatenate([padded(given[1]), weights])
    d_links, block = squared(given[0]), np.full(4 * wide, np.nan)
    found = [np.ones(wide), np.ones(wide), np.ones(heads * wide)]
    _links_backward(
        flat, vectors[0], vectors[1], pairs, directions, d_links, *found, block, heads, wide
    )
    close(torch.from_numpy(d_links).view(wide, wide)[:slots, :slots], expected[0])
    for own, value, count in zip(found, expected[1:], (1, 1, heads), strict=True):
        close(own.reshape(count, wide)[:, :slots] - 1, value.view(count, slots))


CELLS = {
    "lstm": (controllers.LSTM, 4),
    "gru": (controllers.GRU, 4),
    "tanh": (controllers.RNN_TANH, 1),
    "relu": (controllers.RNN_RELU, 1),
}


def cell(kind: str, sums: Tensor, hidden: Tensor, inner: Tensor) -> tuple[Tensor, ...]:
    """`torch.nn.LSTMCell`, ``GRUCell`` and ``RNNCell`` from the gates' sums."""
    if kind == "lstm":
        into, keep, fresh, out = sums
        new = keep.sigmoid() * inner + into.sigmoid() * fresh.tanh()
        return out.sigmoid() * new.tanh(), new
    if kind == "gru":
        reset, update, of_input, of_state = sums
        fresh = (of_input + reset.sigmoid() * of_state).tanh()
        return ((1 - update.sigmoid()) * fresh + update.sigmoid() * hidden,)
    return (getattr(sums[0], kind)(),)


@pytest.mark.parametrize("kind", list(CELLS))
@pytest.mark.parametrize("size", [1, 5, 8, 17])
@pytest.mark.parametrize("scale", [1, 30])
def test_cells(kind: str, size: int, scale: float) -> None:
    draw, (number, blocks) = Draw(size), CELLS[kind]
    sums, hidden, inner = leaves(
        scale * draw.real(blocks, size), draw.real(size).tanh(), draw.real(size)
    )
    after = cell(kind, sums, hidden, inner)
    gates, wide = padded(sums), padded_to(UNIT, size)
    states = [padded(hidden), padded(inner)]
    new = [np.full(wide, np.nan), np.full(wide, np.nan)]
    _cell(number, gates, *states, *new, wide)
    for found, expected in zip(new, after, strict=False):
        close(found[:size], expected)
    given = [draw.real(size) for _ in after]
    d_sums, d_hidden, d_inner = (
        torch.zeros_like(x) if value is None else value
        for value, x in zip(
            torch.autograd.grad(after, (sums, hidden, inner), given, allow_unused=True),
            (sums, hidden, inner),
            strict=True,
        )
    )
    slope, d_cell = padded(given[0]), padded(given[-1])
    d_gates, direct = np.full(blocks * wide, np.nan), np.full(wide, np.nan)
    _cell_backward(number, gates, *states, *new, slope, d_cell, d_gates, direct, wide)
    close(rows(d_gates, blocks, size), d_sums)
    close(direct[:size], d_hidden)
    if kind == "lstm":
        close(d_cell[:size], d_inner)
