"""The small arrays that a kernel works with, side by side: had at once, and told of at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from memcore.kernels.layout import Layout

__all__ = ["Room", "RoomPlan", "Want", "laid_out"]

ALIGNMENT = 64  # bytes


class Want(NamedTuple):
    """An array that is wanted."""

    place: int  # by which a kernel is told of it, counted from where the memory's block begins
    shape: tuple[int, ...]
    kind: Any  # a dtype of NumPy
    zeros: bool = False  # else anything


class RoomPlan(NamedTuple):
    """Where wanted arrays stand in two memories."""

    places: dict[int, tuple[int, int, Want]]  # of each place in which memory, and from which byte
    empty: int  # bytes
    zeros: int  # bytes


class Room:
    """Arrays that live as long as this.

    Args:
        plan: where they stand.
    """

    def __init__(self, plan: RoomPlan) -> None:
        self._places = plan.places
        self._memory = np.empty(plan.empty, np.uint8), np.zeros(plan.zeros, np.uint8)
        self._begins = [own.__array_interface__["data"][0] for own in self._memory]

    def tell(self, layout: Layout, at: int) -> None:
        """Tell a kernel of all."""
        begins, places = self._begins, self._places.items()
        layout.tell_all(at, {place: begins[own] + to for place, (own, to, _) in places}, self)

    def address(self, place: int) -> int:
        """Where an array begins."""
        own, begin, _ = self._places[place]
        return self._begins[own] + begin

    def array(self, place: int) -> np.ndarray:
        """One of them."""
        own, begin, want = self._places[place]
        return np.ndarray(want.shape, want.kind, self._memory[own], begin)


def laid_out(wants: Iterable[Want]) -> RoomPlan:
    """One array after the other."""
    places: dict[int, tuple[int, int, Want]] = {}
    ends = [0, 0]
    for want in wants:
        own = int(want.zeros)
        places[want.place] = own, ends[own], want
        size = int(np.prod(want.shape, dtype=np.int64)) * np.dtype(want.kind).itemsize
        ends[own] += -(-size // ALIGNMENT) * ALIGNMENT
    return RoomPlan(places, *ends)
