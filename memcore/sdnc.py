"""The Sparse DNC: SAM's memory with temporal links, at a cost that does not depend on the slots.

Rae et al. 2016, "Scaling Memory-Augmented Neural Networks with Sparse Reads and Writes" (arXiv
1610.09027), supplementary D; the links keep the rule of Graves et al. 2016, see
`memcore.persistent.links`.

Axes: B batch, N slots, W word size, R read heads, K sparse reads, K_L temporal reads,
V = K_L + K + K_L slots that a head reads, J = R·V + 1 slots written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore import sam, sparse_batched, sparse_state
from memcore.circumstances import outside_of_graphs
from memcore.errors import MemcoreError, check_size
from memcore.index import Index, Mirror
from memcore.options import PLAIN_SAM, SAMOptions
from memcore.persistent.links import SparseLinks
from memcore.persistent.recency import Recency
from memcore.persistent.rows import RowMemory
from memcore.sdnc_interface import (
    SDNCInterface,
    interface_size,
    interface_sizes,
    parse_interface,
)
from memcore.sparse_access import sparse_read, sparse_read_weighting
from memcore.sparse_batched import check_vectors
from memcore.sparse_step import access, check_interface, find, weigh, write

__all__ = [
    "SDNCInterface",
    "SDNCState",
    "batched_step",
    "init_state",
    "interface_size",
    "interface_sizes",
    "parse_interface",
    "step",
]


class SDNCState(NamedTuple):
    """All that a batch of the SDNC's memories carries from one step to the next."""

    memory: RowMemory  # [B, N, W], unbounded
    read_index: Int[Tensor, "B R V"]  # slots in [0, N): backward, content, forward; repeats add up
    read_weights: Float[Tensor, "B R V"]  # rows on the sub-simplex
    write_index: Int[Tensor, "B J"]  # slots in [0, N); repeats add up
    write_weights: Float[Tensor, "B J"]  # on the sub-simplex
    recency: Recency  # when each slot was last accessed
    links: SparseLinks  # which slot was written after which, K_L for each
    index: Mirror  # a cache, for the search  # pyright: ignore[reportIncompatibleMethodOverride]


@outside_of_graphs
def init_state(
    batch: int,
    slots: int,
    word_size: int,
    read_heads: int,
    sparse_reads: int,
    temporal_reads: int,
    *,
    memory: RowMemory | None = None,
    index: str | Index = "auto",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
) -> SDNCState:
    """The state before the first step: nothing read, written or accessed. No work for the slots.

    Args:
        batch: B.
        slots: N.
        word_size: W.
        read_heads: R.
        sparse_reads: K, at most N.
        temporal_reads: K_L, at most N.
        memory: ``[B, N, W]``, what the memory begins with; None: zeros.
        index: what finds the rows to read; see `make_index`. With masks ``'exact'``, or one that
            has `search_masked`.
        dtype: float32 or float64.
        device: PyTorch's convention.

    Returns:
        A state whose weights are 0.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1, ``sparse_reads`` or ``temporal_reads`` over ``slots``,
            another dtype, a device that is not there, or a memory of another shape, dtype or
            device.
    """
    start = {"memory": memory, "index": index, "dtype": dtype, "device": device}
    begun = sam.init_state(batch, slots, word_size, read_heads, sparse_reads, **start)
    links = SparseLinks(batch, slots, temporal_reads, dtype=dtype, device=device)
    read_index = first_read_index(sparse_reads, temporal_reads, begun.read_index.device)
    read_weights = begun.read_weights.new_zeros(batch, read_heads, len(read_index))
    written = read_heads * len(read_index) + 1
    return SDNCState(
        **begun._replace(
            read_index=read_index.repeat(batch, read_heads, 1),
            read_weights=read_weights,
            write_index=begun.write_index.new_zeros(batch, written),
            write_weights=read_weights.new_zeros(batch, written),
        )._asdict(),
        links=links,
    )


def first_read_index(
    sparse_reads: int, temporal_reads: int, device: torch.device | str | None = None
) -> Int[Tensor, "V"]:
    """The slots ``[V]`` that a head is on, with no weight, before the first step."""
    first = torch.zeros(2 * temporal_reads + sparse_reads, dtype=torch.int64, device=device)
    content = torch.arange(sparse_reads, device=device)
    return first.index_copy(0, content + temporal_reads, content)


@outside_of_graphs
def step(state: SDNCState, interface: SDNCInterface) -> tuple[Float[Tensor, "B R W"], SDNCState]:
    """Write to the memory, then read from it: one step of a batch.

    As `sam.step`, and after the write the links take it up, and each head mixes the K rows most
    similar to its key with the K_L slots backward and forward in time of where it read last. No
    gradient flows through the links, the directional weightings or the recency.

    Args:
        state: as `init_state` or an earlier step gives it; not changed.
        interface: each field with the batch in front, as ``torch.func.vmap`` of
            `parse_interface` gives it.

    Returns:
        ``(read_vectors [B, R, W], state)``, every field of the state in the range that
        `SDNCState` gives.

    Raises:
        TypeError: ``state`` or ``interface`` of another type.
        MemcoreError: a field of the wrong shape, dtype or device, or masks of which the index knows
            nothing.
    """
    _check_type(state)
    if not isinstance(interface, SDNCInterface):
        raise TypeError(f"interface: expected an SDNCInterface, got {type(interface).__name__}")
    check_state("state", state)
    heads = state.read_index.shape[1]
    shapes = {**sam.interface_shapes(state), "read_modes": (state.memory.shape[0], heads, 3)}
    check_interface(interface, state.memory, shapes)
    return step_unchecked(state, interface)


@outside_of_graphs
def batched_step(
    state: SDNCState,
    vectors: Float[Tensor, "B I"],
    *,
    options: SAMOptions = PLAIN_SAM,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B R W"], SDNCState]:
    """`parse_interface` and `step` for a batch, compiled where kernels apply.

    For loops with a controller of one's own. Differentiable once.

    Args:
        state: as for `step`; not changed.
        vectors: ``[B, I]``, unbounded, I as `interface_size` gives it.
        options: of content addressing; the interface vectors and what finds rows must fit them.
        backend: as for `memcore.sam.batched_step`.

    Returns:
        What `step` returns.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a field or the vectors of the wrong shape, dtype or device, an unknown
            backend, or one that cannot take this.
    """
    _check_type(state)
    check_state("state", state)
    words, heads = state.memory.shape[2], state.read_index.shape[1]
    check_vectors(state, vectors, interface_size(words, heads, options=options))

    def plain(state: SDNCState, vectors: Tensor) -> tuple[Tensor, SDNCState]:
        parsed = parse_interface.unchecked(vectors, words, heads, options=options)
        return step_unchecked(state, parsed)

    temporal = state.links.temporal_reads
    return sparse_batched.batched_step(state, vectors, temporal, options, backend, plain)


def _check_type(state: object) -> None:
    if not isinstance(state, SDNCState):
        raise TypeError(f"state: expected an SDNCState, got {type(state).__name__}")


def step_unchecked(state: SDNCState, interface: SDNCInterface) -> tuple[Tensor, SDNCState]:
    """`step` for what is known to be right."""
    memory, write_index, write_weights = write(state, interface)
    links = state.links.written_unchecked(write_index, write_weights)
    directions = links.directional_weightings_unchecked(state.read_index, state.read_weights)

    temporal = links.temporal_reads
    reads = state.read_index.shape[2] - 2 * temporal
    similar, index = find(
        state.index, memory, interface, reads, before=state.memory, touched=write_index
    )
    read_index = torch.cat([directions.backward_index, similar, directions.forward_index], -1)
    rows = memory.read_unchecked(read_index.flatten(1)).unflatten(1, read_index.shape[1:])
    content = weigh(rows[:, :, temporal : temporal + reads], interface)
    read_weights = sparse_read_weighting.unchecked(
        directions.backward_weights, content, directions.forward_weights, interface.read_modes
    )
    return sparse_read.unchecked(rows, read_weights), SDNCState(
        memory=memory,
        read_index=read_index,
        read_weights=read_weights,
        write_index=write_index,
        write_weights=write_weights,
        recency=access(state.recency, write_index, write_weights, read_index, read_weights),
        links=links,
        index=index,
    )


@outside_of_graphs
def from_dict(saved: dict[str, Any]) -> SDNCState:
    """The state that `memcore.sparse_state.to_dict` took apart.

    Raises:
        TypeError: a part of the wrong type.
        MemcoreError: a field is missing, or its sizes do not agree.
    """
    state = sparse_state.from_dict(SDNCState, saved)
    check_state("saved", state)
    return state


def check_state(name: str, state: SDNCState) -> None:
    """Raise unless the parts of ``state`` fit each other and its memory."""
    sparse_state.check_parts(name, state)
    reads = state.read_index.shape[2] - 2 * state.links.temporal_reads
    check_size(f"{name}.read_index.shape[2] - 2 * temporal_reads", reads)
    if state.links.dtype != state.memory.dtype:
        raise MemcoreError(
            f"{name}.links: expected dtype {state.memory.dtype}, got {state.links.dtype}"
        )
