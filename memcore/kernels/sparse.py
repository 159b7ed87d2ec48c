"""The steps of SAM and the SDNC for one example: `memcore.sam`, `memcore.sdnc`.

Each step fills a record: what backward needs of it, beside the numbers of the rows that were read
and of the row that was erased (`memcore.kernels.journal`). Where K_L is 0 there are no temporal
links, and it is SAM.
"""

from __future__ import annotations

import math

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.content import NORM_EPSILON
from memcore.kernels.functions import fill, oneplus, oneplus_slope
from memcore.kernels.lanes import filled, fma, lane_count, load, part, total
from memcore.kernels.recency import Times, access, least_recent
from memcore.kernels.sizes import Sizes
from memcore.kernels.sparse_links import Links, follow
from memcore.kernels.sparse_links import write as write_links
from memcore.kernels.sparse_plan import WRITTEN_COUNT
from memcore.kernels.sparse_record import SparseRecord, seen_by
from memcore.kernels.sparse_rows import Rows, Table, dot, fetch, search, touch, update, write_row

__all__ = ["find", "read", "slots_written", "write"]

ACCESS_THRESHOLD = 0.005  # δ, that of memcore.sparse_step


@kernel
def _activate(vector, record: SparseRecord, sizes: Sizes):
    """`memcore.sdnc_interface.parse_interface`, or without modes `memcore.sam_interface`'s."""
    heads, words, padded = sizes.heads, sizes.words, sizes.padded
    for head in range(heads):
        key = head * padded
        for w in range(words):
            record.keys[key + w] = vector[head * words + w]
        fill(record.keys, key + words, key + padded, 0.0)
        if sizes.masking != 0:
            _activate_mask(vector, record, head, sizes)
        squared = dot(record.keys, key, record.shown, key, padded)
        record.key_norms[head] = 1 / math.sqrt(squared + NORM_EPSILON)
        raw = vector[heads * words + head]
        record.strengths[head] = oneplus(raw) * sizes.temperature
        record.slopes[head] = oneplus_slope(raw) * sizes.temperature
    at = heads * (words + 1)
    _copy_from(vector, at, record.add, words)
    fill(record.add, words, padded, 0.0)
    at += words
    for gate in range(2):
        record.gates[gate] = 1 / (1 + math.exp(-vector[at + gate]))
    at += 2
    for head in range(heads if sizes.temporal > 0 else 0):
        begin = at + 3 * head
        top = max(max(vector[begin], vector[begin + 1]), vector[begin + 2])
        mass = 0.0
        for way in range(3):
            record.modes[3 * head + way] = math.exp(vector[begin + way] - top)
            mass += record.modes[3 * head + way]
        for way in range(3):
            record.modes[3 * head + way] /= mass


@kernel
def _activate_mask(vector, record: SparseRecord, head, sizes: Sizes):
    """A head's mask, and what it shows of the key."""
    key, low = head * sizes.padded, sizes.mask_minimum
    at = sizes.interface - (sizes.heads - head) * sizes.words
    for w in range(sizes.words):
        mask = (1 - low) / (1 + math.exp(-vector[at + w])) + low
        record.masks[key + w] = mask
        record.shown[key + w] = record.keys[key + w] * mask * mask
    fill(record.masks, key + sizes.words, key + sizes.padded, 0.0)
    fill(record.shown, key + sizes.words, key + sizes.padded, 0.0)


@inlined
def _copy_from(source, at, target, count):
    """``target[:count] = source[at : at + count]``."""
    for j in range(count):
        target[j] = source[at + j]


@kernel
def slots_written(before: SparseRecord, after: SparseRecord, weights, sizes: Sizes):
    """The weights ``[R·V + 1]`` of a step's write: to the slots read, to the least recent."""
    count = sizes.heads * seen_by(sizes)
    to_read = after.gates[0] * after.gates[1]
    share = to_read / sizes.heads
    for j in range(count):
        weights[j] = before.read_weights[j] * share
    weights[count] = after.gates[0] - to_read


@kernel
def write(
    before: SparseRecord, after: SparseRecord, numbers_before, numbers, vector, rows: Rows,
    times: Times, links: Links, mass, slots, weights, index, sizes: Sizes,
):  # fmt: skip
    """A step's first half: from the record ``before`` and an interface vector to what is written.

    ``numbers_before`` are those of the rows that the step before read. Sets the last of ``numbers``
    to that of the row erased, ``slots`` and ``weights`` [R·V + 1] to what is written, and in
    ``index`` [R·V] the slots found by following the links. ``mass`` is 0 for all rows before.
    """
    seen, near, temporal = seen_by(sizes), sizes.reads, sizes.temporal
    count = sizes.heads * seen
    _activate(vector, after, sizes)
    slots_written(before, after, weights, sizes)
    least = least_recent(times)
    numbers[count] = touch(rows, least)
    for j in range(count):
        slots[j] = rows.touched.rows[numbers_before[j]]
        mass[numbers_before[j]] += weights[j]
    slots[count] = least
    mass[numbers[count]] += weights[count]
    rows.touched.counts[WRITTEN_COUNT] = rows.touched.counts[rows.touched.at]
    write_row(rows, least, True, 0.0, after.add, 0)
    for j in range(count + 1):
        write_row(rows, slots[j], False, weights[j], after.add, 0)
    if temporal > 0:
        write_links(links, slots, weights, count + 1)
        for head in range(sizes.heads):
            own = part(slots, head * seen, seen)
            for way in range(2):
                follow(
                    links, own, before.read_weights, head * seen, seen,
                    index, head * seen + way * (temporal + near),
                    after.temporal, (2 * head + way) * temporal, way,
                )  # fmt: skip


@kernel
def find(after: SparseRecord, rows: Rows, table: Table, slots, found, sizes: Sizes):
    """Between the halves: bring the table of exact search up to date, and search it."""
    for j in range(sizes.heads * seen_by(sizes) + 1):
        update(table, rows, slots[j], sizes.padded, sizes.reads, sizes.slots)
    search(table, after.keys, after.masks, sizes.heads, sizes.padded, sizes.reads, found)


@kernel
def read(
    after: SparseRecord, numbers_before, numbers, reads, rows: Rows, times: Times, mass, index,
    found, now, sizes: Sizes,
):  # fmt: skip
    """A step's second half: from the slots ``found`` [R·K] by their content to the read vectors.

    ``numbers`` is set to those of the rows read; ``mass`` is 0 for all rows after.
    """
    heads, padded, seen = sizes.heads, sizes.padded, seen_by(sizes)
    near, temporal, count = sizes.reads, sizes.temporal, heads * seen_by(sizes)
    fill(reads, 0, heads * sizes.words, 0.0)
    for head in range(heads):
        first = head * seen
        for k in range(near):
            index[first + temporal + k] = found[head * near + k]
        for v in range(first, first + seen):
            numbers[v] = touch(rows, index[v])
            fetch(rows, index[v], after.rows, v * padded, padded)
        _weigh(after, head, sizes)
        for v in range(first, first + seen):
            weight, begin = after.read_weights[v], v * padded
            mass[numbers[v]] += weight
            for w in range(sizes.words):
                reads[head * sizes.words + w] += weight * after.rows[begin + w]
    for j in range(2 * count + 1):
        number = numbers[j] if j <= count else numbers_before[j - count - 1]
        if mass[number] > ACCESS_THRESHOLD:
            access(times, rows.touched.rows[number], now)
        mass[number] = 0


@inlined
def _square(record: SparseRecord, begin, key, padded, masking):
    """That of the length of a row, as far as a mask shows it."""
    if masking == 0:
        return dot(record.rows, begin, record.rows, begin, padded)
    found = filled(record.rows, 0)
    for j in range(0, padded, lane_count(record.rows)):
        value = load(record.rows, begin + j) * load(record.masks, key + j)
        found = fma(value, value, found)
    return total(found)


@kernel
def _weigh(record: SparseRecord, head, sizes: Sizes):
    """A head's weights, by content and, with links, in time."""
    near, temporal, padded, seen = sizes.reads, sizes.temporal, sizes.padded, seen_by(sizes)
    strength, first = record.strengths[head], head * near
    top = -math.inf
    for k in range(near):
        begin = (head * seen + temporal + k) * padded
        squared = _square(record, begin, head * padded, padded, sizes.masking)
        norm = 1 / math.sqrt(squared + NORM_EPSILON)
        product = dot(record.rows, begin, record.shown, head * padded, padded)
        record.row_norms[first + k] = norm
        record.cosines[first + k] = product * norm * record.key_norms[head]
        score = record.cosines[first + k] * strength
        if score > top:
            top = score
    mass = 0.0
    for k in range(first, first + near):
        record.content[k] = math.exp(record.cosines[k] * strength - top)
        mass += record.content[k]
    begin = head * seen
    for k in range(near):
        record.content[first + k] /= mass
        share = record.modes[3 * head + 1] if temporal > 0 else 1.0
        record.read_weights[begin + temporal + k] = share * record.content[first + k]
    for way in range(2 if temporal > 0 else 0):
        share, at = record.modes[3 * head + 2 * way], begin + way * (temporal + near)
        for k in range(temporal):
            own = record.temporal[(2 * head + way) * temporal + k]
            record.read_weights[at + k] = share * own
