"""The debug dictionary: what the memory of the first example held at every step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from memcore import MemcoreError

__all__ = ["Trace"]

TRACE_LIMIT = 2**30


class Trace:
    """Collects rows, time-major and then by layer, and makes NumPy arrays of them.

    Args:
        sample: a row as it will be added, to measure.
        rows: how many there will be.

    Raises:
        MemcoreError: the whole would take over 1 GiB.
    """

    def __init__(self, sample: Mapping[str, Tensor], rows: int) -> None:
        total = rows * sum(value.numel() * value.element_size() for value in sample.values())
        if total > TRACE_LIMIT:
            raise MemcoreError(
                f"debug: the trace of {rows} rows would take {total / 2**30:.1f} GiB, over the "
                "1 GiB allowed: pass fewer time steps a call, or set module.debug = False"
            )
        self._rows: dict[str, list[Tensor]] = {name: [] for name in sample}

    def add(self, row: Mapping[str, Tensor]) -> None:
        """Add one row: name → ``[size]``."""
        for name, value in row.items():
            self._rows[name].append(value.detach().clone())

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Name → ``[rows, size]``."""
        return {name: torch.stack(rows).cpu().numpy() for name, rows in self._rows.items()}
