"""Checks of temporal links, one function at a time, ours or a user's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memcore.linkage import precedence
from memcore.testing.checks.calls import Arguments, Call, Operation, check_laws
from memcore.testing.checks.common import heads_apart, nonnegative, permuting
from memcore.testing.checks.search import Options, Unpack

__all__ = ["check_directional_weightings", "check_link", "check_precedence"]


def _room(arguments: Arguments) -> Arguments:
    """A precedence that leaves the columns of the links, together with it, at most 1."""
    left = (1 - arguments["previous"].sum(0)).clamp(min=0)
    return {
        **arguments,
        "previous_precedence": torch.minimum(arguments["previous_precedence"], left),
    }


PRECEDENCE = Operation(
    "precedence", {"previous": "weightings N", "write_weights": "weightings N"}, ("N",)
)
LINK = Operation(
    "link",
    {
        "previous": "links N N",
        "write_weights": "weightings N",
        "previous_precedence": "weightings N",
    },
    ("N N",),
    _room,
)
DIRECTIONAL = Operation(
    "directional_weightings",
    {"link": "links N N", "read_weights": "weightings R N"},
    ("R N", "R N"),
)


def check_precedence(function: Callable[..., Tensor], **options: Unpack[Options]) -> None:
    """Raise unless a function of one example keeps the invariants of `memcore.precedence`.

    On the sub-simplex; no write leaves it unchanged, a whole write replaces it; a write takes as
    much from what was there as it is; permuting the slots permutes it.

    Args:
        function: ``(previous [N], write_weights [N]) → [N]``.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    laws = {
        "non-negative": nonnegative,
        "sums to at most 1": _sums_to_at_most_one,
        "unchanged where nothing is written": _unwritten,
        "a whole write replaces it": _replaced,
        "sums to what is left and what is written": _sums_to_both,
        "permuting the slots permutes the result": permuting("N"),
    }
    check_laws(PRECEDENCE, function, laws, options)


def check_link(function: Callable[..., Tensor], **options: Unpack[Options]) -> None:
    """Raise unless a function of one example keeps the invariants of `memcore.link`.

    In [0, 1] with a diagonal of zeros; row sums at most 1; each column, together with the
    precedence after the write, at most 1; no write leaves the links unchanged; a slot written is
    linked to the one before, ``link[i, j]`` from j to i; permuting the slots permutes both axes.

    Args:
        function: ``(previous [N, N], write_weights [N], previous_precedence [N]) → [N, N]``.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    laws = {
        "non-negative": nonnegative,
        "the diagonal is 0": _diagonal,
        "row sums at most 1": _rows,
        "column sums with the precedence at most 1": _columns,
        "unchanged where nothing is written": _unchanged,
        "a slot written is linked to the one written before": _linked,
        "permuting the slots permutes both axes": permuting("N"),
    }
    check_laws(LINK, function, laws, options)


def check_directional_weightings(
    function: Callable[..., tuple[Tensor, Tensor]], **options: Unpack[Options]
) -> None:
    """Raise unless a function of one example keeps those of `memcore.directional_weightings`.

    Forward and backward weights of each head on the sub-simplex; forward leads from each slot read
    to those written after it, backward to those before; heads are independent; permuting the slots
    permutes the weights.

    Args:
        function: ``(link [N, N], read_weights [R, N]) → (forward [R, N], backward [R, N])``.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    laws = {
        "non-negative": nonnegative,
        "each head's weights sum to at most 1": _heads_at_most_one,
        "each head is on its own": heads_apart,
        "permuting the slots permutes the weights": permuting("N"),
        "forward leads to the slots written after those read": _forward,
        "backward leads to the slots written before those read": _backward,
    }
    check_laws(DIRECTIONAL, function, laws, options)


def _sums_to_at_most_one(call: Call, *arguments: Tensor) -> None:
    call.at_most(1, call(*arguments).sum())


def _unwritten(call: Call, previous: Tensor, write_weights: Tensor) -> None:
    call.same(previous, call(previous, torch.zeros_like(write_weights)))


def _replaced(call: Call, previous: Tensor, write_weights: Tensor) -> None:
    whole = torch.zeros_like(write_weights)
    whole[0] = 1
    call.same(whole, call(previous, whole))


def _sums_to_both(call: Call, previous: Tensor, write_weights: Tensor) -> None:
    written = write_weights.sum()
    call.same((1 - written) * previous.sum() + written, call(previous, write_weights).sum())


def _diagonal(call: Call, *arguments: Tensor) -> None:
    diagonal = call(*arguments).diagonal()
    call.same(torch.zeros_like(diagonal), diagonal)


def _rows(call: Call, *arguments: Tensor) -> None:
    call.at_most(1, call(*arguments).sum(1), "row sums of ")


def _columns(
    call: Call, previous: Tensor, write_weights: Tensor, previous_precedence: Tensor
) -> None:
    links = call(previous, write_weights, previous_precedence)
    call.at_most(1, links.sum(0) + precedence.unchecked(previous_precedence, write_weights))


def _unchanged(
    call: Call, previous: Tensor, write_weights: Tensor, previous_precedence: Tensor
) -> None:
    none = torch.zeros_like(write_weights)
    call.same(previous, call(previous, none, previous_precedence))


def _linked(
    call: Call, previous: Tensor, write_weights: Tensor, previous_precedence: Tensor
) -> None:
    last, now = torch.zeros_like(write_weights), torch.zeros_like(write_weights)
    last[0] = now[-1] = 1
    expected = torch.zeros_like(previous)
    if len(now) > 1:
        expected[-1, 0] = 1
    call.same(expected, call(torch.zeros_like(previous), now, last))


def _heads_at_most_one(call: Call, *arguments: Tensor) -> None:
    for weights in call(*arguments):
        call.at_most(1, weights.sum(-1))


def _forward(call: Call, link: Tensor, read_weights: Tensor) -> None:
    call.same(read_weights @ link.mT, call(link, read_weights)[0], " forward")


def _backward(call: Call, link: Tensor, read_weights: Tensor) -> None:
    call.same(read_weights @ link, call(link, read_weights)[1], " backward")
