"""Checks of retention, usage and allocation, ours or a user's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memcore.testing.checks.calls import Call, Operation, check_laws
from memcore.testing.checks.common import nonnegative, permuting
from memcore.testing.checks.search import Options, Unpack

__all__ = ["check_allocation_weighting", "check_retention", "check_usage"]

APART = 1e-4  # usages that no rounding brings into another order

RETENTION = Operation(
    "retention", {"free_gates": "gates R", "read_weights": "weightings R N"}, ("N",)
)
USAGE = Operation(
    "usage",
    {"previous": "usages N", "write_weights": "weightings N", "retention": "gates N"},
    ("N",),
)
ALLOCATION = Operation("allocation_weighting", {"usage": "usages N"}, ("N",))


def check_retention(function: Callable[..., Tensor], **options: Unpack[Options]) -> None:
    """Raise unless a function of one example keeps the invariants of `memcore.retention`.

    In [0, 1], and not below 0 where rounding took a weight above 1; closed gates keep all, what is
    not read is kept, an open gate frees what is read wholly; a wider gate keeps no more; neither
    the order of slots nor that of heads matters.

    Args:
        function: ``(free_gates [R], read_weights [R, N]) → [N]``.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    laws = {
        "not negative, also where rounding took a weight above 1": _not_negative,
        "at most 1": _at_most_one,
        "closed free gates keep everything": _closed_gates_keep,
        "a slot that no head reads is kept": _unread_is_kept,
        "an open free gate frees the slot that its head reads": _open_gate_frees,
        "a wider free gate keeps no more": _wider_keeps_no_more,
        "the order of the heads does not matter": permuting("R"),
        "permuting the slots permutes the result": permuting("N"),
    }
    check_laws(RETENTION, function, laws, options)


def check_usage(function: Callable[..., Tensor], **options: Unpack[Options]) -> None:
    """Raise unless a function of one example keeps the invariants of `memcore.usage`.

    In [0, 1]; nothing written and all retained leaves it; a whole write makes a slot used, no
    retention makes it free; writing never lowers it; permuting the slots permutes it.

    Args:
        function: ``(previous [N], write_weights [N], retention [N]) → [N]``.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    laws = {
        "in [0, 1]": _in_range,
        "unchanged where nothing is written and all is retained": _unchanged,
        "a slot that is not retained is free": _freed,
        "a slot that is written wholly is in use": _written,
        "writing does not lower it": _not_lowered,
        "permuting the slots permutes the result": permuting("N"),
    }
    check_laws(USAGE, function, laws, options)


def check_allocation_weighting(
    function: Callable[..., Tensor], *, stable: bool = True, **options: Unpack[Options]
) -> None:
    """Raise unless a function of one example keeps those of `memcore.allocation_weighting`.

    Non-negative with sum ``1 − ∏ usage``; nothing where all slots are full; permuting slots of
    distinct usages permutes the weights; the less used come first, so that the slots used at most
    as much as any one get ``1 − ∏`` of their usages together.

    Args:
        function: ``(usage [N]) → [N]``, usages in [0, 1].
        stable: whether of equal usages the lowest slot must come first, a convention.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.

    >>> import memcore
    >>> check_allocation_weighting(memcore.allocation_weighting, examples=10)
    >>> check_allocation_weighting(lambda usage: 1 - usage, examples=10)
    Traceback (most recent call last):
    AssertionError: allocation_weighting: sums to 1 − ∏ usage: expected 1.0, got 2.0
    smallest counterexample: function(usage=torch.tensor([0.0, 0.0], dtype=torch.float64))
    """
    __tracebackhide__ = True
    laws = {
        "non-negative": nonnegative,
        "nothing where all slots are full": _nothing_where_full,
        "sums to 1 − ∏ usage": _sums_to_what_is_free,
        "permuting the slots permutes the weights": permuting("N", _apart),
        "the less used come first": _less_used_first,
    }
    if stable:
        laws["of equal usages the lowest slot comes first"] = _lowest_of_equal
    check_laws(ALLOCATION, function, laws, options)


def _not_negative(call: Call, free_gates: Tensor, read_weights: Tensor) -> None:
    kept = call(free_gates, read_weights)
    if not (kept >= 0).all():
        call.fail("at least 0.0", str(float(kept.min())))


def _at_most_one(call: Call, *arguments: Tensor) -> None:
    call.at_most(1, call(*arguments))


def _in_range(call: Call, *arguments: Tensor) -> None:
    result = call(*arguments)
    call.at_least(0, result)
    call.at_most(1, result)


def _closed_gates_keep(call: Call, free_gates: Tensor, read_weights: Tensor) -> None:
    kept = call(torch.zeros_like(free_gates), read_weights)
    call.same(torch.ones_like(kept), kept)


def _unread_is_kept(call: Call, free_gates: Tensor, read_weights: Tensor) -> None:
    unread = read_weights.clone()
    unread[:, 0] = 0
    call.same(torch.ones_like(free_gates[0]), call(free_gates, unread)[0], " for slot 0")


def _open_gate_frees(call: Call, free_gates: Tensor, read_weights: Tensor) -> None:
    gates, weights = free_gates.clone(), read_weights.clone()
    gates[-1], weights[-1] = 1, 0
    weights[-1, 0] = 1
    call.same(torch.zeros_like(gates[0]), call(gates, weights)[0], " for slot 0")


def _wider_keeps_no_more(call: Call, free_gates: Tensor, read_weights: Tensor) -> None:
    kept = call(free_gates, read_weights)
    wider = call((1 + free_gates) / 2, read_weights)
    call.at_most(kept, wider, "after narrower gates, ")


def _unchanged(call: Call, previous: Tensor, write_weights: Tensor, retention: Tensor) -> None:
    none, all_ = torch.zeros_like(write_weights), torch.ones_like(retention)
    call.same(previous, call(previous, none, all_))


def _freed(call: Call, previous: Tensor, write_weights: Tensor, retention: Tensor) -> None:
    freed = call(previous, write_weights, torch.zeros_like(retention))
    call.same(torch.zeros_like(freed), freed)


def _written(call: Call, previous: Tensor, write_weights: Tensor, retention: Tensor) -> None:
    whole, kept = torch.zeros_like(write_weights), retention.clone()
    whole[0] = kept[0] = 1
    call.same(torch.ones_like(whole[0]), call(previous, whole, kept)[0], " for slot 0")


def _not_lowered(call: Call, previous: Tensor, write_weights: Tensor, retention: Tensor) -> None:
    without = call(previous, torch.zeros_like(write_weights), retention)
    call.at_least(without, call(previous, write_weights, retention))


def _nothing_where_full(call: Call, usage: Tensor) -> None:
    weights = call(torch.ones_like(usage))
    call.same(torch.zeros_like(weights), weights)


def _sums_to_what_is_free(call: Call, usage: Tensor) -> None:
    call.same(1 - usage.prod(), call(usage).sum())


def _apart(usage: Tensor) -> bool:
    return bool((usage.sort().values.diff() > APART).all())


def _less_used_first(call: Call, usage: Tensor) -> None:
    weights, ascending = call(usage), usage.sort().values
    for count in range(1, len(usage)):
        if ascending[count] - ascending[count - 1] > APART:
            among = usage <= ascending[count - 1]
            where = f" for the slots {among.nonzero().flatten().tolist()}"
            call.same(1 - usage[among].prod(), weights[among].sum(), where)


def _lowest_of_equal(call: Call, usage: Tensor) -> None:
    weights = call(usage)
    for slot, own in enumerate(usage):
        for later in range(slot + 1, len(usage)):
            if own == usage[later]:
                # Each later one gets what those before it leave.
                call.same(weights[slot] * own, weights[later], f" for slot {later}")
                break
