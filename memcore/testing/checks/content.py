"""Checks of content weightings, dense and sparse, ours or a user's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memcore.testing.checks.calls import Call, Laws, Operation, check_laws
from memcore.testing.checks.common import heads_apart, nonnegative, permuting
from memcore.testing.checks.search import Options, Unpack

__all__ = ["check_content_weighting", "check_sparse_content_weighting"]

LEAST_NORM = 0.1  # of rows whose angle no small ε in the norm turns


def check_content_weighting(
    function: Callable[..., Tensor], *, cosine: bool = True, **options: Unpack[Options]
) -> None:
    """Raise unless a function of one example keeps the invariants of `memcore.content_weighting`.

    Each head's weights on the simplex, independent of other heads, uniform for a memory of zeros,
    equal for equal rows; permuting rows permutes them; a greater strength makes the best row weigh
    more.

    Args:
        function: ``(memory [N, W], keys [R, W], strengths [R]) → [R, N]``; rows and keys are
            unbounded, strengths at least 1.
        cosine: whether the similarity must be the cosine, so that scaling a row or a key changes
            nothing and a row that points where the key does weighs most.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.

    >>> import memcore
    >>> check_content_weighting(memcore.content_weighting, examples=10)
    """
    __tracebackhide__ = True
    operation = _operation("content_weighting", "memory", "N W", "R N", cosine)
    check_laws(operation, function, _laws("N", cosine), options)


def check_sparse_content_weighting(
    function: Callable[..., Tensor], *, cosine: bool = True, **options: Unpack[Options]
) -> None:
    """Raise unless a function keeps the invariants of `memcore.sparse_content_weighting`.

    Those that `check_content_weighting` names, over the K rows of each head; for one example.

    Args:
        function: ``(rows [R, K, W], keys [R, W], strengths [R]) → [R, K]``.
        cosine: as for `check_content_weighting`.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    operation = _operation("sparse_content_weighting", "rows", "R K W", "R K", cosine)
    check_laws(operation, function, _laws("K", cosine), options)


def _operation(name: str, rows: str, axes: str, weights: str, cosine: bool) -> Operation:
    # Without the cosine huge rows would multiply rounding.
    kind = "values" if cosine else "moderate"
    inputs = {rows: f"{kind} {axes}", "keys": f"{kind} R W", "strengths": "strengths R"}
    return Operation(name, inputs, (weights,))


def _laws(rows: str, cosine: bool) -> Laws:
    always = {
        "non-negative": nonnegative,
        "each head's weights sum to 1": _sums_to_one,
        "uniform for a memory of zeros": _uniform,
        "equal rows get equal weights": _ties,
        "each head is on its own": heads_apart,
        "permuting the rows permutes the weights": permuting(rows),
        "a greater strength makes the best row weigh more": _sharper,
    }
    if not cosine:
        return always
    return {
        **always,
        "a row that points where the key does weighs most": _parallel,
        "scaling keys and rows changes nothing": _scaled,
    }


# What memory is to the dense form, rows are to the sparse one: in both the axis of the slots is
# the one before the last.
def _sums_to_one(call: Call, *arguments: Tensor) -> None:
    sums = call(*arguments).sum(-1)
    call.same(torch.ones_like(sums), sums)


def _uniform(call: Call, memory: Tensor, keys: Tensor, strengths: Tensor) -> None:
    weights = call(torch.zeros_like(memory), keys, strengths)
    call.same(torch.full_like(weights, 1 / weights.shape[-1]), weights)


def _ties(call: Call, memory: Tensor, keys: Tensor, strengths: Tensor) -> None:
    tied = memory.clone()
    tied[..., -1, :] = tied[..., 0, :]
    weights = call(tied, keys, strengths)
    call.same(weights[:, 0], weights[:, -1], ", as for the first row, for the last")


def _sharper(call: Call, memory: Tensor, keys: Tensor, strengths: Tensor) -> None:
    # From the least strength on, where softmaxes are far from saturated.
    weights = call(memory, keys, torch.ones_like(strengths))
    most, best = weights.max(-1)
    sharper = call(memory, keys, torch.full_like(strengths, 2)).gather(-1, best[:, None])[:, 0]
    # Where others, clearly worse, have something left to lose.
    rest = torch.where(weights < 0.9 * most[:, None], weights, 0).sum(-1)
    stuck = (rest > 0.05) & (sharper <= most)
    for head in stuck.nonzero().flatten().tolist():
        call.fail(
            f"more than {float(most[head]):.4g} for the best row of head {head}",
            f"{float(sharper[head]):.4g}",
        )


def _parallel(call: Call, memory: Tensor, keys: Tensor, strengths: Tensor) -> None:
    some, key = _clear(memory), _clear(keys)
    some[..., 0, :] = key if memory.dim() == 3 else key[0]
    first = call(some, key, strengths)[0]
    call.at_least(_nearly(first.max(), strengths), first[0], "for the first row ")


def _scaled(call: Call, memory: Tensor, keys: Tensor, strengths: Tensor) -> None:
    some, key = _clear(memory), _clear(keys)
    weights = call(some, key, strengths)
    got = call(2 * some, 4 * key, strengths)
    slack = weights - _nearly(weights, strengths)
    if not ((got - weights).abs() <= slack + call.settings.slack(got.dtype)).all():
        call.same(weights, got, ", as before scaling")


def _clear(vectors: Tensor) -> Tensor:
    """Vectors of which ε is a small part, the others replaced by some that are."""
    short = vectors.norm(dim=-1, keepdim=True) < LEAST_NORM
    first = torch.zeros_like(vectors)
    first[..., 0] = 1
    return torch.where(short, first, vectors)


def _nearly(weights: Tensor, strengths: Tensor) -> Tensor:
    """Somewhat less: what ε = 1e-6 in norms of at least 0.1 may cost, multiplied by strengths."""
    return weights - 1e-3 * (1 + strengths.max()) * weights
