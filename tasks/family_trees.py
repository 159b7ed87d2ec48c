"""Random family trees, and relations in them as people name them.

What is told of a tree is who is whose father, mother, first son, and so on. Other relations follow
from these in some steps, as a brother is a parent's son, in two.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from memcore import MemcoreError
from task import check_sizes

__all__ = [
    "DIRECT",
    "INFERRED",
    "LONGEST",
    "MOST_CHILDREN",
    "RELATIONS",
    "Tree",
    "children_of",
    "described",
    "next_to",
    "people_of",
    "question",
    "random_tree",
    "related",
]

MOST_CHILDREN = 3
DIRECT = (
    "father", "mother",
    *(f"{child}{at}" for child in ("son", "daughter") for at in range(1, MOST_CHILDREN + 1)),
)  # fmt: skip

# Each way is steps to a Father, Mother, Parent, Son, Daughter or Child; nobody is met twice on it.
INFERRED: dict[str, tuple[str, ...]] = {
    "brother": ("PS",),
    "sister": ("PD",),
    "husband": ("CF",),
    "wife": ("CM",),
    "paternal grandfather": ("FF",),
    "paternal grandmother": ("FM",),
    "maternal grandfather": ("MF",),
    "maternal grandmother": ("MM",),
    "grandson": ("CS",),
    "granddaughter": ("CD",),
    "paternal uncle": ("FPS",),
    "paternal aunt": ("FPD",),
    "maternal uncle": ("MPS",),
    "maternal aunt": ("MPD",),
    "nephew": ("PCS",),
    "niece": ("PCD",),
    "father-in-law": ("CPF",),
    "mother-in-law": ("CPM",),
    "son-in-law": ("DCF",),
    "daughter-in-law": ("SCM",),
    "paternal great-grandfather": ("FPF",),
    "paternal great-grandmother": ("FPM",),
    "maternal great-grandfather": ("MPF",),
    "maternal great-grandmother": ("MPM",),
    "great-grandson": ("CCS",),
    "great-granddaughter": ("CCD",),
    "paternal great uncle": ("FPPS",),
    "paternal great aunt": ("FPPD",),
    "maternal great uncle": ("MPPS",),
    "maternal great aunt": ("MPPD",),
    "great-nephew": ("PCCS",),
    "great-niece": ("PCCD",),
    "paternal male cousin": ("FPCS",),
    "paternal female cousin": ("FPCD",),
    "maternal male cousin": ("MPCS",),
    "maternal female cousin": ("MPCD",),
    "brother-in-law": ("CPPS", "PDCF"),
    "sister-in-law": ("CPPD", "PSCM"),
}
RELATIONS = (*DIRECT, *INFERRED)  # a relation's label is its place
LONGEST = max(len(way) for ways in INFERRED.values() for way in ways)


class Tree(NamedTuple):
    """People, from 0, of whom some are a couple with children."""

    male: tuple[bool, ...]
    parents: tuple[tuple[int, int] | None, ...]  # father and mother; of those from outside None
    children: tuple[tuple[int, ...], ...]  # by birth


def people_of(generations: int, couples: int, children: int) -> int:
    """How many people there are in a `random_tree`."""
    return couples * (generations + children * (generations - 1))


def children_of(generations: int, couples: int, children: int) -> int:
    """How many of them have parents there; each is in four triples of `described`."""
    return couples * children * (generations - 1)


def random_tree(generations: int, couples: int, children: int, chance: random.Random) -> Tree:
    """Couples, their children, the children of some of these and of partners from outside.

    Args:
        generations: at least 2.
        couples: that have children in each generation but the last; who of the children of the
            generation before they are, is drawn.
        children: of a couple, with sexes that are drawn; at most `MOST_CHILDREN`.
        chance: what is drawn from.

    Returns:
        A tree with as many people and children whatever is drawn.
    """
    check_sizes(2, generations=generations)
    check_sizes(couples=couples, children=children)
    if children > MOST_CHILDREN:
        raise MemcoreError(f"children: expected at most {MOST_CHILDREN}, got {children}")
    male = [at % 2 == 0 for at in range(2 * couples)]
    parents: list[tuple[int, int] | None] = [None] * (2 * couples)
    born: list[list[int]] = [[] for _ in male]
    pairs = [(2 * at, 2 * at + 1) for at in range(couples)]
    for generation in range(1, generations):
        young = []
        for pair in pairs:
            for _ in range(children):
                young.append(len(male))
                for parent in pair:
                    born[parent].append(len(male))
                male.append(chance.random() < 0.5)
                parents.append(pair)
                born.append([])
        if generation < generations - 1:
            pairs = []
            for person in chance.sample(young, couples):
                partner = len(male)
                male.append(not male[person])
                parents.append(None)
                born.append([])
                pairs.append((person, partner) if male[person] else (partner, person))
    return Tree(tuple(male), tuple(parents), tuple(map(tuple, born)))


def described(tree: Tree) -> list[tuple[int, int, int]]:
    """Person, relation and person, for all that is told of a tree: four for each child."""
    triples = []
    for person, pair in enumerate(tree.parents):
        if pair is not None:
            triples += [(person, DIRECT.index("father"), pair[0])]
            triples += [(person, DIRECT.index("mother"), pair[1])]
    for parent, born in enumerate(tree.children):
        count = {True: 0, False: 0}
        for child in born:
            count[tree.male[child]] += 1
            name = f"{'son' if tree.male[child] else 'daughter'}{count[tree.male[child]]}"
            triples.append((parent, DIRECT.index(name), child))
    return triples


def next_to(tree: Tree) -> dict[str, list[tuple[int, ...]]]:
    """Of each step of a way, who is reached by it from each person."""
    reached: dict[str, list[tuple[int, ...]]] = {
        "F": [pair[:1] if pair else () for pair in tree.parents],
        "M": [pair[1:] if pair else () for pair in tree.parents],
        "P": [pair or () for pair in tree.parents],
        "C": list(tree.children),
    }
    for step, male in (("S", True), ("D", False)):
        reached[step] = [
            tuple([child for child in born if tree.male[child] is male]) for born in tree.children
        ]
    return reached


def related(reached: dict[str, list[tuple[int, ...]]], person: int, relation: str) -> set[int]:
    """All who stand in an inferred relation to a person, as in "the brother of"; of `next_to`."""
    found: set[int] = set()
    for way in INFERRED[relation]:
        paths = [(person,)]
        for step in way:
            next_people = reached[step]
            paths = [
                (*path, other)
                for path in paths
                for other in next_people[path[-1]]
                if other not in path
            ]
            if not paths:
                break
        found.update(path[-1] for path in paths)
    return found


def question(tree: Tree, steps: int, chance: random.Random) -> tuple[int, int, int]:
    """A person, a relation that many steps long, and the one person who stands in it.

    The relation is drawn from those that there are in this tree, then the person.

    Raises:
        MemcoreError: there is none.
    """
    check_sizes(steps=steps)
    if steps == 1:
        told = described(tree)
        asked = chance.choice(sorted({relation for _, relation, _ in told}))
        return chance.choice([triple for triple in told if triple[1] == asked])
    names = [name for name, ways in INFERRED.items() if len(ways[0]) == steps]
    people, reached = list(range(len(tree.male))), next_to(tree)
    chance.shuffle(people)
    for name in chance.sample(names, len(names)):
        for person in people:
            found = related(reached, person, name)
            if len(found) == 1:
                return person, RELATIONS.index(name), found.pop()
    raise MemcoreError(f"steps: no relation of {steps} steps has one answer in this tree")
