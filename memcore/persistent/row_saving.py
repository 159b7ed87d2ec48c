"""Rows taken apart into plain tensors and made again: saving, loading, copies, pickles.

Only rows that were written are taken, where the memory began as equal rows.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import MemcoreError, check_floats
from memcore.persistent.row_views import RowViews, offsets_of, unwritten
from memcore.persistent.versions import Version

__all__ = ["SavableRows", "first_of_each"]

# Not typing.Self: what checks the types of the functions in tests knows no classes.
# ruff: noqa: PYI019
Own = TypeVar("Own", bound="SavableRows")


class SavableRows(RowViews):
    """What `memcore.persistent.rows.RowMemory` has to be saved, loaded and copied."""

    __slots__ = ()

    @outside_of_graphs
    def to_dict(self) -> dict[str, Tensor]:
        """Plain tensors, without history, that `from_dict` makes the memory of again.

        Returns:
            ``shape`` (B, N, W), ``row``, of which all others are copies, ``[W]``, or ``[B, W]``
            where each example has one of its own, ``written [n]`` (flat, slot + N · example) and
            their ``values [n, W]``.
        """
        batch, slots, _ = self.shape
        index = self.written()
        own = offsets_of(torch.arange(batch, device=self.device), slots)
        own_rows = self.initial_rows
        same = bool((own_rows == own_rows[:1]).all())
        row = (own_rows[0] if same else own_rows).clone()
        # The padding of `written` repeats slots.
        rows, first = first_of_each((index + own).flatten())
        values = self.peek(index).flatten(0, 1).index_select(0, first)
        shape = torch.tensor(self.shape)
        return {"shape": shape, "row": row.detach(), "written": rows, "values": values}

    @classmethod
    @outside_of_graphs
    def from_dict(cls: type[Own], saved: dict[str, Tensor]) -> Own:
        """The memory that `to_dict` took apart, on the device of its values.

        Raises:
            MemcoreError: a key is missing, or sizes do not agree.
        """
        keys = ("shape", "row", "written", "values")
        if not isinstance(saved, dict) or not all(isinstance(saved.get(k), Tensor) for k in keys):
            raise MemcoreError(f"saved: expected a dict of tensors {', '.join(keys)}")
        shape, row, values = torch.Size(saved["shape"].tolist()), saved["row"], saved["values"]
        rows = saved["written"].to(values.device)
        check_floats("saved['values']", values, 0)
        if rows.dtype != torch.int64:
            raise MemcoreError(f"saved['written']: expected dtype int64, got {rows.dtype}")
        fits = len(shape) == 3 and min(shape) > 0 and rows.dim() == 1
        fits = fits and row.shape in (shape[2:], (shape[0], shape[2]))
        if not fits or values.shape != (len(rows), shape[2]):
            raise MemcoreError(
                f"saved: expected row [W] or [B, W], written [n] and values [n, W] for shape "
                f"{list(shape)}, "
                f"got {list(row.shape)}, {list(rows.shape)} and {list(values.shape)}"
            )
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < shape[0] * shape[1]:
            raise MemcoreError(
                f"saved['written']: expected rows in [0, {shape[0] * shape[1]}), "
                f"got {int(rows.min())} to {int(rows.max())}"
            )
        with torch.inference_mode(False), torch.no_grad():
            row = row.to(values.device, values.dtype)
            constant = row.clone() if row.any() else None
            begin = unwritten(shape, values.dtype, values.device, constant)
            buffers = begin()
            buffers[0].index_copy_(0, rows, values)
            if constant is not None:
                buffers[1].index_fill_(0, rows, True)
            version = Version(buffers, begin, rows.unique())
        return cls._first(version, shape, constant, row.detach())

    @outside_of_graphs
    def clone(self: Own) -> Own:
        """An equal memory with a buffer of its own, its history shared."""
        return self._replace(_version=self._version.copy())

    def __copy__(self: Own) -> Own:
        return self

    def __deepcopy__(self: Own, memo: dict[int, Any]) -> Own:
        """A clone without history."""
        # Of a part of a batch the part only.
        whole = self._examples is None
        return self.detach().clone() if whole else type(self).from_dict(self.to_dict())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)


def first_of_each(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows, and where each stands."""
    distinct, places = rows.unique(return_inverse=True)
    position = torch.arange(len(rows), device=rows.device)
    return distinct, position.new_zeros(len(distinct)).scatter_(0, places, position)
