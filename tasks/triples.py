"""What the tasks over triples have in common: phases of input, answers of digits, sizes.

A triple is three labels, each shown as some one-hot digits; a part that is missing is all zeros.
Two more channels are flags: at the first step of each phase (the description, the query, the
planning, the answer), and at each step where an answer is due. All examples of a batch have one
timeline.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from graphs import one_hot_digits
from task import Batch, Shape, Task, number

__all__ = ["GraphTask", "TripleTask", "half_the_most", "lay_out", "logits_of", "some_or_all"]


def lay_out(phases: Sequence[Tensor], digits: int) -> Tensor:
    """The input of some phases, one triple a step.

    Args:
        phases: labels ``[B, steps, 3]`` each, −1 where one is missing; the last is the answer.
        digits: of a label.

    Returns:
        ``[B, T, 3·digits·10 + 2]``; the last two channels are the flags of a new phase and of an
        answer.
    """
    triples = torch.cat(list(phases), 1)
    flags = torch.zeros(*triples.shape[:2], 2)
    begin = 0
    for phase in phases:
        if phase.shape[1]:
            flags[:, begin, 0] = 1
        begin += phase.shape[1]
    flags[:, begin - phases[-1].shape[1] :, 1] = 1
    return torch.cat((one_hot_digits(triples, digits).flatten(2), flags), 2)


def logits_of(output: Tensor, steps: int) -> Tensor:
    """The outputs ``[B, T, Y]`` of the last steps, by digits: ``[B, steps, Y / 10, 10]``."""
    return output[:, -steps:].unflatten(2, (-1, 10))


class TripleTask(Task):
    """Triples in, one a step; in the last steps one triple a step is due."""

    metrics = ("share of wrong answers", "share of wrong triples")
    multiples = (1, 1.5, 2)
    defaults = {
        "sequence_max_length": 1,
        "curriculum": "adaptive",
        "curriculum_threshold": 0.05,
        "curriculum_window": 100,
        "nhid": 128,
        "nhlayer": 1,
        "mem_slot": 128,
        "mem_size": 32,
        "read_heads": 4,
        "optim": "rmsprop",
        "lr": 0.0005,
        "batch_size": 32,
    }

    def add_options(self, add: Callable[..., None]) -> None:
        """How long labels are."""
        add("digits", number(int, 1, 6), 2, "digits of a label; they alone set the input's width")

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """Three labels and two flags in, three labels out, whatever ``-input_size``."""
        return 3 * options.digits * 10 + 2, 3 * options.digits * 10

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of the triples that are due, per digit."""
        logits = logits_of(output, target.shape[1])
        return cross_entropy(logits.flatten(0, 2), target.flatten())

    def score(self, output: Tensor, target: Tensor) -> tuple[float, ...]:
        """Share of answers with a wrong triple, and of wrong triples."""
        wrong = self.wrong(output, target)
        return wrong.any(1).float().mean().item(), wrong.float().mean().item()

    def wrong(self, output: Tensor, target: Tensor) -> Tensor:
        """Which triples are wrong, ``[B, due]``: those with a wrong digit."""
        return (logits_of(output, target.shape[1]).argmax(3) != target).any(2)

    def show(self, output: Tensor) -> Tensor:
        """The probability of each digit."""
        return output.unflatten(2, (-1, 10)).softmax(3).flatten(2)


class GraphTask(TripleTask):
    """Triples of a random graph, whose size grows with the level.

    A batch of length ℓ has graphs of 3·ℓ to 3·ℓ + 3 nodes, at most ``-max_nodes``, 1 to
    ``-max_neighbours`` edges from each, and a path of ℓ edges or, in half of the batches, of 1 to
    ℓ; tests have the most of each. Half of the batches have the length of the level.
    """

    least_neighbours = 1
    most_neighbours = 2**31 - 1

    def add_options(self, add: Callable[..., None]) -> None:
        """How large graphs become."""
        super().add_options(add)
        add("max_nodes", number(int, 3, 2**31 - 1), 30, "most nodes; a length of l has 3 l + 3")
        kind = number(int, self.least_neighbours, self.most_neighbours)
        add("max_neighbours", kind, 3, "most edges that leave a node")

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """As for all triples, if there are as many labels as nodes."""
        if options.max_nodes > 10**options.digits:
            raise SystemExit(
                f"-max_nodes {options.max_nodes}: with -digits {options.digits} there are "
                f"{10**options.digits} labels, expected -digits {len(str(options.max_nodes - 1))}"
            )
        if options.max_neighbours >= options.max_nodes:
            raise SystemExit(
                f"-max_neighbours {options.max_neighbours}: expected at most "
                f"{options.max_nodes - 1} with -max_nodes {options.max_nodes}"
            )
        return super().sizes(options)

    def length(self, longest: int, generator: torch.Generator) -> int:
        """The longest in half of the batches: else the loss tells of shorter ones alone."""
        return half_the_most(longest, generator)

    def shape(self, options: argparse.Namespace, length: int, generator: torch.Generator) -> Shape:
        """Nodes, neighbours and path length."""
        path = half_the_most(length, generator)
        low, high = (min(size, options.max_nodes) for size in (3 * length, 3 * length + 3))
        nodes = _between(low, high, generator)
        most = min(options.max_neighbours, nodes - 1)
        neighbours = _between(min(self.least(path), most), most, generator)
        return nodes, neighbours, path

    def least(self, path: int) -> int:
        """The fewest edges that leave a node, for paths of a length."""
        return 1

    def tests(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> list[Batch]:
        """A batch of the largest graphs and the longest paths of that length."""
        return [self.batch(options, self.largest(options, length), batch_size, generator)]

    def largest(self, options: argparse.Namespace, length: int) -> Shape:
        """The shape with the most of all that there are at a length."""
        nodes = min(3 * length + 3, options.max_nodes)
        return nodes, min(options.max_neighbours, nodes - 1), length


def some_or_all(most: int, generator: torch.Generator) -> int:
    """How many blank steps there are: all in one half of the cases, from none to all in the other.

    Where there are none to draw from nothing is drawn.
    """
    return half_the_most(most + 1, generator) - 1 if most else 0


def half_the_most(most: int, generator: torch.Generator) -> int:
    """That number in one half of the cases, one from 1 to it in the other."""
    return most if _between(0, 1, generator) else _between(1, most, generator)


def _between(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))
