"""What entries read of what they are told, whichever memory is theirs."""

from __future__ import annotations

from memcore.kernels import plan
from memcore.kernels.compiling import kernel
from memcore.kernels.lanes import float_of
from memcore.kernels.sizes import Sizes

__all__ = ["ANYTHING", "places", "sizes_of"]

ANYTHING = 1 << 40  # the length of an array whose length nobody asks for


@kernel
def sizes_of(told):
    """The memory's sizes."""
    return Sizes(
        told[plan.SLOTS], told[plan.PADDED], told[plan.WORDS], told[plan.HEADS],
        told[plan.INTERFACE], told[plan.READS], told[plan.TEMPORAL], told[plan.WRITES],
        told[plan.MASKING], told[plan.DEALLOCATION], told[plan.SHARPNESS],
        float_of(told[plan.MASK_MINIMUM]), float_of(told[plan.TEMPERATURE]),
    )  # fmt: skip


@kernel
def places(told, example, step):
    """Which records of the tape are those before and after a step, counted over all examples."""
    if told[plan.RECORDING] != 0:
        first = example * (told[plan.MEMORY_STEPS] + 1)
        return first + step, first + step + 1
    return 2 * example + step % 2, 2 * example + (step + 1) % 2
