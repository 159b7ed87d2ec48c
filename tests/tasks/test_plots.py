"""The picture of the memory use, and the heat maps on a visdom server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plots import HEAT_MAPS, HeatMapServer, save_memory_picture
from small_runs import run


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


def test_visdom_gets_the_trace_at_every_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[int] = []

    class Server:
        def send(self, trace: dict[str, Any], iteration: int, loss: float) -> bool:
            assert trace["write_weights"].any()
            sent.append(iteration)
            return len(sent) < 2

    monkeypatch.setattr(HeatMapServer, "connect", classmethod(lambda _, port: Server()))
    run(tmp_path, "-iterations", "15", "-visdom")
    assert sent == [5, 10]  # the server was gone after the second
    assert capsys.readouterr().out.count("-visdom: the server is gone, training goes on") == 1


def test_visdom_without_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "visdom", None)
    assert HeatMapServer.connect(8097) is None
    assert capsys.readouterr().out == (
        "-visdom: visdom is not installed, training goes on without heat maps\n"
    )


def test_visdom_heat_maps_have_the_known_layout() -> None:
    sent: list[tuple[Any, str, dict[str, Any]]] = []

    class Server:
        def heatmap(self, values: Any, win: str, opts: dict[str, Any]) -> None:
            if len(sent) == len(HEAT_MAPS):
                raise ConnectionError
            sent.append((values, win, opts))

    server = HeatMapServer(Server())
    trace = {name: np.zeros((2, 3)) for name in HEAT_MAPS}
    assert server.send(trace, 7, 0.25)
    assert [win for _, win, _ in sent] == list(HEAT_MAPS)
    assert sent[0][2] == {
        "xtickstep": 10,
        "ytickstep": 2,
        "title": "Memory, t: 7, loss: 0.2500",
        "ylabel": "layer * time",
        "xlabel": "mem_slot * mem_size",
    }
    assert not server.send(trace, 8, 0.25)
