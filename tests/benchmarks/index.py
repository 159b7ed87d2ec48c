"""The search indexes against each other: cost, recall and memory, drift, SAM, break-even.

``python tests/benchmarks/index.py``; needs the extras ``faiss`` and ``flann`` for all rows, and
Linux for the resident memory. Rows are clustered: one centre for 64 rows, standard deviation 1 in
each of 32 components, rows around them with 0.4, keys around rows with 0.1. A step is that of SAM
with 4 heads and 4 reads: 17 rows updated, 4 keys searched. Each number is of a process of its own.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from harness import main
from memcore import Index, RowMemory, make_index, sam
from memcore.index.libraries import has_library

WIDTH, HEADS, READS, TOUCHED = 32, 4, 4, 17
KINDS = ["exact", *(name for name in ("faiss", "flann") if has_library(name))]
SIZES = (2**12, 2**16, 2**20)
DRIFTING, REWRITES = 2**16, 100_000
SAM_ROWS = 2**18


def make(name: str, slots: int, batch: int = 1) -> Index:
    """An index of the sizes measured."""
    return make_index(name, batch_size=batch, slots=slots, word_size=WIDTH)


def clustered(rows: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``[batch, rows, W]``, their centres, and which each is around."""
    centres = torch.randn(batch, rows // 64, WIDTH)
    chosen = torch.randint(rows // 64, (batch, rows, 1)).expand(-1, -1, WIDTH)
    return centres.gather(1, chosen) + 0.4 * torch.randn(batch, rows, WIDTH), centres, chosen


def keys_near(rows: Tensor, count: int = HEADS) -> Tensor:
    """Keys ``[batch, count, W]`` near some rows."""
    chosen = torch.randint(rows.shape[1], (len(rows), count, 1)).expand(-1, -1, WIDTH)
    return rows.gather(1, chosen) + 0.1 * torch.randn(len(rows), count, WIDTH)


def recall(index: Index, rows: Tensor) -> float:
    """recall@4 of 256 keys."""
    keys = keys_near(rows, 256)
    wanted = (torch.nn.functional.normalize(rows, dim=2) @ keys.mT).mT.topk(READS).indices
    found = index.search(keys, READS)
    return round(float((found.unsqueeze(3) == wanted.unsqueeze(2)).any(3).double().mean()), 3)


def resident() -> float:
    """MiB that this process holds."""
    gc.collect()
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * 4096 / 2**20 if pages.exists() else float("nan")


def timed(work: Callable[[int], object], times: int) -> list[float]:
    """ms of each call."""
    taken = []
    for number in range(times):
        begin = time.perf_counter()
        work(number)
        taken.append((time.perf_counter() - begin) * 1e3)
    return taken


def one_step(index: Index, rows: Tensor, steps: int) -> dict[str, Any]:
    """Update and search of some steps that rewrite rows by others of their cluster."""
    slots = torch.randint(rows.shape[1], (steps, len(rows), TOUCHED))
    updates, searches = [], []
    for own in slots:
        values = rows.gather(1, own.unsqueeze(2).expand(-1, -1, WIDTH))
        values = values + 0.05 * torch.randn_like(values)
        keys = keys_near(rows)
        updates += timed(lambda _, own=own, values=values: index.update(own, values), 1)
        searches += timed(lambda _, keys=keys: index.search(keys, READS), 1)
        rows.scatter_(1, own.unsqueeze(2).expand(-1, -1, WIDTH), values)
    return {
        "update_ms": round(median(updates), 3),
        "search_ms": round(median(searches), 3),
        "step_mean_ms": round(mean(updates) + mean(searches), 3),
    }


def against_size(name: str, slots: int) -> dict[str, Any]:
    """All rows written."""
    rows = clustered(slots)[0]
    memory = RowMemory.from_tensor(rows)
    library = make(name, 2**12)
    library.search(rows[:, :1], 1)  # its package takes memory, too
    before = resident()
    index = make(name, slots)
    begin = time.perf_counter()
    index.reset(memory)
    build = time.perf_counter() - begin
    held = resident() - before
    return {
        "what": "all rows written",
        "build_s": round(build, 2),
        "recall": recall(index, rows),
        "resident_mib": round(held),
        **one_step(index, rows, 200),
    }


def drift(name: str, slots: int) -> dict[str, Any]:
    """Rows rewritten by chance, each time nearer to where their centre goes, another place."""
    rows, centres, chosen = clustered(slots)
    index = make(name, slots)
    index.reset(RowMemory.from_tensor(rows))
    begin, goals, steps = recall(index, rows), torch.randn_like(centres), REWRITES // TOUCHED
    updates = []
    for number in range(steps):
        own = torch.randint(slots, (1, TOUCHED)).unsqueeze(2).expand(-1, -1, WIDTH)
        share = number / steps
        centre = chosen.gather(1, own)
        values = (1 - share) * centres.gather(1, centre) + share * goals.gather(1, centre)
        values = values + 0.4 * torch.randn_like(values)
        rows.scatter_(1, own, values)
        slot = own[:, :, 0].contiguous()
        updates += timed(lambda _, s=slot, v=values: index.update(s, v), 1)
    return {
        "what": f"{REWRITES} rows rewritten while they drift",
        "recall_before": begin,
        "recall": recall(index, rows),
        "update_ms": round(median(updates), 3),
        "update_mean_ms": round(mean(updates), 3),
        "update_max_ms": round(max(updates)),
    }


def in_sam(name: str, slots: int) -> dict[str, Any]:
    """A step of SAM, all rows written, over one of an empty memory."""
    vectors = torch.randn(60, 1, sam.interface_size(WIDTH, HEADS))
    parsed = [
        torch.func.vmap(lambda own: sam.parse_interface(own, WIDTH, HEADS))(vector)
        for vector in vectors
    ]
    taken = {}
    for what, memory in (("none", None), ("all", RowMemory.from_tensor(clustered(slots)[0]))):
        state = sam.init_state(1, slots, WIDTH, HEADS, READS, memory=memory, index=name)
        times = []
        for interface in parsed:
            begin = time.perf_counter()
            state = sam.step(state, interface)[1]
            times.append((time.perf_counter() - begin) * 1e3)
        taken[what] = median(times[10:])
    return {
        "what": f"a step of SAM, {slots} rows written against none",
        "ms": {what: round(ms, 3) for what, ms in taken.items()},
        "ratio": round(taken["all"] / taken["none"], 2),
    }


def break_even(name: str, slots: int, batch: int = 1) -> dict[str, Any]:
    """A step where `auto` may change over."""
    rows = clustered(slots, batch)[0]
    index = make(name, slots, batch)
    index.reset(RowMemory.from_tensor(rows))
    step = one_step(index, rows, 200)
    return {"what": f"break-even, B = {batch}", **step}


def break_even_of_8(name: str, slots: int) -> dict[str, Any]:
    """The same of a batch of 8."""
    return break_even(name, slots, 8)


WORKS = {work.__name__: work for work in (against_size, drift, in_sam, break_even, break_even_of_8)}


def measure() -> list[dict[str, Any]]:
    """A row for each index, size and question."""
    jobs = [("against_size", name, slots) for slots in SIZES for name in KINDS]
    jobs += [("drift", name, DRIFTING) for name in KINDS]
    jobs += [("in_sam", name, SAM_ROWS) for name in [*KINDS, "auto"]]
    for slots in (2**12, 2**13, 2**14, 2**15, 2**16):
        jobs += [("break_even", name, slots) for name in KINDS]
    for slots in (2**11, 2**12, 2**13, 2**14):
        jobs += [("break_even_of_8", name, slots) for name in KINDS]
    return [elsewhere(*job) for job in jobs]


def elsewhere(work: str, name: str, slots: int) -> dict[str, Any]:
    """One row, from a process of its own."""
    threads = str(torch.get_num_threads())
    command = [sys.executable, __file__, "--one", work, name, str(slots), threads]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row = json.loads(result.stdout)
    print(row, flush=True)
    return row


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        work, name, slots, threads = sys.argv[2:]
        torch.set_num_threads(int(threads))
        torch.manual_seed(0)
        print(json.dumps({"index": name, "slots": int(slots), **WORKS[work](name, int(slots))}))
    else:
        main("index", measure)
