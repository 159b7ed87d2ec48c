"""Killed at any moment and resumed, a run is bit for bit the one that was left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints import before
from copy_task import CopyTask
from kills import assert_same_run, kill_and_resume, resumed, run_through
from small_runs import run
from training import main

OPTIONS = (
    "-batch_size 4 -nhid 8 -nhlayer 2 -mem_slot 4 -mem_size 3 -read_heads 1 -dropout 0.2 "
    "-optim adam -lr 0.01 -scheduler cosine -sequence_max_length 1 -curriculum exponential "
    "-curriculum_threshold 0.7 -curriculum_window 30 -curriculum_limit 3 -summarize_freq 25 "
    "-check_freq 3"
).split()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_killed_and_resumed(tmp_path: Path) -> None:
    options = [*OPTIONS, "-iterations", "150"]
    main(CopyTask(), "", [*options, "-checkpoint_dir", str(tmp_path / "whole")])
    left = kill_and_resume(tmp_path / "killed", options, kills=3, apart=6, seed=0)
    main(CopyTask(), "", resumed(tmp_path / "killed", options))
    assert left == sorted(left)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


class KilledError(BaseException):
    """The process ends here."""


SHORT = ("-iterations", "9", "-check_freq", "3", "-sequence_max_length", "1")


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(folder, *SHORT)
    return folder


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("step", range(1, 9))
def test_killed_at_each_step_of_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_alone: Path, step: int
) -> None:
    """Of the second and the third checkpoint: metrics, the new file, the old one away, the new."""
    calls: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, _dies(getattr(os, name), name, calls, BEGINNING + 4 + step))
        with pytest.raises(KilledError):
            run(tmp_path, *SHORT)
    assert calls[BEGINNING:][:4] == ["fsync", "fsync", "replace", "replace"]
    main(CopyTask(), "", ["-resume", str(tmp_path / "copy_dnc.pt")])
    assert_same_run(left_alone, tmp_path)


# Files that are made before the first iteration: the checkpoint of iteration 0, the metrics.
BEGINNING = 4


def _dies(function: Callable[..., Any], name: str, calls: list[str], last: int) -> Callable:
    def called(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) >= last:
            raise KilledError
        return function(*arguments)

    return called


def _killed_at(path: Path, call: int, *arguments: str) -> None:
    """A run whose process ends at that renaming of a file."""
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", _dies(os.replace, "replace", calls, call))
        with pytest.raises(KilledError):
            run(path, *arguments)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("call", [1, 2])
def test_killed_while_taking_over_another_folder(tmp_path: Path, call: int) -> None:
    """No checkpoint is left that goes with other metrics; the source is as it was."""
    one, two = tmp_path / "one", tmp_path / "two"
    run(tmp_path / "whole", *SHORT)
    run(one, *SHORT, "-iterations", "6")
    run(two, *SHORT, "-seed", "2")
    source = ("-resume", str(one / "copy_dnc.pt"), *SHORT)
    _killed_at(two, call, *source, "-overwrite")
    assert not list(two.glob("*.pt"))
    run(two, *source)
    assert_same_run(tmp_path / "whole", two)


@pytest.mark.usefixtures("no_pictures")
def test_killed_while_going_back_to_the_checkpoint_before(tmp_path: Path, left_alone: Path) -> None:
    run(tmp_path, *SHORT, "-iterations", "9")
    path = tmp_path / "copy_dnc.pt"
    _killed_at(tmp_path, 2, "-resume", str(before(path)), *SHORT)
    assert not path.exists()  # it had rows that are cut off by now
    run(tmp_path, "-resume", str(path), *SHORT)
    assert_same_run(left_alone, tmp_path)


@pytest.mark.slow
def test_killed_twenty_times_and_resumed(tmp_path: Path) -> None:
    """Shows the iterations at which it went on: `pytest -m slow -s -k twenty`."""
    options = [*OPTIONS, "-iterations", "1500"]
    run_through(tmp_path / "whole", options)
    left = kill_and_resume(tmp_path / "killed", options, kills=20, apart=30, seed=1)
    run_through(tmp_path / "killed", resumed(tmp_path / "killed", options))
    print(f"20 kills; went on from the iterations {left}")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    rows = (tmp_path / "killed" / "copy_dnc.csv").read_bytes().count(b"\n") - 1
    print(f"the same {rows} rows and the same last checkpoint as the run that was left alone")
