"""How the states of the sparse memories come into a segment and out of it.

Their rows, recency and links are edited in place, by whoever holds them (`memcore.kernels.
sparse_segment`); a `Journal` says afterwards which rows were touched, and what they held before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from memcore.errors import MemcoreError
from memcore.index.exact import WrittenRowsIndex
from memcore.index.mirror import searched
from memcore.index.protocol import Index
from memcore.kernels import plan as numbers
from memcore.kernels import sparse_plan as plan
from memcore.kernels.joining import Counts, join, join_rows
from memcore.kernels.layout import Layout
from memcore.kernels.room import Room
from memcore.kernels.sparse_record import keys_at
from memcore.kernels.sparse_room import NoteSizes, room_for
from memcore.persistent.buffers import Buffers
from memcore.persistent.versions import Edited

__all__ = ["Journal", "asks_index", "finish", "halves", "tell_backward", "tell_forward"]


def tell_forward(
    layout: Layout, given: Sequence[Sequence[Any]], opened: Sequence[Journal]
) -> tuple[list[list[Any]], list[Tensor]]:
    """Tell of the states that are open: what is made of them, and what backward needs."""
    states: list[list[Any]] = []
    kept: list[Tensor] = []
    for memory, journal in enumerate(opened):
        kept += layout.memory_tapes(memory)
        journal.tell(layout, layout.memory_at(memory))
        states.append([journal.read_weights, journal.write_weights, None])
    return states, kept


def tell_backward(
    layout: Layout,
    given: Sequence[Sequence[Any]],
    slopes: Sequence[Sequence[Any]],
    kept: Sequence[Tensor],
) -> list[list[Any]]:
    """Tell of the gradients of what was made of the states, and of those of what was given."""
    heads, seen = layout.sizes.heads, layout.sizes.reads + 2 * layout.sizes.temporal
    d_states: list[list[Any]] = []
    for memory, (d_read_weights, d_write_weights, d_rows) in enumerate(slopes):
        tape, numbers, begins, written = kept[4 * memory : 4 * memory + 4]
        at = layout.memory_at(memory)
        layout.tell(at + plan.TAPE, tape)
        layout.tell(at + plan.NUMBERS, numbers)
        layout.tell(at + plan.ROW_BEGINS, begins)
        for place, gradient in (
            (plan.D_READ_WEIGHTS, d_read_weights), (plan.D_WRITE_WEIGHTS, d_write_weights),
        ):  # fmt: skip
            layout.tell(at + place, None if gradient is None else gradient.contiguous())
        gradient = layout.zeros(int(begins[-1]), layout.padded)
        if d_rows is not None:
            gradient[written, : layout.sizes.words] = d_rows
        layout.tell(at + plan.D_ROWS, gradient)
        found = layout.new(layout.examples, heads, seen)
        layout.tell(at + plan.D_READ_WEIGHTS_OUT, found)
        d_states.append([found, gradient])
    return d_states


def asks_index(opened: Sequence[Journal]) -> bool:
    """Whether each step stops to ask an index."""
    return any(journal.table is None for journal in opened)


def halves(
    layout: Layout, opened: Sequence[Journal], tapes: Sequence[Tensor]
) -> Iterator[tuple[int, int, int]]:
    """The halves into which steps are cut, (half, time, layer), asking indexes in between."""
    yield numbers.BEGINNING, 0, 0
    layers = max(layout.segment.cells.layers, 1)
    shared, sizes = layout.segment.cells.shared, layout.sizes
    first, width = keys_at(sizes), sizes.heads * sizes.padded
    for time in range(layout.steps):
        for layer in range(layers):
            memory, step = (0, time * layers + layer) if shared else (layer, time)
            yield numbers.WRITING, time, layer
            after = step + 1 if layout.recording else (step + 1) % 2
            parts = tapes[memory][:, after, first : first + (1 + sizes.masking) * width]
            parts = parts.unflatten(1, (1 + sizes.masking, sizes.heads, -1))
            opened[memory].search(*parts[..., : sizes.words].unbind(1))
            yield numbers.READING, time, layer
    yield numbers.ENDING, 0, 0


def finish(layout: Layout, states: list[list[Any]], backward: bool) -> None:
    """Bring what the kernel has left into the shapes of a state."""
    if backward:
        for state in states:
            state[1] = state[1][:, : layout.sizes.words]


# What a kernel noted: its place, its counter, and the row from which on it is to be joined.
Log: TypeAlias = "tuple[int, int, int]"

CONTIGUOUS = torch.contiguous_format


class Journal:
    """One state that is edited in place, and what was there before.

    Args:
        state: a `memcore.sam.SAMState` or `memcore.sdnc.SDNCState`.
        index: which knows this memory.
        table: where exact search keeps its rows, if the kernel is to search; None: the index is
            asked at each step.
        reads: K.
        buffers: those of its rows, of its recency and, in the SDNC, of its links.
        steps: S, how many are to be made.
    """

    def __init__(
        self,
        state: Any,
        index: Index,
        table: WrittenRowsIndex | None,
        reads: int,
        buffers: Sequence[Buffers],
        steps: int,
    ) -> None:
        self.state, self.index, self.table, self.buffers = state, index, table, buffers
        batch, slots, width = state.memory.shape
        heads, seen = state.read_index.shape[1:]
        like = state.read_weights
        self.read_index = torch.empty_like(state.read_index, memory_format=CONTIGUOUS)
        self.read_weights = torch.empty_like(like, memory_format=CONTIGUOUS)
        self.write_index = torch.empty(batch, heads * seen + 1, dtype=torch.int64, device="cpu")
        self.write_weights = like.new_empty(batch, heads * seen + 1)
        self.now = state.recency.carried[0].flatten().clone()
        self.linked: tuple[Tensor, ...] = ()
        if len(buffers) > 2:
            self.linked = tuple(value.clone() for value in state.links.carried)
        kept = self.linked[0].shape[1] if self.linked else 0
        levels, tree = state.recency.levels
        self._sizes = NoteSizes(
            batch, slots, width, heads, seen, reads, kept, steps, like.dtype, levels, tree
        )
        self._asked = room_for(self._sizes)
        self._room = Room(self._asked.plan)
        self.counts = self._room.array(plan.COUNTS)

    def tell(self, layout: Layout, at: int) -> None:
        """Tell a kernel of all that it is to edit."""
        state, memory, recency = self.state, self.state.memory, self.state.recency
        self._room.tell(layout, at)
        layout.tell_all(at, self._asked.numbers, None)
        for place, tensor in (
            (plan.READ_INDEX, state.read_index.contiguous()),
            (plan.READ_WEIGHTS, state.read_weights.detach().resolve_neg().contiguous()),
            (plan.READ_INDEX_OUT, self.read_index),
            (plan.READ_WEIGHTS_OUT, self.read_weights),
            (plan.WRITE_INDEX_OUT, self.write_index),
            (plan.WRITE_WEIGHTS_OUT, self.write_weights),
            (plan.ROWS, self.buffers[0][0]),
            (plan.ROW_OFFSETS, memory.offsets.contiguous()),
            (plan.TIMES, self.buffers[1][0]),
            (plan.TIME_OFFSETS, recency.offsets.contiguous()),
            (plan.NOW, self.now),
        ):
            layout.tell(at + place, tensor)
        layout.tell_array(at + plan.LEVEL_STARTS, _constant(self._sizes.levels))
        if memory.marked_rows is not None:
            layout.tell(at + plan.MARKS, self.buffers[0][1])
            layout.tell(at + plan.INITIAL, memory.marked_rows.detach().contiguous())
        if self.table is not None:
            self._tell_table(layout, at, self.table)
        if self.linked:
            for place, tensor in (
                (plan.LINK_BEFORE, self.buffers[2][0]),
                (plan.LINK_VALUE, self.buffers[2][1]),
                (plan.LINK_AFTER, self.buffers[2][2]),
                (plan.LINK_OFFSETS, state.links.offsets.contiguous()),
                (plan.ON, self.linked[0]),
                (plan.PRECEDENCE, self.linked[1]),
            ):
                layout.tell(at + place, tensor)

    def _tell_table(self, layout: Layout, at: int, index: WrittenRowsIndex) -> None:
        unwritten, memory = index.unwritten, self.state.memory
        table, names = index.table.arrays(self._asked.most[plan.ROW_COUNT])
        layout.put(at + plan.CAPACITY, names.shape[1])
        initial = unwritten.initial
        if initial is not None:
            rest = layout.padded - initial.shape[1]
            initial = np.pad(initial.astype(table.dtype, copy=False), ((0, 0), (0, rest)))
        for place, array in (
            (plan.TABLE, table),
            (plan.NAMES, names),
            (plan.PLACES, unwritten.place),
            (plan.USED, index.table.used),
            (plan.FIRST_FREE, unwritten.first_free),
            (plan.TABLE_INITIAL, initial),
        ):
            if array is not None:
                layout.tell_array(at + place, array)
        examples = memory.examples
        if examples is None:
            layout.tell_array(at + plan.TABLE_EXAMPLES, unwritten.all)
        else:
            layout.tell(at + plan.TABLE_EXAMPLES, examples.contiguous())

    def search(self, keys: Tensor, masks: Tensor | None = None) -> None:
        """Between the halves of a step, tell the index what was written, and ask it.

        Args:
            keys: ``[B, R, W]``.
            masks: the same, with masking.
        """
        # Copies: an index of one's own may keep what it is given.
        memory, slots, keys = self.state.memory, self.write_index.clone(), keys.clone()
        masks = masks if masks is None else masks.clone()
        flat = (slots + memory.offsets).flatten()
        rows = self.buffers[0][0].index_select(0, flat).view(*slots.shape, -1)
        self.index.update(slots, rows, memory.examples)
        found = searched(self.index, keys, self._sizes.reads, masks, memory.examples)
        # Kernels check no bounds, and an index may be anybody's.
        if not isinstance(found, Tensor):
            raise TypeError(
                f"index: expected a torch.Tensor from its search, got {type(found).__name__}"
            )
        shape = (len(slots), self._sizes.heads, self._sizes.reads)
        if found.shape != shape or found.dtype != torch.int64:
            raise MemcoreError(
                f"index: expected int64 slots of shape {list(shape)} from its search, "
                f"got {found.dtype} of shape {list(found.shape)}"
            )
        (least, most), slots = map(int, found.aminmax()), self._sizes.slots
        if not 0 <= least <= most < slots:
            raise MemcoreError(
                f"index: expected slots in [0, {slots}) from its search, got {least} to {most}"
            )
        self._room.array(plan.FOUND)[...] = found.numpy()

    def edited(self) -> list[Edited]:
        """The rows touched of all buffers, and what they held before."""
        state, sizes = self.state, self._sizes
        totals = self.counts.sum(0).tolist()
        count = totals[plan.WRITTEN_COUNT]
        rows = self._flat(count, (plan.ROW_LOG, plan.WRITTEN_COUNT, 0), of=state.memory)
        own = (plan.ROWS_BEFORE, plan.WRITTEN_COUNT, 0)
        before = [self._held(count, own, of=sizes.dtype, width=(sizes.width,))]
        if len(self.buffers[0]) > 1:
            own = (plan.MARKS_BEFORE, plan.WRITTEN_COUNT, 0)
            before.append(self._held(count, own, of=torch.bool))
        result = [(rows, tuple(before))]
        leaves, entries = totals[plan.LEAF_COUNT], totals[plan.ENTRY_COUNT]
        logs = [(plan.LEAVES, plan.LEAF_COUNT, 0)]
        lost = [(plan.LEAVES_BEFORE, plan.LEAF_COUNT, 0)]
        if entries:
            logs.append((plan.ENTRY_LOG, plan.ENTRY_COUNT, leaves))
            lost.append((plan.ENTRIES_BEFORE, plan.ENTRY_COUNT, leaves))
        rows = self._flat(leaves + entries, *logs, of=state.recency)
        result.append((rows, (self._held(leaves + entries, *lost, of=torch.int32),)))
        if self.linked:
            count, width = totals[plan.LINK_COUNT], (sizes.kept,)
            rows = self._flat(count, (plan.LINK_LOG, plan.LINK_COUNT, 0), of=state.links)
            before = [
                self._held(count, (place, plan.LINK_COUNT, 0), of=own, width=width)
                for place, own in (
                    (plan.LINKS_BEFORE, torch.int32),
                    (plan.LINKS_VALUE, sizes.dtype),
                    (plan.LINKS_AFTER, torch.int32),
                )
            ]
            scratch = self.buffers[2][3].index_select(0, rows)
            result.append((rows, (*before, scratch)))
        return result

    def _held(self, count: int, *logs: Log, of: torch.dtype, width: tuple[int, ...] = ()) -> Tensor:
        """What all examples noted, ``[n, *width]``."""
        target = torch.empty(count, *width, dtype=of, device="cpu")
        for place, counter, begin in logs:
            source, most = self._room.address(place), self._asked.most[counter]
            join(source, most, self._counts(counter), target, begin)
        return target

    def _flat(self, count: int, *logs: Log, of: Any) -> Tensor:
        """The flat rows of a value that were noted, ``[n]``."""
        target = torch.empty(count, dtype=torch.int64, device="cpu")
        offsets = of.offsets.contiguous()
        for place, counter, begin in logs:
            source, most = self._room.address(place), self._asked.most[counter]
            join_rows(source, most, offsets, self._counts(counter), target, begin)
        return target

    def _counts(self, counter: int) -> Counts:
        address = self._room.address(plan.COUNTS)
        return Counts(address, plan.COUNTERS, counter, self._sizes.batch)

    def touched(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the flat rows that were read or written all, which of these, and whose begin where.

        Returns:
            Rows ``[n]``, int64; the places ``[m]`` in it of those written; where each example's
            begin and, last, n, ``[B + 1]``.
        """
        every, written = self.counts[:, plan.ROW_COUNT], self.counts[:, plan.WRITTEN_COUNT]
        log = (plan.ROW_LOG, plan.ROW_COUNT, 0)
        rows = self._flat(int(every.sum()), log, of=self.state.memory)
        begins = np.zeros(len(every) + 1, np.int64)
        np.cumsum(every, out=begins[1:])
        places = [begin + np.arange(count) for begin, count in zip(begins, written, strict=False)]
        return rows, torch.from_numpy(np.concatenate(places)), torch.from_numpy(begins)


@cache
def _constant(numbers: tuple[int, ...]) -> np.ndarray:
    return np.array(numbers, np.int64)
