"""Rows that are edited in place and yet are a value: O(rows touched) a step, whatever N is."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import forward_ad

from memcore.errors import (
    MemcoreError,
    check_examples,
    check_flags,
    check_float_dtype,
    check_floats,
    check_size,
    check_slots,
)
from memcore.persistent.row_gradients import (
    Line,
    record_begin,
    record_fork,
    record_read,
    record_write,
)
from memcore.persistent.versions import Buffers, Version, by_example, lazy_zeros

__all__ = ["RowMemory", "SparseWrite"]


class SparseWrite(NamedTuple):
    """A write to a few rows: those in ``erase`` become 0, then row ``index[j]`` gets ``add[j]``."""

    erase: Int[Tensor, "B E"]  # slots in [0, N); repeats allowed
    index: Int[Tensor, "B J"]  # slots in [0, N); repeats add up  # pyright: ignore
    add: Float[Tensor, "B J W"]  # unbounded


class RowMemory:
    """A batch of memories of N rows whose reads and writes cost the rows touched, not N.

    An immutable value: `write` returns the memory after the write, and the one before stays
    what it was. Underneath all versions share one buffer, which the newest edits in place; to
    use an old one the rows in between are put back, or it gets a copy where that is cheaper.
    Autograd differentiates it once (not twice), through any number of versions, branches and
    passes, and keeps a few numbers for each row touched. `filled` does no work for the rows.

    Make one by `filled` or `from_tensor`. Rae et al. 2016, "Scaling Memory-Augmented Neural
    Networks with Sparse Reads and Writes" (arXiv 1610.09027), section 3.4, has the aim; there
    the memory is rolled back step by step.

    >>> memory = RowMemory.filled(torch.zeros(2), batch=1, slots=1_000_000)
    >>> seventh = torch.tensor([[7]])
    >>> written = memory.write(SparseWrite(seventh, seventh, torch.ones(1, 1, 2)))
    >>> written.read(torch.tensor([[7, 8]])).tolist()
    [[[1.0, 1.0], [0.0, 0.0]]]
    >>> memory.read(seventh).tolist()
    [[[0.0, 0.0]]]
    """

    __slots__ = ("_examples", "_line", "_number", "_offsets", "_row", "_token", "_version", "shape")

    shape: torch.Size  # [B, N, W]

    def __init__(self) -> None:
        raise TypeError("RowMemory: expected to be made by RowMemory.filled or from_tensor")

    @classmethod
    def from_tensor(cls, values: Float[Tensor, "B N W"]) -> RowMemory:
        """A memory with the rows of a tensor, which is copied: O(B·N·W).

        Args:
            values: ``[B, N, W]``, unbounded; float32 or float64. Gradients flow back to it.

        Raises:
            TypeError: not a tensor.
            MemcoreError: another rank or dtype, or an empty axis.
        """
        check_floats("values", values, 0)
        _check_reverse_mode()
        if values.dim() != 3 or values.numel() == 0:
            raise MemcoreError(
                f"values: expected shape [B, N, W] with no empty axis, got {list(values.shape)}"
            )
        with torch.inference_mode(False), torch.no_grad():
            buffer = values.clone(memory_format=torch.contiguous_format).view(-1, values.shape[2])
        return cls._first(Version((buffer,)), values.shape, None, values)

    @classmethod
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
        _check_reverse_mode()
        if row.dim() != 1 or row.numel() == 0:
            raise MemcoreError(f"row: expected shape [W], not empty, got {list(row.shape)}")
        shape = torch.Size((check_size("batch", batch), check_size("slots", slots), len(row)))
        recording = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.no_grad():
            # A learned row is kept apart also where it is 0: unwritten rows depend on it.
            learned = row.requires_grad and recording
            constant = row.clone() if learned or row.any() else None
            begin = _begin(shape, row.dtype, row.device, constant)
            version = Version(begin(), begin)
        return cls._first(version, shape, constant, row)

    @classmethod
    def _first(
        cls, version: Version, shape: torch.Size, row: Tensor | None, source: Tensor
    ) -> RowMemory:
        made = object.__new__(cls)
        made.shape = shape
        made._version = version
        made._row = row  # [W], what unwritten rows hold; None: they are 0, or there are none
        made._examples = None  # [B], which of the buffer's examples these are; None: all
        made._offsets = _offsets(torch.arange(shape[0], device=source.device), shape[1])
        if source.requires_grad and torch.is_grad_enabled():
            made._line = Line(shape[2])
            made._token = record_begin(source, made._line)
        else:
            made._line = None
            made._token = source.new_zeros(())
        made._number = 0  # of this version on its line
        return made

    def _replace(self, **changes: Any) -> RowMemory:
        made = object.__new__(RowMemory)
        for name in RowMemory.__slots__:
            setattr(made, name, changes[name] if name in changes else getattr(self, name))
        return made

    @property
    def dtype(self) -> torch.dtype:
        """float32 or float64."""
        return self._token.dtype

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self._token.device

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow back through this memory."""
        return self._token.requires_grad

    def __repr__(self) -> str:
        history = ", requires_grad=True" if self.requires_grad else ""
        return f"RowMemory({list(self.shape)}, {self.dtype}, device={self.device}{history})"

    def read(self, index: Int[Tensor, "B J"]) -> Float[Tensor, "B J W"]:
        """The rows at some slots of each example.

        Args:
            index: ``[B, J]``, int64 or int32, in [0, N); repeats allowed.

        Returns:
            ``[B, J, W]``, a copy.

        Raises:
            TypeError: not a tensor.
            MemcoreError: wrong rank, batch size, dtype, device or, on a CPU, slot.
        """
        return self.read_unchecked(self._slots("index", index))

    def read_unchecked(self, index: Tensor) -> Tensor:
        """`read` for indices ``[B, J]``, int64, that are known to be right."""
        rows = (index + self._offsets).flatten()
        shape = (*index.shape, self.shape[2])
        if self._line is None or not (self._token.requires_grad and torch.is_grad_enabled()):
            return self._gather(rows, shape)
        gather = partial(self._gather, rows, shape)
        return record_read(self._token, self._line, self._number, rows, gather)

    def peek(self, index: Tensor) -> Tensor:
        """`read_unchecked` without history."""
        return self._gather((index + self._offsets).flatten(), (*index.shape, self.shape[2]))

    def _gather(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        data, *written = self._version.read(rows)
        if self._row is not None:
            data = torch.where(written[0].unsqueeze(-1), data, self._row)
        return data.view(shape)

    def write(self, write: SparseWrite) -> RowMemory:
        """The memory after a write; this one stays what it is.

        Args:
            write: what to erase and what to add where; ``add`` in the memory's dtype (under
                autocast it is brought to it).

        Raises:
            TypeError: not a SparseWrite, or not of tensors.
            MemcoreError: wrong rank, size, dtype, device or, on a CPU, slot. Nothing is changed.
        """
        if not isinstance(write, SparseWrite):
            raise TypeError(f"write: expected a SparseWrite, got {type(write).__name__}")
        erase = self._slots("write.erase", write.erase)
        index = self._slots("write.index", write.index)
        add = write.add
        if not isinstance(add, Tensor):
            raise TypeError(f"write.add: expected a torch.Tensor, got {type(add).__name__}")
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
        _check_reverse_mode()
        touched = torch.cat([erased, added])
        values = add.detach().reshape(-1, self.shape[2])

        def change(buffers: Buffers, lost: Buffers) -> None:
            data = buffers[0]
            if self._row is not None:
                before = torch.where(lost[1].unsqueeze(-1), lost[0], self._row)
                data.index_copy_(0, touched, before)
                buffers[1].index_fill_(0, touched, True)
            data.index_fill_(0, erased, 0)
            data.index_add_(0, added, values)

        version = self._version.edit(touched, change)
        line, number, token = self._line, self._number, self._token
        if not ((token.requires_grad or add.requires_grad) and torch.is_grad_enabled()):
            return self._replace(_version=version, _line=None, _number=0, _token=token.detach())
        if line is None or not token.requires_grad:
            line, number = Line(self.shape[2]), 0
        if not line.extend(number):  # another future of this version came first
            parent, line = line, Line(self.shape[2], branch_of=line)
            token, number = record_fork(token, parent, number, line), 0
            line.extend(0)
        token = record_write(token, add, line, number + 1, erased, added)
        return self._replace(_version=version, _line=line, _number=number + 1, _token=token)

    def to_tensor(self) -> Float[Tensor, "B N W"]:
        """All rows, a copy ``[B, N, W]``: O(B·N·W). Gradients flow back."""
        batch, slots, _ = self.shape
        return self.read_unchecked(torch.arange(slots, device=self.device).expand(batch, slots))

    def detach(self) -> RowMemory:
        """The same memory without its history, in O(1); for truncated backpropagation."""
        return self._replace(_line=None, _number=0, _token=self._token.detach())

    def clone(self) -> RowMemory:
        """An equal memory with a buffer of its own, its history shared."""
        return self._replace(_version=self._version.copy())

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

    def to_dict(self) -> dict[str, Tensor]:
        """Plain tensors, without history, that `from_dict` makes the memory of again.

        Returns:
            ``shape`` (B, N, W), ``row [W]`` of which all others are copies, ``written [n]``
            (flat, slot + N · example) and their ``values [n, W]``.
        """
        batch, slots, width = self.shape
        index = self.written()
        own = _offsets(torch.arange(batch, device=self.device), slots)
        row = self._token.new_zeros(width) if self._row is None else self._row.clone()
        # The padding of `written` repeats slots.
        rows, first = _first_of_each((index + own).flatten())
        values = self.peek(index).flatten(0, 1).index_select(0, first)
        shape = torch.tensor(self.shape)
        return {"shape": shape, "row": row.detach(), "written": rows, "values": values}

    @classmethod
    def from_dict(cls, saved: dict[str, Tensor]) -> RowMemory:
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
        if not fits or shape[2:] != row.shape or values.shape != (len(rows), *row.shape):
            raise MemcoreError(
                f"saved: expected row [W], written [n] and values [n, W] for shape {list(shape)}, "
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
            begin = _begin(shape, values.dtype, values.device, constant)
            buffers = begin()
            buffers[0].index_copy_(0, rows, values)
            if constant is not None:
                buffers[1].index_fill_(0, rows, True)
            version = Version(buffers, begin, rows.unique())
        return cls._first(version, shape, constant, row.detach())

    def __copy__(self) -> RowMemory:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> RowMemory:
        """A clone without history."""
        # Of a part of a batch the part only.
        whole = self._examples is None
        return self.detach().clone() if whole else RowMemory.from_dict(self.to_dict())

    def __reduce__(self) -> tuple[Any, ...]:
        return RowMemory.from_dict, (self.to_dict(),)

    def select(self, examples: Int[Tensor, "b"]) -> RowMemory:
        """The memory of some examples of the batch, in the order asked for.

        O(1) as long as none is asked for twice; else a copy.

        Args:
            examples: ``[b]``, int64, in [0, B).

        Raises:
            TypeError: not a tensor.
            MemcoreError: ``examples`` of another rank or dtype, empty, or out of range.
        """
        chosen = check_examples("examples", examples, self.shape[0])
        if len(set(chosen)) == len(chosen):
            return self._viewed(examples)
        view = self._replace(
            shape=torch.Size((len(chosen), *self.shape[1:])), _offsets=self._offsets[examples]
        )
        if not (self.requires_grad and torch.is_grad_enabled()):
            return RowMemory.from_dict(view.to_dict())
        if self._row is not None or self._version.edited() is None:
            return RowMemory.from_tensor(view.to_tensor())
        # All else is 0: rows written are read here and written there.
        index, own = view.written(), _offsets(torch.arange(len(chosen)), self.shape[1])
        rows, first = _first_of_each((index + own.to(index.device)).flatten())
        values = view.read_unchecked(index).flatten(0, 1).index_select(0, first)
        empty = RowMemory.filled(self._token.new_zeros(self.shape[2]), len(chosen), self.shape[1])
        return empty._write(rows[:0], rows, values)

    def narrow(self, count: int) -> RowMemory:
        """The memory of the first ``count`` examples, 1 to B, in O(1)."""
        if not 1 <= check_size("count", count) <= self.shape[0]:
            raise MemcoreError(f"count: expected 1 to {self.shape[0]}, got {count}")
        return self._viewed(slice(0, count))

    def _viewed(self, examples: Tensor | slice) -> RowMemory:
        own = self._examples
        if own is None:
            own = torch.arange(self.shape[0], device=self.device)
        own = own[examples]
        shape = torch.Size((len(own), *self.shape[1:]))
        return self._replace(shape=shape, _examples=own, _offsets=_offsets(own, shape[1]))

    def widen(self, before: RowMemory) -> RowMemory:
        """Undo `select` or `narrow`: all examples of ``before``, those left out as they were.

        Args:
            before: the memory that was narrowed and, by writes only, became this one.
        """
        return self._replace(
            shape=before.shape, _examples=before._examples, _offsets=before._offsets
        )

    def cleared(self, examples: Tensor) -> RowMemory:
        """The memory with all rows of those examples, a bool ``[B]``, set to 0.

        O(rows written) where the memory began as zeros.

        Raises:
            TypeError: not a tensor.
            MemcoreError: not bool, or not ``[B]``.
        """
        check_flags("examples", examples, self.shape[0])
        view = self._viewed(examples)
        slots = view.written() if self._row is None else _all_slots(view)
        rows = (slots + view._offsets).flatten()
        return self._write(rows, rows[:0], self._token.new_zeros(0, self.shape[2]))

    def written(self) -> Int[Tensor, "B P"]:
        """Slots ``[B, P]`` of which all that were ever written are some; repeats possible.

        All slots for a memory made by `from_tensor`.
        """
        edited = self._version.edited()
        if edited is None:
            return _all_slots(self)
        return by_example(edited, self._offsets, self.shape[1])

    def changed_since(self, other: RowMemory) -> Int[Tensor, "B P"] | None:
        """Slots ``[B, P]`` of which all that differ from ``other``'s are some.

        None where the two do not share a history, or to compare all is cheaper.
        """
        rows = self._version.changed_since(other._version)
        return None if rows is None else by_example(rows.unique(), self._offsets, self.shape[1])

    def in_version_of(self, other: RowMemory) -> RowMemory:
        """These examples as they are in the version of ``other``, without history."""
        return self._replace(_version=other._version, _line=None, _token=self._token.detach())

    def same_version(self, other: RowMemory) -> bool:
        """Whether the two are the same version of the same buffer (of whichever examples)."""
        return self._version is other._version

    @property
    def examples(self) -> Tensor | None:
        """Which of the examples that it was made with these are ``[B]``; None: all, in order."""
        return self._examples

    @property
    def initial_row(self) -> Tensor:
        """What rows that were never written hold, ``[W]``, without history."""
        return self._token.detach().expand(self.shape[2]) if self._row is None else self._row

    def _slots(self, name: str, index: object) -> Tensor:
        """``index`` as int64, if it holds slots of each example."""
        check_slots(name, index, self.shape[0], self.shape[1])
        assert isinstance(index, Tensor)
        if index.device != self.device:
            raise MemcoreError(f"{name}: expected device {self.device}, got {index.device}")
        return index.long()


def _check_reverse_mode() -> None:
    if forward_ad._current_level >= 0:
        raise MemcoreError(
            "RowMemory: expected to be differentiated backward, got forward-mode differentiation "
            "(jvp, jacfwd); memcore.erase_and_add and memcore.read have both"
        )


def _begin(
    shape: torch.Size, dtype: torch.dtype, device: torch.device, row: Tensor | None
) -> partial[Buffers]:
    """What makes the buffers of a memory none of whose rows has been written."""
    return partial(_fresh, shape, dtype, device, row is not None)


def _fresh(shape: torch.Size, dtype: torch.dtype, device: torch.device, marked: bool) -> Buffers:
    batch, slots, width = shape
    data = lazy_zeros((batch * slots, width), dtype, device)
    return (data, lazy_zeros((batch * slots,), torch.bool, device)) if marked else (data,)


def _offsets(examples: Tensor, slots: int) -> Tensor:
    return (examples * slots).unsqueeze(1)


def _all_slots(memory: RowMemory) -> Tensor:
    batch, slots, _ = memory.shape
    return torch.arange(slots, device=memory.device).expand(batch, slots)


def _first_of_each(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows, and where each stands."""
    distinct, places = rows.unique(return_inverse=True)
    position = torch.arange(len(rows), device=rows.device)
    return distinct, position.new_zeros(len(distinct)).scatter_(0, places, position)
