"""Several seeds by one command: a table, and going on where it was interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

import script_runs
import sweep
import training
from copy_task import CopyTask
from kills import assert_same_run
from several import TASKS
from small_runs import SMALL, run, run_killed

TASK = ("-iterations", "12", "-test_size", "5")


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch, no_pictures: None) -> None:
    """Processes take seconds to start. What is asked of a device that is not there fails."""

    def run(command: list[str], **_: Any) -> CompletedProcess[str]:
        if "99" in command:
            return CompletedProcess(command, 1)
        training.main(CopyTask(), "", command[2:])
        return CompletedProcess(command, 0)

    monkeypatch.setattr(script_runs.subprocess, "run", run)


def swept(out: Path, *arguments: str) -> None:
    sweep.main(["copy_task.py", "-jobs", "1", "-out", str(out), *arguments])


def rows(said: str) -> list[list[str]]:
    return [line.split() for line in said.splitlines() if line.split()[0].isdigit()]


@pytest.mark.usefixtures("_in_this_process")
def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept(tmp_path, "-seeds", "3", "5", "3", "--", *SMALL, *TASK)
    said = capsys.readouterr().out
    header = "seed  iterations  solved  minutes  level  bit error  bit error at twice that"
    assert header in said.splitlines()
    assert [row[:3] for row in rows(said)] == [[seed, "12", "no"] for seed in "35"]
    assert {row[4] for row in rows(said)} == {"3"}
    values = [float(value) for row in rows(said) for value in row[5:]]
    assert len(values) == len(set(values)) == 4
    assert all(0.3 < value < 0.7 for value in values)
    (tmp_path / "3" / "minutes").write_text("1\n2.02\n")
    capsys.readouterr()
    swept(tmp_path, "-seeds", "3", "--", *SMALL, *TASK)
    ((*_, minutes, _, one, other),) = rows(capsys.readouterr().out)
    assert (minutes, float(one), float(other)) == ("3.0", *values[:2])


@pytest.mark.usefixtures("_in_this_process")
def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    run(tmp_path / "whole", *TASK, "-seed", "1")
    run_killed(tmp_path / "1", 7, *TASK, "-seed", "1")
    swept(tmp_path, "-seeds", "1", "--", *SMALL, *TASK)
    assert_same_run(tmp_path / "whole", tmp_path / "1")


@pytest.mark.usefixtures("_in_this_process")
def test_seeds_that_fail_name_their_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are in the table nevertheless."""
    with pytest.raises(SystemExit) as failed:
        swept(tmp_path, "-seeds", "1", "99", "--", *SMALL, *TASK)
    assert str(failed.value) == f"seed 99: {tmp_path / '99' / 'log'}: ended with 1"
    found = rows(capsys.readouterr().out)
    assert found[0][:2] == ["1", "12"]
    assert found[1] == ["99", "failed", *"-----"]


@pytest.mark.usefixtures("_in_this_process")
def test_seeds_of_one_table_have_the_same_options(tmp_path: Path) -> None:
    """But for those that train longer or test more; all are looked at before one is trained."""
    swept(tmp_path, "-seeds", "1", "--", *SMALL, *TASK, "-lr", "0.01")
    with pytest.raises(SystemExit, match=r"^seed 1: .*1 holds .* -lr 0.01 \(here 0.1\): move"):
        swept(tmp_path, "-seeds", "1", "--", *SMALL, *TASK, "-lr", "0.1")
    with pytest.raises(SystemExit, match=r"^seed 1: .*1 holds .* -lr 0.01 \(here 0.0001\): "):
        swept(tmp_path, "-seeds", "1", "--", *SMALL, *TASK)  # which is the default
    more = ("-iterations", "14", "-test_size", "6", "-summarize_freq", "4")
    swept(tmp_path, "-seeds", "1", "--", *SMALL, *more, "-lr", "0.01")
    assert b"\n14," in (tmp_path / "1" / "copy_dnc.csv").read_bytes()


@pytest.mark.usefixtures("_in_this_process")
def test_the_others_are_trained_nevertheless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(tmp_path, "-seeds", "1", "--", *SMALL, *TASK)
    capsys.readouterr()
    with pytest.raises(SystemExit, match=r"^seed 1: .* -lr 0.0001 \(here 0.1\): [^\n]*$"):
        swept(tmp_path, "-seeds", "0", "1", "--", *SMALL, *TASK, "-lr", "0.1")
    said = capsys.readouterr().out
    assert said.index("seed 1: failed") < said.index("seed 0: trained")
    assert [row[:2] for row in rows(said)] == [["0", "12"], ["1", "failed"]]


@pytest.mark.usefixtures("_in_this_process")
def test_more_iterations_are_another_run_where_the_rate_falls_with_them(tmp_path: Path) -> None:
    falls = ("-scheduler", "cosine")
    swept(tmp_path, "-seeds", "1", "--", *SMALL, *TASK, *falls)
    with pytest.raises(SystemExit, match=r"^seed 1: .* -iterations 12 \(here 14\): "):
        swept(tmp_path, "-seeds", "1", "--", *SMALL, *TASK, *falls, "-iterations", "14")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("copy", "argument task: expected one of adding_task, argmax_task,"),
        ("copy_task.py -seeds -1", "argument -seeds: expected at least 0"),
        ("copy_task.py -jobs 0", "argument -jobs: expected at least 1"),
        ("copy_task.py -- -lr x", "argument -lr/--lr: invalid float value: 'x'"),
        ("copy_task.py -- -seed 3", "-seed is not for the task: each seed is given its own"),
        ("copy_task.py -- --resume=auto", "--resume=auto is not for the task"),
    ],
)
def test_wrong_commands(
    tmp_path: Path, arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        sweep.main([*arguments.split()])
    assert message in capsys.readouterr().err


def test_each_script_has_its_task() -> None:
    for script in TASKS.glob("*_task.py"):
        assert f"{sweep._task(str(script)).name}_task.py" == script.name


@pytest.mark.slow
def test_the_command_interrupted(tmp_path: Path) -> None:
    """As typed, with Ctrl-C, which goes to the children too."""
    long = ("-iterations", "400", "-train_on", "-test_size", "5")
    command = [sys.executable, "-W", "error", str(TASKS / "sweep.py"), "tasks/copy_task.py"]
    command += ["-seeds", "0", "1", "2", "-out", str(tmp_path), "--", *SMALL, *long]
    first = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while not all((tmp_path / seed / "copy_dnc.previous.pt").exists() for seed in "01"):
        assert first.poll() is None
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGINT)
    assert first.communicate(timeout=60)[1] == "stopped; the same command goes on\n"
    assert not (tmp_path / "2").exists()
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [row[:2] for row in rows(again.stdout)] == [[seed, "400"] for seed in "012"]
    assert "going on from iteration" in (tmp_path / "0" / "log").read_text()
    run(tmp_path / "whole", *long, "-seed", "1")
    assert_same_run(tmp_path / "whole", tmp_path / "1")
