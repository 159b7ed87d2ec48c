"""Several processes train as one: the same gradients, decisions and files."""

from __future__ import annotations

import csv
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import shared_training
from kills import assert_same_run
from options import choose_device
from processes import Processes
from several import TASKS, Ended, ends, start
from shared_training import ITERATIONS, KINDS, made
from small_runs import SMALL, run

COPY = TASKS / "copy_task.py"
slow = pytest.mark.slow
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes left what they found in some iterations."""
    folder = tmp_path_factory.mktemp("processes")
    for status, _, said in ends(start(Path(shared_training.__file__), [str(folder)])):
        assert (status, said) == (0, "")
    return folder


@pytest.fixture(scope="module")
def found(kept: Path) -> list[dict[str, list[dict[str, Any]]]]:
    return [torch.load(kept / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("rank", [0, 1])
def test_no_thread_is_left_that_would_abort_or_hold_the_process_at_its_end(
    kept: Path, rank: int
) -> None:
    threads = torch.load(kept / f"threads_{rank}.pt", weights_only=True)
    assert not [name for name in threads if "gloo" in name]


@every_kind
def test_gradients_are_those_of_the_joined_batch(found: Any, kind: str) -> None:
    """`pytest -s -k joined_batch` shows the largest differences."""
    run, largest = made(kind), 0.0
    assert len(found[0][kind]) == ITERATIONS
    for parts in zip(*(own[kind] for own in found), strict=True):
        input, target = (torch.cat(own) for own in zip(*(p["batch"] for p in parts), strict=True))
        assert len(input) == run.options.batch_size
        run.optimizer.zero_grad()
        output = run.model(input)[0]
        loss = run.task.loss(output, target)
        loss.backward()
        for part in parts:
            assert part["row"][2] == pytest.approx(loss.item(), rel=1e-6)
            assert part["row"][3] == pytest.approx(run.task.score(output, target), rel=1e-6)
        for name, parameter in run.model.named_parameters():
            if parameter.grad is None:
                assert all(name not in part["gradients"] for part in parts)
                continue
            one, other = (part["gradients"][name] for part in parts)
            assert torch.equal(one, other)
            difference = (one - parameter.grad).abs().max() / parameter.grad.abs().max()
            largest = max(largest, difference.nan_to_num(0).item())
    print(f"{kind}: largest difference of a gradient, relative to the parameter's: {largest:.1e}")
    assert largest <= 1e-6


@every_kind
def test_each_draws_its_own_examples_of_one_shape(found: Any, kind: str) -> None:
    for one, other in zip(*(own[kind] for own in found), strict=True):
        for mine, others in zip(one["batch"], other["batch"], strict=True):
            assert mine.shape == others.shape
        assert not torch.equal(one["batch"][1], other["batch"][1])
        assert not torch.equal(one["dropout"], other["dropout"])
        assert one["row"] == other["row"]
        assert torch.equal(one["data"], other["data"])
    inputs = [part["batch"][0] for part in found[0][kind]]
    assert len({input.shape for input in inputs}) > 1


def test_own_streams() -> None:
    """Neither processes nor iterations draw the same; alone it is the generator itself."""
    shared = torch.Generator().manual_seed(3)
    assert Processes().own_stream(shared) is shared
    state, drawn = shared.get_state(), []
    for rank in range(3):
        shared.set_state(state)
        for _ in range(2):
            stream = Processes(rank, 3).own_stream(shared)
            drawn += [torch.rand(50, generator=stream), torch.rand(50)]
    assert len({tuple(values.tolist()) for values in drawn}) == 12
    shared.set_state(state)
    assert torch.equal(drawn[0], torch.rand(50, generator=Processes(0, 3).own_stream(shared)))


def test_alone_without_torchrun_or_with_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.started().count == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Processes.started().count == 1
    for name, value in {"RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    started = Processes.started()
    assert (started.rank, started.count, started.rank_here, started.count_here) == (3, 2, 1, 2)
    assert not started.first


def test_each_takes_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [choose_device(2, rank, 2).index for rank in (0, 1)] == [2, 3]
    message = r"^-cuda 3: no such device to 4, one for each process, this machine has 4 for CUDA"
    for rank in (0, 1):
        with pytest.raises(SystemExit, match=message):
            choose_device(3, rank, 2)


def told(folder: Path, *arguments: str, count: int = 2) -> list[Ended]:
    return ends(start(COPY, [*SMALL, "-checkpoint_dir", str(folder), *arguments], count))


def test_one_speaks_and_one_writes(tmp_path: Path) -> None:
    """A row for each iteration; one process goes on from what two have left."""
    options = ("-iterations", "6", "-summarize_freq", "2", "-nhlayer", "2", "-dropout", "0.2")
    (status, said, errors), *others = told(tmp_path, *options)
    assert (status, errors) == (0, "")
    assert others == [(0, "", "")]
    assert said.count("iteration 4: loss ") == said.count("checkpoint: ") == 1
    assert said.count("  length ") == 5
    names = {path.name for path in tmp_path.iterdir()}
    assert {"copy_dnc.pt", "copy_dnc.previous.pt", "copy_dnc.png"} <= names
    assert run(tmp_path, *options, "-iterations", "8", "-resume", "auto")["iteration"] == 8
    with open(tmp_path / "copy_dnc.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == [*"12345678"]


@slow
def test_sums_of_three_have_the_order_that_they_had(tmp_path: Path) -> None:
    """Parameters of more than the mebibyte that torch sums at first; resumed, bit for bit."""
    options = "-batch_size 6 -nhid 128 -nhlayer 2 -dropout 0.1 -backend reference".split()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, iterations in ((whole, "12"), (parts, "7"), (parts, "12")):
        ended = told(folder, *options, "-iterations", iterations, "-resume", "auto", count=3)
        assert [own[0] for own in ended] == [0, 0, 0]
    assert_same_run(whole, parts)


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (
            "-batch_size 5",
            "copy_task.py: error: argument -batch_size/--batch_size: expected a multiple of the "
            "number of processes, 2, got 5 (-h shows all options)",
            2,
        ),
        pytest.param(
            "-resume {folder}/none.pt",
            "-resume {folder}/none.pt: no such file or directory",
            1,
            marks=slow,
        ),
        pytest.param("-lr x", "argument -lr/--lr: invalid float value: 'x'", 2, marks=slow),
        pytest.param("-lr 1e38 -optim sgd -clip 0", "go on from iteration ", 1, marks=slow),
    ],
)
def test_one_line_of_one_process(tmp_path: Path, arguments: str, message: str, status: int) -> None:
    first, *others = told(tmp_path, *arguments.format(folder=tmp_path).split())
    assert first[0] == status
    assert message.format(folder=tmp_path) in first[2]
    assert len(first[2].splitlines()) == 1
    assert others == [(status, "", "")]


LONG = ("-iterations", "100000", "-train_on", "-summarize_freq", "50")


def started(folder: Path) -> Any:
    """Two processes that have trained some iterations."""
    processes = start(COPY, [*SMALL, *LONG, "-checkpoint_dir", str(folder)])
    while not (folder / "copy_dnc.previous.pt").exists():
        assert all(process.poll() is None for process in processes), ends(processes)
        time.sleep(0.02)
    return processes


@pytest.mark.parametrize("asked", [pytest.param(0, marks=slow), 1])
def test_all_stop_where_one_is_interrupted(tmp_path: Path, asked: int) -> None:
    processes = started(tmp_path)
    processes[asked].send_signal(signal.SIGINT)
    (status, _, said), *others = ends(processes)
    iteration = torch.load(tmp_path / "copy_dnc.pt", weights_only=True)["iteration"]
    assert status == 1
    assert said.startswith(f"stopped at iteration {iteration}; go on with -resume ")
    assert len(said.splitlines()) == 1
    assert others == [(1, "", "")]
    rows = (tmp_path / "copy_dnc.csv").read_bytes().count(b"\n") - 1
    assert rows == iteration


@pytest.mark.parametrize("killed", [pytest.param(own, marks=slow) for own in (0, 1)])
def test_none_waits_for_one_that_was_killed(tmp_path: Path, killed: int) -> None:
    processes = started(tmp_path)
    processes[killed].kill()
    ended = ends(processes, 30)
    assert ended[killed][0] == -signal.SIGKILL
    assert ended[1 - killed][0] == 1
    expected = "" if killed == 0 else "another process ended: go on with -resume auto\n"
    assert ended[1 - killed][2] == expected
    assert torch.load(tmp_path / "copy_dnc.previous.pt", weights_only=True)["iteration"] >= 0
