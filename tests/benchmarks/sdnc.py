"""The SDNC's training step against its size and the dense DNC of the package `dnc` (1.1.0).

``pip install --no-deps dnc==1.1.0``, then ``python tests/benchmarks/sdnc.py``; the peer needs
3 GiB and most of the time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from contenders import peer_package
from harness import Work, main, side_by_side
from scaling import kept_for_backward
from torch_adapters import SDNC
from torch_adapters.recurrence import MemoryRNN

INPUT, HIDDEN = 8, 100
SIZES: dict[str, Any] = {"num_hidden_layers": 1, "cell_size": 32, "read_heads": 4}
SMALL, LARGE = 2**12, 2**20
PEER_BATCH, PEER_SLOTS, PEER_STEPS = 8, 2048, 2

Row = dict[str, Any]


def sequence(module: MemoryRNN, batch: int, steps: int) -> Work:
    """A sequence from an empty memory, the making of the state included."""
    input = torch.randn(batch, steps, INPUT)
    return lambda: module(input)[0]


def sdnc(slots: int, backend: str = "auto") -> MemoryRNN:
    """R = K = K_L = 4, W = 32."""
    options: dict[str, Any] = {"sparse_reads": 4, "temporal_reads": 4, "backend": backend}
    return SDNC(INPUT, HIDDEN, nr_cells=slots, **options, **SIZES)


def against_size(backend: str = "auto", pairs: int = 11) -> list[Row]:
    """Time at 2²⁰ over time at 2¹², one example."""
    works = {str(n): sequence(sdnc(n, backend), 1, 100) for n in (LARGE, SMALL)}
    times = side_by_side(works, 100, pairs)
    ratio = round(1 / times[str(LARGE)]["speedup"], 3)
    what = "SDNC, N = 2^20 over N = 2^12"
    return [{"what": what, "target": "", "reached": ratio, "times": times}]


def against_peer(backend: str = "auto", pairs: int = 5) -> list[Row]:
    """Time and memory of the peer's dense DNC over those of the SDNC, B = 8, N = 2048."""
    at = f"B = {PEER_BATCH}, N = {PEER_SLOTS}"
    whats = (f"peer's DNC over the SDNC, {at}", f"the same, memory kept a step, {at}")
    targets = (">= 2000", ">= 240")
    package = peer_package()
    if package is None:
        return [
            {"what": what, "target": target, "reached": None, "reason": "peer not installed"}
            for what, target in zip(whats, targets, strict=True)
        ]
    peer = package.DNC(INPUT, HIDDEN, nr_cells=PEER_SLOTS, gpu_id=-1, **SIZES)
    input = torch.randn(PEER_BATCH, PEER_STEPS, INPUT)

    def dense() -> torch.Tensor:
        return peer(input, (None, None, None))[0]

    steps = 20
    sparse = sequence(sdnc(PEER_SLOTS, backend), PEER_BATCH, steps)
    ratios, times = [], {"peer": [], "sdnc": []}
    for _ in range(pairs):
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
    return [
        {"what": whats[0], "target": targets[0], "reached": round(median(ratios)),
         "ms_a_step": times},
        {"what": whats[1], "target": targets[1], "reached": round(kept["peer"] / kept["sdnc"]),
         "mib_a_step": kept},
    ]  # fmt: skip


# Each is given a backend and how many pairs to time.
MEASURES: tuple[Callable[..., list[Row]], ...] = (against_peer, against_size)


def measure() -> list[Row]:
    """A row for each line of the targets."""
    return [row for own in MEASURES for row in own()]


if __name__ == "__main__":
    main("sdnc", measure)
