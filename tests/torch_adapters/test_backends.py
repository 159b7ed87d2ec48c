"""One test over all: whatever a module is and is called with, its backends agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("numba")

from backend_cases import Case, assert_agree, draw, run
from memcore.kernels import dense_states, layout
from torch_adapters import DAM, DNC, SAM, SDNC

# What was seen over 360 cases: outputs 3e-14 and 6e-6, gradients 3e-12 and 2.5e-3: a word of one
# number, whose cosine hardly depends on it, so that what is left of its gradient is rounding.
TOLERANCES = {torch.float64: (1e-12, 1e-11), torch.float32: (1e-4, 4e-3)}


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """What a case sets is set back."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def check(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    # With more threads than they can use, these small cases take five times as long.
    torch.set_num_threads(2 if case.chunks else 1)
    if case.chunks:
        monkeypatch.setattr(layout, "THREAD_PAYS", 1)
    kernels, reference = run(case, "numba"), run(case, "reference")
    of_outputs, of_gradients = TOLERANCES[case.options["dtype"]]
    assert_agree(kernels.outputs, reference.outputs, of_outputs)
    assert_agree(kernels.gradients, reference.gradients, of_gradients)


@pytest.mark.parametrize("seed", range(60))
def test_backends_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check(draw(seed), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60, 360))
def test_backends_agree_in_more_cases(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check(draw(seed), monkeypatch)


def test_the_cases_are_diverse() -> None:
    """Each value of each option comes up among those that are always run."""
    cases = [draw(seed) for seed in range(60)]
    every = {name for case in cases for name in case.options}
    seen = {name: {case.options.get(name, 0) for case in cases} for name in every}
    assert {case.model for case in cases} == {DNC, DAM}
    assert seen["rnn_type"] == {"lstm", "gru", "rnn", "linear"}
    assert seen["nonlinearity"] == {"tanh", "relu"}
    assert seen["num_layers"] == {1, 2, 3}
    assert seen["num_hidden_layers"] == {1, 2}
    assert seen["clip"] == {0, 20, 0.2}
    assert seen["read_heads"] == {1, 2, 3, 4, 5}
    assert seen["nr_cells"] == {1, 2, 5, 16, 17, 33, 40}
    assert seen["cell_size"] == {1, 3, 8, 10}
    assert seen["dtype"] == {torch.float32, torch.float64}
    for name in ("bias", "share_memory", "independent_linears", "batch_first"):
        assert seen[name] == {False, True}, name
    assert seen["dropout"] == {0, 0.3}
    for name in ("masking", "layer_norm", "deallocation", "link_sharpness"):
        assert seen[name] == {False, True}, name
    assert seen["write_heads"] >= {1, 2, 3}
    assert seen["mask_minimum"] == {0, 0.2}
    assert seen["temperature"] >= {1, 0.5, 3}
    assert {case.layout for case in cases} == {"padded", "packed", "packed unsorted"}
    assert {case.starts for case in cases} == {"none", "padded", "packed"}
    assert {case.reset for case in cases} == {"none", "all", "some"}
    assert {case.given for case in cases} == {"none", "partly", "given", "learned", "expanded"}
    assert {case.chunks for case in cases} == {False, True}
    assert any(case.split for case in cases)


@pytest.mark.parametrize(("stride", "layers"), [(2, 1), (3, 2), (4, 1), (5, 2)])
def test_links_that_were_not_kept_are_made_again(
    stride: int, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_states, "KEEP_ALL_LINKS", 0)
    monkeypatch.setattr(dense_states, "LINK_STRIDE", stride)
    options = {"num_layers": layers, "num_hidden_layers": 1, "nr_cells": 17, "cell_size": 3,
               "read_heads": 2, "clip": 20, "rnn_type": "gru", "dtype": torch.float64}  # fmt: skip
    for steps in (1, 6):
        case = Case(steps, DNC, (2, 8), options, 2, (steps,) * 2, "padded", "none", "none",
                    "learned", 0, False)  # fmt: skip
        check(case, monkeypatch)


@pytest.mark.parametrize("model", [DNC, DAM])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_one(
    model: type[DNC | DAM], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links of megabytes, tapes that are used again."""
    options = {"num_layers": 1, "num_hidden_layers": 1, "nr_cells": 100, "cell_size": 20,
               "read_heads": 3, "clip": 20, "dtype": dtype}  # fmt: skip
    for seed in (0, 1):
        case = Case(seed, model, (20, 40), options, 1, (5,) * 5, "padded", "none", "none",
                    "given", 0, seed == 1)  # fmt: skip
        check(case, monkeypatch)


@pytest.mark.parametrize("model", [DNC, DAM, SAM, SDNC])
def test_what_is_exactly_at_the_clip_passes_its_gradient(model: Any) -> None:
    """In kernels as in the reference, and in every torch: its clamp passes none from 2.14 on."""
    options: dict[str, Any] = {"rnn_type": "rnn", "nonlinearity": "relu", "num_hidden_layers": 1}
    module = model(2, 3, nr_cells=16, cell_size=3, clip=0.5, dtype=torch.float64, **options)
    cell = module.controllers[0].cells[0]
    with torch.no_grad():
        for name, value in cell.named_parameters():
            value.fill_(0.5 if name == "bias_ih" else 0)
    found = {}
    for module.backend in ("reference", "numba"):
        output, _ = module(torch.ones(2, 3, 2, dtype=torch.float64))
        found[module.backend] = torch.autograd.grad(output.square().sum(), cell.bias_ih)[0]
    assert found["reference"].abs().min() > 0
    torch.testing.assert_close(found["numba"], found["reference"], rtol=1e-11, atol=1e-12)
