"""What a task is: a generator, a loss and a metric, with defaults for the rest."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = ["AddOption", "Batch", "BitsTask", "Task"]

# name, kind, default, help: as `build_parser` uses it
AddOption = Callable[[str, Callable[[str], Any], object, str], None]


class Batch(NamedTuple):
    """Some examples of one length."""

    input: Tensor  # [B, T, X]
    target: Tensor  # of the task's own shape, batch in front


class Task:
    """What a task file gives: its data, its loss, its metrics, its defaults."""

    name: str
    metrics: tuple[str, ...]  # what `score` gives, in words
    # Lengths of the test after training, as multiples of the longest trained.
    multiples: tuple[float, ...] = (1, 1.5, 2, 3, 4)
    defaults: dict[str, Any] = {}  # of the options

    def add_options(self, add: AddOption) -> None:
        """Add the options of this task alone."""

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """Width of the input and of the output."""
        raise NotImplementedError

    def longest(self, options: argparse.Namespace) -> int:
        """The longest sequence that there can be; 0: any."""
        return 0

    def length(self, longest: int, generator: torch.Generator) -> int:
        """The length of the next batch, at most ``longest``."""
        return int(torch.randint(1, longest + 1, (), generator=generator))

    def batch(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Examples of that length, on the CPU."""
        raise NotImplementedError

    def tests(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> list[Batch]:
        """Batches that together show how well a length is learned, of equal weight."""
        return [self.batch(options, length, batch_size, generator)]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """A scalar to minimize."""
        raise NotImplementedError

    def score(self, output: Tensor, target: Tensor) -> tuple[float, ...]:
        """The metrics, as many as there are names."""
        raise NotImplementedError

    def solved(self, score: tuple[float, ...]) -> bool:
        """Whether metrics like these, of fresh examples, leave nothing to train."""
        return score[0] == 0

    def show(self, output: Tensor) -> Tensor:
        """What to draw of the output ``[B, T, Y]``, in [0, 1]."""
        raise NotImplementedError


class BitsTask(Task):
    """Bits are due in the last steps: the target is ``[B, due, bits]``, the outputs are logits."""

    metrics = ("bit error",)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of the steps that are due, per bit."""
        return binary_cross_entropy_with_logits(output[:, -target.shape[1] :], target)

    def score(self, output: Tensor, target: Tensor) -> tuple[float, ...]:
        """Share of wrong bits."""
        return (self.wrong(output, target).float().mean().item(),)

    def show(self, output: Tensor) -> Tensor:
        """The probability of each bit."""
        return output.sigmoid()

    @staticmethod
    def wrong(output: Tensor, target: Tensor) -> Tensor:
        """Which bits are wrong, ``[B, due, bits]``."""
        return (output[:, -target.shape[1] :] > 0) != target.bool()
