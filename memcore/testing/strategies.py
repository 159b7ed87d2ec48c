"""Hypothesis strategies for memories, weightings, interfaces and reachable states.

Plain values shrink towards zero; zeros, one-hot rows, saturated gates and large keys come up
often, since that is where addressing breaks.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from memcore import dnc
from memcore.errors import how_to_install

try:
    from hypothesis import strategies as st
    from hypothesis.extra.numpy import arrays
except ImportError as error:
    raise ImportError(
        f"memcore.testing.strategies needs hypothesis: {how_to_install('testing')}"
    ) from error

__all__ = [
    "dnc_interface_vectors",
    "dnc_interfaces",
    "dnc_states",
    "gates",
    "memories",
    "strengths",
    "usages",
    "weightings",
]


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
    size = dnc.interface_size(word_size, read_heads)
    return st.one_of(
        _tensors((size,), -bound, bound, dtype),
        _tensors((size,), -3, 3, dtype),
        _tensors((size,), -1, 1, dtype).map(lambda vector: bound * vector.sign()),
    )


def dnc_interfaces(
    word_size: int, read_heads: int, *, bound: float = 50, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[dnc.DNCInterface]:
    """Interfaces as `memcore.dnc.parse_interface` makes them of `dnc_interface_vectors`."""
    return dnc_interface_vectors(word_size, read_heads, bound=bound, dtype=dtype).map(
        lambda vector: dnc.parse_interface(vector, word_size, read_heads)
    )


def dnc_states(
    slots: int,
    word_size: int,
    read_heads: int,
    *,
    max_steps: int = 5,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[dnc.DNCState]:
    """States that a DNC can reach: the initial one, or some steps of drawn interfaces later."""

    def roll(interfaces: Iterable[dnc.DNCInterface]) -> dnc.DNCState:
        state = dnc.init_state(slots, word_size, read_heads, dtype=dtype)
        for interface in interfaces:
            _, state = dnc.step(state, interface)
        return state

    interfaces = dnc_interfaces(word_size, read_heads, dtype=dtype)
    return st.lists(interfaces, max_size=max_steps).map(roll)
