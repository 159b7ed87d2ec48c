"""The invariants of the DNC as properties, over shapes and values with all their edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import memcore
from memcore import dnc
from memcore.testing import (
    assert_dnc_state,
    assert_finite,
    assert_simplex,
    assert_subsimplex,
)
from memcore.testing import strategies as some

Drawn = TypeVar("Drawn")

slots_, words_, heads_ = st.integers(1, 7), st.integers(1, 4), st.integers(1, 3)
dtypes_ = st.sampled_from([torch.float32, torch.float64])


@st.composite
def problems(draw: Callable, max_slots: int = 7) -> tuple[dnc.DNCState, dnc.DNCInterface]:
    slots, words, heads = draw(st.integers(1, max_slots)), draw(words_), draw(heads_)
    dtype = draw(dtypes_)
    state = draw(some.dnc_states(slots, words, heads, dtype=dtype))
    return state, draw(some.dnc_interfaces(words, heads, dtype=dtype))


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    slack = 64 * torch.finfo(one.dtype).eps
    torch.testing.assert_close(one, other, rtol=slack, atol=slack)


@given(st.data(), slots_, words_, heads_, dtypes_, st.sampled_from([1.0, 1e3, 1e15]))
def test_content_weighting_is_on_the_simplex(
    data: st.DataObject, slots: int, words: int, heads: int, dtype: torch.dtype, bound: float
) -> None:
    memory = data.draw(some.memories(slots, words, bound=bound, dtype=dtype))
    keys = data.draw(some.memories(heads, words, bound=bound, dtype=dtype))
    strengths = data.draw(some.strengths(heads, dtype=dtype))
    assert_simplex(memcore.content_weighting(memory, keys, strengths))


@given(words_, heads_, slots_)
def test_content_weighting_of_an_empty_memory_is_uniform(
    words: int, heads: int, slots: int
) -> None:
    weights = memcore.content_weighting(
        torch.zeros(slots, words), torch.ones(heads, words), torch.full((heads,), 9.0)
    )
    close(weights, torch.full((heads, slots), 1 / slots))


@given(st.data(), slots_, heads_, dtypes_)
def test_retention_and_usage_stay_in_range(
    data: st.DataObject, slots: int, heads: int, dtype: torch.dtype
) -> None:
    kept = memcore.retention(
        data.draw(some.gates((heads,), dtype=dtype)),
        data.draw(some.weightings((heads, slots), dtype=dtype)),
    )
    used = memcore.usage(
        data.draw(some.usages(slots, dtype=dtype)),
        data.draw(some.weightings((slots,), dtype=dtype)),
        kept,
    )
    assert ((kept >= 0) & (kept <= 1)).all()
    slack = torch.finfo(dtype).eps
    assert ((used >= 0) & (used <= 1 + slack)).all()


@given(st.data(), slots_, dtypes_)
def test_allocation_weighting_sums_to_what_is_free(
    data: st.DataObject, slots: int, dtype: torch.dtype
) -> None:
    usage = data.draw(some.usages(slots, dtype=dtype))
    weights = memcore.allocation_weighting(usage)
    assert_subsimplex(weights)
    close(weights.sum(), 1 - usage.prod())


@given(slots_, dtypes_)
def test_a_full_memory_allocates_nothing(slots: int, dtype: torch.dtype) -> None:
    assert not memcore.allocation_weighting(torch.ones(slots, dtype=dtype)).any()


@given(problems())
def test_a_step_keeps_every_invariant(problem: tuple[dnc.DNCState, dnc.DNCInterface]) -> None:
    state, interface = problem
    reads, after = dnc.step(state, interface)
    assert_finite(reads)
    assert_dnc_state(after)
    forward, backward = memcore.directional_weightings(after.link, state.read_weights)
    assert_subsimplex(forward)
    assert_subsimplex(backward)
    slack = 64 * torch.finfo(reads.dtype).eps
    assert after.write_weights.sum() <= interface.write_gate + slack


@given(problems())
def test_a_closed_write_gate_changes_nothing(
    problem: tuple[dnc.DNCState, dnc.DNCInterface],
) -> None:
    state, interface = problem
    _, after = dnc.step(state, interface._replace(write_gate=interface.write_gate * 0))
    for field in ("memory", "link", "precedence"):
        assert torch.equal(getattr(after, field), getattr(state, field))
    assert not after.write_weights.any()


@given(problems(), st.randoms(use_true_random=False))
def test_permuting_the_slots_permutes_the_result(
    problem: tuple[dnc.DNCState, dnc.DNCInterface], random
) -> None:
    state, interface = problem
    slots = state.usage.shape[0]
    # Distinct usages, far enough apart that rounding cannot change their order.
    levels = torch.arange(1, slots + 1, dtype=state.usage.dtype) / (slots + 1)
    state = state._replace(usage=levels, write_weights=torch.zeros_like(levels))
    used = memcore.usage(
        levels, state.write_weights, memcore.retention(interface.free_gates, state.read_weights)
    )
    gaps = used.sort().values.diff()
    assume(not len(gaps) or bool(gaps.min() > 1e-5))
    order = torch.tensor(random.sample(range(slots), slots))

    def permuted(state: dnc.DNCState) -> dnc.DNCState:
        return dnc.DNCState(
            memory=state.memory[order],
            usage=state.usage[order],
            precedence=state.precedence[order],
            link=state.link[order][:, order],
            read_weights=state.read_weights[:, order],
            write_weights=state.write_weights[order],
        )

    reads, after = dnc.step(state, interface)
    reads_permuted, after_permuted = dnc.step(permuted(state), interface)
    scale = 1 + float(reads.abs().max())
    close(reads_permuted / scale, reads / scale)
    memory_scale = 1 + float(after.memory.abs().max())
    close(after_permuted.memory / memory_scale, permuted(after).memory / memory_scale)
    for field in dnc.DNCState._fields[1:]:
        close(getattr(after_permuted, field), getattr(permuted(after), field))


@given(st.data(), slots_, heads_, dtypes_)
def test_weighting_gates_stay_on_the_subsimplex(
    data: st.DataObject, slots: int, heads: int, dtype: torch.dtype
) -> None:
    def weights(*shape: int) -> torch.Tensor:
        return data.draw(some.weightings(shape, dtype=dtype))

    gate = data.draw(some.gates((2,), dtype=dtype))
    written = memcore.write_weighting(weights(slots), weights(slots), gate[0], gate[1])
    assert_subsimplex(written)
    modes = data.draw(some.gates((heads, 3), dtype=dtype)).softmax(-1)
    read = memcore.read_weighting(
        weights(heads, slots), weights(heads, slots), weights(heads, slots), modes
    )
    assert_subsimplex(read)


@given(st.data(), slots_, heads_, st.sampled_from([1, 3, 5, 9]), dtypes_)
def test_shifting_keeps_what_there_is(
    data: st.DataObject, slots: int, heads: int, offsets: int, dtype: torch.dtype
) -> None:
    weights = data.draw(some.weightings((heads, slots), dtype=dtype))
    shift = data.draw(some.gates((heads, offsets), dtype=dtype)).softmax(-1)
    moved = memcore.circular_shift(weights, shift)
    assert_subsimplex(moved)
    close(moved.sum(-1), weights.sum(-1))
    # As far as the memory is long, it is where it was.
    round_trip = torch.eye(2 * slots + 1, dtype=dtype)[2 * slots].expand(heads, -1)
    assert torch.equal(memcore.circular_shift(weights, round_trip), weights)
    # The slots have no first one: first moved on by one, then shifted, is the same the other way.
    close(memcore.circular_shift(weights.roll(1, -1), shift), moved.roll(1, -1))


@given(st.data(), slots_, heads_, dtypes_)
def test_interpolation_stays_between(
    data: st.DataObject, slots: int, heads: int, dtype: torch.dtype
) -> None:
    content, previous = (data.draw(some.weightings((heads, slots), dtype=dtype)) for _ in range(2))
    gate = data.draw(some.gates((heads,), dtype=dtype))
    between = memcore.interpolate(content, previous, gate)
    assert_subsimplex(between)
    slack = 4 * torch.finfo(dtype).eps
    assert (between >= torch.minimum(content, previous) - slack).all()
    assert (between <= torch.maximum(content, previous) + slack).all()
    assert torch.equal(memcore.interpolate(content, previous, torch.ones_like(gate)), content)
    assert torch.equal(memcore.interpolate(content, previous, torch.zeros_like(gate)), previous)
