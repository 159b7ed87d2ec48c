"""SAM's training step against its size, against the dense DAM and one step a call.

``python tests/benchmarks/sam.py``; the DAM needs 2 GiB, SAM with 2²⁴ slots half a GiB.
"""

from __future__ import annotations

import gc
import resource
import sys
from statistics import median
from typing import Any

import torch
from torch import Tensor

from harness import Work, main, side_by_side
from scaling import kept_for_backward
from torch_adapters import DAM, SAM, detach_state
from torch_adapters.recurrence import MemoryRNN

INPUT, HIDDEN, STEPS = 8, 100, 100
SIZES: dict[str, Any] = {"num_hidden_layers": 1, "cell_size": 32, "read_heads": 4}
SMALL, LARGE, HUGE = 2**12, 2**20, 2**24


def sam(slots: int) -> MemoryRNN:
    """The module of the targets: one example, LSTM of 100 units, K = 4."""
    return SAM(INPUT, HIDDEN, nr_cells=slots, sparse_reads=4, **SIZES)


def sequence(module: MemoryRNN, steps: int = STEPS) -> Work:
    """A sequence from an empty memory, the making of the state included."""
    input = torch.randn(1, steps, INPUT)
    return lambda: module(input)[0]


def row(what: str, target: str, reached: float, **more: Any) -> dict[str, Any]:
    """A line of the result."""
    return {"what": what, "target": target, "reached": reached, **more}


def against_size(slots: int, limit: float) -> dict[str, Any]:
    """Time at ``slots`` over time at 2¹²."""
    works = {str(slots): sequence(sam(slots)), str(SMALL): sequence(sam(SMALL))}
    times = side_by_side(works, STEPS, pairs=11)
    ratio = round(1 / times[str(slots)]["speedup"], 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    what = f"a training step at N = {slots} over one at N = {SMALL}"
    return row(what, f"<= {limit}", ratio, times=times, peak_resident_gib=round(peak, 2))


def against_dense() -> dict[str, Any]:
    """Time of the dense DAM over that of SAM, at 2²⁰ slots."""
    dense_steps = 4
    sparse = sequence(sam(LARGE))
    dense = sequence(DAM(INPUT, HIDDEN, nr_cells=LARGE, **SIZES), dense_steps)
    # Each by its own number of steps: the dense one keeps 0.2 GiB for each.
    ratios, times = [], {"sam": [], "dam": []}
    for _ in range(6):
        own = side_by_side({"sam": sparse}, STEPS, pairs=3)["sam"]["ms_a_step"]
        other = side_by_side({"dam": dense}, dense_steps, pairs=1)["dam"]["ms_a_step"]
        times["sam"].append(own)
        times["dam"].append(other)
        ratios.append(other / own)
        gc.collect()
    what = f"the dense DAM over SAM at N = {LARGE}"
    return row(what, ">= 600", round(median(ratios)), ms_a_step=times)


def memory_kept() -> list[dict[str, Any]]:
    """MiB kept for backward by 100 steps, for three sizes."""
    rows = []
    for slots in (SMALL, 2**16, LARGE):
        work = sequence(sam(slots))
        work()
        kept = kept_for_backward(work) / 2**20
        rows.append(row(f"MiB kept by 100 steps at N = {slots}", "<= 4", round(kept, 2)))
    return rows


def one_step_a_call() -> dict[str, Any]:
    """Time of a call with one step, carrying the state, over a step within a sequence."""
    module = sam(LARGE)
    input = torch.randn(1, STEPS, INPUT)

    def calls() -> Tensor:
        state, total = None, torch.zeros(())
        for step in input.unbind(1):
            output, state = module(step[:, None], state)
            total = total + output.sum()
        return total

    def truncated() -> Tensor:
        state = None
        for step in input.unbind(1):
            output, state = module(step[:, None], state)
            output.sum().backward()
            state = detach_state(state)
        return torch.zeros((), requires_grad=True)

    works = {"calls": calls, "truncated": truncated, "sequence": sequence(module)}
    times = side_by_side(works, STEPS, pairs=11)
    ratio = round(1 / times["calls"]["speedup"], 3)
    return row(f"one step a call at N = {LARGE}, state carried", "<= 1.5", ratio, times=times,
               with_a_backward_each_call=round(1 / times["truncated"]["speedup"], 3))  # fmt: skip


def measure() -> list[dict[str, Any]]:
    """A row for each line of the targets."""
    rows = [against_size(LARGE, 1.3), *memory_kept(), one_step_a_call(), against_size(HUGE, 1.5)]
    gc.collect()
    return [*rows, against_dense()]


if __name__ == "__main__":
    if sys.platform == "darwin":
        print("ru_maxrss is in bytes here: divide the peak by 1024")
    main("sam", measure)
