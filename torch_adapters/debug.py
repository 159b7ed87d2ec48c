"""The debug dictionary: what the memory of one example held at every step."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from memcore import MemcoreError

__all__ = ["Trace", "check_debug", "example_of"]

TRACE_LIMIT = 2**30


def check_debug(debug: object) -> bool | int:
    """``debug`` as a bool or an int.

    Raises:
        TypeError: neither of them.
        MemcoreError: a number below 0.
    """
    if isinstance(debug, bool):
        return debug
    if not isinstance(debug, Integral):
        raise TypeError(
            f"debug: expected a bool or the number of an example, got {type(debug).__name__}"
        )
    if int(debug) < 0:
        raise MemcoreError(
            f"debug: expected a bool or the number of an example, from 0, got {int(debug)}"
        )
    return int(debug)


def example_of(debug: bool | int, batch_size: int) -> int | None:
    """Which example of so many ``debug`` asks for; None: none.

    The type decides: 0 is the first example, as True is, and False is none.

    Raises:
        MemcoreError: there is none of that number.
    """
    if isinstance(debug, bool):
        return 0 if debug else None
    if debug >= batch_size:
        raise MemcoreError(
            f"debug: expected the number of an example below the batch size {batch_size}, "
            f"got {debug}"
        )
    return debug


class Trace:
    """Collects rows, time-major and then by layer, and makes NumPy arrays of them.

    Args:
        sample: a row as it will be added, to measure.
        rows: how many there will be.
        example: of which example they are, counted as the batch was given.

    Raises:
        MemcoreError: the whole would take over 1 GiB.
    """

    def __init__(self, sample: Mapping[str, Tensor], rows: int, example: int = 0) -> None:
        total = rows * sum(value.numel() * value.element_size() for value in sample.values())
        if total > TRACE_LIMIT:
            raise MemcoreError(
                f"debug: the trace of {rows} rows would take {total / 2**30:.1f} GiB, over the "
                "1 GiB allowed: pass fewer time steps a call, or set module.debug = False"
            )
        self.example = example
        self._rows: dict[str, list[Tensor]] = {name: [] for name in sample}

    def add(self, row: Mapping[str, Tensor]) -> None:
        """Add one row: name → ``[size]``."""
        for name, value in row.items():
            self._rows[name].append(value.detach().clone())

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Name → ``[rows, size]``."""
        return {name: torch.stack(rows).cpu().numpy() for name, rows in self._rows.items()}
