"""Repeat copy: bits in, then how often to repeat them; the repeats are due, then an end flag.

As in google-deepmind/dnc.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from task import Batch, BitsTask, Shape, check_sizes, number

__all__ = ["RepeatCopyTask", "repeat_copy_batch"]


def repeat_copy_batch(
    batch: int, length: int, repeats: int, bits: int, generator: torch.Generator
) -> Batch:
    """A start flag and vectors of bits, how often to repeat them, blank steps; repeats are due.

    Args:
        batch: examples B.
        length: vectors L.
        repeats: how often; the same for all examples.
        bits: of a vector.
        generator: what is drawn from; nothing else is.

    Returns:
        Input ``[B, L + due + 2, bits + 2]``, channels of the bits, the start flag and the repeats
        in tenths, and target ``[B, due, bits + 1]``, of which the last channel is an end flag;
        due = L·repeats + 1.
    """
    check_sizes(batch=batch, length=length, repeats=repeats, bits=bits)
    vectors = torch.randint(0, 2, (batch, length, bits), generator=generator).float()
    due = length * repeats + 1
    input = torch.zeros(batch, 2 + length + due, bits + 2)
    input[:, 0, bits] = 1
    input[:, 1 : 1 + length, :bits] = vectors
    input[:, 1 + length, bits + 1] = repeats / 10
    target = torch.zeros(batch, due, bits + 1)
    target[:, :-1, :bits] = vectors.repeat(1, repeats, 1)
    target[:, -1, bits] = 1
    return Batch(input, target)


class RepeatCopyTask(BitsTask):
    """A start flag and bits, the number of repeats, blank steps; due are repeats and an end flag.

    Channels in: the bits, the start flag, the repeats (in tenths). Channels out: the bits, the
    end flag. Each batch has one length and one number of repeats.
    """

    name = "repeat_copy"
    multiples = (1, 1.5, 2)
    defaults: dict[str, Any] = {
        "sequence_max_length": 4,
        "curriculum": "exponential",
        "curriculum_threshold": 0.02,
        "mem_slot": 32,
        "mem_size": 16,
        "read_heads": 1,
        "nhlayer": 1,
        "optim": "rmsprop",
        "lr": 0.0005,
        "batch_size": 32,
    }

    def add_options(self, add: Callable[..., None]) -> None:
        """How often to repeat."""
        add("max_repeats", number(int, 1, 2**31 - 1), 2, "most repeats")

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """Two more channels than bits in, one more out."""
        if options.input_size < 3:
            raise SystemExit(f"-input_size {options.input_size}: repeat copy needs at least 3")
        return options.input_size, options.input_size - 1

    def shape(self, options: argparse.Namespace, length: int, generator: torch.Generator) -> Shape:
        """The length and a random number of repeats."""
        return length, int(torch.randint(1, options.max_repeats + 1, (), generator=generator))

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `repeat_copy_batch`; the shape is length and repeats."""
        length, repeats = shape
        return repeat_copy_batch(batch_size, length, repeats, options.input_size - 2, generator)

    def tests(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> list[Batch]:
        """A batch for each number of repeats."""
        return [
            self.batch(options, (length, repeats), batch_size, generator)
            for repeats in range(1, options.max_repeats + 1)
        ]


if __name__ == "__main__":
    from training import main

    main(RepeatCopyTask(), "Repeat a sequence of random bit vectors as often as asked, then stop.")
