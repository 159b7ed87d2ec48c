"""What a kernel is told: one block of int64, in which sizes and addresses have their places.

Beside each address stands the shape of what is there; an address of 0 means "nothing". B examples,
T time steps, L controller layers, D cells in each (C = L·D in all), Q memories (1, or L), S steps of
each memory, H hidden and G the gates' width, both rounded up, I the interface vector's length.
"""

from __future__ import annotations

from itertools import count

__all__: list[str] = []

_header = count()
CHUNKS, CHUNK, THREAD_NUMBER, THREAD_COUNT = (next(_header) for _ in range(4))
STEPS, EXAMPLES, LAYERS, DEPTH, HIDDEN, WIDTH, GATES, CELL_KIND = (next(_header) for _ in range(8))
MEMORY_STEP, MEMORIES, MEMORY_STEPS, SLOTS, PADDED, WORDS, HEADS = (next(_header) for _ in range(7))
INTERFACE, INTERFACE_WIDTH, RECORDING, STRIDE = (next(_header) for _ in range(4))
RECORD, ORDER, GRADIENT, WORK = (next(_header) for _ in range(4))  # numbers for one example
# MEMORY_STEP is the address of the memory's own entry, forward's or backward's.
CLIP = next(_header)  # address of one number; 0: not at all
GATE_TAPE = next(_header)  # [C, T, B, G]: that of the first cell comes filled with x's share
HIDDEN_TAPE = next(_header)  # [C, T + 1, B, WIDTH]: the first of each comes filled
CELL_TAPE = next(_header)  # the same; LSTM
OUTPUTS = next(_header)  # [L, T, B, HIDDEN + R·W]
FIRST_READS = next(_header)  # [B, R·W]
MASKS = next(_header)  # [L, T, D − 1, B, HIDDEN]: dropout
D_OUTPUTS = next(_header)  # [T, B, HIDDEN + R·W], of the last layer
D_GATES = next(_header)  # [C, T, B, G]
D_VECTORS = next(_header)  # [L, T, B, INTERFACE_WIDTH]
D_HIDDEN = next(_header)  # [C, B, WIDTH]: of the last state, then of the first
D_CELL = next(_header)  # the same; LSTM
D_READS = next(_header)  # [B, R·W]: of the last reads, then of the first
VECTORS = next(_header)  # [T, B, I]: instead of a controller (L = 0)
HEADER = next(_header)

# For each cell, then for each layer, then for each memory:
_cell = count()
CELL_WEIGHTS = next(_cell)  # packed [inputs + HIDDEN, G]
CELL_BACK_WEIGHTS = next(_cell)  # packed [G, inputs + HIDDEN rounded up]
CELL_BIAS = next(_cell)  # [G]
CELL_SIZE = next(_cell)
_layer = count()
LAYER_WEIGHTS = next(_layer)  # packed [HIDDEN, INTERFACE_WIDTH]
LAYER_BACK_WEIGHTS = next(_layer)  # packed [INTERFACE, WIDTH]
LAYER_BIAS = next(_layer)  # [INTERFACE_WIDTH]
LAYER_SIZE = next(_layer)
_memory = count()
TAPE = next(_memory)  # [B, S + 1, RECORD], or [B, 2, RECORD] where nothing is recorded
ORDERS = next(_memory)  # int32, [B, S + 1, ORDER], or [B, 2, ORDER]
STATE_IN = [next(_memory) for _ in range(5)][0]  # in the order of STATE_FIELDS
STATE_OUT = [next(_memory) for _ in range(5)][0]
D_STATE_IN = [next(_memory) for _ in range(5)][0]  # of the state at the end
D_STATE_OUT = [next(_memory) for _ in range(5)][0]  # of the state at the beginning
LINKS_IN = next(_memory)  # [B, P, P]
LINKS = next(_memory)  # [B, P, P]: those of the last step
LINK_MARKS = next(_memory)  # [B, (S − 1) // STRIDE, P, P]: every STRIDE-th
D_LINKS = next(_memory)  # [B, P, P]: of the last step, then of the first
MEMORY_SIZE = next(_memory)

# What a state's addresses are, in order; DAM has no precedence, links have places of their own.
STATE_FIELDS = ("memory", "usage", "precedence", "write_weights", "read_weights")

# What a memory's entry is asked to do with one example. Its arguments: the address of this block,
# what to do, where the memory's own block begins, the example, the step (from 0), and addresses.
# Forward: of the interface vector, of the read vectors, of scratch space. Backward: of the read
# vectors' gradient, of the interface vector's, of work space; then that of the state's gradient.
BEGIN, STEP, END = range(3)
STEP_ARGUMENTS = 9
