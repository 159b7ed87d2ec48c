"""The picture of the memory use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memcore import MemcoreError
from plots import save_memory_picture
from small_runs import run, train


def test_the_picture_shows_what_it_is_given(tmp_path: Path) -> None:
    """Every panel comes from its own values: changing them changes the picture."""
    rng = np.random.default_rng(0)
    input, output = torch.rand(5, 3), torch.rand(5, 2)
    trace = {"write_weights": rng.random((10, 4)), "read_weights": rng.random((10, 8))}

    def picture(*values: Any) -> bytes:
        save_memory_picture(tmp_path / "a.png", "copy", *values)
        return (tmp_path / "a.png").read_bytes()

    plain = picture(input, output, trace)
    assert picture(input, output, trace) == plain
    assert picture(1 - input, output, trace) != plain
    assert picture(input, 1 - output, trace) != plain
    for name in trace:
        assert picture(input, output, {**trace, name: 1 - trace[name]}) != plain


def test_only_the_slots_that_were_used_are_drawn(tmp_path: Path) -> None:
    """Of a memory of a thousand, the rest would leave lines too thin to see."""
    rng = np.random.default_rng(0)

    def picture(slots: int, used: int) -> bytes:
        trace = {name: np.zeros((5, slots)) for name in ("write_weights", "read_weights")}
        trace["write_weights"][:, :used] = weights[:, :used]
        save_memory_picture(tmp_path / "a.png", "copy", torch.ones(5, 3), torch.ones(5, 2), trace)
        return (tmp_path / "a.png").read_bytes()

    weights = rng.random((5, 20))
    assert picture(1000, 20) == picture(1000, 20)
    assert picture(1000, 20) != picture(1000, 19)  # to the last slot that was touched
    assert picture(1000, 3) != picture(2000, 3)  # how many there are is said
    small = picture(20, 20)
    weights[:, 19] = 0
    assert picture(20, 20) != small


def test_the_example_is_shorter_where_its_trace_would_be_too_large(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch_adapters.debug.TRACE_LIMIT", 1000)
    training = train()
    batch, output, trace = training.example(3)  # 528 bytes at length 1, 1,232 at 3
    assert batch.input.shape[1] == output.shape[1] == len(trace["memory"]) == 3
    assert not training.model.debug
    monkeypatch.setattr("torch_adapters.debug.TRACE_LIMIT", 100)
    with pytest.raises(MemcoreError, match="the trace of 3 rows would take"):
        training.example(3)
    run(tmp_path, "-iterations", "1")
    assert "no picture of the memory: debug: the trace of" in capsys.readouterr().out
    assert (tmp_path / "copy_dnc_curve.png").exists()
