"""How the states of the sparse memories come into a segment and out of it.

Their rows, recency and links are edited in place, by whoever holds them (`memcore.kernels.
sparse_segment`); a `Journal` says afterwards which rows were touched, and what they held before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memcore.errors import MemcoreError
from memcore.index.exact import WrittenRowsIndex
from memcore.index.protocol import Index
from memcore.kernels import plan as numbers
from memcore.kernels import sparse_plan as plan
from memcore.kernels.layout import Layout
from memcore.kernels.sparse import keys_at
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
            keys = tapes[memory][:, after, first : first + width]
            opened[memory].search(keys.unflatten(1, (sizes.heads, -1))[:, :, : sizes.words])
            yield numbers.READING, time, layer
    yield numbers.ENDING, 0, 0


def finish(layout: Layout, states: list[list[Any]], backward: bool) -> None:
    """Bring what the kernel has left into the shapes of a state."""
    if backward:
        for state in states:
            state[1] = state[1][:, : layout.sizes.words]


CONTIGUOUS = torch.contiguous_format
KINDS = {torch.float32: np.float32, torch.float64: np.float64}


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
        self.slots = slots
        heads, seen = state.read_index.shape[1:]
        written = heads * seen + 1
        like = state.read_weights
        self.read_index = torch.empty_like(state.read_index, memory_format=CONTIGUOUS)
        self.read_weights = torch.empty_like(like, memory_format=CONTIGUOUS)
        self.write_index = torch.empty(batch, written, dtype=torch.int64, device="cpu")
        self.write_weights = like.new_empty(batch, written)
        self.counts = np.zeros((batch, plan.COUNTERS), np.int64)
        self.now = state.recency.carried[0].flatten().clone()
        most = self.most = min(slots, heads * seen + steps * written)
        kind = KINDS[like.dtype]
        self.rows = _Log(batch, most, ((most, width, kind),))
        self.marks_before = np.empty((batch, most), np.uint8)
        self.mass = np.zeros((batch, most), kind)
        self.free = np.empty((batch, reads), np.int64)
        self.visible = np.empty((batch, heads * seen), np.int64)
        self.found = np.empty((batch, heads, reads), np.int64)
        self.leaves = np.empty((batch, most), np.int64)
        self.leaves_before = np.empty((batch, most), np.int32)
        starts, size = state.recency.levels
        self.starts = np.array(starts, np.int64)
        above = size - starts[1] if len(starts) > 1 else 1
        above = min(above, most * max(1, len(starts) - 1))
        self.entries = _Log(batch, above, ((above, 1, np.int32),))
        self.links: _Log | None = None
        if len(buffers) > 2:
            on, precedence = state.links.carried
            self.on, self.precedence = on.clone(), precedence.clone()
            kept = on.shape[1]
            most = min(slots, steps * (written + kept) * (1 + kept))
            lost = tuple((most, kept, own) for own in (np.int32, kind, np.int32))
            self.links = _Log(batch, most, lost)
            self.places = np.zeros((batch, most), np.int32)

    def tell(self, layout: Layout, at: int) -> None:
        """Tell a kernel of all that it is to edit."""
        state, memory, recency = self.state, self.state.memory, self.state.recency
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
        for place, array in (
            (plan.COUNTS, self.counts),
            (plan.MASS, self.mass),
            (plan.MARKS_BEFORE, self.marks_before),
            (plan.LEVEL_STARTS, self.starts),
            (plan.LEAVES, self.leaves),
            (plan.LEAVES_BEFORE, self.leaves_before),
            (plan.FREE, self.free),
            (plan.VISIBLE, self.visible),
            (plan.FOUND, self.found),
        ):
            layout.tell_array(at + place, array)
        layout.put(at + plan.LEVELS, len(self.starts))
        if memory.marked_row is not None:
            layout.tell(at + plan.MARKS, self.buffers[0][1])
            layout.tell(at + plan.INITIAL, memory.marked_row.detach().contiguous())
        places = (plan.MOST_ROWS, plan.ROW_LOG, plan.ROW_TABLE, plan.ROW_MASK)
        self.rows.tell(layout, at, places, (plan.ROWS_BEFORE,))
        places = (plan.MOST_ENTRIES, plan.ENTRY_LOG, plan.ENTRY_TABLE, plan.ENTRY_MASK)
        self.entries.tell(layout, at, places, (plan.ENTRIES_BEFORE,))
        if self.table is not None:
            self._tell_table(layout, at, self.table)
        if self.links is not None:
            for place, tensor in (
                (plan.LINK_BEFORE, self.buffers[2][0]),
                (plan.LINK_VALUE, self.buffers[2][1]),
                (plan.LINK_AFTER, self.buffers[2][2]),
                (plan.LINK_OFFSETS, state.links.offsets.contiguous()),
                (plan.ON, self.on),
                (plan.PRECEDENCE, self.precedence),
            ):
                layout.tell(at + place, tensor)
            layout.tell_array(at + plan.LINK_PLACE, self.places)
            places = (plan.MOST_LINKS, plan.LINK_LOG, plan.LINK_TABLE, plan.LINK_MASK)
            lost = (plan.LINKS_BEFORE, plan.LINKS_VALUE, plan.LINKS_AFTER)
            self.links.tell(layout, at, places, lost)

    def _tell_table(self, layout: Layout, at: int, index: WrittenRowsIndex) -> None:
        unwritten, memory = index.unwritten, self.state.memory
        table, names = index.table.arrays(self.most)
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

    def search(self, keys: Tensor) -> None:
        """Between the halves of a step, tell the index what was written, and ask it.

        Args:
            keys: ``[B, R, W]``.
        """
        # Copies: an index of one's own may keep what it is given.
        memory, slots, keys = self.state.memory, self.write_index.clone(), keys.clone()
        flat = (slots + memory.offsets).flatten()
        rows = self.buffers[0][0].index_select(0, flat).view(*slots.shape, -1)
        self.index.update(slots, rows, memory.examples)
        found = self.index.search(keys, self.found.shape[2], memory.examples)
        # Kernels check no bounds, and an index may be anybody's.
        if not isinstance(found, Tensor):
            raise TypeError(
                f"index: expected a torch.Tensor from its search, got {type(found).__name__}"
            )
        if found.shape != self.found.shape or found.dtype != torch.int64:
            raise MemcoreError(
                f"index: expected int64 slots of shape {list(self.found.shape)} from its search, "
                f"got {found.dtype} of shape {list(found.shape)}"
            )
        least, most = map(int, found.aminmax())
        if not 0 <= least <= most < self.slots:
            raise MemcoreError(
                f"index: expected slots in [0, {self.slots}) from its search, got {least} to {most}"
            )
        self.found[...] = found.numpy()

    def edited(self) -> list[Edited]:
        """The rows touched of all buffers, and what they held before."""
        counts, state = self.counts.tolist(), self.state
        written = [own[plan.WRITTEN_COUNT] for own in counts]
        result: list[Edited] = []
        rows = _joined(self.rows.log, written, state.memory.offsets)
        before: Buffers = (_joined(self.rows.before[0], written),)
        if len(self.buffers[0]) > 1:
            before = (*before, _joined(self.marks_before, written).bool())
        result.append((rows, before))
        leaves = [own[plan.LEAF_COUNT] for own in counts]
        entries = [own[plan.ENTRY_COUNT] for own in counts]
        offsets = state.recency.offsets
        touched = [_joined(self.leaves, leaves, offsets)]
        held = [_joined(self.leaves_before, leaves)]
        if any(entries):
            touched.append(_joined(self.entries.log, entries, offsets))
            held.append(_joined(self.entries.before[0][:, :, 0], entries))
        result.append((torch.cat(touched), (torch.cat(held),)))
        if self.links is not None:
            linked = [own[plan.LINK_COUNT] for own in counts]
            rows = _joined(self.links.log, linked, state.links.offsets)
            lost = tuple(_joined(before, linked) for before in self.links.before)
            scratch = self.buffers[2][3].index_select(0, rows)
            result.append((rows, (*lost, scratch)))
        return result

    def touched(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the flat rows that were read or written all, which of these, and whose begin where.

        Returns:
            Rows ``[n]``, int64; the places ``[m]`` in it of those written; where each example's
            begin and, last, n, ``[B + 1]``.
        """
        every, written = self.counts[:, plan.ROW_COUNT], self.counts[:, plan.WRITTEN_COUNT]
        rows = _joined(self.rows.log, every.tolist(), self.state.memory.offsets)
        begins = np.zeros(len(every) + 1, np.int64)
        np.cumsum(every, out=begins[1:])
        places = [begin + np.arange(count) for begin, count in zip(begins, written, strict=False)]
        return rows, torch.from_numpy(np.concatenate(places)), torch.from_numpy(begins)


class _Log:
    """Room for the rows that each example may touch, for their numbers, and for what they held.

    Args:
        batch: B.
        most: how many rows.
        lost: of what they held number, width and kind.
    """

    def __init__(self, batch: int, most: int, lost: Sequence[tuple[int, int, Any]]) -> None:
        self.most = most
        self.before = [np.empty((batch, number, width), kind) for number, width, kind in lost]
        self.mask = (1 << (2 * most - 1).bit_length()) - 1
        self.log = np.empty((batch, most), np.int64)
        self.table = np.zeros((batch, self.mask + 1), np.int32)

    def tell(
        self, layout: Layout, at: int, places: tuple[int, int, int, int], lost: tuple[int, ...]
    ) -> None:
        """Tell a kernel of it."""
        layout.put(at + places[0], self.most)
        layout.tell_array(at + places[1], self.log)
        layout.tell_array(at + places[2], self.table)
        layout.put(at + places[3], self.mask)
        for place, before in zip(lost, self.before, strict=True):
            layout.tell_array(at + place, before)


def _joined(parts: np.ndarray, counts: Sequence[int], offsets: Tensor | None = None) -> Tensor:
    """The first so many of each example, copied, and moved to where that begins."""
    if offsets is None:
        own = [part[:count] for part, count in zip(parts, counts, strict=True)]
    else:
        begins = offsets.flatten().tolist()
        own = [
            part[:count] + begin for part, count, begin in zip(parts, counts, begins, strict=True)
        ]
    if len(own) > 1:
        return torch.from_numpy(np.concatenate(own))
    return torch.from_numpy(own[0] if offsets is not None else own[0].copy())
