"""The DNC's training step beside that of the package `dnc` (1.1.0), if it is installed.

``pip install --no-deps dnc==1.1.0``, then ``python tests/benchmarks/dnc.py``.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch

from harness import Work, main, side_by_side
from scaling import kept_for_backward
from torch_adapters import DNC

# This script is called like the peer's package: look for that elsewhere only.
sys.path = [folder for folder in sys.path if not folder.endswith("benchmarks")]

BATCH, STEPS, WIDTH = 16, 20, 8
SIZES = {  # slots, word size, read heads, hidden size
    "small": (16, 16, 4, 64),
    "middle": (64, 32, 4, 128),
    "large": (256, 64, 4, 256),
}
TARGETS = {"small": 1.5, "middle": 1.5, "large": 2.5}
MEMORY_TARGET = 0.5


def build(size: str) -> dict[str, Work]:
    """Training steps by name, the peer's last."""
    slots, word_size, read_heads, hidden_size = SIZES[size]
    options: dict[str, Any] = {
        "num_hidden_layers": 1,
        "nr_cells": slots,
        "cell_size": word_size,
        "read_heads": read_heads,
    }
    input = torch.randn(BATCH, STEPS, WIDTH)
    ours = DNC(WIDTH, hidden_size, **options)
    works: dict[str, Work] = {"memcore": lambda: ours(input)[0]}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dnc as peer_package  # pyright: ignore
    except ImportError:
        return works
    peer = peer_package.DNC(WIDTH, hidden_size, gpu_id=-1, **options)
    works["peer"] = lambda: peer(input, (None, None, None))[0]
    return works


def measure() -> list[dict[str, Any]]:
    """A row for each size."""
    rows = []
    for size, target in TARGETS.items():
        works = build(size)
        row: dict[str, Any] = {"size": size, "target_speedup": target}
        row.update(side_by_side(works, STEPS))
        kept = {name: kept_for_backward(work) for name, work in works.items()}
        row["kept_mb"] = {name: round(count / 1e6, 1) for name, count in kept.items()}
        if "peer" in kept:
            row["kept_ratio"] = round(kept["memcore"] / kept["peer"], 3)
            row["target_kept_ratio"] = MEMORY_TARGET if size == "large" else None
        rows.append(row)
    return rows


if __name__ == "__main__":
    main("dnc", measure)
