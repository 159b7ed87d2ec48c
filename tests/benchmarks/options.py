"""What each option of later papers costs: time of a training step and bytes kept for backward.

``python tests/benchmarks/options.py`` compares each with the model without, by kernels, at the
three sizes of the DNC's targets and for an SDNC of 65,536 slots, all of a size in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

from contenders import WIDTH, forward, training
from dense_lines import SIZES
from harness import in_turn, main, pair_ratios
from memcore.kernels import pages
from scaling import kept_for_backward
from torch_adapters import DNC, SDNC
from torch_adapters.recurrence import MemoryRNN

PAIRS = 7
OF_ALL: dict[str, dict[str, Any]] = {
    "none": {},
    "none again": {},  # how far equals are apart
    "masking": {"masking": True},
    "temperature 2": {"temperature": 2},
    "layer norm": {"layer_norm": True},
    "bypass dropout": {"bypass_dropout": 0.1},
    "bidirectional": {"bidirectional": True},
    "learned memory": {"learned_memory": True},
    "feed-forward controller": {"rnn_type": "linear"},
}
OF_THE_DNC: dict[str, dict[str, Any]] = {
    "deallocation": {"deallocation": True},
    "link sharpness": {"link_sharpness": True},
    "masking, deallocation, sharpness": {
        "masking": True,
        "deallocation": True,
        "link_sharpness": True,
    },
    "two write heads": {"write_heads": 2},
}


def rows(
    size: str, build: Callable[..., MemoryRNN], input: Tensor, options: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row for each option: ms a time step, and time and bytes as multiples of those without."""
    modules = {name: build(**own) for name, own in options.items()}
    works = {name: forward(own, input) for name, own in modules.items()}
    # A tape may be twice as long as asked for, where one is free that another left.
    pages.forget()
    limit, pages.LIMIT = pages.LIMIT, 0
    kept = {name: kept_for_backward(work) for name, work in works.items()}
    pages.LIMIT = limit
    times = in_turn({name: training(own, input) for name, own in modules.items()}, PAIRS)
    return [
        {
            "what": size,
            "option": name,
            "ms_a_step": round(median(times[name]) / input.shape[1] * 1e3, 4),
            "time": round(median(pair_ratios(times[name], times["none"])), 2),
            "kept_mb": round(kept[name] / 1e6, 2),
            "kept": round(kept[name] / kept["none"], 2),
        }
        for name in options
    ]


def measure() -> list[dict[str, Any]]:
    """The DNC at three sizes, and the SDNC."""
    found: list[dict[str, Any]] = []
    for size, setting in SIZES.items():

        def dnc(setting: Any = setting, **own: Any) -> DNC:
            return DNC(WIDTH, setting.hidden_size, backend="numba", **setting.options, **own)

        found += rows(f"DNC {size}", dnc, setting.input(), {**OF_ALL, **OF_THE_DNC})

    def sdnc(**own: Any) -> SDNC:
        sizes: dict[str, Any] = {"nr_cells": 65_536, "cell_size": 32, "index": "exact"}
        return SDNC(WIDTH, 128, num_hidden_layers=1, backend="numba", **sizes, **own)

    return found + rows("SDNC 65,536", sdnc, torch.randn(4, 50, WIDTH), OF_ALL)


if __name__ == "__main__":
    main("options", measure)
