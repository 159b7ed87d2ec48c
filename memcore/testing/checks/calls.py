"""A call of the function under test: what it must give back at least, and how that is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from textwrap import shorten
from typing import Any, NamedTuple

import torch
from torch import Tensor

from memcore.testing.checks import printing
from memcore.testing.checks.printing import numbers
from memcore.testing.checks.search import (
    DTYPE,
    FINITE,
    RAISES,
    SHAPE,
    TYPE,
    UNCHANGED,
    Broken,
    Law,
    Options,
    Settings,
    Text,
    refute,
    settings_of,
)

__all__ = ["Arguments", "Call", "Laws", "Operation", "check_laws", "parse"]

LONG = 120  # characters of a message; the whole is in the error that is chained
Arguments = dict[str, Tensor]
# By name; each takes a call and the arguments in order, and asks the call for what it expects.
Laws = Mapping[str, Callable[..., None]]


class Operation(NamedTuple):
    """What a function takes and gives, for one example."""

    name: str
    inputs: dict[str, str]  # name: kind of number, then the axes
    outputs: tuple[str, ...]  # the axes of each tensor
    repair: Callable[[Arguments], Arguments] | None = None  # what the arguments owe each other

    def repaired(self, arguments: Arguments) -> Arguments:
        """Arguments that fit each other."""
        return arguments if self.repair is None else self.repair(arguments)


def parse(text: str) -> tuple[str, list[str]]:
    """``"values R W"`` as the kind and the axes."""
    kind, *axes = text.split()
    return kind, axes


class Call:
    """The function under test, called with copies; results are held against what all must meet."""

    def __init__(self, operation: Operation, function: Callable[..., Any], settings: Settings):
        # Ours would say what is wrong with the arguments, and another function made these.
        function = getattr(function, "unchecked", function)
        self.operation, self.function, self.settings = operation, function, settings
        self.last: tuple[tuple[Tensor, ...], str] = (), "{}"  # arguments, and what is around it
        self.axes = [parse(text)[1] for text in operation.inputs.values()]
        self._known_shapes: dict[tuple[torch.Size, ...], list[tuple[int, ...]]] = {}

    def __call__(self, *arguments: Tensor) -> Any:
        """What the function gives for one example, if it is tensors as they should be."""
        self.last = arguments, "{}"
        handed = [argument.clone() for argument in arguments]
        result = self._run(self.function, handed)
        for shape, tensor in zip(self._shapes(arguments), self.tensors(result), strict=True):
            if tensor.shape != shape:
                self.fail(str(list(shape)), str(list(tensor.shape)), SHAPE)
            if tensor.dtype != arguments[0].dtype:
                self.fail(str(arguments[0].dtype), str(tensor.dtype), DTYPE)
            if not tensor.isfinite().all():
                self.fail("finite numbers", numbers(tensor), FINITE)
        for name, copy, argument in zip(self.operation.inputs, handed, arguments, strict=True):
            if not torch.equal(copy, argument):
                self.fail(f"{name} {numbers(argument)} afterwards", numbers(copy), UNCHANGED)
        return result

    def batch(self, *arguments: Tensor) -> list[Tensor]:
        """What the vmapped function gives for arguments with the batch in front."""
        self.last = arguments, "torch.func.vmap({})"
        try:
            result = self._run(torch.func.vmap(self.function), [own.clone() for own in arguments])
        except Broken as broken:
            broken.law = None  # alone it raised nothing
            raise
        return self.tensors(result)

    def differentiable(self, *arguments: Tensor) -> list[Tensor]:
        """The same for arguments that require a gradient, themselves."""
        self.last = arguments, "{}"
        return self.tensors(self._run(self.function, list(arguments)))

    def sizes(self, arguments: tuple[Tensor, ...]) -> dict[str, int]:
        """How long each axis is."""
        sizes = {}
        for axes, argument in zip(self.axes, arguments, strict=True):
            sizes.update(zip(axes, argument.shape, strict=True))
        sizes["R*K+1"] = sizes.get("R", 0) * sizes.get("K", 0) + 1
        return sizes

    def _shapes(self, arguments: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
        """What each tensor of the result must be shaped like."""
        key = tuple(argument.shape for argument in arguments)
        if key not in self._known_shapes:
            sizes = self.sizes(arguments)
            self._known_shapes[key] = [
                tuple(sizes[axis] for axis in axes.split()) for axes in self.operation.outputs
            ]
        return self._known_shapes[key]

    def tensors(self, result: Any) -> list[Tensor]:
        """The result as a list; a function of one tensor gives that, others a tuple of them."""
        count = len(self.operation.outputs)
        results = (result,) if count == 1 else result
        expected = "a tensor" if count == 1 else f"a tuple of {count} tensors"
        right = isinstance(results, tuple) and len(results) == count
        if not right or not all(isinstance(one, Tensor) for one in results):
            self.fail(expected, _kind(result), TYPE)
        return list(results)

    def _run(self, function: Callable[..., Any], arguments: list[Tensor]) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            got = f"{type(error).__name__}: {shorten(str(error), LONG, placeholder=' …')}"
            raise Broken("a result", got, self.counterexample, RAISES) from error

    def scale(self) -> float:
        """By how much the strengths of the last call multiply rounding."""
        pairs = zip(self.operation.inputs.values(), self.last[0], strict=True)
        largest = (float(own.max()) for text, own in pairs if parse(text)[0] == "strengths")
        return 1 + max(largest, default=0)

    def fail(self, expected: str, got: str, law: str | None = None) -> None:
        """Say that the law does not hold, with the last call as the counterexample."""
        raise Broken(expected, got, self.counterexample, law)

    @property
    def counterexample(self) -> Text:
        """The last call as Python."""
        return Text(partial(printing.call, self.function, *self.last))

    def same(self, expected: Tensor, got: Tensor, why: str = "") -> None:
        """Expect numbers, up to rounding."""
        share = (got - expected).abs() / (1 + expected.abs())
        slack = self.settings.slack(got.dtype)
        if not (share <= slack).all() and not (share <= slack * self.scale()).all():
            self.fail(f"{numbers(expected)}{why}", numbers(got))

    def at_most(self, bound: Tensor | float, got: Tensor, what: str = "") -> None:
        """Expect no number above its bound."""
        if not (got <= bound + self.settings.slack(got.dtype)).all():
            shown = numbers(bound) if isinstance(bound, Tensor) else str(bound)
            self.fail(f"{what}at most {shown}", numbers(got))

    def at_least(self, bound: Tensor | float, got: Tensor, what: str = "") -> None:
        """Expect no number below its bound."""
        if not (got >= bound - self.settings.slack(got.dtype)).all():
            shown = numbers(bound) if isinstance(bound, Tensor) else str(bound)
            self.fail(f"{what}at least {shown}", numbers(got))


def _kind(result: Any) -> str:
    if isinstance(result, tuple):
        return f"({', '.join(type(one).__name__ for one in result)})"
    return type(result).__name__


def check_laws(
    operation: Operation, function: Callable[..., Any], laws: Laws, options: Options
) -> None:
    """Hold a function against its own laws and those that all obey.

    Raises:
        AssertionError: one does not hold.
        ImportError: hypothesis is missing.
    """
    __tracebackhide__ = True
    from memcore.testing.checks.cases import arguments
    from memcore.testing.checks.common import again, finite_gradients, vmap_is_a_loop

    settings = settings_of(options)
    if not callable(function):
        raise TypeError(f"function: expected a callable, got {type(function).__name__}")
    alone: dict[str, Callable[..., None]] = {"the same call gives the same result": again, **laws}
    if settings.gradients:
        alone["gradients are finite"] = finite_gradients
    call = Call(operation, function, settings)
    groups: list[tuple[int, dict[str, Law]]] = [(1, _asked(call, alone))]
    if settings.vmap:
        several = {"vmap over a batch equals a loop": vmap_is_a_loop}
        groups.append((2, _asked(call, several)))
    for batch, group in groups:
        cases = partial(arguments, operation, settings.dtypes, batch)
        error = refute(operation.name, group, cases, settings.examples)
        if error is not None:
            raise error


def _asked(call: Call, laws: Laws) -> dict[str, Law]:
    """The laws as functions of a case, which is a list of examples."""

    def ask(law: Callable[..., None]) -> Law:
        def of_case(examples: list[Arguments]) -> None:
            law(call, *(tuple(example.values()) for example in examples))

        return of_case

    def ask_one(law: Callable[..., None]) -> Law:
        def of_case(examples: list[Arguments]) -> None:
            law(call, *examples[0].values())

        return of_case

    return {
        name: ask(law) if getattr(law, "of_several", False) else ask_one(law)
        for name, law in laws.items()
    }
