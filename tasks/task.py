"""What a task is: data, a loss and a metric, with defaults for the rest."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from memcore import MemcoreError

if TYPE_CHECKING:
    from run import Run

__all__ = ["AddOption", "Batch", "BitsTask", "Shape", "Task", "check_sizes", "number"]

# name, kind, default, help: as `build_parser` uses it
AddOption = Callable[[str, Callable[[str], Any], object, str], None]

# What all examples of a batch have in common: the length, and what else a task draws.
Shape = tuple[int, ...]


def number(kind: Callable[[str], float], low: float, high: float = float("inf")) -> Callable:
    """A kind of option: an int or a float from ``low`` to ``high``, both allowed."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high or not math.isfinite(value):
            upto = "" if high == float("inf") else f" and at most {high}"
            finite = "" if math.isfinite(value) else "a finite number of "
            raise argparse.ArgumentTypeError(f"expected {finite}at least {low:g}{upto}, got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


def check_sizes(least: int = 1, **sizes: int) -> None:
    """Raise a MemcoreError that names the first size that is no int of at least ``least``."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise MemcoreError(f"{name}: expected an int of at least {least}, got {value!r}")


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

    def shape(self, options: argparse.Namespace, length: int, generator: torch.Generator) -> Shape:
        """What a batch of that length has in common."""
        return (length,)

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Examples of that shape, on the CPU."""
        raise NotImplementedError

    def tests(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> list[Batch]:
        """Batches that together show how well a length is learned, of equal weight."""
        shape = self.shape(options, length, generator)
        return [self.batch(options, shape, batch_size, generator)]

    def answered(self, model: nn.Module, batch: Batch) -> Batch:
        """The batch that a test scores: with the model's own answers, where these are shown."""
        return batch

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

    def report(self, run: Run) -> None:
        """What else to say and draw once it is trained."""


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
