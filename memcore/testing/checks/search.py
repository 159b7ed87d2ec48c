"""The search for a case that breaks a law, and for the smallest one that breaks the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import torch

from memcore.errors import check_float_dtype, check_size

if sys.version_info >= (3, 11):
    from typing import Unpack
else:
    from typing_extensions import Unpack

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "Broken",
    "Cases",
    "Law",
    "Options",
    "Settings",
    "Text",
    "Unpack",
    "refute",
    "settings_of",
]

Law = Callable[[Any], None]  # takes a case, raises Broken
Cases = Callable[[int], "SearchStrategy[Any]"]  # whose axes are at most as long
SEED = 0
# How long axes may be, and the share of the examples. Shrinking goes through what was drawn number
# by number and cannot take a slot out of a matrix, so small ones are looked at for themselves.
SIZES = {1: 1 / 8, 2: 1 / 4, 3: 1 / 4, 5: 3 / 8}

# What every call is held against, the most telling first.
RAISES, TYPE, SHAPE, DTYPE = "raises nothing", "type", "shape", "dtype"
FINITE, UNCHANGED = "finite", "arguments are left unchanged"
BASICS = (RAISES, TYPE, SHAPE, DTYPE, FINITE, UNCHANGED)


class Options(TypedDict, total=False):
    """What every check takes by keyword, beside what its own docstring says.

    examples: how many cases are drawn for each invariant; 100.
    dtype: float32 or float64 alone; both.
    gradients: whether gradients must be finite; True.
    vmap: whether ``torch.func.vmap`` must give what a loop over the batch gives; True.
    tolerance: how far a number may be off, and a share of it; 64 roundings of the dtype, and more
        where strengths multiply them.
    """

    examples: int
    dtype: torch.dtype | None
    gradients: bool
    vmap: bool
    tolerance: float | None


class Settings(NamedTuple):
    """The same with all defaults."""

    examples: int = 100
    dtype: torch.dtype | None = None
    gradients: bool = True
    vmap: bool = True
    tolerance: float | None = None

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Those to draw from, the one that counterexamples shrink to first."""
        return (torch.float64, torch.float32) if self.dtype is None else (self.dtype,)

    def slack(self, dtype: torch.dtype) -> float:
        """How far a number near 1 may be off."""
        return 64 * torch.finfo(dtype).eps if self.tolerance is None else self.tolerance


def settings_of(options: Options) -> Settings:
    """The options with their defaults.

    Raises:
        TypeError: an option that there is not, or of the wrong type.
        MemcoreError: ``examples`` below 1, another dtype.
    """
    unknown = sorted(set(options) - set(Settings._fields))
    if unknown:
        raise TypeError(f"{unknown[0]}: expected one of the options {', '.join(Settings._fields)}")
    settings = Settings(**options)
    check_size("examples", settings.examples)
    if settings.dtype is not None:
        check_float_dtype("dtype", settings.dtype)
    return settings


class Text:
    """What is written out only when it is asked for: most counterexamples are not the smallest."""

    def __init__(self, write: Callable[[], str]) -> None:
        self._write = write

    def __str__(self) -> str:
        return self._write()


class Broken(Exception):  # noqa: N818
    """A law does not hold; what the user sees is the AssertionError made of it.

    Args:
        expected: in words or numbers.
        got: likewise.
        counterexample: Python that shows it, once it is a string.
        law: its name, where it is another than the one that was asked about.
    """

    def __init__(self, expected: str, got: str, counterexample: object, law: str | None = None):
        super().__init__(expected, got)
        self.expected, self.got, self.counterexample = expected, got, counterexample
        self.law = law


class _Found(NamedTuple):
    """Which law was broken, under which name it counts, what raised it, and at which size."""

    name: str
    law: Law
    broken: Broken
    size: int


def _look(name: str, law: Law, case: Any, size: int) -> _Found | None:
    try:
        law(case)
    except Broken as broken:
        return _Found(broken.law or name, law, broken, size)
    return None


def refute(
    what: str, laws: Mapping[str, Law], cases: Cases, examples: int
) -> AssertionError | None:
    """Look for a case that breaks a law; the most basic law that is broken, by the smallest case.

    Args:
        what: is tested.
        laws: by name, the most basic first.
        cases: what they are asked about, with axes of at most a given length.
        examples: how many are drawn.

    Returns:
        The error to raise, or None where all laws hold.
    """
    found = _first(laws, cases, examples)
    if found is None:
        return None
    name, law, broken, size = found
    last = [broken]

    def breaks_it_too(case: Any) -> bool:
        other = _look(name, law, case, size)
        if other is None or other.name != name:
            return False
        last[:] = [other.broken]
        return True

    # That nothing smaller was found before can be luck.
    smaller = [(other, max(examples, 50)) for other in SIZES if other < size]
    for other, budget in (*smaller, (size, examples * SIZES[size])):
        smallest = _find(cases(other), breaks_it_too, budget)
        if smallest is not None:
            breaks_it_too(smallest)
            break
    broken = last[0]
    example = str(broken.counterexample)
    space = "\n" if "\n" in example else " "
    error = AssertionError(
        f"{what}: {name}: expected {broken.expected}, got {broken.got}\n"
        f"smallest counterexample:{space}{example}"
    )
    error.__cause__ = broken.__cause__
    error.__suppress_context__ = True
    return error


def _first(laws: Mapping[str, Law], cases: Cases, examples: int) -> _Found | None:
    """The first of the laws that any case breaks, the smallest cases first."""
    ranks = {name: rank for rank, name in enumerate((*BASICS, *laws))}
    best: list[_Found] = []
    for size, share in SIZES.items():

        def note(case: Any, size: int = size) -> bool:
            for name, law in laws.items():
                if best and ranks[name] >= max(ranks[best[0].name], len(BASICS) + 1):
                    break
                found = _look(name, law, case, size)
                if found is not None and (not best or ranks[found.name] < ranks[best[0].name]):
                    best[:] = [found]
            return False

        _find(cases(size), note, examples * share)
    return best[0] if best else None


def _find(
    cases: SearchStrategy[Any], condition: Callable[[Any], bool], examples: float
) -> Any | None:
    """The smallest case that meets a condition; the same call draws the same cases."""
    from random import Random

    from hypothesis import Phase, Verbosity, find, settings
    from hypothesis.errors import Flaky, NoSuchExample

    quiet = settings(
        max_examples=max(1, round(examples)),
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        verbosity=Verbosity.quiet,
        print_blob=False,
        **_backend(),
    )
    try:
        return find(cases, condition, settings=quiet, random=Random(SEED))
    except (NoSuchExample, Flaky):  # the latter where the function has a will of its own
        return None


@cache
def _backend() -> dict[str, Any]:
    """A source of choices that heeds nothing but its seed, where hypothesis lets us have one.

    Its own now and then takes a number that stands in the source of a module at hand, so that the
    answer would depend on what else was imported; and it keeps these in a folder.
    """
    try:
        from hypothesis.internal.conjecture.providers import (
            AVAILABLE_PROVIDERS,
            HypothesisProvider,
        )
    except ImportError:
        return {}

    class Seeded(HypothesisProvider):
        def _maybe_draw_constant(self, *_: Any, **__: Any) -> None:
            return None

    AVAILABLE_PROVIDERS["memcore"] = Seeded
    return {"backend": "memcore"}
