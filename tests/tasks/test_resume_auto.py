"""-resume auto: goes on from what is there, begins where nothing is, and replaces nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adding_task import AddingTask
from checkpoints import before
from copy_task import CopyTask
from kills import assert_same_run
from small_runs import SMALL, run, run_killed
from training import main

pytestmark = pytest.mark.usefixtures("no_pictures")
AUTO = ("-resume", "auto")
NAME = "copy_dnc.pt"


def test_it_begins_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command, however often it is killed, gives the run that was left alone."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = ("-iterations", "12", "-dropout", "0.2", "-nhlayer", "2", *AUTO)
    run(whole, *command)
    assert "going on" not in capsys.readouterr().out
    run_killed(parts, 6, *command)
    run_killed(parts, 10, *command)
    assert f"going on from iteration 4 of {parts / NAME}" in capsys.readouterr().out
    run(parts, *command)
    assert f"going on from iteration 8 of {parts / NAME}" in capsys.readouterr().out
    assert_same_run(whole, parts)
    run(parts, *command)
    assert "nothing left to train: raise -iterations" in capsys.readouterr().out


def test_it_takes_the_checkpoints_options(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "3", "-nhid", "5", "-lr", "0.25")
    main(CopyTask(), "", ["-checkpoint_dir", str(tmp_path), *AUTO, "-iterations", "4"])
    after = torch.load(tmp_path / NAME, weights_only=True)
    assert (after["iteration"], after["options"]["nhid"], after["options"]["lr"]) == (4, 5, 0.25)


@pytest.mark.parametrize("damaged", [False, True])
def test_the_checkpoint_before(tmp_path: Path, damaged: bool) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, "-iterations", "10")
    run(parts, "-iterations", "10")
    if damaged:
        (parts / NAME).write_bytes((parts / NAME).read_bytes()[:-100])
    else:
        (parts / NAME).unlink()
    run(parts, *AUTO)
    assert_same_run(whole, parts)


@pytest.mark.parametrize("overwrite", [(), ("-overwrite",)])
def test_damaged_checkpoints_are_not_replaced(tmp_path: Path, overwrite: tuple[str, ...]) -> None:
    run(tmp_path, "-iterations", "6")
    for path in (tmp_path / NAME, before(tmp_path / NAME)):
        path.write_bytes(path.read_bytes()[:-100])
    found = {path: path.read_bytes() for path in tmp_path.iterdir()}
    message = r"^-resume .*copy_dnc.pt: not a readable .*; the one before it, copy_dnc.previous.pt"
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, "-iterations", "6", *AUTO, *overwrite)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == found


def test_other_runs_in_the_folder_are_none_of_its(tmp_path: Path) -> None:
    """Of another memory or another task there may be some; each has its own."""
    run(tmp_path, "-iterations", "3")
    found = (tmp_path / NAME).read_bytes()
    sam = [*SMALL, "-checkpoint_dir", str(tmp_path), "-memory_type", "sam", *AUTO]
    main(CopyTask(), "", [*sam, "-iterations", "2"])
    main(AddingTask(), "", [*SMALL, "-checkpoint_dir", str(tmp_path), *AUTO, "-iterations", "1"])
    assert (tmp_path / NAME).read_bytes() == found
    assert torch.load(tmp_path / "copy_sam.pt", weights_only=True)["iteration"] == 2
    (tmp_path / "copy_sam.pt").write_bytes((tmp_path / "adding_dnc.pt").read_bytes())
    before(tmp_path / "copy_sam.pt").unlink()
    with pytest.raises(SystemExit, match=r"copy_sam.pt: a checkpoint of the adding task, not copy"):
        main(CopyTask(), "", sam)


def test_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "-iterations", "3")
    (tmp_path / NAME).rename("auto")
    before(tmp_path / NAME).unlink()
    main(CopyTask(), "", [*SMALL, "-resume", "./auto", "-iterations", "4"])
    assert torch.load(tmp_path / NAME, weights_only=True)["iteration"] == 4
