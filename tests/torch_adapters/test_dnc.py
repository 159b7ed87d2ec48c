"""The module's contract: what goes in, what comes out, what it keeps (nothing)."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from memcore import dnc
from memcore.testing import assert_dnc_state
from torch_adapters import (
    DNC,
    detach_state,
    select_state,
    state_from_dict,
    state_to_dict,
)
from torch_adapters.dnc import DNCCell

X, H, N, W, R = 3, 8, 5, 4, 2
VARIANTS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {"rnn_type": "gru"},
    "rnn": {"rnn_type": "rnn", "nonlinearity": "relu"},
    "deep": {"num_hidden_layers": 3},
    "layers": {"num_layers": 3, "num_hidden_layers": 1},
    "own memories": {"num_layers": 2, "share_memory": False},
    "independent": {"independent_linears": True},
    "time first": {"batch_first": False},
    "no bias, no clip": {"bias": False, "clip": 0},
    "wide output": {"output_size": 7},
}
variants = pytest.mark.parametrize("options", VARIANTS.values(), ids=list(VARIANTS))


def build(**options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"nr_cells": N, "cell_size": W, "read_heads": R, "dtype": torch.float64}
    return DNC(X, H, **{**sizes, **options})


def batch(module: Any, size: int = 3, steps: int = 4, seed: int = 1) -> Tensor:
    """An input in the module's layout."""
    generator = torch.Generator().manual_seed(seed)
    input = torch.randn(size, steps, X, generator=generator, dtype=module.output.weight.dtype)
    return input if module.batch_first else input.transpose(0, 1)


def leaves(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [leaf for part in state for leaf in leaves(part)]


def same(one: Any, other: Any, **tolerance: Any) -> None:
    ones, others = leaves(one), leaves(other)
    assert len(ones) == len(others)
    for left, right in zip(ones, others, strict=True):
        if tolerance:
            torch.testing.assert_close(left, right, **tolerance)
        else:
            assert torch.equal(left, right)


CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}


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
        assert isinstance(state, dnc.DNCState)
        assert state.memory.shape == (3, N, W)
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
        assert [type(cell) for cell in controller.cells] == [torch.nn.RNNCell] * 3
        assert {cell.nonlinearity for cell in controller.cells} == {"relu"}
        assert not any(cell.bias for cell in controller.cells)
        assert tuple(interface.parts) == dnc.DNCInterface._fields
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


@variants
def test_the_same_hx_twice_gives_the_same(options: dict[str, Any]) -> None:
    module = build(**options)
    _, hx = module(batch(module))
    before = copy.deepcopy(detach_state(hx))
    first, second = module(batch(module, seed=2), hx), module(batch(module, seed=2), hx)
    same(first, second)
    same(detach_state(hx), before)


@variants
def test_a_sequence_in_pieces_is_the_whole(options: dict[str, Any]) -> None:
    module = build(**options)
    time = 1 if module.batch_first else 0
    input = batch(module, steps=5)
    whole, hx = module(input)
    first, carried = module(input.narrow(time, 0, 2))
    second, carried = module(input.narrow(time, 2, 3), carried)
    same(torch.cat([first, second], time), whole, **CLOSE)
    same(carried, hx, **CLOSE)


@variants
def test_step_by_step_is_the_sequence(options: dict[str, Any]) -> None:
    module = build(**options)
    time = 1 if module.batch_first else 0
    input = batch(module)
    whole, hx = module(input)
    carried = None
    for index in range(input.shape[time]):
        output, carried = module.step(input.select(time, index), carried)
        same(output, whole.select(time, index), **CLOSE)
    same(carried, hx, **CLOSE)


@variants
@pytest.mark.parametrize("lengths", [(5, 3, 3, 1), (2, 5, 1, 4)], ids=["sorted", "unsorted"])
def test_packed_input_equals_each_example_alone(
    options: dict[str, Any], lengths: tuple[int, ...]
) -> None:
    module = build(**options)
    examples = [torch.randn(length, X, dtype=torch.float64) for length in lengths]
    packed = pack_sequence(examples, enforce_sorted=lengths[0] == 5)
    start = module(batch(module, size=4))[1]
    output, hx = module(packed, start)
    assert isinstance(output, PackedSequence)
    padded, out_lengths = pad_packed_sequence(output, batch_first=True)
    assert out_lengths.tolist() == list(lengths)
    for index, example in enumerate(examples):
        time_first = example[:, None]
        alone = time_first.transpose(0, 1) if module.batch_first else time_first
        expected, state = module(alone, select_state(start, [index]))
        expected = expected[0] if module.batch_first else expected[:, 0]
        same(padded[index, : len(example)], expected, **CLOSE)
        same(select_state(hx, [index]), state, **CLOSE)


def test_gradients_through_packed_input() -> None:
    module = build()
    examples = [torch.randn(n, X, dtype=torch.float64, requires_grad=True) for n in (1, 3)]
    output, hx = module(pack_sequence(examples, enforce_sorted=False))
    (output.data.sum() + hx[2].sum()).backward()
    together = [example.grad.clone() for example in examples]  # pyright: ignore[reportOptionalMemberAccess]
    for example, expected in zip(examples, together, strict=True):
        example.grad = None
        alone, state = module(example[None])
        (alone.sum() + state[2].sum()).backward()
        torch.testing.assert_close(example.grad, expected, **CLOSE)


@variants
def test_episode_start_in_the_middle_is_two_sequences(options: dict[str, Any]) -> None:
    module = build(**options)
    time = 1 if module.batch_first else 0
    input, start = batch(module, steps=5), module(batch(module, seed=3))[1]
    flags = torch.zeros(input.shape[:2], dtype=torch.bool)
    ordered = flags if module.batch_first else flags.t()
    ordered[1, 2] = ordered[2, 0] = True
    output, hx = module(input, start, episode_start=flags)
    untouched, state = module(input, start)
    same(output.select(1 - time, 0), untouched.select(1 - time, 0), **CLOSE)
    same(select_state(hx, [0]), select_state(state, [0]), **CLOSE)
    for example, begin in ((1, 2), (2, 0)):
        one = input.narrow(1 - time, example, 1)
        before, _ = module(one.narrow(time, 0, max(begin, 1)), select_state(start, [example]))
        after, state = module(one.narrow(time, begin, 5 - begin))
        same(output.select(1 - time, example).narrow(0, begin, 5 - begin),
             after.select(1 - time, 0), **CLOSE)  # fmt: skip
        if begin:
            same(output.select(1 - time, example)[:begin], before.select(1 - time, 0), **CLOSE)
        same(select_state(hx, [example]), state, **CLOSE)


@pytest.mark.parametrize("packed_flags", [True, False])
def test_episode_start_beside_packed_input(packed_flags: bool) -> None:
    module = build()
    lengths = (2, 4, 3)
    examples = [torch.randn(n, X, dtype=torch.float64) for n in lengths]
    flags = [torch.zeros(n, dtype=torch.bool) for n in lengths]
    flags[1][2] = flags[2][1] = True
    if packed_flags:
        starts: Any = pack_sequence(flags, enforce_sorted=False)
    else:
        starts = torch.nn.utils.rnn.pad_sequence(flags, batch_first=True)
    output, hx = module(pack_sequence(examples, enforce_sorted=False), episode_start=starts)
    padded, _ = pad_packed_sequence(output, batch_first=True)
    for index, example in enumerate(examples):
        expected, state = module(example[None], episode_start=flags[index][None])
        same(padded[index, : len(example)], expected[0], **CLOSE)
        same(select_state(hx, [index]), state, **CLOSE)


def test_no_gradient_crosses_an_episode_start() -> None:
    module = build()
    input = batch(module).requires_grad_()
    flags = torch.zeros(3, 4, dtype=torch.bool)
    flags[:, 2] = True
    output, _ = module(input, episode_start=flags)
    (gradient,) = torch.autograd.grad(output[:, 2:].sum(), input)
    assert not gradient[:, :2].any()
    assert gradient[:, 2:].any()


@variants
def test_reset_experience(options: dict[str, Any]) -> None:
    module = build(**options)
    _, (hidden, memory, reads) = module(batch(module))
    input, hx = batch(module, seed=2), (hidden, memory, reads)
    emptied = module(input, (hidden, None, None))
    same(module(input, hx, reset_experience=True), emptied)
    kept = module(input, hx)
    some_output, some_state = module(input, hx, reset_experience=torch.tensor([True, False, True]))
    batch_axis = 0 if module.batch_first else 1
    for example, expected in ((0, emptied), (1, kept), (2, emptied)):
        same(some_output.select(batch_axis, example), expected[0].select(batch_axis, example),
             **CLOSE)  # fmt: skip
        same(select_state(some_state, [example]), select_state(expected[1], [example]), **CLOSE)


@variants
def test_memory_can_be_passed_by(options: dict[str, Any]) -> None:
    module = build(**options)
    _, hx = module(batch(module))
    output, (hidden, memory, reads) = module(batch(module, seed=2), hx, pass_through_memory=False)
    same(memory, hx[1])
    same(reads, hx[2])
    assert not torch.equal(leaves(hidden)[0], leaves(hx[0])[0])
    assert not torch.allclose(output, module(batch(module, seed=2), hx)[0])


def test_parts_of_hx_may_be_none() -> None:
    module = build()
    _, (hidden, memory, reads) = module(batch(module))
    input = batch(module, seed=2)
    same(module(input, (None, None, None)), module(input))
    zero_reads = module(input, (hidden, memory, torch.zeros_like(reads)))
    same(module(input, (hidden, memory, None)), zero_reads)
    zero_hidden = [tuple(torch.zeros_like(part) for part in hidden[0])]
    same(module(input, (None, memory, reads)), module(input, (zero_hidden, memory, reads)))


def test_dropout_acts_between_rnn_layers_in_training_only() -> None:
    module = build(dropout=0.5)
    input = batch(module)
    assert not torch.equal(module(input)[0], module(input)[0])
    module.eval()
    same(module(input), module(input))
    single = build(dropout=0.5, num_hidden_layers=1)
    same(single(input), single(input))


def test_clip_bounds_the_controllers_output() -> None:
    module = build(rnn_type="rnn", clip=0.01)
    seen: list[Tensor] = []
    module.interfaces[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    module(batch(module))
    assert max(hidden.max() for hidden in seen) == 0.01
    assert min(hidden.min() for hidden in seen) == -0.01


def test_threads_may_share_a_module() -> None:
    module = build().eval()
    inputs = [batch(module, seed=seed, steps=6) for seed in range(4)]

    def stream(input: Tensor) -> list[Tensor]:
        outputs, hx = [], None
        for piece in input.split(2, dim=1):
            output, hx = module(piece, hx)
            outputs.append(output)
        return outputs

    serial = [stream(input) for input in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for one, other in zip(pool.map(stream, inputs), serial, strict=True):
                same(one, other, **CLOSE)


@variants
def test_copies_pickles_and_checkpoints(options: dict[str, Any]) -> None:
    module = build(**options)
    input = batch(module)
    expected = module(input)
    same(copy.deepcopy(module)(input), expected)
    same(pickle.loads(pickle.dumps(module))(input), expected)
    fresh = build(**options)
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    fresh.load_state_dict(module.state_dict())
    same(fresh(input), expected)
    hx = detach_state(expected[1])
    same(pickle.loads(pickle.dumps(hx)), hx)
    same(copy.deepcopy(hx), hx)
    file = io.BytesIO()
    saved = state_to_dict(expected[1])
    assert not saved["read_vectors"].requires_grad
    torch.save(saved, file)
    file.seek(0)
    loaded = state_from_dict(torch.load(file, weights_only=True))
    same(loaded, hx)
    same(module(input, loaded), module(input, hx))


def test_detached_state_cuts_the_history() -> None:
    module = build()
    _, hx = module(batch(module))
    assert all(leaf.requires_grad for leaf in leaves(hx[0]))
    assert not any(leaf.requires_grad for leaf in leaves(detach_state(hx)))
    same(detach_state(hx), hx)


@pytest.mark.parametrize("chosen", [[2, 0, 0], torch.tensor([2, 0, 0])])
def test_selected_state(chosen: Any) -> None:
    module = build(num_layers=2, share_memory=False)
    _, hx = module(batch(module))
    input = batch(module, seed=2)
    expected, _ = module(input, hx)
    output, _ = module(input[[2, 0, 0]], select_state(hx, chosen))
    same(output, expected[[2, 0, 0]], **CLOSE)
    mask = torch.tensor([True, False, True])
    same(select_state(hx, mask), select_state(hx, [0, 2]))


def test_dtypes() -> None:
    module = build(dtype=None)
    assert module(batch(module))[0].dtype == torch.float32
    module.double()
    output, (hidden, memory, reads) = module(batch(module))
    assert {leaf.dtype for leaf in [output, *leaves((hidden, memory, reads))]} == {torch.float64}
    half = build(dtype=torch.bfloat16)
    output, (hidden, memory, reads) = half(batch(half))
    assert output.dtype == leaves(hidden)[0].dtype == torch.bfloat16
    assert {leaf.dtype for leaf in leaves((memory, reads))} == {torch.float32}
    half(batch(half), (hidden, memory, reads))


@pytest.mark.parametrize("rnn_type", ["lstm", "gru", "rnn"])
def test_memory_stays_in_single_precision_under_autocast(
    device: torch.device, rnn_type: str
) -> None:
    module = build(dtype=torch.float32, device=device, rnn_type=rnn_type)
    seen: list[torch.dtype] = []
    module.interfaces[0].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    input = batch(module).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output, hx = module(input)
        for dtype in (torch.bfloat16, torch.float64):
            module(input.to(dtype), hx)
        double = build(device=device)
        assert double(input)[0].dtype == torch.float64
    assert set(seen) == {torch.bfloat16}
    assert output.dtype == torch.bfloat16
    assert {leaf.dtype for leaf in leaves(hx)} == {torch.float32}
    output.float().sum().backward()
    module(input, hx)


def test_runs_on_each_device(device: torch.device) -> None:
    on_cpu = build()
    module = copy.deepcopy(on_cpu).to(device)
    output, hx = module(batch(module).to(device))
    assert {leaf.device.type for leaf in [output, *leaves(hx)]} == {device.type}
    expected, _ = on_cpu(batch(module))
    torch.testing.assert_close(output.cpu(), expected, rtol=1e-8, atol=1e-9)


def test_share_memory_of_torch_still_works() -> None:
    """`torch.nn.Module.share_memory` is a method that reinforcement learners call."""
    module = build().share_memory()
    assert all(parameter.is_shared() for parameter in module.parameters())


def test_examples_do_not_see_each_other() -> None:
    module = build()
    input = batch(module)
    output, hx = module(input)
    for index in range(3):
        alone, state = module(input[[index]])
        same(alone, output[[index]], **CLOSE)
        same(state, select_state(hx, [index]), **CLOSE)


@pytest.mark.filterwarnings("ignore:.*barrier.*using the device:UserWarning")
def test_distributed_data_parallel(tmp_path: Path) -> None:
    module, alone = build(), build()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(module)
        output, hx = parallel(batch(module))
        output, _ = parallel(batch(module, seed=2), hx)
        output.square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    _, hx = alone(batch(alone))
    expected, _ = alone(batch(alone, seed=2), hx)
    expected.square().sum().backward()
    same(output, expected)
    for one, other in zip(module.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, **CLOSE)
