"""A RowMemory under any sequence of reads, writes, branches and drops, beside plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor

from memcore import RowMemory, SparseWrite, sam, sdnc
from memcore.backends import numba_is_missing
from rollouts import of_rollouts

BATCH, SLOTS, WIDTH, HEADS, READS = 2, 4, 2, 2, 2

slots = st.integers(0, SLOTS - 1)
numbers = st.integers(-9, 9).map(float)
picks = st.integers(0, 10**6)


def lists(elements: st.SearchStrategy, most: int) -> st.SearchStrategy:
    """For each example as many elements."""
    return st.integers(0, most).flatmap(
        lambda count: st.lists(
            st.lists(elements, min_size=count, max_size=count), min_size=BATCH, max_size=BATCH
        )
    )


def run_segment(state: Any, vectors: Tensor, temporal: int) -> Any:
    """The state after all the interface vectors ``[T, B, I]``, in one segment."""
    from memcore.kernels import kinds, sparse_segment
    from memcore.kernels.parts import Cells, Memory, Parts, Segment

    memory = Memory(kinds.SDNC, SLOTS, WIDTH, HEADS, vectors.shape[2], READS, temporal)
    parts = Parts(vectors, None, None, [], [], [], [])
    return sparse_segment.run(Segment(memory, Cells()), parts, [state], {})[1][0]


class RowMachine(RuleBasedStateMachine):
    """Versions are kept in two lists side by side; whole numbers, so that equal means equal."""

    @initialize(row=st.lists(numbers, min_size=WIDTH, max_size=WIDTH), dense=st.booleans())
    def begin(self, row: list[float], dense: bool) -> None:
        plain = np.tile(np.array(row), (BATCH, SLOTS, 1))
        if dense:
            memory = RowMemory.from_tensor(torch.tensor(plain))
        else:
            memory = RowMemory.filled(torch.tensor(row, dtype=torch.float64), BATCH, SLOTS)
        self.versions = [memory]
        self.plain = [plain]

    @rule(pick=picks, erase=lists(slots, 2), index=lists(st.tuples(slots, numbers), 3))
    def write(
        self, pick: int, erase: list[list[int]], index: list[list[tuple[int, float]]]
    ) -> None:
        """Also from versions that were written from before, which makes another future."""
        chosen = pick % len(self.versions)
        add = torch.tensor([[[x, -x] for _, x in one] for one in index], dtype=torch.float64)
        write = SparseWrite(
            torch.tensor(erase, dtype=torch.int64).view(BATCH, -1),
            torch.tensor([[slot for slot, _ in one] for one in index], dtype=torch.int64),
            add.view(BATCH, -1, WIDTH),
        )
        plain = self.plain[chosen].copy()
        for example in range(BATCH):
            plain[example, erase[example]] = 0
            for slot, x in index[example]:
                plain[example, slot] += (x, -x)
        self.versions.append(self.versions[chosen].write(write))
        self.plain.append(plain)

    @rule(pick=picks, seed=picks, steps=st.integers(1, 4), temporal=st.integers(0, 2))
    def segment(self, pick: int, seed: int, steps: int, temporal: int) -> None:
        """Some steps of SAM or the SDNC by kernels, as one edit; the same on an equal copy."""
        if numba_is_missing() is not None:
            return
        chosen = pick % len(self.versions)
        generator = torch.Generator().manual_seed(seed)
        model: Any = sdnc if temporal else sam
        size = model.interface_size(WIDTH, HEADS)
        vectors = torch.randn(steps, BATCH, size, generator=generator, dtype=torch.float64)
        copy = RowMemory.from_tensor(torch.from_numpy(self.plain[chosen]))
        sizes = (SLOTS, WIDTH, HEADS, READS, *([temporal] if temporal else []))
        states = [
            model.init_state(BATCH, *sizes, memory=memory, dtype=torch.float64)
            for memory in (self.versions[chosen], copy)
        ]
        after = run_segment(states[0], vectors, temporal)
        expected = states[1]
        for vector in vectors:
            _, expected = model.batched_step(expected, vector, backend="reference")
        np.testing.assert_allclose(
            after.memory.to_tensor(), expected.memory.to_tensor(), rtol=1e-9, atol=1e-12
        )
        self.versions.append(after.memory)
        self.plain.append(after.memory.to_tensor().numpy())

    @rule(pick=picks, index=lists(slots, 4))
    def read(self, pick: int, index: list[list[int]]) -> None:
        chosen = pick % len(self.versions)
        rows = self.versions[chosen].read(torch.tensor(index, dtype=torch.int64).view(BATCH, -1))
        for example in range(BATCH):
            assert np.array_equal(rows[example], self.plain[chosen][example, index[example]])

    @rule(pick=picks)
    def drop(self, pick: int) -> None:
        if len(self.versions) > 1:
            chosen = pick % len(self.versions)
            del self.versions[chosen], self.plain[chosen]

    @rule(pick=picks)
    def drop_all_but_one(self, pick: int) -> None:
        chosen = pick % len(self.versions)
        self.versions, self.plain = [self.versions[chosen]], [self.plain[chosen]]

    @rule(pick=picks)
    def copy(self, pick: int) -> None:
        chosen = pick % len(self.versions)
        self.versions.append(self.versions[chosen].clone())
        self.plain.append(self.plain[chosen])

    @rule(pick=picks, examples=st.lists(st.booleans(), min_size=BATCH, max_size=BATCH))
    def clear(self, pick: int, examples: list[bool]) -> None:
        chosen = pick % len(self.versions)
        plain = self.plain[chosen].copy()
        plain[examples] = 0
        self.versions.append(self.versions[chosen].cleared(torch.tensor(examples)))
        self.plain.append(plain)

    @rule(
        pick=picks,
        examples=st.lists(st.booleans(), min_size=BATCH, max_size=BATCH),
        value=st.sampled_from([0.0, 1.0, -2.5]),
    )
    def begin_anew(self, pick: int, examples: list[bool], value: float) -> None:
        chosen = pick % len(self.versions)
        memory, plain = self.versions[chosen], self.plain[chosen].copy()
        row = torch.full(memory.shape[2:], value, dtype=memory.dtype)
        row[0] += 1
        plain[examples] = row.numpy()
        self.versions.append(memory.refilled(torch.tensor(examples), row))
        self.plain.append(plain)

    @rule(pick=picks)
    def save_and_load(self, pick: int) -> None:
        chosen = pick % len(self.versions)
        self.versions[chosen] = RowMemory.from_dict(self.versions[chosen].to_dict())

    @rule()
    def look_at_all(self) -> None:
        """Not as an invariant: looking moves the buffers from version to version."""
        for memory, plain in zip(self.versions, self.plain, strict=True):
            assert np.array_equal(memory.to_tensor(), plain)

    @rule(one=picks, other=picks)
    def compare(self, one: int, other: int) -> None:
        one, other = one % len(self.versions), other % len(self.versions)
        changed = self.versions[one].changed_since(self.versions[other])
        if changed is not None:
            rows = [self.versions[at].initial_rows for at in (one, other)]
            for example in (rows[0] == rows[1]).all(1).nonzero().flatten().tolist():
                differ = (self.plain[one][example] != self.plain[other][example]).any(-1)
                assert set(differ.nonzero()[0]) <= set(changed[example].tolist())

    @invariant()
    def the_written_are_known(self) -> None:
        for memory, plain in zip(self.versions[-1:], self.plain[-1:], strict=True):
            written = memory.written()
            untouched = np.ones((BATCH, SLOTS), dtype=bool)
            np.put_along_axis(untouched, written.numpy(), False, 1)
            rows = memory.initial_rows.numpy()
            for example, slot in zip(*untouched.nonzero(), strict=True):
                assert np.array_equal(plain[example, slot], rows[example])


TestRowMachine = RowMachine.TestCase
TestRowMachine.settings = of_rollouts
