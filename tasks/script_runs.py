"""Runs of the tasks' scripts, each in a process and a folder of its own, and their models again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

from checkpoints import before, checkpoint_path, load_checkpoint
from options import AUTO, build_parser, wrong_option
from run import NOT_KEPT, Run
from task import Task

__all__ = [
    "check_options", "each", "measured", "minutes_of", "parser_of", "restored", "train_script",
]  # fmt: skip

EXAMPLES = 1000  # that a length is tested with
MINUTES = "minutes"  # the file that says how long each process of a run took

Own = TypeVar("Own")
Done = TypeVar("Done")


def each(function: Callable[[Own], Done], todo: Sequence[Own], jobs: int) -> list[Done]:
    """What a function gives for each, so many at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(function, todo))


def parser_of(task: Task) -> ArgumentParser:
    """The command line of a task."""
    return build_parser("", task.add_options, **task.defaults)


def check_options(
    task: Task, arguments: Sequence[str], own: Path, where: str, may_change: Sequence[str] = ()
) -> None:
    """End the program with one line if what is in a folder is another run than that of a command.

    Options that are left out are the task's defaults here, not the checkpoint's.

    Args:
        task: of the run.
        arguments: its options.
        own: the folder; if there is no checkpoint in it all is well.
        where: the option that chooses the folder, for the message.
        may_change: options that may differ, besides those of the machine and -check_freq.
    """
    parser = parser_of(task)
    options = parser.parse_args(arguments)
    path = checkpoint_path(own, task.name, options.memory_type)
    away = f"move it away, or choose another folder with {where}"
    for other in sorted(own.glob("*.pt")):
        if other not in (path, before(path)):
            raise SystemExit(f"{own} holds another run, {other.name}: {away}")
    if not path.exists() and not before(path).exists():
        return
    _, saved = load_checkpoint(path, task.name, option="")
    if (wrong := wrong_option(parser, saved["options"])) is not None:
        raise SystemExit(f"{own} holds a run of another version, its {wrong}: {away}")
    # What came later was as it is by default.
    earlier = {name: parser.get_default(name) for name in vars(options)} | saved["options"]
    differ = [
        f"-{name} {earlier[name]} (here {value})"
        for name, value in vars(options).items()
        if name not in (*NOT_KEPT, "check_freq", *may_change) and value != earlier[name]
    ]
    if differ:
        raise SystemExit(f"{own} holds a run with other options, {', '.join(differ)}: {away}")


def train_script(task: Task, arguments: Sequence[str], own: Path) -> Path:
    """Train to the end, in its own folder from where it is, and return the checkpoint.

    What the script says is in the folder's ``log``; where it fails, the program ends with one line
    that names it.
    """
    arguments = [*arguments, "-checkpoint_dir", str(own), "-resume", AUTO]
    options = parser_of(task).parse_args(arguments)
    path = checkpoint_path(own, task.name, options.memory_type)
    if path.exists() or before(path).exists():
        _, saved = load_checkpoint(path, task.name, option="")
        if saved["solved"] or saved["iteration"] >= options.iterations:
            return path
    script = Path(__file__).with_name(f"{task.name}_task.py")
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"{own}: {error.strerror}") from None
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


def minutes_of(own: Path) -> float:
    """How long the processes of the run in a folder took; 0 where that is not known."""
    path = own / MINUTES
    return sum(map(float, path.read_text("utf-8").split())) if path.exists() else 0.0


def restored(task: Task, path: Path, examples: int = EXAMPLES) -> Run:
    """The run of a checkpoint, to be tested with so many examples of a length."""
    _, saved = load_checkpoint(path, task.name, option="")
    parser = parser_of(task)
    parser.set_defaults(**saved["options"] | {"test_size": examples})
    run = Run(task, parser.parse_args([]), torch.device("cpu"))
    run.restore(saved, path)
    return run


def measured(run: Run, lengths: Iterable[int]) -> dict[int, tuple[float, ...]]:
    """The metrics by length, on examples that neither training nor its report has seen."""
    generator = torch.Generator().manual_seed(run.options.seed + 3)
    return {length: run.test(length, generator) for length in lengths}
