"""SAM and the SDNC by kernels and by the reference: histories of states, outputs and gradients."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("numba")

from memcore.kernels import layout
from sparse_cases import draw, play
from torch_adapters import SAM, SDNC

SOME, MORE = range(24), range(24, 324)
# Programs in float32 in which two slots are equally near a key up to rounding.
TIED = {179}


@pytest.mark.parametrize("seed", SOME)
def test_backends_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 3 == 0:
        monkeypatch.setattr(layout, "THREAD_PAYS", 1)
    assert play(seed, torch.float64 if seed in TIED else None) is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", MORE)
def test_backends_agree_in_more_cases(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    test_backends_agree(seed, monkeypatch)


def test_the_cases_are_diverse() -> None:
    cases = [draw(seed) for seed in SOME]
    assert {case.model for case in cases} == {SAM, SDNC}
    assert {case.options["dtype"] for case in cases} == {torch.float32, torch.float64}
    assert {case.options["nr_cells"] for case in cases} >= {1, 2, 5, 130, 20_000}
    assert {case.options["num_layers"] for case in cases} == {1, 2}
    assert {case.memory for case in cases} == {
        "zeros", "row", "learned row", "tensor", "learned tensor",
    }  # fmt: skip
