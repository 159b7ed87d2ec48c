"""A table of targets: a line for each, what was measured, and whether it is reached."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from harness import pair_ratios

__all__ = ["COLUMNS", "NOT_EQUAL", "Line", "header"]

COLUMNS = ("peer", "reference", "kernels", "kernel step", "xla", "compiled")
NOT_EQUAL = "NOT EQUAL:"  # how a fault begins that forbids to name a ratio
FIRST = 46  # width of the first column


@dataclass
class Line:
    """One line of the table, and of the JSON."""

    what: str  # with its unit, unless it is a ratio
    values: dict[str, float]  # by column
    faults: dict[str, str] = field(default_factory=dict)  # by column: why there is no number
    value: float | None = None  # what is held against the targets
    spread: tuple[float, float] | None = None  # the least and the most of it, pair by pair
    over: str = ""  # whose time that is over the kernels', if it is such a ratio
    targets: tuple[str, ...] = ()  # what to reach, then what is wanted beyond: "<= 3"
    details: dict[str, Any] = field(default_factory=dict)  # for the JSON only

    @property
    def reached(self) -> list[bool | None]:
        """For each target; None where nothing was measured."""
        return [None if self.value is None else _holds(self.value, own) for own in self.targets]

    def compare(self, times: dict[str, list[float]]) -> None:
        """Set the value to how often the kernels' time goes into the other's, if both are there."""
        if self.over in times and "kernels" in times:
            ratios = pair_ratios(times[self.over], times["kernels"])
            self.value, self.spread = median(ratios), (min(ratios), max(ratios))

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "reached": self.reached}

    def __str__(self) -> str:
        cells = {column: _number(self.values.get(column)) for column in COLUMNS}
        told = _number(self.value)
        if self.value is not None and self.over:
            told += f" x {self.over}"
        elif self.faults.get("kernels", "").startswith(NOT_EQUAL):
            told = self.faults["kernels"]
        verdicts = [{True: "yes", False: "no", None: "-"}[own] for own in self.reached]
        verdict = verdicts[0] if verdicts else "-"
        for target, own in zip(self.targets[1:], verdicts[1:], strict=True):
            verdict += f"; wanted {target}: {own}"
        spread = "-" if self.spread is None else "-".join(_number(own) for own in self.spread)
        target = self.targets[0] if self.targets else "-"
        return _row(self.what, cells, told, spread, target, verdict)


def header() -> str:
    """The names of the columns."""
    columns = {column: column for column in COLUMNS}
    return _row("what", columns, "ratio or value", "of pairs", "target", "reached")


def _row(
    what: str, cells: dict[str, str], told: str, spread: str, target: str, verdict: str
) -> str:
    middle = "".join(f"{cell:>{max(9, len(column) + 2)}}" for column, cell in cells.items())
    return f"{what:{FIRST}}{middle}  {told:17} {spread:12} {target:9} {verdict}"


def _holds(value: float, target: str) -> bool:
    sign, bound = target.split()
    return value >= float(bound) if sign == ">=" else value <= float(bound)


def _number(value: float | None) -> str:
    """About three digits that count."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f}"
