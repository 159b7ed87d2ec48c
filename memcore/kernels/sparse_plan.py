"""What stands in the block of a sparse memory, in place of what `memcore.kernels.plan` has there.

Beside each address stands the shape of what is there. B examples, S steps, J = R·V + 1 slots
written at a step, M rows that may be touched. Offsets say where the rows of each example begin in
the buffers of a state, of which it may be a part.
"""

from __future__ import annotations

from itertools import count

from memcore.kernels import plan

__all__: list[str] = []

_place = count()
TAPE, NUMBERS = next(_place), next(_place)  # as TAPE and ORDERS there
assert (TAPE, NUMBERS) == (plan.TAPE, plan.ORDERS)
READ_INDEX, READ_WEIGHTS = next(_place), next(_place)  # int64 and floats, [B, R, V], given
READ_INDEX_OUT, READ_WEIGHTS_OUT = next(_place), next(_place)
WRITE_INDEX_OUT, WRITE_WEIGHTS_OUT = next(_place), next(_place)  # [B, J], at each step
VISIBLE = next(_place)  # int64 [B, R·V]: the slots that a step reads
FOUND = next(_place)  # int64 [B, R·K]: those found by their content
COUNTS = next(_place)  # int64 [B, COUNTERS]
MASS = next(_place)  # [B, M], 0
ROWS, ROW_OFFSETS = next(_place), next(_place)  # the buffer [·, W]; int64 [B]
MARKS, INITIAL = next(_place), next(_place)  # uint8 [·], [B, W]; 0 where rows begin as zeros
MOST_ROWS = next(_place)  # M
ROW_LOG, ROW_TABLE, ROW_MASK = (
    next(_place),
    next(_place),
    next(_place),
)  # int64 [B, M], int32, number
ROWS_BEFORE, MARKS_BEFORE = next(_place), next(_place)  # [B, M, W], uint8 [B, M]
TABLE, CAPACITY, NAMES = next(_place), next(_place), next(_place)  # [·, C, P], C, int64 [·, C]
PLACES, USED, FREE = next(_place), next(_place), next(_place)  # int32 [·, N], int64 [·], [B, K]
FIRST_FREE, TABLE_INITIAL = next(_place), next(_place)  # int64 [·]; [·, P], 0 where zeros
TABLE_EXAMPLES = next(_place)  # int64 [B], which of the table's examples each is
TIMES, TIME_OFFSETS, NOW = (
    next(_place),
    next(_place),
    next(_place),
)  # int32 [·], int64 [B], int32 [B]
LEVELS, LEVEL_STARTS = next(_place), next(_place)  # number, int64 [LEVELS]
LEAVES, LEAVES_BEFORE = next(_place), next(_place)  # int64 [B, M], int32 [B, M]
MOST_ENTRIES, ENTRY_LOG, ENTRY_TABLE, ENTRY_MASK = (next(_place) for _ in range(4))
ENTRIES_BEFORE = next(_place)
LINK_BEFORE, LINK_VALUE, LINK_AFTER, LINK_OFFSETS = (next(_place) for _ in range(4))
ON, PRECEDENCE = next(_place), next(_place)  # int64 and floats, [B, K_L], edited in place
MOST_LINKS, LINK_LOG, LINK_TABLE, LINK_MASK = (next(_place) for _ in range(4))
LINKS_BEFORE, LINKS_VALUE, LINKS_AFTER = (next(_place) for _ in range(3))  # what was lost
LINK_PLACE = next(_place)  # int32 [B, MOST_LINKS], 0
D_READ_WEIGHTS, D_READ_WEIGHTS_OUT = next(_place), next(_place)  # of the last, of the first
D_WRITE_WEIGHTS = next(_place)  # [B, J], of the last
D_ROWS, ROW_BEGINS = (
    next(_place),
    next(_place),
)  # [all rows touched, P]; int64 [B], whose begin where
SIZE = next(_place)
assert SIZE <= plan.MEMORY_SIZE

# Counters of an example.
ROW_COUNT, LEAF_COUNT, FREE_COUNT, NEXT_FREE, ENTRY_COUNT, LINK_COUNT, WRITTEN_COUNT = range(7)
COUNTERS = 8
