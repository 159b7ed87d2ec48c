"""Associative recall: pairs of keys and values in, then one of the keys; its value is due.

Rae et al. 2016, arXiv 1610.09027, section 4.2, after Graves et al. 2014. The level is the number of
pairs.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from task import Batch, BitsTask, Shape, check_sizes

__all__ = ["AssociativeRecallTask", "associative_recall_batch", "distinct_bits"]


def associative_recall_batch(
    batch: int, pairs: int, bits: int, generator: torch.Generator
) -> Batch:
    """Pairs of a key and a value, one a step, then one of the keys, whose value is due.

    Args:
        batch: examples B.
        pairs: of an example, with distinct keys: at most 2^bits.
        bits: of a key, and of a value.
        generator: what is drawn from; nothing else is.

    Returns:
        Input ``[B, pairs + 1, 2·bits + 1]``, channels of the key, the value and a flag at the
        query, and target ``[B, 1, bits]``.
    """
    check_sizes(batch=batch, pairs=pairs, bits=bits)
    keys = distinct_bits(batch, pairs, bits, generator)
    values = torch.randint(0, 2, (batch, pairs, bits), generator=generator).float()
    asked = torch.randint(0, pairs, (batch,), generator=generator)
    every = torch.arange(batch)
    input = torch.zeros(batch, pairs + 1, 2 * bits + 1)
    input[:, :-1, :bits], input[:, :-1, bits:-1] = keys, values
    input[:, -1, :bits], input[:, -1, -1] = keys[every, asked], 1
    return Batch(input, values[every, asked].unsqueeze(1))


class AssociativeRecallTask(BitsTask):
    """A pair a step, key and value side by side; then a query flag with a key.

    Channels in: the bits of the key, as many of the value, the flag. Channels out: the bits of
    the value, due at the query.
    """

    name = "associative_recall"
    metrics = ("bit error", "share of wrong values")
    multiples = (1, 1.5, 2)
    # A head sees 16 slots: with 4 it takes many times as long to discover that memory helps. The
    # slots that are read but empty count as accessed, so that many more than pairs are needed.
    defaults: dict[str, Any] = {
        "input_size": 17,
        "sequence_max_length": 8,
        "curriculum": "exponential",
        "curriculum_threshold": 0.02,
        "memory_type": "sam",
        "mem_slot": 4096,
        "mem_size": 32,
        "read_heads": 1,
        "sparse_reads": 16,
        "nhlayer": 1,
        "optim": "rmsprop",
        "lr": 0.001,
        "batch_size": 128,
    }

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """Two vectors of bits and a flag in, one vector out."""
        if options.input_size % 2 == 0 or not 3 <= options.input_size <= 125:
            raise SystemExit(
                f"-input_size {options.input_size}: expected an odd number from 3 to 125, for "
                "the bits of a key, as many of a value, and a flag"
            )
        if options.sequence_max_length > self.longest(options):
            raise SystemExit(
                f"-sequence_max_length {options.sequence_max_length}: with -input_size "
                f"{options.input_size} there are {self.longest(options)} distinct keys"
            )
        return options.input_size, options.input_size // 2

    def longest(self, options: argparse.Namespace) -> int:
        """As many pairs as there are distinct keys."""
        return 2 ** (options.input_size // 2)

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `associative_recall_batch`; the shape is the number of pairs."""
        return associative_recall_batch(batch_size, shape[0], options.input_size // 2, generator)

    def score(self, output: Tensor, target: Tensor) -> tuple[float, ...]:
        """Share of wrong bits, and of values with a wrong bit."""
        wrong = self.wrong(output, target)
        return wrong.float().mean().item(), wrong.any(2).float().mean().item()


def distinct_bits(batch: int, count: int, width: int, generator: torch.Generator) -> Tensor:
    """Random vectors of bits ``[batch, count, width]``, all different in each example."""
    if width <= 12 or 4 * count > 2**width:
        ranks = torch.rand(batch, 2**width, generator=generator).argsort(1)[:, :count]
    else:
        ranks = torch.randint(0, 2**width, (batch, count), generator=generator)
        while (again := _repeated(ranks)).any():
            fresh = torch.randint(0, 2**width, (int(again.sum()),), generator=generator)
            ranks[again] = fresh
    return (ranks.unsqueeze(-1) >> torch.arange(width) & 1).float()


def _repeated(ranks: Tensor) -> Tensor:
    """Which numbers of each row stand further to the front as well."""
    ordered, place = ranks.sort(dim=1, stable=True)
    same = ordered.diff(dim=1).eq(0)
    return torch.zeros_like(ranks, dtype=torch.bool).scatter(1, place[:, 1:], same)


if __name__ == "__main__":
    from training import main

    main(AssociativeRecallTask(), "Recall the value that was stored with a key.")
