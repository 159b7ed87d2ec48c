"""Which version of a memory an index mirrors, and how it follows to another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.errors import MemcoreError
from memcore.index.protocol import Index, MaskedIndex
from memcore.persistent.rows import RowMemory
from memcore.persistent.versions import under

__all__ = ["Mirror", "check_masked", "held", "searched"]

Result = TypeVar("Result")


class Mirror:
    """An index together with the version of the memory that it knows.

    It is a cache that states share, not part of their value: asked about another version it is
    brought up to date by the rows that differ, or gives way to a new one. It always knows all
    examples of a buffer, of whichever of them it is asked.

    Args:
        index: kept by this object from now on.
        memory: of the sizes that the index was made for; None: the first that it is asked about.
        sizes: N, W and dtype, where there is no memory yet.
    """

    def __init__(
        self, index: Index, memory: RowMemory | None, sizes: tuple[Any, ...] | None = None
    ) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._seen: RowMemory | None = None  # all examples of its buffer
        self._sizes = sizes
        if memory is not None:
            whole = memory.whole()
            if whole.shape[0] != memory.shape[0]:
                self._index = index.empty(whole.shape[0])
            self._sizes = (*memory.shape[1:], memory.dtype)
            self._rebuild(whole)

    @property
    def index(self) -> Index:
        """The index itself, for looking at."""
        return self._index

    @property
    def sizes(self) -> tuple[Any, ...] | None:
        """N, W and dtype of the memories that it can be asked about; None: not known yet."""
        return self._sizes

    def search(
        self,
        memory: RowMemory,
        keys: Float[Tensor, "B R W"],
        k: int,
        *,
        masks: Float[Tensor, "B R W"] | None = None,
        before: RowMemory | None = None,
        touched: Int[Tensor, "B J"] | None = None,
    ) -> tuple[Int[Tensor, "B R k"], Mirror]:
        """For each key the k most similar rows of ``memory``, and the mirror that found them.

        Args:
            memory: the memory to search, of the mirrored batch or of some examples of it.
            keys: ``[B, R, W]``.
            k: how many slots.
            masks: ``[B, R, W]``, how much of keys and rows to look at; None: all.
            before: a version from which ``memory`` differs in the slots ``touched`` only.
            touched: ``[B, J]``.

        Returns:
            Slots ``[B, R, k]``, distinct for each key and best first, and this mirror, or a new
            one if this one had nothing in common with the memory.

        Raises:
            MemcoreError: ``masks`` given to an index that knows nothing of them.
        """
        with self._lock:
            if self._follow(memory, before, touched):
                return self._search(memory, keys, k, masks), self
            other = self.of(memory)
        return other._search(memory, keys, k, masks), other

    def _search(self, memory: RowMemory, keys: Tensor, k: int, masks: Tensor | None) -> Tensor:
        return searched(self._index, keys, k, masks, memory.examples)

    def _follow(self, memory: RowMemory, before: RowMemory | None, touched: Tensor | None) -> bool:
        seen, whole = self._seen, memory.whole()
        if seen is None:
            # The copy of a mirror, perhaps of a batch of another size.
            self._index = self._index.empty(whole.shape[0])
            self._rebuild(whole)
        elif memory.same_version(seen):
            pass
        elif before is not None and touched is not None and before.same_version(seen):
            rows = memory.peek(touched)
            self._seen = None  # an interrupt must not leave what is known half way
            self._index.update(touched, rows, memory.examples)
            self._seen = whole
        else:
            changed = whole.changed_since(seen)
            if changed is None:
                return False
            anew = _begun_anew(whole, seen)
            if anew.numel():
                self._seen = None
                self._index.reset(whole.select(anew), anew)
            if changed.numel():
                rows = whole.peek(changed)
                self._seen = None
                self._index.update(changed, rows)
            self._seen = whole
        return True

    def _rebuild(self, whole: RowMemory) -> None:
        self._seen = None
        self._index.reset(whole)
        self._seen = whole

    def knows(self, memory: RowMemory) -> None:
        """The index was brought to this memory by whoever `held` it."""
        self._seen = memory.whole()

    def of(self, memory: RowMemory) -> Mirror:
        """A new mirror of the same kind for another memory, of any batch size."""
        return Mirror(self._index.empty(memory.shape[0]), memory)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy looks at the first memory it is asked about.
        return Mirror, (self._index, None, self._sizes)


def _begun_anew(memory: RowMemory, seen: RowMemory) -> Tensor:
    """Those examples whose unwritten rows hold something else."""
    one, other = memory.marked_rows, seen.marked_rows
    if one is other:
        return torch.empty(0, dtype=torch.int64)
    return (memory.initial_rows != seen.initial_rows).any(1).nonzero().flatten()


def check_masked(index: Index) -> MaskedIndex:
    """The index, if it searches with masks; else raise."""
    if not isinstance(index, MaskedIndex):
        raise MemcoreError(
            f"index: expected one that searches with masks, as 'exact' does, got "
            f"{type(index).__name__}, which has no search_masked"
        )
    return index


def searched(
    index: Index, keys: Tensor, k: int, masks: Tensor | None, examples: Tensor | None
) -> Tensor:
    """What an index finds, with masks or without."""
    if masks is None:
        return index.search(keys, k, examples)
    return check_masked(index).search_masked(keys, masks, k, examples)


def held(
    mirrors: Sequence[Mirror],
    memories: Sequence[RowMemory],
    function: Callable[[list[Mirror]], Result],
) -> Result:
    """What ``function`` makes of mirrors that know these memories, whose indexes are its to edit.

    Each is this mirror or, where that knows another memory or stands for two, a new one. The
    function says what each `knows` in the end; one of which nothing was said begins anew when it is
    asked.
    """
    own: list[Mirror] = []
    for mirror, memory in zip(mirrors, memories, strict=True):
        own.append(mirror.of(memory) if any(mirror is other for other in own) else mirror)

    def edit() -> Result:
        for place, memory in enumerate(memories):
            if not own[place]._follow(memory, None, None):
                own[place] = own[place].of(memory)  # which nobody else knows yet
            own[place]._seen = None
        return function(own)

    return under([mirror._lock for mirror in own], edit)
