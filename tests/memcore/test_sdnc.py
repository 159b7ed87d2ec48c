"""The SDNC against the oracle, and what its steps promise."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import memcore
from memcore import MemcoreError, SparseLinks, dnc, sdnc, sparse_state
from memcore.testing import (
    assert_sdnc_state,
    assert_subsimplex,
    complex_step_derivative,
    sdnc_oracle,
)
from rollouts import of_rollouts

STEPS = 7
# slots, word size, read heads, sparse reads, temporal reads
SIZES = [(8, 3, 1, 2, 1), (8, 3, 3, 3, 2), (5, 2, 2, 5, 5), (1, 2, 1, 1, 1), (40, 3, 2, 4, 3)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


def draw(shape: tuple[int, ...], batch: int, seed: int, scale: float = 2) -> Tensor:
    """Interface vectors ``[T, B, I]``; write gates mostly open, so that something is written."""
    generator = torch.Generator().manual_seed(seed)
    size = sdnc.interface_size(shape[1], shape[2])
    vectors = scale * torch.randn(STEPS, batch, size, generator=generator, dtype=torch.float64)
    gates = -3 * shape[2]
    vectors[..., gates - 2 : gates] += 1
    return vectors


def parse(vectors: Tensor, shape: tuple[int, ...]) -> sdnc.SDNCInterface:
    return torch.func.vmap(lambda vector: sdnc.parse_interface(vector, shape[1], shape[2]))(vectors)


def begin(shape: tuple[int, ...], batch: int, **options: Any) -> sdnc.SDNCState:
    return sdnc.init_state(batch, *shape, **{"dtype": torch.float64, **options})


def roll(
    vectors: Tensor, shape: tuple[int, ...], state: sdnc.SDNCState
) -> tuple[Tensor, sdnc.SDNCState]:
    """Read vectors ``[B, T, R, W]`` and the last state."""
    reads = []
    for vector in vectors:
        read, state = sdnc.step(state, parse(vector, shape))
        reads.append(read)
    return torch.stack(reads, 1), state


def roll_oracle(
    vectors: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The same of one example, ``[T, I]``."""
    state, reads = sdnc_oracle.sdnc_initial_state(*shape), []
    for vector in vectors:
        interface = sdnc_oracle.sdnc_parse_interface(vector, shape[1], shape[2])
        read, state = sdnc_oracle.sdnc_step(state, interface, *shape[3:])
        reads.append(read)
    return np.array(reads), state


def spread(index: Any, weights: Any, slots: int) -> np.ndarray:
    """Sparse weightings ``[..., V]`` as dense ones ``[..., N]``."""
    weights = torch.as_tensor(weights)
    dense = weights.new_zeros(*weights.shape[:-1], slots)
    return dense.scatter_add(-1, torch.as_tensor(index), weights).detach().numpy()


@sizes
@pytest.mark.parametrize("scale", [0.3, pytest.param(2.0, marks=pytest.mark.slow), 8.0])
def test_outputs_equal_the_oracle(shape: tuple[int, ...], scale: float) -> None:
    for seed in range(2):
        vectors = draw(shape, 3, seed, scale)
        reads, state = roll(vectors, shape, begin(shape, 3))
        on, precedence = state.links.precedence()
        for example in range(3):
            expected, final = roll_oracle(vectors[:, example].numpy(), shape)
            np.testing.assert_allclose(reads[example], expected, rtol=0, atol=1e-12)
            read = (final["read_index"], final["read_weights"], shape[0])
            for ours, theirs in (
                (state.memory.to_tensor()[example], final["memory"]),
                (state.recency.last_access()[example], final["last_access"]),
                (state.links.to_tensor()[example], final["link"]),
                (spread(on, precedence, shape[0])[example], final["precedence"]),
                (spread(state.read_index, state.read_weights, shape[0])[example], spread(*read)),
            ):
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@sizes
def test_gradients_equal_the_oracle(shape: tuple[int, ...]) -> None:
    """Of read vectors and final memory; the links are constants."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(3):
        vectors = draw(shape, 1, seed).requires_grad_()
        reads, state = roll(vectors, shape, begin(shape, 1))
        outputs = torch.cat([reads.flatten(), state.memory.to_tensor().flatten()])
        cotangent = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(outputs @ cotangent, vectors)

        def flat(point: np.ndarray) -> np.ndarray:
            reads, state = roll_oracle(point, shape)
            return np.concatenate([reads.flatten(), state["memory"].flatten()])

        for _ in range(4):
            direction = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
            theirs = complex_step_derivative(
                flat, vectors[:, 0].detach().numpy(), direction[:, 0].numpy()
            )
            expected = float(theirs @ cotangent.numpy())
            assert float((gradient * direction).sum()) == pytest.approx(
                expected, rel=1e-9, abs=1e-9
            )


def test_with_all_slots_the_links_are_the_dense_dncs() -> None:
    """Over 200 random steps of a DNC whose write and read weightings both are given."""
    slots, heads, steps = 6, 2, 200
    generator = torch.Generator().manual_seed(0)
    state = dnc.init_state(slots, 3, heads, dtype=torch.float64)
    links = SparseLinks(1, slots, slots, dtype=torch.float64)
    every = torch.arange(slots)
    for _ in range(steps):
        vector = 2 * torch.randn(dnc.interface_size(3, heads), generator=generator).double()
        read_before = state.read_weights
        _, state = dnc.step(state, dnc.parse_interface(vector, 3, heads))
        links = links.written(every[None], state.write_weights[None])
        torch.testing.assert_close(links.to_tensor()[0], state.link, rtol=0, atol=1e-12)
        index, weights = links.precedence()
        dense = torch.zeros(slots).double().scatter(0, index[0], weights[0])
        torch.testing.assert_close(dense, state.precedence, rtol=0, atol=1e-12)
        found = links.directional_weightings(every.expand(1, heads, -1), read_before[None])
        forward, backward = memcore.directional_weightings(state.link, read_before)
        for at, own, expected in ((*found[:2], backward), (*found[2:], forward)):
            np.testing.assert_allclose(spread(at, own, slots)[0], expected, rtol=0, atol=1e-12)


@of_rollouts
@given(st.integers(0, 2**32), st.sampled_from(SIZES), st.sampled_from([0.1, 3.0, 50.0]))
def test_invariants(seed: int, shape: tuple[int, ...], scale: float) -> None:
    state = begin(shape, 2)
    temporal = shape[4]
    for vector in draw(shape, 2, seed, scale):
        interface, before = parse(vector, shape), state
        reads, state = sdnc.step(state, interface)
        assert_sdnc_state(state)
        assert reads.isfinite().all()
        assert (state.write_weights.sum(-1) <= interface.write_gate + 1e-12).all()
        assert torch.equal(state.write_index[:, :-1], before.read_index.flatten(1))
        assert torch.equal(state.write_index[:, -1], before.recency.least())
        ways = state.read_weights.split([temporal, shape[3], temporal], -1)
        for mode, own in zip(interface.read_modes.unbind(-1), ways, strict=True):
            assert_subsimplex(own)
            assert (own.sum(-1) <= mode + 1e-12).all()
        found = interface.read_modes[..., 1]
        torch.testing.assert_close(ways[1].sum(-1), found, rtol=0, atol=1e-12)


def test_the_assertion_notices() -> None:
    shape = (8, 3, 2, 3, 2)
    state = roll(draw(shape, 2, 0), shape, begin(shape, 2))[1]
    assert_sdnc_state(state)
    for wrong, message in (
        (state._replace(write_weights=state.write_weights - 1), "write_weights: smallest element"),
        (state._replace(read_index=state.read_index * 0), "read_index: a head reads a slot twice"),
        (state._replace(read_index=state.read_index + 8), "read_index: slots 8"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_sdnc_state(wrong)


@sizes
def test_an_example_does_not_depend_on_its_batch(shape: tuple[int, ...]) -> None:
    vectors = draw(shape, 4, 0)
    together, state = roll(vectors, shape, begin(shape, 4))
    for example in range(4):
        alone, own = roll(vectors[:, [example]], shape, begin(shape, 1))
        torch.testing.assert_close(together[[example]], alone, rtol=1e-12, atol=1e-12)
        assert torch.equal(state.read_index[[example]], own.read_index)


def test_it_follows_the_order_of_writing() -> None:
    """Written without any content to go by, read in order by the forward mode alone."""
    shape, items = (20, 4, 1, 1, 1), 6
    state = begin(shape, 1)
    vector = torch.zeros(1, sdnc.interface_size(4, 1), dtype=torch.float64)
    content = slice(4 + 1, 4 + 1 + 4)
    vector[:, -5], vector[:, -4] = 50, -50  # write everything, to the least recently accessed
    vector[:, -2] = 50  # read by content
    rows = torch.eye(4).double().repeat(2, 1)[:items] + torch.arange(items)[:, None] / 10
    for row in rows:
        vector[:, content] = row
        _, state = sdnc.step(state, parse(vector, shape))
    vector[:, -5] = -1e4
    vector[:, :4] = 10 * rows[0]
    reads = [sdnc.step(state, parse(vector, shape))]
    vector[:, -2], vector[:, -1] = 0, 50  # forward
    for _ in range(items - 1):
        reads.append(sdnc.step(reads[-1][1], parse(vector, shape)))
    torch.testing.assert_close(torch.cat([read[0, 0] for read, _ in reads]).view(-1, 4), rows)
    vector[:, -3], vector[:, -1] = 50, 0  # and backward
    for row in rows.flip(0)[1:]:
        reads.append(sdnc.step(reads[-1][1], parse(vector, shape)))
        torch.testing.assert_close(reads[-1][0][0, 0], row)


def test_old_states_stay_valid() -> None:
    shape = (30, 3, 2, 3, 2)
    vectors = draw(shape, 2, 0)
    states, outputs = [begin(shape, 2)], []
    for vector in vectors:
        reads, state = sdnc.step(states[-1], parse(vector, shape))
        states.append(state)
        outputs.append(reads)
    for step in (3, 0, 6, 1, 1, 5):
        again, _ = sdnc.step(states[step], parse(vectors[step], shape))
        torch.testing.assert_close(again, outputs[step], rtol=1e-12, atol=1e-12)


def test_a_copy_of_a_part_of_a_state() -> None:
    shape = (12, 3, 2, 3, 2)
    vectors = draw(shape, 3, 0)
    _, state = roll(vectors, shape, begin(shape, 3))
    part = sparse_state.select(sparse_state.detach(state), torch.tensor([2, 0]))
    expected, _ = roll(vectors[:, :2], shape, part)
    saved = sdnc.from_dict(sparse_state.to_dict(part))
    for one in (copy.deepcopy(part), pickle.loads(pickle.dumps(part)), saved):
        assert torch.equal(roll(vectors[:, :2], shape, one)[0], expected)


def test_nan_goes_through() -> None:
    shape = (6, 3, 2, 3, 2)
    vectors = draw(shape, 1, 0)
    vectors[2] = torch.nan
    reads, _ = roll(vectors, shape, begin(shape, 1))
    assert reads[:, :2].isfinite().all()
    assert reads[:, 2:].isnan().all()


def test_bad_input() -> None:
    shape = (8, 3, 2, 2, 2)
    for wrong, message in (
        ((*shape[:4], 9), "temporal_reads: expected at most slots = 8, got 9"),
        ((*shape[:4], 0), "temporal_reads: expected an int of at least 1, got 0"),
        ((*shape[:3], 9, 2), "sparse_reads: expected at most slots = 8, got 9"),
    ):
        with pytest.raises(MemcoreError, match="^" + message):
            begin(wrong, 2)
    state, interface = begin(shape, 2), parse(draw(shape, 2, 0)[0], shape)
    with pytest.raises(MemcoreError, match="interface.read_modes: expected shape"):
        sdnc.step(state, interface._replace(read_modes=interface.read_modes[:, :, :2]))
    for batch, slots in ((2, 9), (3, 8), (1, 8)):
        links = SparseLinks(batch, slots, 2, dtype=torch.float64)
        with pytest.raises(MemcoreError, match="state.links: expected one of batch 2 and slots 8"):
            sdnc.step(state._replace(links=links), interface)
    with pytest.raises(MemcoreError, match="state.links: expected dtype torch.float64, got"):
        sdnc.step(state._replace(links=SparseLinks(2, 8, 2)), interface)
    with pytest.raises(MemcoreError, match="expected an int of at least 1, got 0"):
        sdnc.step(state._replace(links=SparseLinks(2, 8, 3, dtype=torch.float64)), interface)
    with pytest.raises(TypeError, match="state.links: expected a SparseLinks, got NoneType"):
        sdnc.step(state._replace(links=None), interface)  # pyright: ignore[reportArgumentType]
    with pytest.raises(MemcoreError, match="vector: expected 19 elements for word_size 3 and"):
        sdnc.parse_interface(torch.zeros(13), 3, 2)


def test_composing_your_own() -> None:
    """The exported pieces give what the step gives."""
    shape = (9, 3, 2, 3, 2)
    state = roll(draw(shape, 2, 0), shape, begin(shape, 2))[1]
    interface = parse(draw(shape, 2, 1)[0], shape)
    expected, after = sdnc.step(state, interface)
    links = state.links.written(after.write_index, after.write_weights.detach())
    assert torch.equal(links.to_tensor(), after.links.to_tensor())
    ways = links.directional_weightings(state.read_index, state.read_weights)
    rows = after.memory.read(after.read_index.flatten(1)).unflatten(1, (2, 7))
    content = torch.func.vmap(memcore.sparse_content_weighting)(
        rows[:, :, 2:5], interface.read_keys, interface.read_strengths
    )
    weights = torch.func.vmap(memcore.sparse_read_weighting)(
        ways.backward_weights, content, ways.forward_weights, interface.read_modes
    )
    reads = torch.func.vmap(memcore.sparse_read)(rows, weights)
    torch.testing.assert_close(reads, expected, rtol=1e-12, atol=1e-12)
