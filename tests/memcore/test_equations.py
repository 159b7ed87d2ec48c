"""Against the float64 oracle, against DeepMind's own code, and against hand calculation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import memcore
from memcore import dnc
from memcore.testing import complex_step_derivative, oracle

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "deepmind_dnc.json").read_text(encoding="utf-8")
)
SIZES = [(4, 3, 1), (5, 2, 3), (1, 2, 1), (1, 1, 2), (7, 4, 2), (3, 1, 1)]
STEPS = 6

sizes = pytest.mark.parametrize("shape", SIZES, ids=str)


def roll(vectors: Tensor, shape: tuple[int, int, int], initial: dnc.DNCState) -> list[Tensor]:
    """Every output of every step: reads, then the fields of the state."""
    _, word_size, read_heads = shape
    collected, state = [], initial
    for vector in vectors:
        reads, state = dnc.step(state, dnc.parse_interface(vector, word_size, read_heads))
        collected += [reads, *state]
    return collected


def roll_oracle(vectors: np.ndarray, shape: tuple[int, int, int]) -> list[np.ndarray]:
    slots, word_size, read_heads = shape
    collected, state = [], oracle.dnc_initial_state(slots, word_size, read_heads)
    for vector in vectors:
        interface = oracle.dnc_parse_interface(vector, word_size, read_heads)
        reads, state = oracle.dnc_step(state, interface)
        collected += [reads, *(state[field] for field in dnc.DNCState._fields)]
    return collected


def flat(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat([part.flatten() for part in parts])
    return np.concatenate([part.flatten() for part in parts])


def draw(shape: tuple[int, int, int], seed: int, scale: float = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = dnc.interface_size(shape[1], shape[2])
    return scale * torch.randn(STEPS, size, generator=generator, dtype=torch.float64)


@sizes
@pytest.mark.parametrize("scale", [0.5, 2.0, 10.0])
def test_outputs_equal_the_oracle(shape: tuple[int, int, int], scale: float) -> None:
    initial = dnc.init_state(*shape, dtype=torch.float64)
    for seed in range(5):
        vectors = draw(shape, seed, scale)
        ours = flat(roll(vectors, shape, initial)).numpy()
        theirs = flat(roll_oracle(vectors.numpy(), shape))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


@sizes
def test_gradients_equal_the_oracle(shape: tuple[int, int, int]) -> None:
    """Along random directions, with random cotangents on every output of every step."""
    initial = dnc.init_state(*shape, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for seed in range(3):
        vectors = draw(shape, seed).requires_grad_()
        outputs = flat(roll(vectors, shape, initial))
        cotangent = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(outputs @ cotangent, vectors)
        for _ in range(3):
            direction = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
            theirs = complex_step_derivative(
                lambda v: flat(roll_oracle(v, shape)), vectors.detach().numpy(), direction.numpy()
            )
            expected = float(theirs @ cotangent.numpy())
            assert float((gradient * direction).sum()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['slots']}x{c['word_size']}")
def test_agrees_with_deepmind_dnc(case: dict[str, Any], device: torch.device) -> None:
    shape = case["slots"], case["word_size"], case["read_heads"]
    empty = dnc.init_state(*shape, device=device)
    state = dnc.DNCState(
        *(
            torch.tensor(case["initial"][name], device=device).view(value.shape)
            for name, value in empty._asdict().items()
        )
    )
    for recorded in case["steps"]:
        vector = torch.tensor(recorded["interface"], device=device)
        reads, state = dnc.step(state, dnc.parse_interface(vector, shape[1], shape[2]))
        for name, value in {"read_vectors": reads, **state._asdict()}.items():
            expected = torch.tensor(recorded[name], device=device).view(value.shape)
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("offsets", [1, 3, 5, 9])
@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
def test_addressing_by_location_equals_the_oracle(slots: int, offsets: int) -> None:
    """Outputs and gradients of eq. 7 to 9 of Graves et al. 2014, one after the other."""
    generator = torch.Generator().manual_seed(slots * 10 + offsets)
    heads = 3
    parts = [heads * slots, heads * slots, heads, heads * offsets, heads]

    def ours(vector: Tensor) -> Tensor:
        content, previous, gate, shift, sharpness = vector.split(parts)
        gated = memcore.interpolate(
            content.view(heads, slots).softmax(-1),
            previous.view(heads, slots).softmax(-1) * 0.9,
            gate.sigmoid(),
        )
        moved = memcore.circular_shift(gated, shift.view(heads, offsets).softmax(-1))
        sharp = memcore.sharpen(moved, memcore.oneplus(sharpness))
        return torch.cat([gated.flatten(), moved.flatten(), sharp.flatten()])

    def theirs(vector: np.ndarray) -> np.ndarray:
        content, previous, gate, shift, sharpness = np.split(vector, np.cumsum(parts)[:-1])
        gate, sharpness = oracle.sigmoid(gate), oracle.oneplus(sharpness)
        collected: list[list[np.ndarray]] = [[], [], []]
        for head in range(heads):
            of_slots = slice(head * slots, (head + 1) * slots)
            gated = oracle.interpolated(
                oracle.softmax(content[of_slots]),
                oracle.softmax(previous[of_slots]) * 0.9,
                gate[head],
            )
            own = oracle.softmax(shift[head * offsets : (head + 1) * offsets])
            moved = oracle.circularly_shifted(gated, own)
            sharp = oracle.sharpened(moved, sharpness[head])
            for part, value in zip(collected, (gated, moved, sharp), strict=True):
                part.append(value)
        return np.concatenate([value for part in collected for value in part])

    vector = 2 * torch.randn(sum(parts), generator=generator, dtype=torch.float64)
    outputs = ours(vector.requires_grad_())
    point = vector.detach().numpy()
    np.testing.assert_allclose(outputs.detach().numpy(), theirs(point), rtol=0, atol=1e-12)
    cotangent = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(outputs @ cotangent, vector)
    for _ in range(3):
        direction = torch.randn(vector.shape, generator=generator, dtype=torch.float64)
        slope = complex_step_derivative(theirs, point, direction.numpy())
        expected = float(slope @ cotangent.numpy())
        assert float((gradient * direction).sum()) == pytest.approx(expected, abs=1e-9)


def test_sharpening_is_that_of_the_neural_turing_machine() -> None:
    """Eq. 9 of Graves et al. 2014, but for ε."""
    weights = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
    for power in (1.0, 2.0, 7.5):
        sharp = memcore.sharpen(weights, torch.full((2,), power, dtype=torch.float64))
        powers = weights**power
        torch.testing.assert_close(sharp, powers / powers.sum(-1, keepdim=True), rtol=0, atol=1e-5)


def test_the_shift_to_the_last_offset_goes_on() -> None:
    """From the end of the memory to its beginning; the first offset goes back."""
    where, steps = torch.eye(4)[[3, 0]], torch.eye(3)
    assert memcore.circular_shift(where, steps[[2, 2]]).argmax(-1).tolist() == [0, 1]
    assert memcore.circular_shift(where, steps[[1, 1]]).argmax(-1).tolist() == [3, 0]
    assert memcore.circular_shift(where, steps[[0, 0]]).argmax(-1).tolist() == [2, 3]


def test_golden_file_is_not_empty() -> None:
    assert len(GOLDEN["cases"]) == 6
    assert all(len(case["steps"]) == 10 for case in GOLDEN["cases"])


def test_interface_order_and_ranges() -> None:
    word_size, read_heads = 2, 2
    vector = torch.arange(float(dnc.interface_size(word_size, read_heads))) / 10
    interface = dnc.parse_interface(vector, word_size, read_heads)
    assert interface.read_keys.tolist() == vector[:4].view(2, 2).tolist()
    torch.testing.assert_close(interface.read_strengths, memcore.oneplus(vector[4:6]))
    assert interface.write_key.tolist() == vector[6:8].tolist()
    torch.testing.assert_close(interface.write_strength, memcore.oneplus(vector[8]))
    torch.testing.assert_close(interface.erase_vector, vector[9:11].sigmoid())
    assert interface.write_vector.tolist() == vector[11:13].tolist()
    torch.testing.assert_close(interface.free_gates, vector[13:15].sigmoid())
    torch.testing.assert_close(interface.allocation_gate, vector[15].sigmoid())
    torch.testing.assert_close(interface.write_gate, vector[16].sigmoid())
    torch.testing.assert_close(interface.read_modes, vector[17:].view(2, 3).softmax(-1))


def test_allocation_takes_equal_usages_from_the_lowest_slot() -> None:
    assert memcore.allocation_weighting(torch.zeros(4)).argmax() == 0
    half = memcore.allocation_weighting(torch.full((4,), 0.5))
    torch.testing.assert_close(half, torch.tensor([0.5, 0.25, 0.125, 0.0625]))


def test_links_follow_the_order_of_writing() -> None:
    """Writing slots 2, 0, 1 in turn links each to the one before."""
    links, precedence = torch.zeros(3, 3), torch.zeros(3)
    for slot in (2, 0, 1):
        written = torch.eye(3)[slot]
        links = memcore.link(links, written, precedence)
        precedence = memcore.precedence(precedence, written)
    expected = torch.zeros(3, 3)
    expected[0, 2] = expected[1, 0] = 1
    assert torch.equal(links, expected)
    forward, backward = memcore.directional_weightings(links, torch.eye(3)[[0]])
    assert forward.tolist() == [[0, 1, 0]]
    assert backward.tolist() == [[0, 0, 1]]
