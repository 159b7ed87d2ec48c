"""Adding: numbers as one-hot vectors come in, and the outputs must sum to their sum.

From pytorch-dnc's tasks. It is trained at one length and tested at ten times that.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from task import Batch, Shape, Task, check_sizes

__all__ = ["AddingTask", "adding_batch"]


def adding_batch(batch: int, length: int, classes: int, generator: torch.Generator) -> Batch:
    """Numbers as one-hot vectors, then an end mark; what is due is their sum.

    Args:
        batch: examples B.
        length: numbers L.
        classes: one for each number from 0 and, as the last, one for the end mark.
        generator: what is drawn from; nothing else is.

    Returns:
        Input ``[B, L + 1, classes]`` and the sums ``[B]``.
    """
    check_sizes(batch=batch, length=length)
    check_sizes(2, classes=classes)
    numbers = torch.randint(0, classes - 1, (batch, length), generator=generator)
    marked = torch.cat([numbers, torch.full((batch, 1), classes - 1)], 1)
    return Batch(one_hot(marked, classes).float(), numbers.sum(1).float())


class AddingTask(Task):
    """One-hot numbers in, then an end mark; all outputs of all steps together are the sum."""

    name = "adding"
    metrics = ("relative error of the sum", "error of the sum")
    multiples = (1, 2, 5, 10)
    defaults: dict[str, Any] = {"sequence_max_length": 1000, "iterations": 2000}

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """A class for each number and one for the end mark in, as many out."""
        if options.input_size < 3:
            raise SystemExit(
                f"-input_size {options.input_size}: adding needs at least 3, of which the last "
                "is the end mark"
            )
        return options.input_size, options.input_size

    def length(self, longest: int, generator: torch.Generator) -> int:
        """About the longest: within a tenth of it below."""
        least = max(1, round(0.9 * longest))
        return int(torch.randint(least, longest + 1, (), generator=generator))

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `adding_batch`; the shape is the length."""
        return adding_batch(batch_size, shape[0], options.input_size, generator)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of the sum, in units of a step's share of it."""
        return ((output.sum((1, 2)) - target) / output.shape[1]).square().mean()

    def score(self, output: Tensor, target: Tensor) -> tuple[float, ...]:
        """Mean error of the sum, relative to it (a sum of 0 counts as 1), and as it is."""
        error = (output.sum((1, 2)) - target).abs()
        return (error / target.clamp(min=1)).mean().item(), error.mean().item()

    def solved(self, score: tuple[float, ...]) -> bool:
        """An error of the sum of a thousandth."""
        return score[0] <= 0.001

    def show(self, output: Tensor) -> Tensor:
        """Squeezed into [0, 1]: one half is 0."""
        return output.sigmoid()


if __name__ == "__main__":
    from training import main

    main(AddingTask(), "Add up numbers: the sum of all outputs must be the sum of the inputs.")
