"""A step of a batch in compiled loops: that of the reference, with first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from memcore import MemcoreError, dam, dnc
from memcore.dam import DAMState
from memcore.dnc import DNCState

B, N, W, R = 3, 5, 4, 2
models = pytest.mark.parametrize("model", [dnc, dam], ids=["DNC", "DAM"])
Named = dict[str, Tensor]


def draw(
    model: Any, sizes: tuple[int, ...] = (B, N, W, R), dtype: Any = torch.float64, seed: int = 0
) -> tuple[Any, Tensor]:
    """A state, no two slots of which are equally used, and interface vectors."""
    batch, slots, words, heads = sizes
    generator = torch.Generator().manual_seed(seed)

    def real(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    def weights(*shape: int) -> Tensor:
        return real(*shape, slots).softmax(-1) * real(*shape, 1).sigmoid()

    usage = (real(slots).argsort(-1) + 0.25 + real(slots).sigmoid() / 2) / slots
    if model is dam:
        state: Any = DAMState(real(slots, words), usage, weights(heads), weights())
    else:
        precedence = weights()
        links = real(slots, slots).sigmoid() / slots * (1 - torch.eye(slots).double())
        links = links * (1 - precedence[:, None])
        state = DNCState(real(slots, words), usage, precedence, links, weights(heads), weights())
    vectors = 2 * real(model.interface_size(words, heads))
    return type(state)(*(field.to(dtype) for field in state)), vectors.to(dtype)


def leaves(state: Any, vectors: Tensor) -> tuple[Any, Tensor, Named]:
    state = type(state)(*(field.clone().requires_grad_() for field in state))
    vectors = vectors.clone().requires_grad_()
    return state, vectors, {"vectors": vectors, **state._asdict()}


def named(result: tuple[Tensor, Any]) -> Named:
    return {"reads": result[0], **result[1]._asdict()}


def slopes(outputs: Named, inputs: Named, seed: int = 5, **options: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    cotangents = {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        for name, value in outputs.items()
    }
    chosen = [name for name, value in outputs.items() if value.requires_grad]
    found = torch.autograd.grad(
        [outputs[name] for name in chosen],
        list(inputs.values()),
        [cotangents[name] for name in chosen],
        allow_unused=True,
        **options,
    )
    return dict(zip(inputs, found, strict=True))


def agree(ones: dict[str, Any], others: dict[str, Any], tolerance: float) -> None:
    assert list(ones) == list(others)
    for name, one in ones.items():
        other = others[name]
        if one is None or other is None:
            present = one if other is None else other
            assert present is None or not present.any(), name
            continue
        scale = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(
            one,
            other,
            rtol=0,
            atol=tolerance * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def in_both(function: Callable[[str], dict[str, Any]], tolerance: float) -> None:
    agree(function("numba"), function("reference"), tolerance)


@models
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (B, N, W, R), (4, 16, 3, 1), (2, 17, 10, 5), (3, 40, 8, 3)], ids=str
)
def test_a_step_and_its_gradients(model: Any, dtype: Any, sizes: tuple[int, ...]) -> None:
    state, vectors, inputs = leaves(*draw(model, sizes, dtype))

    def call(backend: str) -> dict[str, Any]:
        outputs = named(model.batched_step(state, vectors, backend=backend))
        return {**outputs, **{f"d {k}": v for k, v in slopes(outputs, inputs).items()}}

    in_both(call, 1e-12 if dtype == torch.float64 else 1e-4)


@models
def test_it_is_vmap_of_the_step(model: Any) -> None:
    state, vectors = draw(model)

    def one(state: Any, vector: Tensor) -> Any:
        return model.step(state, model.parse_interface(vector, W, R))

    expected = named(torch.func.vmap(one)(state, vectors))
    for backend in ("auto", "numba", "reference"):
        agree(named(model.batched_step(state, vectors, backend=backend)), expected, 1e-12)


@models
def test_steps_in_a_row(model: Any) -> None:
    state, vectors, inputs = leaves(*draw(model))

    def call(backend: str) -> dict[str, Any]:
        after, outputs = state, {}
        for step in range(4):
            reads, after = model.batched_step(after, vectors * (1 + step), backend=backend)
            outputs[f"reads {step}"] = reads
        outputs |= after._asdict()
        return {**outputs, **{f"d {k}": v for k, v in slopes(outputs, inputs).items()}}

    in_both(call, 1e-11)


@models
@pytest.mark.parametrize("steps", [1, 2])
def test_second_derivatives(model: Any, steps: int) -> None:
    state, vectors, inputs = leaves(*draw(model))

    def call(backend: str) -> dict[str, Any]:
        after, outputs = state, {}
        for step in range(steps):
            reads, after = model.batched_step(after, vectors, backend=backend)
            outputs[f"reads {step}"] = reads
        first = slopes({**outputs, **after._asdict()}, inputs, create_graph=True)
        known = {name: value for name, value in first.items() if value is not None}
        return {**first, **{f"d {k}": v for k, v in slopes(known, inputs).items()}}

    in_both(call, 1e-10)


def test_one_tensor_in_two_places() -> None:
    state, vectors = draw(dnc)
    both = state.write_weights.clone().requires_grad_()
    state = state._replace(write_weights=both, precedence=both)

    def call(backend: str) -> dict[str, Any]:
        outputs = named(dnc.batched_step(state, vectors, backend=backend))
        first = slopes(outputs, {"both": both}, create_graph=True)
        return {**first, **{f"d {k}": v for k, v in slopes(first, {"both": both}).items()}}

    in_both(call, 1e-10)


@models
@pytest.mark.parametrize("wanted", ["vectors", "memory", "read_weights"])
def test_the_gradient_of_one(model: Any, wanted: str) -> None:
    state, vectors = draw(model)
    inputs = {"vectors": vectors, **state._asdict()}
    inputs[wanted].requires_grad_()

    def call(backend: str) -> dict[str, Any]:
        outputs = named(model.batched_step(state, vectors, backend=backend))
        return slopes(outputs, {wanted: inputs[wanted]})

    in_both(call, 1e-12)


@models
def test_no_gradient_no_tape(model: Any) -> None:
    state, vectors, inputs = leaves(*draw(model))
    expected = named(model.batched_step(state, vectors, backend="numba"))
    assert expected["reads"].requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = named(model.batched_step(state, vectors, backend="numba"))
        for name, value in found.items():
            assert not value.requires_grad
            assert torch.equal(value, expected[name])
    versions = {name: value._version for name, value in inputs.items()}
    assert set(versions.values()) == {0}


@models
def test_reads_may_be_changed_in_place(model: Any) -> None:
    """Also where the reference would refuse: kernels' backward does not need them."""
    state, vectors, inputs = leaves(*draw(model))

    def call(backend: str) -> dict[str, Any]:
        outputs = named(model.batched_step(state, vectors, backend=backend))
        if backend == "reference":
            outputs["reads"] = outputs["reads"] * 2
        else:
            outputs["reads"].mul_(2)
        return slopes(outputs, inputs)

    agree(call("numba"), call("reference"), 1e-12)


@models
def test_torch_func_takes_the_reference(model: Any) -> None:
    state, vectors = draw(model)

    def reads(vectors: Tensor) -> Tensor:
        return model.batched_step(state, vectors)[0].square().sum()

    expected = vectors.clone().requires_grad_()
    reads(expected).backward()
    torch.testing.assert_close(torch.func.grad(reads)(vectors), expected.grad)
    with pytest.raises(MemcoreError, match="'numba', but a torch.func transform is active"):
        torch.func.grad(lambda x: model.batched_step(state, x, backend="numba")[0].sum())(vectors)


# Edges of the arithmetic


@models
@pytest.mark.parametrize("scale", [0.0, 1e-30, 50.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_interfaces(model: Any, scale: float, dtype: Any) -> None:
    """Gates shut or wide open, softmaxes that choose one slot."""
    state, vectors = draw(model, dtype=dtype)
    state, vectors, inputs = leaves(state, vectors * scale)

    def call(backend: str) -> dict[str, Any]:
        outputs = named(model.batched_step(state, vectors, backend=backend))
        found = {**outputs, **{f"d {k}": v for k, v in slopes(outputs, inputs).items()}}
        assert all(value is None or bool(value.isfinite().all()) for value in found.values())
        return found

    in_both(call, 1e-9 if dtype == torch.float64 else 1e-3)


@models
@pytest.mark.parametrize("kind", ["empty", "full", "free and full", "equal rows"])
def test_states_at_the_edge(model: Any, kind: str) -> None:
    """Two slots: rounding cannot decide which of those that are equally good is taken."""
    sizes = (B, 2, W, R)
    state, vectors = draw(model, sizes)
    if kind == "empty":
        state = type(state)(*(torch.zeros_like(field) for field in state))
    elif kind == "full":
        state = state._replace(usage=torch.ones(B, 2).double())
    elif kind == "free and full":
        state = state._replace(usage=torch.tensor([[1.0, 0.0]] * B).double())
    else:
        state = state._replace(memory=state.memory[:, :1].expand(B, 2, W))
    state, vectors, inputs = leaves(state, vectors)

    def call(backend: str) -> dict[str, Any]:
        outputs = named(model.batched_step(state, vectors, backend=backend))
        return {**outputs, **{f"d {k}": v for k, v in slopes(outputs, inputs).items()}}

    in_both(call, 1e-11)


@models
@pytest.mark.parametrize("slots", [5, 16])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_bad_interfaces_harm_one_example(model: Any, slots: int, bad: float) -> None:
    state, vectors = draw(model, (B, slots, W, R), torch.float32)
    clean = named(model.batched_step(state, vectors, backend="numba"))
    for place in range(vectors.shape[1]):
        if (model, slots, bad, place) == (dnc, 5, torch.inf, WRITE_STRENGTH):
            continue  # see the next test
        spoilt = vectors.clone()
        spoilt[1, place] = bad
        found = named(model.batched_step(state, spoilt, backend="numba"))
        expected = named(model.batched_step(state, spoilt, backend="reference"))
        for name, value in found.items():
            assert torch.equal(value[[0, 2]], clean[name][[0, 2]])
            assert (value.isnan() >= expected[name].isnan()).all(), (place, name)


WRITE_STRENGTH = R * W + R + W  # where it stands in a DNC's interface vector


@pytest.mark.parametrize("slots", [5, 16])
@pytest.mark.parametrize("strength", [1e35, torch.inf])
def test_keys_unlike_all_rows_with_a_huge_strength(slots: int, strength: float) -> None:
    state, vectors = draw(dnc, (1, slots, W, R), torch.float32)
    key = slice(WRITE_STRENGTH - W, WRITE_STRENGTH)
    state, vectors = state._replace(memory=state.memory.abs()), vectors.clone()
    vectors[0, key] = -vectors[0, key].abs()
    vectors[0, WRITE_STRENGTH] = strength
    reference = dnc.batched_step(state, vectors, backend="reference")[1].write_weights
    kernels = dnc.batched_step(state, vectors, backend="numba")[1].write_weights
    torch.testing.assert_close(kernels, reference, rtol=1e-3, atol=1e-6, equal_nan=True)


OVERFLOWS = pytest.mark.xfail(strict=True, reason="keys are multiplied before they are divided")


@pytest.mark.parametrize(
    ("model", "of_memory", "of_vectors"),
    [
        (dnc, 1e30, 1.0),
        (dam, 1e30, 1.0),
        (dnc, 1.0, 1e30),
        pytest.param(dam, 1.0, 1e30, marks=OVERFLOWS),
        pytest.param(dnc, 1e12, 1e30, marks=OVERFLOWS),
        pytest.param(dam, 1e30, 1e30, marks=OVERFLOWS),
    ],
)
def test_what_is_finite_in_the_reference_is_finite(
    model: Any, of_memory: float, of_vectors: float
) -> None:
    """Keys and rows so large that their products, or the squares of both, overflow."""
    state, vectors = draw(model, dtype=torch.float32)
    state = state._replace(memory=state.memory * of_memory)
    expected = named(model.batched_step(state, vectors * of_vectors, backend="reference"))
    found = named(model.batched_step(state, vectors * of_vectors, backend="numba"))
    for name, value in found.items():
        assert (value.isfinite() >= expected[name].isfinite()).all(), name


# Checks


@models
def test_what_is_wrong_is_named(model: Any) -> None:
    state, vectors = draw(model)
    step = model.batched_step

    def wrong(match: str, kind: type[Exception] = MemcoreError, **fields: Any) -> None:
        with pytest.raises(kind, match=match):
            step(state._replace(**fields), vectors)

    wrong(r"state.memory: expected shape \[B, N, W\]", memory=state.memory[0])
    wrong(r"state.memory: expected shape \[B, N, W\]", memory=state.memory[:0])
    wrong("state.memory: expected float32 or float64, got torch.float16",
          memory=state.memory.half())  # fmt: skip
    wrong(r"state.read_weights: expected shape \[3, R, 5\]", read_weights=state.read_weights[0])
    wrong(r"state.read_weights: expected shape \[3, R, 5\]", read_weights=state.read_weights[:, :0])
    wrong(r"state.read_weights: expected shape \[3, 2, 5\], got \[3, 2, 4\]",
          read_weights=state.read_weights[..., :4])  # fmt: skip
    wrong(r"state.usage: expected shape \[3, 5\], got \[3, 4\]", usage=state.usage[:, :4])
    wrong(r"state.usage: expected shape \[3, 5\], got \[2, 5\]", usage=state.usage[:2])
    wrong("state.usage: expected dtype torch.float64, got torch.float32", usage=state.usage.float())
    wrong("state.usage: expected device cpu, got meta", usage=state.usage.to("meta"))
    wrong("state.write_weights: expected a torch.Tensor, got list", TypeError, write_weights=[])
    wrong("state.memory: expected a torch.Tensor, got NoneType", TypeError, memory=None)
    if model is dnc:
        wrong(r"state.link: expected shape \[3, 5, 5\], got \[3, 5, 4\]", link=state.link[..., :4])
        wrong(r"state.precedence: expected shape \[3, 5\]", precedence=state.precedence[:, None])
    size = model.interface_size(W, R)
    with pytest.raises(MemcoreError, match=rf"vectors: expected shape \[3, {size}\], got \[3, 7\]"):
        step(state, vectors[:, :7])
    with pytest.raises(MemcoreError, match="vectors: expected dtype torch.float64"):
        step(state, vectors.float())
    with pytest.raises(TypeError, match="vectors"):
        step(state, vectors.tolist())
    with pytest.raises(TypeError, match="state"):
        step(tuple(state), vectors)
    other, _ = draw(dam if model is dnc else dnc)
    with pytest.raises(TypeError, match="state"):
        step(other, vectors)
    with pytest.raises(MemcoreError, match="backend: expected one of auto, reference, numba"):
        step(state, vectors, backend="cuda")
    with pytest.raises(TypeError, match="backend"):
        step(state, vectors, backend=None)


@models
@pytest.mark.parametrize("slots", [N, 32])
def test_gradients_that_are_given_are_not_changed(model: Any, slots: int) -> None:
    """Backward works in place; also where slots fill whole registers, so that nothing is padded."""
    state, vectors, inputs = leaves(*draw(model, (B, slots, W, R)))
    outputs = named(model.batched_step(state, vectors, backend="numba"))
    outputs = {name: value for name, value in outputs.items() if value.requires_grad}
    given = [torch.randn_like(value) for value in outputs.values()]
    before = [gradient.clone() for gradient in given]
    torch.autograd.grad(list(outputs.values()), list(inputs.values()), given, allow_unused=True)
    assert all(map(torch.equal, given, before))
