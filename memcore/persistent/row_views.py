"""A batch of rows looked at: reading, parts of the batch, and what differs between versions.

The base of `memcore.persistent.rows.RowMemory`. Which examples it holds is a matter of where each
begins in the buffers, so that a part of a batch is a view.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import MemcoreError, check_size
from memcore.persistent.buffers import Buffers, by_example, lazy_zeros
from memcore.persistent.row_gradients import Line, record_begin, record_read
from memcore.persistent.versions import Version
from memcore.sparse_checks import check_examples, check_narrowed, check_slots

__all__ = ["RowViews", "offsets_of", "unwritten"]

# Not typing.Self: what checks the types of the functions in tests knows no classes.
# ruff: noqa: PYI019
Own = TypeVar("Own", bound="RowViews")


class RowViews:
    """What can be asked of a batch of memories of N rows without changing a row.

    A subclass says how rows begin and change, and makes copies.
    """

    __slots__ = ("_examples", "_line", "_number", "_offsets", "_row", "_token", "_version", "shape")

    shape: torch.Size  # [B, N, W]
    _version: Version
    # What unwritten rows of each of the buffer's examples hold, [·, W]; None: 0, or there are none.
    _row: Tensor | None
    _examples: Tensor | None  # [B], which of the buffer's examples these are; None: all
    _offsets: Tensor  # [B, 1], where the rows of each example begin in the buffers
    _line: Line | None  # the history that gradients flow through; None: there is none
    _number: int  # of this version on its line
    _token: Tensor  # [], by which autograd knows the order of reads and writes

    @classmethod
    def _first(
        cls: type[Own], version: Version, shape: torch.Size, row: Tensor | None, source: Tensor
    ) -> Own:
        made = object.__new__(cls)
        made.shape = shape
        made._version = version
        made._row = row if row is None else row.expand(shape[0], shape[2])
        made._examples = None
        made._offsets = offsets_of(torch.arange(shape[0], device=source.device), shape[1])
        if source.requires_grad and torch.is_grad_enabled():
            made._line = Line(shape[2])
            made._token = record_begin(source, made._line)
        else:
            made._line = None
            made._token = source.new_zeros(())
        made._number = 0
        return made

    def _replace(self: Own, **changes: Any) -> Own:
        made = object.__new__(type(self))
        for name in RowViews.__slots__:
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

    @outside_of_graphs
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

    @property
    def version(self) -> Version:
        """What is edited in place underneath: buffers of flat rows, and marks of those written."""
        return self._version

    @property
    def offsets(self) -> Tensor:
        """Where the flat rows of each example begin, ``[B, 1]``."""
        return self._offsets

    @property
    def marked_rows(self) -> Tensor | None:
        """What rows hold that no mark says were written, ``[B, W]``; None: rows begin as zeros."""
        if self._row is None or self._examples is None:
            return self._row
        return self._row[self._examples]

    def recorded(self, rows: Tensor, values: Tensor) -> Tensor:
        """``values [n, W]`` of flat rows, with the history of having been read there."""
        if self._line is None or not (self._token.requires_grad and torch.is_grad_enabled()):
            return values
        return record_read(self._token, self._line, self._number, rows, lambda: values)

    def peek(self, index: Tensor) -> Tensor:
        """`read_unchecked` without history."""
        return self._gather((index + self._offsets).flatten(), (*index.shape, self.shape[2]))

    def _gather(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        data, *written = self._version.read(rows)
        if self._row is not None:
            data = torch.where(written[0].unsqueeze(-1), data, self._initial(rows))
        return data.view(shape)

    def _initial(self, rows: Tensor) -> Tensor:
        """What flat rows ``[n]`` hold where they are unwritten, ``[n, W]``."""
        assert self._row is not None
        return self._row.index_select(0, rows // self.shape[1])

    @outside_of_graphs
    def to_tensor(self) -> Float[Tensor, "B N W"]:
        """All rows, a copy ``[B, N, W]``: O(B·N·W). Gradients flow back."""
        return self.read_unchecked(self._all_slots())

    @outside_of_graphs
    def detach(self: Own) -> Own:
        """The same memory without its history, in O(1); for truncated backpropagation."""
        return self._replace(_line=None, _number=0, _token=self._token.detach())

    @outside_of_graphs
    def select(self: Own, examples: Int[Tensor, "b"]) -> Own:
        """The memory of some examples of the batch, in the order asked for.

        O(1) as long as none is asked for twice; else a copy.

        Args:
            examples: ``[b]``, int64, in [0, B).

        Raises:
            TypeError: not a tensor.
            MemcoreError: ``examples`` of another rank or dtype, empty, or out of range.
        """
        chosen = check_examples("examples", examples, self.shape[0])
        view = self._viewed(examples)
        return view if len(set(chosen)) == len(chosen) else view._copied()

    def _copied(self: Own) -> Own:
        """The same rows in a buffer of their own; an example may stand here several times."""
        raise NotImplementedError

    @outside_of_graphs
    def narrow(self: Own, count: int) -> Own:
        """The memory of the first ``count`` examples, 1 to B, in O(1)."""
        if not 1 <= check_size("count", count) <= self.shape[0]:
            raise MemcoreError(f"count: expected 1 to {self.shape[0]}, got {count}")
        return self._viewed(slice(0, count))

    def _viewed(self: Own, examples: Tensor | slice) -> Own:
        own = self._examples
        if own is None:
            own = torch.arange(self.shape[0], device=self.device)
        own = own[examples]
        shape = torch.Size((len(own), *self.shape[1:]))
        return self._replace(shape=shape, _examples=own, _offsets=offsets_of(own, shape[1]))

    @outside_of_graphs
    def widen(self: Own, before: Own) -> Own:
        """Undo `select` or `narrow`: all examples of ``before``, those left out as they were.

        Those left out keep their history too where these have lost theirs, by `detach` or under
        ``torch.no_grad``.

        Args:
            before: the memory that was narrowed and, by writes only, became this one.

        Raises:
            TypeError: ``before`` is not a RowMemory.
            MemcoreError: this is no part of it.
        """
        check_narrowed("before", self, before)
        wide = self._replace(
            shape=before.shape, _examples=before._examples, _offsets=before._offsets
        )
        old = before._line
        if old is None or not (before._token.requires_grad and torch.is_grad_enabled()):
            return wide
        if self._line is not None and self._line.goes_back_to(old):
            return wide
        return self._joined(before, wide)

    def _joined(self: Own, before: Any, wide: Any) -> Own:
        """``wide``, its history that of ``before`` but for the examples of this one."""
        raise NotImplementedError

    @outside_of_graphs
    def written(self) -> Int[Tensor, "B P"]:
        """Slots ``[B, P]`` of which all that were ever written are some; repeats possible.

        All slots for a memory made by `from_tensor`.
        """
        edited = self._version.edited()
        if edited is None:
            return self._all_slots()
        if not edited.numel():
            return edited.expand(self.shape[0], 0)
        return by_example(edited, self._offsets, self.shape[1])

    def changed_since(self, other: RowViews) -> Int[Tensor, "B P"] | None:
        """Slots ``[B, P]`` of which all that differ from ``other``'s are some.

        Not so in examples that began anew with another row (`initial_rows`): there all that were
        never written may differ as well. None where the two do not share a history, or to compare
        all is cheaper.
        """
        rows = self._version.changed_since(other._version)
        return None if rows is None else by_example(rows.unique(), self._offsets, self.shape[1])

    def whole(self: Own) -> Own:
        """All examples of the buffer, of which these may be a part, without history."""
        slots, width = self.shape[1:]
        count = self._version.rows // slots
        if self._examples is None:
            return self.detach()
        return self._replace(
            shape=torch.Size((count, slots, width)),
            _examples=None,
            _offsets=offsets_of(torch.arange(count, device=self.device), slots),
            _line=None,
            _number=0,
            _token=self._token.detach(),
        )

    def same_version(self, other: RowViews) -> bool:
        """Whether the two are the same version of the same buffer (of whichever examples)."""
        return self._version is other._version

    @property
    def examples(self) -> Tensor | None:
        """Which of the examples that it was made with these are ``[B]``; None: all, in order."""
        return self._examples

    @property
    def initial_rows(self) -> Float[Tensor, "B W"]:
        """What the rows of each example hold that were never written, ``[B, W]``, no history."""
        rows = self.marked_rows
        return self._token.detach().expand(self.shape[0], self.shape[2]) if rows is None else rows

    def _all_slots(self) -> Tensor:
        batch, slots, _ = self.shape
        return torch.arange(slots, device=self.device).expand(batch, slots)

    def _slots(self, name: str, index: object) -> Tensor:
        """``index`` as int64, if it holds slots of each example."""
        check_slots(name, index, self.shape[0], self.shape[1])
        assert isinstance(index, Tensor)
        if index.device != self.device:
            raise MemcoreError(f"{name}: expected device {self.device}, got {index.device}")
        return index.long()


def unwritten(
    shape: torch.Size, dtype: torch.dtype, device: torch.device, row: Tensor | None
) -> partial[Buffers]:
    """What makes the buffers of a memory none of whose rows has been written."""
    return partial(_fresh, shape, dtype, device, row is not None)


def _fresh(shape: torch.Size, dtype: torch.dtype, device: torch.device, marked: bool) -> Buffers:
    batch, slots, width = shape
    data = lazy_zeros((batch * slots, width), dtype, device)
    return (data, lazy_zeros((batch * slots,), torch.bool, device)) if marked else (data,)


def offsets_of(examples: Tensor, slots: int) -> Tensor:
    """Where the rows of some examples ``[B]`` begin, ``[B, 1]``."""
    return (examples * slots).unsqueeze(1)
