"""Runs of a line of a table, each trained as the scripts do, in a process of its own; its test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from checkpoints import before, load_checkpoint
from learning_lines import Line, Outcome
from metrics import read_metrics
from options import build_parser
from run import Run, batch_of
from task import Task

__all__ = ["add_options", "curve", "each", "outcome", "restored", "train"]

POINTS = 100  # of a curve
EXAMPLES = 1000  # that a length is tested with
MINUTES = "minutes"  # the file of a run that says how long each of its processes took

Own = TypeVar("Own")
Done = TypeVar("Done")


def add_options(parser: ArgumentParser, runs: str, out: str) -> None:
    """The options of a command that trains lines and writes tables."""
    add = parser.add_argument
    add("-seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    add("-jobs", type=int, default=2, help="processes at a time; default: 2")
    add("-runs", type=Path, default=Path(runs), help="folder of the runs")
    add("-out", type=Path, default=Path(out), help="folder of the tables and the figure")


def each(function: Callable[[Own], Done], todo: Sequence[Own], jobs: int) -> list[Done]:
    """What a function gives for each, so many at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(function, todo))


def _parser(task: Task) -> ArgumentParser:
    return build_parser("", task.add_options, **task.defaults)


def train(line: Line, seed: int, own: Path) -> Path:
    """Train a line to its end, in its own folder from where it is, and return its checkpoint."""
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
    begun = time.perf_counter()
    with open(own / "log", "a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            check=False,
        )
    with open(own / MINUTES, "a", encoding="utf-8") as file:
        print((time.perf_counter() - begun) / 60, file=file)
    if done.returncode:
        raise SystemExit(f"{own / 'log'}: ended with {done.returncode}")
    return path


def restored(line: Line, path: Path) -> Run:
    """The run of a checkpoint, to be tested."""
    task = line.task()
    _, saved = load_checkpoint(path, task.name)
    parser = _parser(task)
    parser.set_defaults(**saved["options"] | {"test_size": EXAMPLES})
    run = Run(task, parser.parse_args([]), torch.device("cpu"))
    run.restore(saved, path)
    return run


def outcome(line: Line, path: Path) -> Outcome:
    """Test the model of a checkpoint on fresh examples."""
    run = restored(line, path)
    generator = torch.Generator().manual_seed(run.options.seed + 3)
    scores = {length: run.test(length, generator) for length in line.lengths}
    parameters = sum(parameter.numel() for parameter in run.model.parameters())
    spent = path.parent / MINUTES
    minutes = sum(map(float, spent.read_text("utf-8").split())) if spent.exists() else 0.0
    return Outcome(run.iteration, run.solved, run.level(), scores, minutes, parameters)


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
