"""Argmax: after a sequence of numbers, the output must be the position of the largest.

From pytorch-dnc's tasks.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from task import Batch, Shape, Task, check_sizes

__all__ = ["ArgmaxTask", "argmax_batch"]


def argmax_batch(batch: int, length: int, classes: int, generator: torch.Generator) -> Batch:
    """Numbers as one-hot vectors; what is due is the position of the largest.

    Args:
        batch: examples B.
        length: numbers L.
        classes: one for each number from 0.
        generator: what is drawn from; nothing else is.

    Returns:
        Input ``[B, L, classes]`` and the positions ``[B]`` from 0, of equals the last.
    """
    check_sizes(batch=batch, length=length, classes=classes)
    numbers = torch.randint(0, classes, (batch, length), generator=generator)
    # The last of several: of numbers made distinct by their position the first.
    position = (numbers * length + torch.arange(length)).argmax(1)
    return Batch(one_hot(numbers, classes).float(), position.float())


class ArgmaxTask(Task):
    """One-hot numbers in; at the last step the outputs sum to the position of the largest.

    Positions count from 0; where several are largest it is the last of them.
    """

    name = "argmax"
    metrics = ("error of the position", "share of exactly right positions")
    multiples = (1, 1.5, 2)
    defaults: dict[str, Any] = {"nhid": 100, "iterations": 2000}

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """A class for each number in, as many features out."""
        return options.input_size, options.input_size

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `argmax_batch`; the shape is the length."""
        return argmax_batch(batch_size, shape[0], options.input_size, generator)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Squared error of the position."""
        return (output[:, -1].sum(1) - target).square().mean()

    def score(self, output: Tensor, target: Tensor) -> tuple[float, ...]:
        """Mean error of the position, and the share that is right after rounding."""
        guessed = output[:, -1].sum(1)
        right = (guessed.round() == target).float().mean()
        return (guessed - target).abs().mean().item(), right.item()

    def solved(self, score: tuple[float, ...]) -> bool:
        """All exactly right."""
        return score[1] == 1

    def show(self, output: Tensor) -> Tensor:
        """Squeezed into [0, 1]: one half is 0."""
        return output.sigmoid()


if __name__ == "__main__":
    from training import main

    main(ArgmaxTask(), "Tell the position of the largest number of a sequence.")
