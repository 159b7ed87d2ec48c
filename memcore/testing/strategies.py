"""Hypothesis strategies for memories, weightings, interfaces, reachable states and rollouts.

Plain values shrink towards zero; zeros, one-hot rows, saturated gates and large keys come up
often, since that is where addressing breaks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from memcore import dam, dnc, sam, sdnc
from memcore.errors import how_to_install
from memcore.persistent.rows import SparseWrite

try:
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import arrays
except ImportError as error:
    raise ImportError(
        f"memcore.testing.strategies needs hypothesis: {how_to_install('testing')}"
    ) from error

__all__ = [
    "dam_interfaces",
    "dam_states",
    "dnc_interface_vectors",
    "dnc_interfaces",
    "dnc_states",
    "gates",
    "memories",
    "rollouts",
    "sam_interfaces",
    "sam_states",
    "sdnc_interfaces",
    "sdnc_states",
    "sparse_writes",
    "strengths",
    "usages",
    "weightings",
]

State = TypeVar("State")
Interface = TypeVar("Interface")


def _tensors(
    shape: tuple[int, ...], low: float, high: float, dtype: torch.dtype
) -> st.SearchStrategy[Tensor]:
    elements = st.floats(low, high, allow_subnormal=False)
    return arrays(np.float64, shape, elements=elements).map(
        lambda array: torch.from_numpy(array.copy()).to(dtype)
    )


def memories(
    slots: int, word_size: int, *, bound: float = 1e3, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[Tensor]:
    """Memories, or keys: ``[slots, word_size]`` with entries within ±``bound``."""
    return _tensors((slots, word_size), -bound, bound, dtype)


def gates(shape: tuple[int, ...], *, dtype: torch.dtype = torch.float64) -> st.SearchStrategy:
    """Gates, erase vectors, retentions: tensors of ``shape`` in [0, 1], 0 and 1 included."""
    return _tensors(shape, 0, 1, dtype)


def strengths(heads: int, *, dtype: torch.dtype = torch.float64) -> st.SearchStrategy[Tensor]:
    """Strengths: ``[heads]``, in [1, 100]."""
    return _tensors((heads,), 1, 100, dtype)


def weightings(
    shape: tuple[int, ...], *, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[Tensor]:
    """Weightings: tensors of ``shape``, each row on the sub-simplex.

    All-zero and one-hot rows too, and such as rounding leaves a little over 1.
    """
    above = torch.eye(shape[-1], dtype=dtype) * (1 + torch.finfo(dtype).eps)
    one_hot = st.integers(0, shape[-1] - 1).map(
        lambda slot: torch.eye(shape[-1], dtype=dtype)[slot].expand(shape).clone()
    )
    spread = gates(shape, dtype=dtype).map(
        lambda values: values / values.sum(-1, keepdim=True).clamp(min=1)
    )
    return st.one_of(spread, one_hot, one_hot.map(lambda rows: rows @ above))


def usages(slots: int, *, dtype: torch.dtype = torch.float64) -> st.SearchStrategy[Tensor]:
    """Usages: ``[slots]``, in [0, 1], often with ties, zeros and ones."""
    levels = st.sampled_from([0.0, 0.5, 1.0])
    tied = arrays(np.float64, slots, elements=levels).map(lambda array: torch.from_numpy(array))
    return st.one_of(gates((slots,), dtype=dtype), tied.map(lambda usage: usage.to(dtype)))


def dnc_interface_vectors(
    word_size: int, read_heads: int, *, bound: float = 50, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[Tensor]:
    """Interface vectors ``[R·W + 3·W + 5·R + 3]`` within ±``bound``: gates up to saturation."""
    return _vectors((dnc.interface_size(word_size, read_heads),), bound, dtype)


def _vectors(shape: tuple[int, ...], bound: float, dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    return st.one_of(
        _tensors(shape, -bound, bound, dtype),
        _tensors(shape, -3, 3, dtype),
        _tensors(shape, -1, 1, dtype).map(lambda vector: bound * vector.sign()),
    )


def dnc_interfaces(
    word_size: int, read_heads: int, *, bound: float = 50, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[dnc.DNCInterface]:
    """Interfaces as `memcore.dnc.parse_interface` makes them of `dnc_interface_vectors`."""
    return dnc_interface_vectors(word_size, read_heads, bound=bound, dtype=dtype).map(
        lambda vector: dnc.parse_interface(vector, word_size, read_heads)
    )


def dam_interfaces(
    word_size: int, read_heads: int, *, bound: float = 50, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[sam.SAMInterface]:
    """Interfaces of DAM, for one example: gates up to saturation, vectors within ±``bound``."""
    size = dam.interface_size(word_size, read_heads)
    return _vectors((size,), bound, dtype).map(
        lambda vector: dam.parse_interface(vector, word_size, read_heads)
    )


def sam_interfaces(
    batch: int,
    word_size: int,
    read_heads: int,
    *,
    bound: float = 50,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[sam.SAMInterface]:
    """Interfaces of SAM with the batch in front: gates up to saturation, within ±``bound``."""
    size = sam.interface_size(word_size, read_heads)
    return _vectors((batch, size), bound, dtype).map(
        lambda vectors: sam.parse_interface.unchecked(vectors, word_size, read_heads)
    )


def sdnc_interfaces(
    batch: int,
    word_size: int,
    read_heads: int,
    *,
    bound: float = 50,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[sdnc.SDNCInterface]:
    """Interfaces of the SDNC with the batch in front: gates up to saturation."""
    size = sdnc.interface_size(word_size, read_heads)
    return _vectors((batch, size), bound, dtype).map(
        lambda vectors: sdnc.parse_interface.unchecked(vectors, word_size, read_heads)
    )


def rollouts(
    init_state: Callable[[], State],
    step: Callable[[State, Interface], tuple[Any, State]],
    interfaces: st.SearchStrategy[Interface],
    *,
    max_steps: int = 5,
) -> st.SearchStrategy[list[tuple[State, Interface]]]:
    """Rollouts of 1 to ``max_steps`` steps: each state with what the memory is told in it.

    Args:
        init_state: the state before the first step, as ``partial(dnc.init_state, 5, 3, 2)``.
        step: ``(state, interface) → (read vectors, state)``, batched or not.
        interfaces: strategy of what a step is told.
        max_steps: the most steps; they shrink towards one.
    """

    def roll(told: list[Interface]) -> list[tuple[State, Interface]]:
        state, pairs = init_state(), []
        for interface in told:
            pairs.append((state, interface))
            _, state = step(state, interface)
        return pairs

    return st.lists(interfaces, min_size=1, max_size=max_steps).map(roll)


def _states(
    init_state: Callable[[], Any],
    step: Callable[[Any, Any], tuple[Any, Any]],
    interfaces: st.SearchStrategy[Any],
    max_steps: int,
) -> st.SearchStrategy[Any]:
    """The initial state, or the last before the end of a rollout."""
    longer = rollouts(init_state, step, interfaces, max_steps=max_steps + 1)
    return longer.map(lambda pairs: pairs[-1][0])


def dnc_states(
    slots: int,
    word_size: int,
    read_heads: int,
    *,
    max_steps: int = 5,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[dnc.DNCState]:
    """States that a DNC can reach: the initial one, or some steps of drawn interfaces later."""
    begin = partial(dnc.init_state, slots, word_size, read_heads, dtype=dtype)
    return _states(begin, dnc.step, dnc_interfaces(word_size, read_heads, dtype=dtype), max_steps)


def dam_states(
    slots: int,
    word_size: int,
    read_heads: int,
    *,
    max_steps: int = 5,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[dam.DAMState]:
    """States that DAM can reach, for one example."""
    begin = partial(dam.init_state, slots, word_size, read_heads, dtype=dtype)
    return _states(begin, dam.step, dam_interfaces(word_size, read_heads, dtype=dtype), max_steps)


def sam_states(
    batch: int,
    slots: int,
    word_size: int,
    read_heads: int,
    sparse_reads: int,
    *,
    max_steps: int = 5,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[sam.SAMState]:
    """States that a batch of SAM's memories can reach."""
    begin = partial(sam.init_state, batch, slots, word_size, read_heads, sparse_reads, dtype=dtype)
    told = sam_interfaces(batch, word_size, read_heads, dtype=dtype)
    return _states(begin, sam.step, told, max_steps)


def sdnc_states(
    batch: int,
    slots: int,
    word_size: int,
    read_heads: int,
    sparse_reads: int,
    temporal_reads: int,
    *,
    max_steps: int = 5,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[sdnc.SDNCState]:
    """States that a batch of the SDNC's memories can reach."""
    sizes = (batch, slots, word_size, read_heads, sparse_reads, temporal_reads)
    told = sdnc_interfaces(batch, word_size, read_heads, dtype=dtype)
    return _states(partial(sdnc.init_state, *sizes, dtype=dtype), sdnc.step, told, max_steps)


def sparse_writes(
    batch: int,
    slots: int,
    word_size: int,
    *,
    max_rows: int = 4,
    bound: float = 1e3,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[SparseWrite]:
    """Writes to 1 to ``max_rows`` rows of a `RowMemory`, slots repeated or not.

    None, some or all of the rows are erased first, and others too.
    """

    def rows(least: int) -> st.SearchStrategy[Tensor]:
        def some(count: int) -> st.SearchStrategy[Tensor]:
            shape = (batch, count)
            return arrays(np.int64, shape, elements=st.integers(0, slots - 1)).map(
                lambda array: torch.from_numpy(array.copy())
            )

        return st.integers(least, max_rows).flatmap(some)

    def filled(index: Tensor) -> st.SearchStrategy[SparseWrite]:
        add = _tensors((*index.shape, word_size), -bound, bound, dtype)
        return st.builds(SparseWrite, rows(0), st.just(index), add)

    return rows(1).flatmap(filled)
