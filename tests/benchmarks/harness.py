"""What every benchmark does alike: interleaved runs, ratios, bytes kept, a machine line, JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "tasks"))

Work = Callable[[], Tensor]  # a forward pass; what it returns is summed and differentiated
Step = Callable[[], object]  # all that is timed, a whole training step as a rule

TURN = 0.05  # seconds that a turn should last, so that a hiccup of the machine is a part of it only
# Load above which a benchmark says so: for want of a core for its second thread each of torch's
# operations waits, many times as long as it runs; kernels, of which there are few, much less.
BUSY = 0.5


def train(work: Work) -> None:
    """One training step: forward and backward."""
    work().sum().backward()


def in_turn(steps: Mapping[str, Step], pairs: int) -> dict[str, list[float]]:
    """Time each in turn, so often, after a warm-up; short ones some times a turn.

    A turn begins with one that is not timed: the one before left its own things in the caches
    and its threads spinning, which no training loop would meet.

    Returns:
        name → seconds a step of each turn.
    """
    repeats, settles = {}, {}
    for name, step in steps.items():
        step()
        begin = time.perf_counter()
        step()
        taken = time.perf_counter() - begin
        repeats[name] = max(1, math.ceil(TURN / taken))
        settles[name] = taken < 1
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(pairs):
        for name, step in steps.items():
            if settles[name]:
                step()
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                step()
            times[name].append((time.perf_counter() - begin) / repeats[name])
    return times


def pair_ratios(over: list[float], under: list[float]) -> list[float]:
    """Of the times of two that ran in turn."""
    return [a / b for a, b in zip(over, under, strict=True)]


def side_by_side(
    works: Mapping[str, Work], steps: int, pairs: int = 7
) -> dict[str, dict[str, float]]:
    """Time training steps in turn, after a warm-up.

    Returns:
        name → median ms a time step, and the median ratio of the last one's time to it.
    """
    times = in_turn({name: _training(work) for name, work in works.items()}, pairs)
    last = times[list(works)[-1]]
    return {
        name: {
            "ms_a_step": round(median(own) / steps * 1e3, 3),
            "speedup": round(median(pair_ratios(last, own)), 3),
        }
        for name, own in times.items()
    }


def _training(work: Work) -> Step:
    return lambda: train(work)


def version_of(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Where and with what these numbers were taken."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "torch": torch.__version__,
        "numba": version_of("numba"),
        "threads": torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main(name: str, measure: Callable[[], list[dict[str, Any]]]) -> None:
    """Measure, print a line for each row, and write all as JSON."""
    parser = argparse.ArgumentParser(description=f"Benchmark {name} against its targets.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(f"benchmark_{name}.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    where = machine()
    print(where)
    rows = measure()
    for row in rows:
        print(row)
    options.json.write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")
    print(f"written: {options.json}")
