"""Heat maps on a real server, read back."""

from __future__ import annotations

import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from copy_task import CopyTask
from heat_maps import HEAT_MAPS, HeatMapServer
from small_runs import SMALL, train
from training import main
from visdom_server import free_port, visdom_server


@pytest.mark.parametrize("memory", ["dnc", "sam", "sdnc", "dam"])
def test_every_trace_has_its_layout(memory: str) -> None:
    trace = train("-memory_type", memory, "-sparse_reads", "2").example(3)[2]
    assert trace.keys() <= HEAT_MAPS.keys()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("visdom.server", exc_type=ImportError)
    with visdom_server(tmp_path_factory.mktemp("server")) as port:
        yield port


@pytest.mark.usefixtures("no_pictures")
def test_the_server_holds_the_heat_maps(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options = f"-iterations 10 -visdom -visdom_port {port} -memory_type sdnc -sparse_reads 2"
    sent: list[tuple[dict[str, Any], float]] = []
    send = HeatMapServer.send

    def watched(
        self: HeatMapServer, trace: Any, iteration: int, loss: float, picture: Any
    ) -> str | None:
        sent.append((trace, loss))
        return send(self, trace, iteration, loss, picture)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HeatMapServer, "send", watched)
        main(CopyTask(), "", [*SMALL, "-checkpoint_dir", str(tmp_path), *options.split()])
    assert "-visdom:" not in capsys.readouterr().out
    server = HeatMapServer.connect(port)
    assert server is not None
    windows = json.loads(server._connection.get_window_data(None))
    trace, loss = sent[-1]  # at iteration 10, in place of those at iteration 5
    assert windows.keys() == trace.keys() | {"picture"}
    assert windows["picture"]["title"] == f"Memory over time, t: 10, loss: {loss:.4f}"
    assert windows["picture"]["content"]["src"].startswith("data:image/png;base64,")
    for name, values in trace.items():
        title, axis = HEAT_MAPS[name]
        (held,), layout = windows[name]["content"]["data"], windows[name]["content"]["layout"]
        assert held["type"] == "heatmap"
        np.testing.assert_allclose(np.array(held["z"], dtype=float), values, rtol=1e-6)
        assert windows[name]["title"] == f"{title}, t: 10, loss: {loss:.4f}"
        if name == "link_matrix":  # the SDNC's are among the visible slots
            axis = "visible_slot * visible_slot"
        assert layout["xaxis"]["title"] == axis
        assert layout["yaxis"]["title"] == "layer * time"


def test_the_server_has_a_page(port: int) -> None:
    """Which visdom 0.2.4 has not with the newest tornado."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert page.status == 200
        assert b"visdom" in page.read()


def test_no_server_where_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("visdom", exc_type=ImportError)
    port = free_port()
    assert HeatMapServer.connect(port) is None
    assert capsys.readouterr().out == (
        f"-visdom: no server at http://localhost:{port} (start one: python -m visdom.server "
        f"-port {port}), training goes on without heat maps\n"
    )


def test_no_server_where_another_answers(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("visdom", exc_type=ImportError)

    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        assert HeatMapServer.connect(other.server_port) is None
        other.shutdown()
        thread.join()
    assert "-visdom: no server at" in capsys.readouterr().out
