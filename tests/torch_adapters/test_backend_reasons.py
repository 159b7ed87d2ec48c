"""What kernels do not take: 'auto' says why, once, and 'numba' refuses for that very reason."""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import copy
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.nn.modules import module as module_hooks

pytest.importorskip("numba")

from backend_cases import named_state, random_state
from memcore import MemcoreError, backends
from memcore.index import AllRowsIndex
from torch_adapters import DAM, DNC, SAM, SDNC
from torch_adapters.backend import Backend
from torch_adapters.dam import DAMCell
from torch_adapters.dnc import DNCCell

models = pytest.mark.parametrize("model", [DNC, DAM])
X, H = 3, 8


def build(model: Any = DNC, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"nr_cells": 5, "cell_size": 4, "read_heads": 2, "dtype": torch.float64}
    return model(X, H, **{**sizes, **options})


def batch(module: Any) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(2, 3, X, generator=generator, dtype=torch.float64)
    return drawn.to(module.output.weight.dtype)


def close(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        tolerance = 1e-10 if one.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    elif isinstance(one, dict):
        for name in other:
            close(one[name], other[name])


@pytest.fixture
def declines(caplog: pytest.LogCaptureFixture) -> Callable[..., None]:
    """Hold what becomes of a call that kernels do not take.

    Args:
        module: the module.
        reason: a part of the sentence.
        call: gives something to compare; also asks `module.backend_of`, where ``ask`` is None.
        ask: asks it.
    """

    def check(
        module: Any,
        reason: str,
        call: Callable[[], Any] | None = None,
        ask: Callable[[], Backend] | None = None,
    ) -> None:
        input = batch(module)
        call = call or (lambda: {"output": module(input)[0].detach()})
        ask = ask or (lambda: module.backend_of(input))
        module.backend = "auto"
        backends.log_reference.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="memcore"):
            chosen = ask()
            assert not caplog.records  # asking is not running
            found = call()
            call()
        assert chosen.name == "reference"
        assert chosen.reason is not None
        assert reason in chosen.reason
        assert "\n" not in chosen.reason
        assert not chosen.reason.endswith(".")
        (record,) = caplog.records
        assert record.levelno == logging.INFO
        assert record.getMessage() == (
            f"{type(module).__name__}: backend 'auto' takes the reference, since {chosen.reason}"
        )
        module.backend = "reference"
        assert ask() == ("reference", "backend='reference' was asked for")
        close(found, call())
        assert len(caplog.records) == 1
        module.backend = "numba"
        for refused in (call, ask):
            with pytest.raises(MemcoreError) as error:
                refused()
            expected = f"backend: expected what the kernels take for 'numba', but {chosen.reason}"
            assert str(error.value) == expected

    return check


Declines = Callable[..., None]


def test_what_is_taken_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    backends.log_reference.cache_clear()
    for model in (DNC, DAM):
        module = build(model)
        with caplog.at_level(logging.INFO, logger="memcore"):
            module(batch(module))
        assert module.backend_of(batch(module)) == Backend("numba", None)
    assert not caplog.records


@pytest.mark.parametrize("model", [DNC, DAM, SAM, SDNC])
def test_a_backend_is_one_of_three(model: Any) -> None:
    assert model(X, H).backend == "auto"
    for backend in ("auto", "reference", "numba"):
        assert model(X, H, backend=backend).backend == backend
    with pytest.raises(MemcoreError, match="backend: expected one of auto, reference, numba, got"):
        model(X, H, backend="triton")
    module = model(X, H)
    with pytest.raises(MemcoreError, match="backend: expected one of .*, got 'cuda'"):
        module.backend = "cuda"
    for wrong in (None, 1, True, ["numba"]):
        with pytest.raises(TypeError, match="backend: expected a str, got"):
            module.backend = wrong
        with pytest.raises(TypeError, match="backend: expected a str, got"):
            model(X, H, backend=wrong)
    assert module.backend == "auto"
    module.backend = "reference"
    assert "backend='reference'" in repr(module)


@models
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(model: Any, dtype: torch.dtype, declines: Declines) -> None:
    declines(build(model, dtype=dtype), f"{dtype}, and kernels take float32 and float64")


@models
def test_a_half_of_it(model: Any, declines: Declines) -> None:
    """Parameters in half precision with a memory in float32, as the module has it."""
    module = build(model, dtype=torch.bfloat16)
    hx = module(batch(module))[1]
    assert hx[1].memory.dtype == torch.float32
    declines(
        module,
        "bfloat16",
        lambda: {"output": module(batch(module), hx)[0].detach()},
        lambda: module.backend_of(batch(module), hx),
    )


@models
def test_autocast(model: Any, declines: Declines) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        declines(build(model, dtype=torch.float32), "autocast is on")


@models
def test_debug(model: Any, declines: Declines) -> None:
    module = build(model, debug=True)
    declines(module, "debug")
    module.debug = False
    assert module.backend_of(batch(module)).name == "numba"


@models
def test_passing_the_memory_by(model: Any, declines: Declines) -> None:
    module = build(model)
    input = batch(module)
    declines(
        module,
        "pass_through_memory=False",
        lambda: {"output": module(input, pass_through_memory=False)[0].detach()},
        lambda: module.backend_of(input, pass_through_memory=False),
    )


@pytest.mark.parametrize("model", [SAM, SDNC])
def test_an_index_of_ones_own_is_no_matter(model: Any) -> None:
    """It is asked between the halves of each step."""
    sizes: dict[str, Any] = {"sparse_reads": 3} | ({"temporal_reads": 2} if model is SDNC else {})
    module = build(model, index=AllRowsIndex(1, 5, 4, dtype=torch.float64), **sizes)
    input = batch(module)
    assert module.backend_of(input) == ("numba", None)
    output, _ = module(input)
    module.backend = "reference"
    close(output, module(input)[0])


def parts(module: Any) -> dict[str, nn.Module]:
    return {
        "controllers[1]": module.controllers[1],
        "controllers[1].cells[0]": module.controllers[1].cells[0],
        "interfaces[0]": module.interfaces[0],
        "interfaces[1].parts.all": module.interfaces[1].parts["all"],
    }


@pytest.mark.parametrize(
    ("model", "which", "hook"),
    [
        *((DNC, which, "forward") for which in range(4)),
        (DNC, 0, "forward_pre"),
        (DAM, 1, "full_backward"),
        (DAM, 2, "full_backward_pre"),
        (DAM, 3, "forward_pre"),
    ],
)
def test_hooks(model: Any, which: int, hook: str, declines: Declines) -> None:
    module = build(model, num_layers=2, num_hidden_layers=1)
    name, part = list(parts(module).items())[which]
    handle = getattr(part, f"register_{hook}_hook")(lambda *_: None)
    declines(module, f"{name} has hooks")
    handle.remove()
    module.backend = "auto"
    assert module.backend_of(batch(module)).name == "numba"


def test_hooks_of_independent_linears(declines: Declines) -> None:
    module = build(independent_linears=True)
    module.interfaces[0].parts["write_key"].register_forward_hook(lambda *_: None)
    declines(module, "interfaces[0].parts.write_key has hooks")


def test_a_hook_is_called(declines: Declines) -> None:
    """Were it not, this file would be of no use."""
    module, seen = build(), []
    module.controllers[0].cells[0].register_forward_hook(lambda *call: seen.append(call[2]))
    module(batch(module))
    assert len(seen) == 3


@pytest.mark.parametrize(
    "register",
    [
        module_hooks.register_module_forward_hook,
        module_hooks.register_module_forward_pre_hook,
        module_hooks.register_module_full_backward_hook,
        module_hooks.register_module_full_backward_pre_hook,
    ],
)
def test_global_hooks(register: Any, declines: Declines) -> None:
    handle = register(lambda *_: None)
    try:
        declines(build(), "hooks are registered on all modules")
    finally:
        handle.remove()


def test_hooks_of_the_whole_and_of_the_output_are_no_matter() -> None:
    module, seen = build(), []
    module.register_forward_hook(lambda *_: seen.append("module"))
    module.output.register_forward_hook(lambda *_: seen.append("output"))
    module.output.weight.register_hook(lambda _: seen.append("weight"))
    module.controllers[0].cells[0].weight_hh.register_hook(lambda _: seen.append("weight_hh"))
    assert module.backend_of(batch(module)).name == "numba"
    module(batch(module))[0].sum().backward()
    assert sorted(seen) == ["module", "output", "weight", "weight_hh"]


class LoRA(nn.Module):
    """A linear map and a correction of low rank."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        place: dict[str, Any] = {"dtype": linear.weight.dtype}
        self.down = nn.Parameter(torch.randn(1, linear.in_features, **place))
        self.up = nn.Parameter(torch.randn(linear.out_features, 1, **place))

    @property
    def weight(self) -> Tensor:
        return self.linear.weight

    @property
    def bias(self) -> Tensor:
        return self.linear.bias

    def forward(self, input: Tensor) -> Tensor:
        return self.linear(input) + input @ self.down.mT @ self.up.mT


class Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Shifted(nn.LSTMCell):
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        hidden, cell = super().forward(input, hx)
        return hidden + 1, cell


@models
def test_modules_in_place_of_a_linear(model: Any, declines: Declines) -> None:
    module = build(model)
    linear = module.interfaces[0].parts["all"]
    module.interfaces[0].parts["all"] = LoRA(linear)
    declines(module, "interfaces[0].parts.all is a LoRA, not a Linear")
    scaled = Scaled(H, linear.out_features, dtype=torch.float64)
    module.interfaces[0].parts["all"] = scaled
    declines(module, "interfaces[0].parts.all is a Scaled, not a Linear")
    plain = nn.Linear(H, linear.out_features, dtype=torch.float64)
    plain.forward = lambda input: linear(input) * 3
    module.interfaces[0].parts["all"] = plain
    declines(module, "interfaces[0].parts.all has a forward of its own")
    module.interfaces[0].parts["all"] = nn.Linear(
        H, linear.out_features, bias=False, dtype=torch.float64
    )
    declines(module, "interfaces[0].parts.all has no bias")


@models
def test_modules_in_place_of_a_controller(model: Any, declines: Declines) -> None:
    module = build(model)
    module.controllers[0].cells[1] = Shifted(H, H, dtype=torch.float64)
    declines(module, "controllers[0].cells[1] is a Shifted, not a LSTMCell")
    module = build(model)
    module.controllers[0].cells[1].forward = module.controllers[0].cells[1].forward
    declines(module, "controllers[0].cells[1] has a forward of its own")
    module = build(model)

    class Doubled(type(module.controllers[0])):
        def forward(self, input: Tensor, state: Any) -> Any:
            return super().forward(2 * input, state)

    module.controllers[0].__class__ = Doubled
    declines(module, "controllers[0] is a Doubled, not a Controller")
    module = build(model, rnn_type="rnn")
    module.controllers[0].cells[1].nonlinearity = "relu"
    declines(module, "controllers[0].cells[1] has a nonlinearity of its own")


SURGERY = """
import json, os, sys
import torch
from torch import nn
from torch_adapters import DNC
from torch_adapters.dnc import DNCCell

def parameter(*shape):
    return nn.Parameter(torch.randn(shape))

def own(module):
    return module.controllers[0].cells[1]

def parts(module):
    return module.interfaces[0].parts

CHANGES = {
    "a cell more": lambda module: module.controllers[0].cells.append(nn.LSTMCell(8, 8)),
    "a cell less": lambda module: module.controllers[0].cells.pop(1),
    "an interface more": lambda module: module.interfaces.append(module.interfaces[0]),
    "an interface less": lambda module: module.interfaces.pop(-1),
    "a controller less": lambda module: module.controllers.pop(-1),
    "a short interface": lambda module: parts(module).update({"all": nn.Linear(8, 20)}),
    "a long interface": lambda module: parts(module).update({"all": nn.Linear(8, 99)}),
    "a wide interface": lambda module: parts(module).update({"all": nn.Linear(9, 33)}),
    "an interface of two parts": lambda module: parts(module).update({"more": nn.Linear(8, 5)}),
    "a short bias": lambda module: setattr(parts(module)["all"], "bias", parameter(3)),
    "a small weight_hh": lambda module: setattr(own(module), "weight_hh", parameter(16, 4)),
    "a narrow weight_ih": lambda module: setattr(own(module), "weight_ih", parameter(32, 7)),
    "a short bias_hh": lambda module: setattr(own(module), "bias_hh", parameter(16)),
    "a bias_hh of one": lambda module: setattr(own(module), "bias_hh", parameter(1)),
    "no bias_hh": lambda module: setattr(own(module), "bias_hh", None),
    "no bias_ih": lambda module: setattr(own(module), "bias_ih", None),
    "other heads and words": lambda module: setattr(module, "cell", DNCCell(5, 2, 4)),
}

def outcome(name, change, backend):
    torch.manual_seed(0)
    module = DNC(3, 8, nr_cells=5, cell_size=4, read_heads=2, num_layers=int(sys.argv[1]))
    module.backend = backend
    input = torch.randn(2, 3, 3)
    change(module)
    with torch.no_grad():
        try:
            found = module(input)[0].tolist()
        except Exception as error:
            found = "refused"
    print(json.dumps([name, backend, found]), flush=True)

torch.set_num_threads(1)
with torch.no_grad():
    DNC(3, 8)(torch.randn(2, 3, 3))  # so that not every child loads the kernels
for name, change in CHANGES.items():
    for backend in ("reference", "auto"):
        child = os.fork()  # what is no part of the memory of a process may kill it
        if child == 0:
            outcome(name, change, backend)
            os._exit(0)
        os.waitpid(child, 0)
"""


@cache
def surgery(layers: int) -> dict[tuple[str, str], Any]:
    """What a backend makes of each change, each in a process of its own; nothing if that dies."""
    done = subprocess.run(
        [sys.executable, "-c", SURGERY, str(layers)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = map(json.loads, done.stdout.splitlines())
    return {(change, backend): found for change, backend, found in lines}


CHANGES = [line.split('"')[1] for line in SURGERY.splitlines() if line.startswith('    "')]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(
    ("layers", "change"),
    [(layers, change) for layers in (1, 2) for change in CHANGES],
)
def test_weights_of_other_sizes(layers: int, change: str) -> None:
    """What the reference refuses is refused, and what it takes comes out the same."""
    reference, auto = (surgery(layers).get((change, own)) for own in ("reference", "auto"))
    assert reference is not None
    assert auto is not None, "the process died"
    if reference == "refused":
        assert auto == "refused"
    else:
        assert auto != "refused"
        close(torch.tensor(auto), torch.tensor(reference))


@models
def test_cells_with_and_without_bias(model: Any) -> None:
    module = build(model, num_layers=2)
    module.controllers[0].cells[1] = nn.LSTMCell(H, H, bias=False, dtype=torch.float64)
    module.backend = "reference"
    expected = module(batch(module))[0]
    module.backend = "auto"
    close(module(batch(module))[0], expected)


@models
def test_a_controller_of_another_dtype(model: Any, declines: Declines) -> None:
    module = build(model)
    module.interfaces[0].parts["all"].float()
    module.backend = "auto"
    assert "take one dtype" in (module.backend_of(batch(module)).reason or "")


class LoggingDNCCell(DNCCell):
    """Somebody's own memory, made of ours."""

    def step(self, state: Any, interface: Tensor, *rest: Any) -> Any:
        reads, state = super().step(state, interface, *rest)
        return 2 * reads, state


class LoggingDAMCell(DAMCell):
    def step(self, state: Any, interface: Tensor, *rest: Any) -> Any:
        reads, state = super().step(state, interface, *rest)
        return 2 * reads, state


class WiderDNCCell(DNCCell):
    def init_state(self, batch_size: int, **place: Any) -> Any:
        state = super().init_state(batch_size, **place)
        return state._replace(memory=state.memory + 1)


@pytest.mark.parametrize(("model", "cell"), [(DNC, LoggingDNCCell), (DAM, LoggingDAMCell)])
def test_a_memory_of_another_type(model: Any, cell: Any, declines: Declines) -> None:
    module = build(model)
    module.cell = cell(5, 4, 2)
    declines(module, f"{cell.__name__}")


def test_a_memory_with_the_step_of_the_protocol() -> None:
    class Plain(DNCCell):
        def step(self, state: Any, interface: Tensor) -> Any:
            reads, state = super().step(state, interface)
            return 2 * reads, state

    module = build(backend="reference")
    module.cell = Plain(5, 4, 2)
    module(batch(module))


def test_a_memory_with_another_beginning() -> None:
    """What a cell overrides of all but its step is heeded."""
    module = build(backend="reference")
    module.cell = WiderDNCCell(5, 4, 2)
    expected = module(batch(module))[0]
    module.backend = "auto"
    close(module(batch(module))[0], expected)


# Transforms and modes


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@models
def test_torch_func(model: Any, declines: Declines) -> None:
    module = build(model, rnn_type="rnn")  # torch cannot vmap an LSTM cell's weights
    input, weights = batch(module), dict(module.named_parameters())

    def output(weights: Any) -> Tensor:
        return torch.func.functional_call(module, weights, (input,))[0].sum()

    def ask(weights: Any) -> Tensor:
        chosen.append(module.backend_of(input))
        return next(iter(weights.values())).sum()

    chosen: list[Backend] = []
    reason = "a torch.func transform is active"
    declines(
        module,
        reason,
        lambda: torch.func.grad(output)(weights),
        lambda: (torch.func.grad(ask)(weights), chosen.pop())[1],
    )
    several = {name: torch.stack([value, 2 * value]) for name, value in weights.items()}
    declines(
        module,
        reason,
        lambda: torch.func.vmap(output)(several),
        lambda: (torch.func.vmap(ask)(several), chosen.pop())[1],
    )
    found = torch.func.vmap(output)
    module.backend = "auto"
    for index in range(2):
        own = {name: value[index] for name, value in several.items()}
        close(found(several)[index], output(own))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@models
def test_forward_mode(model: Any, declines: Declines) -> None:
    module = build(model)
    input = batch(module)
    tangent = torch.ones_like(input)

    def call() -> Any:
        output = module(forward_ad.make_dual(input, tangent))[0]
        primal, slope = forward_ad.unpack_dual(output)
        assert slope is not None
        return {"primal": primal.detach(), "slope": slope.detach()}

    with forward_ad.dual_level():
        declines(module, "forward-mode differentiation is active", call)


class Marked(Tensor):
    """A subclass as libraries have them."""


class MarkedParameter(nn.Parameter):
    pass


@models
def test_tensor_subclasses(model: Any, declines: Declines) -> None:
    module = build(model)
    input = batch(module)
    marked = input.as_subclass(Marked)
    declines(
        module,
        "a tensor is a Marked",
        lambda: {"output": module(marked)[0].detach().as_subclass(Tensor)},
        lambda: module.backend_of(marked),
    )
    hx = random_state(module, 2, torch.Generator().manual_seed(1))
    hx = (hx[0], hx[1]._replace(memory=hx[1].memory.as_subclass(Marked)), hx[2])
    declines(
        module,
        "a tensor is a Marked",
        lambda: {"output": module(input, hx)[0].detach().as_subclass(Tensor)},
        lambda: module.backend_of(input, hx),
    )
    cell = module.controllers[0].cells[0]
    cell.weight_ih = MarkedParameter(cell.weight_ih.detach())
    declines(module, "a tensor is a MarkedParameter")


@models
def test_fake_tensors(model: Any, declines: Declines) -> None:
    module = build(model)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(batch(module))

        def call() -> dict[str, Any]:
            assert module(fake)[0].shape == (2, 3, X)
            return {}

        declines(module, "a torch dispatch mode is active", call, lambda: module.backend_of(fake))


@models
def test_meta_tensors(model: Any, declines: Declines) -> None:
    module = build(model, device="meta")
    input = torch.empty(2, 3, X, dtype=torch.float64, device="meta")

    def call() -> dict[str, Any]:
        assert module(input)[0].shape == (2, 3, X)
        return {}

    declines(module, "a tensor is on meta", call, lambda: module.backend_of(input))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@models
def test_tracing(model: Any) -> None:
    """torch cannot trace the reference either: what is traced here only asks."""
    module, chosen = build(model), []

    class Asking(nn.Module):
        def forward(self, input: Tensor) -> Tensor:
            chosen.append(module.backend_of(input))
            module.backend = "numba"
            with pytest.raises(MemcoreError, match="torch is compiling or tracing"):
                module(input)
            return input + 1

    torch.jit.trace(Asking(), batch(module), check_trace=False)
    assert chosen[0].name == "reference"
    assert "torch is compiling or tracing" in chosen[0].reason


def test_compiling(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged, which the compiler would have to look through."""
    module, reason = build(), "torch is compiling or tracing"
    expected = module(batch(module))[0]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    backends.log_reference.cache_clear()
    with caplog.at_level(logging.INFO, logger="memcore"):
        close(module(batch(module))[0], expected)
    assert not caplog.records
    chosen = module.backend_of(batch(module))
    assert chosen.name == "reference"
    assert reason in chosen.reason
    module.backend = "numba"
    with pytest.raises(MemcoreError, match=f"'numba', but {reason}"):
        module(batch(module))


@models
def test_one_step_of_memory_may_be_compiled_where_the_sequence_is_not(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`module.backend = 'reference'` holds for the memory's step too."""
    from memcore.batched import BatchedModel

    module, taken = build(model), []
    kernels = BatchedModel._by_kernels

    def counted(self: Any, *arguments: Any) -> Any:
        taken.append(self.name)
        return kernels(self, *arguments)

    monkeypatch.setattr(BatchedModel, "_by_kernels", counted)
    module.interfaces[0].register_forward_hook(lambda *_: None)
    compiled = module(batch(module))
    assert taken == [model.__name__] * 3
    module.backend = "reference"
    plain = module(batch(module))
    assert len(taken) == 3
    close({"output": compiled[0], **named_state(compiled[1])},
          {"output": plain[0], **named_state(plain[1])})  # fmt: skip


def test_what_was_logged_is_not_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    """Once for a kind of module and a reason, however many modules and calls."""
    backends.log_reference.cache_clear()
    module = build(debug=True)
    with caplog.at_level(logging.INFO, logger="memcore"):
        for own in (module, copy.deepcopy(module), build(debug=True)):
            own(batch(own))
            own(batch(own))
        assert len(caplog.records) == 1
        other = build(DAM, debug=True)
        other(batch(other))
        assert len(caplog.records) == 2
        module.debug = False
        module(batch(module), pass_through_memory=False)
        assert len(caplog.records) == 3


@models
def test_a_layer_of_another_nonlinearity(model: Any, declines: Declines) -> None:
    """Kernels have one for all layers."""
    module = build(model, rnn_type="rnn", num_layers=2)
    for cell in module.controllers[1].cells:
        cell.nonlinearity = "relu"
    declines(module, "controllers[1].cells[0] has a nonlinearity of its own")
