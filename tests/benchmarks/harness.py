"""What every benchmark does alike: interleaved runs, ratios, bytes kept, a machine line, JSON."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "tasks"))

Work = Callable[[], Tensor]  # a forward pass; what it returns is summed and differentiated


def train(work: Work) -> None:
    """One training step: forward and backward."""
    work().sum().backward()


def side_by_side(works: dict[str, Work], steps: int, pairs: int = 7) -> dict[str, dict[str, float]]:
    """Time training steps in turn, after a warm-up.

    Returns:
        name → median ms a time step, and the median ratio of the last one's time to it.
    """
    for work in works.values():
        train(work)
        train(work)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(pairs):
        for name, work in works.items():
            begin = time.perf_counter()
            train(work)
            times[name].append((time.perf_counter() - begin) / steps * 1e3)
    last = times[list(works)[-1]]
    return {
        name: {
            "ms_a_step": round(median(own), 3),
            "speedup": round(median(b / a for a, b in zip(own, last, strict=True)), 3),
        }
        for name, own in times.items()
    }


def machine() -> dict[str, Any]:
    """Where and with what these numbers were taken."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


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
