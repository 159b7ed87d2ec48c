"""What the tasks ask for, against plain Python, and the command lines people know."""

from __future__ import annotations

import argparse
import inspect
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adding_task import AddingTask, adding_batch
from argmax_task import ArgmaxTask, argmax_batch
from associative_recall_task import AssociativeRecallTask, associative_recall_batch, distinct_bits
from copy_task import CopyTask, copy_batch
from family_tree_task import FamilyTreeTask, family_tree_batch
from graphs import distinct_labels
from memcore import MemcoreError
from mqar_task import MQARTask, mqar_batch
from priority_sort_task import PrioritySortTask, priority_sort_batch
from repeat_copy_task import RepeatCopyTask, repeat_copy_batch
from shortest_path_task import ShortestPathTask, shortest_path_batch
from task import Batch, Task
from training import main
from traversal_task import TraversalTask, traversal_batch

TASKS = Path(__file__).parents[2] / "tasks"
ALL = [
    CopyTask,
    AddingTask,
    ArgmaxTask,
    RepeatCopyTask,
    AssociativeRecallTask,
    PrioritySortTask,
    MQARTask,
    TraversalTask,
    ShortestPathTask,
    FamilyTreeTask,
]

GRAPHS = {
    "digits": 2,
    "max_nodes": 12,
    "max_neighbours": 3,
    "planning_steps": 2,
    "planning_per_node": 0.0,
    "bidirectional": False,
    "relation_length": 4,
    "generations": 4,
    "couples": 2,
    "children": 2,
}


MQAR = {"keys": 9, "values": 5, "overwriting": 0, "window": 1}


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{
            "input_size": 6,
            "max_repeats": 3,
            "sequence_max_length": 4,
            "queries": 1,
            **MQAR,
            **GRAPHS,
            **given,
        }
    )


def draw(task: Task, length: int, seed: int = 0, **given: Any) -> tuple[list, list]:
    """Input and target as nested lists, for 5 examples."""
    generator = torch.Generator().manual_seed(seed)
    own = options(**given)
    batch = task.batch(own, task.shape(own, length, generator), 5, generator)
    return batch.input.tolist(), batch.target.tolist()


# One of each; the first arguments are batch and length.
PURE = [
    (copy_batch, (3, 4, 5)),
    (adding_batch, (3, 4, 5)),
    (argmax_batch, (3, 4, 5)),
    (repeat_copy_batch, (3, 4, 2, 5)),
    (associative_recall_batch, (3, 4, 5)),
    (mqar_batch, (3, 9, 4, 5)),
    (priority_sort_batch, (3, 4, 5)),
    (traversal_batch, (3, 7, 2, 4, 2)),
    (shortest_path_batch, (3, 7, 2, 2, 2)),
    (family_tree_batch, (3, 4, 2, 2, 2, 2)),
]


@pytest.mark.parametrize(("function", "sizes"), PURE)
def test_a_generator_is_a_function_of_its_arguments(
    function: Callable[..., Batch], sizes: tuple[int, ...]
) -> None:
    before = torch.get_rng_state()
    generators = [torch.Generator().manual_seed(seed) for seed in (7, 7, 8)]
    one, same, other = (function(*sizes, generator) for generator in generators)
    assert len(one.input) == len(one.target) == 3
    assert all(map(torch.equal, one, same))
    assert not torch.equal(one.input, other.input)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


@pytest.mark.parametrize(("function", "sizes"), PURE)
@pytest.mark.parametrize("wrong", [0, -1, 1.0, True])
def test_sizes_that_are_none(
    function: Callable[..., Batch], sizes: tuple[int, ...], wrong: Any
) -> None:
    names = list(inspect.signature(function).parameters)
    for at in range(len(sizes)):
        given = (*sizes[:at], wrong, *sizes[at + 1 :])
        with pytest.raises(MemcoreError, match=rf"^{names[at]}: expected an int of at least [123]"):
            function(*given, torch.Generator())


def test_widths_that_no_number_holds() -> None:
    generator = torch.Generator()
    assert associative_recall_batch(1, 5, 62, generator).target.shape == (1, 1, 62)
    with pytest.raises(MemcoreError, match=r"^bits: expected at most 62, got 63$"):
        associative_recall_batch(1, 5, 63, generator)
    assert distinct_labels(2, 10, 18, generator).shape == (2, 10)
    with pytest.raises(MemcoreError, match=r"^digits: expected at most 18, got 19$"):
        traversal_batch(1, 5, 2, 1, 19, generator)


def test_generators_need_no_command_line() -> None:
    names = [path.stem for path in TASKS.glob("*_task.py")]
    code = f"import sys; sys.path.insert(0, {str(TASKS)!r}); import {', '.join(names)}; "
    code += "assert not {'training', 'options', 'run'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def one_hot_numbers(example: list) -> list[int]:
    assert all(sorted(step) == [0.0] * (len(step) - 1) + [1.0] for step in example)
    return [step.index(1.0) for step in example]


@pytest.mark.parametrize("seed", range(5))
def test_adding(seed: int) -> None:
    inputs, sums = draw(AddingTask(), 7, seed, input_size=4)
    for example, total in zip(inputs, sums, strict=True):
        *numbers, end = one_hot_numbers(example)
        assert end == 3
        assert len(numbers) == 7
        assert set(numbers) <= {0, 1, 2}
        assert total == sum(numbers)
    generator = torch.Generator().manual_seed(seed)
    lengths = {AddingTask().length(100, generator) for _ in range(100)}
    assert 90 <= min(lengths) < max(lengths) <= 100
    assert {AddingTask().length(1, generator) for _ in range(9)} == {1}


def test_adding_is_scored_by_the_sum_of_all_outputs() -> None:
    output = torch.zeros(2, 3, 4)
    output[0, :, 1], output[1, 2, 3] = 2, 5  # sums 6 and 5
    score = AddingTask().score(output, torch.tensor([6.0, 4.0]))
    assert score == pytest.approx((0.125, 0.5))
    assert AddingTask().loss(output, torch.tensor([6.0, 2.0])).item() == pytest.approx(0.5)
    assert AddingTask().loss(output, torch.tensor([6.0, 5.0])).item() == 0


@pytest.mark.parametrize("seed", range(5))
def test_argmax(seed: int) -> None:
    inputs, positions = draw(ArgmaxTask(), 9, seed, input_size=3)
    for example, position in zip(inputs, positions, strict=True):
        numbers = one_hot_numbers(example)
        largest = max(numbers)
        assert position == max(at for at, number in enumerate(numbers) if number == largest)


def test_argmax_is_scored_at_the_last_step() -> None:
    output = torch.full((3, 4, 2), 99.0)
    output[:, -1] = torch.tensor([[1.0, 2.2], [0.0, 0.4], [1.0, 1.0]])
    score = ArgmaxTask().score(output, torch.tensor([3.0, 0.0, 3.0]))
    assert score == pytest.approx(((0.2 + 0.4 + 1) / 3, 2 / 3))


@pytest.mark.parametrize(
    ("task", "solved", "not_yet"),
    [
        (CopyTask(), (0.0,), (0.001,)),
        (AddingTask(), (0.001, 0.4), (0.002, 0.0)),
        (ArgmaxTask(), (0.2, 1.0), (0.0, 0.99)),
    ],
)
def test_when_there_is_nothing_left_to_train(task: Task, solved: Any, not_yet: Any) -> None:
    assert task.solved(solved)
    assert not task.solved(not_yet)


@pytest.mark.parametrize("seed", range(6))
def test_repeat_copy(seed: int) -> None:
    inputs, targets = draw(RepeatCopyTask(), 3, seed)
    for example, target in zip(inputs, targets, strict=True):
        start, bits, ask, blank = example[0], example[1:4], example[4], example[5:]
        assert start == [0, 0, 0, 0, 1, 0]
        assert all(step[4:] == [0, 0] for step in bits)
        repeats = round(10 * ask[5])
        assert repeats in (1, 2, 3)
        assert ask[5] == pytest.approx(repeats / 10)
        assert ask[:5] == [0] * 5
        assert not any(map(any, blank))
        assert len(blank) == len(target) == 3 * repeats + 1
        assert target[:-1] == [[*step[:4], 0] for _ in range(repeats) for step in bits]
        assert target[-1] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bits", [3, 14])
def test_associative_recall(seed: int, bits: int) -> None:
    inputs, targets = draw(AssociativeRecallTask(), 6, seed, input_size=2 * bits + 1)
    for example, target in zip(inputs, targets, strict=True):
        *pairs, query = example
        known = {tuple(pair[:bits]): pair[bits:-1] for pair in pairs}
        assert len(known) == 6
        assert all(pair[-1] == 0 for pair in pairs)
        assert query[bits:] == [0] * bits + [1]
        assert target == [known[tuple(query[:bits])]]


def test_several_queries() -> None:
    inputs, targets = draw(AssociativeRecallTask(), 5, input_size=9, queries=7)
    for example, target in zip(inputs, targets, strict=True):
        known = {tuple(pair[:4]): pair[4:8] for pair in example[:5]}
        queries = example[5:]
        assert len(queries) == len(target) == 7
        assert all(query[4:] == [0] * 4 + [1] for query in queries)
        assert target == [known[tuple(query[:4])] for query in queries]


def test_more_pairs_than_keys() -> None:
    with pytest.raises(MemcoreError, match=r"^pairs: expected at most 2\^bits = 8 distinct"):
        associative_recall_batch(1, 9, 3, torch.Generator())


@pytest.mark.parametrize("overwriting", [0, 1])
@pytest.mark.parametrize("length", [3, 4, 5, 16, 33])
def test_mqar(length: int, overwriting: int) -> None:
    given = {"keys": 9, "values": 5, "overwriting": overwriting}
    pairs, again = {3: 1, 4: 1, 5: 1, 16: 4, 33: 9}[length], 0
    for seed in range(4):
        inputs, targets = draw(MQARTask(), length, seed, **given)
        for example, target in zip(inputs, targets, strict=True):
            tokens = [step.index(max(step)) if any(step) else -1 for step in example]
            assert all(max(step) == sum(step) for step in example)
            assert all(sum(x * x for x in step) in (0, pytest.approx(9 + 5)) for step in example)
            keys, values = tokens[: 2 * pairs : 2], tokens[1 : 2 * pairs : 2]
            assert all(key < 9 <= value for key, value in zip(keys, values, strict=True))
            known = dict(zip(keys, values, strict=True))  # the last one counts
            again += len(keys) - len(known)
            assert target[: 2 * pairs] == [-1] * (2 * pairs)
            asked = [token for token in tokens[2 * pairs :] if token >= 0]
            assert sorted(asked) == sorted(known)
            for token, due in zip(tokens[2 * pairs :], target[2 * pairs :], strict=True):
                assert due == (-1 if token < 0 else known[token] - 9)
    assert bool(again) == bool(overwriting and pairs > 1)


def test_a_step_of_mqar_sees_the_tokens_before_it_too() -> None:
    alone, target = draw(MQARTask(), 8)
    shown, same = draw(MQARTask(), 8, window=3)
    assert same == target
    blank = [0.0] * (9 + 5)
    for steps, own in zip(shown, alone, strict=True):
        before = [blank, blank, *own]
        assert steps == [before[t + 2] + before[t + 1] + before[t] for t in range(8)]
    assert MQARTask().sizes(options(window=3)) == (3 * (9 + 5), 5)


def test_mqar_counts_each_example_alike() -> None:
    """So that processes with a share of the examples each come to the mean of all."""
    target = torch.tensor([[-1, 0, 1], [-1, -1, 1]])
    output = torch.zeros(2, 3, 2)
    output[0, 1, 0], output[0, 2, 0], output[1, 2, 1] = 5, 5, 5
    task = MQARTask()
    assert task.score(output, target) == (0.25,)
    one, other = (task.loss(output[at : at + 1], target[at : at + 1]) for at in (0, 1))
    assert task.loss(output, target).item() == pytest.approx((one + other).item() / 2)


def test_more_steps_than_keys() -> None:
    message = "keys: expected at least 3, one for each pair of length 12, got 2"
    with pytest.raises(MemcoreError, match=message):
        mqar_batch(1, 12, 2, 2, torch.Generator())
    message = "-sequence_max_length 9: expected 3 to 8 with -keys 2"
    with pytest.raises(SystemExit, match=message):
        MQARTask().sizes(options(keys=2, sequence_max_length=9))


@pytest.mark.parametrize(("width", "count"), [(14, 3000), (14, 2**14), (62, 5000)])
def test_many_keys(width: int, count: int) -> None:
    """Redrawing whole examples until none repeats would not end."""
    keys = distinct_bits(2, count, width, torch.Generator().manual_seed(0))
    assert all(len(set(map(tuple, own))) == count for own in keys.tolist())
    assert abs(float(keys.mean()) - 0.5) < 0.01


def test_repeat_copy_is_tested_with_every_number_of_repeats() -> None:
    tests = RepeatCopyTask().tests(options(), 2, 5, torch.Generator().manual_seed(0))
    assert [batch.target.shape[1] for batch in tests] == [3, 5, 7]
    assert all(len(batch.input) == 5 for batch in tests)


def test_as_many_keys_as_there_can_be() -> None:
    keys = distinct_bits(4, 8, 3, torch.Generator().manual_seed(0))
    assert all(len(set(map(tuple, own))) == 8 for own in keys.tolist())
    task, own = AssociativeRecallTask(), options(input_size=7, sequence_max_length=8)
    assert task.sizes(own) == (7, 3)
    own.sequence_max_length = 9
    with pytest.raises(SystemExit, match="length 9: with -input_size 7 there are 8 distinct keys"):
        task.sizes(own)


def test_no_more_pairs_than_there_are_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The curriculum stops there, and so do the tests."""
    arguments = f"-checkpoint_dir {tmp_path} -input_size 5 -batch_size 2 -nhid 4 -iterations 5 "
    arguments += "-sequence_max_length 2 -curriculum_window 1 -curriculum_threshold 100"
    main(AssociativeRecallTask(), "", arguments.split())
    rows = (tmp_path / "associative_recall_sam.csv").read_text().splitlines()[1:]
    assert [row.rpartition(",")[2] for row in rows] == ["2", "4", "4", "4", "4"]
    tested = [line for line in capsys.readouterr().out.splitlines() if "  length" in line]
    assert [line.split()[1] for line in tested] == ["4:"]


@pytest.mark.parametrize("length", [1, 4, 5])
def test_priority_sort(length: int) -> None:
    inputs, targets = draw(PrioritySortTask(), length)
    due = math.ceil(0.8 * length)
    for example, target in zip(inputs, targets, strict=True):
        items, end, blank = example[:length], example[length], example[length + 1 :]
        assert all(-1 <= item[4] <= 1 and item[5] == 0 for item in items)
        assert end == [0] * 5 + [1]
        assert len(blank) == len(target) == due
        assert not any(map(any, blank))
        ranked = sorted(items, key=lambda item: -item[4])
        assert target == [item[:4] for item in ranked[:due]]


@pytest.mark.parametrize("kind", ALL)
def test_shapes_scores_and_gradients(kind: type[Task]) -> None:
    """What the outputs are scored by is what the loss depends on."""
    task, generator = kind(), torch.Generator().manual_seed(0)
    own = options(input_size=7)
    inputs, outputs = task.sizes(own)
    batch = task.batch(own, task.shape(own, 4, generator), 5, generator)
    assert batch.input.shape[::2] == (5, inputs)
    output = torch.randn(5, batch.input.shape[1], outputs, generator=generator, requires_grad=True)
    loss = task.loss(output, batch.target)
    assert loss.shape == ()
    (gradient,) = torch.autograd.grad(loss, output)
    assert gradient.any()
    score = task.score(output.detach(), batch.target)
    assert len(score) == len(task.metrics)
    assert all(isinstance(value, float) for value in score)
    other = torch.where(gradient == 0, 100.0, output.detach())  # where it does not matter
    assert task.score(other, batch.target) == score
    shown = task.show(output.detach())
    assert 0 <= float(shown.min()) <= float(shown.max()) <= 1


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        (AddingTask, 2, "-input_size 2: adding needs at least 3"),
        (RepeatCopyTask, 2, "-input_size 2: repeat copy needs at least 3"),
        (AssociativeRecallTask, 6, "-input_size 6: expected an odd number from 3 to 125"),
        (PrioritySortTask, 2, "-input_size 2: priority sort needs at least 3"),
    ],
)
def test_inputs_that_are_too_narrow(kind: type[Task], size: int, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        kind().sizes(options(input_size=size))


# As people type them, shortened to two iterations by what is added.
COMMANDS = [
    "copy_task.py -cuda -1 -optim rmsprop -batch_size 32 -mem_slot 64",
    "copy_task.py -cuda -1 -lr 0.001 -rnn_type lstm -nlayer 1 -nhlayer 2 -dropout 0 -mem_slot 32 "
    "-batch_size 1000 -optim adam -sequence_max_length 8",
    "copy_task.py -cuda -1 -lr 0.001 -rnn_type lstm -memory_type sdnc -nlayer 1 -nhlayer 2 "
    "-dropout 0 -mem_slot 100 -mem_size 10 -read_heads 1 -sparse_reads 10 -batch_size 20 "
    "-optim adam -sequence_max_length 10",
    "copy_task.py -cuda -1 -lr 0.001 -rnn_type lstm -memory_type sdnc -nlayer 1 -nhlayer 2 "
    "-dropout 0 -mem_slot 100 -mem_size 10 -read_heads 1 -sparse_reads 4 -temporal_reads 4 "
    "-batch_size 20 -optim adam -sequence_max_length 4 -curriculum_increment 2 "
    "-curriculum_freq 10000",
    "adding_task.py -cuda -1 -lr 0.0001 -rnn_type lstm -memory_type sam -nlayer 1 -nhlayer 1 "
    "-nhid 100 -dropout 0 -mem_slot 1000 -mem_size 32 -read_heads 1 -sparse_reads 4 "
    "-batch_size 20 -optim rmsprop -input_size 3 -sequence_max_length 100",
    "argmax_task.py -cuda -1 -lr 0.0001 -rnn_type lstm -memory_type dnc -nlayer 1 -nhlayer 1 "
    "-nhid 100 -dropout 0 -mem_slot 100 -mem_size 10 -read_heads 2 -batch_size 1 "
    "-optim rmsprop -sequence_max_length 15 -input_size 10 -iterations 10000",
    "repeat_copy_task.py -batch_size 4 -max_repeats 3",
    "associative_recall_task.py -batch_size 4 -memory_type sdnc -curriculum linear",
    "priority_sort_task.py -batch_size 4",
    "mqar_task.py -batch_size 4 -memory_type attention -nlayer 2",
    "mqar_task.py -batch_size 4 -memory_type none -rnn_type gru -overwriting 1 -batch_budget 20",
    "traversal_task.py -batch_size 4 -mem_slot 32",
    "family_tree_task.py -batch_size 4 -mem_slot 32 -children 3",
    "shortest_path_task.py -batch_size 4 -mem_slot 32 -planning_per_node 0.5 -digits 2",
]


@pytest.mark.parametrize(
    "command",
    [
        COMMANDS[3],
        *COMMANDS[6:],
        *(pytest.param(own, marks=pytest.mark.slow) for own in COMMANDS[:3] + COMMANDS[4:6]),
    ],
    ids=lambda command: " ".join(command.split()[:6]),
)
def test_command_lines(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script, *arguments = command.split()
    arguments += ["-iterations", "2", "-test_size", "20", "-checkpoint_dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(TASKS / script), *arguments])
    runpy.run_path(sys.argv[0], run_name="__main__")
    assert "by length" in capsys.readouterr().out
    assert list(tmp_path.glob("*.pt"))
    assert list(tmp_path.glob("*.png"))
