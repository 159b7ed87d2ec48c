"""The published test helpers must themselves notice what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from memcore import RowMemory, SparseWrite, dam, dnc, sam, sdnc
from memcore.testing import (
    assert_dnc_state,
    assert_finite,
    assert_sam_state,
    assert_sdnc_state,
    assert_simplex,
    assert_subsimplex,
    complex_step_derivative,
    oracle,
)
from memcore.testing import strategies as some


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.6], "sums to 1.1"),
        ([-0.1, 0.5], "smallest element -0.1"),
        ([float("nan"), 0.5], "1 of 2 elements are not finite"),
    ],
)
def test_what_is_not_on_the_subsimplex(weights: list[float], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_subsimplex(torch.tensor(weights, dtype=torch.float64))


def test_what_is_not_on_the_simplex() -> None:
    assert_simplex(torch.tensor([0.5, 0.5]))
    with pytest.raises(AssertionError, match="under 1"):
        assert_simplex(torch.tensor([0.5, 0.4]))


def test_what_is_not_finite() -> None:
    with pytest.raises(AssertionError, match="reads: 2 of 3 elements are not finite"):
        assert_finite(torch.tensor([1.0, torch.inf, torch.nan]), "reads")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("usage", torch.full((3,), 1.1), "usage: largest element"),
        ("precedence", torch.full((3,), 0.5), "precedence: a row sums to 1.5"),
        ("link", torch.eye(3) / 2, "the diagonal holds 0.5"),
        ("link", torch.ones(3, 3).tril(-1), "link: a row sums to 2"),
        ("link", torch.ones(3, 3).triu(1) * 0.5, None),
        ("link", torch.tensor([[0.0, 1, 0], [0, 0, 0], [0, 1, 0]]), "column sums"),
        ("memory", torch.full((3, 2), torch.inf), "memory: 6 of 6"),
    ],
)
def test_what_is_no_dnc_state(field: str, value: torch.Tensor, message: str | None) -> None:
    state = dnc.init_state(3, 2, 1)._replace(**{field: value})
    if message is None:
        assert_dnc_state(state)
        return
    with pytest.raises(AssertionError, match=message):
        assert_dnc_state(state)


@given(st.data(), st.integers(1, 5), st.integers(1, 3), st.integers(1, 2))
def test_strategies_draw_what_they_promise(
    data: st.DataObject, slots: int, words: int, heads: int
) -> None:
    assert_dnc_state(data.draw(some.dnc_states(slots, words, heads)))
    assert_subsimplex(data.draw(some.weightings((heads, slots))))
    memory = data.draw(some.memories(slots, words, bound=2))
    assert memory.shape == (slots, words)
    assert memory.abs().max() <= 2
    assert (data.draw(some.strengths(heads)) >= 1).all()
    usage = data.draw(some.usages(slots))
    assert ((usage >= 0) & (usage <= 1)).all()


batches, slots_, words_, heads_ = (st.integers(1, most) for most in (3, 5, 3, 2))
quickly = settings(max_examples=15)


@quickly
@given(st.data(), batches, slots_, words_, heads_)
def test_strategies_of_sparse_memories_draw_what_they_promise(
    data: st.DataObject, batch: int, slots: int, words: int, heads: int
) -> None:
    reads = data.draw(st.integers(1, slots))
    sizes = (batch, slots, words, heads, reads)
    before = data.draw(some.sam_states(*sizes, max_steps=3))
    assert_sam_state(before)
    vectors, after = sam.step(before, data.draw(some.sam_interfaces(batch, words, heads)))
    assert vectors.shape == (batch, heads, words)
    assert_sam_state(after)
    before = data.draw(some.sdnc_states(*sizes, 1, max_steps=3))
    assert_sdnc_state(before)
    _, after = sdnc.step(before, data.draw(some.sdnc_interfaces(batch, words, heads)))
    assert_sdnc_state(after)


@quickly
@given(st.data(), slots_, words_, heads_)
def test_the_strategies_of_dam(data: st.DataObject, slots: int, words: int, heads: int) -> None:
    state = data.draw(some.dam_states(slots, words, heads, max_steps=3))
    _, after = dam.step(state, data.draw(some.dam_interfaces(words, heads)))
    for weights in (state.write_weights, state.read_weights, after.read_weights):
        assert_subsimplex(weights)


@quickly
@given(st.data(), batches, slots_, words_)
def test_sparse_writes_are_written(data: st.DataObject, batch: int, slots: int, words: int) -> None:
    write = data.draw(some.sparse_writes(batch, slots, words))
    memory = RowMemory.filled(torch.ones(words, dtype=torch.float64), batch, slots)
    expected = torch.ones(batch, slots, words, dtype=torch.float64)
    for example in range(batch):
        expected[example, write.erase[example]] = 0
        expected[example].index_add_(0, write.index[example], write.add[example])
    torch.testing.assert_close(memory.write(write).to_tensor(), expected)


def smallest(strategy: st.SearchStrategy, condition: Callable[[Any], bool]) -> Any:
    return find(strategy, condition, settings=settings(database=None, max_examples=100))


def test_sparse_writes_repeat_slots_and_erase_none_or_some() -> None:
    seen = set()

    @settings(max_examples=40, derandomize=True, database=None)
    @given(some.sparse_writes(1, 3, 1))
    def note(write: SparseWrite) -> None:
        seen.add((write.index.unique().numel() < write.index.numel(), write.erase.numel() > 0))

    note()
    assert seen == {(False, False), (False, True), (True, False), (True, True)}
    plain = smallest(some.sparse_writes(1, 3, 1), lambda write: True)
    assert (plain.erase.numel(), plain.index.tolist(), plain.add.any()) == (0, [[0]], False)


def test_rollouts_are_steps_one_after_the_other_and_shrink_to_one() -> None:
    def step(state: int, told: int) -> tuple[None, int]:
        return None, state + told

    rolled = some.rollouts(lambda: 7, step, st.integers(0, 9), max_steps=3)
    assert smallest(rolled, lambda pairs: True) == [(7, 0)]
    assert smallest(rolled, lambda pairs: pairs[-1][0] > 9) == [(7, 3), (10, 0)]
    assert smallest(rolled, lambda pairs: len(pairs) == 3) == [(7, 0)] * 3


def test_the_oracle_does_not_overflow() -> None:
    for value in (-800.0, 800.0):
        interface = oracle.dnc_parse_interface(np.full(28, value), 3, 2)
        reads, _ = oracle.dnc_step(oracle.dnc_initial_state(4, 3, 2), interface)
        assert np.isfinite(reads).all()


def test_complex_step_is_exact() -> None:
    point, direction = np.array([0.3, -2.0]), np.array([1.0, 0.5])
    derivative = complex_step_derivative(lambda x: np.exp(x) * x[0], point, direction)
    expected = np.exp(point) * point[0] * direction + np.exp(point) * direction[0]
    np.testing.assert_allclose(derivative, expected, rtol=1e-15)
