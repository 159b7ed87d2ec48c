"""How the states of the sparse memories come into a segment and out of it.

Their rows, recency and links are edited in place, by whoever holds them (`memcore.kernels.
sparse_segment`); a `Journal` says afterwards which rows were touched, and what they held before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memcore.index.exact import WrittenRowsIndex
from memcore.kernels import sparse_plan as plan
from memcore.kernels.layout import Layout
from memcore.persistent.versions import Buffers, Edited

__all__ = ["Journal", "finish", "tell_backward", "tell_forward"]


def tell_forward(
    layout: Layout, given: Sequence[Sequence[Any]], recording: bool, opened: Sequence[Journal]
) -> tuple[list[list[Any]], list[Tensor]]:
    """Tell of the states that are open: what is made of them, and what backward needs."""
    states: list[list[Any]] = []
    kept: list[Tensor] = []
    for memory, journal in enumerate(opened):
        at = layout.memory_at(memory)
        tape = layout.tape(layout.examples, layout.kept_steps, layout.record)
        shape = (layout.examples, layout.kept_steps, layout.order)
        numbers = torch.empty(shape, dtype=torch.int32, device="cpu")
        layout.tell(at + plan.TAPE, tape)
        layout.tell(at + plan.NUMBERS, numbers)
        journal.tell(layout, at)
        states.append([journal.read_weights, journal.write_weights, None])
        kept += [tape, numbers]
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


def finish(layout: Layout, states: list[list[Any]], backward: bool) -> None:
    """Bring what the kernel has left into the shapes of a state."""
    if backward:
        for state in states:
            state[1] = state[1][:, : layout.sizes.words]


class Journal:
    """One state that is edited in place, and what was there before.

    Args:
        state: a `memcore.sam.SAMState` or `memcore.sdnc.SDNCState`.
        index: exact search over the rows written, which knows this memory.
        buffers: those of its rows, of its recency and, in the SDNC, of its links.
        steps: S, how many are to be made.
    """

    def __init__(
        self, state: Any, index: WrittenRowsIndex, buffers: Sequence[Buffers], steps: int
    ) -> None:
        self.state, self.index, self.buffers = state, index, buffers
        batch, slots, width = state.memory.shape
        self.slots = slots
        heads, seen = state.read_index.shape[1:]
        written = heads * seen + 1
        like = state.read_weights
        self.read_index = torch.empty_like(state.read_index, memory_format=CONTIGUOUS)
        self.read_weights = torch.empty_like(like, memory_format=CONTIGUOUS)
        self.write_index = torch.empty(batch, written, dtype=torch.int64, device="cpu")
        self.write_weights = like.new_empty(batch, written)
        self.counts = torch.zeros(batch, plan.COUNTERS, dtype=torch.int64, device="cpu")
        self.now = state.recency.carried[0].flatten().clone()
        most = self.most = min(slots, heads * seen + steps * written)
        self.rows = _Log(batch, most, (like.new_empty(batch, most, width),))
        self.marks_before = torch.empty(batch, most, dtype=torch.uint8, device="cpu")
        self.leaves = torch.empty(batch, most, dtype=torch.int64, device="cpu")
        self.leaves_before = torch.empty(batch, most, dtype=torch.int32, device="cpu")
        starts, size = state.recency.levels
        self.starts = torch.tensor(starts, dtype=torch.int64, device="cpu")
        above = size - starts[1] if len(starts) > 1 else 1
        above = min(above, most * max(1, len(starts) - 1))
        before = torch.empty(batch, above, dtype=torch.int32, device="cpu")
        self.entries = _Log(batch, above, (before,))
        self.links: _Log | None = None
        if len(buffers) > 2:
            on, precedence = state.links.carried
            self.on, self.precedence = on.clone(), precedence.clone()
            reads = on.shape[1]
            most = min(slots, steps * (written + reads) * (1 + reads))
            self.links = _Log(
                batch,
                most,
                (
                    torch.empty(batch, most, reads, dtype=torch.int32, device="cpu"),
                    like.new_empty(batch, most, reads),
                    torch.empty(batch, most, reads, dtype=torch.int32, device="cpu"),
                ),
            )
            self.places = torch.zeros(batch, most, dtype=torch.int32, device="cpu")

    def tell(self, layout: Layout, at: int) -> None:
        """Tell a kernel of all that it is to edit."""
        state, like = self.state, self.state.read_weights
        batch, reads = len(like), layout.sizes.reads
        for place, tensor in (
            (plan.READ_INDEX, state.read_index.contiguous()),
            (plan.READ_WEIGHTS, like.detach().contiguous()),
            (plan.READ_INDEX_OUT, self.read_index),
            (plan.READ_WEIGHTS_OUT, self.read_weights),
            (plan.WRITE_INDEX_OUT, self.write_index),
            (plan.WRITE_WEIGHTS_OUT, self.write_weights),
            (plan.COUNTS, self.counts),
            (plan.MASS, layout.zeros(batch, self.most)),
            (plan.ROWS, self.buffers[0][0]),
            (plan.ROW_OFFSETS, state.memory.offsets.contiguous()),
            (plan.ROWS_BEFORE, self.rows.before[0]),
            (plan.MARKS_BEFORE, self.marks_before),
            (plan.TIMES, self.buffers[1][0]),
            (plan.TIME_OFFSETS, state.recency.offsets.contiguous()),
            (plan.NOW, self.now),
            (plan.LEVEL_STARTS, self.starts),
            (plan.LEAVES, self.leaves),
            (plan.LEAVES_BEFORE, self.leaves_before),
            (plan.ENTRIES_BEFORE, self.entries.before[0]),
            (plan.FREE, torch.empty(batch, reads, dtype=torch.int64, device="cpu")),
        ):
            layout.tell(at + place, tensor)
        layout.put(at + plan.LEVELS, len(self.starts))
        if state.memory.marked_row is not None:
            layout.tell(at + plan.MARKS, self.buffers[0][1])
            layout.tell(at + plan.INITIAL, state.memory.marked_row.detach().contiguous())
        self.rows.tell(layout, at, (plan.MOST_ROWS, plan.ROW_LOG, plan.ROW_TABLE, plan.ROW_MASK))
        places = (plan.MOST_ENTRIES, plan.ENTRY_LOG, plan.ENTRY_TABLE, plan.ENTRY_MASK)
        self.entries.tell(layout, at, places)
        self._tell_index(layout, at)
        if self.links is not None:
            for place, tensor in (
                (plan.LINK_BEFORE, self.buffers[2][0]),
                (plan.LINK_VALUE, self.buffers[2][1]),
                (plan.LINK_AFTER, self.buffers[2][2]),
                (plan.LINK_OFFSETS, state.links.offsets.contiguous()),
                (plan.ON, self.on),
                (plan.PRECEDENCE, self.precedence),
                (plan.LINKS_BEFORE, self.links.before[0]),
                (plan.LINKS_VALUE, self.links.before[1]),
                (plan.LINKS_AFTER, self.links.before[2]),
                (plan.LINK_PLACE, self.places),
            ):
                layout.tell(at + place, tensor)
            places = (plan.MOST_LINKS, plan.LINK_LOG, plan.LINK_TABLE, plan.LINK_MASK)
            self.links.tell(layout, at, places)

    def _tell_index(self, layout: Layout, at: int) -> None:
        unwritten, memory = self.index.unwritten, self.state.memory
        table, names = self.index.table.arrays(self.most)
        layout.put(at + plan.CAPACITY, names.shape[1])
        initial = unwritten.initial
        if initial is not None:
            rest = layout.padded - initial.shape[1]
            initial = np.pad(initial.astype(table.dtype, copy=False), ((0, 0), (0, rest)))
        for place, array in (
            (plan.TABLE, table),
            (plan.NAMES, names),
            (plan.PLACES, unwritten.place),
            (plan.USED, self.index.table.used),
            (plan.FIRST_FREE, unwritten.first_free),
            (plan.TABLE_INITIAL, initial),
        ):
            if array is not None:
                layout.tell(at + place, torch.from_numpy(array))
        examples = memory.examples
        if examples is None:
            examples = torch.arange(len(memory.offsets), device="cpu")
        layout.tell(at + plan.TABLE_EXAMPLES, examples.contiguous())

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
            held.append(_joined(self.entries.before[0], entries))
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
        counts = self.counts.tolist()
        rows = _joined(
            self.rows.log, [own[plan.ROW_COUNT] for own in counts], self.state.memory.offsets
        )
        begins, places = [0], []
        for own in counts:
            begin = begins[-1]
            places.append(torch.arange(begin, begin + own[plan.WRITTEN_COUNT], device="cpu"))
            begins.append(begin + own[plan.ROW_COUNT])
        return rows, torch.cat(places), torch.tensor(begins, dtype=torch.int64, device="cpu")


class _Log:
    """Room for the rows that each example may touch, for their numbers, and for what they held."""

    def __init__(self, batch: int, most: int, before: tuple[Tensor, ...]) -> None:
        self.most, self.before = most, before
        self.mask = (1 << (2 * most - 1).bit_length()) - 1
        self.log = torch.empty(batch, most, dtype=torch.int64, device="cpu")
        self.table = torch.zeros(batch, self.mask + 1, dtype=torch.int32, device="cpu")

    def tell(self, layout: Layout, at: int, places: tuple[int, int, int, int]) -> None:
        """Tell a kernel of it."""
        layout.put(at + places[0], self.most)
        layout.tell(at + places[1], self.log)
        layout.tell(at + places[2], self.table)
        layout.put(at + places[3], self.mask)


CONTIGUOUS = torch.contiguous_format


def _joined(parts: Tensor, counts: list[int], offsets: Tensor | None = None) -> Tensor:
    """The first so many of each example, copied, and moved to where that begins."""
    own = [part[:count] for part, count in zip(parts.unbind(0), counts, strict=True)]
    if offsets is not None:
        own = [part + offset for part, offset in zip(own, offsets.unbind(0), strict=True)]
    return torch.cat(own)
