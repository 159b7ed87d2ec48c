"""The least recently accessed slot, against plain Python."""

from __future__ import annotations

import copy
import inspect
import pickle
import random
import re

import pytest
import torch

from memcore import MemcoreError, Recency

Times = list[list[int]]


def expected(times: Times) -> list[int]:
    return [min(range(len(own)), key=lambda slot: (own[slot], slot)) for own in times]


def accessed(
    times: Times, clock: list[int], index: list[list[int]], which: list[list[bool]]
) -> tuple[Times, list[int]]:
    after, clock = [list(own) for own in times], [time + 1 for time in clock]
    for example, slots in enumerate(index):
        for slot, counts in zip(slots, which[example], strict=True):
            if counts:
                after[example][slot] = clock[example]
    return after, clock


@pytest.mark.parametrize("slots", [1, 2, 127, 128, 129, 1000, 128 * 128, 128 * 128 + 1, 20_000])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(own, marks=pytest.mark.slow) for own in (1, 2))]
)
def test_exactly_the_least_and_lowest(slots: int, seed: int, device: torch.device) -> None:
    """Also of old versions, after clearing, and of part of the batch."""
    choice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    versions = [(Recency(3, slots, device=device), [[0] * slots for _ in range(3)], [0] * 3)]
    for _ in range(25):
        recency, times, clock = versions[-1] if choice.random() < 0.8 else choice.choice(versions)
        count, few = choice.choice([1, 5, 40]), choice.choice([slots, min(slots, 7)])
        index = torch.randint(few, (3, count), generator=generator)
        which = torch.rand(3, count, generator=generator) < choice.choice([0.5, 1.1])
        if choice.random() < 0.5:
            index[:, 0] = recency.least().cpu()
        kind = choice.random()
        if kind < 0.1:
            examples = torch.tensor([True, False, True])
            recency = recency.cleared(examples.to(device))
            times = [[0] * slots, times[1], [0] * slots]
            clock = [0, clock[1], 0]
        elif kind < 0.3:
            part = recency.select(torch.tensor([2, 0, 1]).to(device)).narrow(2)
            part = part.accessed(index[:2].to(device), which[:2].to(device))
            recency = part.widen(recency.select(torch.tensor([2, 0, 1]).to(device)))
            recency = recency.select(torch.tensor([1, 2, 0]).to(device))
            moved, ticked = accessed(
                [times[2], times[0]], [clock[2], clock[0]], index[:2].tolist(), which[:2].tolist()
            )
            times, clock = [moved[1], times[1], moved[0]], [ticked[1], clock[1], ticked[0]]
        else:
            recency = recency.accessed(index.to(device), which.to(device))
            times, clock = accessed(times, clock, index.tolist(), which.tolist())
        versions.append((recency, times, clock))
        assert recency.least().tolist() == expected(times)
        assert recency.time.tolist() == clock
    for recency, times, _ in versions:
        assert recency.last_access().tolist() == times
        assert recency.least().tolist() == expected(times)


def test_every_slot_in_turn() -> None:
    recency, all_true = Recency(1, 300), torch.ones(1, 1, dtype=torch.bool)
    for turn in range(700):
        least = recency.least()
        assert least.tolist() == [turn % 300]
        recency = recency.accessed(least[:, None], all_true)


@pytest.mark.parametrize("slots", [129, 128 * 128 + 1])
def test_the_least_of_many_blocks(slots: int) -> None:
    """All were accessed but for two: the last levels of the tree know where these are."""
    recency, last = Recency(2, slots), slots - 1
    others = torch.tensor([slot for slot in range(slots) if slot not in (100, last)])
    for some in others.split(1000):
        recency = recency.accessed(some.expand(2, -1), torch.ones(2, len(some), dtype=torch.bool))
    found, one = [], torch.ones(2, 1, dtype=torch.bool)
    for _ in range(4):
        found.append(recency.least().tolist())
        recency = recency.accessed(recency.least()[:, None], one)
    assert found == [[100] * 2, [last] * 2, [0] * 2, [1] * 2]


def test_repeats_count_if_any_says_so() -> None:
    index = torch.tensor([[1, 1, 0, 0]])
    recency = Recency(1, 3).accessed(index, torch.tensor([[True, False, False, True]]))
    assert recency.last_access().tolist() == [[1, 1, 0]]


def test_copies() -> None:
    recency = Recency(2, 200).accessed(torch.tensor([[5, 150], [0, 7]]), torch.ones(2, 2).bool())
    for one in (
        copy.deepcopy(recency),
        pickle.loads(pickle.dumps(recency)),
        Recency.from_dict(recency.to_dict()),
        recency.select(torch.tensor([0, 1])),
    ):
        changed = one.accessed(torch.tensor([[1], [1]]), torch.ones(2, 1).bool())
        assert one.last_access().tolist() == recency.last_access().tolist()
        assert changed.last_access()[0, [1, 5, 150]].tolist() == [2, 1, 1]
        assert changed.least().tolist() == [0, 2]
    twice = recency.select(torch.tensor([1, 1]))
    changed = twice.accessed(torch.tensor([[1], [2]]), torch.ones(2, 1).bool())
    assert changed.least().tolist() == [2, 1]
    assert recency.least().tolist() == [0, 1]


def test_bad_input() -> None:
    recency, which = Recency(2, 5), torch.ones(2, 1).bool()
    for index, message in (
        (torch.tensor([[0], [5]]), "index: expected slots in [0, 5), got 5"),
        (torch.tensor([[0], [-1]]), "index: expected slots in [0, 5), got -1"),
        (torch.zeros(3, 1, dtype=torch.int64), "index: expected shape [2, J], got [3, 1]"),
        (
            torch.zeros(2, 3, dtype=torch.int64),
            "which: expected torch.bool of shape [2, 3], got torch.bool of shape [2, 1]",
        ),
    ):
        with pytest.raises(MemcoreError, match=re.escape(message)):
            # Beneath the type checks that only the tests have.
            inspect.unwrap(Recency.accessed)(recency, index, which)
    with pytest.raises(MemcoreError, match="slots: expected an int of at least 1, got 0"):
        Recency(2, 0)
    saved = recency.accessed(torch.tensor([[0], [4]]), which).to_dict()
    for name, value, message in (
        ("slots", saved["slots"] + 1, "saved['slots']: expected numbers in [0, 10)"),
        ("times", saved["times"] + 1, "saved['times']: expected numbers in [1, time]"),
        ("time", torch.zeros(3), "saved: expected time [2]"),
        ("shape", None, "saved: expected a dict of tensors shape, time, slots, times"),
    ):
        with pytest.raises(MemcoreError, match=re.escape(message)):
            inspect.unwrap(Recency.from_dict.__func__)(Recency, {**saved, name: value})  # pyright: ignore[reportArgumentType]
    for examples in ([0], torch.tensor([2]), torch.tensor([-1, 0]), torch.tensor([True, False])):
        with pytest.raises((MemcoreError, TypeError), match="examples: expected"):
            inspect.unwrap(Recency.select)(recency, examples)  # pyright: ignore
    for flags in (torch.tensor([0, 1]), torch.tensor([True])):
        with pytest.raises(MemcoreError, match=re.escape("examples: expected a bool tensor [2]")):
            recency.cleared(flags)
    with pytest.raises(MemcoreError, match="count: expected 1 to 2, got 3"):
        recency.narrow(3)
    assert recency.least().tolist() == [0, 0]


def test_what_was_not_narrowed_is_not_widened() -> None:
    with pytest.raises(MemcoreError, match="before: expected the Recency that this was narrowed"):
        Recency(3, 5).narrow(2).widen(Recency(3, 5))
    with pytest.raises(TypeError, match="before"):
        Recency(3, 5).narrow(2).widen(5)  # pyright: ignore
