"""Argmax: after a sequence of numbers, the output must be the position of the largest.

From pytorch-dnc's tasks.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from training import Batch, Task, main

__all__ = ["ArgmaxTask"]


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
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Input ``[B, L, classes]`` and the positions ``[B]``."""
        numbers = torch.randint(0, options.input_size, (batch_size, length), generator=generator)
        # The last of several: of numbers made distinct by their position the first.
        position = (numbers * length + torch.arange(length)).argmax(1)
        return Batch(one_hot(numbers, options.input_size).float(), position.float())

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
    main(ArgmaxTask(), "Tell the position of the largest number of a sequence.")
