"""Priority sort: vectors with a priority each come in; those of the highest are due, in order.

Rae et al. 2016, arXiv 1610.09027, section 4.2, after Graves et al. 2014. The level is the number of
vectors.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch

from task import Batch, BitsTask, Shape, check_sizes

__all__ = ["PrioritySortTask", "priority_sort_batch"]

DUE = 0.8  # share of the vectors: 16 of 20 in Graves et al. 2014


def priority_sort_batch(batch: int, length: int, bits: int, generator: torch.Generator) -> Batch:
    """Vectors with a priority each, an end flag, blank steps; four fifths are due, sorted.

    Args:
        batch: examples B.
        length: vectors L.
        bits: of a vector.
        generator: what is drawn from; nothing else is.

    Returns:
        Input ``[B, L + 1 + due, bits + 2]``, channels of the bits, the priority in [−1, 1] and the
        flag, and target ``[B, due, bits]`` from the highest priority downwards, due = ⌈0.8·L⌉.
    """
    check_sizes(batch=batch, length=length, bits=bits)
    due = math.ceil(DUE * length)
    vectors = torch.randint(0, 2, (batch, length, bits), generator=generator).float()
    priority = 2 * torch.rand(batch, length, generator=generator) - 1
    input = torch.zeros(batch, length + 1 + due, bits + 2)
    input[:, :length, :bits], input[:, :length, bits] = vectors, priority
    input[:, length, -1] = 1
    order = priority.argsort(dim=1, descending=True, stable=True)[:, :due]
    return Batch(input, vectors.gather(1, order.unsqueeze(2).expand(-1, -1, bits)))


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
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `priority_sort_batch`; the shape is the length."""
        return priority_sort_batch(batch_size, shape[0], options.input_size - 2, generator)


if __name__ == "__main__":
    from training import main

    main(PrioritySortTask(), "Sort random bit vectors by the priority that each comes with.")
