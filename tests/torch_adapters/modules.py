"""Small modules in every variant, and how to compare what they return."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memcore import Recency, RowMemory, SDNCState, SparseLinks
from memcore.index import Mirror
from torch_adapters import DAM, DNC, SAM, SDNC

__all__ = [
    "CLOSE",
    "VARIANTS",
    "H",
    "K",
    "L",
    "N",
    "R",
    "W",
    "X",
    "batch",
    "build",
    "close",
    "every_model",
    "gradients",
    "leaves",
    "same",
    "variants",
]

X, H, N, W, R, K, L = 3, 8, 5, 4, 2, 3, 2
VARIANTS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {"rnn_type": "gru"},
    "rnn": {"rnn_type": "rnn", "nonlinearity": "relu"},
    "deep": {"num_hidden_layers": 3},
    "layers": {"num_layers": 3, "num_hidden_layers": 1},
    "own memories": {"num_layers": 2, "share_memory": False},
    "independent": {"independent_linears": True},
    "time first": {"batch_first": False},
    "no bias, no clip": {"bias": False, "clip": 0},
    "wide output": {"output_size": 7},
    "SAM": {"model": SAM},
    "SAM, layers": {"model": SAM, "num_layers": 3, "num_hidden_layers": 1},
    "SAM, own memories": {"model": SAM, "num_layers": 2, "share_memory": False},
    "SAM, time first": {"model": SAM, "batch_first": False, "rnn_type": "gru"},
    "SAM, all slots": {"model": SAM, "sparse_reads": N, "independent_linears": True},
    "SAM, many slots": {"model": SAM, "nr_cells": 1000},
    "SDNC": {"model": SDNC},
    "SDNC, layers": {"model": SDNC, "num_layers": 3, "num_hidden_layers": 1},
    "SDNC, own memories": {"model": SDNC, "num_layers": 2, "share_memory": False},
    "SDNC, all slots": {"model": SDNC, "sparse_reads": N, "temporal_reads": N},
    "SDNC, many slots": {"model": SDNC, "nr_cells": 1000, "batch_first": False},
    "DAM": {"model": DAM},
    "DAM, own memories": {"model": DAM, "num_layers": 2, "share_memory": False},
}
variants = pytest.mark.parametrize("options", VARIANTS.values(), ids=list(VARIANTS))
every_model = pytest.mark.parametrize("model", [DNC, SAM, SDNC, DAM])
CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}


def build(model: Any = DNC, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"nr_cells": N, "cell_size": W, "read_heads": R, "dtype": torch.float64}
    if model in (SAM, SDNC):
        sizes["sparse_reads"] = K
    if model is SDNC:
        sizes["temporal_reads"] = L
    return model(X, H, **{**sizes, **options})


def batch(module: Any, size: int = 3, steps: int = 4, seed: int = 1) -> Tensor:
    """An input in the module's layout."""
    generator = torch.Generator().manual_seed(seed)
    input = torch.randn(size, steps, X, generator=generator, dtype=module.output.weight.dtype)
    return input if module.batch_first else input.transpose(0, 1)


def leaves(state: Any) -> list[Tensor]:
    """All tensors of a state; an index is a cache and no part of its value."""
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, RowMemory):
        return [state.to_tensor()]
    if isinstance(state, Recency):
        return [state.last_access(), state.time]
    if isinstance(state, SparseLinks):
        on, weights = state.precedence()
        dense = weights.new_zeros(state.batch, state.slots).scatter(1, on, weights)
        return [state.to_tensor(), dense]
    if isinstance(state, Mirror):
        return []
    if isinstance(state, SDNCState):
        # Weightings may name their slots in any order.
        slots = state.memory.shape[1]
        for name in ("read", "write"):
            index, weights = getattr(state, f"{name}_index"), getattr(state, f"{name}_weights")
            dense = weights.new_zeros(*index.shape[:-1], slots).scatter_add(-1, index, weights)
            state = state._replace(**{f"{name}_index": dense, f"{name}_weights": dense})
    return [leaf for part in state for leaf in leaves(part)]


def same(one: Any, other: Any, **tolerance: Any) -> None:
    ones, others = leaves(one), leaves(other)
    assert len(ones) == len(others)
    for left, right in zip(ones, others, strict=True):
        if tolerance:
            torch.testing.assert_close(left, right, **tolerance)
        else:
            assert torch.equal(left, right)


def gradients(module: nn.Module, output: Tensor) -> list[Tensor]:
    """Of the sum of squares of an output, for each parameter."""
    used = list(module.parameters())
    return list(torch.autograd.grad(output.square().sum(), used, materialize_grads=True))


def close(ones: Iterable[Tensor], others: Iterable[Tensor]) -> None:
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
