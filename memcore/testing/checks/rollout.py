"""A check of what links and precedence owe each other, over time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from memcore import linkage
from memcore.testing.checks.calls import Call
from memcore.testing.checks.linkage import DIRECTIONAL, LINK, PRECEDENCE
from memcore.testing.checks.printing import name_of, tensor
from memcore.testing.checks.search import Broken, Law, Options, Text, Unpack, refute, settings_of

__all__ = ["check_linkage"]


class Writes(NamedTuple):
    """One example: what is written at each step, and where heads read at last."""

    write_weights: list[Tensor]  # of [N]
    read_weights: Tensor  # [R, N]


class Step(NamedTuple):
    """The links after some steps, and the Python that leads there."""

    links: Tensor  # [N, N]
    precedence: Tensor  # [N]
    script: Text


def check_linkage(
    link: Callable[..., Tensor],
    precedence: Callable[..., Tensor],
    directional_weightings: Callable[..., tuple[Tensor, Tensor]] | None = None,
    **options: Unpack[Options],
) -> None:
    """Raise unless functions of one example keep the invariants of the links together, over time.

    From no links, along drawn write weightings: links in [0, 1] with a diagonal of zeros, row sums
    at most 1, each column with its slot's precedence at most 1, the precedence and the directional
    weightings on the sub-simplex. What each owes alone, gradients and vmap too, is looked at by
    `check_link`, `check_precedence` and `check_directional_weightings`.

    Args:
        link: ``(previous [N, N], write_weights [N], previous_precedence [N]) → [N, N]``.
        precedence: ``(previous [N], write_weights [N]) → [N]``.
        directional_weightings: ``(link [N, N], read_weights [R, N]) → (forward [R, N], backward
            [R, N])``; None: ours.
        options: see `memcore.testing.checks.Options`; ``gradients`` and ``vmap`` have no effect.

    Raises:
        AssertionError: they do not; the message has the smallest counterexample.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.

    >>> import memcore
    >>> check_linkage(memcore.link, memcore.precedence, examples=10)
    """
    __tracebackhide__ = True
    from memcore.testing.checks.cases import writes

    settings = settings_of(options)
    directions = directional_weightings or linkage.directional_weightings
    for name, function in (("link", link), ("precedence", precedence), ("", directions)):
        if not callable(function):
            what = name or "directional_weightings"
            raise TypeError(f"{what}: expected a callable, got {type(function).__name__}")
    rolled = _Rollout(
        Call(LINK, link, settings),
        Call(PRECEDENCE, precedence, settings),
        Call(DIRECTIONAL, directions, settings),
    )
    cases = partial(writes, settings.dtypes)
    error = refute("linkage", rolled.laws(), cases, settings.examples)
    if error is not None:
        raise error


class _Rollout:
    def __init__(self, link: Call, precedence: Call, directions: Call) -> None:
        self.link, self.precedence, self.directions = link, precedence, directions

    def laws(self) -> dict[str, Law]:
        """By name, of a case of `Writes`."""
        return {
            "precedence non-negative, sums to at most 1": self._over_steps(self._precedence),
            "links non-negative": self._over_steps(lambda at: self.link.at_least(0, at.links)),
            "the diagonal of the links is 0": self._over_steps(
                lambda at: self.link.at_most(0, at.links.diagonal())
            ),
            "row sums of the links at most 1": self._over_steps(
                lambda at: self.link.at_most(1, at.links.sum(1))
            ),
            "column sums of the links with the precedence at most 1": self._over_steps(
                lambda at: self.link.at_most(1, at.links.sum(0) + at.precedence)
            ),
            "directional weightings non-negative": self._at_the_end(
                lambda weights: self.directions.at_least(0, weights)
            ),
            "directional weightings sum to at most 1": self._at_the_end(
                lambda weights: self.directions.at_most(1, weights.sum(-1))
            ),
        }

    def _precedence(self, at: Step) -> None:
        self.precedence.at_least(0, at.precedence)
        self.precedence.at_most(1, at.precedence.sum())

    def _over_steps(self, law: Callable[[Step], None]) -> Law:
        def of_case(case: Writes) -> None:
            for at in self._steps(case):
                self._ask(lambda at=at: law(at), at.script)

        return of_case

    def _at_the_end(self, law: Callable[[Tensor], None]) -> Law:
        def of_case(case: Writes) -> None:
            *_, at = self._steps(case)
            name = name_of(self.directions.function)
            script = Text(lambda: f"{at.script}\n{name}(links, {tensor(case.read_weights)})")
            for weights in self.directions(at.links, case.read_weights):
                self._ask(lambda weights=weights: law(weights), script)

        return of_case

    def _steps(self, case: Writes) -> list[Step]:
        links = case.write_weights[0].new_zeros(2 * case.write_weights[0].shape)
        last = torch.zeros_like(case.write_weights[0])
        steps = []
        for number, weights in enumerate(case.write_weights, 1):
            links, last = self.link(links, weights, last), self.precedence(last, weights)
            steps.append(Step(links, last, Text(partial(self._script, case, number))))
        return steps

    def _script(self, case: Writes, steps: int) -> str:
        like = case.write_weights[0]
        size, dtype = len(like), f", dtype={like.dtype}"
        lines = [f"links, last = torch.zeros({size}, {size}{dtype}), torch.zeros({size}{dtype})"]
        link, last = name_of(self.link.function), name_of(self.precedence.function)
        for weights in case.write_weights[:steps]:
            lines.append(f"written = {tensor(weights)}")
            lines.append(f"links, last = {link}(links, written, last), {last}(last, written)")
        return "\n".join(lines)

    def _ask(self, law: Callable[[], None], script: Text) -> None:
        try:
            law()
        except Broken as broken:
            broken.counterexample = script
            raise
