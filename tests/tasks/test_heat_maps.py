"""Heat maps of the debug dictionary, and what is said where there can be none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import heat_maps
from heat_maps import HEAT_MAPS, HeatMapServer
from run import Run
from small_runs import run


def test_visdom_gets_the_trace_at_every_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[int] = []

    class Server:
        def send(
            self, trace: dict[str, Any], iteration: int, loss: float, picture: Any
        ) -> str | None:
            assert trace["write_weights"].any()
            assert picture.dtype == np.uint8
            assert picture.shape[2] == 3
            sent.append(iteration)
            return None if len(sent) < 2 else "it is over"

    monkeypatch.setattr(HeatMapServer, "connect", classmethod(lambda *_: Server()))
    run(tmp_path, "-iterations", "15", "-visdom")
    assert sent == [5, 10]  # the server was gone after the second
    assert capsys.readouterr().out.count("-visdom: it is over, training goes on without") == 1


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
    assert server.send(trace, 7, 0.25) is None
    assert [win for _, win, _ in sent] == list(HEAT_MAPS)
    assert sent[1][2]["xlabel"] == sent[-1][2]["xlabel"] == "visible_slot * visible_slot"
    assert sent[0][2] == {
        "xtickstep": 10,
        "ytickstep": 2,
        "title": "Memory, t: 7, loss: 0.2500",
        "ylabel": "layer * time",
        "xlabel": "mem_slot * mem_size",
    }
    assert server.send(trace, 8, 0.25) == "the server is gone"
    sent.clear()
    assert server.send({"link_matrix": np.zeros((2, 900))}, 9, 0.25) is None  # of a dense memory
    assert sent[0][2]["xlabel"] == "mem_slot * mem_slot"
    assert sent[0][2]["xtickstep"] == 40  # with 10 the labels would overlap


def test_visdom_gets_the_picture() -> None:
    sent: list[tuple[Any, str, dict[str, Any]]] = []

    class Server:
        def image(self, values: Any, win: str, opts: dict[str, Any]) -> None:
            if sent:
                raise ConnectionError
            sent.append((values, win, opts))

    server = HeatMapServer(Server())
    picture = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    assert server.send({}, 7, 0.25, picture) is None
    ((values, win, opts),) = sent
    np.testing.assert_array_equal(values, picture.transpose(2, 0, 1))
    assert (win, opts) == ("picture", {"title": "Memory over time, t: 7, loss: 0.2500"})
    assert server.send({}, 8, 0.25, picture) == "the server is gone"


def test_pictures_become_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take as long as many iterations."""
    drawn: list[bool] = []

    class Server:
        def send(self, trace: Any, iteration: int, loss: float, picture: Any) -> None:
            drawn.append(picture is not None)

    monkeypatch.setattr(HeatMapServer, "connect", classmethod(lambda *_: Server()))
    monkeypatch.setattr("watching.MORE", 1.5)
    monkeypatch.setattr("watching.pixels", lambda _: np.zeros((1, 1, 3), np.uint8))
    run(tmp_path, "-iterations", "30", "-visdom")
    assert drawn == [True, True, True, False, True, False]  # 5, 10, 15, 20, 25, 30


@pytest.mark.usefixtures("no_pictures")
def test_for_tensorboard_alone_only_what_is_drawn_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    made: list[int] = []
    example = Run.example

    def counted(self: Run, length: int) -> Any:
        made.append(self.iteration)
        return example(self, length)

    monkeypatch.setattr(Run, "example", counted)
    monkeypatch.setattr("watching.MORE", 1.5)
    monkeypatch.setattr("watching.pixels", lambda _: np.zeros((1, 1, 3), np.uint8))
    run(tmp_path, "-iterations", "30", "-tensorboard")
    assert made == [5, 10, 15, 25, 30]  # the last by the report


def test_without_matplotlib_the_heat_maps_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[int] = []

    class Server:
        def send(self, trace: Any, iteration: int, loss: float, picture: Any) -> None:
            assert picture is None
            sent.append(iteration)

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(HeatMapServer, "connect", classmethod(lambda *_: Server()))
    run(tmp_path, "-iterations", "15", "-visdom")
    assert sent == [5, 10, 15]
    printed = capsys.readouterr().out
    assert printed.count("no pictures of the memory: plot_memory needs the package") == 1


def test_what_a_browser_could_not_take_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heat_maps, "LARGEST", 10)
    sent: list[str] = []

    class Server:
        def heatmap(self, values: Any, win: str, opts: dict[str, Any]) -> None:
            sent.append(win)

    server = HeatMapServer(Server())
    for iteration in (5, 10):
        server.send({"memory": np.zeros((2, 6)), "usage": np.zeros((2, 5))}, iteration, 0.0)
    assert sent == ["usage", "usage"]
    assert capsys.readouterr().out == (
        "-visdom: memory is left out, its 12 numbers are more than the 10 that are shown\n"
    )


def test_a_memory_too_large_for_any_heat_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch_adapters.debug.TRACE_LIMIT", 100)
    monkeypatch.setattr(HeatMapServer, "connect", classmethod(lambda *_: HeatMapServer(None)))
    assert run(tmp_path, "-iterations", "15", "-visdom")["iteration"] == 15
    printed = capsys.readouterr().out
    assert printed.count("-visdom: debug: the trace of") == 1
    assert "False, training goes on without heat maps" in printed
