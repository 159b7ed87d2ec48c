"""One step of an LSTM, GRU or RNN for some examples, forward and backward, as torch has them.

The gates' sums come in, by blocks of P: H numbers, rounded up to two registers, in torch's order;
for a GRU reset, update, new from the input, new from the state. Forward leaves in their place what
backward needs, and backward takes that and gives the gradients of the sums.
"""

from __future__ import annotations

import math

from memcore.kernels.compiling import kernel
from memcore.kernels.functions import sigmoid, tanh
from memcore.kernels.lanes import clamped, filled, fma, lane_count, load, store, where_above_zero

__all__ = ["GRU", "LSTM", "RNN_RELU", "RNN_TANH", "cell_backward", "cell_forward"]

LSTM, GRU, RNN_TANH, RNN_RELU = range(4)


@kernel
def cell_forward(kind, gates, hidden, cell, new_hidden, new_cell, width):
    """Of one example: gates [blocks·P] and the state [P] to the new state."""
    one = filled(gates, 1)
    for j in range(0, width, lane_count(gates)):
        if kind == LSTM:
            into, keep = sigmoid(load(gates, j)), sigmoid(load(gates, width + j))
            fresh, out = tanh(load(gates, 2 * width + j)), sigmoid(load(gates, 3 * width + j))
            inner = fma(keep, load(cell, j), into * fresh)
            store(new_cell, j, inner)
            store(new_hidden, j, out * tanh(inner))
            store(gates, j, into)
            store(gates, width + j, keep)
            store(gates, 2 * width + j, fresh)
            store(gates, 3 * width + j, out)
        elif kind == GRU:
            reset, update = sigmoid(load(gates, j)), sigmoid(load(gates, width + j))
            inner = load(gates, 3 * width + j)
            fresh = tanh(fma(reset, inner, load(gates, 2 * width + j)))
            store(new_hidden, j, fma(update, load(hidden, j), (one - update) * fresh))
            store(gates, j, reset)
            store(gates, width + j, update)
            store(gates, 2 * width + j, fresh)
        elif kind == RNN_TANH:
            store(new_hidden, j, tanh(load(gates, j)))
        else:
            store(new_hidden, j, clamped(load(gates, j), 0.0, math.inf))


@kernel
def cell_backward(
    kind, gates, hidden, cell, new_hidden, new_cell, slope, d_cell, d_gates, d_direct, width
):  # fmt: skip
    """``slope`` is the gradient of the new hidden state, ``d_cell`` that of the cell, new then old.

    ``d_direct`` is set to what goes to the old hidden state past the gates.
    """
    one, zero = filled(gates, 1), filled(gates, 0)
    for j in range(0, width, lane_count(gates)):
        gradient = load(slope, j)
        direct = zero
        if kind == LSTM:
            into, keep = load(gates, j), load(gates, width + j)
            fresh, out = load(gates, 2 * width + j), load(gates, 3 * width + j)
            inner = tanh(load(new_cell, j))
            d_inner = fma(gradient * out, one - inner * inner, load(d_cell, j))
            store(d_gates, j, d_inner * fresh * into * (one - into))
            store(d_gates, width + j, d_inner * load(cell, j) * keep * (one - keep))
            store(d_gates, 2 * width + j, d_inner * into * (one - fresh * fresh))
            store(d_gates, 3 * width + j, gradient * inner * out * (one - out))
            store(d_cell, j, d_inner * keep)
        elif kind == GRU:
            reset, update = load(gates, j), load(gates, width + j)
            fresh, inner = load(gates, 2 * width + j), load(gates, 3 * width + j)
            d_fresh = gradient * (one - update) * (one - fresh * fresh)
            old = load(hidden, j)
            store(d_gates, j, d_fresh * inner * reset * (one - reset))
            store(d_gates, width + j, gradient * (old - fresh) * update * (one - update))
            store(d_gates, 2 * width + j, d_fresh)
            store(d_gates, 3 * width + j, d_fresh * reset)
            direct = gradient * update
        elif kind == RNN_TANH:
            out = load(new_hidden, j)
            store(d_gates, j, gradient * (one - out * out))
        else:
            store(d_gates, j, where_above_zero(load(new_hidden, j), gradient))
        store(d_direct, j, direct)
