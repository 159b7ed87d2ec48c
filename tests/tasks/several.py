"""Several processes that train together, started as `torchrun` starts them but in less time."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["TASKS", "Ended", "ends", "start"]

TASKS = Path(__file__).parents[2] / "tasks"
Ended = tuple[int, str, str]  # exit status, stdout, stderr


def start(script: Path, arguments: Sequence[str], count: int = 2) -> list[subprocess.Popen[str]]:
    """Start that many processes of a script; their warnings are errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    everywhere = {
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
        "PYTHONPATH": os.pathsep.join(map(str, (TASKS, TASKS.parent))),
    }
    return [
        subprocess.Popen(
            # torch 2.6 leaves a folder of its own to the end.
            [sys.executable, "-W", "error", "-W", "ignore:Implicitly", str(script), *arguments],
            env=os.environ | {name: str(value) for name, value in everywhere.items()}
            | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]  # fmt: skip


def ends(processes: Sequence[subprocess.Popen[str]], seconds: float = 120) -> list[Ended]:
    """Wait for all; what each said."""
    try:
        said = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        # What gloo itself prints in torch 2.9 and some others.
        (process.returncode, re.sub(r"^\[Gloo\].*\n", "", printed, flags=re.MULTILINE), wrong)
        for process, (printed, wrong) in zip(processes, said, strict=True)
    ]
