"""Which slots are allocated first: ties, NaN, and orders far from those of the step before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

import numba

from memcore import dnc
from memcore.kernels.allocation import ascending

# Kernels are called from kernels only.
in_order = numba.njit(lambda usage, order, slots: ascending(usage, order, slots))


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 16, 100, 333])
@pytest.mark.parametrize("kinds", [1, 2, 5, 1000])
def test_the_order_is_that_of_a_stable_sort(slots: int, kinds: int) -> None:
    generator = np.random.default_rng(slots * kinds)
    order = np.arange(slots, dtype=np.int32)
    for step in range(20):
        usage = generator.integers(kinds, size=slots).astype(np.float32) / kinds
        if step % 3 == 2:
            usage[generator.random(slots) < 0.2] = np.nan
        in_order(usage, order, slots)
        expected = torch.from_numpy(usage).sort(stable=True).indices
        assert order.tolist() == expected.tolist()


@pytest.mark.parametrize("slots", [2, 4, 17])
def test_of_equal_usages_the_lowest_slot_is_written(slots: int) -> None:
    words, heads = 3, 2
    empty = dnc.init_state(slots, words, heads, dtype=torch.float64)
    usage = torch.tensor([0.5, 0.25, 1.0, 0.25] * slots, dtype=torch.float64)[:slots]
    states = [part.expand(1, *part.shape) for part in empty._replace(usage=usage)]
    vectors = torch.zeros(1, dnc.interface_size(words, heads), dtype=torch.float64)
    modes = 3 * heads
    vectors[0, -modes - 2 : -modes] = 50  # allocate, and write
    for backend in ("reference", "numba"):
        _, state = dnc.batched_step(dnc.DNCState(*states), vectors, backend=backend)
        lowest = int(usage.argmin())
        assert int(state.write_weights[0].argmax()) == lowest
        assert state.write_weights[0, lowest] == 1 - usage[lowest]
