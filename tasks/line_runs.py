"""Runs of a line of a table, each trained as the scripts do, in a process of its own; its test."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints import load_checkpoint
from learning_lines import Line, Outcome
from metrics import read_metrics
from run import batch_of
from script_runs import check_options, measured, minutes_of, restored, train_script

__all__ = ["add_options", "check", "curve", "outcome", "train"]

POINTS = 100  # of a curve


def add_options(parser: ArgumentParser, runs: str, out: str) -> None:
    """The options of a command that trains lines and writes tables."""
    add = parser.add_argument
    add("-seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    add("-jobs", type=int, default=2, help="processes at a time; default: 2")
    add("-runs", type=Path, default=Path(runs), help="folder of the runs")
    add("-out", type=Path, default=Path(out), help="folder of the tables and the figure")


def check(line: Line, seed: int, own: Path) -> None:
    """End the program with one line if what is in the folder is no run of that line and seed."""
    check_options(line.task(), _arguments(line, seed), own, "-runs")


def train(line: Line, seed: int, own: Path) -> Path:
    """Train a line to its end, in its own folder from where it is, and return its checkpoint."""
    return train_script(line.task(), _arguments(line, seed), own)


def _arguments(line: Line, seed: int) -> list[str]:
    return [*line.options.split(), "-seed", str(seed)]


def outcome(line: Line, path: Path) -> Outcome:
    """Test the model of a checkpoint on fresh examples."""
    run = restored(line.task(), path, line.examples)
    scores = measured(run, line.lengths)
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    spent = minutes_of(path.parent)
    return Outcome(run.iteration, run.solved, run.level(), scores, spent, parameters)


def curve(line: Line, path: Path) -> np.ndarray[Any, Any]:
    """What became of a checkpoint's run, over time.

    Returns:
        Means ``[points, 5]`` of iteration, loss, the first metric, level and examples so far.
    """
    _, saved = load_checkpoint(path, line.task.name)
    columns, options = read_metrics(path.with_suffix(".csv")), saved["options"]
    examples = [
        batch_of(int(length), options["batch_size"], options.get("batch_budget", 0))
        for length in columns["length"]
    ]
    names = ("iteration", "loss", line.task.metrics[0], "level")
    values = np.stack([*(columns[name] for name in names), np.cumsum(examples)], 1)
    return np.stack([part.mean(0) for part in np.array_split(values, min(POINTS, len(values)))])
