"""Sparse temporal links, against the dense rule and a dense statement of the truncation."""

from __future__ import annotations

import copy
import inspect
import pickle
import random
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import memcore
from memcore import MemcoreError, SparseLinks
from memcore.testing import assert_links, assert_subsimplex
from rollouts import of_rollouts

Dense = tuple[Tensor, Tensor]  # links [N, N], precedence [N]
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-12}


def draw(generator: torch.Generator, slots: int, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Slots ``[B, J]``, with repeats, and weights on the sub-simplex."""
    index = torch.randint(slots, shape, generator=generator)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64) ** 4
    weights[torch.rand(shape, generator=generator) < 0.2] = 0
    # Full writes too.
    most = (2 * torch.rand(shape[0], 1, generator=generator, dtype=torch.float64)).clamp(max=1)
    return index, most * weights / weights.sum(1, keepdim=True).clamp(min=1e-9)


def dense_step(state: Dense, index: Tensor, weights: Tensor) -> Dense:
    """The dense rule, `memcore.link` and `memcore.precedence`, of one example."""
    links, on = state
    dense = torch.zeros_like(on).scatter_add(0, index, weights)
    return memcore.link(links, dense, on), memcore.precedence(on, dense)


def truncated_step(state: Dense, index: Tensor, weights: Tensor, reads: int) -> Dense:
    """That, then the largest of each row written, each column preceding, and the precedence."""
    before = state[1]
    links, on = dense_step(state, index, weights)
    for row in set(index.tolist()):
        links[row] = largest(links[row], reads)
    for column in before.nonzero().squeeze(1):
        links[:, column] = largest(links[:, column], reads)
    return links, largest(on, reads)


def largest(values: Tensor, count: int) -> Tensor:
    """By 15 binary digits, of equal ones the lowest."""
    digits = values.numpy().astype(np.float32).view(np.int32) >> 8
    best = sorted(range(len(values)), key=lambda slot: (-digits[slot], slot))[:count]
    return torch.zeros_like(values).index_copy(0, torch.tensor(best), values[best])


def spread(index: Tensor, weights: Tensor, slots: int) -> Tensor:
    """Sparse weights ``[..., K]`` as dense ones ``[..., N]``."""
    return weights.new_zeros(*index.shape[:-1], slots).scatter_add(-1, index, weights)


def on_slots(links: SparseLinks) -> Tensor:
    index, weights = links.precedence()
    return spread(index.cpu(), weights.cpu(), links.slots)


@pytest.mark.parametrize("slots", [1, 2, 6, 13])
def test_with_all_slots_it_is_the_dense_rule(slots: int, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(slots)
    links = SparseLinks(2, slots, slots, dtype=torch.float64, device=device)
    zeros = torch.zeros(slots, dtype=torch.float64)
    dense = [(torch.zeros(slots, slots, dtype=torch.float64), zeros) for _ in range(2)]
    for _ in range(200):
        index, weights = draw(generator, slots, (2, 7))
        links = links.written(index.to(device), weights.to(device))
        dense = [dense_step(*one) for one in zip(dense, index, weights, strict=True)]
        ours = links.to_tensor().cpu()
        torch.testing.assert_close(ours, torch.stack([own for own, _ in dense]), **CLOSE)
        precedence = on_slots(links)
        torch.testing.assert_close(precedence, torch.stack([on for _, on in dense]), **CLOSE)
        read, read_weights = draw(generator, slots, (2, 15))
        read, read_weights = read.unflatten(1, (3, 5)), read_weights.unflatten(1, (3, 5))
        found = links.directional_weightings(read.to(device), read_weights.to(device))
        for example in range(2):
            forward, backward = memcore.directional_weightings(
                dense[example][0], spread(read, read_weights, slots)[example]
            )
            for expected, at, weight in (
                (forward, found.forward_index, found.forward_weights),
                (backward, found.backward_index, found.backward_weights),
            ):
                mine = spread(at[example].cpu(), weight[example].cpu(), slots)
                torch.testing.assert_close(mine, expected, **CLOSE)


@pytest.mark.parametrize(("slots", "reads"), [(9, 1), (9, 2), (9, 4), (30, 3), (5, 4)])
@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_the_largest_are_kept(slots: int, reads: int, seed: int, device: torch.device) -> None:
    """Also of old versions, of branches, after clearing and of part of the batch."""
    choice, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def empty() -> Dense:
        zeros = torch.zeros(slots, slots, dtype=torch.float64)
        return zeros, zeros[0].clone()

    first = SparseLinks(3, slots, reads, dtype=torch.float64, device=device)
    versions = [(first, [empty() for _ in range(3)])]
    for _ in range(50):
        links, dense = versions[-1] if choice.random() < 0.8 else choice.choice(versions)
        index, weights = draw(generator, slots, (3, choice.choice([1, 4, 7])))
        index, weights = index.to(device), weights.to(device)
        kind = choice.random()
        if kind < 0.1:
            links = links.cleared(torch.tensor([True, False, True], device=device))
            dense = [empty(), dense[1], empty()]
        elif kind < 0.3:
            whole = links.select(torch.tensor([2, 0, 1], device=device))
            part = whole.narrow(2).written(index[:2], weights[:2])
            links = part.widen(whole).select(torch.tensor([1, 2, 0], device=device))
            moved = [
                truncated_step(dense[example], index[row].cpu(), weights[row].cpu(), reads)
                for row, example in enumerate((2, 0))
            ]
            dense = [moved[1], dense[1], moved[0]]
        else:
            links = links.written(index, weights)
            dense = [
                truncated_step(own, slots_of_step, weights_of_step, reads)
                for own, slots_of_step, weights_of_step in zip(
                    dense, index.cpu(), weights.cpu(), strict=True
                )
            ]
        versions.append((links, dense))
        choice.shuffle(versions)
    for links, dense in versions:
        ours = links.to_tensor().cpu()
        torch.testing.assert_close(ours, torch.stack([own for own, _ in dense]), **CLOSE)
        on = on_slots(links)
        torch.testing.assert_close(on, torch.stack([own for _, own in dense]), **CLOSE)
        assert_links(links)


@of_rollouts
@given(
    st.integers(0, 2**32),
    st.sampled_from([(1, 1), (7, 1), (7, 3), (7, 7), (100, 4)]),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_invariants(
    seed: int, shape: tuple[int, int], dtype: torch.dtype, sharpness: float
) -> None:
    """Everything on the sub-simplex, also for full and for saturated writes."""
    slots, reads = shape
    generator = torch.Generator().manual_seed(seed)
    links = SparseLinks(2, slots, reads, dtype=dtype)
    for _ in range(15):
        index, weights = draw(generator, min(slots, 11), (2, 6))
        if torch.rand((), generator=generator) < sharpness:
            weights = torch.nn.functional.one_hot(weights.argmax(1), 6).double()
        links = links.written(index, weights.to(dtype))
        assert_links(links)
        # Not to rounding only: it compares bits, and refuses what is negative when loading.
        assert torch.equal(SparseLinks.from_dict(links.to_dict()).to_tensor(), links.to_tensor())
        read, weights = draw(generator, min(slots, 11), (2, 6))
        found = links.directional_weightings(
            read.unflatten(1, (2, 3)), weights.to(dtype).unflatten(1, (2, 3))
        )
        assert_subsimplex(found.forward_weights)
        assert_subsimplex(found.backward_weights)
        for at, weight in (found[:2], found[2:]):
            assert at.shape == (2, 2, reads)
            assert 0 <= int(at.min()) <= int(at.max()) < slots
            for slots_of_head, own in zip(at.flatten(0, 1), weight.flatten(0, 1), strict=True):
                used = slots_of_head[own > 0].tolist()
                assert len(set(used)) == len(used)


def test_a_write_of_nothing_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    links = SparseLinks(2, 8, 3, dtype=torch.float64)
    for _ in range(10):
        links = links.written(*draw(generator, 8, (2, 5)))
    after = links.written(torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4).double())
    assert torch.equal(after.to_tensor(), links.to_tensor())
    for ours, theirs in zip(after.precedence(), links.precedence(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_order_of_writing_is_followed_both_ways() -> None:
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    links, one = SparseLinks(1, 500, 1), torch.ones(1, 1)
    for slot in order:
        links = links.written(slot.view(1, 1), one)
    for before, after in pairwise(order):
        forward = links.directional_weightings(before.view(1, 1, 1), one[None])
        assert (forward.forward_index.item(), forward.forward_weights.item()) == (after, 1)
        backward = links.directional_weightings(after.view(1, 1, 1), one[None])
        assert (backward.backward_index.item(), backward.backward_weights.item()) == (before, 1)
    assert [part.item() for part in links.precedence()] == [order[-1], 1]


def test_of_equal_weights_the_lowest_slots_are_kept() -> None:
    """In the precedence, in rows, in columns and where links are followed; also up to rounding."""
    slots, one = torch.tensor([[7, 3, 5, 1]]), torch.ones(1, 1, dtype=torch.float64)
    for excess in (0, 1e-7):
        weights = torch.full((1, 4), 0.25, dtype=torch.float64) * (1 + excess * slots)
        links = SparseLinks(1, 9, 2, dtype=torch.float64).written(slots, weights)
        assert links.precedence()[0].tolist() == [[1, 3]]
        after = links.written(torch.tensor([[8]]), one)
        assert after.to_tensor()[0, 8].nonzero().flatten().tolist() == [1, 3]
        single = SparseLinks(1, 9, 2, dtype=torch.float64).written(torch.tensor([[8]]), one)
        after = single.written(slots, weights)
        assert after.to_tensor()[0, :, 8].nonzero().flatten().tolist() == [1, 3]
        found = after.directional_weightings(torch.tensor([[[8]]]), one[None])
        assert found.forward_index.tolist() == [[[1, 3]]]
    # Of four slots, each with a link to another, the first two.
    links = SparseLinks(1, 9, 2, dtype=torch.float64)
    for slot in (8, 4, 6, 2, 7, 0, 5, 3):
        links = links.written(torch.tensor([[slot]]), one)
    read = torch.tensor([[[8, 6, 7, 5]]])
    found = links.directional_weightings(read, torch.full((1, 1, 4), 0.25, dtype=torch.float64))
    assert found.forward_index.tolist() == [[[0, 2]]]


def test_links_among_slots() -> None:
    generator = torch.Generator().manual_seed(0)
    links = SparseLinks(2, 8, 3)
    for _ in range(10):
        index, weights = draw(generator, 8, (2, 5))
        links = links.written(index, weights.float())
    dense = links.to_tensor()
    some = torch.tensor([[3, 1, 3], [0, 7, 2]])
    for example in range(2):
        expected = dense[example][some[example]][:, some[example]]
        assert torch.equal(links.among(some)[example], expected)
    assert dense.any()


def test_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    links = SparseLinks(3, 40, 2, dtype=torch.float64)
    for _ in range(30):
        links = links.written(*draw(generator, 12, (3, 5)))
    some = torch.tensor([2, 0])
    write = draw(generator, 12, (3, 5))
    expected = links.written(*write)
    for one in (
        copy.deepcopy(links),
        pickle.loads(pickle.dumps(links)),
        SparseLinks.from_dict(links.to_dict()),
        links.select(torch.arange(3)),
    ):
        assert torch.equal(one.to_tensor(), links.to_tensor())
        assert torch.equal(one.written(*write).to_tensor(), expected.to_tensor())
        assert torch.equal(one.to_tensor(), links.to_tensor())
    twice = links.select(torch.tensor([1, 1]))
    part = SparseLinks.from_dict(links.select(some).to_dict())
    assert torch.equal(part.to_tensor(), links.to_tensor()[some])
    changed = twice.written(write[0][:2], write[1][:2]).to_tensor()
    assert torch.equal(twice.to_tensor(), links.to_tensor()[[1, 1]])
    assert not torch.equal(changed[0], changed[1])


def test_an_example_does_not_depend_on_its_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    together = SparseLinks(4, 20, 3)
    alone = [SparseLinks(1, 20, 3) for _ in range(4)]
    for _ in range(30):
        index, weights = draw(generator, 20, (4, 9))
        together = together.written(index, weights.float())
        alone = [own.written(index[[row]], weights[[row]].float()) for row, own in enumerate(alone)]
    for row, own in enumerate(alone):
        assert torch.equal(together.to_tensor()[[row]], own.to_tensor())


def test_bad_input() -> None:
    links, index, weights = SparseLinks(2, 5, 2), torch.tensor([[0], [4]]), torch.ones(2, 1)
    for arguments, message in (
        ((index + 1, weights), "index: expected slots in [0, 5), got 5"),
        ((index - 1, weights), "index: expected slots in [0, 5), got -1"),
        ((index[:1], weights), "index: expected shape [2, J], got [1, 1]"),
        ((index, weights[:1]), "weights: expected shape [2, 1], got [1, 1]"),
        ((index, weights.double()), "weights: expected dtype torch.float32, got torch.float64"),
        ((index.float(), weights), "index: expected dtype int64 or int32, got torch.float32"),
    ):
        with pytest.raises(MemcoreError, match=re.escape(message)):
            inspect.unwrap(SparseLinks.written)(links, *arguments)
    with pytest.raises(MemcoreError, match=re.escape("index: expected shape [B, R, V], got [2")):
        inspect.unwrap(SparseLinks.directional_weightings)(links, index, weights)
    with pytest.raises(MemcoreError, match="temporal_reads: expected at most slots = 5, got 6"):
        SparseLinks(2, 5, 6)
    with pytest.raises(MemcoreError, match="temporal_reads: expected an int of at least 1, got 0"):
        SparseLinks(2, 5, 0)
    links = links.written(index, weights).written((index + 1) % 5, weights)
    saved = links.to_dict()
    for name, value, message in (
        ("rows", saved["rows"] + 5, "saved['rows']: expected shape [4] in [0, 9]"),
        ("value", saved["value"] + 1, "saved['value']: expected shape [4, 2] in [0, 1]"),
        ("before", saved["before"][:1], "saved['before']: expected shape [4, 2] in [0, 5]"),
        ("after", saved["after"] * 0, "saved: expected ascending rows, no link of a slot"),
        ("on", saved["on"] + 5, "saved['on']: expected shape [2, 2] in [0, 4]"),
        ("rows", saved["rows"].flip(0), "saved: expected ascending rows"),
        ("shape", None, "saved: expected a dict of tensors shape, rows, before, value, after"),
    ):
        with pytest.raises(MemcoreError, match=re.escape(message)):
            # Beneath the type checks that only the tests have.
            inspect.unwrap(SparseLinks.from_dict.__func__)(SparseLinks, {**saved, name: value})  # pyright: ignore[reportArgumentType]
    assert torch.equal(links.to_tensor(), SparseLinks.from_dict(saved).to_tensor())
