"""Assertions on weightings and states, with tolerances that fit the dtype."""

from __future__ import annotations

import torch
from torch import Tensor

from memcore.dnc import DNCState
from memcore.persistent.links import SparseLinks
from memcore.sam import SAMState
from memcore.sdnc import SDNCState

__all__ = [
    "assert_dnc_state",
    "assert_finite",
    "assert_links",
    "assert_sam_state",
    "assert_sdnc_state",
    "assert_simplex",
    "assert_subsimplex",
]


def _tolerance(tensor: Tensor) -> float:
    return 64 * torch.finfo(tensor.dtype).eps


def assert_finite(tensor: Tensor, name: str = "tensor") -> None:
    """Assert that no element is NaN or infinite."""
    bad = int((~tensor.isfinite()).sum())
    assert bad == 0, f"{name}: {bad} of {tensor.numel()} elements are not finite"


def _assert_range(tensor: Tensor, name: str, low: float, high: float) -> None:
    assert_finite(tensor, name)
    slack = _tolerance(tensor)
    smallest, largest = tensor.min().item(), tensor.max().item()
    assert smallest >= low - slack, f"{name}: smallest element {smallest} is under {low}"
    assert largest <= high + slack, f"{name}: largest element {largest} is over {high}"


def assert_subsimplex(weights: Tensor, name: str = "weights") -> None:
    """Assert that each row ``[..., N]`` is non-negative and sums to at most 1."""
    _assert_range(weights, name, 0, 1)
    largest = weights.sum(-1).max().item()
    assert largest <= 1 + _tolerance(weights), f"{name}: a row sums to {largest}, over 1"


def assert_simplex(weights: Tensor, name: str = "weights") -> None:
    """Assert that each row ``[..., N]`` is non-negative and sums to 1."""
    assert_subsimplex(weights, name)
    smallest = weights.sum(-1).min().item()
    assert smallest >= 1 - _tolerance(weights), f"{name}: a row sums to {smallest}, under 1"


def assert_dnc_state(state: DNCState) -> None:
    """Assert every invariant of a DNC's state, for one example or batched.

    All finite; usage in [0, 1]; write weights, read weights and precedence on the sub-simplex;
    links in [0, 1] with a diagonal of zeros, each row summing to at most 1, and each column
    together with its slot's precedence summing to at most 1.
    """
    assert_finite(state.memory, "memory")
    _assert_range(state.usage, "usage", 0, 1)
    assert_subsimplex(state.write_weights, "write_weights")
    assert_subsimplex(state.read_weights, "read_weights")
    assert_subsimplex(state.precedence, "precedence")
    assert_subsimplex(state.link, "link")
    diagonal = state.link.diagonal(dim1=-2, dim2=-1)
    assert not diagonal.any(), f"link: the diagonal holds {diagonal.abs().max().item()}, not 0"
    columns = state.link.sum(-2) + state.precedence
    _assert_range(columns, "column sums of link plus precedence", 0, 1)


def assert_links(links: SparseLinks) -> None:
    """Assert every invariant of sparse links; O(N²).

    Links in [0, 1] with a diagonal of zeros, at most K_L in each row and column, each row summing
    to at most 1, and each column together with its slot's precedence summing to at most 1; the
    precedence on the sub-simplex, on K_L distinct slots.
    """
    dense, (on, weights) = links.to_tensor(), links.precedence()
    assert_subsimplex(dense, "links")
    assert_subsimplex(weights, "precedence")
    diagonal = dense.diagonal(dim1=-2, dim2=-1)
    assert not diagonal.any(), f"links: the diagonal holds {diagonal.abs().max().item()}, not 0"
    for name, axis in (("row", -1), ("column", -2)):
        most = int((dense != 0).sum(axis).max())
        assert most <= links.temporal_reads, f"links: a {name} holds {most} links"
    assert 0 <= int(on.min()) <= int(on.max()) < links.slots, "precedence: a slot out of range"
    ascending = on.sort(-1).values
    assert (ascending[:, 1:] > ascending[:, :-1]).all(), "precedence: a slot is there twice"
    columns = dense.sum(-2).scatter_add(-1, on, weights)
    _assert_range(columns, "column sums of links plus precedence", 0, 1)


def assert_sam_state(state: SAMState) -> None:
    """Assert every invariant of a SAM's state.

    Read weights, unless nothing has been read, on the simplex, on slots that are distinct for each
    head; write weights on the sub-simplex; all slots in [0, N); the rows they are on finite.
    """
    read = state.recency.time > 0
    if read.any():
        assert_simplex(state.read_weights[read], "read_weights")
    _assert_accesses(state)
    _assert_distinct(state.read_index)


def assert_sdnc_state(state: SDNCState) -> None:
    """Assert every invariant of an SDNC's state; O(N²) for the links.

    Read and write weights on the sub-simplex; all slots in [0, N), those read by content distinct
    for each head; the rows they are on finite; the links as `assert_links` says.
    """
    _assert_accesses(state)
    temporal = state.links.temporal_reads
    _assert_distinct(state.read_index[..., temporal:-temporal])
    assert_links(state.links)


def _assert_accesses(state: SAMState | SDNCState) -> None:
    batch, slots, _ = state.memory.shape
    assert_subsimplex(state.read_weights, "read_weights")
    assert_subsimplex(state.write_weights, "write_weights")
    for name, index in (("read_index", state.read_index), ("write_index", state.write_index)):
        least, most = int(index.min()), int(index.max())
        assert 0 <= least <= most < slots, f"{name}: slots {least} to {most}, not in [0, {slots})"
        assert_finite(state.memory.read(index.reshape(batch, -1)), f"rows of {name}")


def _assert_distinct(read_index: Tensor) -> None:
    ascending = read_index.sort(-1).values
    repeated = (ascending[..., 1:] == ascending[..., :-1]).any()
    assert not repeated, "read_index: a head reads a slot twice"
