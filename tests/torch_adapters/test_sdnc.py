"""The SDNC as a module: what is its alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from memcore import MemcoreError
from modules import K, L, N, R, W, batch, build
from torch_adapters import SAM, SDNC, state_from_dict, state_to_dict
from torch_adapters.sdnc import SDNCCell

VISIBLE = R * (K + 2 * L) + 1
COLUMNS = {
    "memory": N * W,
    "visible_memory": VISIBLE * W,
    "read_positions": VISIBLE,
    "read_weights": R * N,
    "write_weights": N,
    "usage": N,
    "link_matrix": VISIBLE**2,
    "rev_link_matrix": VISIBLE**2,
    "precedence": N,
}


def test_defaults_are_the_documented_ones() -> None:
    assert SDNC(4, 6).cell == SDNCCell(5000, 10, 4, 4, 4, "auto")


def test_debug_dictionary() -> None:
    module = build(SDNC, debug=True)
    _, (_, state, _), trace = module(3 * batch(module, steps=6))
    assert {name: rows.shape for name, rows in trace.items()} == {
        name: (6, columns) for name, columns in COLUMNS.items()
    }
    memory = state.memory.to_tensor()[0].detach()
    positions = trace["read_positions"][-1]
    assert positions.tolist() == [
        *state.read_index[0].flatten().tolist(),
        int(state.recency.least()[0]),
    ]
    np.testing.assert_array_equal(trace["visible_memory"][-1], memory[positions].flatten())
    dense = state.links.to_tensor()[0].numpy()
    links = trace["link_matrix"][-1].reshape(VISIBLE, VISIBLE)
    np.testing.assert_array_equal(links, dense[positions][:, positions])
    np.testing.assert_array_equal(trace["rev_link_matrix"][-1].reshape(VISIBLE, VISIBLE), links.T)
    assert links.any()
    on, weights = state.links.precedence()
    np.testing.assert_array_equal(trace["precedence"][-1][on[0]], weights[0])
    assert trace["precedence"][-1].sum() == pytest.approx(weights[0].sum())
    for slot, weight in enumerate(trace["write_weights"][-1]):
        written = state.write_weights[0][state.write_index[0] == slot].sum()
        assert weight == pytest.approx(written.item())


def test_every_parameter_learns() -> None:
    """The read modes too, once there is something to follow."""
    module = build(SDNC, num_layers=2)
    output, _ = module(3 * batch(module, steps=6))
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    for interface in module.interfaces:
        for weight in interface.parameters():
            assert weight.grad[-3 * R :].any()


def test_many_slots_cost_a_call_nothing() -> None:
    module = SDNC(3, 8, nr_cells=2**24, cell_size=32, num_hidden_layers=1)
    output, hx = module(torch.randn(1, 3, 3))
    output.sum().backward()
    saved = state_to_dict(hx)
    assert len(saved["memory"]["links"]["rows"]) < 100
    again, _ = module(torch.randn(1, 1, 3), state_from_dict(saved))
    assert again.isfinite().all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temporal_reads": 6}, MemcoreError, "temporal_reads: expected at most nr_cells = 5, got"),
        ({"temporal_reads": 0}, MemcoreError, "temporal_reads: expected an int of at least 1, got"),
        ({"temporal_reads": 1.5}, TypeError, "temporal_reads: expected an int, got float"),
        ({"sparse_reads": 6}, MemcoreError, "sparse_reads: expected at most nr_cells = 5, got"),
        ({"index": 3}, TypeError, "index: expected a str or an Index, got int"),
    ],
)  # fmt: skip
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^" + message):
        build(SDNC, **options)


def test_a_wrong_state() -> None:
    module = build(SDNC)
    input = batch(module)
    hidden, state, reads = module(input)[1]
    # As many slots a head, otherwise divided.
    other = build(SDNC, sparse_reads=K + 2, temporal_reads=L - 1)(input)[1][1]
    cases: list[tuple[Any, type[Exception], str]] = [
        (build(SAM)(input)[1][1], TypeError, "expected an SDNCState, got SAMState"),
        (other, MemcoreError, r"hx\[1\].links: expected temporal_reads 2, got 1"),
        (state._replace(links=None), TypeError, r"hx\[1\].links: expected a SparseLinks"),
        (build(SDNC, nr_cells=6)(input)[1][1], MemcoreError,
         r"hx\[1\].memory: expected shape \[3, 5, 4\], got \[3, 6, 4\]"),
    ]  # fmt: skip
    for wrong, error, message in cases:
        with pytest.raises(error, match=message):
            module(input, (hidden, wrong, reads))
    saved = state_to_dict((hidden, state, reads))
    memory = saved["memory"]
    with pytest.raises(MemcoreError, match="saved: expected a dict of tensors shape, rows"):
        state_from_dict({**saved, "memory": {**memory, "links": {}}})
