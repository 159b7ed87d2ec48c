"""What a search index is to the memory."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from memcore.persistent.rows import RowMemory

__all__ = ["Index", "MaskedIndex"]


@runtime_checkable
class Index(Protocol):
    """Finds, in each example's memory, the rows most similar to a key.

    An index mirrors the rows of B memories and is told of every change. It is never
    differentiated, and is a cache: it can always be made again from the memory. ``examples``,
    where given, says which of the B memories the rows of the other arguments belong to, ``[b]``,
    each at most once.
    """

    def empty(self, batch_size: int) -> Index:
        """A new index of the same kind, for so many memories of zeros."""
        ...

    def reset(self, memory: RowMemory, examples: Int[Tensor, "b"] | None = None) -> None:
        """Mirror ``memory`` (of shape ``[b, N, W]``), forgetting what was known before."""
        ...

    def update(
        self,
        index: Int[Tensor, "b J"],
        rows: Float[Tensor, "b J W"],
        examples: Int[Tensor, "b"] | None = None,
    ) -> None:
        """Slots ``[b, J]`` now hold ``rows``; a slot that is repeated has the same row again."""
        ...

    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best cosine similarity first; k is at most N."""
        ...


@runtime_checkable
class MaskedIndex(Protocol):
    """What an `Index` has, beside the rest, if it can be asked with masks."""

    def search_masked(
        self,
        keys: Float[Tensor, "b R W"],
        masks: Float[Tensor, "b R W"],
        k: int,
        examples: Int[Tensor, "b"] | None = None,
    ) -> Int[Tensor, "b R k"]:
        """As `Index.search`, by the cosine of ``key∘mask`` and ``row∘mask``."""
        ...
