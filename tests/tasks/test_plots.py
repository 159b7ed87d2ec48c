"""The picture of the memory use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memcore import MemcoreError
from plots import save_memory_picture, slots_to_show
from small_runs import run, train


def test_the_picture_shows_what_it_is_given(tmp_path: Path) -> None:
    """Every panel comes from its own values: changing them changes the picture."""
    rng = np.random.default_rng(0)
    input, output = torch.rand(5, 3), torch.rand(5, 2)
    trace = {
        "write_weights": rng.random((10, 4)), "read_weights": rng.random((10, 8)),
        "usage": rng.random((10, 4)),
    }  # fmt: skip

    def picture(*values: Any) -> bytes:
        save_memory_picture(tmp_path / "a.png", "copy", *values)
        return (tmp_path / "a.png").read_bytes()

    plain = picture(input, output, trace)
    assert picture(input, output, trace) == plain
    assert picture(1 - input, output, trace) != plain
    assert picture(input, 1 - output, trace) != plain
    two = {**trace, "usage": trace["usage"][:, :2]}  # of two write heads
    assert picture(input, output, two) != plain
    for name in ("write_weights", "read_weights"):
        assert picture(input, output, {**trace, name: 1 - trace[name]}) != plain


@pytest.mark.parametrize(
    ("slots", "last", "shown"), [(1000, 20, 21), (1000, 2, 8), (5, 2, 5), (1000, None, 1000)]
)
def test_only_the_slots_that_were_used_are_drawn(slots: int, last: int | None, shown: int) -> None:
    """Of a memory of a thousand, the rest would leave lines too thin to see."""
    writes, reads = np.zeros((3, slots)), np.zeros((3, slots))
    if last is not None:
        reads[1, last] = writes[2, last // 2] = 0.1
    assert slots_to_show([writes, reads]) == shown


def test_how_many_slots_there_are_is_said(tmp_path: Path) -> None:
    def picture(slots: int) -> bytes:
        trace = {name: np.eye(5, slots) for name in ("write_weights", "read_weights", "usage")}
        save_memory_picture(tmp_path / "a.png", "copy", torch.ones(5, 3), torch.ones(5, 2), trace)
        return (tmp_path / "a.png").read_bytes()

    assert picture(1000) == picture(1000)
    assert picture(1000) != picture(2000)


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
