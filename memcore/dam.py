"""Dense Access Memory: SAM's dense control, one step for one example.

Rae et al. 2016, "Scaling Memory-Augmented Neural Networks with Sparse Reads and Writes" (arXiv
1610.09027), section 4. The equations are those of `memcore.sam` with a softmax over all slots and
with the least used slot in place of the least recently accessed. Every step copies the memory:
this is what SAM is measured against. Batch it with ``torch.func.vmap(dam.step)``.

Axes: N slots, W word size, R read heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from memcore.access import read
from memcore.batched import BatchedModel
from memcore.content import content_weighting, masked_content_weighting
from memcore.errors import allocated, check_device, check_float_dtype, check_size, checked
from memcore.options import PLAIN_SAM, SAMOptions
from memcore.sam_interface import (
    SAMInterface,
    interface_size,
    interface_sizes,
    parse_interface,
)
from memcore.trees import serializable

__all__ = [
    "DAMState",
    "batched_step",
    "init_state",
    "interface_size",
    "interface_sizes",
    "parse_interface",
    "step",
]


WAY_OUT = "take fewer slots, or SAM, whose slots take memory when they are written"


@serializable
class DAMState(NamedTuple):
    """All that a DAM's memory carries from one step to the next."""

    memory: Float[Tensor, "N W"]  # unbounded
    usage: Float[Tensor, "N"]  # non-negative, without gradient
    read_weights: Float[Tensor, "R N"]  # rows on the simplex; 0 before the first read
    write_weights: Float[Tensor, "N"]  # on the sub-simplex


USAGE_DECAY = 0.99  # λ of Rae et al. 2016


def init_state(
    slots: int,
    word_size: int,
    read_heads: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
) -> DAMState:
    """The state before the first step: an empty memory, nothing used, written or read.

    Args:
        slots: N.
        word_size: W.
        read_heads: R.
        dtype: float32 or float64.
        device: PyTorch's convention.

    Returns:
        A state of zeros.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1, another dtype, or a device that is not there.
    """
    check_size("slots", slots)
    check_size("word_size", word_size)
    check_size("read_heads", read_heads)
    check_float_dtype("dtype", dtype)
    check_device("device", device)
    place = {"dtype": dtype, "device": device}

    def make() -> DAMState:
        return DAMState(
            memory=torch.zeros(slots, word_size, **place),
            usage=torch.zeros(slots, **place),
            read_weights=torch.zeros(read_heads, slots, **place),
            write_weights=torch.zeros(slots, **place),
        )

    return allocated(make, (slots, max(word_size, read_heads)), dtype, WAY_OUT)


@checked
def step(state: DAMState, interface: SAMInterface) -> tuple[Float[Tensor, "R W"], DAMState]:
    """Write to the memory, then read from it: one step of one example.

    ``w = α (γ mean_r w_r + (1 − γ) 1[least])``, with the least used slot, of several the lowest;
    that slot is erased and ``w aᵀ`` added; each head reads by content over all slots; ``U = λ U +
    w + Σ_r w_r`` with λ = 0.99. No gradient flows through the usage.

    Args:
        state: as `init_state` or an earlier step gives it; not changed.
        interface: as `parse_interface` gives it.

    Returns:
        ``(read_vectors [R, W], state)``, every field of the state in the range that `DAMState`
        gives.

    Raises:
        TypeError: ``state`` or ``interface`` of another type.
        MemcoreError: a field of the wrong rank, size, dtype or device.
    """
    alpha, gamma = interface.write_gate, interface.interpolation_gate
    slots = torch.arange(state.usage.shape[0], device=state.usage.device)
    is_least = slots == state.usage.argmin()
    recent = state.read_weights.mean(0)
    write_weights = alpha * (gamma * recent + (1 - gamma) * is_least)
    kept = torch.where(is_least[:, None], 0.0, state.memory)
    memory = kept + write_weights[:, None] * interface.write_vector
    if isinstance(interface.read_masks, Tensor):
        told = interface.read_keys, interface.read_strengths, interface.read_masks
        read_weights = masked_content_weighting.unchecked(memory, *told)
    else:
        read_weights = content_weighting.unchecked(
            memory, interface.read_keys, interface.read_strengths
        )
    accessed = write_weights.detach() + read_weights.detach().sum(0)
    return read.unchecked(memory, read_weights), DAMState(
        memory=memory,
        usage=USAGE_DECAY * state.usage.detach() + accessed,
        read_weights=read_weights,
        write_weights=write_weights,
    )


def _from_vector(
    state: DAMState, vector: Tensor, word_size: int, read_heads: int, options: SAMOptions
) -> tuple[Tensor, DAMState]:
    interface = parse_interface.unchecked(vector, word_size, read_heads, options=options)
    return step.unchecked(state, interface)


_model = BatchedModel("DAM", DAMState, SAMOptions, _from_vector, interface_size)


def batched_step(
    state: DAMState,
    vectors: Float[Tensor, "B interface"],
    *,
    options: SAMOptions = PLAIN_SAM,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B R W"], DAMState]:
    """`parse_interface` and `step` for a batch, by compiled loops where they apply.

    For a controller of one's own: it is differentiable, twice too, and equals
    ``vmap(step)`` of the parsed vectors to rounding.

    Args:
        state: as `init_state` gives it with the batch in front of each field, or from an earlier
            step; not changed.
        vectors: ``[B, I]`` with I as `interface_size` gives it, unbounded.
        options: of content addressing.
        backend: ``'numba'``: compiled loops on the CPU, or an error that says why not;
            ``'reference'``: torch's operations; ``'auto'``: the former where they apply.

    Returns:
        ``(read_vectors [B, R, W], state)``.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a field or the vectors of the wrong shape, dtype or device; an unknown
            backend; ``'numba'`` with what the kernels do not take.
    """
    _model.check(state, vectors, options, backend)
    return _model.step(state, vectors, options, backend)


def batched_step_unchecked(
    state: DAMState, vectors: Tensor, options: SAMOptions, backend: str
) -> tuple[Tensor, DAMState]:
    """`batched_step` of what was checked already."""
    return _model.step(state, vectors, options, backend)
