"""How gradients flow through rows that are edited in place, without their values.

A read's gradient goes to the rows it read, a write's takes those of the rows it added to and
stops those of the rows it erased: indices suffice, so nothing is rolled back. Each recorded
version is a number on a *line*; a scalar token, passed from write to write and into each read,
gives the autograd engine the order. What a backward pass needs belongs to that pass alone (the
engine's graph task), so passes can be repeated, partial, concurrent or failed.

Only rows that were touched get a gradient row: a log of their numbers, shared by the lines that
branched off one another, is made compact once a pass.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from functools import wraps
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from memcore.circumstances import check_reverse_mode, is_wrapped
from memcore.errors import MemcoreError

__all__ = [
    "Line",
    "check_backward_only",
    "record_begin",
    "record_fork",
    "record_read",
    "record_refill",
    "record_write",
]


class _Part:
    """Flat rows that one recorded operation touches; alive as long as its graph is."""

    __slots__ = ("__weakref__", "rows")

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows


class _Places:
    """The rows of a log made compact: each logged one has a place among the distinct ones.

    To spare a wait for the device, there are as many places as logged rows elsewhere than on a
    CPU; those that are too many stand for row 0 and are never referred to.
    """

    def __init__(self, parts: list[_Part]) -> None:
        logged = torch.cat([part.rows for part in parts])
        ends = list(accumulate(part.rows.numel() for part in parts))
        starts = (end - part.rows.numel() for end, part in zip(ends, parts, strict=True))
        self._stretch = dict(zip(parts, zip(starts, ends, strict=True), strict=True))
        ascending, order = logged.sort()
        rank = torch.zeros_like(ascending)
        rank[1:] = (ascending[1:] != ascending[:-1]).cumsum(0)
        self.count = rank.numel()
        if logged.device.type == "cpu" and self.count:
            self.count = int(rank[-1]) + 1
        self.rows = ascending.new_zeros(self.count).scatter_(0, rank, ascending)  # [m]
        self._of_logged = torch.empty_like(rank).scatter_(0, order, rank)  # [n]

    def at(self, part: _Part) -> Tensor:
        """Places of the rows of one part."""
        start, end = self._stretch[part]
        return self._of_logged[start:end]


class _Log:
    """The parts of all recorded operations that are still alive, in any order."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._parts: list[weakref.ref[_Part]] = []
        self._next_sweep = 64
        # What a pass began with stays, though a recomputation may log more meanwhile.
        self._in_pass: weakref.WeakValueDictionary[int, _Places] = weakref.WeakValueDictionary()

    def add(self, rows: Tensor) -> _Part:
        part = _Part(rows)
        with self.lock:
            self._parts.append(weakref.ref(part))
            if len(self._parts) > self._next_sweep:
                self._parts = [one for one in self._parts if one() is not None]
                self._next_sweep = max(64, 2 * len(self._parts))
        return part

    def places(self, task: int) -> _Places:
        """The places that hold throughout a backward pass."""
        with self.lock:
            places = self._in_pass.get(task)
            if places is None:
                alive = (one() for one in self._parts)
                places = _Places([part for part in alive if part is not None])
                self._in_pass[task] = places
            return places


class _Pass:
    """What one line holds during one backward pass."""

    def __init__(self, places: _Places, width: int) -> None:
        self.places = places
        self.pending: dict[int, list[tuple[Tensor | None, Tensor]]] = {}  # by version
        self._width = width
        self._gradient: Tensor | None = None

    def gradient(self, version: int, like: tuple[torch.dtype, torch.device]) -> Tensor:
        """Gradient ``[m, W]`` of the rows of a version, what waited for it included."""
        waiting = self.pending.pop(version, [])
        if self._gradient is None and waiting and waiting[0][0] is None:
            self._gradient = waiting.pop(0)[1]  # of a branch, which has no more use for it
        if self._gradient is None:
            dtype, device = like
            shape = (self.places.count, self._width)
            self._gradient = torch.zeros(shape, dtype=dtype, device=device)
        for places, values in waiting:
            if places is None:
                self._gradient.add_(values)
            else:
                self._gradient.index_add_(0, places, values)
        return self._gradient

    def clear(self) -> None:
        self._gradient = None
        self.pending.clear()


class Line:
    """A line of recorded versions, numbered from 0; each continues the one before.

    Args:
        width: W.
        branch_of: the line that this one branches off.
    """

    def __init__(self, width: int, branch_of: Line | None = None) -> None:
        self.width = width
        self.last = 0  # the newest version's number
        self._parent = branch_of
        self.log = _Log() if branch_of is None else branch_of.log
        # Owned by the end-of-pass callback only, which the engine drops also when a pass fails.
        self._passes: weakref.WeakValueDictionary[int, _Pass] = weakref.WeakValueDictionary()

    def goes_back_to(self, other: Line) -> bool:
        """Whether this is ``other``, or branched off it or off one that did."""
        line: Line | None = self
        while line is not None and line is not other:
            line = line._parent
        return line is other

    def extend(self, version: int) -> bool:
        """Take the number after ``version``; False where that is taken already."""
        with self.log.lock:
            free = version == self.last
            self.last += free
            return free

    def current(self) -> _Pass:
        """What this line holds in the backward pass that is running."""
        task = torch._C._current_graph_task_id()
        held = self._passes.get(task)
        if held is None:
            held = _Pass(self.log.places(task), self.width)
            self._passes[task] = held
            torch.autograd.Variable._execution_engine.queue_callback(held.clear)  # pyright: ignore
        return held


def _first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    # once_differentiable lets create_graph=True pass under autograd.grad.
    @wraps(backward)
    def refuse_or_run(ctx: Any, *gradients: Tensor | None) -> Any:
        if any(one is not None and is_wrapped(one) for one in gradients):
            raise MemcoreError(
                "is_grads_batched: expected False where gradients flow through a RowMemory, got "
                "True; a backward pass takes one gradient at a time"
            )
        if torch.is_grad_enabled():
            raise MemcoreError(
                "create_graph: expected False where gradients flow through a RowMemory, got True; "
                "it has no second derivative (memcore.erase_and_add and memcore.read have)"
            )
        return backward(ctx, *gradients)

    return refuse_or_run


class _Begin(torch.autograd.Function):
    """Version 0 of a line from a dense ``[B, N, W]`` or from one row ``[W]``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, line: Line) -> Tensor:
        ctx.line, ctx.shape, ctx.like = line, values.shape, (values.dtype, values.device)
        return values.new_zeros(())

    @staticmethod
    @_first_order
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor, None]:
        held = ctx.line.current()
        rows = held.gradient(0, ctx.like)
        if len(ctx.shape) == 1:
            return rows.sum(0), None
        dense = rows.new_zeros(ctx.shape)
        dense.view(-1, ctx.line.width).index_add_(0, held.places.rows, rows)
        return dense, None


class _Fork(torch.autograd.Function):
    """Version 0 of a line that branches off another."""

    @staticmethod
    def forward(ctx: Any, token: Tensor, parent: Line, version: int, line: Line) -> Tensor:
        ctx.parent, ctx.version, ctx.line = parent, version, line
        ctx.like = token.dtype, token.device
        return torch.zeros_like(token)

    @staticmethod
    @_first_order
    def backward(ctx: Any, _: Tensor | None) -> tuple[None, ...]:
        held, parent = ctx.line.current(), ctx.parent.current()
        parent.pending.setdefault(ctx.version, []).insert(0, (None, held.gradient(0, ctx.like)))
        held.clear()
        return (None,) * 4


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        line: Line,
        version: int,
        rows: Tensor,
        gather: Callable[[], Tensor],
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.line, ctx.version, ctx.part = line, version, line.log.add(rows)
        return gather()

    @staticmethod
    @_first_order
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[None, ...]:
        if gradient is not None:
            held = ctx.line.current()
            waiting = (held.places.at(ctx.part), gradient.reshape(-1, ctx.line.width))
            held.pending.setdefault(ctx.version, []).append(waiting)
        return (None,) * 5


class _Write(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        add: Tensor,
        line: Line,
        version: int,
        erased: Tensor,
        added: Tensor,
        stopped: Callable[[Tensor], Tensor] | None,
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.line, ctx.version, ctx.stopped = line, version, stopped
        ctx.erased, ctx.added = line.log.add(erased), line.log.add(added)
        ctx.shape, ctx.like = add.shape, (add.dtype, add.device)
        return add.new_zeros(())

    @staticmethod
    @_first_order
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, ...]:
        held = ctx.line.current()
        rows = held.gradient(ctx.version, ctx.like)
        add = None
        if ctx.needs_input_grad[1]:
            add = rows.index_select(0, held.places.at(ctx.added)).view(ctx.shape)
        if ctx.needs_input_grad[0] and ctx.erased.rows.numel():
            rows.index_fill_(0, held.places.at(ctx.erased), 0)
        if ctx.needs_input_grad[0] and ctx.stopped is not None:
            rows.masked_fill_(ctx.stopped(held.places.rows).unsqueeze(1), 0)
        return None, add, None, None, None, None, None


class _Refill(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        token: Tensor,
        row: Tensor,
        line: Line,
        version: int,
        stopped: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.line, ctx.version, ctx.stopped = line, version, stopped
        ctx.like = row.dtype, row.device
        return row.new_zeros(())

    @staticmethod
    @_first_order
    def backward(ctx: Any, _: Tensor | None) -> tuple[Tensor | None, ...]:
        held = ctx.line.current()
        rows = held.gradient(ctx.version, ctx.like)
        others = ~ctx.stopped(held.places.rows).unsqueeze(1)
        row = rows.masked_fill(others, 0).sum(0) if ctx.needs_input_grad[1] else None
        rows.masked_fill_(~others, 0)
        return None, row, None, None, None


def record_begin(source: Tensor, line: Line) -> Tensor:
    """The token of version 0 of ``line``: rows ``[B, N, W]``, or all of them one row ``[W]``."""
    return _recorded(_Begin, source, line)


def record_fork(token: Tensor, parent: Line, version: int, line: Line) -> Tensor:
    """The token of version 0 of ``line``, which is ``version`` of its parent."""
    return _recorded(_Fork, token, parent, version, line)


def record_read(
    token: Tensor, line: Line, version: int, rows: Tensor, gather: Callable[[], Tensor]
) -> Tensor:
    """What ``gather`` returns, ``[..., W]``, recorded as flat ``rows`` of that version."""
    return _recorded(_Read, token, line, version, rows, gather)


def record_write(
    token: Tensor,
    add: Tensor,
    line: Line,
    version: int,
    erased: Tensor,
    added: Tensor,
    stopped: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The token of ``version``: flat rows ``erased``, then ``add [..., W]`` to ``added``.

    Of flat rows ``[m]``, ``stopped`` says which have no history from before, however many.
    """
    return _recorded(_Write, token, add, line, version, erased, added, stopped)


def record_refill(
    token: Tensor,
    row: Tensor,
    line: Line,
    version: int,
    erased: Tensor,
    added: Tensor,
    stopped: Callable[[Tensor], Tensor],
) -> Tensor:
    """As `record_write`, all flat rows of which ``stopped`` says so becoming ``row [W]``."""
    return _recorded(_Refill, token, row, line, version, stopped)


def _recorded(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    check_backward_only()
    return function.apply(*arguments)  # pyright: ignore[reportReturnType]


def check_backward_only() -> None:
    """Raise where rows would have to be differentiated in another way than by backward."""
    check_reverse_mode("RowMemory", "memcore.erase_and_add and memcore.read take part")
