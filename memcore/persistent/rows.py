"""Rows that are edited in place and yet are a value: O(rows touched) a step, whatever N is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import (
    MemcoreError,
    check_device,
    check_float_dtype,
    check_floats,
    check_layout,
    check_size,
    check_tensor,
)
from memcore.persistent.buffers import Buffers
from memcore.persistent.row_gradients import (
    Line,
    check_backward_only,
    record_fork,
    record_refill,
    record_write,
)
from memcore.persistent.row_saving import SavableRows, first_of_each
from memcore.persistent.row_views import offsets_of, unwritten
from memcore.persistent.versions import Version
from memcore.sparse_checks import check_flags

__all__ = ["RowMemory", "SparseWrite"]


class SparseWrite(NamedTuple):
    """A write to a few rows: those in ``erase`` become 0, then row ``index[j]`` gets ``add[j]``."""

    erase: Int[Tensor, "B E"]  # slots in [0, N); repeats allowed
    index: Int[Tensor, "B J"]  # slots in [0, N); repeats add up  # pyright: ignore
    add: Float[Tensor, "B J W"]  # unbounded


class RowMemory(SavableRows):
    """A batch of memories of N rows whose reads and writes cost the rows touched, not N.

    An immutable value: `write` returns the memory after the write, and the one before stays
    what it was. Underneath all versions share one buffer, which the newest edits in place; to
    use an old one the rows in between are put back, or it gets a copy where that is cheaper.
    Autograd differentiates it once (not twice), through any number of versions, branches and
    passes, and keeps a few numbers for each row touched. `filled` does no work for the rows.

    Make one by `zeros`, `filled` or `from_tensor`. Rae et al. 2016, "Scaling Memory-Augmented
    Neural Networks with Sparse Reads and Writes" (arXiv 1610.09027), section 3.4, has the aim;
    there the memory is rolled back step by step.

    >>> memory = RowMemory.filled(torch.zeros(2), batch=1, slots=1_000_000)
    >>> seventh = torch.tensor([[7]])
    >>> written = memory.write(SparseWrite(seventh, seventh, torch.ones(1, 1, 2)))
    >>> written.read(torch.tensor([[7, 8]])).tolist()
    [[[1.0, 1.0], [0.0, 0.0]]]
    >>> memory.read(seventh).tolist()
    [[[0.0, 0.0]]]
    """

    __slots__ = ()

    def __init__(self) -> None:
        raise TypeError("RowMemory: expected to be made by RowMemory.zeros, filled or from_tensor")

    @classmethod
    @outside_of_graphs
    def from_tensor(cls, values: Float[Tensor, "B N W"]) -> RowMemory:
        """A memory with the rows of a tensor, which is copied: O(B·N·W).

        Args:
            values: ``[B, N, W]``, unbounded; float32 or float64. Gradients flow back to it.

        Raises:
            TypeError: not a tensor.
            MemcoreError: another rank or dtype, or an empty axis.
        """
        check_floats("values", values, 0)
        check_backward_only()
        if values.dim() != 3 or values.numel() == 0:
            raise MemcoreError(
                f"values: expected shape [B, N, W] with no empty axis, got {list(values.shape)}"
            )
        with torch.inference_mode(False), torch.no_grad():
            buffer = values.clone(memory_format=torch.contiguous_format).view(-1, values.shape[2])
        return cls._first(Version((buffer,)), values.shape, None, values)

    @classmethod
    @outside_of_graphs
    def filled(cls, row: Float[Tensor, "W"], batch: int, slots: int) -> RowMemory:
        """A memory of which every row is ``row``, constant or learned, in O(1).

        Args:
            row: ``[W]``, unbounded; float32 or float64. Its gradient is the sum over the rows.
            batch: B.
            slots: N.

        Raises:
            TypeError: an argument of the wrong type.
            MemcoreError: another rank or dtype, or a size below 1.
        """
        check_floats("row", row, 0)
        check_backward_only()
        if row.dim() != 1 or row.numel() == 0:
            raise MemcoreError(f"row: expected shape [W], not empty, got {list(row.shape)}")
        shape = torch.Size((check_size("batch", batch), check_size("slots", slots), len(row)))
        recording = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.no_grad():
            # A learned row is kept apart also where it is 0: unwritten rows depend on it.
            learned = row.requires_grad and recording
            constant = row.clone() if learned or row.any() else None
        return cls._of_one_row(row, shape, constant)

    @classmethod
    @outside_of_graphs
    def zeros(
        cls,
        batch: int,
        slots: int,
        word_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | int | None = None,
    ) -> RowMemory:
        """A memory of zeros, in O(1) and without a wait for the device.

        Args:
            batch: B.
            slots: N.
            word_size: W.
            dtype: float32 or float64.
            device: PyTorch's convention.

        Raises:
            TypeError: an argument of the wrong type.
            MemcoreError: a size below 1, another dtype, or a device that is not there.
        """
        check_backward_only()
        sizes = {"batch": batch, "slots": slots, "word_size": word_size}
        shape = torch.Size([check_size(name, size) for name, size in sizes.items()])
        check_float_dtype("dtype", dtype)
        check_device("device", device)
        return cls._of_one_row(torch.zeros(word_size, dtype=dtype, device=device), shape, None)

    @classmethod
    def _of_one_row(cls, row: Tensor, shape: torch.Size, constant: Tensor | None) -> RowMemory:
        """Every row is ``row``, which is 0 where there is no ``constant``."""
        with torch.inference_mode(False), torch.no_grad():
            begin = unwritten(shape, row.dtype, row.device, constant)
            version = Version(begin(), begin)
        return cls._first(version, shape, constant, row)

    def __repr__(self) -> str:
        history = ", requires_grad=True" if self.requires_grad else ""
        return f"RowMemory({list(self.shape)}, {self.dtype}, device={self.device}{history})"

    @outside_of_graphs
    def write(self, write: SparseWrite) -> RowMemory:
        """The memory after a write; this one stays what it is.

        Args:
            write: what to erase and what to add where; ``add`` in the memory's dtype (under
                autocast it is brought to it).

        Raises:
            TypeError: not a SparseWrite, or not of tensors.
            MemcoreError: wrong rank, size, dtype, device or, on a CPU, slot. Nothing is changed.
        """
        check_backward_only()
        if not isinstance(write, SparseWrite):
            raise TypeError(f"write: expected a SparseWrite, got {type(write).__name__}")
        erase = self._slots("write.erase", write.erase)
        index = self._slots("write.index", write.index)
        add = write.add
        if not isinstance(add, Tensor):
            raise TypeError(f"write.add: expected a torch.Tensor, got {type(add).__name__}")
        check_layout("write.add", add)
        shape = (*index.shape, self.shape[2])
        if add.shape != shape:
            raise MemcoreError(
                f"write.add: expected shape [B, J, W] = {list(shape)}, got {list(add.shape)}"
            )
        if add.device != self.device:
            raise MemcoreError(
                f"write.add: expected the memory's device {self.device}, got {add.device}"
            )
        if add.is_floating_point() and torch.is_autocast_enabled(add.device.type):
            add = add.to(self.dtype)
        if add.dtype != self.dtype:
            raise MemcoreError(
                f"write.add: expected the memory's dtype {self.dtype}, got {add.dtype}"
            )
        return self.write_unchecked(SparseWrite(erase, index, add))

    def write_unchecked(self, write: SparseWrite) -> RowMemory:
        """`write` for what is known to be right, indices in int64."""
        return self._write(
            (write.erase + self._offsets).flatten(),
            (write.index + self._offsets).flatten(),
            write.add,
        )

    def _write(self, erased: Tensor, added: Tensor, add: Tensor) -> RowMemory:
        check_backward_only()
        touched = torch.cat([erased, added])
        values = add.detach().reshape(-1, self.shape[2])

        def change(buffers: Buffers, lost: Buffers) -> None:
            data = buffers[0]
            if self._row is not None:
                before = torch.where(lost[1].unsqueeze(-1), lost[0], self._initial(touched))
                data.index_copy_(0, touched, before)
                buffers[1].index_fill_(0, touched, True)
            data.index_fill_(0, erased, 0)
            data.index_add_(0, added, values)

        return self._recorded(self._version.edit(touched, change), erased, added, add)

    def rewritten(self, version: Version, rows: Tensor, values: Tensor) -> RowMemory:
        """The memory in a version that somebody else made, in which some flat rows are new.

        Args:
            version: made from that of this memory.
            rows: ``[n]``, distinct, all that differ.
            values: ``[n, W]``, what they hold, for the sake of its history.
        """
        return self._recorded(version, rows, rows, values)

    def in_version(self, version: Version) -> RowMemory:
        """The memory in a version that somebody else made from its own, without history."""
        token = self._token.detach()
        return self._replace(_version=version, _line=None, _number=0, _token=token)

    def _recorded(
        self,
        version: Version,
        erased: Tensor,
        added: Tensor,
        add: Tensor,
        stopped: Callable[[Tensor], Tensor] | None = None,
        record: Callable[..., Tensor] = record_write,
    ) -> RowMemory:
        """The memory after a write, with the history of that; see `record_write`."""
        line, number, token = self._line, self._number, self._token
        if not ((token.requires_grad or add.requires_grad) and torch.is_grad_enabled()):
            return self._replace(_version=version, _line=None, _number=0, _token=token.detach())
        if line is None or not token.requires_grad:
            line, number = Line(self.shape[2]), 0
        if not line.extend(number):  # another future of this version came first
            parent, line = line, Line(self.shape[2], branch_of=line)
            token, number = record_fork(token, parent, number, line), 0
            line.extend(0)
        token = record(token, add, line, number + 1, erased, added, stopped)
        return self._replace(_version=version, _line=line, _number=number + 1, _token=token)

    def _joined(self, before: Any, wide: Any) -> RowMemory:
        # As a write to ``before`` that replaces all rows of these examples by what they hold now.
        rows, values = self._offsets.new_empty(0), self._token.new_empty(0, self.shape[2])
        if self._line is not None:
            begun_anew = self._row is not before._row
            index = None if begun_anew else self.changed_since(before)
            index = self._all_slots() if index is None else index
            rows, first = first_of_each((index + self._offsets).flatten())
            values = self.read_unchecked(index).flatten(0, 1).index_select(0, first)
        joined = before._replace(_row=self._row)
        return joined._recorded(wide.version, rows, rows, values, self._of_these())

    def _of_these(self) -> Callable[[Tensor], Tensor]:
        """Which flat rows are of these examples; nothing of this memory is kept for it."""
        mine, slots = self._offsets.flatten(), self.shape[1]
        return lambda flat: torch.isin(flat - flat % slots, mine)

    @outside_of_graphs
    def cleared(self, examples: Tensor) -> RowMemory:
        """The memory with all rows of those examples, a bool ``[B]``, set to 0.

        O(rows written) where the memory began as equal rows.

        Raises:
            TypeError: not a tensor.
            MemcoreError: not bool, or not ``[B]``.
        """
        check_flags("examples", examples, self.shape[0])
        nothing = self._token.new_zeros(0, self.shape[2])
        if self._row is not None:
            return self._refilled(examples, nothing.new_zeros(self.shape[2]))
        view = self._viewed(examples)
        rows = (view.written() + view._offsets).flatten()
        return self._write(rows, rows[:0], nothing)

    @outside_of_graphs
    def refilled(self, examples: Tensor, row: Float[Tensor, "W"]) -> RowMemory:
        """The memory with those examples begun anew, as `filled` has them; this stays what it is.

        Where the memory began as equal rows it looks at the rows ever written, and changes those
        written since these examples began. Backward it goes over all rows that the pass has read
        or written.

        Args:
            examples: bool ``[B]``.
            row: ``[W]``, in the memory's dtype. Its gradient is the sum over these examples' rows.

        Raises:
            TypeError: not a tensor.
            MemcoreError: another shape, dtype or device. Nothing is changed.
        """
        check_backward_only()
        check_flags("examples", examples, self.shape[0])
        check_tensor("row", row, self.shape[2:], self.dtype, self.device)
        if self._version.edited() is None:
            view = self._viewed(examples)
            rows = (view._all_slots() + view._offsets).flatten()
            return self._write(rows, rows, row.expand(len(rows), self.shape[2]))
        return (self if self._row is not None else self._marked())._refilled(examples, row)

    def _refilled(self, examples: Tensor, row: Tensor) -> RowMemory:
        """`refilled` where marks say which rows were written."""
        view = self._viewed(examples)
        ever = (view.written() + view._offsets).flatten()
        rows = ever[self._version.look(lambda buffers: buffers[1].index_select(0, ever))]

        def change(buffers: Buffers, lost: Buffers) -> None:
            buffers[1].index_fill_(0, rows, False)

        assert self._row is not None
        assert view._examples is not None
        with torch.inference_mode(False), torch.no_grad():
            own = self._row.index_copy(0, view._examples, row.expand(view.shape[0], len(row)))
        none = rows[:0]
        return self._replace(_row=own)._recorded(
            self._version.edit(rows, change), none, none, row, view._of_these(), record_refill
        )

    def _marked(self) -> RowMemory:
        """The same memory of zeros, with marks of the rows written."""
        with torch.inference_mode(False), torch.no_grad():
            rows, (batch, slots, width) = self._version.edited(), self.whole().shape
            assert rows is not None
            shape, own = torch.Size((batch, slots, width)), self._token.new_zeros(batch, width)
            begin = unwritten(shape, self.dtype, self.device, own)
            buffers = begin()
            buffers[0].index_copy_(0, rows, self._version.read(rows)[0])
            buffers[1].index_fill_(0, rows, True)
            version = Version(buffers, begin, rows)
        version.origin = self._version.origin
        return self._replace(_version=version, _row=own)

    @outside_of_graphs
    def to(self, *args: Any, **kwargs: Any) -> RowMemory:
        """The memory in another dtype or on another device, as `torch.Tensor.to`.

        O(rows written) without history, O(B·N·W) with one.
        """
        goal = self._token.to(*args, **kwargs)
        check_float_dtype("dtype", goal.dtype)
        if goal is self._token:
            return self
        if self.requires_grad and torch.is_grad_enabled():
            return RowMemory.from_tensor(self.to_tensor().to(goal.device, goal.dtype))
        saved = self.to_dict()
        for name in ("row", "values"):
            saved[name] = saved[name].to(goal.device, goal.dtype)
        return RowMemory.from_dict(saved)

    def _copied(self) -> RowMemory:
        if not (self.requires_grad and torch.is_grad_enabled()):
            return RowMemory.from_dict(self.to_dict())
        if self._row is not None or self._version.edited() is None:
            return RowMemory.from_tensor(self.to_tensor())
        # All else is 0: rows written are read here and written there.
        batch, slots, width = self.shape
        index, own = self.written(), offsets_of(torch.arange(batch, device=self.device), slots)
        rows, first = first_of_each((index + own).flatten())
        values = self.read_unchecked(index).flatten(0, 1).index_select(0, first)
        empty = RowMemory.zeros(batch, slots, width, dtype=self.dtype, device=self.device)
        return empty._write(rows[:0], rows, values)
