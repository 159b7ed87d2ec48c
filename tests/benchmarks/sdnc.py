"""The SDNC's training step against its size and the dense DNC of the package `dnc` (1.1.0).

``pip install --no-deps dnc==1.1.0``, then ``python tests/benchmarks/sdnc.py``; the peer needs
3 GiB and most of the time. Last, SAM over a hundred times the time steps.
"""

from __future__ import annotations

import gc
import sys
import time
import warnings
from statistics import median
from typing import Any

import torch

from harness import Work, main, side_by_side, train
from scaling import kept_for_backward
from torch_adapters import SAM, SDNC
from torch_adapters.recurrence import MemoryRNN

# This script is called like nothing of the peer's, its neighbour is: look elsewhere only.
sys.path = [folder for folder in sys.path if not folder.endswith("benchmarks")]

INPUT, HIDDEN = 8, 100
SIZES: dict[str, Any] = {"num_hidden_layers": 1, "cell_size": 32, "read_heads": 4}
SMALL, LARGE = 2**12, 2**20
PEER_BATCH, PEER_SLOTS, PEER_STEPS = 8, 2048, 2


def sequence(module: MemoryRNN, batch: int, steps: int) -> Work:
    """A sequence from an empty memory, the making of the state included."""
    input = torch.randn(batch, steps, INPUT)
    return lambda: module(input)[0]


def sdnc(slots: int) -> MemoryRNN:
    """R = K = K_L = 4, W = 32."""
    return SDNC(INPUT, HIDDEN, nr_cells=slots, sparse_reads=4, temporal_reads=4, **SIZES)


def against_size() -> dict[str, Any]:
    """Time at 2²⁰ over time at 2¹², one example."""
    works = {str(n): sequence(sdnc(n), 1, 100) for n in (LARGE, SMALL)}
    times = side_by_side(works, 100, pairs=11)
    ratio = round(1 / times[str(LARGE)]["speedup"], 3)
    what = f"an SDNC training step at N = {LARGE} over one at N = {SMALL}"
    return {"what": what, "target": "none given; SAM's is <= 1.3", "reached": ratio, "times": times}


def against_peer() -> list[dict[str, Any]]:
    """Time and memory of the peer's dense DNC over those of the SDNC, B = 8, N = 2048."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dnc as peer_package  # pyright: ignore
    except ImportError:
        print("the package dnc is not installed: pip install --no-deps dnc==1.1.0")
        return []
    peer = peer_package.DNC(INPUT, HIDDEN, nr_cells=PEER_SLOTS, gpu_id=-1, **SIZES)
    input = torch.randn(PEER_BATCH, PEER_STEPS, INPUT)

    def dense() -> torch.Tensor:
        return peer(input, (None, None, None))[0]

    steps = 20
    sparse = sequence(sdnc(PEER_SLOTS), PEER_BATCH, steps)
    ratios, times = [], {"peer": [], "sdnc": []}
    for _ in range(5):
        # Each by its own number of steps: the dense one keeps a gigabyte for each.
        own = side_by_side({"sdnc": sparse}, steps, pairs=5)["sdnc"]["ms_a_step"]
        other = side_by_side({"peer": dense}, PEER_STEPS, pairs=1)["peer"]["ms_a_step"]
        times["sdnc"].append(own)
        times["peer"].append(other)
        ratios.append(other / own)
        gc.collect()
    kept = {
        "peer": kept_for_backward(dense) / PEER_STEPS / 2**20,
        "sdnc": kept_for_backward(sparse) / steps / 2**20,
    }
    at = f"B = {PEER_BATCH}, N = {PEER_SLOTS}"
    return [
        {"what": f"the peer's DNC over the SDNC, time, {at}", "target": ">= 200",
         "reached": round(median(ratios)), "ms_a_step": times},
        {"what": f"the peer's DNC over the SDNC, memory kept by a step, {at}", "target": ">= 240",
         "reached": round(kept["peer"] / kept["sdnc"]), "mib_a_step": kept},
    ]  # fmt: skip


def against_length() -> list[dict[str, Any]]:
    """SAM's time and memory a step over 10,000 steps over those over 100."""
    module = SAM(INPUT, HIDDEN, nr_cells=LARGE, sparse_reads=4, **SIZES)
    long, short = sequence(module, 1, 10_000), sequence(module, 1, 100)
    train(short)
    times: dict[str, list[float]] = {"long": [], "short": []}
    for _ in range(3):
        # In turn; of the short ones the median counts.
        for name, work, steps, repeats in (("short", short, 100, 30), ("long", long, 10_000, 1)):
            taken = []
            for _ in range(repeats):
                begin = time.perf_counter()
                train(work)
                taken.append((time.perf_counter() - begin) / steps * 1e3)
            times[name].append(median(taken))
    ratios = [b / a for a, b in zip(times["short"], times["long"], strict=True)]
    # The profiler that counts bytes would take gigabytes itself for 10,000 steps.
    thousand = sequence(module, 1, 1000)
    kept = [kept_for_backward(work) / steps for work, steps in ((thousand, 1000), (short, 100))]
    what = "SAM, a step of 10,000 over one of 100"
    return [
        {"what": f"{what}, time", "target": "<= 1.2", "reached": round(median(ratios), 3),
         "ms_a_step": times},
        {"what": "SAM, a step of 1,000 over one of 100, memory kept", "target": "<= 1.2",
         "reached": round(kept[0] / kept[1], 3), "bytes_a_step": [round(count) for count in kept]},
    ]  # fmt: skip


def measure() -> list[dict[str, Any]]:
    """A row for each line of the targets."""
    return [against_size(), *against_peer(), *against_length()]


if __name__ == "__main__":
    main("sdnc", measure)
