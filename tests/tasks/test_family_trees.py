"""Family trees: what is told and asked, against relations worked out as people would."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from family_tree_task import FamilyTreeTask, family_tree_batch
from family_trees import (
    DIRECT,
    INFERRED,
    RELATIONS,
    children_of,
    described,
    next_to,
    people_of,
    random_tree,
    related,
)
from memcore import MemcoreError
from options import build_parser
from training import main
from triple_reading import Triple, drawn, phases_of, triples

seeds = st.integers(0, 2**31)


class Family:
    """What follows from the triples that are told."""

    def __init__(self, told: list[Triple]) -> None:
        self.told = told
        self.men = {end for _, own, end in told if RELATIONS[own].startswith(("father", "son"))}

    def named(self, person: int, *names: str) -> set[int]:
        return {
            end for start, own, end in self.told
            if start == person and RELATIONS[own].rstrip("123") in names
        }  # fmt: skip

    def father(self, person: int) -> set[int]:
        return self.named(person, "father")

    def mother(self, person: int) -> set[int]:
        return self.named(person, "mother")

    def parents(self, person: int) -> set[int]:
        return self.father(person) | self.mother(person)

    def children(self, person: int) -> set[int]:
        return self.named(person, "son", "daughter")

    def siblings(self, person: int) -> set[int]:
        return all_of(self.children, self.parents(person)) - {person}

    def spouse(self, person: int) -> set[int]:
        return all_of(self.parents, self.children(person)) - {person}


def all_of(relation: Callable[[int], set[int]], people: set[int]) -> set[int]:
    return {other for person in people for other in relation(person)}


def answers(own: Family, person: int, relation: str) -> set[int]:
    """By the words of the relation's name."""
    name = relation.replace("great uncle", "great-uncle").replace("great aunt", "great-aunt")
    side = {"paternal": own.father, "maternal": own.mother}.get(name.split()[0])
    *_, kind = name.split(" ", 1)
    parent = side(person) if side is not None else set()
    grandparents = all_of(own.parents, parent)
    grandchildren = all_of(own.children, own.children(person))
    found = {
        "brother": lambda: own.siblings(person),
        "husband": lambda: own.spouse(person),
        "grandfather": lambda: all_of(own.father, parent),
        "grandmother": lambda: all_of(own.mother, parent),
        "great-grandfather": lambda: all_of(own.father, grandparents),
        "great-grandmother": lambda: all_of(own.mother, grandparents),
        "grandson": lambda: grandchildren,
        "great-grandson": lambda: all_of(own.children, grandchildren),
        "uncle": lambda: all_of(own.siblings, parent),
        "great-uncle": lambda: all_of(own.siblings, grandparents),
        "nephew": lambda: all_of(own.children, own.siblings(person)),
        "great-nephew": lambda: all_of(
            own.children, all_of(own.children, own.siblings(person))
        ),
        "father-in-law": lambda: all_of(own.father, own.spouse(person)),
        "mother-in-law": lambda: all_of(own.mother, own.spouse(person)),
        "son-in-law": lambda: all_of(own.spouse, own.children(person)),
        "brother-in-law": lambda: (
            all_of(own.siblings, own.spouse(person)) | all_of(own.spouse, own.siblings(person))
        ),
        "male cousin": lambda: all_of(own.children, all_of(own.siblings, parent)),
    }  # fmt: skip
    of_women = {
        "sister": "brother", "wife": "husband", "granddaughter": "grandson", "aunt": "uncle",
        "great-aunt": "great-uncle", "great-granddaughter": "great-grandson", "niece": "nephew",
        "great-niece": "great-nephew", "daughter-in-law": "son-in-law",
        "sister-in-law": "brother-in-law", "female cousin": "male cousin",
    }  # fmt: skip
    people = found[of_women.get(kind, kind)]()
    women = kind in of_women or kind.endswith("mother") or kind == "mother-in-law"
    return people - own.men if women else people & own.men


@given(seeds, st.integers(2, 5), st.integers(1, 3), st.integers(2, 3))
def test_relations(seed: int, generations: int, couples: int, children: int) -> None:
    tree = random_tree(generations, couples, children, random.Random(seed))
    told, reached = described(tree), next_to(tree)
    assert len(tree.male) == people_of(generations, couples, children)
    assert len(set(told)) == 4 * children_of(generations, couples, children)
    assert len({(start, own) for start, own, _ in told}) == len(told)
    own = Family(told)
    for pair in tree.parents:
        assert pair is None or (tree.male[pair[0]] and not tree.male[pair[1]])
    for name in INFERRED:
        for person in range(len(tree.male)):
            assert related(reached, person, name) == answers(own, person, name), name


def test_children_are_numbered_by_birth() -> None:
    tree = random_tree(3, 2, 3, random.Random(0))
    for parent, born in enumerate(tree.children):
        for sons, kind in ((True, "son"), (False, "daughter")):
            known = [
                child
                for at in range(1, 4)
                for start, own, child in described(tree)
                if (start, DIRECT[own]) == (parent, f"{kind}{at}")
            ]
            assert known == [child for child in sorted(born) if tree.male[child] is sons]


@given(seeds, st.integers(1, 4), st.integers(2, 3), st.integers(0, 3))
def test_questions(seed: int, steps: int, couples: int, planning: int) -> None:
    batch = family_tree_batch(3, max(2, steps), steps, couples, 2, 2, drawn(seed), planning)
    asked = []
    for example, target in zip(batch.input.tolist(), batch.target.tolist(), strict=True):
        (told, ((person, relation, nobody),), *blank, answer), due = phases_of(example, 2)
        assert due == [False, False, *[False] * len(blank), True]
        assert (nobody, answer) == (-1, [(-1, -1, -1)])
        assert blank == ([[(-1, -1, -1)] * planning] if planning else [])
        name = RELATIONS[relation]
        if steps == 1:
            found = {end for start, own, end in told if (start, own) == (person, relation)}
        else:
            assert len(INFERRED[name][0]) == steps
            found = answers(Family(told), person, name)
        assert triples(target) == [(person, relation, *found)]
        asked.append(frozenset(told))
    assert len(set(asked)) == 3


def test_every_relation_is_asked() -> None:
    asked = set()
    for seed in range(12):
        for steps in (1, 2, 3, 4):
            batch = family_tree_batch(32, 4, steps, 2, 3, 2, drawn(seed))
            asked |= {triples(target)[0][1] for target in batch.target.tolist()}
    assert asked == set(range(len(RELATIONS)))


def test_trees_that_are_none() -> None:
    with pytest.raises(MemcoreError, match="^steps: no relation of 3 steps has one answer"):
        family_tree_batch(3, 2, 3, 2, 2, 2, drawn(0))
    with pytest.raises(MemcoreError, match="^children: expected at most 3, got 4"):
        family_tree_batch(3, 2, 1, 2, 4, 2, drawn(0))
    with pytest.raises(MemcoreError, match="^digits: 46 relations need more than 1"):
        family_tree_batch(3, 2, 1, 2, 2, 1, drawn(0))
    with pytest.raises(MemcoreError, match="^planning: expected an int of at least 0, got -1"):
        family_tree_batch(3, 2, 1, 2, 2, 2, drawn(0), -1)


def test_there_are_steps_to_plan_in() -> None:
    """As many as a relation has steps at the most; in training, in half of the cases, fewer."""
    task = FamilyTreeTask()
    parser = build_parser("", task.add_options, **task.defaults)
    for arguments, planning in (([], 0), (["-planning_steps", "4"], 4)):
        options = parser.parse_args(arguments)
        told = 4 * children_of(3, 2, 2)
        (test,) = task.tests(options, 2, 3, drawn(0))
        assert test.input.shape[1] == told + 2 + planning
        generator = drawn(0)
        shapes = [task.shape(options, 2, generator) for _ in range(300)]
        assert {shape[2] for shape in shapes} == set(range(planning + 1))
        assert sum(shape[2] == planning for shape in shapes) > 150
        own = task.batch(options, shapes[0], 3, generator)
        assert own.input.shape[1] == told + 2 + shapes[0][2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-digits 1", "-digits 1: 20 people and 46 relations need more labels"),
        ("-couples 20", "-digits 2: 200 people and 46 relations need more labels"),
        ("-generations 3", "-relation_length 4: expected at most -generations 3"),
        (
            "-relation_length 2 -sequence_max_length 3",
            "-sequence_max_length 3: expected at most -relation_length 2",
        ),
    ],
)
def test_options_that_exclude_each_other(arguments: str, message: str) -> None:
    task = FamilyTreeTask()
    parser = build_parser("", task.add_options, **task.defaults)
    with pytest.raises(SystemExit, match=message):
        task.sizes(parser.parse_args(arguments.split()))


@pytest.mark.usefixtures("no_pictures")
def test_a_run(tmp_path: Path) -> None:
    """The curriculum never asks for more than there can be."""
    arguments = "-batch_size 3 -nhid 8 -mem_slot 12 -mem_size 4 -read_heads 1 -test_size 5 "
    arguments += "-curriculum_threshold 9 -curriculum_window 1 -iterations 6"
    main(FamilyTreeTask(), "", [*arguments.split(), "-checkpoint_dir", str(tmp_path)])
    rows = (tmp_path / "family_tree_dnc.csv").read_text().splitlines()[1:]
    assert [int(row.rpartition(",")[2]) for row in rows] == [1, 2, 3, 4, 4, 4]
    assert torch.load(tmp_path / "family_tree_dnc.pt", weights_only=True)["iteration"] == 6
