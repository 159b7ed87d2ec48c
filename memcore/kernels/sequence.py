"""A sequence as one operation: the loop over time, layers and cells for some examples.

Examples are independent but for sharing the controller's weights: each thread takes some of them
through all time steps. Which memory it is, the loop does not know; what it is told stands in
`memcore.kernels.plan`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memcore.kernels import plan
from memcore.kernels.compiling import entries, joined, kernel
from memcore.kernels.controllers import GRU, LSTM, cell_backward, cell_forward
from memcore.kernels.functions import fill
from memcore.kernels.lanes import (
    address_of,
    call,
    float_of,
    floats_at,
    int64s_at,
    lane_count,
    number_from,
    part,
)
from memcore.kernels.products import multiply, multiply_rows
from memcore.kernels.told import ANYTHING

__all__ = ["BACKWARD", "FORWARD"]


@kernel
def _cell_at(cell):
    """Where the block of a cell begins."""
    return plan.HEADER + cell * plan.CELL_SIZE


@kernel
def _layer_at(told, layer):
    return _cell_at(told[plan.LAYERS] * told[plan.DEPTH]) + layer * plan.LAYER_SIZE


@kernel
def _memory_at(told, memory):
    return _layer_at(told, told[plan.LAYERS]) + memory * plan.MEMORY_SIZE


@kernel
def _memory_of(told, layer, time):
    """Which memory a layer writes to, and how many steps that has behind it."""
    if told[plan.MEMORIES] < told[plan.LAYERS]:
        return _memory_at(told, 0), time * told[plan.LAYERS] + layer
    return _memory_at(told, layer), time


@kernel
def _inputs(told, layer, depth):
    """How many numbers a cell takes beside its own state."""
    if depth > 0:
        return told[plan.HIDDEN]
    below = told[plan.INPUT] if layer == 0 else told[plan.HIDDEN]
    return below + told[plan.WORDS] * told[plan.HEADS]


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


@kernel
def _gates_unpacked(told, at, factors, inputs, gates, zero):
    """The gates' sums of one example, from weights as torch has them."""
    hidden, width, kind = told[plan.HIDDEN], told[plan.WIDTH], told[plan.CELL_KIND]
    fill(gates, 0, told[plan.GATES], 0.0)
    from_input = floats_at(told[at + plan.CELL_FROM_INPUT], ANYTHING, zero)
    from_state = floats_at(told[at + plan.CELL_FROM_STATE], ANYTHING, zero)
    input_bias = floats_at(told[at + plan.CELL_INPUT_BIAS], ANYTHING, zero)
    state_bias = floats_at(told[at + plan.CELL_STATE_BIAS], ANYTHING, zero)
    given = 3 if kind == GRU else told[plan.GATES] // width
    for block in range(given):
        # Where what comes from the state goes: of the new gate of a GRU into a block of its own.
        into, to = block * width, (3 if kind == GRU and block == 2 else block) * width
        if told[at + plan.CELL_INPUT_BIAS] != 0:
            for j in range(hidden):
                gates[into + j] = input_bias[block * hidden + j]
            for j in range(hidden):
                gates[to + j] += state_bias[block * hidden + j]
        multiply_rows(
            factors, 0, from_input, block * hidden * inputs, inputs, gates, into, hidden, inputs
        )
        multiply_rows(
            factors, inputs, from_state, block * hidden * hidden, hidden, gates, to, hidden, hidden
        )


@kernel
def _carry_states(told, first, last, made, zero):
    """The cells' states of some examples: those given into the tapes, or those made out of them."""
    steps, examples, hidden = told[plan.STEPS], told[plan.EXAMPLES], told[plan.HIDDEN]
    width = told[plan.WIDTH]
    for cell in range(told[plan.LAYERS] * told[plan.DEPTH]):
        for which in range(2 if told[plan.CELL_KIND] == LSTM else 1):
            tape = floats_at(told[plan.HIDDEN_TAPE + which], ANYTHING, zero)
            at = _cell_at(cell) + which + (plan.CELL_MADE if made else plan.CELL_GIVEN)
            state = floats_at(told[at], ANYTHING, zero)
            for example in range(first, last):
                begin = cell * (steps + 1) + (steps if made else 0)
                begin = (begin * examples + example) * width
                if made:
                    for j in range(hidden):
                        state[example * hidden + j] = tape[begin + j]
                else:
                    for j in range(hidden):
                        tape[begin + j] = state[example * hidden + j]
                    fill(tape, begin + hidden, begin + width, 0.0)


@kernel
def _vectors_forward(told, layer, outputs, begin, count, vectors, zero):
    """The interface vectors of a layer for some examples."""
    wide, length, lanes = told[plan.INTERFACE_WIDTH], told[plan.INTERFACE], lane_count(vectors)
    hidden, at = told[plan.HIDDEN], _layer_at(told, layer)
    row = hidden + told[plan.WORDS] * told[plan.HEADS]
    bias = floats_at(told[at + plan.LAYER_BIAS], ANYTHING, zero)
    if told[at + plan.LAYER_WEIGHTS] != 0:
        for i in range(count):
            for j in range(wide):
                vectors[i * wide + j] = bias[j]
        weights = floats_at(told[at + plan.LAYER_WEIGHTS], ANYTHING, zero)
        multiply(
            outputs, begin, row, 1, weights, 0, 2 * lanes, hidden * 2 * lanes,
            vectors, 0, wide, count, hidden, wide, True,
        )  # fmt: skip
        return
    rows = floats_at(told[at + plan.LAYER_ROWS], ANYTHING, zero)
    for i in range(count):
        for j in range(length):
            vectors[i * wide + j] = bias[j]
        fill(vectors, i * wide + length, (i + 1) * wide, 0.0)
        multiply_rows(outputs, begin + i * row, rows, 0, hidden, vectors, i * wide, length, hidden)


@kernel
def _cells_forward(told, time, layer, first, last, factors, zero):
    """The cells of one layer at one time step; the last one's output is clamped into OUTPUTS."""
    steps, examples, depths = told[plan.STEPS], told[plan.EXAMPLES], told[plan.DEPTH]
    hidden, width, gates = told[plan.HIDDEN], told[plan.WIDTH], told[plan.GATES]
    layers, kind = told[plan.LAYERS], told[plan.CELL_KIND]
    reads = told[plan.WORDS] * told[plan.HEADS]
    row, count, lanes = hidden + reads, last - first, lane_count(factors)
    gate_tape = floats_at(told[plan.GATE_TAPE], ANYTHING, zero)
    hidden_tape = floats_at(told[plan.HIDDEN_TAPE], ANYTHING, zero)
    cell_tape = floats_at(told[plan.CELL_TAPE], ANYTHING, zero)
    outputs = floats_at(told[plan.OUTPUTS], ANYTHING, zero)
    first_reads = floats_at(told[plan.FIRST_READS], ANYTHING, zero)
    masks = floats_at(told[plan.MASKS], ANYTHING, zero)
    all_inputs, given = floats_at(told[plan.INPUTS], ANYTHING, zero), told[plan.INPUT]
    for depth in range(depths):
        cell, inputs = layer * depths + depth, _inputs(told, layer, depth)
        terms = inputs + hidden
        at = _cell_at(cell)
        sums = ((cell * steps + time) * examples + first) * gates
        old = ((cell * (steps + 1) + time) * examples + first) * width
        new = old + examples * width
        for i in range(count):
            if depth > 0:
                below = new + i * width - (steps + 1) * examples * width
                if told[plan.MASKS] != 0:
                    mask = (layer * steps + time) * (depths - 1) + depth - 1
                    mask = (mask * examples + first + i) * hidden
                    for j in range(hidden):
                        factors[i * terms + j] = hidden_tape[below + j] * masks[mask + j]
                else:
                    for j in range(hidden):
                        factors[i * terms + j] = hidden_tape[below + j]
            elif layer > 0:
                below = (((layer - 1) * steps + time) * examples + first + i) * row
                for j in range(row):
                    factors[i * terms + j] = outputs[below + j]
            else:
                own = (time * examples + first + i) * given
                for j in range(given):
                    factors[i * terms + j] = all_inputs[own + j]
                if time > 0:
                    below = ((layers - 1) * steps + time - 1) * examples + first + i
                    for j in range(reads):
                        factors[i * terms + given + j] = outputs[below * row + hidden + j]
                else:
                    for j in range(reads):
                        factors[i * terms + given + j] = first_reads[(first + i) * reads + j]
            for j in range(hidden):
                factors[i * terms + inputs + j] = hidden_tape[old + i * width + j]
        if told[at + plan.CELL_WEIGHTS] != 0:
            bias = floats_at(told[at + plan.CELL_BIAS], ANYTHING, zero)
            for i in range(count):
                for j in range(gates):
                    gate_tape[sums + i * gates + j] = bias[j]
            weights = floats_at(told[at + plan.CELL_WEIGHTS], ANYTHING, zero)
            multiply(
                factors, 0, terms, 1, weights, 0, 2 * lanes, terms * 2 * lanes,
                gate_tape, sums, gates, count, terms, gates, True,
            )  # fmt: skip
        else:
            for i in range(count):
                own = part(gate_tape, sums + i * gates, gates)
                _gates_unpacked(told, at, part(factors, i * terms, terms), inputs, own, zero)
        for i in range(count):
            cell_forward(
                kind, part(gate_tape, sums + i * gates, gates),
                part(hidden_tape, old + i * width, width), part(cell_tape, old + i * width, width),
                part(hidden_tape, new + i * width, width), part(cell_tape, new + i * width, width),
                width,
            )  # fmt: skip
    top = ((layer * depths + depths - 1) * (steps + 1) + time + 1) * examples * width
    begin = (layer * steps + time) * examples * row
    bounded, clip = told[plan.CLIP] != 0, type(zero)(float_of(told[plan.CLIP]))
    for example in range(first, last):
        for j in range(hidden):
            value = hidden_tape[top + example * width + j]
            if bounded and value > clip:
                value = clip
            elif bounded and value < -clip:
                value = -clip
            outputs[begin + example * row + j] = value


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
        _carry_states(told, first, last, False, zero)
        _all_memories(told, plan.BEGIN, first, last, scratch)
    for time in range(times[0], times[1]):
        for layer in range(on[0], on[1]):
            begin = ((layer * steps + time) * examples + first) * row
            if half != plan.READING:
                _cells_forward(told, time, layer, first, last, factors, zero)
                _vectors_forward(told, layer, outputs, begin, count, vectors, zero)
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
        _carry_states(told, first, last, True, zero)
        _all_memories(told, plan.END, first, last, scratch)


@kernel
def _cells_backward(told, time, layer, first, last, slope, d_below, products, direct, zero):
    """The cells of one layer at one time step.

    ``slope`` [b, WIDTH] is the gradient of the last cell's output. What goes to the layer's input
    is added to ``d_below``: rows of OUTPUTS of the layer below, or [b, R·W] of the reads before.
    """
    steps, examples, depths = told[plan.STEPS], told[plan.EXAMPLES], told[plan.DEPTH]
    hidden, width, gates = told[plan.HIDDEN], told[plan.WIDTH], told[plan.GATES]
    kind, count, lanes = told[plan.CELL_KIND], last - first, lane_count(slope)
    gate_tape = floats_at(told[plan.GATE_TAPE], ANYTHING, zero)
    hidden_tape = floats_at(told[plan.HIDDEN_TAPE], ANYTHING, zero)
    cell_tape = floats_at(told[plan.CELL_TAPE], ANYTHING, zero)
    d_gates = floats_at(told[plan.D_GATES], ANYTHING, zero)
    d_hidden = floats_at(told[plan.D_HIDDEN], ANYTHING, zero)
    d_inputs = floats_at(told[plan.D_INPUTS], ANYTHING, zero)
    d_cell = floats_at(told[plan.D_CELL], ANYTHING, zero)
    masks = floats_at(told[plan.MASKS], ANYTHING, zero)
    for depth in range(depths - 1, -1, -1):
        cell, inputs = layer * depths + depth, _inputs(told, layer, depth)
        at = _cell_at(cell)
        wide = -(-(inputs + hidden) // (2 * lanes)) * 2 * lanes
        sums = ((cell * steps + time) * examples + first) * gates
        old = ((cell * (steps + 1) + time) * examples + first) * width
        new, state = old + examples * width, (cell * examples + first) * width
        for i in range(count):
            for j in range(width):
                slope[i * width + j] += d_hidden[state + i * width + j]
            cell_backward(
                kind, part(gate_tape, sums + i * gates, gates),
                part(hidden_tape, old + i * width, width), part(cell_tape, old + i * width, width),
                part(hidden_tape, new + i * width, width), part(cell_tape, new + i * width, width),
                part(slope, i * width, width), part(d_cell, state + i * width, width),
                part(d_gates, sums + i * gates, gates), part(direct, i * width, width), width,
            )  # fmt: skip
        weights = floats_at(told[at + plan.CELL_BACK_WEIGHTS], ANYTHING, zero)
        multiply(
            d_gates, sums, gates, 1, weights, 0, 2 * lanes, gates * 2 * lanes,
            products, 0, wide, count, gates, wide, False,
        )  # fmt: skip
        for i in range(count):
            for j in range(hidden):
                through = products[i * wide + inputs + j]
                d_hidden[state + i * width + j] = through + direct[i * width + j]
            if depth > 0 and told[plan.MASKS] != 0:
                mask = (layer * steps + time) * (depths - 1) + depth - 1
                mask = (mask * examples + first + i) * hidden
                for j in range(hidden):
                    slope[i * width + j] = products[i * wide + j] * masks[mask + j]
            elif depth > 0:
                for j in range(hidden):
                    slope[i * width + j] = products[i * wide + j]
            else:
                begin = 0
                if layer == 0:
                    # The reads of the step before come after the input.
                    begin = told[plan.INPUT]
                    own = (time * examples + first + i) * begin
                    for j in range(begin):
                        d_inputs[own + j] = products[i * wide + j]
                rest = inputs - begin
                for j in range(rest):
                    d_below[i * rest + j] += products[i * wide + begin + j]


@kernel
def _layer_backward(told, time, layer, first, last, d_row, slope, products, zero):
    """From the gradients of a layer's rows and of its interface vectors to ``slope``."""
    steps, examples, depths = told[plan.STEPS], told[plan.EXAMPLES], told[plan.DEPTH]
    hidden, width, wide = told[plan.HIDDEN], told[plan.WIDTH], told[plan.INTERFACE_WIDTH]
    row, count = hidden + told[plan.WORDS] * told[plan.HEADS], last - first
    lanes = lane_count(slope)
    at = _layer_at(told, layer)
    weights = floats_at(told[at + plan.LAYER_BACK_WEIGHTS], ANYTHING, zero)
    d_vectors = floats_at(told[plan.D_VECTORS], ANYTHING, zero)
    begin = ((layer * steps + time) * examples + first) * wide
    terms = told[plan.INTERFACE]
    multiply(
        d_vectors, begin, wide, 1, weights, 0, 2 * lanes, terms * 2 * lanes,
        products, 0, width, count, terms, width, False,
    )  # fmt: skip
    hidden_tape = floats_at(told[plan.HIDDEN_TAPE], ANYTHING, zero)
    top = ((layer * depths + depths - 1) * (steps + 1) + time + 1) * examples * width
    bounded, clip = told[plan.CLIP] != 0, type(zero)(float_of(told[plan.CLIP]))
    for i in range(count):
        fill(slope, i * width, (i + 1) * width, 0.0)
        for j in range(hidden):
            value = hidden_tape[top + (first + i) * width + j]
            if not bounded or (value >= -clip and value <= clip):
                slope[i * width + j] = d_row[i * row + j] + products[i * width + j]


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
            _layer_backward(told, time, layer, first, last, own, slope, products, zero)
            below = before
            if layer > 0:
                below = part(d_rows, (layer - 1) * count * row, count * row)
            _cells_backward(told, time, layer, first, last, slope, below, products, direct, zero)
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
