"""The steps of SAM and the SDNC backward: the gradient of `memcore.kernels.sparse`."""

from __future__ import annotations

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.functions import fill
from memcore.kernels.lanes import filled, fma, lane_count, load, part, store
from memcore.kernels.sizes import Sizes
from memcore.kernels.sparse_record import SparseRecord, seen_by, visible
from memcore.kernels.sparse_rows import dot

__all__ = ["backward", "work_size"]


def work_size(sizes: Sizes) -> int:
    """How many numbers `backward` needs to work in."""
    return 2 * visible(sizes) + (3 + sizes.masking) * sizes.padded


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
    heads, words, padded, seen = sizes.heads, sizes.words, sizes.padded, seen_by(sizes)
    near, temporal, count = sizes.reads, sizes.temporal, heads * seen_by(sizes)
    d_read, d_content = part(work, 0, padded), part(work, padded, near)
    d_key = part(work, 2 * seen + padded, padded)
    squares = part(work, 2 * seen + 2 * padded, sizes.masking * padded)
    fill(d_interface, 0, sizes.interface, 0.0)
    for head in range(heads):
        first, key = head * seen, head * padded
        for w in range(words):
            d_read[w] = d_reads[head * words + w]
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
    near, temporal, begin = sizes.reads, sizes.temporal, head * seen_by(sizes)
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
    count, padded = sizes.heads * seen_by(sizes), sizes.padded
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
