"""The tables of what was learned; rows of lines that were not run again stay."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpoints import write_whole
from learning_lines import LINES, Line, Outcome

__all__ = ["POINTS", "Rows", "Runs", "by_line", "tabulate", "update"]

Runs = Mapping[tuple[str, int], Any]  # by line and seed
Rows = list[dict[str, str]]

COLUMNS = (
    "line", "seed", "options", "target", "reached", "iterations", "solved", "level", "minutes",
    "parameters", "length", "metric", "value",
)  # fmt: skip
IN_WORDS = ("line", "options", "target", "reached", "solved", "metric")
POINTS = ("line", "seed", "iteration", "mean_loss", "mean_metric", "level", "examples")


def update(folder: Path, outcomes: Runs, curves: Runs) -> tuple[Rows, Rows]:
    """Write both tables, with the rows of these runs in place of those they had, and return them.

    Args:
        folder: where ``learning.csv`` and ``learning_curves.csv`` are.
        outcomes: an `Outcome` for each run.
        curves: points ``[·, 5]`` for each run: iteration, loss, metric, level, examples so far.
    """
    fresh: Rows = []
    for (name, seed), found in outcomes.items():
        fresh += _rows(name, seed, LINES[name], found)
    points: Rows = []
    for (name, seed), own in curves.items():
        for iteration, loss, metric, level, examples in own:
            numbers = (round(iteration), f"{loss:.6f}", f"{metric:.6f}", f"{level:g}")
            row = (name, seed, *numbers, round(examples))
            points.append(dict(zip(POINTS, map(str, row), strict=True)))
    tables = [
        (folder / "learning.csv", COLUMNS, fresh),
        (folder / "learning_curves.csv", POINTS, points),
    ]
    # Both are read before one is written.
    kept = [_read(path, names) for path, names, _ in tables]
    stale = _stale(kept[0])
    merged = [
        _merge([row for row in own if (row["line"], row["seed"]) not in stale], anew)
        for own, (_, _, anew) in zip(kept, tables, strict=True)
    ]
    for (path, names, _), rows in zip(tables, merged, strict=True):
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_whole(path, text.getvalue().encode())
        print(f"table: {path}")
    return merged[0], merged[1]


def _rows(name: str, seed: int, line: Line, found: Outcome) -> Rows:
    first = (name, seed, line.options, line.target, line.reached(found), *found[:3])
    first += (f"{found.minutes:.1f}", found.parameters)
    return [
        dict(zip(COLUMNS, map(str, (*first, length, metric, f"{value:.6f}")), strict=True))
        for length, score in found.scores.items()
        for metric, value in zip(line.task.metrics, score, strict=True)
    ]


def _read(path: Path, names: Sequence[str]) -> Rows:
    """The rows of a table that may not be there; one that is another ends the program."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8-sig", newline="") as file:  # with the mark that Excel puts
        table = csv.DictReader(file)
        found = tuple(table.fieldnames or ())
        if found != tuple(names):
            raise SystemExit(f"{path}: expected the columns {', '.join(names)}, got {found}")
        rows: Rows = []
        for row in table:
            trouble = _trouble(row)
            if trouble is not None:
                raise SystemExit(f"{path}, line {table.line_num}: {trouble}; mend or remove it")
            rows.append(row)
    return rows


def _trouble(row: Mapping[str | None, Any]) -> str | None:
    """What is wrong with a row, if anything."""
    if None in row or None in row.values():
        return "another number of columns than the header"
    for name, value in row.items():
        if name not in IN_WORDS:
            try:
                int(value) if name == "seed" else float(value)
            except ValueError:
                return f"{name}: expected a number, got {value!r}"
    return None


def _stale(rows: Rows) -> set[tuple[str, str]]:
    """The runs, by line and seed, with other options than their line has now."""
    runs = {(row["line"], row["seed"]): row["options"] for row in rows}
    stale = {
        own for own, given in runs.items() if own[0] in LINES and given != LINES[own[0]].options
    }
    for name, seed in sorted(stale):
        print(f"{name}, seed {seed}: left out, was trained with other options")
    return stale


def _merge(kept: Rows, fresh: Rows) -> Rows:
    """The rows of lines that there still are, fresh ones in place of older ones."""
    anew = {(row["line"], row["seed"]) for row in fresh}
    kept = [row for row in kept if (row["line"], row["seed"]) not in anew]
    place = {name: at for at, name in enumerate(LINES)}
    rows = [row for row in kept + fresh if row["line"] in place]
    rows.sort(key=lambda row: (place[row["line"]], int(row["seed"])))  # stable: as they were
    return rows


def by_line(rows: Rows) -> dict[str, dict[str, Rows]]:
    """The rows of each seed of each line."""
    found: dict[str, dict[str, Rows]] = {}
    for row in rows:
        found.setdefault(row["line"], {}).setdefault(row["seed"], []).append(row)
    return found


def tabulate(path: Path, rows: Rows) -> None:
    """A table for people: a row for each line, what its seeds came to side by side."""
    lines = [
        "| | to reach | seeds that did | iterations | minutes | parameters | tested |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seeds in by_line(rows).items():
        line, firsts = LINES[name], [own[0] for own in seeds.values()]
        reached = sum(own["reached"] == "True" for own in firsts)
        cells = [
            line.title,
            line.target,
            f"{reached} of {len(firsts)}",
            ", ".join(f"{int(own['iterations']):,}" for own in firsts),
            ", ".join(f"{float(own['minutes']):.0f}" for own in firsts),
            f"{int(firsts[0]['parameters']):,}",
            _tested(line, list(seeds.values())),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"table: {path}")


def _tested(line: Line, seeds: list[Rows]) -> str:
    """The metric that is shown, at each length, of all seeds."""
    metric = line.task.metrics[line.shown]
    lengths = dict.fromkeys(row["length"] for own in seeds for row in own)
    said = []
    for length in lengths:
        values = [
            float(row["value"])
            for own in seeds
            for row in own
            if (row["length"], row["metric"]) == (length, metric)
        ]
        said.append(f"{length}: " + ", ".join(f"{100 * value:.3g} %" for value in values))
    return f"{metric} at " + "; ".join(said)
