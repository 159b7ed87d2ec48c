"""Time and memory of a training step against the number of slots, as a table and a figure.

With kernels and without, and beside the least that a dense memory could take: to read and write all
its numbers once forward, and twice that backward, at the bandwidth measured in the same run.
"""

from __future__ import annotations

import argparse
import csv
import gc
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from memcore.backends import numba_is_missing
from memcore.errors import how_to_install
from task import number
from torch_adapters import DAM, DNC, SAM, SDNC
from torch_adapters.recurrence import MemoryRNN

__all__ = ["Row", "bandwidth", "bound", "kept_for_backward", "main", "measure"]

BUDGET = 4 * 2**30  # bytes that a dense memory may keep for backward, by estimate
INPUT, HIDDEN = 8, 100


class Row(NamedTuple):
    """One line of the table."""

    memory: str
    backend: str  # 'reference', 'numba', or 'bound' for what bandwidth alone would take
    slots: int
    steps: int  # of a sequence
    ms_a_step: float  # forward and backward, the making of the state included
    kept_bytes_a_step: int  # by autograd, after the forward pass


KINDS: dict[str, type[MemoryRNN]] = {"sam": SAM, "sdnc": SDNC, "dam": DAM, "dnc": DNC}


def build(
    memory: str, slots: int, word_size: int, read_heads: int, backend: str = "auto"
) -> MemoryRNN:
    """The module that is measured: an LSTM of 100 units with that memory."""
    sizes: dict[str, Any] = {"nr_cells": slots, "cell_size": word_size, "read_heads": read_heads}
    kind: Any = KINDS[memory]
    return kind(INPUT, HIDDEN, num_hidden_layers=1, backend=backend, **sizes)


def estimate(memory: str, slots: int, word_size: int, read_heads: int) -> int:
    """About what a step keeps for backward, to leave out what would not fit."""
    if memory in ("sam", "sdnc"):
        return 0
    # Copies of the memory, of the weightings and, in the DNC, of the links.
    return 4 * slots * (4 * word_size + 6 * read_heads + (8 * slots if memory == "dnc" else 0))


def kept_for_backward(forward: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass takes, of torch's allocator or for kernels' tapes, and keeps.

    ``forward`` returns its output only, so that is what autograd holds, and the output. Unlike
    hooks on saved tensors this also sees what functions keep in other ways.
    """
    gc.collect()
    before = _lent_to_kernels()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        output = forward()
    kept = sum(event.self_cpu_memory_usage for event in seen.key_averages())
    kept += _lent_to_kernels() - before
    del output
    return kept


def _lent_to_kernels() -> int:
    if numba_is_missing():
        return 0
    from memcore.kernels.pages import lent

    return lent()


def bandwidth(repeats: int = 5) -> float:
    """Bytes a second that a copy of a large tensor reads and writes, at best."""
    source = torch.zeros(2**26)
    target, best = torch.zeros_like(source), float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - begin)
    return 2 * 4 * source.numel() / best


def bound(slots: int, word_size: int, bytes_a_second: float) -> Row:
    """A dense memory that does no more than to read and write its numbers, once and twice."""
    seconds = 6 * 4 * slots * word_size / bytes_a_second
    return Row("dense", "bound", slots, 1, round(seconds * 1e3, 6), 0)


def measure(
    memory: str,
    slots: int,
    steps: int,
    repeats: int,
    word_size: int = 32,
    read_heads: int = 4,
    backend: str = "auto",
) -> Row:
    """One training step of one example, the median of some."""
    module = build(memory, slots, word_size, read_heads, backend)
    input = torch.randn(1, steps, INPUT)

    def forward() -> Tensor:
        return module(input)[0].sum()

    def train() -> float:
        begin = time.perf_counter()
        forward().backward()
        return (time.perf_counter() - begin) / steps * 1e3

    train()
    kept = kept_for_backward(forward)
    times = [train() for _ in range(repeats)]
    del module
    gc.collect()
    return Row(memory, backend, slots, steps, round(median(times), 4), kept // steps)


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write the table, draw the figure."""
    options = _parse(argv)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    where = f"{_processor()}, {options.threads} threads, torch {torch.__version__}"
    print(where)
    exponents = range(options.least, options.most + 1, options.stride)
    rows = []
    for memory in options.memories:
        for backend in options.backends:
            for exponent in exponents:
                row = _measured(memory, backend, 2**exponent, options)
                if row is None:
                    break
                rows.append(row)
    rate = bandwidth()
    print(f"bandwidth of a copy: {rate / 1e9:.1f} GB a second")
    rows += [bound(2**exponent, options.mem_size, rate) for exponent in exponents]
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "scaling.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    print(f"table: {table}")
    _draw(options.out / "scaling.png", rows, where)


def _measured(memory: str, backend: str, slots: int, options: argparse.Namespace) -> Row | None:
    """The row of one size; None where it would not fit."""
    sizes = options.mem_size, options.read_heads
    kept, steps = estimate(memory, slots, *sizes), options.steps
    while steps > 2 and steps * kept > BUDGET:
        steps //= 2
    if steps * kept > BUDGET:
        gib = kept / 2**30
        print(f"{memory}, {backend}, {slots} slots: left out, would keep {gib:.1f} GiB a step")
        return None
    row = measure(memory, slots, steps, options.repeats, *sizes, backend)
    print(
        f"{memory}, {backend}, {slots:9d} slots: {row.ms_a_step:10.4f} ms a step, "
        f"{row.kept_bytes_a_step / 2**10:12.1f} KiB kept for backward a step",
        flush=True,
    )
    return row


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )

    def add(name: str, default: Any, help: str, **more: Any) -> None:
        kind = number(int, 1) if type(default) is int else type(default)
        parser.add_argument(
            f"-{name}", f"--{name}", default=default, help=help, **{"type": kind, **more}
        )

    add("memories", list(KINDS), "which to measure", nargs="+", choices=list(KINDS), type=str)
    backends = ["reference"] if numba_is_missing() else ["reference", "numba"]
    add("backends", backends, "which to run", nargs="+", choices=["reference", "numba"], type=str)
    add("least", 6, "fewest slots, as a power of two", type=number(int, 2, 40))  # 4 are read
    add("most", 24, "most slots, as a power of two", type=number(int, 1, 40))
    add("stride", 2, "between the powers")
    add("steps", 100, "of a sequence; halved for a dense memory until it fits")
    add("repeats", 5, "training steps, after one to warm up")
    add("mem_size", 32, "width of a slot")
    add("read_heads", 4, "read heads")
    add("threads", 2, "of torch")
    add("out", Path("scaling"), "folder for the table and the figure")
    options = parser.parse_args(argv)
    if options.most < options.least:
        parser.error(f"-most {options.most}: expected at least -least, {options.least}")
    return options


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _draw(path: Path, rows: list[Row], where: str) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no figure: matplotlib is not installed ({how_to_install('viz')})")
        return
    figure = Figure(figsize=(11, 5.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(f"A training step against the number of slots\n{where}", fontsize="medium")
    left, right = figure.subplots(1, 2)
    colours = dict(zip(KINDS, ("tab:blue", "tab:orange", "tab:green", "tab:red"), strict=True))
    for memory, backend in dict.fromkeys((row.memory, row.backend) for row in rows):
        own = [row for row in rows if (row.memory, row.backend) == (memory, backend)]
        slots = [row.slots for row in own]
        times, kept = ([row.ms_a_step for row in own], [row.kept_bytes_a_step for row in own])
        if backend == "bound":
            left.loglog(slots, times, ":", color="grey", label="dense, at the memory's bandwidth")
            continue
        style = "o-" if backend == "numba" else "x--"
        label = f"{memory.upper()}, {'kernels' if backend == 'numba' else backend}"
        left.loglog(slots, times, style, color=colours[memory], label=label)
        mib = [bytes_a_step / 2**20 for bytes_a_step in kept]
        right.loglog(slots, mib, style, color=colours[memory], label=label)
    for axis, what in ((left, "time a step (ms)"), (right, "kept for backward a step (MiB)")):
        axis.set_xscale("log", base=2)
        axis.set_xlabel("slots")
        axis.set_ylabel(what)
        axis.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=110)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
