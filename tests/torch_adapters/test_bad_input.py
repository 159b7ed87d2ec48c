"""What a wrong call of a module says; each leaves everything as it was."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from memcore import MemcoreError, dnc
from torch_adapters import DAM, DNC, SAM, SDNC, select_state, state_from_dict, state_to_dict

SIZES: dict[str, Any] = {"nr_cells": 5, "cell_size": 4, "read_heads": 2}


def build(**options: Any) -> Any:
    torch.manual_seed(0)
    return DNC(3, 8, **{**SIZES, **options})


def refuses(error: type[Exception], message: str) -> Any:
    return pytest.raises(error, match="^" + re.escape(message))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"nr_cells": 0}, MemcoreError, "nr_cells: expected an int of at least 1, got 0"),
        ({"read_heads": -2}, MemcoreError, "read_heads: expected an int of at least 1, got -2"),
        ({"cell_size": 2.5}, TypeError, "cell_size: expected an int, got float"),
        ({"num_layers": 0}, MemcoreError, "num_layers: expected an int of at least 1, got 0"),
        ({"output_size": 0}, MemcoreError, "output_size: expected an int of at least 1, got 0"),
        (
            {"rnn_type": "lstn"},
            MemcoreError,
            "rnn_type: expected one of lstm, gru, rnn, linear, got",
        ),
        ({"rnn_type": None}, TypeError, "rnn_type: expected a str, got NoneType"),
        (
            {"nonlinearity": "sin"},
            MemcoreError,
            "nonlinearity: expected one of tanh, relu, got 'sin'",
        ),
        ({"dropout": 1}, MemcoreError, "dropout: expected a number in [0, 1), got 1"),
        ({"dropout": "0"}, TypeError, "dropout: expected a number, got str"),
        ({"clip": -1}, MemcoreError, "clip: expected a number of at least 0, got -1"),
        ({"clip": float("nan")}, MemcoreError, "clip: expected a number of at least 0, got nan"),
        ({"bias": 1}, TypeError, "bias: expected a bool, got int"),
        (
            {"bidirectional": 1},
            TypeError,
            "bidirectional: expected a bool, got int",
        ),
        (
            {"dtype": torch.int32},
            MemcoreError,
            "dtype: expected one of float32, float64, bfloat16,",
        ),
        ({"device": "gpu"}, MemcoreError, "device: expected a device that torch knows, got 'gpu'"),
        ({"device": [1]}, TypeError, "device: expected a torch.device, a str or an int, got list"),
        ({"device": "cuda:99"}, MemcoreError, "device: expected one of the "),
        ({"dtype": "float"}, TypeError, "dtype: expected a torch.dtype, got str"),
        ({"gpu_id": -2}, MemcoreError, "gpu_id: expected an int of at least -1, got -2"),
        ({"gpu_id": 99}, MemcoreError, "gpu_id: expected -1 for the CPU or a CUDA device of this"),
        (
            {"gpu_id": 0, "device": "cpu"},
            MemcoreError,
            "gpu_id: expected to agree with device=cpu, got 0",
        ),
    ],
)
def test_constructor(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with refuses(error, message):
        build(**options)


def test_sizes_of_the_controller() -> None:
    with refuses(MemcoreError, "input_size: expected an int of at least 1, got 0"):
        DNC(0, 8)
    with refuses(MemcoreError, "hidden_size: expected an int of at least 1, got -1"):
        DNC(3, -1)


@pytest.mark.parametrize(
    ("input", "error", "message"),
    [
        (
            torch.zeros(2, 3),
            MemcoreError,
            "input: expected shape [batch, time, 3] with no empty axis, got [2, 3]",
        ),
        (torch.zeros(2, 5, 4), MemcoreError, "input: expected shape [batch, time, 3] with"),
        (torch.zeros(2, 0, 3), MemcoreError, "input: expected shape [batch, time, 3] with"),
        (torch.zeros(0, 5, 3), MemcoreError, "input: expected shape [batch, time, 3] with"),
        (
            torch.zeros(2, 5, 3).double(),
            MemcoreError,
            "input: expected the parameters' dtype torch.float32, got torch.float64",
        ),
        (torch.zeros(2, 5, 3).long(), MemcoreError, "input: expected the parameters' dtype"),
        (
            torch.zeros(2, 5, 3, device="meta"),
            MemcoreError,
            "input: expected the parameters' device cpu, got meta",
        ),
        ([[1.0]], TypeError, "input: expected a torch.Tensor or PackedSequence, got list"),
        (
            pack_sequence([torch.zeros(4, 2)]),
            MemcoreError,
            "input: expected shape [packed steps, 3] with no empty axis, got [4, 2]",
        ),
    ],
)
def test_input(input: Any, error: type[Exception], message: str) -> None:
    with refuses(error, message):
        build()(input)


def test_input_with_time_in_front_is_named_so() -> None:
    with refuses(MemcoreError, "input: expected shape [time, batch, 3] with no empty axis"):
        build(batch_first=False)(torch.zeros(2, 5, 4))


def test_input_of_a_step() -> None:
    with refuses(MemcoreError, "input: expected shape [batch, 3], got [2, 1, 3]"):
        build().step(torch.zeros(2, 1, 3))
    with refuses(MemcoreError, "input: expected shape [batch, 3], got [2, 4]"):
        build().step(torch.zeros(2, 4))
    with refuses(TypeError, "input: expected a torch.Tensor, got NoneType"):
        build().step(None)


def states() -> dict[str, tuple[Any, type[Exception], str]]:
    module = build()
    _, (hidden, memory, reads) = module(torch.zeros(2, 4, 3))
    other = DNC(3, 8, nr_cells=6, cell_size=4, read_heads=2)(torch.zeros(2, 4, 3))[1][1]
    gru = build(rnn_type="gru")(torch.zeros(2, 4, 3))[1][0]
    larger = module(torch.zeros(3, 4, 3))[1]
    return {
        "no tuple": (memory, TypeError, "hx: expected None or a tuple (controller_hidden, memory"),
        "a pair": ((hidden, memory), TypeError, "hx: expected None or a tuple"),
        "batch size": (
            larger,
            MemcoreError,
            "hx[0][0][0]: expected shape [2, 2, 8], got [2, 3, 8]",
        ),
        "memory of another batch size": (
            (hidden, larger[1], reads),
            MemcoreError,
            "hx[1].memory: expected shape [2, 5, 4], got [3, 5, 4]",
        ),
        "memory of another module": (
            (hidden, other, reads),
            MemcoreError,
            "hx[1].memory: expected shape [2, 5, 4], got [2, 6, 4]",
        ),
        "memory of another kind": (
            (hidden, tuple(memory), reads),
            TypeError,
            "hx[1]: expected a DNCState, got tuple",
        ),
        "field of another kind": (
            (hidden, memory._replace(usage=None), reads),
            TypeError,
            "hx[1].usage: expected a torch.Tensor, got NoneType",
        ),
        "dtype": (
            (hidden, dnc.DNCState(*(value.double() for value in memory)), reads),
            MemcoreError,
            "hx[1].memory: expected dtype torch.float32, got torch.float64",
        ),
        "device": (
            (hidden, memory._replace(link=memory.link.to("meta")), reads),
            MemcoreError,
            "hx[1].link: expected device cpu, got meta",
        ),
        "reads": (
            (hidden, memory, reads[:, :-1]),
            MemcoreError,
            "hx[2]: expected shape [2, 8], got [2, 7]",
        ),
        "dtype of reads": (
            (hidden, memory, reads.double()),
            MemcoreError,
            "hx[2]: expected dtype torch.float32, got torch.float64",
        ),
        "device of reads": (
            (hidden, memory, reads.to("meta")),
            MemcoreError,
            "hx[2]: expected device cpu, got meta",
        ),
        "hidden of two layers": (
            (hidden * 2, memory, reads),
            MemcoreError,
            "hx[0]: expected a list of 1 RNN states, one a layer, got a list of 2",
        ),
        "hidden of a gru": (
            (gru, memory, reads),
            TypeError,
            "hx[0][0]: expected a tuple of two tensors (LSTM), got Tensor",
        ),
    }


@pytest.mark.parametrize("case", states())
def test_state(case: str) -> None:
    hx, error, message = states()[case]
    module = build()
    before = copy.deepcopy(module.state_dict())
    with refuses(error, message):
        module(torch.zeros(2, 4, 3), hx)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_memories_of_their_own_come_as_a_list() -> None:
    module = build(num_layers=2, share_memory=False)
    shared = build(num_layers=2)(torch.zeros(2, 4, 3))[1]
    with refuses(MemcoreError, "hx[1]: expected a list of 2 memory states, one a layer"):
        module(torch.zeros(2, 4, 3), shared)


def bools(*shape: int, device: str = "cpu") -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bool, device=device)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("reset_experience", torch.zeros(2), MemcoreError, "expected dtype torch.bool, got"),
        ("reset_experience", bools(5), MemcoreError, "expected shape [2], got [5]"),
        (
            "reset_experience",
            bools(2, device="meta"),
            MemcoreError,
            "expected device cpu, got meta",
        ),
        ("reset_experience", "yes", TypeError, "expected a bool or a bool tensor, got str"),
        (
            "episode_start",
            bools(4, 2),
            MemcoreError,
            "expected a bool tensor of shape [2, 4] [batch, time], got torch.bool of shape [4, 2]",
        ),
        ("episode_start", torch.zeros(2, 4), MemcoreError, "expected a bool tensor of shape"),
        (
            "episode_start",
            bools(2, 4, device="meta"),
            MemcoreError,
            "expected device cpu, got meta",
        ),
        ("episode_start", True, TypeError, "expected a bool tensor or PackedSequence, got bool"),
        ("pass_through_memory", "False", TypeError, "expected a bool, got str"),
        ("pass_through_memory", bools(2), TypeError, "expected a bool, got Tensor"),
    ],
)
def test_flags(name: str, value: Any, error: type[Exception], message: str) -> None:
    with refuses(error, f"{name}: {message}"):
        build()(torch.zeros(2, 4, 3), **{name: value})


def test_flags_packed_otherwise_than_the_input() -> None:
    input = pack_sequence([torch.zeros(3, 3), torch.zeros(1, 3)])
    flags = pack_sequence([torch.zeros(2), torch.zeros(2)])
    with refuses(MemcoreError, "episode_start: expected to be packed just as the input is"):
        build()(input, episode_start=flags._replace(data=flags.data.bool()))
    unsorted = pack_sequence([torch.zeros(1, 3), torch.zeros(3, 3)], enforce_sorted=False)
    flags = pack_sequence([torch.zeros(3), torch.zeros(1)], enforce_sorted=False)
    with refuses(MemcoreError, "episode_start: expected to be packed just as the input is"):
        build()(unsorted, episode_start=flags._replace(data=flags.data.bool()))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "examples: expected a non-empty list of ints"),
        ([2], "examples: expected numbers in [0, 2), got [2]"),
        ([-1], "examples: expected numbers in [0, 2), got [-1]"),
        (slice(1), "examples: expected a list of ints or a bool tensor [2], got slice"),
        (None, "examples: expected a list of ints or a bool tensor [2], got NoneType"),
        (bools(2), "examples: expected a non-empty list of ints or a bool tensor [2] with some"),
        ([0.5], "examples: expected a non-empty list of ints"),
        (torch.zeros(3, dtype=torch.bool), "examples: expected a non-empty list of ints"),
    ],
)
def test_selecting(examples: Any, message: str) -> None:
    _, hx = build()(torch.zeros(2, 4, 3))
    with refuses(Exception, message) as caught:
        select_state(hx, examples)
    assert isinstance(caught.value, MemcoreError | TypeError)


def test_loading() -> None:
    _, hx = build()(torch.zeros(2, 4, 3))
    saved = state_to_dict(hx)
    wrong: Any = hx
    with refuses(TypeError, "saved: expected a dict, got tuple"):
        state_from_dict(wrong)
    with refuses(MemcoreError, "saved: expected the keys of state_to_dict, missing ['memory']"):
        state_from_dict({key: value for key, value in saved.items() if key != "memory"})
    for memory in ({"type": "NTMState"}, {"type": ["DNCState"]}, None, hx[2]):
        with refuses(
            MemcoreError,
            "saved['memory']: expected a dict of type DAMState or DNCState or SAMState or SDNC",
        ):
            state_from_dict({**saved, "memory": memory})
    with refuses(MemcoreError, "saved['controller_hidden']: expected a list, got NoneType"):
        state_from_dict({**saved, "controller_hidden": None})
    for part, value in (("memory", {**saved["memory"], "usage": 3}), ("read_vectors", None)):
        with refuses(TypeError, "hx: expected (controller_hidden, memory, read_vectors)"):
            state_from_dict({**saved, part: value})
    with refuses(TypeError, "hx: expected (controller_hidden, memory, read_vectors)"):
        state_to_dict((None, None, None))  # pyright: ignore[reportArgumentType]
    with refuses(TypeError, "hx: expected (controller_hidden, memory, read_vectors)"):
        state_to_dict((torch.zeros(2), hx, {}))  # pyright: ignore[reportArgumentType]


def test_nan_goes_through() -> None:
    output, _ = build()(torch.full((2, 4, 3), torch.nan))
    assert output.isnan().all()


@pytest.mark.parametrize("model", [DNC, DAM, SAM, SDNC])
@pytest.mark.parametrize("slots", [10**9, 2**45, 2**70])
def test_more_slots_than_there_is_memory_for(model: Any, slots: int) -> None:
    """The argument, how many bytes that would be, and what else can be done."""
    module = model(3, 8, nr_cells=slots, cell_size=512)
    least = slots * 512 * 4
    with pytest.raises(MemcoreError, match=r"^nr_cells: expected what there is memory for") as told:
        module(torch.zeros(2, 1, 3))
    asked = re.search(
        r"got (\d+) bytes for torch.float32 of shape \[.*\]; take fewer", str(told.value)
    )
    assert asked is not None
    assert int(asked[1]) >= least


def test_clip_is_checked_when_it_is_set_too() -> None:
    module = build()
    with refuses(TypeError, "clip: expected a number, got NoneType"):
        module.clip = None
    with refuses(MemcoreError, "clip: expected a number of at least 0, got -1"):
        module.clip = -1
    assert module.clip == 20
    module.clip = 0
    assert module.clip == 0


def test_dropout_that_does_nothing_is_told() -> None:
    message = "dropout: 0.5 does nothing with num_hidden_layers=1"
    with pytest.warns(UserWarning, match=message) as told:
        build(dropout=0.5, num_hidden_layers=1)
    assert told[0].filename == __file__  # where it was built
    build(dropout=0.5, num_hidden_layers=2)


def test_hx_as_a_list_is_taken_and_as_a_saved_dictionary_is_explained() -> None:
    module, input = build(), torch.randn(2, 4, 3)
    _, hx = module(input)
    assert torch.equal(module(input, list(hx))[0], module(input, hx)[0])
    message = "hx: expected None or a tuple (controller_hidden, memory, read_vectors), got dict"
    with refuses(TypeError, f"{message}; state_from_dict makes one of what state_to_dict gave"):
        module(input, state_to_dict(hx))


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_step_begins_examples_anew(batch_first: bool) -> None:
    module, input = build(batch_first=batch_first), torch.randn(2, 3)
    _, hx = module.step(input)
    fresh, _ = module.step(input)
    further, _ = module.step(input, hx)
    output, _ = module.step(input, hx, torch.tensor([False, True]))
    torch.testing.assert_close(output, torch.stack([further[0], fresh[1]]))
    with refuses(MemcoreError, "episode_start: expected shape [2], got [2, 1]"):
        module.step(input, hx, torch.zeros(2, 1, dtype=torch.bool))
    with refuses(MemcoreError, "episode_start: expected dtype torch.bool, got torch.int64"):
        module.step(input, hx, torch.zeros(2, dtype=torch.int64))
    with refuses(TypeError, "episode_start: expected a torch.Tensor, got list"):
        module.step(input, hx, [True, False])


@pytest.mark.filterwarnings("ignore:Sparse CSR|The PyTorch API of nested:UserWarning")
@pytest.mark.parametrize("model", [DNC, DAM, SAM, SDNC])
def test_tensors_that_are_not_dense(model: Any) -> None:
    """Wherever a tensor goes in: the argument, and its layout, before anything is done with it."""
    module = model(3, 8, nr_cells=7)
    input = torch.randn(2, 5, 3)
    output, hx = module(input)
    flags = torch.zeros(2, 5, dtype=torch.bool)
    hidden, memory, reads = hx
    sparse_hidden = [(hidden[0][0].detach().to_sparse(), hidden[0][1])]
    calls = {
        "input": [
            lambda: module(input.to_sparse()),
            lambda: module(input.to_sparse_csr()),
            lambda: module(torch.nested.nested_tensor([input[0], input[1, :3]])),
            lambda: module.step(input[:, 0].to_sparse()),
            lambda: module(pack_sequence(list(input))._replace(data=input[0].to_sparse())),
        ],
        "hx[2]": [lambda: module(input, (hidden, memory, reads.detach().to_sparse()))],
        "hx[0][0][0]": [lambda: module(input, (sparse_hidden, memory, reads))],
        "reset_experience": [
            lambda: module(input, hx, reset_experience=flags[:, 0].to_sparse()),
        ],
        "episode_start": [lambda: module(input, hx, episode_start=flags.to_sparse())],
    }
    if model in (DNC, DAM):
        sparse_memory = memory._replace(memory=memory.memory.detach().to_sparse())
        calls["hx[1].memory"] = [lambda: module(input, (hidden, sparse_memory, reads))]
    for name, several in calls.items():
        for call in several:
            with pytest.raises(MemcoreError, match=re.escape(f"{name}: expected a dense tensor")):
                call()
    assert torch.equal(module(input)[0], output)


@pytest.mark.parametrize("model", [DNC, SAM])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([2, 4],), "batch_sizes: expected positive numbers that never grow and have the sum "
                    "6, the steps in input.data, got [2, 4]"),
        (([2, 2],), "got [2, 2]"),
        (([4, 4],), "got [4, 4]"),
        (([3, 3, 0],), "got [3, 3, 0]"),
        (([7, -1],), "got [7, -1]"),
        (([1] * 14,), "got [1, 1, 1, 1, 1, 1, …, 1, 1, 1]"),
        (([],), "batch_sizes: expected a non-empty int64 tensor [T]"),
        (([[3, 3]],), "got torch.int64 of shape [1, 2]"),
        (([3.0, 3.0],), "batch_sizes: expected a non-empty int64 tensor [T], got torch.float"),
        (([3, 3], [0, 1, 5], [0, 1, 2]), "sorted_indices: expected each of 0 to 2 once, and "
                                         "input.unsorted_indices its inverse, got [0, 1, 5]"),
        (([3, 3], [0, 0, 1], [0, 1, 2]), "got [0, 0, 1] and [0, 1, 2]"),
        (([3, 3], [2, 0, 1], [2, 0, 1]), "got [2, 0, 1] and [2, 0, 1]"),
        (([3, 3], [0, 1], [0, 1]), "sorted_indices: expected an int64 tensor [3], got torch."),
        (([3, 3], [0, 1, 2], [0, 1]), "unsorted_indices: expected an int64 tensor [3], got"),
        (([3, 3], [0.0, 1.0, 2.0], [0, 1, 2]), "got torch.float32 of shape [3]"),
    ],
)  # fmt: skip
def test_packed_sequences_that_nobody_packed(model: Any, parts: Any, message: str) -> None:
    given = [torch.tensor(part, dtype=None if part else torch.int64) for part in parts]
    with pytest.raises(MemcoreError, match=r"^input\..*" + re.escape(message)):
        model(3, 8, nr_cells=7)(PackedSequence(torch.randn(6, 3), *given))


def test_flags_that_nobody_packed() -> None:
    module, input = build(), pack_sequence([torch.randn(2, 3), torch.randn(1, 3)])
    flags = PackedSequence(torch.zeros(3, dtype=torch.bool), torch.tensor([1, 2]))
    with refuses(MemcoreError, "episode_start.batch_sizes: expected positive numbers that never"):
        module(input, episode_start=flags)
