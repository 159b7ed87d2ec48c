"""What is measured while training: averages for people, a CSV file, TensorBoard."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from checkpoints import write_whole
from memcore.errors import how_to_install

__all__ = ["Averages", "MetricsFile", "Row", "Sink", "TensorBoard", "read_metrics"]


class Row(NamedTuple):
    """What one iteration gave."""

    iteration: int  # from 1
    length: int
    loss: float
    scores: tuple[float, ...]
    learning_rate: float
    level: int  # the longest sequence that could have been drawn


class Sink(Protocol):
    """Where rows go."""

    def add(self, row: Row) -> None:
        """Take a row, perhaps into a buffer."""
        ...

    def flush(self) -> None:
        """Put all rows where a killed process does not lose them."""
        ...

    def close(self) -> None:
        """Take no more rows."""
        ...


class Averages:
    """Means of the loss and the scores since they began anew."""

    def __init__(self, scores: int) -> None:
        self._count, self._sums = 0, [0.0] * (1 + scores)

    def add(self, row: Row) -> None:
        """Take a row."""
        self._count += 1
        self._sums = [
            total + value for total, value in zip(self._sums, (row.loss, *row.scores), strict=True)
        ]

    def take(self) -> tuple[float, ...]:
        """The means, loss first; they begin anew."""
        means = tuple(total / self._count for total in self._sums)
        self.__init__(len(self._sums) - 1)
        return means

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"count": self._count, "sums": self._sums}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._count, self._sums = saved["count"], list(saved["sums"])


class MetricsFile:
    """A CSV file with one row for each iteration."""

    def __init__(
        self,
        path: Path,
        scores: Sequence[str],
        iteration: int = 0,
        earlier: Path | None = None,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin the file, or go on with it after that iteration.

        Args:
            path: where it is; the rows of iterations still to come are cut off.
            scores: the names of the scores.
            iteration: the last of which the rows are to stay.
            earlier: the file that has these rows; None: the same.
            ready: called once the rows are on the disk, before they replace what is there.
        """
        header = _line(("iteration", "length", "loss", *scores, "learning rate", "level"))
        rows = _rows_until(iteration, earlier or path, header) if iteration else b""
        write_whole(path, header + rows, ready)
        self._path = path
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115

    def add(self, row: Row) -> None:
        """Take a row into the buffer."""
        self._write(lambda: self._file.write(_line(_flat(row)).decode()))

    def flush(self) -> None:
        """Put all rows on the disk."""
        self._write(lambda: (self._file.flush(), os.fsync(self._file.fileno())))

    def close(self) -> None:
        """Write what is left."""
        self._write(self._file.close)

    def _write(self, action: Any) -> None:
        try:
            action()
        except OSError as error:
            raise SystemExit(f"{self._path}: {error.strerror or error}") from None


def _flat(row: Row) -> tuple[float, ...]:
    return (row.iteration, row.length, row.loss, *row.scores, row.learning_rate, row.level)


def _line(values: Sequence[Any]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)  # floats such that they read the same
    return line.getvalue().encode()


def _rows_until(iteration: int, path: Path, header: bytes) -> bytes:
    """The whole rows up to that iteration; a row that a killed process left half is not."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        found = header
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror or error}") from None
    if not found.startswith(header):
        raise SystemExit(f"{path}: not the metrics of this task; move it away to go on")
    kept, last = [], 0
    for line in found[len(header) :].splitlines(keepends=True):
        number = _number(line, header.count(b","))
        if number is None or number > iteration or number <= last:
            break
        kept.append(line)
        last = number
    if last != iteration or len(kept) != iteration:
        print(f"{path}: has {len(kept)} of the {iteration} rows so far; the others are lost")
    return b"".join(kept)


def _number(line: bytes, commas: int) -> int | None:
    """The iteration of a whole row, or None."""
    number, *others = line.split(b",")
    try:
        [float(value) for value in others]
    except ValueError:
        return None
    whole = line.endswith(b"\n") and len(others) == commas and number.isdigit()
    return int(number) if whole else None


def read_metrics(path: Path) -> dict[str, np.ndarray]:
    """The columns of a metrics file by name."""
    with open(path, encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    values = np.array(rows, dtype=float).reshape(len(rows), len(names))
    return dict(zip(names, values.T, strict=True))


class TensorBoard:
    """The same rows as scalars for TensorBoard, and pictures of the memory."""

    def __init__(self, writer: Any, scores: Sequence[str]) -> None:
        self._writer, self._scores = writer, scores

    @classmethod
    def open(cls, folder: Path, scores: Sequence[str], iteration: int) -> TensorBoard | None:
        """Go on after that iteration; or None and one line that says why not."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TensorBoard's own, at its import
                from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print(
                f"-tensorboard: tensorboard is not installed ({how_to_install('viz')}), "
                "training goes on without it"
            )
            return None
        return cls(SummaryWriter(str(folder), purge_step=iteration + 1), scores)

    def add(self, row: Row) -> None:
        """Take a row into the buffer."""
        scalars = {
            "loss": row.loss,
            **dict(zip(self._scores, row.scores, strict=True)),
            "learning rate": row.learning_rate,
            "level": row.level,
        }
        for name, value in scalars.items():
            self._writer.add_scalar(name.replace(" ", "_"), value, row.iteration)

    def add_picture(self, picture: np.ndarray, iteration: int) -> None:
        """Take a picture of the memory, uint8 ``[height, width, 3]``."""
        # Not `add_figure`, which imports pyplot.
        self._writer.add_image("memory", picture, iteration, dataformats="HWC")

    def flush(self) -> None:
        """Write the event file."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
