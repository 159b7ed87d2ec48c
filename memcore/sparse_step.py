"""What a step of SAM and one of the SDNC have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from memcore.errors import check_tensor
from memcore.index.mirror import Mirror, check_masked
from memcore.persistent.buffers import array
from memcore.persistent.recency import Recency
from memcore.persistent.rows import RowMemory, SparseWrite
from memcore.sparse_access import (
    masked_sparse_content_weighting,
    sparse_content_weighting,
    sparse_write_weighting,
)

__all__ = ["access", "check_interface", "find", "weigh", "write"]

ACCESS_THRESHOLD = 0.005  # δ of Rae et al. 2016


def write(state: Any, interface: Any) -> tuple[RowMemory, Tensor, Tensor]:
    """Erase the least recently accessed slot, and write to it and to those read one step before.

    Returns:
        The memory, the slots ``[B, J]`` and the weights ``[B, J]``.

    Raises:
        MemcoreError: masks where the index knows nothing of them. Nothing is changed.
    """
    if isinstance(interface.read_masks, Tensor):
        check_masked(state.index.index)
    least = state.recency.least().unsqueeze(1)
    index = torch.cat([state.read_index.flatten(1), least], dim=1)
    weights = sparse_write_weighting.unchecked(
        state.read_weights, interface.write_gate, interface.interpolation_gate
    )
    add = weights.unsqueeze(-1) * interface.write_vector.unsqueeze(1)
    return state.memory.write_unchecked(SparseWrite(least, index, add)), index, weights


def access(
    recency: Recency,
    write_index: Tensor,
    write_weights: Tensor,
    read_index: Tensor,
    read_weights: Tensor,
) -> Recency:
    """The recency one step later: a slot with more than δ in all, written and read, is accessed.

    Args:
        recency: of the step before.
        write_index: ``[B, J]``.
        write_weights: ``[B, J]``.
        read_index: ``[B, R, K]``.
        read_weights: ``[B, R, K]``.
    """
    index = torch.cat([write_index, read_index.flatten(1)], 1)
    weights = torch.cat([write_weights.detach(), read_weights.detach().flatten(1)], 1)
    slots = array(index)
    examples = torch.arange(len(index), device=index.device).unsqueeze(1) * recency.slots
    accessed = _over(array(index + examples).reshape(-1), array(weights).reshape(-1))
    return recency.accessed_unchecked(slots, accessed.reshape(slots.shape))


def _over(slots: Any, weights: Any) -> Any:
    """Whether the weights of a slot, summed over its repeats, exceed δ; at each place ``[n]``."""
    order = slots.argsort()
    ordered = slots[order]
    run = (ordered[1:] != ordered[:-1]).cumsum(0)
    if isinstance(slots, np.ndarray):
        run = np.concatenate([run[:1] * 0, run])
        totals = np.bincount(run, weights[order])
        over = np.empty(len(slots), bool)
    else:
        run = torch.cat([run[:1] * 0, run])
        totals = torch.zeros_like(weights).index_add_(0, run, weights[order])
        over = torch.empty_like(slots, dtype=torch.bool)
    over[order] = (totals > ACCESS_THRESHOLD)[run]
    return over


def weigh(rows: Tensor, interface: Any) -> Tensor:
    """The content weighting ``[B, R, K]`` of the rows ``[B, R, K, W]`` that were found."""
    told = rows, interface.read_keys, interface.read_strengths
    if isinstance(interface.read_masks, Tensor):
        return masked_sparse_content_weighting.unchecked(*told, interface.read_masks)
    return sparse_content_weighting.unchecked(*told)


def find(
    index: Mirror, memory: RowMemory, interface: Any, k: int, before: RowMemory, touched: Tensor
) -> tuple[Tensor, Mirror]:
    """The k rows most similar to each key, as far as masks show them: `Mirror.search`."""
    masks = interface.read_masks.detach() if isinstance(interface.read_masks, Tensor) else None
    keys = interface.read_keys.detach()
    return index.search(memory, keys, k, masks=masks, before=before, touched=touched)


def check_interface(interface: Any, memory: RowMemory, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise unless the fields of ``interface`` have these shapes and fit the memory."""
    for field, shape in shapes.items():
        value = getattr(interface, field)
        if field == "read_masks" and isinstance(value, tuple) and not value:
            continue
        check_tensor(f"interface.{field}", value, shape, memory.dtype, memory.device)
