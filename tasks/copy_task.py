"""The copy task: remember a sequence of random bit vectors, then repeat it."""

from __future__ import annotations

import argparse

import torch

from training import Batch, BitsTask, main

__all__ = ["CopyTask"]


class CopyTask(BitsTask):
    """Bits in, an end flag, as many blank steps; the same bits are due in the blank steps."""

    name = "copy"

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """The bits and the flag in, the bits out."""
        return options.input_size, options.input_size - 1

    def batch(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Input ``[B, 2·L + 1, bits + 1]`` and target ``[B, L, bits]``."""
        bits = torch.randint(
            0, 2, (batch_size, length, options.input_size - 1), generator=generator
        ).float()
        input = torch.zeros(batch_size, 2 * length + 1, options.input_size)
        input[:, :length, :-1] = bits
        input[:, length, -1] = 1
        return Batch(input, bits)


if __name__ == "__main__":
    main(CopyTask(), "Remember a sequence of random bit vectors, then repeat it.")
