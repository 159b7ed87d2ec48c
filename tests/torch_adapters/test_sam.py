"""SAM and DAM as modules: against plain copies of everything, and what is theirs alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from memcore import MemcoreError, sam
from memcore.index import AllRowsIndex
from modules import CLOSE, K, N, R, W, batch, build
from torch_adapters import DAM, SAM, debug, select_state, state_from_dict, state_to_dict
from torch_adapters.dam import DAMCell
from torch_adapters.sam import SAMCell


class PlainState(NamedTuple):
    """Everything dense, copied at each step."""

    memory: Tensor  # [B, N, W]
    read_index: Tensor  # [B, R, K]
    read_weights: Tensor  # [B, R, K]
    last_access: Tensor  # [B, N]


class PlainCell:
    """SAM by the definition: loops over examples and heads, nothing in place, no index."""

    def __init__(self, cell: SAMCell) -> None:
        self.sizes = cell.nr_cells, cell.cell_size, cell.read_heads, cell.sparse_reads
        self.interface_sizes, self.read_size = cell.interface_sizes, cell.read_size

    def init_state(self, batch_size: int, row: Any = None, **place: Any) -> PlainState:
        assert row is None
        slots, width, heads, reads = self.sizes
        return PlainState(
            torch.zeros(batch_size, slots, width, **place),
            torch.arange(reads).repeat(batch_size, heads, 1),
            torch.zeros(batch_size, heads, reads, **place),
            torch.zeros(batch_size, slots, dtype=torch.int64),
        )

    def step(self, state: PlainState, interface: Tensor) -> tuple[Tensor, PlainState]:
        parts = [self.one(*example) for example in zip(*state, interface, strict=True)]
        reads, *fields = (torch.stack(part) for part in zip(*parts, strict=True))
        return reads, PlainState(*fields)

    def one(
        self, memory: Tensor, index: Tensor, weights: Tensor, last: Tensor, vector: Tensor
    ) -> tuple[Tensor, ...]:
        slots, width, heads, reads = self.sizes
        keys = vector[: heads * width].view(heads, width)
        strengths = 1 + torch.nn.functional.softplus(vector[heads * width :][:heads])
        content = vector[heads * width + heads :][:width]
        alpha, gamma = vector[-2:].sigmoid()
        least = min(range(slots), key=lambda slot: (int(last[slot]), slot))
        one_hot = torch.nn.functional.one_hot(index, slots).to(weights)  # [R, K, N]
        is_least = torch.nn.functional.one_hot(torch.tensor(least), slots).to(weights)
        recent = torch.einsum("rkn,rk->n", one_hot, weights) / heads
        written = alpha * (gamma * recent + (1 - gamma) * is_least)
        memory = memory * (1 - is_least)[:, None] + written[:, None] * content
        vectors, indices, new_weights = [], [], []
        accessed = written.detach()
        for key, strength in zip(keys, strengths, strict=True):
            norms = (key.square().sum() + 1e-6).sqrt() * (memory.square().sum(-1) + 1e-6).sqrt()
            cosines = memory @ key / norms
            rounded = (cosines * 10_000).round().tolist()
            best = sorted(range(slots), key=lambda slot: (-rounded[slot], slot))[:reads]
            read_weights = (strength * cosines[best]).softmax(-1)
            vectors.append(read_weights @ memory[best])
            indices.append(torch.tensor(best))
            new_weights.append(read_weights)
            accessed = accessed.index_add(0, indices[-1], read_weights.detach())
        last = torch.where(accessed > 0.005, last.max() + 1, last)
        return torch.cat(vectors), memory, torch.stack(indices), torch.stack(new_weights), last


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize(("slots", "reads"), [(12, 3), (5, 5)])
def test_the_module_equals_plain_copies(heads: int, slots: int, reads: int) -> None:
    """Outputs, final memory, and every parameter's gradient, with random cotangents on both."""
    options = {"nr_cells": slots, "read_heads": heads, "sparse_reads": reads, "num_layers": 2}
    module, plain = build(SAM, **options), build(SAM, **options)
    plain.cell = PlainCell(plain.cell)
    input = 3 * batch(module, steps=8)
    results = []
    for one in (module, plain):
        output, (_, state, reads_out) = one(input)
        memory = state.memory if one is plain else state.memory.to_tensor()
        generator = torch.Generator().manual_seed(0)
        loss = sum(
            (part * torch.randn(part.shape, generator=generator, dtype=torch.float64)).sum()
            for part in (output, memory, reads_out)
        )
        gradients = torch.autograd.grad(loss, list(one.parameters()))  # pyright: ignore
        results.append((output, memory, reads_out, *gradients))
        assert all(gradient.any() for gradient in gradients)
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)


def test_defaults_are_the_documented_ones() -> None:
    assert SAM(4, 6).cell == SAMCell(5000, 10, 4, 4, "auto")
    assert DAM(4, 6).cell == DAMCell(5000, 10, 4)


def test_an_index_of_ones_own() -> None:
    searched: list[int] = []

    class Watched(AllRowsIndex):
        def empty(self, batch_size: int) -> Any:
            return Watched(batch_size, N, W, dtype=torch.float64)

        def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
            searched.append(keys.shape[0])
            return super().search(keys, k, examples)

    module, other = build(SAM, index=Watched(1, N, W)), build(SAM)
    output, hx = module(batch(module))
    torch.testing.assert_close(output, other(batch(other))[0], **CLOSE)
    assert searched == [3] * 4
    module(batch(module, size=2), select_state(hx, [2, 0]))
    assert searched[4:] == [2] * 4


def test_many_slots_cost_a_call_nothing() -> None:
    module = SAM(3, 8, nr_cells=2**24, cell_size=32, num_hidden_layers=1)
    output, hx = module(torch.randn(1, 3, 3))
    output.sum().backward()
    saved = state_to_dict(hx)
    assert len(saved["memory"]["memory"]["written"]) < 100
    again, _ = module(torch.randn(1, 1, 3), state_from_dict(saved))
    assert again.isfinite().all()


COLUMNS = {
    "memory": N * W,
    "visible_memory": (R * K + 1) * W,
    "read_positions": R * K + 1,
    "read_weights": R * N,
    "write_weights": N,
    "usage": N,
}


def test_debug_dictionary() -> None:
    module = build(SAM, debug=True)
    input = batch(module)
    _, (_, state, _), trace = module(input)
    assert {name: rows.shape for name, rows in trace.items()} == {
        name: (4, columns) for name, columns in COLUMNS.items()
    }
    memory = state.memory.to_tensor()[0].detach()
    np.testing.assert_array_equal(trace["memory"][-1], memory.flatten())
    positions = trace["read_positions"][-1]
    assert positions.tolist() == [
        *state.read_index[0].flatten().tolist(),
        int(state.recency.least()[0]),
    ]
    np.testing.assert_array_equal(trace["visible_memory"][-1], memory[positions].flatten())
    np.testing.assert_array_equal(trace["usage"][-1], state.recency.last_access()[0])
    np.testing.assert_allclose(trace["read_weights"].reshape(4, R, N).sum(-1), 1)
    for slot, weight in enumerate(trace["write_weights"][-1]):
        written = state.write_weights[0][state.write_index[0] == slot].sum()
        assert weight == pytest.approx(written.item())


def test_the_dams_debug_dictionary() -> None:
    *_, trace = build(DAM, debug=True).step(batch(build(DAM))[:, 0])
    sizes = {name: rows.shape[1] for name, rows in trace.items()}
    assert sizes == {"memory": N * W, "usage": N, "read_weights": R * N, "write_weights": N}


def test_a_trace_of_a_large_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug, "TRACE_LIMIT", 1000)
    module = build(SAM, debug=True, nr_cells=1000)
    with pytest.raises(MemcoreError, match="debug: the trace of 4 rows would take"):
        module(batch(module))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sparse_reads": 6}, MemcoreError, "sparse_reads: expected at most nr_cells = 5, got"),
        ({"sparse_reads": 0}, MemcoreError, "sparse_reads: expected an int of at least 1, got 0"),
        ({"sparse_reads": 1.5}, TypeError, "sparse_reads: expected an int, got float"),
        ({"index": "annoy"}, MemcoreError, "index: expected one of auto, exact, faiss, flann"),
        ({"index": 3}, TypeError, "index: expected a str or an Index, got int"),
        ({"nr_cells": 0}, MemcoreError, "nr_cells: expected an int of at least 1, got 0"),
    ],
)  # fmt: skip
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^" + message):
        build(SAM, **options)


def test_a_wrong_state() -> None:
    module = build(SAM)
    input = batch(module)
    hidden, state, reads = module(input)[1]
    dense = build(DAM)(input)[1][1]
    other = build(SAM, sparse_reads=2)(input)[1][1]
    single = build(SAM, dtype=torch.float32)
    cases: list[tuple[Any, type[Exception], str]] = [
        (dense, TypeError, "expected a SAMState, got DAMState"),
        (other, MemcoreError, r"hx\[1\].read_index: expected shape \[3, 2, 3\], got \[3, 2, 2\]"),
        (state._replace(memory=state.memory.to_tensor()), TypeError,
         r"hx\[1\].memory: expected a RowMemory, got Tensor"),
        (build(SAM, nr_cells=6)(input)[1][1], MemcoreError,
         r"hx\[1\].memory: expected shape \[3, 5, 4\], got \[3, 6, 4\]"),
        (select_state((hidden, state, reads), [0, 1])[1], MemcoreError,
         r"hx\[1\].memory: expected shape \[3, 5, 4\], got \[2, 5, 4\]"),
        (single(input.float())[1][1], MemcoreError,
         r"hx\[1\].memory: expected dtype torch.float64, got torch.float32"),
        (state._replace(read_weights=state.read_weights[:, :1]), MemcoreError,
         r"hx\[1\].read_weights: expected shape"),
        (state._replace(recency=None), TypeError, r"hx\[1\].recency: expected a Recency"),
    ]  # fmt: skip
    for wrong, error, message in cases:
        with pytest.raises(error, match=message):
            module(input, (hidden, wrong, reads))


def test_a_wrong_saved_state() -> None:
    module = build(SAM)
    saved = state_to_dict(module(batch(module))[1])
    memory = saved["memory"]
    with pytest.raises(MemcoreError, match="expected a dict of type"):
        state_from_dict({**saved, "memory": {**memory, "type": "SAMStates"}})
    with pytest.raises(MemcoreError, match="saved: expected a dict of tensors shape, row"):
        state_from_dict({**saved, "memory": {**memory, "memory": {}}})
    wrong = {**memory, "read_weights": torch.zeros(3, R, K + 1, dtype=torch.float64)}
    with pytest.raises(MemcoreError, match="saved.read_weights: expected shape"):
        state_from_dict({**saved, "memory": wrong})
    with pytest.raises(MemcoreError, match="missing"):
        sam.from_dict({"memory": memory["memory"]})
