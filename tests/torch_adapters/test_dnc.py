"""The module: its equations, its options, its dtypes and devices."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from memcore import dnc
from memcore.testing import assert_dnc_state
from modules import CLOSE, H, N, R, W, X, batch, build, every_model, leaves, same, variants
from torch_adapters import (
    DNC,
)
from torch_adapters.dnc import DNCCell


def floats(state: Any) -> list[Tensor]:
    return [leaf for leaf in leaves(state) if leaf.is_floating_point()]


@variants
def test_shapes_and_gradients(options: dict[str, Any]) -> None:
    module = build(**options)
    input = batch(module)
    output, (hidden, memory, reads) = module(input)
    assert output.shape == (*input.shape[:-1], options.get("output_size", X))
    layers, depth = options.get("num_layers", 1), options.get("num_hidden_layers", 2)
    assert len(hidden) == layers
    for state in leaves(hidden):
        assert state.shape == (depth, 3, H)
    memories = [memory] if options.get("share_memory", True) else memory
    assert len(memories) == (1 if options.get("share_memory", True) else layers)
    for state in memories:
        assert state.memory.shape == (3, options.get("nr_cells", N), W)
        if options.get("model", DNC) is DNC:
            assert isinstance(state, dnc.DNCState)
            assert state.link.shape == (3, N, N)
            assert_dnc_state(state)
    assert reads.shape == (3, R * W)
    output.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_defaults_are_the_documented_ones() -> None:
    module = DNC(4, 6)
    assert module.cell == DNCCell(nr_cells=5, cell_size=10, read_heads=2)
    assert (module.rnn_type, module.num_layers, module.num_hidden_layers) == ("lstm", 1, 2)
    assert (module.output_size, module.batch_first, module.clip, module.debug) == (
        4,
        True,
        20,
        False,
    )
    assert module.shared_memory


def test_every_option_reaches_the_module() -> None:
    module = build(
        bias=False, rnn_type="rnn", nonlinearity="relu", independent_linears=True, dropout=0.25,
        num_hidden_layers=3, num_layers=2, output_size=9, clip=5, debug=True, batch_first=False,
    )  # fmt: skip
    assert len(module.controllers) == len(module.interfaces) == 2
    for controller, interface in zip(module.controllers, module.interfaces, strict=True):
        assert controller.dropout == 0.25
        assert all(isinstance(cell, torch.nn.RNNCell) for cell in controller.cells)
        assert len(controller.cells) == 3
        assert {cell.nonlinearity for cell in controller.cells} == {"relu"}
        assert not any(cell.bias for cell in controller.cells)
        assert tuple(interface.parts) == tuple(dnc.interface_sizes(W, R))
    assert module.output.out_features == 9
    assert (module.clip, module.debug, module.batch_first) == (5, True, False)


def test_sizes_may_be_numpys() -> None:
    sizes: Any = {"nr_cells": np.int64(N), "dropout": np.float32(0)}
    assert DNC(3, 8, **sizes)(torch.zeros(1, 2, 3))[1][1].usage.shape == (1, N)


def test_shapes_can_be_traced_on_the_meta_device() -> None:
    module = build(device="meta")
    output, hx = module(torch.zeros(2, 3, X, device="meta", dtype=torch.float64))
    assert output.shape == (2, 3, X)
    assert hx[1].link.shape == (2, N, N)


def test_one_step_is_the_equations() -> None:
    """The whole module by hand, in the notation of the paper."""
    module = build(num_hidden_layers=1)
    input = batch(module, steps=3)
    output, _ = module(input)
    cell, linear = module.controllers[0].cells[0], module.interfaces[0].parts["all"]
    for example in range(3):
        state = dnc.init_state(N, W, R, dtype=torch.float64)
        hidden = (torch.zeros(1, H).double(), torch.zeros(1, H).double())
        reads = torch.zeros(R * W).double()
        for time in range(3):
            hidden = cell(torch.cat([input[example, time], reads])[None], hidden)
            interface = dnc.parse_interface(linear(hidden[0])[0], W, R)
            vectors, state = dnc.step(state, interface)
            reads = vectors.flatten()
            expected = module.output(torch.cat([hidden[0][0], reads]))
            torch.testing.assert_close(output[example, time], expected, **CLOSE)


@pytest.mark.parametrize("rnn_type", ["lstm", "gru", "rnn"])
def test_the_controller_is_torchs_own(rnn_type: str) -> None:
    module = build(rnn_type=rnn_type, num_hidden_layers=2)
    controller = module.controllers[0]
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[rnn_type]
    reference = kind(X + R * W, H, num_layers=2, dtype=torch.float64)
    for depth, cell in enumerate(controller.cells):
        for name, parameter in cell.named_parameters():
            getattr(reference, f"{name}_l{depth}").data.copy_(parameter.data)
    input = torch.randn(4, 3, X + R * W, dtype=torch.float64)
    zero = torch.zeros(3, H, dtype=torch.float64)
    state = [(zero, zero) if rnn_type == "lstm" else (zero,)] * 2
    expected, _ = reference(input)
    for time in range(4):
        output, state = controller(input[time], state)
        torch.testing.assert_close(output, expected[time], **CLOSE)


def test_reads_of_the_step_before_reach_the_controller() -> None:
    """What the reference implementation gets wrong: its controller never sees what it read."""
    module = build()
    input = batch(module, steps=2)
    _, hx = module(input)
    hidden, memory, reads = hx
    (changed, _), *_ = module(input, (hidden, memory, reads + 1))[1][0]
    (plain, _), *_ = module(input, hx)[1][0]
    assert not torch.allclose(changed, plain)
    # Only what stands in memory differs: the controller can know of it by its reads alone, from
    # the second step on.
    other = memory._replace(memory=memory.memory + 1)
    one_step = [module(input[:, :1], (hidden, m, reads))[1][0][0][0] for m in (memory, other)]
    assert torch.equal(*one_step)
    two_steps = [module(input, (hidden, m, reads))[1][0][0][0] for m in (memory, other)]
    assert not torch.allclose(*two_steps)
    # Within one sequence: the second step's controller state depends on the first step's reads.
    with torch.no_grad():
        hooked: list[Tensor] = []
        handle = module.controllers[0].register_forward_pre_hook(
            lambda _, arguments: hooked.append(arguments[0])
        )
        *_, (_, _, last_reads) = module(input)
        handle.remove()
    first = module(input[:, :1])[1][2]
    torch.testing.assert_close(hooked[1][:, X:], first, **CLOSE)
    assert hooked[1][:, X:].any()
    assert last_reads.any()


def test_layer_zero_gets_the_last_layers_reads() -> None:
    module = build(num_layers=2, num_hidden_layers=1)
    seen: list[Tensor] = []
    for controller in module.controllers:
        controller.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    after_one = module(batch(module, steps=1))[1]
    seen.clear()
    module(batch(module, steps=1, seed=2), after_one)
    assert torch.equal(seen[0][:, X:], after_one[2])
    assert seen[1].shape == (3, H + R * W)
    assert not torch.equal(seen[1][:, H:], after_one[2])


def test_dropout_acts_between_rnn_layers_in_training_only() -> None:
    module = build(dropout=0.5)
    input = batch(module)
    assert not torch.equal(module(input)[0], module(input)[0])
    module.eval()
    same(module(input), module(input))
    with pytest.warns(UserWarning, match="dropout: 0.5 does nothing"):
        single = build(dropout=0.5, num_hidden_layers=1)
    same(single(input), single(input))


def test_clip_bounds_the_controllers_output() -> None:
    module = build(rnn_type="rnn", clip=0.01)
    seen: list[Tensor] = []
    module.interfaces[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    module(batch(module))
    assert max(hidden.max() for hidden in seen) == 0.01
    assert min(hidden.min() for hidden in seen) == -0.01


@every_model
def test_dtypes(model: Any) -> None:
    module = build(model, dtype=None)
    assert module(batch(module))[0].dtype == torch.float32
    module.double()
    output, (hidden, memory, reads) = module(batch(module))
    assert {leaf.dtype for leaf in [output, *floats((hidden, memory, reads))]} == {torch.float64}
    half = build(model, dtype=torch.bfloat16)
    output, (hidden, memory, reads) = half(batch(half))
    assert output.dtype == leaves(hidden)[0].dtype == torch.bfloat16
    assert {leaf.dtype for leaf in floats((memory, reads))} == {torch.float32}
    half(batch(half), (hidden, memory, reads))


@every_model
@pytest.mark.parametrize("rnn_type", ["lstm", "gru", "rnn", "linear"])
def test_memory_stays_in_single_precision_under_autocast(
    device: torch.device, rnn_type: str, model: Any
) -> None:
    module = build(model, dtype=torch.float32, device=device, rnn_type=rnn_type)
    seen: list[torch.dtype] = []
    module.interfaces[0].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    input = batch(module).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output, hx = module(input)
        for dtype in (torch.bfloat16, torch.float64):
            module(input.to(dtype), hx)
        double = build(model, device=device)
        assert double(input)[0].dtype == torch.float64
    assert set(seen) == {torch.bfloat16}
    assert output.dtype == torch.bfloat16
    assert {leaf.dtype for leaf in floats(hx)} == {torch.float32}
    output.float().sum().backward()
    module(input, hx)


@every_model
def test_runs_on_each_device(device: torch.device, model: Any) -> None:
    on_cpu = build(model)
    module = copy.deepcopy(on_cpu).to(device)
    output, hx = module(batch(module).to(device))
    assert {leaf.device.type for leaf in [output, *leaves(hx)]} == {device.type}
    expected, _ = on_cpu(batch(module))
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-8, atol=1e-9)


def test_share_memory_of_torch_still_works() -> None:
    """`torch.nn.Module.share_memory` is a method that reinforcement learners call."""
    module = build().share_memory()
    assert all(parameter.is_shared() for parameter in module.parameters())
