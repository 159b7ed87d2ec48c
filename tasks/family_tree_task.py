"""Family tree: who is whose parent or child is told, then a relation is asked that follows.

Graves et al. 2016, *Hybrid computing using a neural network with dynamic external memory*. The
level is the most steps that a relation takes, with which the generations grow.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

import torch
from torch import Tensor

from family_trees import (
    LONGEST,
    MOST_CHILDREN,
    RELATIONS,
    described,
    people_of,
    question,
    random_tree,
)
from graphs import digits_of, distinct_labels, shuffled
from memcore import MemcoreError
from task import Batch, Shape, check_sizes, number
from triples import TripleTask, half_the_most, lay_out, some_or_all

__all__ = ["FamilyTreeTask", "family_tree_batch"]


def family_tree_batch(
    batch: int, generations: int, steps: int, couples: int, children: int, digits: int,
    generator: torch.Generator, planning: int = 0,
) -> Batch:  # fmt: skip
    """The triples of family trees in random order, a person and a relation, blank steps, an answer.

    Relations have the same labels in all examples, which are never explained; people do not.

    Args:
        batch: examples B.
        generations: of a tree, as many as the relation has steps at the least, and 2.
        steps: of the relation that is asked, up to `LONGEST`.
        couples: that have children, in each generation but the last.
        children: of a couple.
        digits: of a label.
        generator: what is drawn from; nothing else is.
        planning: blank steps before that of the answer, which is blank too.

    Returns:
        Input ``[B, E + 2 + planning, 3·digits·10 + 2]`` as of `lay_out`, with four triples for each
        child of a tree, and target ``[B, 1, 3·digits]``: the digits of the person and the relation
        asked, and of who that is.

    Raises:
        MemcoreError: a wrong size; or a tree in which no relation of so many steps has one answer,
            which happens where a couple has one child.
    """
    check_sizes(2, generations=generations)
    check_sizes(batch=batch, steps=steps, couples=couples, children=children, digits=digits)
    check_sizes(0, planning=planning)
    if len(RELATIONS) > 10**digits:
        raise MemcoreError(f"digits: {len(RELATIONS)} relations need more than {digits}")
    chance = random.Random(int(torch.randint(2**62, (), generator=generator)))
    told, asked = [], []
    for _ in range(batch):
        tree = random_tree(generations, couples, children, chance)
        told.append(described(tree))
        asked.append([question(tree, steps, chance)])
    people = people_of(generations, couples, children)
    labels = distinct_labels(batch, people, digits, generator)

    def labelled(triples: list[list[tuple[int, int, int]]]) -> Tensor:
        numbers = torch.tensor(triples)
        numbers[:, :, 0] = labels.gather(1, numbers[:, :, 0])
        numbers[:, :, 2] = labels.gather(1, numbers[:, :, 2])
        return numbers

    due = labelled(asked)
    query = due.clone()
    query[:, :, 2] = -1
    answer = torch.full_like(due, -1)
    blank = answer.expand(-1, planning, -1)
    phases = (shuffled(labelled(told), generator), query, blank, answer)
    return Batch(lay_out(phases, digits), digits_of(due, digits).flatten(2))


class FamilyTreeTask(TripleTask):
    """A family tree, a person and a relation, blank steps; due is the triple with who that is.

    Channels in: person, relation and person, the flags of a new phase and of an answer. Channels
    out: person, relation and person. A batch of length ℓ has trees of ℓ + 1 generations, at most
    ``-generations``, relations of 1 to ℓ steps and, in half of the cases, fewer blank steps; tests
    have relations of ℓ and all blank steps.
    """

    name = "family_tree"
    metrics = ("share of wrong answers",)
    multiples = (1,)
    defaults = TripleTask.defaults | {"curriculum_window": 50, "mem_slot": 64}

    def add_options(self, add: Callable[..., None]) -> None:
        """How large trees become and how far relations go."""
        super().add_options(add)
        add("relation_length", number(int, 1, LONGEST), LONGEST, "most steps of a relation")
        add("generations", number(int, 2, 10), 4, "most generations; a length of l has l + 1")
        add("couples", number(int, 1, 1000), 2, "couples that have children, in a generation")
        add("children", number(int, 2, MOST_CHILDREN), 2, "children of a couple")
        add("planning_steps", number(int, 0, 2**31 - 1), 0, "most blank steps before the answer")

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """As for all triples, if there are labels enough and relations go no farther than trees."""
        people = people_of(options.generations, options.couples, options.children)
        if max(people, len(RELATIONS)) > 10**options.digits:
            raise SystemExit(
                f"-digits {options.digits}: {people} people and {len(RELATIONS)} relations need "
                "more labels"
            )
        if options.relation_length > options.generations:
            raise SystemExit(
                f"-relation_length {options.relation_length}: expected at most -generations "
                f"{options.generations}"
            )
        if options.sequence_max_length > options.relation_length:
            raise SystemExit(
                f"-sequence_max_length {options.sequence_max_length}: expected at most "
                f"-relation_length {options.relation_length}"
            )
        return super().sizes(options)

    def longest(self, options: argparse.Namespace) -> int:
        """As far as relations go."""
        return options.relation_length

    def shape(self, options: argparse.Namespace, length: int, generator: torch.Generator) -> Shape:
        """Generations, steps, and blank steps: all in half of the cases, else from none to all."""
        steps = half_the_most(length, generator)
        planning = some_or_all(options.planning_steps, generator)
        return min(length + 1, options.generations), steps, planning

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `family_tree_batch`; the shape is generations, steps and blank steps."""
        generations, steps, planning = shape
        return family_tree_batch(
            batch_size, generations, steps, options.couples, options.children, options.digits,
            generator, planning,
        )  # fmt: skip

    def tests(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> list[Batch]:
        """A batch of relations of exactly so many steps, and all blank steps."""
        shape = min(length + 1, options.generations), length, options.planning_steps
        return [self.batch(options, shape, batch_size, generator)]

    def score(self, output: Tensor, target: Tensor) -> tuple[float, ...]:
        """Share of answers with a wrong digit."""
        return super().score(output, target)[:1]


if __name__ == "__main__":
    from training import main

    main(FamilyTreeTask(), "Find who stands in a relation, in a family tree that was described.")
