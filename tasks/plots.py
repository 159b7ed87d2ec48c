"""What people look at: pictures of learning and of memory use, heat maps on a visdom server."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["HeatMapServer", "save_curve_picture", "save_memory_picture"]

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


def save_memory_picture(
    path: Path, title: str, input: Tensor, output: Tensor, trace: dict[str, np.ndarray]
) -> None:
    """Draw one example over time: input, output, where it wrote, where each head read.

    Args:
        path: where the PNG goes.
        title: the task.
        input: ``[T, X]``.
        output: ``[T, Y]``, in [0, 1].
        trace: the debug dictionary of this example.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'memcore[viz]')")
        return
    steps = input.shape[0]
    layers = trace["write_weights"].shape[0] // steps
    last = slice(layers - 1, None, layers)  # of several controller layers, the last
    writes, reads = trace["write_weights"][last], trace["read_weights"][last]
    slots = writes.shape[1]
    panels: list[tuple[str, str, np.ndarray]] = [
        ("input", "channel", input.numpy()),
        ("output", "channel", output.numpy()),
        ("write weighting", "slot", writes),
    ]
    heads = np.split(reads, reads.shape[1] // slots, axis=1)
    panels += [(f"read weighting, head {n + 1}", "slot", head) for n, head in enumerate(heads)]

    figure = Figure(figsize=(8, 1.2 + 1.6 * len(panels)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}: one example, and where the memory was written and read")
    axes = figure.subplots(len(panels), 1, sharex=True)
    colors = ScalarMappable(Normalize(0, 1), "viridis")
    for axis, (name, label, values) in zip(axes, panels, strict=True):
        axis.imshow(
            values.T, aspect="auto", interpolation="nearest", norm=colors.norm, cmap=colors.cmap
        )
        axis.set_title(name, fontsize="medium", loc="left")
        axis.set_ylabel(label)
        axis.yaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("time step")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(colors, ax=list(axes), shrink=0.4, label="0 to 1")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def save_curve_picture(
    path: Path, title: str, columns: dict[str, np.ndarray], metrics: Sequence[str]
) -> None:
    """Draw loss, metrics and, if it changes, the longest length over the iterations.

    Args:
        path: where the PNG goes.
        title: the task and its memory.
        columns: of the metrics file, by name.
        metrics: which of them to draw.
    """
    iterations = columns["iteration"]
    if not iterations.size:
        print("no learning curve: nothing was trained")
        return
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print("no learning curve: matplotlib is not installed (pip install 'memcore[viz]')")
        return
    width = max(1, len(iterations) // 50)
    level = columns["level"]
    grows = level.min() < level.max()
    names = ("loss", *metrics)
    panels = len(names) + int(grows)
    figure = Figure(figsize=(8, 0.8 + 2 * panels), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}: learning curve, mean over {width} iterations")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=False):
        values = columns[name]
        axis.plot(iterations, values, color="lightsteelblue", linewidth=0.5)
        axis.plot(iterations[width - 1 :], _running_mean(values, width), color="C0")
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    smooth = _running_mean(columns["loss"], width)
    if smooth.min() > 0 and smooth.max() > 10 * smooth.min():
        axes[0].set_yscale("log")
    if grows:
        axes[-1].step(iterations, level, where="mid", color="C1")
        axes[-1].set_ylabel("longest length")
        axes[-1].grid(alpha=0.3)
    axes[-1].set_xlabel("iteration")
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"agg.path.chunksize": 10_000}):  # else long curves exceed a limit of Agg
        figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    return np.convolve(values, np.full(width, 1 / width), mode="valid")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what visdom has to warn of in its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class HeatMapServer:
    """A visdom server that shows the debug dictionary."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    def connect(cls, port: int, server: str = "http://localhost") -> HeatMapServer | None:
        """The running server, or None and one line that says why not."""
        logging.getLogger("visdom").setLevel(logging.ERROR)
        try:
            with _quiet():
                import visdom  # pyright: ignore[reportMissingImports]
        except ImportError:
            print("-visdom: visdom is not installed, training goes on without heat maps")
            return None
        try:
            with _quiet():
                connection = visdom.Visdom(
                    server=server, port=port, use_incoming_socket=False, raise_exceptions=True
                )
            if connection.win_exists("memory") is None:  # whatever answers is not visdom
                raise ConnectionError
        except OSError:  # of which ConnectionError is one
            print(
                f"-visdom: no server at {server}:{port} (start one: python -m visdom.server "
                f"-port {port}), training goes on without heat maps"
            )
            return None
        return cls(connection)

    def send(self, trace: dict[str, np.ndarray], iteration: int, loss: float) -> bool:
        """Show each entry of the debug dictionary in a window; False once the server is gone."""
        try:
            for name, values in trace.items():
                title, axis = HEAT_MAPS.get(name, (name, name))
                self._connection.heatmap(
                    values,
                    win=name,
                    opts={
                        "xtickstep": 10,
                        "ytickstep": 2,
                        "title": f"{title}, t: {iteration}, loss: {loss:.4f}",
                        "ylabel": "layer * time",
                        "xlabel": axis,
                    },
                )
        except OSError:
            return False
        return True
