"""The entries of the sparse memories, SAM's and the SDNC's, as `memcore.kernels.memories` has."""

from __future__ import annotations

from typing import Any

from memcore.kernels import plan, sparse, sparse_plan
from memcore.kernels.compiling import entries, joined, kernel
from memcore.kernels.functions import fill
from memcore.kernels.journal import Touched
from memcore.kernels.lanes import floats_at, int32s_at, int64s_at, part, uint8s_at
from memcore.kernels.recency import Times
from memcore.kernels.sizes import Sizes
from memcore.kernels.sparse_backward import backward
from memcore.kernels.sparse_links import Links
from memcore.kernels.sparse_record import fields
from memcore.kernels.sparse_rows import Rows, Table, begin_free, touch
from memcore.kernels.told import ANYTHING, places, sizes_of

__all__ = ["BACKWARD", "FORWARD"]


@kernel
def _counts(told, at, example):
    return part(
        int64s_at(told[at + sparse_plan.COUNTS], ANYTHING),
        example * sparse_plan.COUNTERS,
        sparse_plan.COUNTERS,
    )


@kernel
def _touched(told, example, most, log, table, mask, counts, which):
    return Touched(
        part(int64s_at(log, ANYTHING), example * most, most),
        part(int32s_at(table, ANYTHING), example * (mask + 1), mask + 1), mask, counts, which,
    )  # fmt: skip


@kernel
def _rows(told, at, example, counts, sizes: Sizes, zero):
    begin, most = (
        int64s_at(told[at + sparse_plan.ROW_OFFSETS], ANYTHING)[example],
        told[at + sparse_plan.MOST_ROWS],
    )
    words, marked = sizes.words, told[at + sparse_plan.MARKS] != 0
    return Rows(
        part(
            floats_at(told[at + sparse_plan.ROWS], ANYTHING, zero), begin * words,
            sizes.slots * words,
        ),
        words,
        part(
            floats_at(told[at + sparse_plan.INITIAL], ANYTHING, zero),
            example * words if marked else 0, words,
        ),
        marked,
        part(
            uint8s_at(told[at + sparse_plan.MARKS], ANYTHING), begin if marked else 0, sizes.slots
        ),
        _touched(
            told, example, most, told[at + sparse_plan.ROW_LOG],
            told[at + sparse_plan.ROW_TABLE],
            told[at + sparse_plan.ROW_MASK], counts, sparse_plan.ROW_COUNT,
        ),
        part(
            floats_at(told[at + sparse_plan.ROWS_BEFORE], ANYTHING, zero), example * most * words,
            most * words,
        ),
        part(uint8s_at(told[at + sparse_plan.MARKS_BEFORE], ANYTHING), example * most, most),
    )  # fmt: skip


@kernel
def _table(told, at, example, counts, sizes: Sizes, zero):
    own = 0
    if told[at + sparse_plan.TABLE] != 0:
        own = int64s_at(told[at + sparse_plan.TABLE_EXAMPLES], ANYTHING)[example]
    capacity, padded = told[at + sparse_plan.CAPACITY], sizes.padded
    has_initial = told[at + sparse_plan.TABLE_INITIAL] != 0
    return Table(
        part(
            floats_at(told[at + sparse_plan.TABLE], ANYTHING, zero), own * capacity * padded,
            capacity * padded,
        ),
        part(int64s_at(told[at + sparse_plan.NAMES], ANYTHING), own * capacity, capacity),
        part(int32s_at(told[at + sparse_plan.PLACES], ANYTHING), own * sizes.slots, sizes.slots),
        part(int64s_at(told[at + sparse_plan.USED], ANYTHING), own, 1),
        part(int64s_at(told[at + sparse_plan.FREE], ANYTHING), example * sizes.reads, sizes.reads),
        part(
            floats_at(told[at + sparse_plan.TABLE_INITIAL], ANYTHING, zero),
            own * padded if has_initial else 0, padded,
        ),
        has_initial,
        counts,
    )  # fmt: skip


@kernel
def _times(told, at, example, counts):
    most, begin = (
        told[at + sparse_plan.MOST_ROWS],
        int64s_at(told[at + sparse_plan.TIME_OFFSETS], ANYTHING)[example],
    )
    entries = told[at + sparse_plan.MOST_ENTRIES]
    return Times(
        part(int32s_at(told[at + sparse_plan.TIMES], ANYTHING), begin, ANYTHING),
        int64s_at(told[at + sparse_plan.LEVEL_STARTS], ANYTHING),
        told[at + sparse_plan.LEVELS],
        int32s_at(told[at + sparse_plan.NOW], ANYTHING)[example],
        part(int64s_at(told[at + sparse_plan.LEAVES], ANYTHING), example * most, most),
        part(int32s_at(told[at + sparse_plan.LEAVES_BEFORE], ANYTHING), example * most, most),
        _touched(
            told, example, entries, told[at + sparse_plan.ENTRY_LOG],
            told[at + sparse_plan.ENTRY_TABLE],
            told[at + sparse_plan.ENTRY_MASK], counts, sparse_plan.ENTRY_COUNT,
        ),
        part(
            int32s_at(told[at + sparse_plan.ENTRIES_BEFORE], ANYTHING), example * entries, entries
        ),
        counts,
        sparse_plan.LEAF_COUNT,
    )  # fmt: skip


@kernel
def _links(told, at, example, counts, sizes: Sizes, zero):
    reads, most = sizes.temporal, told[at + sparse_plan.MOST_LINKS]
    begin, length = 0, sizes.slots * reads
    if reads > 0:
        begin = int64s_at(told[at + sparse_plan.LINK_OFFSETS], ANYTHING)[example] * reads
    lost, own = example * most * reads, example * reads
    return Links(
        part(int32s_at(told[at + sparse_plan.LINK_BEFORE], ANYTHING), begin, length),
        part(floats_at(told[at + sparse_plan.LINK_VALUE], ANYTHING, zero), begin, length),
        part(int32s_at(told[at + sparse_plan.LINK_AFTER], ANYTHING), begin, length),
        reads,
        part(int64s_at(told[at + sparse_plan.ON], ANYTHING), own, reads),
        part(floats_at(told[at + sparse_plan.PRECEDENCE], ANYTHING, zero), own, reads),
        _touched(
            told, example, most, told[at + sparse_plan.LINK_LOG], told[at + sparse_plan.LINK_TABLE],
            told[at + sparse_plan.LINK_MASK], counts, sparse_plan.LINK_COUNT,
        ),
        part(int32s_at(told[at + sparse_plan.LINKS_BEFORE], ANYTHING), lost, most * reads),
        part(floats_at(told[at + sparse_plan.LINKS_VALUE], ANYTHING, zero), lost, most * reads),
        part(int32s_at(told[at + sparse_plan.LINKS_AFTER], ANYTHING), lost, most * reads),
        part(int32s_at(told[at + sparse_plan.LINK_PLACE], ANYTHING), example * most, most),
    )  # fmt: skip


@joined
def _forward(told, what, at, example, step, vector, reads, scratch, _, zero):
    sizes, order, record = sizes_of(told), told[plan.ORDER], told[plan.RECORD]
    counts = _counts(told, at, example)
    rows = _rows(told, at, example, counts, sizes, zero)
    table = _table(told, at, example, counts, sizes, zero)
    tape = floats_at(told[at + sparse_plan.TAPE], ANYTHING, zero)
    numbers = int32s_at(told[at + sparse_plan.NUMBERS], ANYTHING)
    here, there = places(told, example, step)
    count = order - 1
    before = fields(tape, here * record, sizes)
    index = part(int64s_at(told[at + sparse_plan.VISIBLE], ANYTHING), example * count, count)
    slots = part(
        int64s_at(told[at + sparse_plan.WRITE_INDEX_OUT], ANYTHING), example * order, order
    )
    if what == plan.BEGIN:
        _begin(told, at, example, here, before, numbers, rows, table, sizes, zero)
    elif what == plan.END:
        _end(told, at, example, step, before, index, table, counts, sizes, zero)
    else:
        times, most = _times(told, at, example, counts), told[at + sparse_plan.MOST_ROWS]
        near = sizes.heads * sizes.reads
        after = fields(tape, there * record, sizes)
        numbers_before = part(numbers, here * order, order)
        numbers_after = part(numbers, there * order, order)
        mass = part(floats_at(told[at + sparse_plan.MASS], ANYTHING, zero), example * most, most)
        found = part(int64s_at(told[at + sparse_plan.FOUND], ANYTHING), example * near, near)
        if what != plan.READ:
            weights = floats_at(told[at + sparse_plan.WRITE_WEIGHTS_OUT], ANYTHING, zero)
            sparse.write(
                before, after, numbers_before, numbers_after,
                floats_at(vector, told[plan.INTERFACE_WIDTH], zero), rows, times,
                _links(told, at, example, counts, sizes, zero), mass, slots,
                part(weights, example * order, order), index, sizes,
            )  # fmt: skip
        if what == plan.STEP:
            sparse.find(after, rows, table, slots, found, sizes)
        if what != plan.WRITE:
            sparse.read(
                after, numbers_before, numbers_after,
                floats_at(reads, sizes.heads * sizes.words, zero), rows, times, mass, index, found,
                times.begun + step + 1, sizes,
            )  # fmt: skip


@kernel
def _begin(told, at, example, here, record, numbers, rows, table, sizes: Sizes, zero):
    """Bring the state in, and look where the lowest slots are that were never written."""
    order = told[plan.ORDER]
    count = order - 1
    if told[at + sparse_plan.TABLE] != 0:
        own = int64s_at(told[at + sparse_plan.TABLE_EXAMPLES], ANYTHING)[example]
        first = int64s_at(told[at + sparse_plan.FIRST_FREE], ANYTHING)[own]
        begin_free(table, first, sizes.reads, sizes.slots)
    index = int64s_at(told[at + sparse_plan.READ_INDEX], ANYTHING)
    weights = floats_at(told[at + sparse_plan.READ_WEIGHTS], ANYTHING, zero)
    for j in range(count):
        numbers[here * order + j] = touch(rows, index[example * count + j])
        record.read_weights[j] = weights[example * count + j]


@kernel
def _end(told, at, example, step, record, index, table, counts, sizes: Sizes, zero):
    """Hand out the state after the last step, whose slots read are ``index``."""
    count = told[plan.ORDER] - 1
    read_index = int64s_at(told[at + sparse_plan.READ_INDEX_OUT], ANYTHING)
    weights = floats_at(told[at + sparse_plan.READ_WEIGHTS_OUT], ANYTHING, zero)
    for j in range(count):
        read_index[example * count + j] = index[j]
        weights[example * count + j] = record.read_weights[j]
    now = int32s_at(told[at + sparse_plan.NOW], ANYTHING)
    now[example] += step
    if told[at + sparse_plan.TABLE] != 0:
        own = int64s_at(told[at + sparse_plan.TABLE_EXAMPLES], ANYTHING)[example]
        first_free = int64s_at(told[at + sparse_plan.FIRST_FREE], ANYTHING)
        first_free[own] = table.free[0] if counts[sparse_plan.FREE_COUNT] > 0 else sizes.slots


@joined
def _backward(told, what, at, example, step, d_reads, d_vector, work, d_state, zero):
    sizes, order, record = sizes_of(told), told[plan.ORDER], told[plan.RECORD]
    count = order - 1
    d_weights = floats_at(d_state, count, zero)
    if what == plan.BEGIN:
        if told[at + sparse_plan.D_READ_WEIGHTS] != 0:
            given = floats_at(told[at + sparse_plan.D_READ_WEIGHTS], ANYTHING, zero)
            for j in range(count):
                d_weights[j] = given[example * count + j]
        else:
            fill(d_weights, 0, count, 0.0)
    elif what == plan.END:
        found = floats_at(told[at + sparse_plan.D_READ_WEIGHTS_OUT], ANYTHING, zero)
        for j in range(count):
            found[example * count + j] = d_weights[j]
    else:
        tape = floats_at(told[at + sparse_plan.TAPE], ANYTHING, zero)
        numbers = int32s_at(told[at + sparse_plan.NUMBERS], ANYTHING)
        here, there = places(told, example, step)
        written = (
            step == told[plan.MEMORY_STEPS] - 1 and told[at + sparse_plan.D_WRITE_WEIGHTS] != 0
        )
        begin = int64s_at(told[at + sparse_plan.ROW_BEGINS], ANYTHING)[example] * sizes.padded
        backward(
            fields(tape, here * record, sizes), fields(tape, there * record, sizes),
            part(numbers, here * order, order), part(numbers, there * order, order),
            floats_at(d_reads, sizes.heads * sizes.words, zero), d_weights,
            part(
                floats_at(told[at + sparse_plan.D_WRITE_WEIGHTS], ANYTHING, zero),
                example * order if written else 0, order if written else 0,
            ),
            part(floats_at(told[at + sparse_plan.D_ROWS], ANYTHING, zero), begin, ANYTHING),
            floats_at(d_vector, sizes.interface, zero), floats_at(work, ANYTHING, zero), sizes,
        )  # fmt: skip


def _forward_entry(real: Any, digest: str) -> Any:
    def step(told, what, at, example, number, first, second, third, fourth):
        if len(digest) > 0:
            _forward(
                int64s_at(told, ANYTHING), what, at, example, number, first, second, third, fourth,
                real(0),
            )  # fmt: skip

    return step


def _backward_entry(real: Any, digest: str) -> Any:
    def step(told, what, at, example, number, first, second, third, fourth):
        if len(digest) > 0:
            _backward(
                int64s_at(told, ANYTHING), what, at, example, number, first, second, third, fourth,
                real(0),
            )  # fmt: skip

    return step


FORWARD = entries(_forward_entry, plan.STEP_ARGUMENTS)
BACKWARD = entries(_backward_entry, plan.STEP_ARGUMENTS)
