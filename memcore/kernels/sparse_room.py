"""How much room the notes of a sparse memory's kernel may take, and of which kind."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from memcore.kernels import sparse_plan as plan
from memcore.kernels.room import RoomPlan, Want, laid_out

__all__ = ["NoteRoom", "NoteSizes", "room_for"]

KINDS = {torch.float32: np.float32, torch.float64: np.float64}


class NoteSizes(NamedTuple):
    """All that the room of a journal depends on."""

    batch: int
    slots: int
    width: int
    heads: int
    seen: int  # V
    reads: int  # K
    kept: int  # K_L
    steps: int
    dtype: torch.dtype
    levels: tuple[int, ...]  # where those of the recency's tree begin
    tree: int  # its length


class NoteRoom(NamedTuple):
    """What a journal needs room for."""

    plan: RoomPlan
    most: dict[int, int]  # by a counter, how much of that each example may note
    numbers: dict[int, int]  # beside the wants what kernels are told, by its place


@lru_cache(maxsize=64)
def room_for(sizes: NoteSizes) -> NoteRoom:
    """What a journal of these sizes needs room for."""
    heads, seen, steps, kept = sizes.heads, sizes.seen, sizes.steps, sizes.kept
    written, kind = heads * seen + 1, KINDS[sizes.dtype]
    rows = min(sizes.slots, heads * seen + steps * written)
    above = sizes.tree - sizes.levels[1] if len(sizes.levels) > 1 else 1
    entries = min(above, rows * max(1, len(sizes.levels) - 1))
    most = dict.fromkeys((plan.ROW_COUNT, plan.WRITTEN_COUNT, plan.LEAF_COUNT), rows)
    most[plan.ENTRY_COUNT] = entries
    numbers = {plan.LEVELS: len(sizes.levels)}
    numbers |= {plan.MOST_ROWS: rows, plan.MOST_ENTRIES: entries}
    wants = [
        Want(plan.COUNTS, (plan.COUNTERS,), np.int64, True),
        Want(plan.FREE, (sizes.reads,), np.int64),
        Want(plan.VISIBLE, (heads * seen,), np.int64),
        Want(plan.FOUND, (heads, sizes.reads), np.int64),
        Want(plan.MASS, (rows,), kind, True),
        Want(plan.ROWS_BEFORE, (rows, sizes.width), kind),
        Want(plan.MARKS_BEFORE, (rows,), np.uint8),
        Want(plan.LEAVES, (rows,), np.int64),
        Want(plan.LEAVES_BEFORE, (rows,), np.int32),
        Want(plan.ENTRIES_BEFORE, (entries,), np.int32),
    ]
    logs = [
        (rows, plan.ROW_LOG, plan.ROW_TABLE, plan.ROW_MASK),
        (entries, plan.ENTRY_LOG, plan.ENTRY_TABLE, plan.ENTRY_MASK),
    ]
    if kept:
        links = min(sizes.slots, steps * (written + kept) * (1 + kept))
        most[plan.LINK_COUNT] = numbers[plan.MOST_LINKS] = links
        logs.append((links, plan.LINK_LOG, plan.LINK_TABLE, plan.LINK_MASK))
        wants += [
            Want(plan.LINKS_BEFORE, (links, kept), np.int32),
            Want(plan.LINKS_VALUE, (links, kept), kind),
            Want(plan.LINKS_AFTER, (links, kept), np.int32),
            Want(plan.LINK_PLACE, (links,), np.int32, True),
        ]
    for count, log, table, mask in logs:
        numbers[mask] = (1 << (2 * count - 1).bit_length()) - 1
        wants.append(Want(log, (count,), np.int64))
        wants.append(Want(table, (numbers[mask] + 1,), np.int32, True))
    every = (want._replace(shape=(sizes.batch, *want.shape)) for want in wants)
    return NoteRoom(laid_out(every), most, numbers)
