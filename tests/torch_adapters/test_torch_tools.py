"""The table in docs/guides/torch_tools.md: what works, how, and what the rest says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from memcore import MemcoreError
from memcore.backends import NUMBA
from modules import CLOSE, batch, build, close, every_model, gradients
from scripts import script
from torch_adapters import DAM, DNC, SAM, SDNC

HERE = Path(__file__).parent
dense = pytest.mark.parametrize("model", [DNC, DAM])
sparse = pytest.mark.parametrize("model", [SAM, SDNC])
rnn_types = pytest.mark.parametrize("rnn_type", ["lstm", "gru", "rnn", "linear"])


@pytest.mark.parametrize("cases", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_compiling_and_exporting(cases: str) -> None:
    options = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-q"]
    command = [sys.executable, "-m", "pytest", *options, "compiled_cases.py", "-m", cases]
    ended = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout[-20_000:]


# torch.func


def functional(module: nn.Module, weights: Any, input: Tensor) -> Tensor:
    return torch.func.functional_call(module, weights, (input,))[0]


@dense
@rnn_types
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_gradients_over_parameters(model: Any, rnn_type: str, backend: str) -> None:
    module = build(model, rnn_type=rnn_type, backend=backend, num_layers=2)
    input, weights = batch(module), dict(module.named_parameters())
    found = torch.func.grad(lambda own: functional(module, own, input).square().sum())(weights)
    close(found.values(), gradients(module, module(input)[0]))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@dense
@rnn_types
def test_forward_mode_is_the_transpose_of_reverse_mode(model: Any, rnn_type: str) -> None:
    module = build(model, rnn_type=rnn_type)
    input = batch(module).requires_grad_()
    tangent, cotangent = torch.randn_like(input), torch.randn_like(input)
    output, slope, *_ = torch.func.jvp(lambda own: module(own)[0], (input.detach(),), (tangent,))
    wanted, _ = module(input)
    torch.testing.assert_close(output, wanted, **CLOSE)
    (gradient,) = torch.autograd.grad(wanted, input, cotangent)
    torch.testing.assert_close((slope * cotangent).sum(), (gradient * tangent).sum(), **CLOSE)


@dense
@rnn_types
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_each_example(model: Any, rnn_type: str, bias: bool) -> None:
    module = build(model, rnn_type=rnn_type, bias=bias)
    input, weights = batch(module), dict(module.named_parameters())

    def loss(own: Any, example: Tensor) -> Tensor:
        return functional(module, own, example[None]).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, input)
    for example in range(len(input)):
        wanted = gradients(module, module(input[example : example + 1])[0])
        close([own[example] for own in found.values()], wanted)


@dense
@rnn_types
def test_ensembles(model: Any, rnn_type: str) -> None:
    """Many modules at once, under ``vmap`` over their stacked parameters."""
    modules = [build(model, rnn_type=rnn_type, num_hidden_layers=2) for _ in range(3)]
    for scale, module in enumerate(modules):
        for parameter in module.parameters():
            parameter.data.mul_(1 + scale / 2)
    weights, _ = torch.func.stack_module_state(modules)  # pyright: ignore
    input = batch(modules[0])
    outputs = torch.func.vmap(lambda own: functional(modules[0], own, input))(weights)
    apart = torch.func.vmap(lambda own, one: functional(modules[0], own, one))(
        weights, torch.stack([input, 2 * input, 3 * input])
    )
    for which, module in enumerate(modules):
        torch.testing.assert_close(outputs[which], module(input)[0], **CLOSE)
        torch.testing.assert_close(apart[which], module((which + 1) * input)[0], **CLOSE)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@sparse
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_transforms_of_sparse_memories_are_refused(model: Any, backend: str) -> None:
    module = build(model, backend=backend)
    input, weights = batch(module), dict(module.named_parameters())
    expected = f"{model.__name__}: expected to be used outside of torch.func transforms"
    calls: list[Callable[[], Any]] = [
        lambda: torch.func.grad(lambda own: functional(module, own, input).sum())(weights),
        lambda: torch.func.vmap(module)(input[:, None]),
        lambda: torch.func.vmap(lambda one: module.step(one)[0])(input[:, None, 0]),
    ]
    for call in calls:
        with pytest.raises(MemcoreError, match=expected) as error:
            call()
        assert len(str(error.value).splitlines()) == 1
    expected = f"{model.__name__}: expected to be differentiated backward, got forward-mode"
    with pytest.raises(MemcoreError, match=expected):
        torch.func.jvp(lambda one: module(one)[0], (input,), (input,))
    output, _ = module(input)
    basis = torch.ones(2, *output.shape, dtype=output.dtype)
    with pytest.raises((MemcoreError, RuntimeError), match="is_grads_batched: expected False"):
        torch.autograd.grad(output, list(module.parameters()), basis, is_grads_batched=True)


# Autocast and checkpointing


@every_model
def test_autocast(model: Any) -> None:
    module = build(model, dtype=torch.float32)
    input = batch(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, (hidden, memory, reads) = module(input)
        output, hx = module(input, (hidden, memory, reads))
    assert output.dtype == torch.bfloat16
    assert memory.memory.dtype == reads.dtype == torch.float32
    assert all(value.isfinite().all() for value in gradients(module, output.float()))
    exact, _ = module(input, hx)  # and the state goes on outside of it
    assert exact.dtype == torch.float32


@every_model
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_activation_checkpointing(model: Any, backend: str) -> None:
    module = build(model, backend=backend)
    input = batch(module)

    def run(call: Callable[..., Any]) -> list[Tensor]:
        output, hx = call(input)
        output, _ = call(input, hx)
        return [output, *gradients(module, output)]

    found = run(lambda *given: checkpoint(module, *given, use_reentrant=False))
    close(found, run(module))


# Several processes, other devices: scripts of their own


@pytest.mark.parametrize(
    "how", [pytest.param(own, marks=pytest.mark.slow) for own in ("ddp", "fsdp")]
)
def test_two_processes_have_the_gradients_of_one(how: str) -> None:
    if not torch.distributed.is_available():
        pytest.skip("torch is built without distributed")
    for model in (DNC, DAM, SAM, SDNC):  # compiled here once, not by both at a time
        module = build(model)
        gradients(module, module(batch(module, 2))[0])
    lines = script("two_processes.py", how)
    assert {line["model"] for line in lines} == {"DNC", "DAM", "SAM", "SDNC"}
    for line in lines:
        assert line["difference"] < 1e-12, line
        assert line["largest"] > 1e-3, line
        assert line["backend"] == ("numba" if NUMBA else "reference"), line


def test_nothing_is_on_another_device_than_the_module() -> None:
    """Forward, backward and a second step on a device that is not a CPU, of fake tensors."""
    lines = script("fake_device.py")
    if lines == [{"missing": True}]:
        pytest.skip("this torch has no devices written in Python")
    assert {line["model"] for line in lines} == {"DNC", "DAM", "SAM", "SDNC"}
    for line in lines:
        assert line["elsewhere"] == [], line
        assert line["on"] > 100, line
        assert line["gradients"], line
        assert line["waits"] == [], line
