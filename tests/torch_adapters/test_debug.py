"""The debug dictionary."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from memcore import MemcoreError
from modules import X, batch, every_model, leaves
from modules import build as build_any
from torch_adapters import DAM, DNC, SAM, debug

N, W, R, T = 5, 4, 2, 3
COLUMNS = {
    "memory": N * W,
    "link_matrix": N * N,
    "precedence": N,
    "read_weights": R * N,
    "write_weights": N,
    "usage_vector": N,
}


def build(**options: Any) -> Any:
    torch.manual_seed(0)
    # The debug dictionary is the reference's; another backend differs from it by rounding.
    options = {"backend": "reference", **options}
    return DNC(3, 8, nr_cells=N, cell_size=W, read_heads=R, debug=True, **options)


@pytest.mark.parametrize("share_memory", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_rows_are_time_major_then_layer(layers: int, share_memory: bool) -> None:
    module = build(num_layers=layers, share_memory=share_memory)
    input = torch.randn(2, T, 3)
    output, hx, trace = module(input)
    assert {name: rows.shape for name, rows in trace.items()} == {
        name: (T * layers, columns) for name, columns in COLUMNS.items()
    }
    assert all(isinstance(rows, np.ndarray) for rows in trace.values())
    for time in range(T):
        _, (_, memory, _), _ = module(input[:, : time + 1])
        for layer in range(layers):
            if share_memory and layer < layers - 1:
                continue  # the state returned is the one after the last layer
            state = memory if share_memory else memory[layer]
            row = time * layers + layer
            np.testing.assert_array_equal(trace["memory"][row], state.memory[0].flatten().detach())
            np.testing.assert_array_equal(
                trace["link_matrix"][row], state.link[0].flatten().detach()
            )
            np.testing.assert_array_equal(trace["usage_vector"][row], state.usage[0].detach())
    module.debug = False
    plain, plain_hx = module(input)
    assert torch.equal(plain, output)
    assert torch.equal(plain_hx[2], hx[2])


def test_packed_input_shows_the_first_examples_own_steps() -> None:
    module = build()
    examples = [torch.randn(n, 3) for n in (2, 5, 3)]
    *_, trace = module(pack_sequence(examples, enforce_sorted=False))
    *_, alone = module(examples[0][None])
    for name, rows in trace.items():
        np.testing.assert_allclose(rows, alone[name], rtol=1e-5, atol=1e-6)


def test_memory_passed_by_is_shown_unchanged() -> None:
    module = build()
    _, hx, _ = module(torch.randn(2, T, 3))
    *_, trace = module(torch.randn(2, T, 3), hx, pass_through_memory=False)
    for row in trace["memory"]:
        np.testing.assert_array_equal(row, hx[1].memory[0].flatten().detach())


def test_a_step_returns_it_too() -> None:
    output, _, trace = build().step(torch.randn(2, 3))
    assert output.shape == (2, 3)
    assert trace["memory"].shape == (1, N * W)


def test_too_long_a_trace_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    module = build()
    row = 4 * sum(COLUMNS.values())
    monkeypatch.setattr(debug, "TRACE_LIMIT", T * row)
    module(torch.zeros(1, T, 3))
    called: list[int] = []
    module.controllers[0].register_forward_pre_hook(lambda *_: called.append(1))
    with pytest.raises(
        MemcoreError, match=r"debug: the trace of 4 rows would take .* GiB, over the 1 GiB allowed"
    ):
        module(torch.zeros(1, T + 1, 3))
    assert not called


def test_a_trace_is_measured_in_bytes() -> None:
    sample = {"memory": torch.empty(2**20, dtype=torch.float64, device="meta")}
    debug.Trace(sample, 128)
    with pytest.raises(MemcoreError, match="debug: the trace of 129 rows would take 1.0 GiB"):
        debug.Trace(sample, 129)


def agree(trace: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert trace.keys() == other.keys()
    for name, rows in trace.items():
        np.testing.assert_allclose(rows, other[name], rtol=1e-10, atol=1e-12, err_msg=name)


def differ(trace: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert not np.allclose(trace["memory"], other["memory"])


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layers": {"num_layers": 2},
    "own memories": {"num_layers": 2, "share_memory": False},
    "time first": {"batch_first": False},
    "bidirectional": {"bidirectional": True},
}
variants = pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))


@every_model
@variants
def test_an_example_of_a_batch_is_shown_as_if_alone(model: Any, options: Any) -> None:
    module = build_any(model, **options)
    input = 3 * batch(module, steps=5)
    axis = 0 if module.batch_first else 1
    output, hx = module(input)
    traces = []
    for number in range(3):
        module.debug = number
        own_output, own_hx, trace = module(input)
        torch.testing.assert_close(own_output, output)
        for one, other in zip(leaves(own_hx), leaves(hx), strict=True):
            torch.testing.assert_close(one, other)
        module.debug = True
        *_, alone = module(input.narrow(axis, number, 1))
        agree(trace, alone)
        traces.append(trace)
    assert len(traces[0]["memory"]) == 5 * module.num_layers
    differ(traces[0], traces[1])
    differ(traces[1], traces[2])
    *_, first = module(input)
    agree(first, traces[0])


@every_model
@variants
def test_packed_examples_are_counted_as_given(model: Any, options: Any) -> None:
    module = build_any(model, **options)
    examples = [3 * torch.randn(n, X, dtype=torch.float64) for n in (2, 5, 1, 4)]
    packed = pack_sequence(examples, enforce_sorted=False)
    axis = 0 if module.batch_first else 1
    for number, example in enumerate(examples):
        module.debug = number
        *_, trace = module(packed)
        module.debug = True
        *_, alone = module(example.unsqueeze(axis))
        assert len(trace["memory"]) == len(example) * module.num_layers
        agree(trace, alone)


def test_examples_that_are_sorted_already_are_counted_as_they_stand() -> None:
    module = build_any()
    examples = [torch.randn(n, X, dtype=torch.float64) for n in (4, 2)]
    module.debug = 1
    *_, trace = module(pack_sequence(examples))
    module.debug = True
    agree(trace, module(examples[1][None])[2])


@every_model
def test_states_episodes_and_resets_of_the_example_are_its_own(model: Any) -> None:
    module = build_any(model)
    input = 3 * batch(module, steps=3)
    _, hx = module(input)
    start = torch.tensor([[False] * 3, [False, True, False], [False] * 3])
    module.debug = 1
    *_, trace = module(input, hx, episode_start=start)
    *_, reset = module(input, hx, torch.tensor([True, False, True]))
    *_, plain = module(input, hx)
    agree(reset, plain)
    differ(trace, plain)
    *_, whole = module(input[:, 1:], None)
    agree({name: rows[1:] for name, rows in trace.items()}, whole)


@every_model
def test_zero_is_an_example_and_false_is_none(model: Any) -> None:
    module = build_any(model, debug=0)
    assert module.debug == 0
    assert module.debug is not False
    input = batch(module)
    *_, first = module(input)
    assert module.backend_of(input).name == "reference"
    module.debug = False
    assert len(module(input)) == 2
    module.debug = True
    agree(first, module(input)[2])
    module.debug = 1  # not True, though they are equal
    differ(first, module(input)[2])
    module.debug = np.int64(2)
    assert type(module.debug) is int
    assert len(module(input)) == 3


@every_model
def test_an_example_that_is_not_there_is_refused_before_any_work(model: Any) -> None:
    module = build_any(model)
    input = batch(module)
    _, hx = module(input)
    before = [leaf.clone() for leaf in leaves(hx)]
    module.debug = 3
    called: list[int] = []
    hook = module.controllers[0].register_forward_pre_hook(lambda *_: called.append(1))
    message = "debug: expected the number of an example below the batch size 3, got 3"
    reset = torch.tensor([True, False, False])
    for call in (module, module.backend_of):
        with pytest.raises(MemcoreError, match=message):
            call(input, hx, reset)
    with pytest.raises(MemcoreError, match=message):
        module.step(input[:, 0], hx)
    with pytest.raises(MemcoreError, match="below the batch size 2, got 3"):
        module(pack_sequence([input[0], input[1, :2]]))
    assert not called
    assert all(torch.equal(one, other) for one, other in zip(before, leaves(hx), strict=True))
    hook.remove()
    module.debug = 2
    assert len(module.step(input[:, 0], hx)) == 3


@pytest.mark.skipif(torch.__version__ < "2.12", reason="compiled from torch 2.12 on")
@pytest.mark.parametrize("model", [DNC, SAM])
def test_compiled_code_tells_true_from_one(model: Any) -> None:
    pytest.importorskip("numba")  # else all of it is traced, and so are beartype's random checks
    module = build_any(model)
    input = batch(module, steps=2)
    compiled: Any = torch.compile(module, backend="eager")
    for value in (True, 1, 0, False, 2):
        module.debug = value
        output, *rest = compiled(input)
        expected, *others = module(input)
        torch.testing.assert_close(output, expected)
        assert len(rest) == len(others)
        if value is not False:
            agree(rest[1], others[1])


@pytest.mark.parametrize("model", [DNC, DAM])
@pytest.mark.parametrize("value", [True, 0, 1])
def test_transforms_and_exports_have_none(model: Any, value: bool | int) -> None:
    module = build_any(model, debug=value)
    input = batch(module)
    message = f"debug: expected False under torch.func transforms and torch.export, got {value}"
    with pytest.raises(MemcoreError, match=message):
        torch.func.vmap(lambda one: module(one)[0])(torch.stack([input, input]))
    with pytest.raises(MemcoreError, match=message):
        torch.func.grad(lambda one: module(one)[0].sum())(input)
    module.debug = False
    torch.func.grad(lambda one: module(one)[0].sum())(input)
    assert len(module(input)) == 2


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (-1, MemcoreError, "debug: expected a bool or the number of an example, from 0, got -1"),
        ("yes", TypeError, "debug: expected a bool or the number of an example, got str"),
        (None, TypeError, "got NoneType"),
        (1.0, TypeError, "got float"),
        (torch.tensor(1), TypeError, "got Tensor"),
    ],
)
def test_what_is_no_example_is_refused(value: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        build_any(debug=value)
    module = build_any(debug=2)
    with pytest.raises(error, match=message):
        module.debug = value
    assert module.debug == 2


@every_model
def test_copies_and_pickles_show_the_same_example(model: Any) -> None:
    module = build_any(model, debug=1)
    input = batch(module)
    *_, trace = module(input)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (
        copy.deepcopy(module),
        copy.copy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(file, weights_only=False),
    ):
        assert other.debug == 1
        agree(other(input)[2], trace)


@pytest.mark.parametrize("debug", [True, False])
def test_modules_pickled_before_there_was_a_number(debug: bool) -> None:
    module = build_any(debug=2)
    state = module.__getstate__()
    del state["_debug"]
    state["debug"] = debug
    old = DNC.__new__(DNC)
    old.__setstate__(copy.deepcopy(state))
    assert old.debug is debug
    assert state["debug"] is debug
    assert len(old(batch(old))) == 2 + debug
    old.debug = 2
    assert old.debug == 2
    assert pickle.loads(pickle.dumps(old)).debug == 2
