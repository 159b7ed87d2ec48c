"""The copy task: remember a sequence of random bit vectors, then repeat it."""

from __future__ import annotations

import argparse

import torch

from task import Batch, BitsTask, Shape, check_sizes

__all__ = ["CopyTask", "copy_batch"]


def copy_batch(batch: int, length: int, bits: int, generator: torch.Generator) -> Batch:
    """Vectors of random bits in, an end flag, then as many blank steps, where the bits are due.

    Args:
        batch: examples B.
        length: vectors L.
        bits: of a vector.
        generator: what is drawn from; nothing else is.

    Returns:
        Input ``[B, 2·L + 1, bits + 1]``, of which the last channel is the flag, and target
        ``[B, L, bits]``.
    """
    check_sizes(batch=batch, length=length, bits=bits)
    vectors = torch.randint(0, 2, (batch, length, bits), generator=generator).float()
    input = torch.zeros(batch, 2 * length + 1, bits + 1)
    input[:, :length, :-1] = vectors
    input[:, length, -1] = 1
    return Batch(input, vectors)


class CopyTask(BitsTask):
    """Bits in, an end flag, as many blank steps; the same bits are due in the blank steps."""

    name = "copy"

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """The bits and the flag in, the bits out."""
        return options.input_size, options.input_size - 1

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `copy_batch`; the shape is the length."""
        return copy_batch(batch_size, shape[0], options.input_size - 1, generator)


if __name__ == "__main__":
    from training import main

    main(CopyTask(), "Remember a sequence of random bit vectors, then repeat it.")
