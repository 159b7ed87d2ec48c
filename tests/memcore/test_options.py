"""What later papers added: against the oracle, against DeepMind's code, and at the edges."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor

import memcore
from memcore import DNCOptions, MemcoreError, RowMemory, SAMOptions, dam, dnc, sam, sdnc
from memcore.backends import NUMBA
from memcore.testing import complex_step_derivative, oracle

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "deepmind_dnc_writes.json").read_text(encoding="utf-8")
)
SINGLE: dict[str, dict[str, Any]] = {
    "masking": {"masking": True},
    "mask_minimum": {"masking": True, "mask_minimum": 0.1},
    "deallocation": {"deallocation": True},
    "link_sharpness": {"link_sharpness": True},
    "write_heads": {"write_heads": 2},
    "temperature": {"temperature": 2.5},
}
PAIRS = {
    f"{one}, {other}": {**SINGLE[one], **SINGLE[other]} for one, other in combinations(SINGLE, 2)
}
ALL = {key: value for options in SINGLE.values() for key, value in options.items()}
CASES = {**SINGLE, **PAIRS, "all": {**ALL, "write_heads": 3}}
SHAPES = [(4, 3, 2), (1, 1, 1), (5, 2, 1)]
STEPS = 4

# Each alone and all together; the pairs with ``-m slow``.
options = pytest.mark.parametrize(
    "own",
    [
        pytest.param(own, id=name, marks=[pytest.mark.slow] if name in PAIRS else [])
        for name, own in CASES.items()
    ],
)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def roll(vectors: Tensor, shape: tuple[int, int, int], own: DNCOptions) -> Tensor:
    """Every output of every step, flat."""
    collected = []
    state = dnc.init_state(*shape, options=own, dtype=vectors.dtype)
    for vector in vectors:
        interface = dnc.parse_interface(vector, *shape[1:], options=own)
        reads, state = dnc.step(state, interface, options=own)
        collected += [reads, *state]
    return torch.cat([part.flatten() for part in collected])


def roll_oracle(vectors: np.ndarray, shape: tuple[int, int, int], own: DNCOptions) -> np.ndarray:
    collected, state = [], oracle.dnc_initial_state(*shape, own)
    for vector in vectors:
        interface = oracle.dnc_parse_interface(vector, *shape[1:], own)
        reads, state = oracle.dnc_step(state, interface, own)
        collected += [reads, *(state[field] for field in dnc.DNCState._fields)]
    return np.concatenate([part.flatten() for part in collected])


def draw(shape: tuple[int, int, int], own: DNCOptions, seed: int, scale: float = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = dnc.interface_size(*shape[1:], options=own)
    return scale * torch.randn(STEPS, size, generator=generator, dtype=torch.float64)


@options
@shapes
def test_outputs_equal_the_oracle(shape: tuple[int, int, int], own: dict[str, Any]) -> None:
    chosen = DNCOptions(**own)
    for seed, scale in enumerate((0.5, 2.0, 4.0)):
        vectors = draw(shape, chosen, seed, scale)
        ours = roll(vectors, shape, chosen).numpy()
        theirs = roll_oracle(vectors.numpy(), shape, chosen)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


@options
@shapes
def test_gradients_equal_the_oracle(shape: tuple[int, int, int], own: dict[str, Any]) -> None:
    chosen = DNCOptions(**own)
    generator = torch.Generator().manual_seed(1)
    vectors = draw(shape, chosen, 3).requires_grad_()
    outputs = roll(vectors, shape, chosen)
    cotangent = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(outputs @ cotangent, vectors)
    for _ in range(2):
        direction = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
        theirs = complex_step_derivative(
            lambda v: roll_oracle(v, shape, chosen), vectors.detach().numpy(), direction.numpy()
        )
        expected = float(theirs @ cotangent.numpy())
        # Before anything was written a sharpened weighting has slopes of 1/ε.
        assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['slots']}x{c['word_size']}")
def test_write_heads_agree_with_deepmind_dnc(case: dict[str, Any], device: torch.device) -> None:
    shape = case["slots"], case["word_size"], case["read_heads"]
    own = DNCOptions(write_heads=case["write_heads"])
    empty = dnc.init_state(*shape, options=own, device=device)
    state = dnc.DNCState(
        *(
            torch.tensor(case["initial"][name], device=device).view(value.shape)
            for name, value in empty._asdict().items()
        )
    )
    for recorded in case["steps"]:
        vector = torch.tensor(recorded["interface"], device=device)
        interface = dnc.parse_interface(vector, *shape[1:], options=own)
        reads, state = dnc.step(state, interface, options=own)
        for name, value in {"read_vectors": reads, **state._asdict()}.items():
            expected = torch.tensor(recorded[name], device=device).view(value.shape)
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)


def test_golden_file_is_not_empty() -> None:
    assert len(GOLDEN["cases"]) == 3
    assert all(len(case["steps"]) == 10 for case in GOLDEN["cases"])


@options
def test_a_batch_is_what_its_examples_are(own: dict[str, Any]) -> None:
    chosen, shape = DNCOptions(**own), (4, 3, 2)
    vectors = torch.stack([draw(shape, chosen, seed) for seed in range(3)], 1)
    one = dnc.init_state(*shape, options=chosen, dtype=torch.float64)
    batch = dnc.DNCState(*(part.expand(3, *part.shape) for part in one))
    alone = [one] * 3
    for told in vectors:
        reads, batch = dnc.batched_step(batch, told, options=chosen, backend="reference")
        for example, vector in enumerate(told):
            interface = dnc.parse_interface(vector, *shape[1:], options=chosen)
            own_reads, alone[example] = dnc.step(alone[example], interface, options=chosen)
            torch.testing.assert_close(reads[example], own_reads)


# Gradients at the edges


@options
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 50.0, -50.0])
def test_gradients_are_finite_at_the_edges(
    own: dict[str, Any], slots: int, dtype: torch.dtype, level: float
) -> None:
    """Empty memory, one slot, gates that are saturated; a sharpness of 1.7, 51 and 1."""
    chosen = DNCOptions(**own)
    size = dnc.interface_size(3, 2, options=chosen)
    vectors = torch.full((3, size), level, dtype=dtype, requires_grad=True)
    outputs = roll(vectors, (slots, 3, 2), chosen)
    (gradient,) = torch.autograd.grad(outputs.square().sum(), vectors)
    assert outputs.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("sharpness", [0.0, 1.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sharpness_of_anything(sharpness: float, dtype: torch.dtype) -> None:
    edges = torch.tensor([[0, 0, 0], [1, 0, 0], [0.2, 0.3, 0.5], [1e-9, 0, 0]], dtype=dtype)
    edges.requires_grad_()
    powers = torch.full((4,), sharpness, dtype=dtype, requires_grad=True)
    sharp = memcore.sharpen(edges, powers)
    torch.testing.assert_close(sharp.sum(-1), torch.ones(4, dtype=dtype))
    gradients = torch.autograd.grad(sharp.square().sum(), [edges, powers])
    assert all(gradient.isfinite().all() for gradient in gradients)
    if sharpness == 0:
        torch.testing.assert_close(sharp, torch.full_like(sharp, 1 / 3))


# What they are for


def test_a_masked_key_finds_what_it_does_not_know() -> None:
    """Key and value in one row: with the key alone, a look-up is as sure as with both."""
    rows = torch.tensor([[1.0, 0, 9, 9], [0, 1, -9, 9], [1, 1, 9, -9]])
    key, strength = torch.tensor([[0.0, 1, 0, 0]]), torch.tensor([20.0])
    mask = torch.tensor([[1.0, 1, 0, 0]])
    assert memcore.masked_content_weighting(rows, key, strength, mask)[0, 1] > 0.99
    assert memcore.content_weighting(rows, key, strength)[0, 1] < 0.6


def test_what_is_deallocated_is_not_found_again() -> None:
    rows = torch.eye(3)
    kept = memcore.retention(torch.ones(1), torch.tensor([[0.0, 1, 0]]))
    left = memcore.deallocate(rows, kept)
    assert left.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_masks_of_ones_change_nothing() -> None:
    memory, keys = torch.randn(5, 3), torch.randn(2, 3)
    strengths = torch.tensor([1.0, 5.0])
    masked = memcore.masked_content_weighting(memory, keys, strengths, torch.ones(2, 3))
    torch.testing.assert_close(masked, memcore.content_weighting(memory, keys, strengths))


# SAM, DAM and the SDNC


def states(model: Any) -> Any:
    sizes = (2, 6, 3, 2, 4) if model is sam else (2, 6, 3, 2, 4, 2)
    return model.init_state(*sizes, index="exact", dtype=torch.float64)


@pytest.mark.parametrize("model", [sam, sdnc])
def test_a_sparse_memory_that_reads_all_slots_is_masked_as_a_dense_one(model: Any) -> None:
    """Its K best rows, weighted by what masks show, are those of a search over all."""
    own = SAMOptions(masking=True, mask_minimum=0.05, temperature=1.5)
    generator = torch.Generator().manual_seed(0)
    size = model.interface_size(3, 2, options=own)
    state = states(model)
    for _ in range(6):
        vectors = 2 * torch.randn(2, size, generator=generator, dtype=torch.float64)
        interface = model.parse_interface.unchecked(vectors, 3, 2, options=own)
        _, state = model.step(state, interface)
        skipped = (state.read_index.shape[2] - 4) // 2
        found = state.read_index[:, :, skipped : skipped + 4]
        for example in range(2):
            cosines = memcore.masked_cosine_similarity(
                state.memory.to_tensor()[example],
                interface.read_keys[example],
                interface.read_masks[example],
            )
            best = cosines.topk(4).values
            torch.testing.assert_close(cosines.gather(1, found[example]), best, rtol=0, atol=2e-4)


@pytest.mark.parametrize("model", [sam, sdnc])
@pytest.mark.parametrize("index", ["auto", "faiss"])
def test_an_index_without_masks_says_so(model: Any, index: str) -> None:
    if index == "faiss":
        pytest.importorskip("faiss")
    own = SAMOptions(masking=True)
    sizes = (2, 6, 3, 2, 4) if model is sam else (2, 6, 3, 2, 4, 2)
    state = model.init_state(*sizes, index=index)
    vectors = torch.randn(2, model.interface_size(3, 2, options=own))
    with pytest.raises(MemcoreError, match="index: expected one that searches with masks"):
        model.batched_step(state, vectors, options=own)


def test_dam_takes_masks() -> None:
    own = SAMOptions(masking=True)
    vector = torch.randn(dam.interface_size(3, 2, options=own))
    interface = dam.parse_interface(vector, 3, 2, options=own)
    assert isinstance(interface.read_masks, Tensor)
    reads, state = dam.step(dam.init_state(4, 3, 2), interface)
    expected = memcore.masked_content_weighting(
        state.memory, interface.read_keys, interface.read_strengths, interface.read_masks
    )
    torch.testing.assert_close(state.read_weights, expected)
    torch.testing.assert_close(reads, expected @ state.memory)


# Wrong calls


@pytest.fixture
def as_installed() -> Any:
    """Without the run-time type checker that the rest of the suite has."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"mask_minimum": 0.1}, "mask_minimum: expected 0 without masking, got 0.1"),
        ({"masking": True, "mask_minimum": 1}, r"mask_minimum: expected a number in \[0, 1\)"),
        ({"masking": True, "mask_minimum": float("nan")}, "mask_minimum: expected a number"),
        ({"temperature": 0}, "temperature: expected a finite number above 0, got 0"),
        ({"temperature": float("inf")}, "temperature: expected a finite number above 0, got inf"),
        ({"write_heads": 0}, "write_heads: expected an int of at least 1, got 0"),
    ],
)
def test_options_out_of_range(own: dict[str, Any], message: str) -> None:
    with pytest.raises(MemcoreError, match=message):
        DNCOptions(**own)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"masking": 1}, "masking: expected a bool, got int"),
        ({"deallocation": None}, "deallocation: expected a bool, got NoneType"),
        ({"temperature": "2"}, "temperature: expected a float, got str"),
        ({"write_heads": 2.0}, "write_heads: expected an int, got float"),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_options_of_the_wrong_type(own: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        DNCOptions(**own)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("given", [SAMOptions(), None, {}])
def test_a_step_takes_its_own_options_only(given: Any) -> None:
    state, vector = dnc.init_state(4, 3, 2), torch.zeros(dnc.interface_size(3, 2))
    with pytest.raises(TypeError, match=r"^options: expected DNCOptions, got"):
        dnc.step(state, dnc.parse_interface(vector, 3, 2), options=given)


@pytest.mark.usefixtures("as_installed")
def test_options_of_another_model() -> None:
    with pytest.raises(TypeError, match="options: expected SAMOptions, got DNCOptions"):
        sam.interface_size(3, 2, options=DNCOptions())
    wrong: Any = SAMOptions()
    with pytest.raises(TypeError, match="options: expected DNCOptions, got SAMOptions"):
        dnc.interface_size(3, 2, options=wrong)


@pytest.mark.parametrize(
    "own",
    [{"masking": True}, {"link_sharpness": True}, {"write_heads": 2}],
    ids=lambda own: next(iter(own)),
)
def test_a_step_with_other_options_than_its_arguments(own: dict[str, Any]) -> None:
    """Deallocation, of which neither state nor interface knows, would be left out unseen."""
    options, (name, value) = DNCOptions(deallocation=True, **own), next(iter(own.items()))
    state = dnc.init_state(4, 3, 2, options=options)
    vector = torch.zeros(dnc.interface_size(3, 2, options=options))
    interface = dnc.parse_interface(vector, 3, 2, options=options)
    dnc.step(state, interface, options=options)
    plain = getattr(DNCOptions(), name)
    message = rf"^options: expected {name}={value}, as the \w+ has it, got {name}={plain}"
    with pytest.raises(MemcoreError, match=message):
        dnc.step(state, interface)
    plain_state = dnc.init_state(4, 3, 2)
    plain_interface = dnc.parse_interface(torch.zeros(dnc.interface_size(3, 2)), 3, 2)
    message = rf"^options: expected {name}={plain}, as the \w+ has it, got {name}={value}"
    with pytest.raises(MemcoreError, match=message):
        dnc.step(plain_state, plain_interface, options=options)
    if name == "masking":
        message = r"^interface.write_mask: expected a tensor, as read_masks is one, got \(\)"
        with pytest.raises(MemcoreError, match=message):
            dnc.step(state, interface._replace(write_mask=()), options=options)


@pytest.mark.parametrize("backend", ["reference", *(["numba"] if NUMBA else [])])
def test_rows_that_a_mask_hides_come_after_those_that_it_shows(backend: str) -> None:
    """In float32 what a mask shows of them is rounding."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(8, 20, 16, generator=generator)
    values[..., 0] *= 1e-4
    values[:, 7, 0] = 1
    options = SAMOptions(masking=True)
    state = sam.init_state(8, 20, 16, 1, 1, memory=RowMemory.from_tensor(values), index="exact")
    interface = torch.zeros(8, sam.interface_size(16, 1, options=options))
    interface[:, 0] = 1  # the key
    interface[:, 33] = -100  # the write gate
    interface[:, -16], interface[:, -15:] = 100, -100  # the mask
    _, after = sam.batched_step(state, interface, options=options, backend=backend)
    assert after.read_index.flatten().tolist() == [7] * 8


def test_masks_where_the_index_has_none() -> None:
    """Refused before anything is written."""
    state = sam.init_state(2, 8, 4, 1, 2)
    options = SAMOptions(masking=True)
    vectors = torch.randn(2, sam.interface_size(4, 1, options=options))
    for backend in ("auto", "reference"):
        with pytest.raises(MemcoreError, match="index: expected one that searches with masks"):
            sam.batched_step(state, vectors, options=options, backend=backend)
    assert not state.memory.written().numel()
    known = sam.init_state(2, 8, 4, 1, 2, index="exact")
    reads, _ = sam.batched_step(known, vectors, options=options)
    assert reads.isfinite().all()


def test_an_interface_for_other_options() -> None:
    own, two = DNCOptions(masking=True), DNCOptions(write_heads=2)
    with pytest.raises(MemcoreError, match="read_heads 2, masking, got 28"):
        dnc.parse_interface(torch.zeros(28), 3, 2, options=own)
    interface = dnc.parse_interface(torch.zeros(dnc.interface_size(3, 2)), 3, 2)
    state = dnc.init_state(4, 3, 2, options=two)
    with pytest.raises(MemcoreError, match=r"interface.write_key: expected shape \[H, W\]"):
        dnc.step(state, interface)
    several = dnc.parse_interface(
        torch.zeros(dnc.interface_size(3, 2, options=two)), 3, 2, options=two
    )
    with pytest.raises(MemcoreError, match="interface.read_modes: expected shape"):
        dnc.step(state, several._replace(read_modes=torch.ones(2, 3) / 3), options=two)
