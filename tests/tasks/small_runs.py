"""Runs of the copy task that take a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from copy_task import CopyTask
from options import build_parser
from run import Run
from training import main

__all__ = ["SMALL", "run", "run_killed", "train"]

SMALL = (
    "-batch_size 4 -nhid 8 -nhlayer 1 -mem_slot 4 -mem_size 3 -read_heads 1 "
    "-sequence_max_length 3 -summarize_freq 5 -check_freq 4"
).split()


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Train in this process; what the checkpoint then holds."""
    main(CopyTask(), "", [*SMALL, "-checkpoint_dir", str(folder), *arguments])
    return torch.load(folder / "copy_dnc.pt", weights_only=True)


def run_killed(folder: Path, after: int, *arguments: str) -> None:
    """As `run`, but killed once that iteration is done."""
    train_once = Run.train_once

    def dies(self: Run) -> object:
        if self.iteration == after:
            raise KeyboardInterrupt
        return train_once(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "train_once", dies)
        with pytest.raises(SystemExit, match="^stopped; what was saved is still there$"):
            run(folder, *arguments)


def train(*arguments: str) -> Run:
    options = build_parser("").parse_args([*SMALL, *arguments])
    return Run(CopyTask(), options, torch.device("cpu"))
