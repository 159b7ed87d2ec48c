"""Checks of write and read weightings, dense and sparse, ours or a user's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memcore.testing.checks.calls import Call, Operation, check_laws
from memcore.testing.checks.common import heads_apart, nonnegative, permuting
from memcore.testing.checks.printing import numbers
from memcore.testing.checks.search import Options, Unpack

__all__ = ["check_read_weighting", "check_sparse_write_weighting", "check_write_weighting"]

WRITE = Operation(
    "write_weighting",
    {
        "content": "simplex N",
        "allocation": "weightings N",
        "allocation_gate": "gates",
        "write_gate": "gates",
    },
    ("N",),
)
READ = Operation(
    "read_weighting",
    {
        "backward": "weightings R N",
        "content": "simplex R N",
        "forward": "weightings R N",
        "read_modes": "simplex R 3",
    },
    ("R N",),
)
SPARSE_WRITE = Operation(
    "sparse_write_weighting",
    {"read_weights": "weightings R K", "write_gate": "gates", "interpolation_gate": "gates"},
    ("R*K+1",),
)


def check_write_weighting(function: Callable[..., Tensor], **options: Unpack[Options]) -> None:
    """Raise unless a function of one example keeps the invariants of `memcore.write_weighting`.

    Non-negative, sums to at most the write gate and is proportional to it; with an open allocation
    gate it is the allocation, with a closed one the content weighting, times the write gate;
    permuting the slots permutes it.

    Args:
        function: ``(content [N], allocation [N], allocation_gate [], write_gate []) → [N]``.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    laws = {
        "non-negative": nonnegative,
        "a closed write gate writes nothing": _closed,
        "sums to at most the write gate": _at_most_the_gate,
        "an open allocation gate takes the allocation weighting": _only_allocation,
        "a closed allocation gate takes the content weighting": _only_content,
        "proportional to the write gate": _proportional,
        "permuting the slots permutes the weights": permuting("N"),
    }
    check_laws(WRITE, function, laws, options)


def check_read_weighting(function: Callable[..., Tensor], **options: Unpack[Options]) -> None:
    """Raise unless a function of one example keeps the invariants of `memcore.read_weighting`.

    Each head's weights non-negative, with the sum that the modes take of each way, at most 1; a
    mode alone gives its own weighting, in the order backward, content, forward; heads are
    independent; permuting the slots permutes the weights.

    Args:
        function: ``(backward [R, N], content [R, N], forward [R, N], read_modes [R, 3]) →
            [R, N]``.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    laws = {
        "non-negative": nonnegative,
        "each head's weights sum to at most 1": _at_most_one,
        "backward mode alone gives the backward weighting": _alone(0),
        "content mode alone gives the content weighting": _alone(1),
        "forward mode alone gives the forward weighting": _alone(2),
        "sums to what the modes take of each": _mixed,
        "each head is on its own": heads_apart,
        "permuting the slots permutes the weights": permuting("N"),
    }
    check_laws(READ, function, laws, options)


def check_sparse_write_weighting(
    function: Callable[..., Tensor], **options: Unpack[Options]
) -> None:
    """Raise unless a function keeps the invariants of `memcore.sparse_write_weighting`.

    For one example: non-negative, sums to at most the write gate; a closed interpolation gate
    writes to the least recently accessed slot alone, an open one to the slots read, with the mean
    over the heads; permuting the slots of the heads permutes it.

    Args:
        function: ``(read_weights [R, K], write_gate [], interpolation_gate []) → [R·K + 1]``.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    laws = {
        "non-negative": nonnegative,
        "a closed write gate writes nothing": _sparse_closed,
        "sums to at most the write gate": _sparse_at_most_the_gate,
        "a closed interpolation gate writes to the least recently accessed slot": _only_least,
        "an open interpolation gate writes what was read, the mean over the heads": _only_read,
        "proportional to the write gate": _sparse_proportional,
        "the interpolation gate shares between the slots read and the other": _shared,
    }
    check_laws(SPARSE_WRITE, function, laws, options)


def _at_most_the_gate(
    call: Call, content: Tensor, allocation: Tensor, allocation_gate: Tensor, write_gate: Tensor
) -> None:
    weights = call(content, allocation, allocation_gate, write_gate)
    call.at_most(write_gate, weights.sum())


def _closed(call: Call, *arguments: Tensor) -> None:
    weights = call(*arguments[:3], torch.zeros_like(arguments[3]))
    if weights.any():
        call.fail(numbers(torch.zeros_like(weights)), numbers(weights))


def _only_allocation(
    call: Call, content: Tensor, allocation: Tensor, allocation_gate: Tensor, write_gate: Tensor
) -> None:
    weights = call(content, allocation, torch.ones_like(allocation_gate), write_gate)
    call.same(write_gate * allocation, weights)


def _only_content(
    call: Call, content: Tensor, allocation: Tensor, allocation_gate: Tensor, write_gate: Tensor
) -> None:
    weights = call(content, allocation, torch.zeros_like(allocation_gate), write_gate)
    call.same(write_gate * content, weights)


def _proportional(call: Call, *arguments: Tensor) -> None:
    whole = call(*arguments[:3], torch.ones_like(arguments[3]))
    call.same(arguments[3] * whole, call(*arguments))


def _at_most_one(call: Call, *arguments: Tensor) -> None:
    call.at_most(1, call(*arguments).sum(-1))


def _alone(mode: int) -> Callable[..., None]:
    def law(call: Call, *arguments: Tensor) -> None:
        *ways, modes = arguments
        one = torch.zeros_like(modes)
        one[:, mode] = 1
        call.same(ways[mode], call(*ways, one))

    return law


def _mixed(call: Call, *arguments: Tensor) -> None:
    *ways, modes = arguments
    sums = (modes * torch.stack([way.sum(-1) for way in ways], -1)).sum(-1)
    call.same(sums, call(*arguments).sum(-1))


def _sparse_closed(
    call: Call, read_weights: Tensor, write_gate: Tensor, interpolation_gate: Tensor
) -> None:
    weights = call(read_weights, torch.zeros_like(write_gate), interpolation_gate)
    if weights.any():
        call.fail(numbers(torch.zeros_like(weights)), numbers(weights))


def _sparse_at_most_the_gate(
    call: Call, read_weights: Tensor, write_gate: Tensor, interpolation_gate: Tensor
) -> None:
    call.at_most(write_gate, call(read_weights, write_gate, interpolation_gate).sum())


def _only_least(
    call: Call, read_weights: Tensor, write_gate: Tensor, interpolation_gate: Tensor
) -> None:
    weights = call(read_weights, write_gate, torch.zeros_like(interpolation_gate))
    expected = torch.zeros_like(weights)
    expected[-1] = write_gate
    call.same(expected, weights)


def _only_read(
    call: Call, read_weights: Tensor, write_gate: Tensor, interpolation_gate: Tensor
) -> None:
    weights = call(read_weights, write_gate, torch.ones_like(interpolation_gate))
    expected = write_gate * read_weights.flatten() / len(read_weights)
    call.same(torch.cat([expected, torch.zeros_like(expected[:1])]), weights)


def _sparse_proportional(
    call: Call, read_weights: Tensor, write_gate: Tensor, interpolation_gate: Tensor
) -> None:
    whole = call(read_weights, torch.ones_like(write_gate), interpolation_gate)
    call.same(write_gate * whole, call(read_weights, write_gate, interpolation_gate))


def _shared(
    call: Call, read_weights: Tensor, write_gate: Tensor, interpolation_gate: Tensor
) -> None:
    closed = call(read_weights, write_gate, torch.zeros_like(interpolation_gate))
    opened = call(read_weights, write_gate, torch.ones_like(interpolation_gate))
    between = closed + interpolation_gate * (opened - closed)
    call.same(between, call(read_weights, write_gate, interpolation_gate))
