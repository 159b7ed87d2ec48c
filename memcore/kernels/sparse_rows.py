"""The rows of one example of a `RowMemory`, edited in place, and exact search over those written.

Search keeps a table of the rows ever written, brought to length 1, beside the memory
(`memcore.index.exact`); the lowest slots never written stand for all others.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.content import NORM_EPSILON
from memcore.kernels.functions import fill
from memcore.kernels.journal import Touched, number_of
from memcore.kernels.lanes import filled, fma, lane_count, largest, load, store, total
from memcore.kernels.products import multiply_transposed
from memcore.kernels.sparse_plan import FREE_COUNT as FREE
from memcore.kernels.sparse_plan import NEXT_FREE as NEXT

__all__ = ["Rows", "Table", "begin_free", "dot", "fetch", "search", "touch", "write_row"]

CHUNK = 64  # rows that are compared at once
RESOLUTION = 10_000.0  # that of memcore.index
SLOT_BITS = 40
HIDDEN_SINGLE, HIDDEN_DOUBLE = 1e-5, 1e-12  # as there, of what masks show


class Rows(NamedTuple):
    """One example's rows, and the journal of those touched."""

    data: Any  # [N·W]
    words: Any  # W
    initial: Any  # [W], what rows hold that are not marked
    marked: Any  # whether there are marks
    marks: Any  # uint8 [N]: 1 where a row was written
    touched: Touched
    before: Any  # [most, W]: what each held when it was first touched
    marks_before: Any  # uint8 [most]


class Table(NamedTuple):
    """The rows of one example that were ever written, for search."""

    rows: Any  # [capacity, P], of length 1; P is W, rounded up to whole registers
    names: Any  # int64 [capacity], −slot
    place: Any  # int32 [N]: where a slot's row is, from 1; 0: it was never written
    used: Any  # int64 [1]
    free: Any  # int64 [K], the lowest slots never written
    initial: Any  # [P], what they hold, of length 1
    has_initial: Any  # 0: zeros
    counts: Any  # int64, counters of the example


@inlined
def dot(left, left_at, right, right_at, length):
    """The inner product of ``length`` numbers, whole registers."""
    found = filled(left, 0)
    for j in range(0, length, lane_count(left)):
        found = fma(load(left, left_at + j), load(right, right_at + j), found)
    return total(found)


@inlined
def fetch(rows: Rows, slot, target, at, padded):
    """A row's content into ``target[at:]``, zeros beyond its W numbers."""
    words = rows.words
    if rows.marked != 0 and rows.marks[slot] == 0:
        for j in range(words):
            target[at + j] = rows.initial[j]
    else:
        begin = slot * words
        for j in range(words):
            target[at + j] = rows.data[begin + j]
    fill(target, at + words, at + padded, 0.0)


@inlined
def touch(rows: Rows, slot):
    """The number of a row; what it holds is noted when it is touched first."""
    known = rows.touched.counts[rows.touched.at]
    number = number_of(rows.touched, slot)
    if number == known:
        begin, to = slot * rows.words, number * rows.words
        for j in range(rows.words):
            rows.before[to + j] = rows.data[begin + j]
        if rows.marked != 0:
            rows.marks_before[number] = rows.marks[slot]
    return number


@inlined
def write_row(rows: Rows, slot, erase, weight, add, add_at):
    """Add ``weight`` times W numbers to a row, after setting it to 0 where ``erase``."""
    begin, words = slot * rows.words, rows.words
    if rows.marked != 0 and rows.marks[slot] == 0:
        rows.marks[slot] = 1
        for j in range(words):
            rows.data[begin + j] = rows.initial[j]
    if erase:
        fill(rows.data, begin, begin + words, 0.0)
    for j in range(words):
        rows.data[begin + j] += weight * add[add_at + j]


@kernel
def begin_free(table: Table, first, reads, slots):
    """Find the lowest slots never written, of which none is below ``first``."""
    table.counts[FREE], table.counts[NEXT] = 0, first
    _refill(table, reads, slots)


@kernel
def _refill(table: Table, reads, slots):
    count, slot = table.counts[FREE], table.counts[NEXT]
    while count < reads and slot < slots:
        if table.place[slot] == 0:
            table.free[count] = slot
            count += 1
        slot += 1
    table.counts[FREE], table.counts[NEXT] = count, slot


@inlined
def update(table: Table, rows: Rows, slot, padded, reads, slots):
    """The table's row of a slot becomes what the memory holds there, of length 1."""
    place = table.place[slot] - 1
    if place < 0:
        place = table.used[0]
        table.used[0] = place + 1
        table.place[slot] = place + 1
        table.names[place] = -slot
        left = 0
        for at in range(table.counts[FREE]):
            if table.free[at] != slot:
                table.free[left] = table.free[at]
                left += 1
        if left < table.counts[FREE]:
            table.counts[FREE] = left
            _refill(table, reads, slots)
    begin, words, at = slot * rows.words, rows.words, place * padded
    for j in range(words):
        table.rows[at + j] = rows.data[begin + j]
    fill(table.rows, at + words, at + padded, 0.0)
    _shorten(table.rows, at, table.rows, at, padded, 1.0)


@inlined
def _shorten(source, source_at, target, target_at, padded, length):
    """Bring a vector to that length, up to ε."""
    squared = dot(source, source_at, source, source_at, padded)
    scale = filled(source, length / math.sqrt(squared + NORM_EPSILON))
    for j in range(0, padded, lane_count(source)):
        store(target, target_at + j, load(source, source_at + j) * scale)


@inlined
def _rank(cosine):
    """The whole number by which a cosine is ranked; what is not a number comes last."""
    if cosine >= -RESOLUTION:
        return np.int64(np.rint(cosine))
    return np.int64(-RESOLUTION)


@inlined
def _insert(best, first, count, reads, code):
    """Put a code among the ``count`` lowest from ``best[first]`` on; how many there are then."""
    if count < reads:
        place = count
        count += 1
    elif code < best[first + reads - 1]:
        place = reads - 1
    else:
        return count
    while place > 0 and best[first + place - 1] > code:
        best[first + place] = best[first + place - 1]
        place -= 1
    best[first + place] = code
    return count


@inlined
def _bound(best, first, count, reads):
    """What a cosine must at least be to come in."""
    if count < reads:
        return -math.inf
    return (-(best[first + reads - 1] >> SLOT_BITS)) - 0.5


@inlined
def _length(hidden, itemsize):
    """That of what a mask shows of a row of length 1, whose square is less by so much."""
    least = HIDDEN_SINGLE if itemsize == 4 else HIDDEN_DOUBLE
    return math.sqrt(least if 1 + hidden < least else 1 + hidden)


@kernel
def _shown(table: Table, first, count, less, squares, hidden, scores, heads, padded):
    """Scores become those of what masks show, of which ``less`` [R·P] are the squares less 1."""
    fill(hidden, 0, heads * CHUNK, 0.0)
    for j in range(0, count * padded, lane_count(less)):
        value = load(table.rows, first * padded + j)
        store(squares, j, value * value)
    multiply_transposed(
        less, 0, padded, squares, 0, padded, hidden, 0, CHUNK, 1, heads, count, padded
    )
    for head in range(heads):
        for at in range(head * CHUNK, head * CHUNK + count):
            scores[at] /= _length(hidden[at], hidden.itemsize)


@kernel
def search(table: Table, keys, masks, heads, padded, reads, found):
    """The K best slots of each head into ``found`` [R·K], best first.

    They are ranked by the cosine rounded to 1e-4, of equals the lowest slot first. ``keys`` [R·P];
    ``masks`` the same, or empty. Of what these show of a row of length 1 the length is
    ``√(1 + Σ (m² − 1) u²)``.
    """
    scaled, lanes = np.empty(heads * padded, keys.dtype), lane_count(keys)
    scores, counts = np.empty(heads * CHUNK, keys.dtype), np.zeros(heads, np.int64)
    less, hidden = np.empty(len(masks), keys.dtype), np.empty(heads * CHUNK, keys.dtype)
    squares = np.empty(CHUNK * padded if len(masks) > 0 else 0, keys.dtype)
    used = table.used[0]
    for j in range(len(masks)):
        scaled[j], less[j] = keys[j] * masks[j], masks[j] * masks[j] - 1
    for head in range(heads):
        row = head * padded
        if len(masks) > 0:
            _shorten(scaled, row, scaled, row, padded, RESOLUTION)
            for j in range(row, row + padded):
                scaled[j] *= masks[j]
        else:
            _shorten(keys, row, scaled, row, padded, RESOLUTION)
        own = 0
        if table.has_initial != 0:
            cosine = dot(scaled, row, table.initial, 0, padded)
            if len(masks) > 0:
                shrunk = 0.0
                for j in range(padded):
                    shrunk += less[row + j] * table.initial[j] * table.initial[j]
                cosine /= _length(shrunk, keys.itemsize)
            own = _rank(cosine)
        for at in range(table.counts[FREE]):
            code = (-own << SLOT_BITS) + table.free[at]
            counts[head] = _insert(found, head * reads, counts[head], reads, code)
    for first in range(0, used, CHUNK):
        count = min(CHUNK, used - first)
        fill(scores, 0, heads * CHUNK, 0.0)
        multiply_transposed(
            scaled, 0, padded, table.rows, first * padded, padded, scores, 0, CHUNK, 1,
            heads, count, padded,
        )  # fmt: skip
        if len(masks) > 0:
            _shown(table, first, count, less, squares, hidden, scores, heads, padded)
        for head in range(heads):
            row, best = head * CHUNK, head * reads
            bound = _bound(found, best, counts[head], reads)
            for begin in range(0, count, lanes):
                # Not a number is not below: it is looked at, and so is what no bound is known for.
                if largest(load(scores, row + begin)) < bound:
                    continue
                for at in range(begin, min(begin + lanes, count)):
                    if scores[row + at] < bound:
                        continue
                    code = (-_rank(scores[row + at]) << SLOT_BITS) - table.names[first + at]
                    counts[head] = _insert(found, best, counts[head], reads, code)
                    bound = _bound(found, best, counts[head], reads)
    for at in range(heads * reads):
        found[at] &= (1 << SLOT_BITS) - 1
