"""What the memories must learn, each with several seeds: a table and the learning curves.

``python tasks/learning.py -out docs/results`` trains as the scripts do, in processes of one thread
each, and goes on where it was interrupted. A run that does not get there is shown as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from learning_figures import draw, draw_contrast
from learning_lines import CONTRAST, LINES, Line, Outcome
from learning_tables import tabulate, update
from line_runs import add_options, check, curve, outcome, train
from report import describe
from script_runs import each

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Train all that is not yet trained, then write the tables and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-lines", nargs="+", choices=list(LINES), default=list(LINES), help="default: all")
    add_options(parser, "checkpoints/learning", "learning")
    options = parser.parse_args(argv)
    seeds = dict.fromkeys(options.seeds)  # each once: two runs would share a folder
    todo = [(name, seed) for name in dict.fromkeys(options.lines) for seed in seeds]
    jobs = [(LINES[name], seed, options.runs / f"{name}_{seed}") for name, seed in todo]
    for job in jobs:  # before hours are spent on the others
        check(*job)
    paths = each(lambda job: train(*job), jobs, options.jobs)
    outcomes: dict[tuple[str, int], Outcome] = {}
    curves: dict[tuple[str, int], Any] = {}
    for (name, seed), path in zip(todo, paths, strict=True):
        outcomes[name, seed] = found = outcome(LINES[name], path)
        curves[name, seed] = curve(LINES[name], path)
        print(f"{LINES[name].title}, seed {seed}: {_describe(LINES[name], found)}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    rows, points = update(options.out, outcomes, curves)
    tabulate(options.out / "learning.md", rows)
    draw(options.out / "learning.png", rows, points)
    draw_contrast(options.out / "recall.png", points, CONTRAST)


def _describe(line: Line, found: Outcome) -> str:
    said = "reached" if line.reached(found) else "NOT reached"
    said += f", {found.iterations} iterations" + (" (solved)" if found.solved else "")
    said += f", {found.minutes:.0f} minutes, level {found.level}"
    for length, score in found.scores.items():
        said += f"; length {length}: {describe(line.task.metrics, score)}"
    return said


if __name__ == "__main__":
    main()
