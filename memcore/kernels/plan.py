"""What a kernel is told: one block of int64, in which sizes and addresses have their places.

Beside each address stands the shape of what is there; an address of 0 means "nothing". B examples,
T time steps, L controller layers, D cells in each (C = L·D in all), S steps of each memory, P slots
rounded up to two registers, as are WIDTH (of HIDDEN), GATES and INTERFACE_WIDTH.
"""

from __future__ import annotations

from itertools import count

__all__: list[str] = []

_header = count()
CHUNKS, CHUNK, THREAD_NUMBER, THREAD_COUNT = (next(_header) for _ in range(4))
STEPS, EXAMPLES, LAYERS, DEPTH, HIDDEN, WIDTH, GATES, CELL_KIND = (next(_header) for _ in range(8))
OWN = next(_header)  # numbers of its own state that a cell takes: HIDDEN, or 0 without recurrence
INPUT = next(_header)  # numbers of an input, or of an interface vector where there is no controller
MEMORY_STEP, MEMORIES, MEMORY_STEPS, SLOTS, PADDED, WORDS, HEADS = (next(_header) for _ in range(7))
INTERFACE, INTERFACE_WIDTH, RECORDING, STRIDE = (next(_header) for _ in range(4))
READS, TEMPORAL = next(_header), next(_header)  # K and K_L, of a sparse memory
WRITES, MASKING, DEALLOCATION, SHARPNESS = (next(_header) for _ in range(4))  # H; 0 or 1
MASK_MINIMUM, TEMPERATURE = next(_header), next(_header)  # the bits of float64s
RECORD, ORDER, GRADIENT, WORK = (next(_header) for _ in range(4))  # numbers for one example
# MEMORY_STEP is the address of the memory's own entry, forward's or backward's.
HALF, TIME, LAYER = (next(_header) for _ in range(3))  # what of forward is to run, see below
CLIP = next(_header)  # the bits of a float64; 0: not at all
INPUTS = next(_header)  # [T, B, INPUT]
GATE_TAPE = next(_header)  # [C, T, B, GATES]
HIDDEN_TAPE = next(_header)  # [C, T + 1, B, WIDTH]
CELL_TAPE = next(_header)  # the same; LSTM
OUTPUTS = next(_header)  # [L, T, B, HIDDEN + R·W]
FIRST_READS = next(_header)  # [B, R·W]
MASKS = next(_header)  # [L, T, D − 1, B, HIDDEN]: dropout
D_OUTPUTS = next(_header)  # [T, B, HIDDEN + R·W], of the last layer
D_INPUTS = next(_header)  # [T, B, INPUT]
D_GATES = next(_header)  # [C, T, B, GATES]
D_VECTORS = next(_header)  # [L, T, B, INTERFACE_WIDTH]
# With layer norm: interface vectors of mean 0 and variance 1, what they were multiplied by for
# that, and the gradients of what came out. Without recording the first two are [B, ·].
NORMED = next(_header)  # [L, T, B, INTERFACE_WIDTH]
SCALES = next(_header)  # [L, T, B]
D_NORMED = next(_header)  # [L, T, B, INTERFACE_WIDTH]
D_HIDDEN = next(_header)  # [C, B, WIDTH]: of the last state, then of the first
D_CELL = next(_header)  # the same; LSTM
D_READS = next(_header)  # [B, R·W]: of the last reads, then of the first
HEADER = next(_header)

# Then a block for each cell, one for each layer and one for each memory, in which:
CELL_WEIGHTS = 0  # packed [inputs + OWN, GATES]; 0: they are not packed
CELL_BACK_WEIGHTS = 1  # packed [GATES, inputs + OWN rounded up]
CELL_BIAS = 2  # [GATES]
CELL_FROM_INPUT, CELL_FROM_STATE = 3, 4  # torch's own, where they are not packed
CELL_INPUT_BIAS, CELL_STATE_BIAS = 5, 6  # likewise; 0: none
CELL_GIVEN, CELL_MADE = 7, 9  # [B, HIDDEN]: hidden state and, LSTM, cell state, first and last
CELL_SIZE = 11
LAYER_WEIGHTS = 0  # packed [HIDDEN, INTERFACE_WIDTH]; 0: they are not packed
LAYER_BACK_WEIGHTS = 1  # packed [INTERFACE, WIDTH]
LAYER_BIAS = 2  # [INTERFACE_WIDTH]; INTERFACE where weights are not packed
LAYER_ROWS = 3  # torch's own [INTERFACE, HIDDEN], where they are not packed
LAYER_GAIN, LAYER_SHIFT = 4, 5  # [INTERFACE]: layer norm; 0: none
LAYER_SIZE = 6
TAPE = 0  # [B, S + 1, RECORD], or [B, 2, RECORD] where nothing is recorded
ORDERS = 1  # int32, [B, S + 1, ORDER], or [B, 2, ORDER]
# A state's fields in the order of STATE_FIELDS: those given, those made, and their gradients.
STATE_IN, STATE_OUT, D_STATE_IN, D_STATE_OUT = range(2, 22, 5)
LINKS_IN = 22  # [B, H, P, P]
LINKS = 23  # [B, H, P, P]: those of the last step
LINK_MARKS = 24  # [B, (S − 1) // STRIDE, H, P, P]: every STRIDE-th
D_LINKS = 25  # [B, H, P, P]: of the last step, then of the first
MEMORY_SIZE = 64  # a sparse one has others: memcore.kernels.sparse_plan

# What a state's addresses are, in order; DAM has no precedence, links have places of their own.
STATE_FIELDS = ("memory", "usage", "precedence", "write_weights", "read_weights")

# What a memory's entry is asked to do with one example. Its arguments: the address of this block,
# what to do, where the memory's own block begins, the example, the step (from 0), and addresses.
# Forward: of the interface vector, of the read vectors, of scratch space. Backward: of the read
# vectors' gradient, of the interface vector's, of work space; then that of the state's gradient.
# The last two are the halves of a step, cut where a memory is searched.
BEGIN, STEP, END, WRITE, READ = range(5)
STEP_ARGUMENTS = 9

# What of forward is to run: all of it, or, where the index of a sparse memory is searched from
# Python, the beginning, a step's cells up to what it writes, what it reads, and the end.
WHOLE, BEGINNING, WRITING, READING, ENDING = range(5)
