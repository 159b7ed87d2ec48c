"""A real visdom server on this machine, for as long as a test needs it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["free_port", "visdom_server"]

# `python -m visdom.server` without its first step, which fetches the web page's libraries.
START = "from visdom.server.run_server import main; main()"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def visdom_server(folder: Path) -> Iterator[int]:
    """Its port; it is gone afterwards."""
    port = free_port()
    command = [sys.executable, "-c", START, "-port", str(port), "--hostname", "127.0.0.1"]
    command += ["-bind_local", "-env_path", str(folder / "visdom"), "-logging_level", "ERROR"]
    log = folder / "visdom.log"
    with open(log, "wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not _listens(port):
            assert server.poll() is None, log.read_text()
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
