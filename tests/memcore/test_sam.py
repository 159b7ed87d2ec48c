"""SAM and DAM against the oracle, and what their steps promise."""

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
from memcore import MemcoreError, RowMemory, dam, sam, sparse_state
from memcore.index import AllRowsIndex
from memcore.testing import (
    assert_sam_state,
    complex_step_derivative,
    sam_oracle,
)
from rollouts import of_rollouts

STEPS = 7
# slots, word size, read heads, sparse reads
SIZES = [(8, 3, 1, 2), (8, 3, 4, 3), (5, 2, 2, 5), (4, 3, 4, 4), (1, 2, 1, 1), (40, 3, 2, 4)]

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


def draw(shape: tuple[int, ...], batch: int, seed: int, scale: float = 2) -> Tensor:
    """Interface vectors ``[T, B, I]``; write gates mostly open, so that something is written."""
    generator = torch.Generator().manual_seed(seed)
    size = sam.interface_size(shape[1], shape[2])
    vectors = scale * torch.randn(STEPS, batch, size, generator=generator, dtype=torch.float64)
    vectors[..., -2:] += 1
    return vectors


def parse(vectors: Tensor, shape: tuple[int, ...]) -> sam.SAMInterface:
    return torch.func.vmap(lambda vector: sam.parse_interface(vector, shape[1], shape[2]))(vectors)


def begin(shape: tuple[int, ...], batch: int, **options: Any) -> sam.SAMState:
    return sam.init_state(batch, *shape, **{"dtype": torch.float64, **options})


def roll(
    vectors: Tensor, shape: tuple[int, ...], state: sam.SAMState
) -> tuple[Tensor, sam.SAMState]:
    """Read vectors ``[B, T, R, W]`` and the last state."""
    reads = []
    for vector in vectors:
        read, state = sam.step(state, parse(vector, shape))
        reads.append(read)
    return torch.stack(reads, 1), state


def roll_oracle(
    vectors: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The same of one example, ``[T, I]``."""
    state, reads = sam_oracle.sam_initial_state(*shape), []
    for vector in vectors:
        interface = sam_oracle.sam_parse_interface(vector, shape[1], shape[2])
        read, state = sam_oracle.sam_step(state, interface)
        reads.append(read)
    return np.array(reads), state


@sizes
@pytest.mark.parametrize("scale", [0.3, pytest.param(2.0, marks=pytest.mark.slow), 8.0])
def test_outputs_equal_the_oracle(shape: tuple[int, ...], scale: float) -> None:
    for seed in range(2):
        vectors = draw(shape, 3, seed, scale)
        reads, state = roll(vectors, shape, begin(shape, 3))
        for example in range(3):
            expected, final = roll_oracle(vectors[:, example].numpy(), shape)
            np.testing.assert_allclose(reads[example], expected, rtol=0, atol=1e-12)
            for name, ours in {
                "memory": state.memory.to_tensor(),
                "read_weights": state.read_weights,
                "read_index": state.read_index,
                "last_access": state.recency.last_access(),
            }.items():
                np.testing.assert_allclose(ours[example], final[name], rtol=0, atol=1e-12)


@sizes
def test_gradients_equal_the_oracle(shape: tuple[int, ...]) -> None:
    """Random cotangents on every read vector and on the final memory and weights."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(4):
        vectors = draw(shape, 1, seed).requires_grad_()
        reads, state = roll(vectors, shape, begin(shape, 1))
        outputs = torch.cat(
            [reads.flatten(), state.memory.to_tensor().flatten(), state.read_weights.flatten()]
        )
        cotangent = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(outputs @ cotangent, vectors)

        def flat(point: np.ndarray) -> np.ndarray:
            reads, state = roll_oracle(point, shape)
            parts = (reads, state["memory"], state["read_weights"])
            return np.concatenate([part.flatten() for part in parts])

        for _ in range(4):
            direction = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
            theirs = complex_step_derivative(
                flat, vectors[:, 0].detach().numpy(), direction[:, 0].numpy()
            )
            expected = float(theirs @ cotangent.numpy())
            assert float((gradient * direction).sum()) == pytest.approx(
                expected, rel=1e-9, abs=1e-9
            )


@sizes
def test_an_example_does_not_depend_on_its_batch(shape: tuple[int, ...]) -> None:
    vectors = draw(shape, 4, 0)
    together, state = roll(vectors, shape, begin(shape, 4))
    for example in range(4):
        alone, own = roll(vectors[:, [example]], shape, begin(shape, 1))
        torch.testing.assert_close(together[[example]], alone, rtol=1e-12, atol=1e-12)
        assert torch.equal(state.read_index[[example]], own.read_index)


@sizes
def test_any_index_gives_the_same(shape: tuple[int, ...]) -> None:
    index = AllRowsIndex(1, shape[0], shape[1], dtype=torch.float64)
    vectors = draw(shape, 2, 1)
    one, _ = roll(vectors, shape, begin(shape, 2))
    other, _ = roll(vectors, shape, begin(shape, 2, index=index))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@of_rollouts
@given(st.integers(0, 2**32), st.sampled_from(SIZES), st.sampled_from([0.1, 3.0, 50.0]))
def test_invariants(seed: int, shape: tuple[int, ...], scale: float) -> None:
    state = begin(shape, 2)
    for vector in draw(shape, 2, seed, scale):
        interface, before = parse(vector, shape), state
        reads, state = sam.step(state, interface)
        assert_sam_state(state)
        assert (state.write_weights.sum(-1) <= interface.write_gate + 1e-12).all()
        assert reads.isfinite().all()
        assert torch.equal(state.write_index[:, :-1], before.read_index.flatten(1))
        assert torch.equal(state.write_index[:, -1], before.recency.least())
        touched = state.write_index
        changed = (state.memory.to_tensor() != before.memory.to_tensor()).any(-1)
        for example in range(2):
            assert set(changed[example].nonzero().flatten().tolist()) <= set(
                touched[example].tolist()
            )


def test_the_assertion_notices() -> None:
    state = roll(draw((8, 3, 2, 3), 2, 0), (8, 3, 2, 3), begin((8, 3, 2, 3), 2))[1]
    for wrong, message in (
        (state._replace(read_weights=state.read_weights / 2), "read_weights: a row sums to 0.5"),
        (state._replace(write_weights=state.write_weights - 1), "write_weights: smallest element"),
        (state._replace(read_index=state.read_index * 0), "read_index: a head reads a slot twice"),
        (state._replace(write_index=state.write_index + 8), "write_index: slots 8"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_sam_state(wrong)


def test_slots_are_taken_in_order_at_first() -> None:
    shape, taken = (6, 3, 1, 1), []
    state = begin(shape, 1)
    vectors = draw(shape, 1, 0)
    vectors[..., -1] = -50.0  # write to the least recently accessed slot only
    for vector in vectors:
        _, state = sam.step(state, parse(vector, shape))
        taken.append(int(state.write_index[0, -1]))
    assert taken[:2] == [0, 1]
    assert len(set(taken[:6])) == 6 or state.read_index.max() < 6


def test_rows_that_were_only_read_are_never_erased() -> None:
    shape = (6, 3, 2, 2)
    memory = RowMemory.from_tensor(torch.ones(1, 6, 3, dtype=torch.float64))
    vectors = draw(shape, 1, 0)
    vectors[..., -2] = -1e4  # nothing is written
    state = begin(shape, 1, memory=memory)
    for vector in vectors[:2]:
        _, state = sam.step(state, parse(vector, shape))
    rows = state.memory.to_tensor()[0]
    erased = [0, int(state.write_index[0, -1])]
    for slot in range(6):
        assert rows[slot].tolist() == [0.0 if slot in erased else 1.0] * 3


def test_old_states_stay_valid() -> None:
    shape = (30, 3, 2, 3)
    vectors = draw(shape, 2, 0)
    states, outputs = [begin(shape, 2)], []
    for vector in vectors:
        reads, state = sam.step(states[-1], parse(vector, shape))
        states.append(state)
        outputs.append(reads)
    for step in (3, 0, 6, 1, 1, 5):
        again, _ = sam.step(states[step], parse(vectors[step], shape))
        torch.testing.assert_close(again, outputs[step], rtol=1e-12, atol=1e-12)


def test_ties_go_to_the_lowest_slot_for_any_rounding() -> None:
    """Rows that are multiples of one vector have equal cosines, to rounding."""
    shape = (50, 7, 1, 5)
    for dtype in (torch.float32, torch.float64):
        direction = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=dtype)
        factors = torch.arange(1, 51, dtype=dtype) / 7
        memory = RowMemory.from_tensor((factors[:, None] * direction)[None])
        state = begin(shape, 1, memory=memory, dtype=dtype)
        vector = torch.zeros(1, sam.interface_size(7, 1), dtype=dtype)
        vector[0, :7], vector[0, -2] = direction, -1e4
        _, state = sam.step(state, parse(vector, shape))
        assert state.read_index.tolist() == [[[1, 2, 3, 4, 5]]]  # 0 was erased


def test_learned_initial_memory() -> None:
    shape = (12, 3, 2, 3)
    values = torch.randn(2, 12, 3, dtype=torch.float64, requires_grad=True)
    row = torch.randn(3, dtype=torch.float64, requires_grad=True)
    for leaf, memory in (
        (values, RowMemory.from_tensor(values)),
        (row, RowMemory.filled(row, 2, 12)),
    ):
        reads, state = roll(draw(shape, 2, 3), shape, begin(shape, 2, memory=memory))
        loss = reads.square().sum() + state.memory.to_tensor().sin().sum()
        (gradient,) = torch.autograd.grad(loss, leaf)
        direction = torch.randn(leaf.shape, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            moved = leaf.detach() + sign * 1e-6 * direction
            other = (
                RowMemory.from_tensor(moved) if leaf is values else RowMemory.filled(moved, 2, 12)
            )
            reads, state = roll(draw(shape, 2, 3), shape, begin(shape, 2, memory=other))
            ends.append(reads.square().sum() + state.memory.to_tensor().sin().sum())
        slope = (ends[0] - ends[1]) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("shape", [(8, 3, 1), (5, 2, 3), (1, 2, 2)], ids=str)
def test_dam_equals_the_oracle(shape: tuple[int, int, int]) -> None:
    def ours(vectors: Tensor) -> Tensor:
        state, parts = dam.init_state(*shape, dtype=torch.float64), []
        for vector in vectors:
            reads, state = dam.step(state, dam.parse_interface(vector, shape[1], shape[2]))
            parts += [reads, *state]
        return torch.cat([part.flatten() for part in parts if part is not None])

    def theirs(vectors: np.ndarray) -> np.ndarray:
        state, parts = sam_oracle.dam_initial_state(*shape), []
        for vector in vectors:
            interface = sam_oracle.sam_parse_interface(vector, shape[1], shape[2])
            reads, state = sam_oracle.dam_step(state, interface)
            parts += [reads, *(state[field] for field in dam.DAMState._fields)]
        return np.concatenate([part.flatten() for part in parts])

    generator = torch.Generator().manual_seed(1)
    for seed in range(4):
        vectors = draw(shape, 1, seed)[:, 0].requires_grad_()
        outputs = ours(vectors)
        point = vectors.detach().numpy()
        np.testing.assert_allclose(outputs.detach(), theirs(point), rtol=0, atol=1e-12)
        cotangent = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(outputs @ cotangent, vectors)
        direction = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
        derivative = complex_step_derivative(theirs, point, direction.numpy())
        expected = float(derivative @ cotangent.numpy())
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_composing_your_own() -> None:
    """The exported pieces give what the step gives."""
    shape = (9, 3, 2, 3)
    state = roll(draw(shape, 2, 0), shape, begin(shape, 2))[1]
    interface = parse(draw(shape, 2, 1)[0], shape)
    expected, after = sam.step(state, interface)
    weights = torch.func.vmap(memcore.sparse_write_weighting)(
        state.read_weights, interface.write_gate, interface.interpolation_gate
    )
    least = state.recency.least()[:, None]
    index = torch.cat([state.read_index.flatten(1), least], 1)
    add = weights[..., None] * interface.write_vector[:, None]
    memory = state.memory.write(memcore.SparseWrite(least, index, add))
    rows = memory.read(after.read_index.flatten(1)).view(2, 2, 3, 3)
    read_weights = torch.func.vmap(memcore.sparse_content_weighting)(
        rows, interface.read_keys, interface.read_strengths
    )
    reads = torch.func.vmap(memcore.sparse_read)(rows, read_weights)
    torch.testing.assert_close(reads, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((2, 3, 4, 1, 4), {}, "sparse_reads: expected at most slots = 3, got 4"),
        ((2, 3, 4, 1, 0), {}, "sparse_reads: expected an int of at least 1, got 0"),
        ((0, 3, 4, 1, 1), {}, "batch: expected an int of at least 1, got 0"),
        ((2, 3, 4, 1, 1), {"index": "annoy"}, "index: expected one of auto, exact, faiss, flann"),
        ((2, 3, 4, 1, 1), {"memory": RowMemory.filled(torch.zeros(4), 2, 5)},
         "memory: expected shape \\[2, 3, 4\\], got \\[2, 5, 4\\]"),
        ((2, 3, 4, 1, 1), {"memory": RowMemory.filled(torch.zeros(4).double(), 2, 3)},
         "memory: expected dtype torch.float32, got torch.float64"),
    ],
)  # fmt: skip
def test_a_wrong_beginning(sizes: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(MemcoreError, match="^" + message):
        sam.init_state(*sizes, **options)


def test_beginning_with_a_part_of_another_memory() -> None:
    shape = (12, 3, 2, 3)
    values = torch.randn(3, 12, 3, dtype=torch.float64)
    vectors = draw(shape, 2, 0)
    part = RowMemory.from_tensor(values).select(torch.tensor([2, 1]))
    one, after = roll(vectors, shape, begin(shape, 2, memory=part))
    same = begin(shape, 2, memory=RowMemory.from_tensor(values[[2, 1]]))
    other, _ = roll(vectors, shape, same)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    swapped = torch.tensor([1, 0])
    again, _ = roll(vectors[:, swapped], shape, sparse_state.select(after, swapped))
    expected, _ = roll(vectors, shape, after)
    torch.testing.assert_close(again[swapped], expected, rtol=1e-12, atol=1e-12)


def test_a_copy_of_a_part_of_a_state() -> None:
    shape = (12, 3, 2, 3)
    vectors = draw(shape, 3, 0)
    _, state = roll(vectors, shape, begin(shape, 3))
    part = sparse_state.select(sparse_state.detach(state), torch.tensor([2, 0]))
    expected, _ = roll(vectors[:, :2], shape, part)
    for one in (copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        torch.testing.assert_close(roll(vectors[:, :2], shape, one)[0], expected)


def test_nan_goes_through() -> None:
    shape = (6, 3, 2, 3)
    vectors = draw(shape, 1, 0)
    vectors[2] = torch.nan
    reads, _ = roll(vectors, shape, begin(shape, 1))
    assert reads[:, :2].isfinite().all()
    assert reads[:, 2].isnan().all()


def test_a_wrong_step() -> None:
    shape = (8, 3, 2, 2)
    state, interface = begin(shape, 2), parse(draw(shape, 2, 0)[0], shape)
    before = state.memory.to_tensor()
    for wrong, message in (
        (
            interface._replace(write_vector=torch.zeros(2, 4)),
            "interface.write_vector: expected shape",
        ),
        (interface._replace(write_gate=torch.zeros(2)), "interface.write_gate: expected dtype"),
        (parse(draw(shape, 3, 0)[0], shape), "interface.read_keys: expected shape"),
    ):
        with pytest.raises(MemcoreError, match=message):
            sam.step(state, wrong)
    wrong_index = state._replace(read_index=state.read_index.float())
    with pytest.raises(MemcoreError, match="state.read_index: expected dtype torch.int64"):
        sam.step(wrong_index, interface)
    far = state._replace(read_index=state.read_index + 8)
    with pytest.raises(MemcoreError, match=r"state.read_index: expected slots in \[0, 8\), got"):
        sam.step(far, interface)
    with pytest.raises(TypeError, match="state.index: expected a Mirror, got NoneType"):
        sam.step(state._replace(index=None), interface)  # pyright: ignore
    for batch, slots in ((2, 9), (3, 8), (1, 8)):
        with pytest.raises(
            MemcoreError, match="state.recency: expected one of batch 2 and slots 8"
        ):
            sam.step(state._replace(recency=memcore.Recency(batch, slots)), interface)
    assert torch.equal(state.memory.to_tensor(), before)
    with pytest.raises(MemcoreError, match="vector: expected 13 elements for word_size 3"):
        sam.parse_interface(torch.zeros(11), 3, 2)
