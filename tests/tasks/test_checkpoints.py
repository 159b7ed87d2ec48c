"""Interrupted or killed, a run goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from copy_task import CopyTask
from interruption import deferred_interrupt
from kills import assert_same_run
from run import Run
from small_runs import SMALL, run
from training import main

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_resuming_continues_bit_for_bit(tmp_path: Path) -> None:
    options = ("-dropout", "0.3", "-nhlayer", "2", "-optim", "adam", "-lr", "0.01")
    whole = run(tmp_path / "whole", *options, "-iterations", "12")
    run(tmp_path / "parts", *options, "-iterations", "7")
    assert whole["options"]["dropout"] == 0.3
    saved = str(tmp_path / "parts" / "copy_dnc.pt")
    parts = run(tmp_path / "parts", *options, "-resume", saved, "-iterations", "12")
    assert parts["iteration"] == whole["iteration"] == 12
    for name, value in whole["model"].items():
        assert torch.equal(parts["model"][name], value), name
    assert torch.equal(parts["data"], whole["data"])
    assert torch.equal(parts["random"], whole["random"])


def test_resuming_takes_the_checkpoints_options(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "3", "-nhid", "5", "-lr", "0.25")
    saved = tmp_path / "copy_dnc.pt"
    main(CopyTask(), "", ["-resume", str(saved), "-iterations", "4"])
    after = torch.load(saved, weights_only=True)
    assert after["iteration"] == 4
    assert (after["options"]["nhid"], after["options"]["lr"]) == (5, 0.25)
    assert after["optimizer"]["param_groups"][0]["lr"] == 0.25
    main(CopyTask(), "", ["-resume", str(saved), "-iterations", "5", "-lr", "0.125"])
    after = torch.load(saved, weights_only=True)
    assert after["optimizer"]["param_groups"][0]["lr"] == 0.125


def test_resuming_stays_in_the_checkpoints_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    main(CopyTask(), "", [*SMALL, "-iterations", "2", "-checkpoint_dir", "runs"])
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(CopyTask(), "", ["-resume", "../runs/copy_dnc.pt", "-iterations", "3"])
    assert not list((tmp_path / "elsewhere").iterdir())
    assert torch.load(tmp_path / "runs" / "copy_dnc.pt", weights_only=True)["iteration"] == 3


def test_resuming_with_another_optimizer_starts_it_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "-iterations", "2", "-optim", "adam")
    saved = str(tmp_path / "copy_dnc.pt")
    for optimizer in ("sgd", "rmsprop", "adamax"):
        run(tmp_path, "-resume", saved, "-iterations", "4", "-optim", optimizer)
        assert f"the optimizer, {optimizer}, starts anew" in capsys.readouterr().out


def test_a_solved_run_goes_on_where_more_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "test", lambda self, length, generator: (0.0,))
    assert run(tmp_path, "-iterations", "20")["iteration"] == 5
    saved = str(tmp_path / "copy_dnc.pt")
    assert run(tmp_path, "-resume", saved)["iteration"] == 5
    assert "nothing left to train: solved" in capsys.readouterr().out
    again = run(tmp_path, "-resume", saved, "-sequence_max_length", "6")
    assert again["iteration"] == 10
    assert "nothing left" not in capsys.readouterr().out


def test_another_run_is_not_replaced_unless_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "-iterations", "4")
    found = {path: path.read_bytes() for path in tmp_path.iterdir()}
    message = r"copy_dnc.pt is of another run: go on with it by -resume .*copy_dnc.pt, replace"
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, "-iterations", "1")
    (tmp_path / "copy_dnc.pt").rename(tmp_path / "away.pt")
    with pytest.raises(SystemExit, match="copy_dnc.previous.pt is of another run"):
        run(tmp_path, "-iterations", "1")
    (tmp_path / "away.pt").rename(tmp_path / "copy_dnc.pt")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == found
    assert run(tmp_path, "-iterations", "1", "-overwrite")["iteration"] == 1
    assert "copy_dnc.pt is of another run and is replaced" in capsys.readouterr().out


class Spoiled:
    """The loss, or its gradient, of one iteration is not finite."""

    def __init__(self, at: int, value: float, of_gradient: bool) -> None:
        self.at, self.value, self.of_gradient = at, value, of_gradient
        self.loss, self.train_once = CopyTask.loss, Run.train_once
        self.iteration = 0

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def train_once(run: Run) -> Any:
            self.iteration = run.iteration + 1
            return self.train_once(run)

        def loss(task: CopyTask, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            right = self.loss(task, output, target)
            if self.iteration != self.at:
                return right
            if self.of_gradient:
                right.register_hook(lambda gradient: gradient * self.value)
                return right
            return right * self.value

        monkeypatch.setattr(Run, "train_once", train_once)
        monkeypatch.setattr(CopyTask, "loss", loss)


@pytest.mark.parametrize(
    ("value", "of_gradient", "what"),
    [
        (float("nan"), False, "the loss is nan"),
        (float("inf"), False, "the loss is inf"),
        (float("nan"), True, "the norm of the gradient is nan"),
    ],
)
def test_what_is_not_finite_stops_a_run_and_loses_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: float,
    of_gradient: bool,
    what: str,
) -> None:
    run(tmp_path / "whole", "-iterations", "12")
    path = tmp_path / "copy_dnc.pt"
    with monkeypatch.context() as patch:
        Spoiled(7, value, of_gradient).patch(patch)
        with pytest.raises(SystemExit) as stopped:
            run(tmp_path, "-iterations", "12")
    assert str(stopped.value) == (
        f"stopped at iteration 7: {what}; go on from iteration 4 with -resume {path}, "
        "and a smaller -lr or -clip"
    )
    assert torch.load(path, weights_only=True)["iteration"] == 4
    run(tmp_path, "-resume", str(path))
    assert_same_run(tmp_path / "whole", tmp_path)


def test_parameters_that_are_not_finite_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "copy_dnc.pt"

    def train_once(run: Run) -> Any:
        row = original(run)
        if run.iteration == 8:
            run.memory.output.bias.data[1] = float("inf")
        return row

    original = Run.train_once
    monkeypatch.setattr(Run, "train_once", train_once)
    with pytest.raises(SystemExit, match=r"iteration 8: output.bias is no longer finite; go on fr"):
        run(tmp_path, "-iterations", "12")
    saved = torch.load(path, weights_only=True)
    assert saved["iteration"] == 4
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_a_checkpoint_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        with pytest.raises(SystemExit, match=r"-checkpoint_dir .*file.*: (File exists|Not a dir)"):
            run(tmp_path / folder)


def test_checkpoints_are_written_on_the_way_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterations: list[int] = []
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda self: (iterations.append(self.iteration), save(self)))
    run(tmp_path, "-iterations", "10", "-check_freq", "4")
    assert iterations == [0, 4, 8, 10]
    found = (tmp_path / "copy_dnc.pt").read_bytes()

    left = 0

    def fails(_file: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(SystemExit, match="copy_dnc.csv: no space left"):
        run(tmp_path, "-iterations", "1", "-overwrite")
    assert (tmp_path / "copy_dnc.pt").read_bytes() == found
    left = 1
    with pytest.raises(SystemExit, match="copy_dnc.pt: no space left; no checkpoint was written"):
        run(tmp_path, "-iterations", "1", "-overwrite")


def test_the_summary_after_resuming_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def summaries() -> list[str]:
        lines = capsys.readouterr().out.splitlines()
        return [line.rpartition(",")[0] for line in lines if line.startswith("iteration ")]

    run(tmp_path / "whole", "-iterations", "10")
    whole = summaries()
    run(tmp_path / "parts", "-iterations", "7")
    run(tmp_path / "parts", "-iterations", "10", "-resume", str(tmp_path / "parts" / "copy_dnc.pt"))
    assert summaries() == whole
    assert len(whole) == 2


def test_interrupting_ends_the_iteration_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of an iteration, then resumed: as if never interrupted."""
    options = ("-optim", "adam", "-lr", "0.01")
    whole = run(tmp_path / "whole", *options, "-iterations", "6")
    loss = CopyTask.loss
    calls: list[int] = []

    def interrupted(self: CopyTask, output: Any, target: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, output, target)

    monkeypatch.setattr(CopyTask, "loss", interrupted)
    with pytest.raises(SystemExit, match="stopped at iteration 3; go on with -resume"):
        run(tmp_path / "parts", *options, "-iterations", "6")
    saved = str(tmp_path / "parts" / "copy_dnc.pt")
    parts = run(tmp_path / "parts", *options, "-resume", saved, "-iterations", "6")
    assert parts["iteration"] == 6
    for name, value in whole["model"].items():
        assert torch.equal(parts["model"][name], value), name


def test_batches_that_do_not_fit_are_answered_in_one_line(tmp_path: Path) -> None:
    message = r"^stopped at iteration 1: .*(memory|overflow).*; fewer examples \(-batch_size"
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, "-batch_size", str(2**31 - 1), "-sequence_max_length", str(2**31 - 1))


def test_a_second_interrupt_is_not_deferred() -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupt_twice() -> None:
        with deferred_interrupt() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.is_set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGINT) is before
