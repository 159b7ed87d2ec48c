"""Pictures of learning and of memory use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from memcore.errors import how_to_install

__all__ = ["save_curve_picture", "save_memory_picture", "slots_to_show"]


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
        print(f"no picture: matplotlib is not installed ({how_to_install('viz')})")
        return
    steps = input.shape[0]
    layers = trace["write_weights"].shape[0] // steps
    last = slice(layers - 1, None, layers)  # of several controller layers, the last
    writes, reads = trace["write_weights"][last], trace["read_weights"][last]
    slots = trace["usage_vector" if "usage_vector" in trace else "usage"].shape[1]
    by_head = [np.split(all, all.shape[1] // slots, axis=1) for all in (writes, reads)]
    shown = slots_to_show([head for heads in by_head for head in heads])
    label = "slot" if shown == slots else f"slot (of {slots})"
    panels: list[tuple[str, str, np.ndarray]] = [
        ("input", "channel", input.numpy()),
        ("output", "channel", output.numpy()),
    ]
    for what, heads in zip(("write", "read"), by_head, strict=True):
        for number, head in enumerate(heads, 1):
            alone = what == "write" and len(heads) == 1
            name = f"{what} weighting" + ("" if alone else f", head {number}")
            panels.append((name, label, head[:, :shown]))

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


def slots_to_show(weightings: Sequence[np.ndarray]) -> int:
    """Of a memory that is mostly empty, the slots up to the last that was touched; at least 8.

    ``weightings`` are ``[T, N]`` each.
    """
    slots = weightings[0].shape[1]
    touched = np.flatnonzero(np.any([weights.any(0) for weights in weightings], axis=0))
    return max(int(touched[-1]) + 1, min(slots, 8)) if touched.size else slots


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
