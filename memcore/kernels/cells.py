"""A layer's cells and its interface at one time step, for some examples, forward and backward.

Weights are packed, or as torch has them where there are only a few rows to multiply.
"""

from __future__ import annotations

import math

from memcore.kernels import plan
from memcore.kernels.compiling import kernel
from memcore.kernels.controllers import GRU, LSTM, cell_backward, cell_forward
from memcore.kernels.functions import fill
from memcore.kernels.lanes import float_of, floats_at, lane_count, part
from memcore.kernels.products import multiply, multiply_rows
from memcore.kernels.told import ANYTHING

__all__ = [
    "carry_states",
    "cell_at",
    "cells_backward",
    "cells_forward",
    "layer_at",
    "layer_backward",
    "vectors_forward",
]


LAYER_NORM_EPSILON = 1e-5  # that of torch.nn.LayerNorm


@kernel
def cell_at(cell):
    """Where the block of a cell begins."""
    return plan.HEADER + cell * plan.CELL_SIZE


@kernel
def layer_at(told, layer):
    """Where the block of a layer begins."""
    return cell_at(told[plan.LAYERS] * told[plan.DEPTH]) + layer * plan.LAYER_SIZE


@kernel
def _inputs(told, layer, depth):
    """How many numbers a cell takes beside its own state."""
    if depth > 0:
        return told[plan.HIDDEN]
    below = told[plan.INPUT] if layer == 0 else told[plan.HIDDEN]
    return below + told[plan.WORDS] * told[plan.HEADS]


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
        if told[at + plan.CELL_STATE_BIAS] != 0:
            for j in range(hidden):
                gates[to + j] += state_bias[block * hidden + j]
        multiply_rows(
            factors, 0, from_input, block * hidden * inputs, inputs, gates, into, hidden, inputs
        )
        if told[plan.OWN] > 0:
            multiply_rows(
                factors, inputs, from_state, block * hidden * hidden, hidden,
                gates, to, hidden, hidden,
            )  # fmt: skip


@kernel
def carry_states(told, first, last, made, zero):
    """The cells' states of some examples: those given into the tapes, or those made out of them."""
    steps, examples, hidden = told[plan.STEPS], told[plan.EXAMPLES], told[plan.HIDDEN]
    width = told[plan.WIDTH]
    for cell in range(told[plan.LAYERS] * told[plan.DEPTH]):
        for which in range(2 if told[plan.CELL_KIND] == LSTM else 1):
            tape = floats_at(told[plan.HIDDEN_TAPE + which], ANYTHING, zero)
            at = cell_at(cell) + which + (plan.CELL_MADE if made else plan.CELL_GIVEN)
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
    """The interface vectors of a layer for some examples, not yet normed."""
    wide, length, lanes = told[plan.INTERFACE_WIDTH], told[plan.INTERFACE], lane_count(vectors)
    hidden, at = told[plan.HIDDEN], layer_at(told, layer)
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
def _norms(told, place, zero):
    """An array of layer norm; anything where there is none."""
    return floats_at(told[place], ANYTHING, zero)


@kernel
def vectors_forward(told, time, layer, first, outputs, begin, count, vectors, zero):
    """The interface vectors of a layer for some examples."""
    _vectors_forward(told, layer, outputs, begin, count, vectors, zero)
    at, length, wide = layer_at(told, layer), told[plan.INTERFACE], told[plan.INTERFACE_WIDTH]
    if told[at + plan.LAYER_GAIN] == 0:
        return
    gain = _norms(told, at + plan.LAYER_GAIN, zero)
    shift = _norms(told, at + plan.LAYER_SHIFT, zero)
    normed, scales = _norms(told, plan.NORMED, zero), _norms(told, plan.SCALES, zero)
    for i in range(count):
        own, total, squares = i * wide, 0.0, 0.0
        for j in range(length):
            total += vectors[own + j]
        mean = total / length
        for j in range(length):
            squares += (vectors[own + j] - mean) ** 2
        scale = 1 / math.sqrt(squares / length + LAYER_NORM_EPSILON)
        row = first + i
        if told[plan.RECORDING] != 0:
            row += (layer * told[plan.STEPS] + time) * told[plan.EXAMPLES]
        scales[row] = scale
        for j in range(length):
            value = (vectors[own + j] - mean) * scale
            normed[row * wide + j] = value
            vectors[own + j] = value * gain[j] + shift[j]


@kernel
def _norm_backward(told, time, layer, first, last, zero):
    """From the gradients of normed vectors to those of what they were before."""
    at, length, wide = layer_at(told, layer), told[plan.INTERFACE], told[plan.INTERFACE_WIDTH]
    if told[at + plan.LAYER_GAIN] == 0:
        return
    gain, normed = _norms(told, at + plan.LAYER_GAIN, zero), _norms(told, plan.NORMED, zero)
    scales, d_normed = _norms(told, plan.SCALES, zero), _norms(told, plan.D_NORMED, zero)
    d_vectors = floats_at(told[plan.D_VECTORS], ANYTHING, zero)
    for example in range(first, last):
        row = (layer * told[plan.STEPS] + time) * told[plan.EXAMPLES] + example
        begin, mean, along = row * wide, 0.0, 0.0
        for j in range(begin, begin + length):
            d_normed[j] = d_vectors[j]
            slope = d_vectors[j] * gain[j - begin]
            mean += slope
            along += slope * normed[j]
        mean, along = mean / length, along / length
        for j in range(begin, begin + length):
            slope = d_normed[j] * gain[j - begin] - mean - normed[j] * along
            d_vectors[j] = slope * scales[row]


@kernel
def cells_forward(told, time, layer, first, last, factors, zero):
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
        terms = inputs + told[plan.OWN]
        at = cell_at(cell)
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
            for j in range(told[plan.OWN]):
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


@kernel
def cells_backward(told, time, layer, first, last, slope, d_below, products, direct, zero):
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
        at = cell_at(cell)
        wide = -(-(inputs + told[plan.OWN]) // (2 * lanes)) * 2 * lanes
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
                d_hidden[state + i * width + j] = direct[i * width + j]
            for j in range(told[plan.OWN]):
                d_hidden[state + i * width + j] += products[i * wide + inputs + j]
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
def layer_backward(told, time, layer, first, last, d_row, slope, products, zero):
    """From the gradients of a layer's rows and of its interface vectors to ``slope``."""
    steps, examples, depths = told[plan.STEPS], told[plan.EXAMPLES], told[plan.DEPTH]
    hidden, width, wide = told[plan.HIDDEN], told[plan.WIDTH], told[plan.INTERFACE_WIDTH]
    row, count = hidden + told[plan.WORDS] * told[plan.HEADS], last - first
    lanes = lane_count(slope)
    at = layer_at(told, layer)
    _norm_backward(told, time, layer, first, last, zero)
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
