"""The debug dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from memcore import MemcoreError
from torch_adapters import DNC, debug

N, W, R, T = 5, 4, 2, 3
COLUMNS = {
    "memory": N * W,
    "link_matrix": N * N,
    "precedence": N,
    "read_weights": R * N,
    "write_weights": N,
    "usage_vector": N,
}


def build(**options: Any) -> Any:
    torch.manual_seed(0)
    # The debug dictionary is the reference's; another backend differs from it by rounding.
    options = {"backend": "reference", **options}
    return DNC(3, 8, nr_cells=N, cell_size=W, read_heads=R, debug=True, **options)


@pytest.mark.parametrize("share_memory", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_rows_are_time_major_then_layer(layers: int, share_memory: bool) -> None:
    module = build(num_layers=layers, share_memory=share_memory)
    input = torch.randn(2, T, 3)
    output, hx, trace = module(input)
    assert {name: rows.shape for name, rows in trace.items()} == {
        name: (T * layers, columns) for name, columns in COLUMNS.items()
    }
    assert all(isinstance(rows, np.ndarray) for rows in trace.values())
    for time in range(T):
        _, (_, memory, _), _ = module(input[:, : time + 1])
        for layer in range(layers):
            if share_memory and layer < layers - 1:
                continue  # the state returned is the one after the last layer
            state = memory if share_memory else memory[layer]
            row = time * layers + layer
            np.testing.assert_array_equal(trace["memory"][row], state.memory[0].flatten().detach())
            np.testing.assert_array_equal(
                trace["link_matrix"][row], state.link[0].flatten().detach()
            )
            np.testing.assert_array_equal(trace["usage_vector"][row], state.usage[0].detach())
    module.debug = False
    plain, plain_hx = module(input)
    assert torch.equal(plain, output)
    assert torch.equal(plain_hx[2], hx[2])


def test_packed_input_shows_the_first_examples_own_steps() -> None:
    module = build()
    examples = [torch.randn(n, 3) for n in (2, 5, 3)]
    *_, trace = module(pack_sequence(examples, enforce_sorted=False))
    *_, alone = module(examples[0][None])
    for name, rows in trace.items():
        np.testing.assert_allclose(rows, alone[name], rtol=1e-5, atol=1e-6)


def test_memory_passed_by_is_shown_unchanged() -> None:
    module = build()
    _, hx, _ = module(torch.randn(2, T, 3))
    *_, trace = module(torch.randn(2, T, 3), hx, pass_through_memory=False)
    for row in trace["memory"]:
        np.testing.assert_array_equal(row, hx[1].memory[0].flatten().detach())


def test_a_step_returns_it_too() -> None:
    output, _, trace = build().step(torch.randn(2, 3))
    assert output.shape == (2, 3)
    assert trace["memory"].shape == (1, N * W)


def test_too_long_a_trace_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    module = build()
    row = 4 * sum(COLUMNS.values())
    monkeypatch.setattr(debug, "TRACE_LIMIT", T * row)
    module(torch.zeros(1, T, 3))
    called: list[int] = []
    module.controllers[0].register_forward_pre_hook(lambda *_: called.append(1))
    with pytest.raises(
        MemcoreError, match=r"debug: the trace of 4 rows would take .* GiB, over the 1 GiB allowed"
    ):
        module(torch.zeros(1, T + 1, 3))
    assert not called


def test_a_trace_is_measured_in_bytes() -> None:
    sample = {"memory": torch.empty(2**20, dtype=torch.float64, device="meta")}
    debug.Trace(sample, 128)
    with pytest.raises(MemcoreError, match="debug: the trace of 129 rows would take 1.0 GiB"):
        debug.Trace(sample, 129)
