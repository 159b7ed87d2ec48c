"""Associative recall: pairs of keys and values in, then some of the keys; their values are due.

Rae et al. 2016, arXiv 1610.09027, section 4.2, after Graves et al. 2014. The level is the number of
pairs.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

from memcore import MemcoreError
from task import AddOption, Batch, BitsTask, Shape, check_sizes, number

__all__ = ["AssociativeRecallTask", "associative_recall_batch", "distinct_bits"]


def associative_recall_batch(
    batch: int, pairs: int, bits: int, generator: torch.Generator, *, queries: int = 1
) -> Batch:
    """Pairs of a key and a value, one a step, then some of the keys, whose values are due.

    Args:
        batch: examples B.
        pairs: of an example, with distinct keys: at most 2^bits.
        bits: of a key, and of a value; at most 62.
        generator: what is drawn from; nothing else is.
        queries: keys that are asked for, one a step, each drawn anew.

    Returns:
        Input ``[B, pairs + queries, 2·bits + 1]``, channels of the key, the value and a flag at
        each query, and target ``[B, queries, bits]``.
    """
    check_sizes(batch=batch, pairs=pairs, bits=bits, queries=queries)
    if bits > 62:
        raise MemcoreError(f"bits: expected at most 62, got {bits}")
    if pairs > 2**bits:
        raise MemcoreError(f"pairs: expected at most 2^bits = {2**bits} distinct keys, got {pairs}")
    keys = distinct_bits(batch, pairs, bits, generator)
    values = torch.randint(0, 2, (batch, pairs, bits), generator=generator).float()
    asked = torch.randint(0, pairs, (batch, queries), generator=generator)
    every = torch.arange(batch).unsqueeze(1)
    input = torch.zeros(batch, pairs + queries, 2 * bits + 1)
    input[:, :pairs, :bits], input[:, :pairs, bits:-1] = keys, values
    input[:, pairs:, :bits], input[:, pairs:, -1] = keys[every, asked], 1
    return Batch(input, values[every, asked])


class AssociativeRecallTask(BitsTask):
    """A pair a step, key and value side by side; then query flags with a key each.

    Channels in: the bits of the key, as many of the value, the flag. Channels out: the bits of
    the value, due at the query.
    """

    name = "associative_recall"
    metrics = ("bit error", "share of wrong values")
    multiples = (1, 1.5, 2)
    # That memory helps is discovered many times as fast with several queries, with slots that have
    # room for key and value, and by a controller that cannot remember by itself. The slots that are
    # read but empty count as accessed, so that many more than pairs are needed.
    defaults: dict[str, Any] = {
        "input_size": 33,
        "rnn_type": "linear",
        "nhid": 128,
        "sequence_max_length": 4,
        "curriculum": "exponential",
        "curriculum_threshold": 0.02,
        "queries": 8,
        "memory_type": "sam",
        "mem_slot": 16384,
        "mem_size": 64,
        "read_heads": 1,
        "sparse_reads": 4,
        "nhlayer": 1,
        "optim": "rmsprop",
        "lr": 0.001,
        "batch_size": 64,
        "batch_budget": 8192,
    }

    def add_options(self, add: AddOption) -> None:
        """How much is asked of a sequence."""
        add("queries", number(int, 1, 2**20), 1, "keys that are asked for at the end")

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
        bits, queries = options.input_size // 2, options.queries
        return associative_recall_batch(batch_size, shape[0], bits, generator, queries=queries)

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
