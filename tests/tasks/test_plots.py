"""The picture of the memory use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memcore import MemcoreError
from plots import memory_picture, pixels, save_memory_picture
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


def test_how_many_slots_there_are_is_said(tmp_path: Path) -> None:
    def picture(slots: int) -> bytes:
        trace = {name: np.eye(5, slots) for name in ("write_weights", "read_weights", "usage")}
        save_memory_picture(tmp_path / "a.png", "copy", torch.ones(5, 3), torch.ones(5, 2), trace)
        return (tmp_path / "a.png").read_bytes()

    assert picture(1000) == picture(1000)
    assert picture(1000) != picture(2000)


def test_the_picture_is_of_the_last_layer() -> None:
    training = train("-nlayer", "2")
    batch, output, trace = training.example(3)
    figure: Any = memory_picture("copy", batch.input[0], output[0], trace)
    axes = {axis.get_title(loc="left"): axis for axis in figure.axes}
    shown = axes["write weighting"].images[0].get_array()
    np.testing.assert_array_equal(shown, trace["write_weights"][1::2].T)
    np.testing.assert_array_equal(axes["output"].images[0].get_array(), output[0].numpy().T)
    seen = pixels(figure)
    assert seen.dtype == np.uint8
    assert seen.shape[2] == 3
    assert len(np.unique(seen)) > 10


def test_without_matplotlib_there_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    trace = {name: np.ones((5, 4)) for name in ("write_weights", "read_weights", "usage")}
    save_memory_picture(tmp_path / "a.png", "copy", torch.ones(5, 3), torch.ones(5, 2), trace)
    assert capsys.readouterr().out.startswith("no picture: plot_memory needs the package")
    assert not (tmp_path / "a.png").exists()


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
