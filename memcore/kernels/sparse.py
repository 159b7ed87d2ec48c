"""The steps of SAM and the SDNC for one example, forward and backward: `memcore.sam`, `sdnc`.

Each step fills a record: what backward needs of it, beside the numbers of the rows that were read
and of the row that was erased (`memcore.kernels.journal`). Where K_L is 0 there are no temporal
links, and it is SAM.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.content import NORM_EPSILON
from memcore.kernels.functions import fill, oneplus, oneplus_slope
from memcore.kernels.lanes import filled, fma, lane_count, load, part, store, total
from memcore.kernels.recency import Times, access, least_recent
from memcore.kernels.sizes import Sizes
from memcore.kernels.sparse_links import Links, follow
from memcore.kernels.sparse_links import write as write_links
from memcore.kernels.sparse_plan import WRITTEN_COUNT
from memcore.kernels.sparse_rows import Rows, Table, dot, fetch, search, touch, update, write_row

__all__ = [
    "SparseRecord",
    "backward",
    "fields",
    "find",
    "gradient_size",
    "keys_at",
    "order_size",
    "read",
    "record_size",
    "work_size",
    "write",
]

ACCESS_THRESHOLD = 0.005  # δ, that of memcore.sparse_step


class SparseRecord(NamedTuple):
    """One step's numbers; beside each, how many. V = K_L + K + K_L; P is W in whole registers."""

    read_weights: Any  # R·V; what is carried on ends here
    content: Any  # R·K
    cosines: Any  # R·K
    row_norms: Any  # R·K, inverse
    temporal: Any  # R·2·K_L: backward, then forward weightings
    keys: Any  # R·P
    masks: Any  # R·P, with masking
    shown: Any  # R·P, with masking: keys times the squares of masks; else the keys
    key_norms: Any  # R, inverse
    strengths: Any  # R
    slopes: Any  # R: their derivatives
    modes: Any  # R·3
    gates: Any  # 2: write gate, interpolation gate
    add: Any  # P
    rows: Any  # R·V·P: what was read


@inlined
def _seen(sizes: Sizes):
    """V, the slots that a head reads; as `_visible` for kernels."""
    return sizes.reads + 2 * sizes.temporal


def _visible(sizes: Sizes) -> int:
    return sizes.reads + 2 * sizes.temporal


def gradient_size(sizes: Sizes) -> int:
    """How many numbers of a record a gradient with respect to the state takes."""
    return sizes.heads * _visible(sizes)


def order_size(sizes: Sizes) -> int:
    """How many whole numbers a step keeps: the rows read, then the row erased."""
    return sizes.heads * _visible(sizes) + 1


def work_size(sizes: Sizes) -> int:
    """How many numbers `backward` needs to work in."""
    return 2 * _visible(sizes) + (3 + sizes.masking) * sizes.padded


def record_size(sizes: Sizes) -> int:
    """How many numbers a record takes, a multiple of a cache line."""
    heads, reads = sizes.heads, sizes.reads
    count = heads * (_visible(sizes) + 3 * reads + 2 * sizes.temporal + 6) + 2
    count += (heads * (1 + 2 * sizes.masking) + 1 + heads * _visible(sizes)) * sizes.padded
    return (count + 2 * 16) // 16 * 16


def keys_at(sizes: Sizes) -> int:
    """Where in a record the keys begin, and the masks that there may be after them."""
    return sizes.heads * (_visible(sizes) + 3 * sizes.reads + 2 * sizes.temporal)


@kernel
def fields(tape, at, sizes: Sizes):
    """The fields of the record that begins at ``tape[at]``."""
    heads, padded, seen = sizes.heads, sizes.padded, _seen(sizes)
    reads = heads * sizes.reads
    temporal = 2 * heads * sizes.temporal
    read_weights = part(tape, at, heads * seen)
    at += heads * seen
    content, cosines = part(tape, at, reads), part(tape, at + reads, reads)
    row_norms = part(tape, at + 2 * reads, reads)
    at += 3 * reads
    followed, keys = part(tape, at, temporal), part(tape, at + temporal, heads * padded)
    at += temporal + heads * padded
    masks, shown = part(tape, at, sizes.masking * heads * padded), keys
    if sizes.masking != 0:
        shown = part(tape, at + heads * padded, heads * padded)
    at += 2 * sizes.masking * heads * padded
    key_norms, strengths = part(tape, at, heads), part(tape, at + heads, heads)
    slopes, modes = part(tape, at + 2 * heads, heads), part(tape, at + 3 * heads, 3 * heads)
    at += 6 * heads
    gates, add = part(tape, at, 2), part(tape, at + 2, padded)
    at += 2 + padded
    rows = part(tape, at, heads * seen * padded)
    return SparseRecord(
        read_weights, content, cosines, row_norms, followed, keys, masks, shown, key_norms,
        strengths, slopes, modes, gates, add, rows,
    )  # fmt: skip


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
    count = sizes.heads * _seen(sizes)
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
    seen, near, temporal = _seen(sizes), sizes.reads, sizes.temporal
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
    for j in range(sizes.heads * _seen(sizes) + 1):
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
    heads, padded, seen = sizes.heads, sizes.padded, _seen(sizes)
    near, temporal, count = sizes.reads, sizes.temporal, heads * _seen(sizes)
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
    near, temporal, padded, seen = sizes.reads, sizes.temporal, sizes.padded, _seen(sizes)
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


@inlined
def _add_to(target, target_at, source, source_at, factor, padded):
    """``target += factor · source``, of ``padded`` numbers."""
    scale = filled(target, factor)
    for j in range(0, padded, lane_count(target)):
        value = fma(scale, load(source, source_at + j), load(target, target_at + j))
        store(target, target_at + j, value)


@kernel
def backward(
    before: SparseRecord, after: SparseRecord, numbers_before, numbers, d_reads, d_weights,
    d_written, d_rows, d_interface, work, sizes: Sizes,
):  # fmt: skip
    """Gradients with respect to the state after become those before; ``d_interface`` is set.

    ``d_weights`` [R·V] is that of the read weights, ``d_written`` [R·V + 1] that of the write
    weights, or empty; ``d_rows`` [rows touched, P] that of the memory.
    """
    heads, words, padded, seen = sizes.heads, sizes.words, sizes.padded, _seen(sizes)
    near, temporal, count = sizes.reads, sizes.temporal, heads * _seen(sizes)
    d_read, d_content = part(work, 0, padded), part(work, padded, near)
    d_key = part(work, 2 * seen + padded, padded)
    squares = part(work, 2 * seen + 2 * padded, sizes.masking * padded)
    fill(d_interface, 0, sizes.interface, 0.0)
    for head in range(heads):
        first, key = head * seen, head * padded
        _copy_from(d_reads, head * words, d_read, words)
        fill(d_read, words, padded, 0.0)
        for v in range(first, first + seen):
            d_weights[v] += dot(d_read, 0, after.rows, v * padded, padded)
            _add_to(d_rows, numbers[v] * padded, d_read, 0, after.read_weights[v], padded)
        for k in range(near):
            d_content[k] = d_weights[first + temporal + k]
        if temporal > 0:
            _modes_backward(after, head, d_weights, d_content, d_interface, sizes)
        mean, d_strength, along = 0.0, 0.0, 0.0
        for k in range(near):
            mean += after.content[head * near + k] * d_content[k]
        fill(d_key, 0, padded, 0.0)
        fill(squares, 0, len(squares), 0.0)
        for k in range(near):
            at, v = head * near + k, first + temporal + k
            d_score = after.content[at] * (d_content[k] - mean)
            cosine, norm = after.cosines[at], after.row_norms[at]
            d_strength += d_score * cosine
            d_cosine = d_score * after.strengths[head]
            along += d_cosine * cosine
            scale = d_cosine * norm * after.key_norms[head]
            _add_to(d_key, 0, after.rows, v * padded, scale, padded)
            _add_to(d_rows, numbers[v] * padded, after.shown, key, scale, padded)
            shrink = -d_cosine * cosine * norm * norm
            if sizes.masking != 0:
                _shrink(after, d_rows, numbers[v] * padded, squares, v, key, shrink, sizes)
            else:
                _add_to(d_rows, numbers[v] * padded, after.rows, v * padded, shrink, padded)
        scale = -along * after.key_norms[head] * after.key_norms[head]
        if sizes.masking != 0:
            _mask_backward(after, head, d_key, squares, scale, d_interface, sizes)
        else:
            _add_to(d_key, 0, after.keys, key, scale, padded)
        for w in range(words):
            d_interface[head * words + w] = d_key[w]
        d_interface[heads * words + head] = d_strength * after.slopes[head]
    _write_backward(
        before, after, numbers_before, numbers[count], d_weights, d_written, d_rows, d_interface,
        d_read, sizes,
    )  # fmt: skip


@kernel
def _shrink(record: SparseRecord, d_rows, begin, squares, v, key, factor, sizes: Sizes):
    """The part of a row's gradient that keeps its length, as far as the mask shows it."""
    scale = filled(d_rows, factor)
    for j in range(0, sizes.padded, lane_count(d_rows)):
        row, mask = load(record.rows, v * sizes.padded + j), load(record.masks, key + j)
        slope = scale * row
        store(squares, j, fma(slope, row, load(squares, j)))
        store(d_rows, begin + j, fma(slope, mask * mask, load(d_rows, begin + j)))


@kernel
def _mask_backward(
    record: SparseRecord, head, d_key, squares, scale, d_interface, sizes: Sizes
):  # fmt: skip
    """From the gradient of what is shown of a key to that of the key, in its place, and the mask's.

    ``squares`` are the sums of rows squared by which lengths changed, ``scale`` is that of the key.
    """
    low, at = sizes.mask_minimum, sizes.interface - (sizes.heads - head) * sizes.words
    for w in range(sizes.words):
        place = head * sizes.padded + w
        key, mask = record.keys[place], record.masks[place]
        d_square = d_key[w] * key + 0.5 * (squares[w] + scale * key * key)
        d_key[w] = (d_key[w] + scale * key) * mask * mask
        d_interface[at + w] = 2 * mask * d_square * (mask - low) * (1 - mask) / (1 - low)


@kernel
def _modes_backward(record: SparseRecord, head, d_weights, d_content, d_interface, sizes: Sizes):
    """From the gradient of a head's weights to those of its modes and of its content weighting."""
    near, temporal, begin = sizes.reads, sizes.temporal, head * _seen(sizes)
    backward, content, forward = 0.0, 0.0, 0.0
    for k in range(temporal):
        at = 2 * head * temporal + k
        backward += d_weights[begin + k] * record.temporal[at]
        forward += d_weights[begin + temporal + near + k] * record.temporal[at + temporal]
    first, second, third = (
        record.modes[3 * head], record.modes[3 * head + 1], record.modes[3 * head + 2],
    )  # fmt: skip
    for k in range(near):
        content += d_content[k] * record.content[head * near + k]
        d_content[k] *= second
    mean = first * backward + second * content + third * forward
    at = sizes.heads * (sizes.words + 1) + sizes.words + 2 + 3 * head
    d_interface[at] = first * (backward - mean)
    d_interface[at + 1] = second * (content - mean)
    d_interface[at + 2] = third * (forward - mean)


@kernel
def _write_backward(
    before: SparseRecord, after: SparseRecord, numbers_before, erased, d_weights, d_written, d_rows,
    d_interface, d_add, sizes: Sizes,
):  # fmt: skip
    """From the gradient of the memory after the write to that before it."""
    count, padded = sizes.heads * _seen(sizes), sizes.padded
    write_gate, interpolation = after.gates[0], after.gates[1]
    to_read = write_gate * interpolation
    share, along, d_least = to_read / sizes.heads, 0.0, 0.0
    fill(d_add, 0, padded, 0.0)
    for j in range(count + 1):
        number = numbers_before[j] if j < count else erased
        d_weight = dot(d_rows, number * padded, after.add, 0, padded)
        if len(d_written) > 0:
            d_weight += d_written[j]
        if j < count:
            along += d_weight * before.read_weights[j]
            d_weights[j] = d_weight * share
            weight = before.read_weights[j] * share
        else:
            d_least = d_weight
            weight = write_gate - to_read
        _add_to(d_add, 0, d_rows, number * padded, weight, padded)
    fill(d_rows, erased * padded, (erased + 1) * padded, 0.0)
    at = sizes.heads * (sizes.words + 1)
    for w in range(sizes.words):
        d_interface[at + w] = d_add[w]
    at += sizes.words
    d_to_read = along / sizes.heads - d_least
    d_write = d_least + interpolation * d_to_read
    d_interface[at] = d_write * write_gate * (1 - write_gate)
    d_interface[at + 1] = write_gate * d_to_read * interpolation * (1 - interpolation)
