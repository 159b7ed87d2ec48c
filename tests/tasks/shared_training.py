"""Iterations of one of several processes, kept for a test: batches, gradients, rows."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import torch

from options import build_parser
from processes import Processes
from repeat_copy_task import RepeatCopyTask
from run import Run

__all__ = ["ITERATIONS", "KINDS", "made"]

ITERATIONS = 4
SMALL = (
    "-batch_size 6 -nhid 8 -mem_slot 6 -mem_size 5 -read_heads 2 -sparse_reads 3 -max_repeats 3 "
    "-curriculum linear -lr 0 -clip 0 -backend reference"
).split()
KINDS = {
    "dnc": "-memory_type dnc",
    "dam": "-memory_type dam -learned_memory",
    "sam": "-memory_type sam -learned_memory",
    "sdnc": "-memory_type sdnc -nlayer 2 -layer_norm",
}


def made(kind: str, processes: Processes | None = None) -> Run:
    """A run whose parameters stay as they are."""
    task = RepeatCopyTask()
    parser = build_parser("", task.add_options, **task.defaults)
    options = parser.parse_args([*SMALL, *KINDS[kind].split()])
    return Run(task, options, torch.device("cpu"), processes)


def _iterations(run: Run) -> list[dict[str, Any]]:
    found, batch = [], run._batch

    def kept(*arguments: Any) -> Any:
        found.append({"batch": batch(*arguments)})
        return found[-1]["batch"]

    run._batch = kept  # pyright: ignore
    for _ in range(ITERATIONS):
        row = run.train_once()
        gradients = {
            n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None
        }
        found[-1] |= {"row": tuple(row), "gradients": gradients, "data": run.data.get_state()}
        found[-1] |= {"dropout": torch.rand(100)}
    return [part | {"batch": tuple(part["batch"])} for part in found]


def main(folder: Path) -> None:
    """Write what this process found for each kind."""
    processes = Processes.started()
    with processes.connected():
        runs = {kind: made(kind, processes) for kind in KINDS}
        found = {kind: _iterations(run) for kind, run in runs.items()}
    gc.collect()  # the runs are still there, as where an exception holds them
    tasks = Path("/proc/self/task").glob("*/comm")  # none, but on Linux
    threads = [path.read_text("utf-8").strip() for path in tasks]
    torch.save(found, folder / f"{processes.rank}.pt")
    torch.save(threads, folder / f"threads_{processes.rank}.pt")
    assert len(runs) == len(KINDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
