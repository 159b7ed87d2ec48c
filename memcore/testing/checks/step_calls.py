"""A step function under test, its rollouts, and what each step must give back at least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memcore.dnc import DNCInterface
from memcore.testing.checks.calls import LONG
from memcore.testing.checks.printing import name_of, named, named_tuple, numbers
from memcore.testing.checks.search import (
    DTYPE,
    FINITE,
    RAISES,
    SHAPE,
    TYPE,
    UNCHANGED,
    Broken,
    Settings,
)

__all__ = ["STATE", "Machine", "Rollout", "Script", "Step", "said"]

# The axes of each field.
STATE = {
    "memory": "N W",
    "usage": "N",
    "precedence": "N",
    "link": "N N",
    "read_weights": "R N",
    "write_weights": "N",
}


class Rollout(NamedTuple):
    """A case: the sizes of a memory, and what it is told step by step."""

    dtype: torch.dtype
    sizes: dict[str, int]  # of the axes N, W and R
    interfaces: list[DNCInterface]


class Script:
    """Lines of Python, written out only when they are asked for; interfaces stand for steps."""

    def __init__(self, name: str, *parts: str | DNCInterface) -> None:
        self._name, self._parts = name, parts

    def then(self, part: str | DNCInterface) -> Script:
        """One more line, or step."""
        return Script(self._name, *self._parts, part)

    def __str__(self) -> str:
        return "\n".join(
            part
            if isinstance(part, str)
            else f"reads, state = {self._name}(state, {named_tuple(part)})"
            for part in self._parts
        )


class Step(NamedTuple):
    """One step of a rollout."""

    before: Any  # state
    interface: DNCInterface
    reads: Tensor  # [R, W]
    after: Any  # state
    leads: Script  # the Python that leads to the state before
    script: Script  # and through the step


class Machine:
    """The functions under test; every result is held against what all must meet."""

    def __init__(
        self, step: Callable[..., Any], init_state: Callable[..., Any], settings: Settings
    ) -> None:
        self.function, self.init_state, self.settings = step, init_state, settings
        self._rolled: tuple[Rollout | None, list[Step]] = None, []
        self._states: tuple[Rollout | None, Broken | None] = None, None

    def roll(self, case: Rollout) -> list[Step]:
        """All steps, found once for a case."""
        if self._rolled[0] is not case:
            self._rolled = case, self._roll(case)
        return self._rolled[1]

    def states(self, case: Rollout, laws: Mapping[str, Callable[..., None]]) -> Broken | None:
        """The first law that breaks in time, found once for a case; what follows follows."""
        steps = self.roll(case)
        if self._states[0] is not case:
            self._states = case, self._first_broken(steps, laws)
        return self._states[1]

    def _first_broken(
        self, steps: list[Step], laws: Mapping[str, Callable[..., None]]
    ) -> Broken | None:
        for at in steps:
            for name, law in laws.items():
                try:
                    law(self, at)
                except Broken as broken:
                    broken.law = name
                    return broken
        return None

    def first(self, case: Rollout) -> tuple[Any, Script]:
        """The state before the first step, and its script."""
        names = {"slots": "N", "word_size": "W", "read_heads": "R"}
        arguments = {name: case.sizes[axis] for name, axis in names.items()}
        call = named(name_of(self.init_state), arguments)
        script = Script(name_of(self.function), f"state = {call[:-1]}, dtype={case.dtype})")
        try:
            state = self.init_state(**arguments, dtype=case.dtype)
        except Exception as error:
            raise Broken("a state", said(error), script, RAISES) from error
        self._check_state(state, case.sizes, case.dtype, script)
        return state, script

    def _roll(self, case: Rollout) -> list[Step]:
        state, script = self.first(case)
        steps = []
        for interface in case.interfaces:
            leads, script = script, script.then(interface)
            reads, after = self(state, interface, script)
            steps.append(Step(state, interface, reads, after, leads, script))
            state = after
        return steps

    def __call__(self, state: Any, interface: DNCInterface, script: Script) -> tuple[Tensor, Any]:
        """One step of one example, on copies."""
        handed = _copy(state), _copy(interface)
        try:
            result = self.function(*handed)
        except Exception as error:
            raise Broken("a result", said(error), script, RAISES) from error
        if not isinstance(result, tuple) or len(result) != 2:
            raise Broken("(read_vectors, state)", f"a {type(result).__name__}", script, TYPE)
        sizes = dict(zip("NWR", (*state.memory.shape, len(state.read_weights)), strict=True))
        reads, after = result
        _check_tensor("read_vectors", reads, (sizes["R"], sizes["W"]), state.memory.dtype, script)
        self._check_state(after, sizes, state.memory.dtype, script)
        for name, copies, originals in (
            ("state", handed[0], state),
            ("interface", handed[1], interface),
        ):
            for field, copy, original in zip(originals._fields, copies, originals, strict=True):
                if not isinstance(copy, Tensor) or not isinstance(original, Tensor):
                    continue
                if not torch.equal(copy, original):
                    raise Broken(
                        f"{name}.{field} {numbers(original)} afterwards",
                        numbers(copy),
                        script,
                        UNCHANGED,
                    )
        return reads, after

    def _check_state(
        self, state: Any, sizes: dict[str, int], dtype: torch.dtype, script: Script
    ) -> None:
        missing = [field for field in STATE if field not in getattr(state, "_fields", ())]
        if missing:
            raise Broken(
                "a named tuple with the fields of DNCState",
                f"a {type(state).__name__} without {', '.join(missing)}",
                script,
                TYPE,
            )
        for field, axes in STATE.items():
            shape = tuple(sizes[axis] for axis in axes.split())
            _check_tensor(f"state.{field}", getattr(state, field), shape, dtype, script)

    def close(
        self, expected: Tensor, got: Tensor, script: Script, what: str, scale: float = 1
    ) -> None:
        """Expect numbers, up to ``scale`` times the rounding."""
        slack = scale * self.settings.slack(got.dtype)
        if not ((got - expected).abs() <= slack * (1 + expected.abs())).all():
            raise Broken(f"{what} {numbers(expected)}", numbers(got), script)

    def within(self, low: float, high: float | Tensor, got: Tensor, script: Script) -> None:
        """Expect numbers between two bounds, up to rounding."""
        slack = self.settings.slack(got.dtype)
        if not ((got >= low - slack) & (got <= high + slack)).all():
            shown = numbers(high) if isinstance(high, Tensor) else str(high)
            raise Broken(f"from {low} to {shown}", numbers(got), script)


def _copy(value: Any) -> Any:
    parts = (part.clone() if isinstance(part, Tensor) else part for part in value)
    return type(value)(*parts)


def said(error: Exception) -> str:
    """What an error says, in a line."""
    return f"{type(error).__name__}: {shorten(str(error), LONG, placeholder=' …')}"


def _check_tensor(
    name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype, script: Script
) -> None:
    if not isinstance(value, Tensor):
        raise Broken(f"{name} as a tensor", f"a {type(value).__name__}", script, TYPE)
    if value.shape != shape:
        raise Broken(f"{name} {list(shape)}", str(list(value.shape)), script, SHAPE)
    if value.dtype != dtype:
        raise Broken(f"{name} {dtype}", str(value.dtype), script, DTYPE)
    if not value.isfinite().all():
        raise Broken(f"finite numbers in {name}", numbers(value), script, FINITE)
