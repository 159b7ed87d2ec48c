"""What the memories must learn, each with several seeds: a table and the learning curves.

``python tasks/learning.py -out tasks/results`` trains as the scripts do, in processes of one thread
each, and goes on where it was interrupted. A run that does not get there is shown as it is.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from checkpoints import before, load_checkpoint
from learning_lines import LINES, Line, Outcome
from memcore.errors import how_to_install
from metrics import read_metrics
from options import build_parser
from report import describe
from run import Run
from task import Task

__all__ = ["main", "outcome", "train"]

POINTS = 100  # of a curve
EXAMPLES = 1000  # that a length is tested with


def _parser(task: Task) -> argparse.ArgumentParser:
    return build_parser("", task.add_options, **task.defaults)


def train(name: str, seed: int, folder: Path) -> Path:
    """Train one run of a line to its end, from where it is, and return its checkpoint."""
    line = LINES[name]
    own = folder / f"{name}_{seed}"
    arguments = [*line.options.split(), "-seed", str(seed), "-checkpoint_dir", str(own)]
    options = _parser(line.task()).parse_args(arguments)
    path = own / f"{line.task.name}_{options.memory_type}.pt"
    if path.exists() or before(path).exists():
        _, saved = load_checkpoint(path, line.task.name)
        if saved["solved"] or saved["iteration"] >= options.iterations:
            return path
        arguments += ["-resume", str(path)]
    script = Path(__file__).with_name(f"{line.task.name}_task.py")
    own.mkdir(parents=True, exist_ok=True)
    with open(own / "log", "a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{own / 'log'}: ended with {done.returncode}")
    return path


def outcome(name: str, path: Path) -> Outcome:
    """Test the model of a checkpoint on fresh examples."""
    task, lengths = LINES[name].task(), LINES[name].lengths
    _, saved = load_checkpoint(path, task.name)
    parser = _parser(task)
    parser.set_defaults(**saved["options"] | {"test_size": EXAMPLES})
    run = Run(task, parser.parse_args([]), torch.device("cpu"))
    run.restore(saved, path)
    generator = torch.Generator().manual_seed(run.options.seed + 3)
    scores = {length: run.test(length, generator) for length in lengths}
    return Outcome(run.iteration, run.solved, run.level(), scores)


def curve(path: Path, metric: str) -> np.ndarray:
    """Iteration, mean loss, mean metric and level ``[points, 4]`` of a checkpoint's run."""
    columns = read_metrics(path.with_suffix(".csv"))
    values = np.stack([columns[name] for name in ("iteration", "loss", metric, "level")], 1)
    return np.stack([part.mean(0) for part in np.array_split(values, min(POINTS, len(values)))])


def main(argv: Sequence[str] | None = None) -> None:
    """Train all that is not yet trained, then write the tables and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-lines", nargs="+", choices=list(LINES), default=list(LINES), help="default: all")
    add("-seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    add("-jobs", type=int, default=2, help="processes at a time; default: 2")
    add("-runs", type=Path, default=Path("checkpoints/learning"), help="folder of the runs")
    add("-out", type=Path, default=Path("learning"), help="folder of the tables and the figure")
    options = parser.parse_args(argv)
    todo = [(name, seed) for name in options.lines for seed in options.seeds]
    with ThreadPoolExecutor(options.jobs) as pool:
        paths = list(pool.map(lambda own: train(own[0], own[1], options.runs), todo))
    outcomes, curves = {}, {}
    for (name, seed), path in zip(todo, paths, strict=True):
        outcomes[name, seed] = found = outcome(name, path)
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
