"""A sequence as one operation: the loop over time, layers and cells for some examples.

Examples are independent but for sharing the controller's weights: each thread takes some of them
through all time steps. Which memory it is, the loop does not know; what it is told stands in
`memcore.kernels.plan`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memcore.kernels import plan
from memcore.kernels.cells import (
    carry_states,
    cells_backward,
    cells_forward,
    layer_at,
    layer_backward,
    vectors_forward,
)
from memcore.kernels.compiling import entries, joined, kernel
from memcore.kernels.lanes import (
    address_of,
    call,
    floats_at,
    int64s_at,
    lane_count,
    number_from,
    part,
)
from memcore.kernels.told import ANYTHING

__all__ = ["BACKWARD", "FORWARD"]


@kernel
def _memory_at(told, memory):
    return layer_at(told, told[plan.LAYERS]) + memory * plan.MEMORY_SIZE


@kernel
def _memory_of(told, layer, time):
    """Which memory a layer writes to, and how many steps that has behind it."""
    if told[plan.MEMORIES] < told[plan.LAYERS]:
        return _memory_at(told, 0), time * told[plan.LAYERS] + layer
    return _memory_at(told, layer), time


@kernel
def _most_inputs(told):
    """The most that a cell takes, its own state included."""
    below = max(told[plan.INPUT], told[plan.HIDDEN]) + told[plan.WORDS] * told[plan.HEADS]
    return max(below, told[plan.HIDDEN]) + told[plan.HIDDEN]


@kernel
def _all_memories(told, what, first, last, d_states):
    """Begin or end all memories of some examples; ``d_states`` is empty in forward."""
    for memory in range(told[plan.MEMORIES]):
        at = _memory_at(told, memory)
        step = told[plan.MEMORY_STEPS] if what == plan.END else 0
        for example in range(first, last):
            d_state = (memory * (last - first) + example - first) * told[plan.GRADIENT]
            call(
                told[plan.MEMORY_STEP],
                (
                    address_of(told, 0), what, at, example, step, 0, 0, 0,
                    address_of(d_states, d_state),
                ),
            )  # fmt: skip


@joined
def _forward(told, first, last, zero):
    """All time steps of some examples."""
    steps, examples, layers = told[plan.STEPS], told[plan.EXAMPLES], told[plan.LAYERS]
    hidden, wide, count = told[plan.HIDDEN], told[plan.INTERFACE_WIDTH], last - first
    reads = told[plan.WORDS] * told[plan.HEADS]
    row, block, entry = hidden + reads, address_of(told, 0), told[plan.MEMORY_STEP]
    factors = np.empty(count * _most_inputs(told), type(zero))
    lanes = lane_count(factors)
    vectors = np.zeros(count * wide + lanes, type(zero))  # whole registers are read at the end
    scratch = np.zeros(wide + 2 * lanes, type(zero))
    outputs = floats_at(told[plan.OUTPUTS], ANYTHING, zero)
    half, what, times, on = told[plan.HALF], plan.STEP, (0, steps), (0, layers)
    if half == plan.WRITING or half == plan.READING:
        what = plan.WRITE if half == plan.WRITING else plan.READ
        times = (told[plan.TIME], told[plan.TIME] + 1)
        on = (told[plan.LAYER], min(told[plan.LAYER] + 1, layers))
    elif half != plan.WHOLE:
        times = (0, 0)
    if half == plan.WHOLE or half == plan.BEGINNING:
        carry_states(told, first, last, False, zero)
        _all_memories(told, plan.BEGIN, first, last, scratch)
    for time in range(times[0], times[1]):
        for layer in range(on[0], on[1]):
            begin = ((layer * steps + time) * examples + first) * row
            if half != plan.READING:
                cells_forward(told, time, layer, first, last, factors, zero)
                vectors_forward(told, time, layer, first, outputs, begin, count, vectors, zero)
            at, step = _memory_of(told, layer, time)
            for i in range(count):
                call(
                    entry,
                    (
                        block, what, at, first + i, step, address_of(vectors, i * wide),
                        address_of(outputs, begin + i * row + hidden), address_of(scratch, 0), 0,
                    ),
                )  # fmt: skip
        if layers == 0:
            given = floats_at(told[plan.INPUTS], ANYTHING, zero)
            length, at = told[plan.INTERFACE], _memory_at(told, 0)
            for i in range(count):
                begin = time * examples + first + i
                for j in range(length):
                    vectors[j] = given[begin * length + j]
                call(
                    entry,
                    (
                        block, what, at, first + i, time, address_of(vectors, 0),
                        address_of(outputs, begin * reads), address_of(scratch, 0), 0,
                    ),
                )  # fmt: skip
    if half == plan.WHOLE or half == plan.ENDING:
        carry_states(told, first, last, True, zero)
        _all_memories(told, plan.END, first, last, scratch)


@joined
def _backward(told, first, last, zero):
    """All time steps of some examples, in reverse."""
    steps, examples, layers = told[plan.STEPS], told[plan.EXAMPLES], told[plan.LAYERS]
    hidden, width = told[plan.HIDDEN], told[plan.WIDTH]
    wide, count, length = told[plan.INTERFACE_WIDTH], last - first, told[plan.GRADIENT]
    reads, entry = told[plan.HEADS] * told[plan.WORDS], told[plan.MEMORY_STEP]
    row, block = hidden + reads, address_of(told, 0)
    slope = np.zeros(count * width, type(zero))
    direct, lanes = np.zeros(count * width, type(zero)), lane_count(slope)
    d_states = np.empty(told[plan.MEMORIES] * count * length, type(zero))
    d_rows = np.zeros(layers * count * row, type(zero))
    products = np.empty(count * (_most_inputs(told) + 2 * lanes), type(zero))
    work = np.empty(told[plan.WORK], type(zero))
    d_outputs = floats_at(told[plan.D_OUTPUTS], ANYTHING, zero)
    d_vectors = floats_at(told[plan.D_VECTORS], ANYTHING, zero)
    before = np.zeros(count * reads, type(zero))
    if layers > 0:
        d_reads = floats_at(told[plan.D_READS], ANYTHING, zero)
        for i in range(count * reads):
            before[i] = d_reads[first * reads + i]
    _all_memories(told, plan.BEGIN, first, last, d_states)
    for time in range(steps - 1, -1, -1):
        top, begin = (layers - 1) * count * row, (time * examples + first) * row
        for i in range(count if layers > 0 else 0):
            for j in range(row):
                d_rows[top + i * row + j] = d_outputs[begin + i * row + j]
            for j in range(reads):
                d_rows[top + i * row + hidden + j] += before[i * reads + j]
                before[i * reads + j] = 0
        for i in range(top):
            d_rows[i] = 0
        for layer in range(layers - 1, -1, -1):
            own = part(d_rows, layer * count * row, count * row)
            vectors = ((layer * steps + time) * examples + first) * wide
            at, step = _memory_of(told, layer, time)
            state = (layer if told[plan.MEMORIES] == layers else 0) * count * length
            for i in range(count):
                call(
                    entry,
                    (
                        block, plan.STEP, at, first + i, step,
                        address_of(own, i * row + hidden),
                        address_of(d_vectors, vectors + i * wide), address_of(work, 0),
                        address_of(d_states, state + i * length),
                    ),
                )  # fmt: skip
            layer_backward(told, time, layer, first, last, own, slope, products, zero)
            below = before
            if layer > 0:
                below = part(d_rows, (layer - 1) * count * row, count * row)
            cells_backward(told, time, layer, first, last, slope, below, products, direct, zero)
        for i in range(count if layers == 0 else 0):
            begin = time * examples + first + i
            call(
                entry,
                (
                    block, plan.STEP, _memory_at(told, 0), first + i, time,
                    address_of(d_outputs, begin * reads), address_of(d_vectors, begin * wide),
                    address_of(work, 0), address_of(d_states, i * length),
                ),
            )  # fmt: skip
    if layers > 0:
        d_reads = floats_at(told[plan.D_READS], ANYTHING, zero)
        for i in range(count * reads):
            d_reads[first * reads + i] = before[i]
    _all_memories(told, plan.END, first, last, d_states)


@kernel
def _turns(told):
    """The first chunk of this thread, and how far it is to its next."""
    if told[plan.THREAD_NUMBER] != 0:
        return number_from(told[plan.THREAD_NUMBER]), number_from(told[plan.THREAD_COUNT])
    return told[plan.CHUNK], told[plan.CHUNKS]


@kernel
def _share(told, turn):
    """The examples of a chunk: from which to which."""
    chunks, examples = told[plan.CHUNKS], told[plan.EXAMPLES]
    return turn * examples // chunks, (turn + 1) * examples // chunks


# As in `memcore.kernels.memories`: an entry closes over nothing but a dtype and the digest.


def _forward_entry(real: Any, digest: str) -> Any:
    def run(address):
        if len(digest) > 0:
            told = int64s_at(address, ANYTHING)
            first, step = _turns(told)
            for turn in range(first, told[plan.CHUNKS], step):
                begin, end = _share(told, turn)
                if begin < end:
                    _forward(told, begin, end, real(0))

    return run


def _backward_entry(real: Any, digest: str) -> Any:
    def run(address):
        if len(digest) > 0:
            told = int64s_at(address, ANYTHING)
            first, step = _turns(told)
            for turn in range(first, told[plan.CHUNKS], step):
                begin, end = _share(told, turn)
                if begin < end:
                    _backward(told, begin, end, real(0))

    return run


FORWARD = entries(_forward_entry, 1)
BACKWARD = entries(_backward_entry, 1)
