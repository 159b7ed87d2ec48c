"""Pictures of learning and of memory use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from memcore.errors import how_to_install
from torch_adapters import plot_memory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["memory_picture", "pixels", "save_curve_picture", "save_memory_picture"]


def memory_picture(
    title: str, input: Tensor, output: Tensor, trace: dict[str, np.ndarray]
) -> Figure:
    """Draw one example over time: input, output, and what the memory did.

    Args:
        title: the task.
        input: ``[T, X]``.
        output: ``[T, Y]``, in [0, 1].
        trace: the debug dictionary of this example.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return plot_memory(
        trace,
        layers=len(trace["write_weights"]) // len(input),
        sequences={"input": input, "output": output},
        title=f"{title}: one example, and where the memory was written and read",
    )


def pixels(figure: Figure) -> np.ndarray:
    """A figure of `memory_picture` as uint8 ``[height, width, 3]``."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def save_memory_picture(
    path: Path, title: str, input: Tensor, output: Tensor, trace: dict[str, np.ndarray]
) -> None:
    """Save what `memory_picture` draws as a PNG."""
    try:
        figure = memory_picture(title, input, output, trace)
    except ImportError as error:
        print(f"no picture: {error}")
        return
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
        print(f"no learning curve: matplotlib is not installed ({how_to_install('viz')})")
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
