"""What the memories must learn, each with several seeds: a table and the learning curves.

``python tasks/learning.py -out tasks/results`` trains as the scripts do, in processes of one thread
each, and goes on where it was interrupted. A run that does not get there is shown as it is.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learning_lines import LINES, Line, Outcome
from line_runs import add_options, curve, each, outcome, train
from memcore.errors import how_to_install
from report import describe

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
    todo = [(name, seed) for name in options.lines for seed in options.seeds]
    paths = each(
        lambda own: train(LINES[own[0]], own[1], options.runs / f"{own[0]}_{own[1]}"),
        todo,
        options.jobs,
    )
    outcomes, curves = {}, {}
    for (name, seed), path in zip(todo, paths, strict=True):
        outcomes[name, seed] = found = outcome(LINES[name], path)
        curves[name, seed] = curve(path, LINES[name].task.metrics[0])
        print(f"{LINES[name].title}, seed {seed}: {_describe(LINES[name], found)}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    _write(options.out, outcomes, curves)
    _draw(options.out / "learning.png", outcomes, curves)


def _describe(line: Line, found: Outcome) -> str:
    said = "reached" if line.reached(found) else "NOT reached"
    said += f", {found.iterations} iterations" + (" (solved)" if found.solved else "")
    said += f", level {found.level}"
    for length, score in found.scores.items():
        said += f"; length {length}: {describe(line.task.metrics, score)}"
    return said


Runs = dict[tuple[str, int], Any]


def _write(folder: Path, outcomes: Runs, curves: Runs) -> None:
    with open(folder / "learning.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ("line", "seed", "target", "reached", *Outcome._fields[:3], "length", "metric", "value")
        )
        for (name, seed), found in outcomes.items():
            line = LINES[name]
            first = [name, seed, line.target, line.reached(found), *found[:3]]
            for length, score in found.scores.items():
                for metric, value in zip(line.task.metrics, score, strict=True):
                    table.writerow([*first, length, metric, f"{value:.6f}"])
    with open(folder / "learning_curves.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["line", "seed", "iteration", "mean_loss", "mean_metric", "level"])
        for (name, seed), points in curves.items():
            for iteration, loss, metric, level in points:
                table.writerow(
                    [name, seed, round(iteration), f"{loss:.6f}", f"{metric:.6f}", f"{level:g}"]
                )
    print(f"tables: {folder / 'learning.csv'}, {folder / 'learning_curves.csv'}")


def _draw(path: Path, outcomes: Runs, curves: Runs) -> None:
    """A panel for each line: the metric, a curve for each seed, and the level if it grows."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no figure: matplotlib is not installed ({how_to_install('viz')})")
        return
    names = list(dict.fromkeys(name for name, _ in curves))
    height = -(-len(names) // 2)
    figure = Figure(figsize=(10, 0.6 + 2.7 * height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(height, 2, squeeze=False).flat)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, names, strict=False):
        line = LINES[name]
        seeds = [seed for own, seed in curves if own == name]
        count = sum(line.reached(outcomes[name, seed]) for seed in seeds)
        axis.set_title(
            f"{line.title}: {count} of {len(seeds)} seeds reached\n{line.target}", fontsize="small"
        )
        levels = None
        if any(np.ptp(curves[name, seed][:, 3]) for seed in seeds):
            levels = axis.twinx()
            levels.set_yscale("log", base=2)
            levels.set_ylabel("longest length (dashed)")
        for number, seed in enumerate(seeds):
            points, color = curves[name, seed], f"C{number}"
            axis.plot(points[:, 0], points[:, 2], color=color, label=f"seed {seed}")
            if levels is not None:
                levels.plot(points[:, 0], points[:, 3], "--", color=color, alpha=0.6)
        axis.set_xlabel("iteration")
        axis.set_ylabel(line.task.metrics[0])
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
