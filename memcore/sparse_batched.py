"""One step of a sparse memory for a batch, from interface vectors, by kernels where they apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from memcore.backends import check_backend, why_not_numba
from memcore.errors import MemcoreError, check_tensor
from memcore.options import SAMOptions, told_to_kernels

__all__ = ["batched_step", "check_vectors"]

State = TypeVar("State", bound=Any)


def check_vectors(state: Any, vectors: object, size: int) -> None:
    """Raise unless these are interface vectors ``[B, size]`` for a state."""
    memory = state.memory
    check_tensor("vectors", vectors, (memory.shape[0], size), memory.dtype, memory.device)


def batched_step(
    state: State,
    vectors: Tensor,
    temporal_reads: int,
    options: SAMOptions,
    backend: str,
    plain: Callable[[State, Tensor], tuple[Tensor, State]],
) -> tuple[Tensor, State]:
    """Read vectors ``[B, R, W]`` and the next state, of arguments that are known to be right.

    Args:
        state: a `memcore.sam.SAMState` or `memcore.sdnc.SDNCState`.
        vectors: ``[B, I]``.
        temporal_reads: K_L; 0 without links.
        options: of content addressing.
        backend: one of `memcore.backends.BACKENDS`.
        plain: the same in torch's operations.

    Raises:
        MemcoreError: ``backend`` is none, or ``'numba'`` where the kernels do not apply.
    """
    if check_backend("backend", backend) == "reference":
        return plain(state, vectors)
    reason = why_not_numba([vectors, state.read_weights])
    if reason is None:
        return _by_kernels(state, vectors, temporal_reads, options)
    if backend == "numba":
        raise MemcoreError(f"backend: expected what the kernels take for 'numba', but {reason}")
    return plain(state, vectors)


def _by_kernels(
    state: State, vectors: Tensor, temporal_reads: int, options: SAMOptions
) -> tuple[Tensor, State]:
    """The step by kernels."""
    from memcore.kernels import kinds, sparse_segment
    from memcore.kernels.parts import Cells, Memory, Parts, Segment

    batch, slots, words = state.memory.shape
    heads, seen = state.read_index.shape[1:]
    reads = seen - 2 * temporal_reads
    sizes = slots, words, heads, vectors.shape[1], reads, temporal_reads
    memory = Memory(kinds.SDNC, *sizes, **told_to_kernels(options))
    parts = Parts(vectors[None], None, None, [], [], [], [])
    result, states = sparse_segment.run(Segment(memory, Cells()), parts, [state], {})
    return result.rows.view(batch, heads, words), states[0]
