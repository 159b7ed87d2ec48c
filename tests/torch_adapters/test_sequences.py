"""Sequences in pieces, packed, of many episodes: always what each example gives alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from modules import CLOSE, X, batch, build, every_model, leaves, same, variants
from torch_adapters import detach_state, select_state, time_loop


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


@every_model
def test_gradients_through_packed_input(model: Any) -> None:
    module = build(model)
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


@every_model
@pytest.mark.parametrize("packed_flags", [True, False])
def test_episode_start_beside_packed_input(packed_flags: bool, model: Any) -> None:
    module = build(model)
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


@every_model
def test_no_gradient_crosses_an_episode_start(model: Any) -> None:
    module = build(model)
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


@every_model
def test_examples_do_not_see_each_other(model: Any) -> None:
    module = build(model)
    input = batch(module)
    output, hx = module(input)
    for index in range(3):
        alone, state = module(input[[index]])
        same(alone, output[[index]], **CLOSE)
        same(state, select_state(hx, [index]), **CLOSE)


@every_model
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rnn_type", ["lstm", "gru"])
def test_without_gradients_a_long_call_is_cut_and_the_same(
    model: Any, packed: bool, rnn_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: outputs, the state, and what dropout draws."""
    module = build(model, rnn_type=rnn_type, num_hidden_layers=2, dropout=0.3)
    input: Any = batch(module, size=3, steps=11)
    if packed:
        input = pack_sequence([input[0], input[1, :7], input[2, :2]])

    def run() -> tuple[Tensor, Any]:
        torch.manual_seed(2)
        output, hx = module(input)
        return output.data.detach(), detach_state(hx)

    with torch.no_grad():
        whole = run()
        for most in (1, 3, 4):
            monkeypatch.setattr(time_loop, "STEPS_WITHOUT_GRADIENT", most)
            output, hx = run()
            assert torch.equal(output, whole[0])
            same(hx, whole[1])
    output, hx = run()
    assert torch.equal(output, whole[0])
    same(hx, whole[1])
