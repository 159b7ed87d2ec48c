"""Checkpoints: written whole or not at all, and read without unpickling objects."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import torch

__all__ = [
    "Before", "before", "checkpoint_path", "load_checkpoint", "save_checkpoint", "write_whole",
]  # fmt: skip

KIND = "memcore task checkpoint, version "
FORMAT = KIND + "2"
PARTS: dict[str, type | tuple[type, ...]] = {
    "task": str,
    "options": dict,
    "iteration": int,
    "solved": bool,
    "goal": (int, type(None)),
    "model": dict,
    "optimizer": dict,
    "scheduler": dict,
    "curriculum": dict,
    "averages": dict,
    "data": torch.Tensor,
    "random": torch.Tensor,
}


class Before(Enum):
    """What becomes of the file that a checkpoint replaces, and of the one before that."""

    ROTATE = "it becomes the one before"
    KEEP = "it is dropped, the one before stays"
    DROP = "both are dropped"


class _RefusedError(Exception):
    """A checkpoint that cannot be gone on from, and why."""


def checkpoint_path(folder: Path, task: str, memory_type: str) -> Path:
    """Where a run of that task and that memory keeps its checkpoint."""
    return folder / f"{task}_{memory_type}.pt"


def before(path: Path) -> Path:
    """Where the checkpoint before the one at ``path`` is."""
    return path.with_suffix(".previous.pt")


def write_whole(path: Path, content: bytes, ready: Callable[[], None] = lambda: None) -> None:
    """Write a file, or leave what stood there; ends the program with one line if it cannot.

    ``ready`` is called once the content is on the disk, before it takes its place.
    """
    try:
        unfinished = _unfinished(path, content)
        ready()
        os.replace(unfinished, path)
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror or error}") from None


def _unfinished(path: Path, content: bytes) -> Path:
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with open(unfinished, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return unfinished


def save_checkpoint(path: Path, content: dict[str, Any], then: Before = Before.ROTATE) -> None:
    """Write a dictionary of tensors and plain values.

    Whenever the process is killed, a whole checkpoint is at ``path`` or at ``before(path)``, if one
    was at ``path``. Ends the program with one line if it cannot be written.

    Args:
        path: where it goes.
        content: what it holds.
        then: what becomes of the checkpoints that are there.
    """
    whole = io.BytesIO()  # the disk then fails with an OSError, not with one of torch
    try:
        torch.save({"format": FORMAT, **content}, whole)
        unfinished = _unfinished(path, whole.getvalue())
        if then is Before.ROTATE and path.exists():
            os.replace(path, before(path))
        elif then is Before.DROP:
            before(path).unlink(missing_ok=True)
        os.replace(unfinished, path)
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror or error}; no checkpoint was written") from None


def load_checkpoint(path: Path, task: str, option: str = "-resume ") -> tuple[Path, dict[str, Any]]:
    """Read what `save_checkpoint` wrote, or else the one before it.

    Args:
        path: of the file.
        task: that it must be of.
        option: what named the path, for messages.

    Returns:
        Which file it was and what it holds; ends the program with one line if neither can be used.
    """
    try:
        return path, _read(path, task)
    except _RefusedError as refused:
        reason = refused
    if path.suffix != ".pt":  # of a name that is mistyped there is no checkpoint before it
        raise SystemExit(f"{option}{path}: {reason}")
    second = before(path)
    try:
        content = _read(second, task)
    except _RefusedError as refused:
        also = f"; the one before it, {second.name}: {refused}" if second.exists() else ""
        raise SystemExit(f"{option}{path}: {reason}{also}") from None
    print(f"{option}{path}: {reason}; taking the one before it, {second}")
    return second, content


def _read(path: Path, task: str) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:  # whose sums torch does not check
            if (part := archive.testzip()) is not None:
                raise zipfile.BadZipFile(part)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise _RefusedError(str(error.strerror).lower()) from None
    except Exception as error:  # whatever bytes a foreign file may hold
        raise _RefusedError(f"not a readable checkpoint ({type(error).__name__})") from None
    found = content.get("format") if isinstance(content, dict) else None
    if not isinstance(found, str) or not found.startswith(KIND):
        raise _RefusedError("not a checkpoint of these tasks")
    if found != FORMAT:
        raise _RefusedError(f"a {found}, of which this program reads only version 2")
    if content.get("task") != task:
        raise _RefusedError(f"a checkpoint of the {content.get('task')} task, not {task}")
    for name, kind in PARTS.items():
        if name not in content or not isinstance(content[name], kind):
            raise _RefusedError(f"not a whole checkpoint, its {name} is missing or damaged")
    for name in ("iteration", "goal"):
        number = content[name]
        if isinstance(number, bool) or (number is not None and not 0 <= number < 2**31):
            raise _RefusedError(f"not a whole checkpoint, its {name} is {number}")
    return content
