"""Heat maps of what the memory does, on a visdom server."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["HEAT_MAPS", "HeatMapServer"]

LARGEST = 2**20  # numbers of one heat map: it goes through JSON to a browser

# Title and axis of each heat map, as users of pytorch-dnc know them.
HEAT_MAPS = {
    "memory": ("Memory", "mem_slot * mem_size"),
    "link_matrix": ("Link Matrix", "mem_slot * mem_slot"),
    "precedence": ("Precedence", "mem_slot"),
    "read_weights": ("Read Weights", "nr_read_heads * mem_slot"),
    "write_weights": ("Write Weights", "mem_slot"),
    "usage_vector": ("Usage Vector", "mem_slot"),
    "usage": ("Usage", "mem_slot"),
    "visible_memory": ("Visible Memory", "visible_slot * mem_size"),
    "read_positions": ("Read Positions", "visible_slot"),
    "rev_link_matrix": ("Reverse Link Matrix", "visible_slot * visible_slot"),
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what visdom has to warn of in its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class HeatMapServer:
    """A visdom server that shows the debug dictionary, and a picture of it."""

    def __init__(self, connection: Any, say: Callable[[str], Any] = print) -> None:
        self._connection = connection
        self._say = say
        self._left_out: set[str] = set()

    @classmethod
    def connect(
        cls, port: int, say: Callable[[str], Any] = print, server: str = "http://localhost"
    ) -> HeatMapServer | None:
        """The running server, or None and one line to ``say`` that tells why not."""
        logging.getLogger("visdom").setLevel(logging.ERROR)
        try:
            with _quiet():
                import visdom  # pyright: ignore[reportMissingImports]
        except ImportError:
            say("-visdom: visdom is not installed, training goes on without heat maps")
            return None
        try:
            with _quiet():
                connection = visdom.Visdom(
                    server=server, port=port, use_incoming_socket=False, raise_exceptions=True
                )
            if connection.win_exists("memory") is None:  # whatever answers is not visdom
                raise ConnectionError
        except OSError:  # of which ConnectionError is one
            say(
                f"-visdom: no server at {server}:{port} (start one: python -m visdom.server "
                f"-port {port}), training goes on without heat maps"
            )
            return None
        return cls(connection, say)

    def send(
        self,
        trace: dict[str, np.ndarray],
        iteration: int,
        loss: float,
        picture: np.ndarray | None = None,
    ) -> str | None:
        """Show each entry of the debug dictionary in a window; what went wrong, if it did.

        ``picture``, of the same, uint8 ``[height, width, 3]``, has a window of its own.
        """
        try:
            if picture is not None:
                self._connection.image(
                    np.ascontiguousarray(picture.transpose(2, 0, 1)),
                    win="picture",
                    opts={"title": f"Memory over time, t: {iteration}, loss: {loss:.4f}"},
                )
            for name, values in trace.items():
                if values.size <= LARGEST:
                    self._show(
                        name, values, sparse="rev_link_matrix" in trace, t=iteration, loss=loss
                    )
                elif name not in self._left_out:
                    self._left_out.add(name)
                    self._say(
                        f"-visdom: {name} is left out, its {values.size} numbers are more than the "
                        f"{LARGEST} that are shown"
                    )
        except OSError:
            return "the server is gone"
        return None

    def _show(self, name: str, values: np.ndarray, *, sparse: bool, t: int, loss: float) -> None:
        title, axis = HEAT_MAPS[name]
        if sparse and name == "link_matrix":
            axis = HEAT_MAPS["rev_link_matrix"][1]
        self._connection.heatmap(
            values,
            win=name,
            opts={
                "xtickstep": 10 * max(1, round(values.shape[1] / 200)),
                "ytickstep": 2,
                "title": f"{title}, t: {t}, loss: {loss:.4f}",
                "ylabel": "layer * time",
                "xlabel": axis,
            },
        )
