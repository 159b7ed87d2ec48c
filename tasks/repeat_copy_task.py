"""Repeat copy: bits in, then how often to repeat them; the repeats are due, then an end flag.

As in google-deepmind/dnc.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from options import number
from training import Batch, BitsTask, main

__all__ = ["RepeatCopyTask"]


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

    def batch(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Input ``[B, L + due + 2, bits + 2]`` and target ``[B, due, bits + 1]``."""
        repeats = int(torch.randint(1, options.max_repeats + 1, (), generator=generator))
        return self.repeated(options, length, repeats, batch_size, generator)

    def tests(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> list[Batch]:
        """A batch for each number of repeats."""
        return [
            self.repeated(options, length, repeats, batch_size, generator)
            for repeats in range(1, options.max_repeats + 1)
        ]

    @staticmethod
    def repeated(
        options: argparse.Namespace,
        length: int,
        repeats: int,
        batch_size: int,
        generator: torch.Generator,
    ) -> Batch:
        """A batch with that number of repeats."""
        width = options.input_size - 2
        bits = torch.randint(0, 2, (batch_size, length, width), generator=generator).float()
        due = length * repeats + 1
        input = torch.zeros(batch_size, 2 + length + due, options.input_size)
        input[:, 0, width] = 1
        input[:, 1 : 1 + length, :width] = bits
        input[:, 1 + length, width + 1] = repeats / 10
        target = torch.zeros(batch_size, due, width + 1)
        target[:, :-1, :width] = bits.repeat(1, repeats, 1)
        target[:, -1, width] = 1
        return Batch(input, target)


if __name__ == "__main__":
    main(RepeatCopyTask(), "Repeat a sequence of random bit vectors as often as asked, then stop.")
