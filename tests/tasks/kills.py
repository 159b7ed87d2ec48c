"""Runs of the copy task that are killed and resumed, beside one that is left alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

__all__ = [
    "NAME",
    "SCRIPT",
    "assert_same_run",
    "kill_and_resume",
    "resumed",
    "run_through",
    "written",
]

SCRIPT = Path(__file__).parents[2] / "tasks" / "copy_task.py"
NAME = "copy_dnc"


def _start(folder: Path, options: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SCRIPT), *options, "-checkpoint_dir", str(folder)]
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def run_through(folder: Path, options: list[str]) -> None:
    """Run the script until it is done."""
    folder.mkdir(exist_ok=True)
    assert _start(folder, options).wait() == 0, (folder / "log").read_text()


def kill_and_resume(
    folder: Path, options: list[str], kills: int, apart: int, seed: int
) -> list[int]:
    """Kill the script at random moments of its training and resume it, except after the last.

    Args:
        folder: where it runs.
        options: of the script.
        kills: how often.
        apart: checkpoints between two kills, at the most.
        seed: of the moments.

    Returns:
        The iteration of the checkpoint that each kill left.
    """
    folder.mkdir()
    moments, left = random.Random(seed), []
    for _ in range(kills):
        _kill_once(folder, options, moments.randint(1, apart), moments.uniform(0, 0.06))
        left.append(_checkpoint(folder)["iteration"])
    return left


def resumed(folder: Path, options: list[str]) -> list[str]:
    """The options with which to go on, if there is a checkpoint yet."""
    path = folder / f"{NAME}.pt"
    exists = path.exists() or (folder / f"{NAME}.previous.pt").exists()
    return [*options, "-resume", str(path)] if exists else options


def _kill_once(folder: Path, options: list[str], checkpoints: int, wait: float) -> None:
    """Kill it as long after it has written so many checkpoints."""
    process, before = _start(folder, resumed(folder, options)), written(folder)
    while checkpoints:
        now = written(folder)
        checkpoints -= now != before
        before = now
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.001)
    time.sleep(wait)
    assert process.poll() is None, "done before it was killed: more iterations are needed"
    process.kill()
    process.wait()


def written(folder: Path) -> int | None:
    """Another number whenever a checkpoint was written."""
    try:
        return (folder / f"{NAME}.pt").stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / f"{NAME}.pt"
    if not path.exists():
        path = folder / f"{NAME}.previous.pt"
    return torch.load(path, weights_only=True)


def assert_same_run(one: Path, other: Path) -> None:
    """The same metrics and the same last checkpoint, bit for bit."""
    csv = f"{NAME}.csv"
    assert (one / csv).read_bytes() == (other / csv).read_bytes()
    _assert_same(_checkpoint(one), _checkpoint(other), "checkpoint")


def _assert_same(one: Any, other: Any, where: str) -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _assert_same(one[key], other[key], f"{where}[{key!r}]")
    else:
        assert one == other, where
