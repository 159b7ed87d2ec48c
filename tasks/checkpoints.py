"""Checkpoints: written whole or not at all, and read without unpickling objects."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["load_checkpoint", "save_checkpoint"]

FORMAT = "memcore task checkpoint, version 1"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values.

    What stood there before is replaced only once the new file is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with open(unfinished, "wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def load_checkpoint(path: Path, task: str) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; ends the program with one line if it cannot."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SystemExit(f"-resume {path}: no such file") from None
    except Exception as error:  # whatever bytes a foreign file may hold
        raise SystemExit(
            f"-resume {path}: not a readable checkpoint ({type(error).__name__})"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SystemExit(f"-resume {path}: not a checkpoint of these tasks")
    if content["task"] != task:
        raise SystemExit(f"-resume {path}: a checkpoint of the {content['task']} task, not {task}")
    return content
