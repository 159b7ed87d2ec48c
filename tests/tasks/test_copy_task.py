"""The copy task: its data, its metric, and the script as its users type it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from copy_task import CopyTask
from options import build_parser
from small_runs import SMALL
from training import main

SCRIPT = Path(__file__).parents[2] / "tasks" / "copy_task.py"


def test_what_a_batch_holds() -> None:
    options = build_parser("").parse_args(["-input_size", "4"])
    input, target = CopyTask().batch(options, (3,), 2, torch.Generator().manual_seed(0))
    assert input.shape == (2, 7, 4)
    assert target.shape == (2, 3, 3)
    assert torch.equal(input[:, :3, :-1], target)
    assert set(target.unique().tolist()) == {0, 1}
    flags = input[:, :, -1]
    assert flags[:, 3].all()
    assert flags.sum() == 2
    assert not input[:, 4:].any()
    assert not input[:, 3, :-1].any()


def test_error_counts_wrong_bits_of_the_last_steps() -> None:
    task = CopyTask()
    target = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    logits = torch.tensor([[[9.0, 9.0], [-9, 9], [9, 9], [5, -5], [5, 5]]])
    assert task.score(logits, target) == (0,)
    assert task.score(-logits, target) == (1,)
    logits[0, -1, 0] *= -1
    assert task.score(logits, target) == (0.25,)
    assert task.loss(logits, target) > 1


def test_the_script_as_typed(tmp_path: Path) -> None:
    """Summary, checkpoint, generalization and picture, in a process of its own."""
    command = [sys.executable, "-W", "error", str(SCRIPT), *SMALL]
    command += ["-iterations", "10", "-tensorboard"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "iteration 10: loss 0." in done.stdout
    assert "bit error by length (trained up to 3), of " in done.stdout
    assert "length    6:" in done.stdout
    checkpoint = torch.load(tmp_path / "checkpoints" / "copy_dnc.pt", weights_only=True)
    assert checkpoint["iteration"] == 10
    picture = tmp_path / "checkpoints" / "copy_dnc.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("checkpoints/*.unfinished"))


@pytest.mark.parametrize("memory", ["sam", "sdnc", "dam"])
def test_the_other_memories(
    tmp_path: Path, memory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, saved, resumed and drawn as the DNC is."""
    folder = ["-checkpoint_dir", str(tmp_path)]
    main(CopyTask(), "", [*SMALL, *folder, "-memory_type", memory, "-iterations", "6"])
    printed = capsys.readouterr().out
    note = "-sparse_reads 10 is more than there are slots: reduced to 4"
    assert (note in printed) == (memory != "dam")
    path = tmp_path / f"copy_{memory}.pt"
    assert path.with_suffix(".png").exists()
    main(CopyTask(), "", ["-resume", str(path), "-iterations", "10"])
    assert torch.load(path, weights_only=True)["iteration"] == 10
