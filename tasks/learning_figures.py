"""The figures of what was learned, from the tables' rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from learning_lines import LINES, Line
from learning_tables import POINTS, Rows, by_line
from memcore.errors import how_to_install

__all__ = ["draw", "draw_contrast"]


def draw(path: Path, rows: Rows, points: Rows) -> None:
    """A panel for each line: the metric, a curve for each seed, and the level if it grows."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no figure: matplotlib is not installed ({how_to_install('viz')})")
        return
    outcomes = by_line(rows)
    curves = {name: own for name, own in by_line(points).items() if name in outcomes}
    if not curves:
        return
    height = -(-len(curves) // 2)
    figure = Figure(figsize=(10, 0.6 + 2.7 * height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(height, 2, squeeze=False).flat)
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    for axis, (name, seeds) in zip(axes, curves.items(), strict=False):
        _draw_line(axis, LINES[name], outcomes[name], seeds)
    figure.savefig(path, dpi=110)
    print(f"figure: {path}")


def _draw_line(axis: Any, line: Line, outcomes: dict[str, Rows], curves: dict[str, Rows]) -> None:
    reached = sum(own[0]["reached"] == "True" for own in outcomes.values())
    axis.set_title(
        f"{line.title}: {reached} of {len(outcomes)} seeds reached\n{line.target}", fontsize="small"
    )
    columns = {seed: _numbers(own, POINTS[2:]) for seed, own in curves.items()}
    levels = None
    if any(np.ptp(own[:, 3]) for own in columns.values()):
        levels = axis.twinx()
        levels.set_yscale("log", base=2)
        levels.set_ylabel("longest length (dashed)")
    for number, (seed, own) in enumerate(columns.items()):
        color = f"C{number}"
        axis.plot(own[:, 0], own[:, 2], color=color, label=f"seed {seed}")
        if levels is not None:
            levels.plot(own[:, 0], own[:, 3], "--", color=color, alpha=0.6)
    axis.set_xlabel("iteration")
    axis.locator_params(axis="x", nbins=6)  # long numbers would touch
    axis.set_ylabel(line.task.metrics[0])
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def draw_contrast(path: Path, points: Rows, names: Sequence[str]) -> None:
    """How far the curriculum of some lines has come against the examples seen.

    As in figure 3 of Rae et al. 2016. Lines of which there are no points are left out.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no figure: matplotlib is not installed ({how_to_install('viz')})")
        return
    curves = {name: own for name, own in by_line(points).items() if name in names}
    if not curves:
        return
    figure = Figure(figsize=(7, 4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for number, (name, seeds) in enumerate(curves.items()):
        for at, own in enumerate(seeds.values()):
            values = _numbers(own, ("examples", "level"))
            title = LINES[name].title if at == 0 else None
            axis.plot(values[:, 0], values[:, 1], color=f"C{number}", label=title)
    axis.set_yscale("log", base=2)
    axis.set_xlabel("examples seen")
    axis.set_ylabel("level: most pairs")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    print(f"figure: {path}")


def _numbers(rows: Rows, names: Iterable[str]) -> np.ndarray[Any, Any]:
    return np.array([[float(row[name]) for name in names] for row in rows])
