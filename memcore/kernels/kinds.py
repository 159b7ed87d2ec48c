"""What the loop over time needs to know of a memory, beside what its entries do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memcore.kernels import (
    dam,
    dnc_backward,
    dnc_record,
    memories,
    sparse_backward,
    sparse_memories,
    sparse_record,
)
from memcore.kernels.compiling import Entry
from memcore.kernels.sizes import Sizes, padded_to

__all__ = ["DAM", "DNC", "SAM", "SDNC", "Kind"]


@dataclass(frozen=True, eq=False)
class Kind:
    """A memory as `memcore.kernels.segment` needs to know it."""

    given: int  # tensors of a state that a segment is given
    made: int  # tensors of a state that it makes
    keeps_states: bool  # whether backward looks at those given
    without_gradient: tuple[int, ...]  # which of those no gradient flows through
    fields: tuple[int | None, ...]  # of each field of a dense state its place in plan.STATE_FIELDS
    links: int | None  # which of these holds links, that have places of their own
    sparse: bool  # whether states are edited in place
    record_size: Callable[[Sizes], int]
    order_size: Callable[[Sizes], int]
    gradient_size: Callable[[Sizes], int]
    work_size: Callable[[Sizes], int]
    forward: dict[int, Entry]  # by the size of a number
    backward: dict[int, Entry]

    def padded(self, slots: int, words: int, unit: int) -> int:
        """P: the slots, rounded up; of a sparse memory the word size, to half of that."""
        return padded_to(unit // 2, words) if self.sparse else padded_to(unit, slots)

    def cost(self, sizes: Sizes) -> int:
        """Multiplications of a step, about; those of a search over rows are not known."""
        if self.sparse:
            return 40 * sizes.heads * (sizes.reads + 2 * sizes.temporal) * sizes.padded
        square = 0
        if self.links is not None:
            square = sizes.writes * sizes.padded**2 * (2 * sizes.heads + 1)
        return 3 * sizes.padded * sizes.words * sizes.heads + square


DNC = Kind(
    given=6,
    made=6,
    keeps_states=True,
    without_gradient=(),
    fields=(0, 1, 2, None, 4, 3),  # memory, usage, precedence, link, read_weights, write_weights
    links=3,
    sparse=False,
    record_size=dnc_record.record_size,
    order_size=dnc_record.order_size,
    gradient_size=dnc_record.gradient_size,
    work_size=dnc_backward.work_size,
    forward=memories.DNC_FORWARD,
    backward=memories.DNC_BACKWARD,
)
DAM = Kind(
    given=4,
    made=4,
    keeps_states=True,
    without_gradient=(1,),
    fields=(0, 1, 4, 3),  # memory, usage, read_weights, write_weights
    links=None,
    sparse=False,
    record_size=dam.record_size,
    order_size=dam.order_size,
    gradient_size=dam.gradient_size,
    work_size=dam.work_size,
    forward=memories.DAM_FORWARD,
    backward=memories.DAM_BACKWARD,
)
SAM = SDNC = Kind(
    given=2,  # read_weights, the rows touched as they were
    made=3,  # read_weights, write_weights, the rows written
    keeps_states=False,
    without_gradient=(),
    fields=(),
    links=None,
    sparse=True,
    record_size=sparse_record.record_size,
    order_size=sparse_record.order_size,
    gradient_size=sparse_record.gradient_size,
    work_size=sparse_backward.work_size,
    forward=sparse_memories.FORWARD,
    backward=sparse_memories.BACKWARD,
)
