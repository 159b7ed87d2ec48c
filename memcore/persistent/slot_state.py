"""What is kept for each slot without gradients: a value, edited in place underneath.

The base of `memcore.persistent.recency.Recency` and `memcore.persistent.links.SparseLinks`: parts
of a batch, clearing, and copies.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import MemcoreError, check_size
from memcore.persistent.buffers import Buffers, by_example
from memcore.persistent.versions import Version
from memcore.sparse_checks import check_examples, check_flags, check_narrowed

__all__ = ["SlotState"]

# Not typing.Self: what checks the types of the functions in tests knows no classes.
# ruff: noqa: PYI019
Own = TypeVar("Own", bound="SlotState")


class SlotState:
    """An immutable value about the slots of a batch; `memcore.persistent.versions` makes it cheap.

    A subclass keeps rows in the buffers of a `Version`, a stretch of the same length for each
    example and 0 at the beginning wherever it edits them, and a few small tensors ``[B, ...]``.
    """

    __slots__ = ("_carried", "_offsets", "_stretch", "_version", "batch", "slots")

    batch: int
    slots: int
    _carried: tuple[Tensor, ...]  # each [B, ...]
    _offsets: Tensor  # [B, 1], where the stretch of each example begins in the buffers
    _stretch: int  # rows of an example
    _version: Version

    def _begin(self, version: Version, stretch: int, carried: tuple[Tensor, ...]) -> None:
        self._version, self._stretch, self._carried = version, stretch, carried
        with torch.inference_mode(False):
            examples = torch.arange(self.batch, device=carried[0].device)
            self._place(examples[:, None] * stretch)

    def _first(self) -> tuple[Tensor, ...]:
        """The small tensors of an example, ``[1, ...]``, at the beginning."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Tensor]:
        """Plain tensors that ``from_dict`` makes the value of again."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls: type[Own], saved: dict[str, Tensor]) -> Own:
        """The value that `to_dict` took apart."""
        raise NotImplementedError

    @property
    def version(self) -> Version:
        """What is edited in place underneath."""
        return self._version

    @property
    def offsets(self) -> Tensor:
        """Where the stretch of each example begins in the buffers, ``[B, 1]``."""
        return self._offsets

    @property
    def carried(self) -> tuple[Tensor, ...]:
        """The small tensors ``[B, ...]``; not to be changed."""
        return self._carried

    def edited(self: Own, version: Version, carried: tuple[Tensor, ...]) -> Own:
        """The value in a version that was made from its own, with other small tensors."""
        return self._replace(_version=version, _carried=carried)

    def _place(self: Own, offsets: Tensor) -> Own:
        """Take the examples whose stretches begin at ``offsets [B, 1]``."""
        self.batch, self._offsets = len(offsets), offsets
        return self

    def _replace(self: Own, **changes: Any) -> Own:
        made = object.__new__(type(self))
        for kind in (SlotState, type(self)):
            for name in kind.__slots__:
                setattr(made, name, changes[name] if name in changes else getattr(self, name))
        return made

    @outside_of_graphs
    def cleared(self: Own, examples: Tensor) -> Own:
        """Those examples, a bool ``[B]``, back at the beginning: O(slots ever touched).

        Raises:
            TypeError: not a tensor.
            MemcoreError: not bool, or not ``[B]``.
        """
        check_flags("examples", examples, self.batch)
        edited = self._version.edited()
        assert edited is not None
        offsets = self._offsets[examples]
        rows = (by_example(edited, offsets, self._stretch) + offsets).flatten()

        def change(buffers: Buffers, lost: Buffers) -> None:
            for buffer in buffers:
                buffer.index_fill_(0, rows, 0)

        carried = tuple(
            torch.where(examples.view(-1, *[1] * (value.dim() - 1)), first, value)
            for value, first in zip(self._carried, self._first(), strict=True)
        )
        return self._replace(_version=self._version.edit(rows, change), _carried=carried)

    @outside_of_graphs
    def select(self: Own, examples: Tensor) -> Own:
        """That of some examples, int64 ``[b]``; O(1) as long as none is asked for twice.

        Raises:
            TypeError: not a tensor.
            MemcoreError: ``examples`` of another rank or dtype, empty, or out of range.
        """
        chosen = check_examples("examples", examples, self.batch)
        carried = tuple(value[examples] for value in self._carried)
        view = self._replace(_carried=carried)._place(self._offsets[examples])
        return view if len(set(chosen)) == len(chosen) else self.from_dict(view.to_dict())

    @outside_of_graphs
    def narrow(self: Own, count: int) -> Own:
        """That of the first ``count`` examples, 1 to B, in O(1)."""
        if not 1 <= check_size("count", count) <= self.batch:
            raise MemcoreError(f"count: expected 1 to {self.batch}, got {count}")
        carried = tuple(value[:count] for value in self._carried)
        return self._replace(_carried=carried)._place(self._offsets[:count])

    @outside_of_graphs
    def widen(self: Own, before: Own) -> Own:
        """Undo `narrow`: all examples of ``before``, those left out as they were.

        Raises:
            TypeError: ``before`` is of another type.
            MemcoreError: this is no part of it.
        """
        check_narrowed("before", self, before)
        pairs = zip(self._carried, before._carried, strict=True)
        carried = tuple(torch.cat([new, old[self.batch :]]) for new, old in pairs)
        return self._replace(_carried=carried)._place(before._offsets)

    def __copy__(self: Own) -> Own:
        return self

    def __deepcopy__(self: Own, memo: dict[int, Any]) -> Own:
        return self.from_dict(self.to_dict())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)
