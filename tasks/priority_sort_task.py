"""Priority sort: vectors with a priority each come in; those of the highest are due, in order.

Rae et al. 2016, arXiv 1610.09027, section 4.2, after Graves et al. 2014. The level is the number of
vectors.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch

from training import Batch, BitsTask, main

__all__ = ["PrioritySortTask"]

DUE = 0.8  # share of the vectors: 16 of 20 in Graves et al. 2014


class PrioritySortTask(BitsTask):
    """Bits with a priority in [−1, 1], an end flag, blank steps; four fifths are due, sorted.

    Channels in: the bits, the priority, the flag. Channels out: the bits, from the highest
    priority downwards.
    """

    name = "priority_sort"
    multiples = (1, 1.5, 2)
    defaults: dict[str, Any] = {
        "input_size": 8,
        "sequence_max_length": 2,
        "curriculum": "exponential",
        "curriculum_threshold": 0.05,
        "memory_type": "sam",
        "mem_slot": 1024,
        "mem_size": 32,
        "read_heads": 1,
        "sparse_reads": 16,
        "nhid": 100,
        "nhlayer": 1,
        "optim": "rmsprop",
        "lr": 0.001,
        "batch_size": 64,
    }

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """Two more channels than bits in, the bits out."""
        if options.input_size < 3:
            raise SystemExit(f"-input_size {options.input_size}: priority sort needs at least 3")
        return options.input_size, options.input_size - 2

    def batch(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Input ``[B, L + 1 + due, bits + 2]`` and target ``[B, due, bits]``."""
        width, due = options.input_size - 2, math.ceil(DUE * length)
        bits = torch.randint(0, 2, (batch_size, length, width), generator=generator).float()
        priority = 2 * torch.rand(batch_size, length, generator=generator) - 1
        input = torch.zeros(batch_size, length + 1 + due, options.input_size)
        input[:, :length, :width], input[:, :length, width] = bits, priority
        input[:, length, -1] = 1
        order = priority.argsort(dim=1, descending=True, stable=True)[:, :due]
        return Batch(input, bits.gather(1, order.unsqueeze(2).expand(-1, -1, width)))


if __name__ == "__main__":
    main(PrioritySortTask(), "Sort random bit vectors by the priority that each comes with.")
