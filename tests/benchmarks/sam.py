"""SAM's training step against its size, its length, the dense DAM and one step a call.

``python tests/benchmarks/sam.py``; the DAM needs 2 GiB, SAM with 2²⁴ slots half a GiB.
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

import memcore
from harness import Work, in_turn, main, pair_ratios, side_by_side, train
from index import clustered
from memcore import RowMemory
from scaling import kept_for_backward
from torch_adapters import DAM, SAM, detach_state
from torch_adapters.recurrence import MemoryRNN

INPUT, HIDDEN, STEPS = 8, 100, 100
READS = 4  # K
SIZES: dict[str, Any] = {"num_hidden_layers": 1, "cell_size": 32, "read_heads": 4}
SMALL, LARGE, HUGE = 2**12, 2**20, 2**24
FEW_ROWS, MANY_ROWS = 2**12, 2**18

Row = dict[str, Any]


def sam(slots: int, backend: str = "auto") -> MemoryRNN:
    """The module of the targets: one example, LSTM of 100 units, K = 4."""
    return SAM(INPUT, HIDDEN, nr_cells=slots, sparse_reads=READS, backend=backend, **SIZES)


def sequence(module: MemoryRNN, steps: int = STEPS, hx: Any = None) -> Work:
    """A sequence from an empty memory, the making of the state included, or from a given state."""
    input = torch.randn(1, steps, INPUT)
    return lambda: module(input, hx)[0]


def row(what: str, target: str, reached: float, **more: Any) -> Row:
    """A line of the result."""
    return {"what": what, "target": target, "reached": reached, **more}


def against_size(slots: int, backend: str = "auto", pairs: int = 11) -> list[Row]:
    """Time at ``slots`` over time at 2¹²."""
    works = {str(n): sequence(sam(n, backend)) for n in (slots, SMALL)}
    times = side_by_side(works, STEPS, pairs)
    ratio = round(1 / times[str(slots)]["speedup"], 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    what = f"SAM, N = 2^{slots.bit_length() - 1} over N = 2^12"
    return [row(what, "<= 1.2", ratio, times=times, peak_resident_gib=round(peak, 2))]


def against_rows(backend: str = "auto", pairs: int = 11) -> list[Row]:
    """Time with 2¹⁸ rows written over time with 2¹²; each memory has no others."""

    def written(rows: int) -> Work:
        memory = RowMemory.from_tensor(clustered(rows)[0])
        sizes = (rows, SIZES["cell_size"], SIZES["read_heads"], READS)
        state = memcore.sam.init_state(1, *sizes, memory=memory)
        return sequence(sam(rows, backend), hx=(None, state, None))

    works = {str(rows): written(rows) for rows in (MANY_ROWS, FEW_ROWS)}
    times = side_by_side(works, STEPS, pairs)
    ratio = round(1 / times[str(MANY_ROWS)]["speedup"], 3)
    return [row("SAM, 2^18 rows written over 2^12", "<= 1.5", ratio, times=times)]


def against_dense(backend: str = "auto", pairs: int = 6) -> list[Row]:
    """Time of the dense DAM, our plain one, over that of SAM, at 2²⁰ slots."""
    dense_steps = 4
    sparse = sequence(sam(LARGE, backend))
    plain = DAM(INPUT, HIDDEN, nr_cells=LARGE, backend="reference", **SIZES)
    dense = sequence(plain, dense_steps)
    # Each by its own number of steps: the dense one keeps 0.2 GiB for each.
    ratios, times = [], {"sam": [], "dam": []}
    for _ in range(pairs):
        own = side_by_side({"sam": sparse}, STEPS, pairs=3)["sam"]["ms_a_step"]
        other = side_by_side({"dam": dense}, dense_steps, pairs=1)["dam"]["ms_a_step"]
        times["sam"].append(own)
        times["dam"].append(other)
        ratios.append(other / own)
        gc.collect()
    ratio = round(median(ratios))
    return [row("plain dense DAM over SAM, N = 2^20", ">= 10000", ratio, ms_a_step=times)]


def against_length(backend: str = "auto", pairs: int = 3) -> list[Row]:
    """Time a step of sequences of 1,000 and 10,000 steps, and over one of 100; memory kept."""
    module = sam(LARGE, backend)
    targets = {1000: "<= 0.1", 10_000: "<= 0.3"}
    works = {str(n): partial(train, sequence(module, n)) for n in (STEPS, *targets)}
    times = in_turn(works, pairs)
    ms = {name: round(median(own) / int(name) * 1e3, 4) for name, own in times.items()}
    rows = []
    for steps, target in targets.items():
        ratio = median(pair_ratios(times[str(steps)], times[str(STEPS)]))
        what = f"SAM, N = 2^20, T = {steps}, ms"
        rows.append(
            row(what, target, ms[str(steps)], over_100_steps=round(ratio * STEPS / steps, 3))
        )
    # The profiler that counts bytes would take gigabytes itself for 10,000 steps.
    kept = [kept_for_backward(sequence(module, n)) / n for n in (1000, STEPS)]
    what = "SAM, memory kept a step, T = 1000 over 100"
    return [*rows, row(what, "<= 1.2", round(kept[0] / kept[1], 3), bytes_a_step=kept)]


def memory_kept(backend: str = "auto", pairs: int = 1) -> list[Row]:
    """MiB kept for backward by 100 steps, for three sizes; counted, so that once is enough."""
    rows = []
    for slots in (SMALL, 2**16, LARGE):
        work = sequence(sam(slots, backend))
        work()
        kept = kept_for_backward(work) / 2**20
        what = f"SAM, kept by 100 steps, N = 2^{slots.bit_length() - 1}, MiB"
        rows.append(row(what, "<= 1", round(kept, 2)))
    return rows


def one_step_a_call(backend: str = "auto", pairs: int = 11) -> list[Row]:
    """Time of a call with one step that carries the state: forward; and in training, over a step
    within a sequence.
    """
    module = sam(LARGE, backend)
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

    @torch.no_grad()
    def forward() -> Tensor:
        return calls()

    works = {"calls": calls, "truncated": truncated, "sequence": sequence(module)}
    times = side_by_side(works, STEPS, pairs)
    (taken,) = in_turn({"forward": forward}, pairs).values()
    ms = round(median(taken) / STEPS * 1e3, 3)
    ratio = round(1 / times["calls"]["speedup"], 3)
    return [
        row("SAM, one step a call, N = 2^20, forward, ms", "<= 0.4", ms),
        row("SAM, one step a call over a sequence, N = 2^20", "<= 1.5", ratio, times=times,
            with_a_backward_each_call=round(1 / times["truncated"]["speedup"], 3)),
    ]  # fmt: skip


# Each is given a backend and how many pairs to time.
MEASURES: tuple[Callable[..., list[Row]], ...] = (
    against_dense,
    partial(against_size, LARGE),
    against_length,
    memory_kept,
    one_step_a_call,
    against_rows,
    partial(against_size, HUGE),
)


def measure() -> list[Row]:
    """A row for each line of the targets."""
    rows = []
    for own in MEASURES:
        rows += own()
        gc.collect()
    return rows


if __name__ == "__main__":
    if sys.platform == "darwin":
        print("ru_maxrss is in bytes here: divide the peak by 1024")
    main("sam", measure)
