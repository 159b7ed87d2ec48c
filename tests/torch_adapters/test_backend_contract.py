"""With compiled loops a module keeps every promise that modules of torch make."""

# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

pytest.importorskip("numba")

from backend_cases import assert_agree, gradients, map_state, named_state, random_state
from memcore.kernels import dense_states, layout
from torch_adapters import DAM, DNC, select_state

models = pytest.mark.parametrize("model", [DNC, DAM])
B, T, X, H = 3, 4, 3, 8
Named = dict[str, Tensor]


def build(model: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"nr_cells": 5, "cell_size": 4, "read_heads": 2, "dtype": torch.float64}
    return model(X, H, **{**sizes, "backend": "numba", **options})


def batch(size: int = B, steps: int = T, seed: int = 1, dtype: Any = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, steps, X, generator=generator, dtype=torch.float64).to(dtype)


def state(module: Any, size: int = B, seed: int = 2, learned: bool = False) -> Any:
    hx = random_state(module, size, torch.Generator().manual_seed(seed))
    for value in named_state(hx).values():
        value.requires_grad_(learned)
    return hx


def named(result: Any) -> Named:
    output, hx = result
    data = output if isinstance(output, Tensor) else output.data
    return {"output": data, **named_state(hx)}


def cotangents(outputs: Named, seed: int = 3) -> Named:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
        for name, value in outputs.items()
    }


def slopes(outputs: Named, inputs: Named, **options: Any) -> dict[str, Tensor | None]:
    return gradients(outputs, inputs, cotangents(outputs), **options)


def parameters(module: nn.Module) -> Named:
    return dict(module.named_parameters())


def in_both(module: Any, function: Callable[[], dict[str, Any]], tolerance: float = 1e-11) -> Any:
    """Hold what a function gives by name against what it gives with the reference."""
    module.backend = "numba"
    kernels = function()
    module.backend = "reference"
    assert_agree(kernels, function(), tolerance)
    module.backend = "numba"
    return kernels


def equal(ones: dict[str, Any], others: dict[str, Any]) -> None:
    """Bit for bit, NaN where there is NaN."""
    assert list(ones) == list(others)
    different = [
        name
        for name, one in ones.items()
        if not (one is others[name] or torch.equal(bits(one), bits(others[name])))
    ]
    assert not different


def bits(value: Tensor) -> Tensor:
    """-0 and 0 are the same, all NaN are the same."""
    whole = torch.int32 if value.dtype == torch.float32 else torch.int64
    return torch.where(value.isnan(), torch.nan, value.detach() + 0.0).contiguous().view(whole)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """What a test sets is set back."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


# Autograd


@models
def test_a_state_is_reused_and_branched(model: Any) -> None:
    module = build(model)
    input, others = batch(), (batch(seed=4, steps=2), batch(seed=5))
    hx = state(module, learned=True)

    def branches() -> dict[str, Any]:
        first = module(input, hx)
        again = module(input, hx)
        ends = [module(other, first[1]) for other in others]
        results = (first, again, *ends)
        outputs = {f"{i} {k}": v for i, r in enumerate(results) for k, v in named(r).items()}
        return {**outputs, **slopes(outputs, {**parameters(module), **named_state(hx)})}

    kernels = in_both(module, branches)
    for name in named_state(hx):
        assert torch.equal(kernels[f"0 {name}"], kernels[f"1 {name}"])


@models
def test_the_graph_can_be_retained(model: Any) -> None:
    module, hx = build(model), state(build(model), learned=True)
    input = batch().requires_grad_()
    outputs = named(module(input, hx))
    inputs = {"input": input, **parameters(module), **named_state(hx)}
    first = slopes(outputs, inputs, retain_graph=True)
    module(batch(seed=7), hx)  # tapes come and go
    equal(slopes(outputs, inputs, retain_graph=True), first)
    equal(slopes(outputs, inputs), first)
    with pytest.raises(RuntimeError, match="second time"):
        slopes(outputs, inputs)


@models
@pytest.mark.parametrize("which", ["input", "parameters", "state", "one weight", "reads"])
@pytest.mark.parametrize("others", [False, True], ids=["alone", "among others"])
def test_gradients_of_some(model: Any, which: str, others: bool) -> None:
    module, input = build(model), batch()
    hx = state(module)
    every = {"input": input, **parameters(module), **named_state(hx)}
    chosen = {
        "input": ["input"],
        "parameters": list(parameters(module)),
        "state": list(named_state(hx)),
        "one weight": ["controllers.0.cells.1.weight_hh"],
        "reads": ["reads"],
    }[which]
    for name, value in every.items():
        value.requires_grad_(others or name in chosen)
    wanted = {name: every[name] for name in chosen}
    found = in_both(module, lambda: slopes(named(module(input, hx)), wanted))
    assert any(value is not None and value.any() for value in found.values())


@models
@pytest.mark.parametrize("only", ["output", "reads", "memory[0].memory", "hidden[0].c"])
def test_gradients_from_one_result(model: Any, only: str) -> None:
    module = build(model)
    input, hx = batch().requires_grad_(), state(module, learned=True)
    inputs = {"input": input, **parameters(module), **named_state(hx)}
    in_both(module, lambda: slopes({only: named(module(input, hx))[only]}, inputs))


def test_the_usage_of_a_dam_has_no_gradient() -> None:
    module = build(DAM)
    _, (_, memory, _) = module(batch(), state(module, learned=True))
    assert not memory.usage.requires_grad
    assert memory.memory.requires_grad


def _twice(module: Any, call: Callable[[], Named], inputs: Named) -> dict[str, Any]:
    """First derivatives of a graph that goes on, and second ones of them."""
    outputs = call()
    first = slopes(outputs, inputs, create_graph=True)
    known = {name: value for name, value in first.items() if value is not None}
    second = slopes(known, inputs)
    return {**{f"first {k}": v for k, v in first.items()}, **second}


@models
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rnn_type": "gru", "num_hidden_layers": 1},
        {"rnn_type": "rnn", "num_layers": 2, "share_memory": False, "bias": False},
        {"rnn_type": "rnn", "nonlinearity": "relu", "clip": 0.2},
        {"independent_linears": True, "num_layers": 2},
    ],
    ids=["lstm", "gru", "rnn", "relu", "independent"],
)
def test_second_derivatives(model: Any, options: dict[str, Any]) -> None:
    module = build(model, **options)
    input, hx = batch().requires_grad_(), state(module, learned=True)
    inputs = {"input": input, **parameters(module), **named_state(hx)}
    in_both(module, lambda: _twice(module, lambda: named(module(input, hx)), inputs), 1e-10)


@models
@pytest.mark.parametrize("how", ["calls", "episodes", "packed"])
def test_second_derivatives_of_several_segments(model: Any, how: str) -> None:
    module = build(model)
    input, hx = batch().requires_grad_(), state(module, learned=True)
    inputs = {"input": input, **parameters(module), **named_state(hx)}

    def call() -> Named:
        if how == "calls":
            return named(module(input[:, 2:], module(input[:, :2], hx)[1]))
        if how == "packed":
            return named(module(pack_sequence([input[0], input[1, :3], input[2, :1]]), hx))
        flags = torch.zeros(B, T, dtype=torch.bool)
        flags[1, 2] = True
        outputs = named(module(input, hx, episode_start=flags))
        return {name: value[0] for name, value in outputs.items() if name[0] in "or"}

    in_both(module, lambda: _twice(module, call, inputs), 1e-10)


@models
@pytest.mark.parametrize("what", ["weights", "state"])
def test_second_derivatives_of_what_is_in_two_places(model: Any, what: str) -> None:
    module = build(model, num_layers=3, num_hidden_layers=1, share_memory=False)
    input, hx = batch().requires_grad_(), state(module, learned=True)
    if what == "weights":
        module.interfaces[1] = module.interfaces[0]
        module.controllers[2] = module.controllers[1]
    else:
        hidden, memory, reads = hx
        hx = ([hidden[0]] * 3, [memory[0]] * 3, reads)
    inputs = {"input": input, **parameters(module), **named_state(hx)}
    in_both(module, lambda: slopes(named(module(input, hx)), inputs))
    in_both(module, lambda: _twice(module, lambda: named(module(input, hx)), inputs), 1e-10)


@models
def test_second_derivatives_with_dropout(model: Any) -> None:
    module = build(model, dropout=0.4)
    input, hx = batch().requires_grad_(), state(module)
    inputs = {"input": input, **parameters(module)}

    def call() -> Named:
        torch.manual_seed(1)
        return named(module(input, hx))

    in_both(module, lambda: _twice(module, call, inputs), 1e-10)


@models
def test_a_penalty_on_gradients_trains(model: Any) -> None:
    """As in regularising a gradient: backward through what autograd.grad gave."""
    module, input, hx = build(model), batch().requires_grad_(), None

    def penalty() -> dict[str, Any]:
        module.zero_grad()
        output, _ = module(input, hx)
        (slope,) = torch.autograd.grad(output.square().sum(), input, create_graph=True)
        (output.sum() + slope.square().sum()).backward()
        return {name: value.grad for name, value in parameters(module).items()}

    in_both(module, penalty)


@pytest.mark.parametrize(("model", "rnn_type"), [(DNC, "lstm"), (DNC, "rnn"), (DAM, "gru")])
def test_gradcheck(model: Any, rnn_type: str) -> None:
    """Against finite differences, which share nothing with the reference."""
    module = build(
        model, nr_cells=3, cell_size=2, read_heads=1, rnn_type=rnn_type, num_hidden_layers=1
    )
    hx, input = state(module, size=1, learned=True), batch(1, 2).requires_grad_()
    inputs = {"input": input, **parameters(module), **named_state(hx)}
    if model is DAM:
        del inputs["memory[0].usage"]

    def function(*_: Tensor) -> tuple[Tensor, ...]:
        # gradcheck changes the tensors' numbers in place.
        outputs = named(module(input, hx))
        return tuple(value for value in outputs.values() if value.requires_grad)

    assert torch.autograd.gradcheck(function, tuple(inputs.values()), fast_mode=True)


# Copies, parametrizations, other people's weights


@pytest.mark.parametrize("backend", ["numba", "reference", "auto"])
def test_copies_keep_the_backend(backend: str) -> None:
    module = build(DNC, backend=backend)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    copies = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ]
    module(batch())  # a module that has run is copied like a new one
    for own in (*copies, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert own.backend == backend
        equal(named(own(batch())), named(module(batch())))


def test_a_state_dict_says_nothing_of_the_backend() -> None:
    module, other = build(DNC), build(DNC, backend="reference")
    assert list(module.state_dict()) == list(other.state_dict())
    with torch.no_grad():
        module.output.weight.mul_(2)
    other.load_state_dict(module.state_dict())
    assert other.backend == "reference"
    assert_agree(named(module(batch())), named(other(batch())), 1e-12)


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).mT


class Pruned(nn.Module):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = nn.Buffer(mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@models
@pytest.mark.parametrize("independent", [False, True])
def test_parametrizations(model: Any, independent: bool) -> None:
    module = build(model, independent_linears=independent, rnn_type="gru")
    first, second = module.controllers[0].cells
    parametrizations.weight_norm(first, "weight_ih")
    parametrizations.spectral_norm(second, "weight_ih").eval()
    parametrize.register_parametrization(first, "bias_hh", Pruned(torch.arange(3 * H) % 2))
    for part in module.interfaces[0].parts.values():
        parametrizations.weight_norm(part, "weight")
        mask = torch.rand(part.weight.shape) < 0.5
        parametrize.register_parametrization(part, "weight", Pruned(mask))
    parametrize.register_parametrization(module.output, "bias", Pruned(torch.ones(X)))
    hx = state(module)
    assert "controllers.0.cells.0.parametrizations.weight_ih.original0" in parameters(module)
    in_both(module, lambda: slopes(named(module(batch(), hx)), parameters(module)))

    def cached() -> dict[str, Any]:
        with parametrize.cached():
            return slopes(named(module(batch(), hx)), parameters(module))

    in_both(module, cached)


def test_a_parametrized_square_weight() -> None:
    module = build(DNC, rnn_type="rnn")
    parametrize.register_parametrization(module.controllers[0].cells[0], "weight_hh", Symmetric())
    in_both(module, lambda: slopes(named(module(batch())), parameters(module)))


@models
def test_second_derivatives_of_parametrized_weights(model: Any) -> None:
    module = build(model)
    parametrizations.weight_norm(module.controllers[0].cells[0], "weight_ih")
    input, hx = batch().requires_grad_(), state(module)
    inputs = {"input": input, **parameters(module)}
    in_both(module, lambda: _twice(module, lambda: named(module(input, hx)), inputs), 1e-10)


@models
def test_tied_weights(model: Any) -> None:
    module = build(model, num_layers=3, num_hidden_layers=1)
    module.interfaces[1] = module.interfaces[0]
    module.controllers[2] = module.controllers[1]
    hx = state(module)
    in_both(module, lambda: slopes(named(module(batch(), hx)), parameters(module)))


@models
def test_functional_call(model: Any) -> None:
    module, hx = build(model), state(build(model))
    other = {k: (v.detach() * 1.5).requires_grad_() for k, v in parameters(module).items()}

    def call() -> dict[str, Any]:
        outputs = named(torch.func.functional_call(module, other, (batch(), hx)))
        return {**outputs, **slopes(outputs, other)}

    kernels = in_both(module, call)
    assert not torch.allclose(kernels["output"], module(batch(), hx)[0])


@models
def test_frozen_parameters(model: Any) -> None:
    module = build(model).requires_grad_(False)
    output, _ = module(batch(), state(module))
    assert not output.requires_grad
    module.interfaces.requires_grad_(True)
    trained = parameters(module.interfaces)
    in_both(module, lambda: slopes(named(module(batch(), state(module))), trained))


# What autograd keeps


@models
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(model: Any, reentrant: bool) -> None:
    module = build(model, dropout=0.3)
    input, hx = batch().requires_grad_(), state(module)
    inputs = {"input": input, **parameters(module)}

    def plain() -> dict[str, Any]:
        torch.manual_seed(1)
        outputs = named(module(input, hx))
        return {**outputs, **slopes(outputs, inputs)}

    expected = in_both(module, plain)

    def backward(outputs: Named) -> dict[str, Any]:
        # Reentrant checkpoints know .backward() alone.
        module.zero_grad()
        input.grad = None
        chosen = [name for name, value in outputs.items() if value.requires_grad]
        given = cotangents(outputs)
        torch.autograd.backward([outputs[k] for k in chosen], [given[k] for k in chosen])
        return {name: value.grad for name, value in inputs.items()}

    torch.manual_seed(1)
    # A named tuple or a list would hide its tensors from a reentrant checkpoint.
    results = checkpoint(
        lambda x: tuple(named(module(x, hx)).values()), input, use_reentrant=reentrant
    )
    outputs = dict(zip(named(module(input, hx)), results, strict=True))
    equal({**outputs, **backward(outputs)}, expected)


@models
def test_saved_tensors_can_be_moved_elsewhere(model: Any) -> None:
    module, hx = build(model), state(build(model), learned=True)
    input = batch().requires_grad_()
    inputs = {"input": input, **parameters(module), **named_state(hx)}
    expected = slopes(named(module(input, hx)), inputs)
    with torch.autograd.graph.save_on_cpu():
        outputs = named(module(input, hx))
    equal(slopes(outputs, inputs), expected)
    sizes: list[int] = []

    def pack(tensor: Tensor) -> bytes:
        sizes.append(tensor.numel() * tensor.element_size())
        file = io.BytesIO()
        torch.save(tensor.detach().clone(), file)
        return file.getvalue()

    def unpack(packed: bytes) -> Tensor:
        return torch.load(io.BytesIO(packed))

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        outputs = named(module(input, hx))
    # The gates, for one, of every step and example.
    assert T * B * 4 * H * 8 * module.num_hidden_layers in sizes
    memories = B * (T + 1) * hx[1].memory[0].numel() * 8
    assert max(sizes) >= memories
    equal(slopes(outputs, inputs), expected)


@models
@pytest.mark.parametrize("what", ["weight_ih", "weight_hh", "bias_ih", "interface", "memory"])
def test_changes_between_forward_and_backward_are_refused(model: Any, what: str) -> None:
    module = build(model)
    hx, cell = state(module), module.controllers[0].cells[0]
    output, _ = module(batch(), hx)
    changed = {
        "interface": module.interfaces[0].parts["all"].weight,
        "memory": hx[1].memory,
    }.get(what)
    with torch.no_grad():
        (getattr(cell, what) if changed is None else changed).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@models
@pytest.mark.parametrize("name", ["output", "reads", "memory[0].memory", "memory[0].read_weights",
                                  "memory[0].link", "hidden[0].h", "hidden[0].c"])  # fmt: skip
@pytest.mark.parametrize("slots", [5, 8])
def test_a_result_can_be_changed_in_place(model: Any, name: str, slots: int) -> None:
    """Where the reference would refuse, since its backward needs the result, kernels do not."""
    if model is DAM and name.endswith("link"):
        pytest.skip("a DAM has no links")
    module = build(model, nr_cells=slots)
    input, hx = batch().requires_grad_(), state(module, learned=True)
    inputs = {"input": input, **parameters(module), **named_state(hx)}

    def call() -> dict[str, Any]:
        outputs = named(module(input, hx))
        if module.backend == "reference":
            outputs[name] = outputs[name] * 3
        else:
            outputs[name].mul_(3)
        return {**outputs, **slopes(outputs, inputs)}

    in_both(module, call)


@models
def test_a_result_changed_in_place_does_no_harm_to_what_follows(model: Any) -> None:
    module = build(model)
    with torch.no_grad():
        first = module(batch(), state(module))
        kept = {name: value.clone() for name, value in named(first).items()}
        for value in named(module(batch(), state(module))).values():
            value.fill_(torch.nan)
        equal(named(first), kept)
        equal(named(module(batch(), state(module))), kept)


@models
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_there_is_no_tape(model: Any, mode: Any) -> None:
    module, hx = build(model), state(build(model), learned=True)
    expected = named(module(batch(), hx))
    assert expected["output"].grad_fn is not None
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), mode():
        found = named(module(batch(), hx))
    assert not saved
    equal(found, expected)
    for value in found.values():
        assert value.grad_fn is None
        assert not value.requires_grad


@models
def test_a_step_from_a_state_of_inference(model: Any) -> None:
    module = build(model)
    with torch.inference_mode():
        _, hx = module(batch(), state(module))
    with torch.no_grad():
        in_both(module, lambda: named(module(batch(seed=5), hx)))


@models
def test_arguments_are_never_changed(model: Any) -> None:
    module, hx = build(model), state(build(model), learned=True)
    input = batch().requires_grad_()
    every = {"input": input, **parameters(module), **named_state(hx)}
    before = {name: (value.detach().clone(), value._version) for name, value in every.items()}
    flags = torch.zeros(B, T, dtype=torch.bool)
    flags[1, 2] = True
    outputs = named(module(input, hx, episode_start=flags))
    given = cotangents(outputs)
    kept = {name: value.clone() for name, value in given.items()}
    gradients(outputs, every, given)
    equal(given, kept)
    for name, (value, version) in before.items():
        assert torch.equal(every[name], value), name
        assert every[name]._version == version, name


@models
def test_strange_layouts_of_arguments(model: Any) -> None:
    """Tensors that are no contiguous block: transposed, of every second element, of one number."""
    module, hx = build(model), state(build(model))

    def strange(value: Tensor) -> Tensor:
        wide = torch.full((*value.shape[:-1], 2 * value.shape[-1]), torch.nan, dtype=value.dtype)
        wide[..., ::2] = value
        flipped = wide[..., ::2].transpose(0, -1).contiguous().transpose(0, -1)
        return flipped if value.dim() > 2 else wide[..., ::2]

    hidden, memory, reads = hx
    odd = (
        [tuple(map(strange, layer)) for layer in hidden],
        type(memory)(*map(strange, memory)),
        strange(reads),
    )
    assert not odd[1].memory.is_contiguous()
    equal(named(module(strange(batch()), odd)), named(module(batch(), hx)))
    ones = torch.ones((), dtype=torch.float64).expand(B, T, X)
    outputs = named(module(ones, hx))
    flat = {k: torch.ones((), dtype=torch.float64).expand_as(v) for k, v in outputs.items()}
    full = {k: torch.ones_like(v) for k, v in outputs.items()}
    equal(gradients(outputs, parameters(module), flat, retain_graph=True),
          gradients(outputs, parameters(module), full))  # fmt: skip


@models
def test_lazily_negated_tensors(model: Any) -> None:
    """As the imaginary part of a conjugate is: a view with a note that it is to be negated."""
    module, hx = build(model), state(build(model))

    def negated(value: Tensor) -> Tensor:
        return torch._neg_view(-value)

    hidden, memory, reads = hx
    odd = (
        [tuple(map(negated, layer)) for layer in hidden],
        type(memory)(*map(negated, memory)),
        negated(reads),
    )
    assert odd[2].is_neg()
    equal(named(module(negated(batch()), odd)), named(module(batch(), hx)))
    outputs = named(module(batch(), hx))
    given = cotangents(outputs)
    odd_ones = {name: negated(value) for name, value in given.items()}
    equal(gradients(outputs, parameters(module), odd_ones, retain_graph=True),
          gradients(outputs, parameters(module), given))  # fmt: skip


@pytest.fixture
def _poison() -> Iterator[None]:
    """What torch.empty gives is full of NaN."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_poison")
@models
@pytest.mark.parametrize("rnn_type", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("slots", [1, 5, 16])
def test_nothing_is_read_before_it_is_written(
    model: Any, rnn_type: str, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_states, "KEEP_ALL_LINKS", 0 if slots == 5 else 1 << 22)
    module = build(model, nr_cells=slots, rnn_type=rnn_type, num_layers=2, share_memory=False)
    input, hx = batch(steps=6).requires_grad_(), state(module, learned=True)
    inputs = {"input": input, **parameters(module), **named_state(hx)}

    def call() -> dict[str, Any]:
        outputs = named(module(input, hx))
        found = {**outputs, **slopes(outputs, inputs)}
        assert all(value is None or bool(value.isfinite().all()) for value in found.values())
        return found

    poisoned = call()
    torch.use_deterministic_algorithms(False)
    equal(call(), poisoned)
    with torch.no_grad():
        plain = named(module(input, hx))
        torch.use_deterministic_algorithms(True)
        equal(named(module(input, hx)), plain)


@models
def test_a_large_tape_is_reused_clean(model: Any) -> None:
    """Tapes of over a megabyte are taken from those that were freed before."""
    module = build(model, nr_cells=40, cell_size=20)
    input, hx = batch(8, 20), state(module, 8)
    results = []
    for noise in (0.0, 1e6, 0.0):
        outputs = named(module(input + noise, hx))
        results.append({**outputs, **slopes(outputs, parameters(module))})
        del outputs
    equal(results[0], results[2])


# Threads, other examples, time


SIZES: dict[str, dict[str, Any]] = {
    "small": {},
    "odd": {"nr_cells": 17, "cell_size": 7, "read_heads": 3, "num_layers": 2},
    "float32": {"dtype": torch.float32, "nr_cells": 33, "cell_size": 10, "rnn_type": "gru"},
}
sizes = pytest.mark.parametrize("options", SIZES.values(), ids=list(SIZES))


@models
@sizes
def test_threads_change_nothing(
    model: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "THREAD_PAYS", 1)
    module = build(model, **options)
    dtype = module.output.weight.dtype
    found, weights = [], []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        input, hx = batch(7, dtype=dtype).requires_grad_(), state(module, 7, learned=True)
        outputs, inputs = named(module(input, hx)), {"input": input, **named_state(hx)}
        slope = slopes(outputs, {**inputs, **parameters(module)})
        found.append({**outputs, **{f"d {name}": slope[name] for name in inputs}})
        weights.append({name: slope[name] for name in parameters(module)})
    equal(found[1], found[0])
    equal(found[2], found[0])
    # Sums over all steps and examples are torch's products, which threads may add up otherwise.
    tolerance = 1e-13 if dtype == torch.float64 else 1e-4
    assert_agree(weights[1], weights[0], tolerance)
    assert_agree(weights[2], weights[0], tolerance)


def by_rows(left: Tensor, right: Tensor) -> Tensor:
    """A product of which a row is the same however many there are; those of BLAS are not."""
    return torch.stack([(row[:, None] * right).sum(0) for row in left])


class LinearByRows(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return by_rows(input, self.weight.t()) + self.bias


def without_blas(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take from a module the products that are torch's: of all inputs, and of its output."""

    def product(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        return out.copy_(by_rows(left, right))

    def sum_and_product(bias: Tensor, left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        return out.copy_(by_rows(left, right) + bias)

    monkeypatch.setattr(torch, "mm", product)
    monkeypatch.setattr(torch, "addmm", sum_and_product)
    monkeypatch.setattr(Tensor, "__matmul__", by_rows)
    output = LinearByRows(
        module.output.in_features, module.output.out_features, dtype=module.output.weight.dtype
    )
    output.load_state_dict(module.output.state_dict())
    module.output = output


def picked(example: int, values: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
    """What belongs to one example, of tensors by name."""
    return {
        name: None
        if value is None
        else value.narrow(1 if name.removeprefix("d ").startswith("hidden") else 0, example, 1)
        for name, value in values.items()
    }


def check_examples(module: Any) -> None:
    """What each example gives in a batch is what it gives alone, gradients too."""
    dtype = module.output.weight.dtype
    input, hx = batch(7, dtype=dtype), state(module, 7)

    def call(input: Tensor, hx: Any, given: Named | None = None) -> tuple[dict[str, Any], Named]:
        inputs = {"input": input, **named_state(hx)}
        for value in inputs.values():
            value.requires_grad_()
        outputs = named(module(input, hx))
        given = cotangents(outputs) if given is None else given
        slope = gradients(outputs, inputs, given)
        return {**outputs, **{f"d {name}": value for name, value in slope.items()}}, given

    together, given = call(input.clone(), map_state(Tensor.clone, hx))
    for example in range(7):
        own = select_state(hx, [example])
        own_given: Any = picked(example, given)
        alone, _ = call(input[[example]], own, own_given)
        equal(alone, picked(example, together))


@models
@sizes
def test_other_examples_change_nothing(
    model: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(model, **options)
    without_blas(module, monkeypatch)
    check_examples(module)


def check_resuming(module: Any) -> None:
    dtype = module.output.weight.dtype
    input, hx = batch(steps=6, dtype=dtype), state(module)
    with torch.no_grad():
        whole = named(module(input, hx))
        pieces, carried = [], hx
        for time in range(6):
            output, carried = module.step(input[:, time], carried)
            pieces.append(output)
        equal(named((torch.stack(pieces, 1), carried)), whole)
        first, carried = module(input[:, :4], hx)
        second, carried = module(input[:, 4:], carried)
        equal(named((torch.cat([first, second], 1), carried)), whole)


@models
@sizes
def test_resuming_is_exact(
    model: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(model, **options)
    without_blas(module, monkeypatch)
    check_resuming(module)


@models
@sizes
def test_states_are_resumed_exactly(model: Any, options: dict[str, Any]) -> None:
    """Also where the output layer's rounding depends on the number of rows, as a BLAS's does."""
    module = build(model, **options)
    input, hx = batch(steps=6, dtype=module.output.weight.dtype), state(module)
    with torch.no_grad():
        _, whole = module(input, hx)
        carried = hx
        for time in range(6):
            _, carried = module.step(input[:, time], carried)
        _, first = module(input[:, :4], hx)
        _, second = module(input[:, 4:], first)
    equal(named_state(carried), named_state(whole))
    equal(named_state(second), named_state(whole))


@models
@pytest.mark.parametrize("rnn", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bias", [True, False])
def test_weights_that_are_not_packed_change_nothing(
    model: Any, rnn: str, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a few rows it would take longer; not a bit of the result may depend on it."""
    module = build(model, rnn_type=rnn, bias=bias, num_layers=2)
    input, hx = batch(steps=3), state(module)
    found = {}
    for few in (0, 1000):
        monkeypatch.setattr(layout, "FEW_ROWS", few)
        found[few] = named_state(module(input, hx)[1])
    equal(found[0], found[1000])


@models
def test_many_threads_use_a_module_at_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "THREAD_PAYS", 1)
    module = build(model)
    inputs = [batch(5, seed=seed) for seed in range(4)]
    states = [state(module, 5, seed=seed) for seed in range(4)]

    def call(number: int) -> dict[str, Any]:
        outputs = named(module(inputs[number], states[number]))
        return {**outputs, **{f"d {k}": v for k, v in slopes(outputs, parameters(module)).items()}}

    torch.set_num_threads(2)
    expected = [call(number) for number in range(4)]
    start = threading.Barrier(4)

    def work(number: int) -> list[dict[str, Any]]:
        torch.set_num_threads(2)
        start.wait()
        return [call(number) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for number, results in enumerate(pool.map(work, range(4))):
            for found in results:
                equal(found, expected[number])


FORK = """
import multiprocessing, sys
import torch
from memcore import dam, dnc
from memcore.kernels import layout
from torch_adapters import DAM, DNC

parent_first = sys.argv[1] == "parent"
layout.THREAD_PAYS = 1
torch.set_num_threads(2)
torch.manual_seed(0)
sizes = {"nr_cells": 5, "cell_size": 4, "backend": "numba", "dtype": torch.float64}
modules = [DNC(3, 8, **sizes), DAM(3, 8, **sizes)]
input = torch.randn(6, 4, 3, dtype=torch.float64)
steps = []
for functions in (dnc, dam):
    one = functions.init_state(5, 4, 2, dtype=torch.float64)
    state = type(one)(*(torch.rand(6, *field.shape, dtype=torch.float64) for field in one))
    shape = (6, functions.interface_size(4, 2))
    vectors = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    steps.append((functions.batched_step, state, vectors))

def of_module():
    found = []
    for module in modules:
        module.zero_grad()
        output, hx = module(input)
        (output.sum() + hx[1].memory.sum()).backward()
        found += [output.tolist()] + [value.grad.tolist() for value in module.parameters()]
    return found

def of_step():
    found = []
    for step, state, vectors in steps:
        reads, after = step(state, vectors, backend="numba")
        (slope,) = torch.autograd.grad(reads.square().sum() + after.memory.sum(), vectors)
        found += [reads.tolist(), slope.tolist()]
    return found

def numbers():
    return of_module(), of_step()

def child(queue):
    # After the parent has used OpenMP, products of torch wait for its threads for ever, as in
    # every forked process: so torch's own workers set one thread. Kernels work with two.
    torch.set_num_threads(1 if parent_first else 2)
    first = of_module()
    torch.set_num_threads(2)
    queue.put([(first, of_step()) for _ in range(3)])

if parent_first:
    expected = numbers()
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=child, args=(queue,))
process.start()
found = queue.get(timeout=60)
process.join(60)
assert process.exitcode == 0, process.exitcode
if not parent_first:
    expected = numbers()
assert all(own == expected for own in found)
assert numbers() == expected  # the parent goes on
print("equal")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_forked_child_computes_the_same(first: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, first],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "equal\n", done.stderr


@models
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_stays_with_its_example(model: Any, dtype: torch.dtype) -> None:
    module = build(model, dtype=dtype, nr_cells=17)
    input, hx = batch(4, dtype=dtype), state(module, 4)
    expected = named(module(input, hx))
    input[2, 1] = torch.nan
    outputs = named(module(input, hx))
    for name, value in outputs.items():
        axis = 1 if name.startswith("hidden") else 0
        for example in (0, 1, 3):
            assert torch.equal(value.select(axis, example), expected[name].select(axis, example))
    assert torch.equal(outputs["output"][2, 0], expected["output"][2, 0])
    assert outputs["output"][2, 1:].isnan().all()
    assert outputs["reads"][2].isnan().all()
    slope = slopes({"output": outputs["output"]}, parameters(module))
    del slope["output.bias"]
    assert all(value is not None and value.isnan().any() for value in slope.values())


BAD = {"nan": torch.nan, "inf": torch.inf, "-inf": -torch.inf, "huge": 1e30, "-huge": -1e30}


@models
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("place", ["input", "hidden", "reads", "weight", "interface", "memory",
                                   "usage", "read_weights", "write_weights", "link"])  # fmt: skip
def test_bad_numbers_come_out_where_the_reference_has_them(
    model: Any, dtype: torch.dtype, bad: float, place: str
) -> None:
    module = build(model, dtype=dtype, nr_cells=17)
    input, hx = batch(dtype=dtype), state(module)
    hidden, memory, reads = hx
    places = {
        "input": input[1, 1],
        "hidden": hidden[0][0][0, 1],
        "reads": reads[1],
        "weight": module.controllers[0].cells[1].weight_hh[2:4],
        "interface": module.interfaces[0].parts["all"].bias[:3],
    }
    if place not in places and not hasattr(memory, place):
        pytest.skip("a DAM has no links")
    if abs(bad) == 1e30 and place not in places and place != "memory":
        pytest.skip("from weights of 1e30 the equations lead anywhere")
    with torch.no_grad():
        (places[place] if place in places else getattr(memory, place)[1, :2])[:2] = bad

    def call() -> dict[str, Any]:
        outputs = named(module(input, hx))
        return {**outputs, **slopes({"output": outputs["output"]}, parameters(module))}

    module.backend = "reference"
    expected = call()
    module.backend = "numba"
    found = call()
    wrong = [
        name
        for name, value in expected.items()
        if value is not None and not (~value.isnan() | found[name].isnan()).all()
    ]
    assert not wrong, f"numbers where the reference has NaN: {wrong}"
    wrong = [
        name
        for name, value in expected.items()
        if value is not None and not (~value.isfinite() | found[name].isfinite()).all()
    ]
    assert not wrong, f"NaN or infinite where the reference has numbers: {wrong}"


@models
def test_calls_of_the_same_sizes_know_nothing_of_each_other(model: Any) -> None:
    """What one is told of, as masks of dropout, is not there in another."""
    module = build(model, dropout=0.5)
    for training in (True, False, True):
        module.train(training)

        def call() -> Named:
            torch.manual_seed(1)
            return named(module(batch(), state(module)))

        in_both(module, call)
