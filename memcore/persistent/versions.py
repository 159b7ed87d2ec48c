"""Old versions of buffers that are edited in place stay valid, by a journal of what was lost.

The newest version owns the buffers. A superseded one keeps the rows that the edit after it
touched, as they were, and points to its successor, so that references go from old to new only
and what nobody holds is freed at once. To look at an old version the buffers are moved back to
it, row by row, and the versions left behind keep what *they* lose (Baker's rerooting), so going
to and fro costs the rows that lie between. Once that has cost as much as a copy, one is left
behind, so that two versions in use settle on buffers of their own; where the buffers began all
alike, a copy costs the rows ever edited, not their number.

Baker 1991, "Shallow binding makes functional arrays fast".
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from memcore.persistent.buffers import Buffers, put

__all__ = ["Edited", "Version", "edit_together", "under"]

Edited: TypeAlias = "tuple[Tensor, Buffers]"  # rows, and what each buffer held there

Seen = TypeVar("Seen")

SWEEP_AFTER = 64  # superseded versions
LOG_SLACK = 2**15  # rows


class Version:
    """One version of some buffers. Seen from outside it never changes.

    Args:
        buffers: the content of the first version; from then on only this class touches them.
        begin: makes such buffers anew where all rows still are as at the beginning, so that
            only edited rows need be copied; None: they are cloned.
        edited: flat rows that differ from what ``begin`` makes.
    """

    __slots__ = ("__weakref__", "_lock", "_node", "origin", "rows")

    rows: int  # of each buffer
    origin: object  # the same of all that began as one, copies too: what stands where

    def __init__(
        self,
        buffers: Buffers,
        begin: Callable[[], Buffers] | None = None,
        edited: Tensor | None = None,
    ) -> None:
        store = _Store(buffers, begin, edited)
        self._own(_Node(store), threading.RLock(), buffers[0].shape[0], object())

    def _own(
        self, node: _Node, lock: AbstractContextManager[Any], rows: int, origin: object
    ) -> Version:
        # All versions that share history share the lock.
        self._node, self._lock, self.rows, self.origin = node, lock, rows, origin
        node.holder = weakref.ref(self)
        return self

    def read(self, rows: Tensor) -> Buffers:
        """Rows ``[n]`` of each buffer as this version has them."""
        with self._lock:
            return tuple(buffer.index_select(0, rows) for buffer in self._newest().buffers)

    def look(self, function: Callable[[Buffers], Seen]) -> Seen:
        """What ``function`` makes of the buffers as this version has them; it may not edit them."""
        with self._lock:
            return function(self._newest().buffers)

    def edit(self, rows: Tensor, change: Callable[[Buffers, Buffers], None]) -> Version:
        """The version after an edit in place; this one stays what it is.

        Args:
            rows: ``[n]``, the rows that ``change`` may touch; repeats allowed.
            change: is given the buffers and, for each, those rows as they were.
        """
        with self._lock:
            store = self._newest()
            lost = tuple(buffer.index_select(0, rows) for buffer in store.buffers)
            edited: list[Edited] = [(rows, lost)]
            try:
                change(store.buffers, lost)
                return _succeed([self], edited)[0]
            except BaseException:
                _undo([self], edited)
                raise

    def copy(self) -> Version:
        """An equal version with buffers and a history of its own."""
        with self._lock:
            copied = _Node(self._newest().copy())
        return Version.__new__(Version)._own(copied, threading.RLock(), self.rows, self.origin)

    def edited(self) -> Tensor | None:
        """Rows ``[n]``, ascending, of which all that differ from the beginning are some.

        None without a ``begin``.
        """
        with self._lock:
            store = self._newest()
            return None if store.begin is None else store.edited()

    def changed_since(self, other: Version) -> Tensor | None:
        """Rows ``[n]`` of which all that differ between the two are some, repeats possible.

        None where the two no longer share buffers, or a comparison of all rows is cheaper.
        """
        with self._lock:
            store = self._newest()
            path = other._node.path()
            if path[-1].store is not store or _distance(path) > store.copy_cost():
                return None
            rows = [node.rows for node in path[:-1] if node.rows is not None]
            return torch.cat(rows) if rows else store.buffers[0].new_empty(0, dtype=torch.int64)

    def _newest(self) -> _Store:
        """Make this the version that owns the buffers."""
        if self._node.store is not None:
            return self._node.store
        path = self._node.path()
        newest = path[-1]
        store = newest.owned()
        store.moved += _distance(path)
        # What going to and fro has cost by now would have paid for a copy: leave one there.
        split = store.moved > store.copy_cost()
        left = store.split() if split and newest.holder() is not None else None
        for position in range(len(path) - 1, 0, -1):
            path[position - 1].step_back(path[position])
        if split:
            store.moved = 0
        if left is not None:
            newest.keep(left)
        store.sweep()
        return store


def edit_together(
    versions: Sequence[Version], change: Callable[[list[Buffers], list[Edited]], None]
) -> list[Version]:
    """The versions after one edit of all in place, which says afterwards what it touched.

    Args:
        versions: of buffers of any number and kind. Where two share a history, the later one gets
            buffers of its own first.
        change: is given the buffers of each and a list, to which it adds for each, when all is
            done, the rows that it touched, distinct, and what they held before. Where it raises
            before, it has put all back.
    """
    own: list[Version] = []
    for version in versions:
        shared = any(version._lock is other._lock for other in own)
        own.append(version.copy() if shared else version)

    def edit() -> list[Version]:
        edited: list[Edited] = []
        try:
            change([version._newest().buffers for version in own], edited)
            return _succeed(own, edited)
        except BaseException:
            _undo(own, edited)
            raise

    return under([version._lock for version in own], edit)


def under(locks: Sequence[AbstractContextManager[Any]], function: Callable[[], Seen]) -> Seen:
    """What ``function`` returns, called under all these locks, taken in the same order everywhere.

    An interrupt may come at any time: only the ``with`` of a lock itself never loses one.
    """
    return _inside(sorted(locks, key=id), function)


def _inside(locks: Sequence[AbstractContextManager[Any]], function: Callable[[], Seen]) -> Seen:
    # Not within the function above: one that calls itself there would be a cycle, which would keep
    # old versions, and all that they hold, until garbage is collected.
    if not locks:
        return function()
    with locks[0]:
        return _inside(locks[1:], function)


def _succeed(versions: Sequence[Version], edited: Sequence[Edited]) -> list[Version]:
    """The versions after edits that were made. What fails on the way is to be undone."""
    nodes = [version._node for version in versions]
    newer = [_Node(node.owned()) for node in nodes]
    made = [
        Version.__new__(Version)._own(node, version._lock, version.rows, version.origin)
        for node, version in zip(newer, versions, strict=True)
    ]
    for node, successor, (rows, lost) in zip(nodes, newer, edited, strict=True):
        successor.owned().note(rows)
        node.precede(successor, rows, lost)
    for node, successor in zip(nodes, newer, strict=True):
        store = successor.owned()
        store.superseded(node)
        store.shorten()
        store.sweep()
    return made


def _undo(versions: Sequence[Version], edited: Sequence[Edited]) -> None:
    """Put back what was edited of the versions that were not succeeded."""
    for version, (rows, lost) in zip(versions, edited, strict=False):
        node = version._node
        if node.store is not None:
            put(node.store.buffers, rows, lost)
            node.keep(node.store)


class _Node:
    """A version's place in the journal: either it owns the store, or it knows what it lost."""

    __slots__ = ("__weakref__", "holder", "lost", "newer", "rows", "store")

    def __init__(self, store: _Store) -> None:
        self.store: _Store | None = store
        self.newer: _Node | None = None
        self.rows: Tensor | None = None
        self.lost: Buffers = ()
        self.holder: Callable[[], Version | None] = _nobody

    def owned(self) -> _Store:
        assert self.store is not None
        return self.store

    def path(self) -> list[_Node]:
        """From here to the node that owns the store."""
        path: list[_Node] = [self]
        while path[-1].newer is not None:
            path.append(path[-1].newer)
        return path

    def precede(self, newer: _Node, rows: Tensor, lost: Buffers) -> None:
        """Leave the store to a successor, knowing what is lost by that."""
        self.rows, self.lost, self.newer = rows, lost, newer
        self.store = None  # from here on it is so

    def step_back(self, newer: _Node) -> None:
        """Take the store over from the successor, which notes what it loses by that."""
        store, rows = newer.owned(), self.rows
        assert rows is not None
        lost = tuple(buffer.index_select(0, rows) for buffer in store.buffers)
        try:
            put(store.buffers, rows, self.lost)
        except BaseException:
            put(store.buffers, rows, lost)
            raise
        # An interrupt comes where a function begins, or one of torch's ends: no call in between.
        newer.store, newer.newer, newer.rows, newer.lost = None, self, rows, lost
        self.store, self.newer, self.rows, self.lost = store, None, None, ()
        store.superseded(newer)

    def copy_out(self) -> None:
        """Leave the journal for buffers of one's own."""
        path = self.path()
        store = path[-1].owned().split()
        for node in reversed(path[:-1]):
            assert node.rows is not None
            put(store.buffers, node.rows, node.lost)
        self.keep(store)

    def keep(self, store: _Store) -> None:
        """Own a store, and point to no successor any more."""
        self.store, self.newer, self.rows, self.lost = store, None, None, ()


class _Store:
    """Buffers, and the bookkeeping that keeps their journal small."""

    def __init__(
        self, buffers: Buffers, begin: Callable[[], Buffers] | None, edited: Tensor | None
    ) -> None:
        self.buffers = buffers
        self.moved = 0  # rows moved to go to and fro, since a copy was left
        self.begin = begin
        self._log = [] if edited is None else [edited]
        self._log_size = self._distinct = 0 if edited is None else edited.numel()
        self._superseded: list[Callable[[], _Node | None]] = []
        self._next_sweep = SWEEP_AFTER

    def copy_cost(self) -> int:
        """Rows that a copy has to copy, or a little more."""
        rows = self.buffers[0].shape[0]
        return rows if self.begin is None else min(rows, self._log_size)

    def edited(self) -> Tensor:
        if len(self._log) != 1 or self._log_size != self._distinct:
            device = self.buffers[0].device
            logged = torch.cat([torch.empty(0, dtype=torch.int64, device=device), *self._log])
            self._log = [logged.unique()]
            self._log_size = self._distinct = self._log[0].numel()
        return self._log[0]

    def copy(self) -> _Store:
        # Buffers born in inference mode could not be edited outside it.
        with torch.inference_mode(False), torch.no_grad():
            if self.begin is None:
                copied = _Store(tuple(buffer.clone() for buffer in self.buffers), None, None)
            else:
                edited, buffers = self.edited(), self.begin()
                rows = tuple(buffer.index_select(0, edited) for buffer in self.buffers)
                put(buffers, edited, rows)
                copied = _Store(buffers, self.begin, edited)
        return copied

    def split(self) -> _Store:
        """A copy for one of the versions that lead here, and for those that lead to it."""
        copied = self.copy()
        copied._superseded, copied._next_sweep = list(self._superseded), self._next_sweep
        return copied

    def note(self, rows: Tensor) -> None:
        """Note that these rows are edited."""
        if self.begin is not None:
            self._log.append(rows)
            self._log_size += rows.numel()

    def shorten(self) -> None:
        """Keep the log of edited rows about as long as there are distinct ones."""
        if self.begin is not None and self._log_size > 4 * self._distinct + LOG_SLACK:
            self.edited()

    def superseded(self, node: _Node) -> None:
        """Note that ``node`` no longer owns this store."""
        self._superseded.append(weakref.ref(node))

    def sweep(self) -> None:
        """Give versions buffers of their own where the journal keeps more for them than a copy.

        Done only when the journal has doubled, so that it costs each edit next to nothing.
        """
        if len(self._superseded) < self._next_sweep:
            return
        alive = {node for reference in self._superseded if (node := reference()) is not None}
        for node in alive:
            if node.store is not None or node.holder() is None:
                continue
            kept, after = 0, node
            while after.newer is not None and (after is node or after.holder() is None):
                kept += _count(after)
                after = after.newer
            if kept > self.copy_cost():
                node.copy_out()
        self._superseded = [weakref.ref(node) for node in alive if node.store is None]
        self._next_sweep = max(SWEEP_AFTER, 2 * len(self._superseded))


def _nobody() -> None:
    return None


def _count(node: _Node) -> int:
    return 0 if node.rows is None else node.rows.numel()


def _distance(path: list[_Node]) -> int:
    return sum(map(_count, path))
