"""Multi-query associative recall: keys and values as tokens in turn, then many of the keys.

Arora et al. 2023, arXiv 2312.04927 (*Zoology*). The level is the number of steps.

What a model is shown is what made the difference between learning and not
(docs/guides/how_to_train.md): tokens of mean square 1, as embeddings have, and beside each the
token before it, as the short convolutions of later models do.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot, pad

from memcore import MemcoreError
from task import AddOption, Batch, Shape, Task, check_sizes, number

__all__ = ["MQARTask", "mqar_batch"]

NONE_DUE = -1  # as a target


def mqar_batch(
    batch: int,
    length: int,
    keys: int,
    values: int,
    generator: torch.Generator,
    *,
    overwriting: bool = False,
) -> Batch:
    """Key, value, key, value …; then, at random steps, each key once, whose value is due there.

    A quarter of the length is pairs, rounded up (of 5 steps one); the rest of the steps are blank
    but for the keys that are asked for.

    Args:
        batch: examples B.
        length: steps T, at least 3.
        keys: how many there are; at least as many as pairs.
        values: how many there are.
        generator: what is drawn from; nothing else is.
        overwriting: a pair from the second on has, with probability one half, a key that was there
            before, and what is due is the value it came with last.

    Returns:
        Input ``[B, T, keys + values]``, one-hot or blank, and target ``[B, T]``, the number of the
        value that is due, or -1.
    """
    check_sizes(3, length=length)
    check_sizes(batch=batch, keys=keys, values=values)
    pairs = _pairs_of(length)
    if keys < pairs:
        raise MemcoreError(
            f"keys: expected at least {pairs}, one for each pair of length {length}, got {keys}"
        )
    rank = torch.rand(batch, keys, generator=generator).argsort(1)[:, :pairs]
    which = torch.arange(pairs).repeat(batch, 1)  # of these keys, in the order of the pairs
    if overwriting:
        new = torch.rand(batch, pairs, generator=generator) < 0.5
        new[:, 0] = True
        known = new.cumsum(1)
        old = (torch.rand(batch, pairs, generator=generator) * known).long()
        which = torch.where(new, known - 1, old)
    value = torch.randint(0, values, (batch, pairs), generator=generator)
    last = torch.zeros(batch, pairs, dtype=torch.long)
    for at in range(pairs):
        last.scatter_(1, which[:, at : at + 1], value[:, at : at + 1])
    rest = length - 2 * pairs
    places = 2 * pairs + torch.rand(batch, rest, generator=generator).argsort(1)[:, :pairs]
    asked = torch.arange(pairs) <= which.amax(1, keepdim=True)

    example = torch.arange(batch).unsqueeze(1)
    input = torch.zeros(batch, length, keys + values)
    input[:, : 2 * pairs : 2, :keys] = one_hot(rank.gather(1, which), keys).float()
    input[:, 1 : 2 * pairs : 2, keys:] = one_hot(value, values).float()
    input[example, places, rank] = asked.float()
    target = torch.full((batch, length), NONE_DUE)
    target[example, places] = torch.where(asked, last, NONE_DUE)
    return Batch(input, target)


def _pairs_of(length: int) -> int:
    """How many pairs there are in so many steps, of which as many are left for queries."""
    return min(-(-length // 4), length // 3)


class MQARTask(Task):
    """Tokens in, one-hot; the value is due in the step in which its key comes again."""

    name = "mqar"
    metrics = ("share of wrong values",)
    multiples = (1, 2, 4)
    defaults: dict[str, Any] = {
        "sequence_max_length": 16,
        "curriculum": "exponential",
        "curriculum_threshold": 0.1,
        "curriculum_limit": 64,
        "memory_type": "sam",
        "rnn_type": "linear",  # what a step must know, it is shown or reads
        "nhid": 160,
        "nhlayer": 1,
        "mem_slot": 1024,
        "mem_size": 64,
        "read_heads": 1,
        "sparse_reads": 4,
        "optim": "adam",
        "lr": 0.003,
        "batch_size": 64,
    }

    def add_options(self, add: AddOption) -> None:
        """The tokens."""
        add("keys", number(int, 1, 2**20), 64, "keys that there are; -input_size has no effect")
        add("values", number(int, 2, 2**20), 64, "values that there are")
        add("window", number(int, 1, 16), 2, "tokens that a step sees: its own, those before it")
        add("overwriting", number(int, 0, 1), 0, "1: keys come again with another value")

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """All tokens in, for each of the window; the values out."""
        if not 3 <= options.sequence_max_length <= self.longest(options):
            raise SystemExit(
                f"-sequence_max_length {options.sequence_max_length}: expected 3 to "
                f"{self.longest(options)} with -keys {options.keys}, of which a quarter of the "
                "steps need one each"
            )
        return options.window * (options.keys + options.values), options.values

    def longest(self, options: argparse.Namespace) -> int:
        """As many pairs as keys."""
        return max(4 * options.keys, 3)

    def length(self, longest: int, generator: torch.Generator) -> int:
        """At least a quarter of the longest, and 3."""
        least = max(3, longest // 4)
        return int(torch.randint(least, longest + 1, (), generator=generator))

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `mqar_batch`, as models are shown it; the shape is the length."""
        tokens, target = mqar_batch(
            batch_size,
            shape[0],
            options.keys,
            options.values,
            generator,
            overwriting=bool(options.overwriting),
        )
        tokens = tokens * math.sqrt(options.keys + options.values)
        earlier = [pad(tokens, (0, 0, steps, 0))[:, : shape[0]] for steps in range(options.window)]
        return Batch(torch.cat(earlier, 2), target)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of the values that are due, the mean of each example."""
        every = cross_entropy(
            output.transpose(1, 2), target, ignore_index=NONE_DUE, reduction="none"
        )
        return (every.sum(1) / target.ne(NONE_DUE).sum(1)).mean()

    def score(self, output: Tensor, target: Tensor) -> tuple[float, ...]:
        """Share of values that are not the likeliest, the mean of each example."""
        due = target.ne(NONE_DUE)
        wrong = output.argmax(2).ne(target) & due
        return ((wrong.sum(1) / due.sum(1)).mean().item(),)

    def show(self, output: Tensor) -> Tensor:
        """The probability of each value."""
        return output.softmax(2)


if __name__ == "__main__":
    from training import main

    main(MQARTask(), "Recall the values of many keys, each of which may have come more than once.")
