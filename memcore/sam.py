"""Sparse Access Memory: one step for a batch, at a cost that does not depend on the slots.

Rae et al. 2016, "Scaling Memory-Augmented Neural Networks with Sparse Reads and Writes" (arXiv
1610.09027). The addressing is pure and per example (`memcore.sparse_access`); what is sparse, the
memory, the recency and the index, comes in batches.

Axes: B batch, N slots, W word size, R read heads, K sparse reads, J = R·K + 1 slots written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore import sparse_batched, sparse_state
from memcore.circumstances import outside_of_graphs
from memcore.errors import (
    MemcoreError,
    check_device,
    check_float_dtype,
    check_size,
)
from memcore.index import Index, Mirror, check_choice, make_index
from memcore.options import PLAIN_SAM, SAMOptions
from memcore.persistent.recency import Recency
from memcore.persistent.rows import RowMemory
from memcore.sam_interface import (
    SAMInterface,
    interface_size,
    interface_sizes,
    parse_interface,
)
from memcore.sparse_access import sparse_read
from memcore.sparse_batched import check_vectors
from memcore.sparse_step import access, check_interface, find, weigh, write

__all__ = [
    "SAMInterface",
    "SAMState",
    "batched_step",
    "init_state",
    "interface_size",
    "interface_sizes",
    "parse_interface",
    "step",
]


class SAMState(NamedTuple):
    """All that a batch of SAM's memories carries from one step to the next."""

    memory: RowMemory  # [B, N, W], unbounded
    read_index: Int[Tensor, "B R K"]  # slots in [0, N), distinct for each head
    read_weights: Float[Tensor, "B R K"]  # rows on the simplex; 0 before the first read
    write_index: Int[Tensor, "B J"]  # slots in [0, N); repeats add up
    write_weights: Float[Tensor, "B J"]  # on the sub-simplex
    recency: Recency  # when each slot was last accessed
    index: Mirror  # a cache, for the search  # pyright: ignore[reportIncompatibleMethodOverride]


@outside_of_graphs
def init_state(
    batch: int,
    slots: int,
    word_size: int,
    read_heads: int,
    sparse_reads: int,
    *,
    memory: RowMemory | None = None,
    index: str | Index = "auto",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
) -> SAMState:
    """The state before the first step: nothing read, no slot accessed. No work for the slots.

    Args:
        batch: B.
        slots: N.
        word_size: W.
        read_heads: R.
        sparse_reads: K, at most N.
        memory: ``[B, N, W]``, what the memory begins with; None: zeros.
        index: what finds the rows to read; see `make_index`. With masks ``'exact'``, or one that
            has `search_masked`.
        dtype: float32 or float64.
        device: PyTorch's convention.

    Returns:
        A state whose weights are 0.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1, ``sparse_reads`` over ``slots``, another dtype, a device
            that is not there, or a memory of another shape, dtype or device.
    """
    batch, slots = check_size("batch", batch), check_size("slots", slots)
    check_size("word_size", word_size)
    heads, reads = check_size("read_heads", read_heads), check_size("sparse_reads", sparse_reads)
    check_float_dtype("dtype", dtype)
    check_device("device", device)
    check_choice("index", index)
    if reads > slots:
        raise MemcoreError(f"sparse_reads: expected at most slots = {slots}, got {reads}")
    if memory is None:
        memory = RowMemory.zeros(batch, slots, word_size, dtype=dtype, device=device)
    elif not isinstance(memory, RowMemory):
        raise TypeError(f"memory: expected a RowMemory, got {type(memory).__name__}")
    place = torch.empty(0, device=device).device
    for what, expected, actual in (
        ("shape", [batch, slots, word_size], list(memory.shape)),
        ("dtype", dtype, memory.dtype),
        ("device", place, memory.device),
    ):
        if expected != actual:
            raise MemcoreError(f"memory: expected {what} {expected}, got {actual}")
    finder = make_index(
        index, batch_size=batch, slots=slots, word_size=word_size, dtype=dtype, device=place
    )
    written = heads * reads + 1
    return SAMState(
        memory=memory,
        read_index=torch.arange(reads, device=place).repeat(batch, heads, 1),
        read_weights=torch.zeros(batch, heads, reads, dtype=dtype, device=place),
        write_index=torch.zeros(batch, written, dtype=torch.int64, device=place),
        write_weights=torch.zeros(batch, written, dtype=dtype, device=place),
        recency=Recency(batch, slots, device=place),
        index=Mirror(finder, memory),
    )


@outside_of_graphs
def step(state: SAMState, interface: SAMInterface) -> tuple[Float[Tensor, "B R W"], SAMState]:
    """Write to the memory, then read from it: one step of a batch.

    In order: the write weighting on the slots read one step before and the least recently
    accessed one; that slot is erased, the write vector added as weighted; each head reads the K
    rows most similar to its key; what was written or read with more than δ = 0.005 in all is
    accessed. Rae et al. 2016, section 3.

    Args:
        state: as `init_state` or an earlier step gives it; not changed.
        interface: each field with the batch in front, as ``torch.func.vmap`` of
            `parse_interface` gives it.

    Returns:
        ``(read_vectors [B, R, W], state)``, every field of the state in the range that
        `SAMState` gives.

    Raises:
        TypeError: ``state`` or ``interface`` of another type.
        MemcoreError: a field of the wrong shape, dtype or device, or masks of which the index knows
            nothing.
    """
    _check(state, interface)
    return step_unchecked(state, interface)


@outside_of_graphs
def batched_step(
    state: SAMState,
    vectors: Float[Tensor, "B I"],
    *,
    options: SAMOptions = PLAIN_SAM,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B R W"], SAMState]:
    """`parse_interface` and `step` for a batch, compiled where kernels apply.

    For loops with a controller of one's own. Differentiable once.

    Args:
        state: as for `step`; not changed.
        vectors: ``[B, I]``, unbounded, I as `interface_size` gives it.
        options: of content addressing; the interface vectors and what finds rows must fit them.
        backend: ``'auto'``, ``'reference'`` (torch's operations) or ``'numba'``, which raises where
            kernels do not apply.

    Returns:
        What `step` returns.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a field or the vectors of the wrong shape, dtype or device, an unknown
            backend, or one that cannot take this.
    """
    _check_state(state)
    words, heads = state.memory.shape[2], state.read_index.shape[1]
    check_vectors(state, vectors, interface_size(words, heads, options=options))

    def plain(state: SAMState, vectors: Tensor) -> tuple[Tensor, SAMState]:
        parsed = parse_interface.unchecked(vectors, words, heads, options=options)
        return step_unchecked(state, parsed)

    return sparse_batched.batched_step(state, vectors, 0, options, backend, plain)


def step_unchecked(state: SAMState, interface: SAMInterface) -> tuple[Tensor, SAMState]:
    """`step` for what is known to be right."""
    memory, write_index, write_weights = write(state, interface)
    reads = state.read_index.shape[2]
    read_index, index = find(
        state.index, memory, interface, reads, before=state.memory, touched=write_index
    )
    rows = memory.read_unchecked(read_index.flatten(1)).unflatten(1, read_index.shape[1:])
    read_weights = weigh(rows, interface)
    return sparse_read.unchecked(rows, read_weights), SAMState(
        memory=memory,
        read_index=read_index,
        read_weights=read_weights,
        write_index=write_index,
        write_weights=write_weights,
        recency=access(state.recency, write_index, write_weights, read_index, read_weights),
        index=index,
    )


@outside_of_graphs
def from_dict(saved: dict[str, Any]) -> SAMState:
    """The state that `memcore.sparse_state.to_dict` took apart.

    Raises:
        TypeError: a part of the wrong type.
        MemcoreError: a field is missing, or its sizes do not agree.
    """
    state = sparse_state.from_dict(SAMState, saved)
    sparse_state.check_parts("saved", state)
    return state


def _check_state(state: object) -> None:
    if not isinstance(state, SAMState):
        raise TypeError(f"state: expected a SAMState, got {type(state).__name__}")
    sparse_state.check_parts("state", state)


def _check(state: SAMState, interface: object) -> None:
    _check_state(state)
    if not isinstance(interface, SAMInterface):
        raise TypeError(f"interface: expected a SAMInterface, got {type(interface).__name__}")
    check_interface(interface, state.memory, interface_shapes(state))


def interface_shapes(state: Any) -> dict[str, tuple[int, ...]]:
    """The shape that each field of a batched `SAMInterface` must have."""
    (batch, _, width), heads = state.memory.shape, state.read_index.shape[1]
    return {
        "read_keys": (batch, heads, width),
        "read_strengths": (batch, heads),
        "write_vector": (batch, width),
        "write_gate": (batch,),
        "interpolation_gate": (batch,),
        "read_masks": (batch, heads, width),
    }
