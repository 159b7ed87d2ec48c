"""A picture of zone 1 of the London Underground with a path that was asked, and the answer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from memcore.errors import how_to_install
from underground import LINES, STATIONS, Edge, Line

__all__ = ["save_underground_picture"]

Point = tuple[float, float]

WIDTH, HEIGHT = 17.0, 12.6  # inches, which are the units of all points
MARGIN = 0.9
APART = 0.055  # lines along one track
LETTER, ROW = 0.078, 0.145  # of a name


def save_underground_picture(
    path: Path, title: str, asked: Sequence[Edge], answered: Sequence[Edge | None]
) -> None:
    """Draw all stations and lines, a broad band along what was asked, a thin one along the answer.

    Args:
        path: where the PNG goes.
        title: what was asked.
        asked: the edges of the path that is right.
        answered: those of the answer, None for what is no edge there.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.patheffects import withStroke
    except ImportError:
        print(f"no map: matplotlib is not installed ({how_to_install('viz')})")
        return
    places = _places()
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_xlim(0, WIDTH)
    axis.set_ylim(0, HEIGHT)
    axis.set_axis_off()

    def draw(points: Sequence[Point], **how: object) -> None:
        axis.plot(*zip(*points, strict=True), solid_capstyle="round", dash_capstyle="butt", **how)  # pyright: ignore

    for edge in asked:
        draw([places[stop] for stop in edge.via], color="#FFE9A8", linewidth=26, zorder=1)
    sharing = _sharing()
    for pair, lines in sharing.items():
        for at, line in enumerate(lines):
            shift = (at - (len(lines) - 1) / 2) * APART
            draw(_beside(places[pair[0]], places[pair[1]], shift), color=line.color, linewidth=3.6)
    for edge in filter(None, answered):  # on the left, as trains run
        for one, other in itertools.pairwise(edge.via):
            beside = _beside(places[one], places[other], 0.13)
            draw(beside, color="#D6006C", linewidth=3, zorder=5, linestyle=(0, (1.6, 1.1)))
    for station, (x, y) in places.items():
        several = len({line.name for line in LINES if station in line.stations}) > 1
        axis.plot(
            x, y, "o", markersize=8.5 if several else 5, markerfacecolor="white",
            markeredgecolor="black", markeredgewidth=1.6 if several else 1.1, zorder=6,
        )  # fmt: skip
    on_path = {asked[0].source, *(edge.destination for edge in (*asked, *filter(None, answered)))}
    for station, (x, y, side) in _names(places, sharing).items():
        axis.text(
            x, y, station, fontsize=9, ha=side, va="center", zorder=7,
            weight="bold" if station in on_path else "normal",
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )  # fmt: skip
    stops = [asked[0].source, *(edge.destination for edge in asked)]
    axis.text(0.4, HEIGHT - 0.4, title, fontsize=15, weight="bold", va="top")
    said = [
        "no edge there" if edge is None else f"{edge.source} → {edge.destination} ({edge.label})"
        for edge in answered
    ]
    wrapped = "\n".join(f"{at}. {text}" for at, text in enumerate(said, 1))
    axis.text(
        0.4, 0.4, f"asked: {len(asked)} edges from {stops[0]} to {stops[-1]}\nanswered:\n{wrapped}",
        fontsize=10.5, va="bottom", linespacing=1.35,
    )  # fmt: skip
    colors = {line.name: line.color for line in LINES}
    handles = [Line2D([], [], color=color, linewidth=4) for color in colors.values()]
    handles += [
        Line2D([], [], color="#FFE9A8", linewidth=12),
        Line2D([], [], color="#D6006C", linewidth=3.2, linestyle=(0, (1.6, 1.1))),
    ]
    axis.legend(
        handles, [*colors, "asked", "answered"], loc="lower right", fontsize=10, frameon=True,
        bbox_to_anchor=(0.985, 0.02), handlelength=2.6,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def _places() -> dict[str, Point]:
    """Where stations are drawn: as on the earth, but the crowded middle is spread."""
    middle = (-0.128, 51.5115)
    spread = {}
    for station, (longitude, latitude) in STATIONS.items():
        x = (longitude - middle[0]) * math.cos(math.radians(51.5))
        y = latitude - middle[1]
        far = math.hypot(x, y)
        spread[station] = (x, y) if not far else (x / far * far**0.72, y / far * far**0.72)
    places = {}
    for at, size in ((0, WIDTH), (1, HEIGHT)):
        values = [point[at] for point in spread.values()]
        low, high = min(values), max(values)
        for station, point in spread.items():
            share = (point[at] - low) / (high - low)
            places.setdefault(station, []).append(MARGIN + share * (size - 2 * MARGIN))
    moved = {station: (x, y) for station, (x, y) in places.items()}
    return _apart(moved)


def _apart(places: dict[str, Point], least: float = 0.52) -> dict[str, Point]:
    """Stations that are too close are moved away from each other."""
    for _ in range(60):
        for one, other in itertools.combinations(places, 2):
            (x, y), (u, v) = places[one], places[other]
            far = math.hypot(u - x, v - y)
            if far < least:
                push = (least - far) / 2 / max(far, 1e-6)
                across, up = (u - x) * push / 2, (v - y) * push / 2
                places[one], places[other] = (x - across, y - up), (u + across, v + up)
    return places


def _sharing() -> dict[tuple[str, str], list[Line]]:
    """The lines that run between two stations next to each other, one of each name."""
    sharing: dict[tuple[str, str], list[Line]] = {}
    for line in LINES:
        stops = (*line.stations, line.stations[0]) if line.loop else line.stations
        for one, other in itertools.pairwise(stops):
            pair = (one, other) if STATIONS[one] < STATIONS[other] else (other, one)
            sharing.setdefault(pair, []).append(line)
    return sharing


def _beside(one: Point, other: Point, shift: float) -> list[Point]:
    """The stretch between two points, moved sideways."""
    (x, y), (u, v) = one, other
    far = math.hypot(u - x, v - y)
    across, up = -(v - y) / far * shift, (u - x) / far * shift
    return [(x + across, y + up), (u + across, v + up)]


def _names(
    places: dict[str, Point], sharing: dict[tuple[str, str], list[Line]]
) -> dict[str, tuple[float, float, str]]:
    """Where names stand, and how they are aligned: where they hide the least."""
    obstacles = [(place, 0.6) for place in places.values()]
    for one, other in sharing:
        (x, y), (u, v) = places[one], places[other]
        pieces = max(2, int(math.hypot(u - x, v - y) / 0.08))
        for at in range(1, pieces):
            share = at / pieces
            obstacles.append(((x + share * (u - x), y + share * (v - y)), 0.12))
    taken: list[tuple[float, float, float, float]] = []
    names = {}
    crowded = sorted(
        places, key=lambda own: -sum(math.dist(places[own], at) < 1.5 for at in places.values())
    )
    for station in crowded:
        x, y = places[station]
        width, best = len(station) * LETTER, None
        for across, up, side in itertools.product(
            (-0.14, 0.0, 0.14), (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3), ("left", "center", "right")
        ):
            if (side == "center") != (across == 0) or (side == "left") != (across > 0):
                continue
            if side == "center" and abs(up) < 0.2:
                continue
            left = x + across - {"left": 0, "center": width / 2, "right": width}[side]
            box = (left, y + up - ROW / 2, left + width, y + up + ROW / 2)
            cost = 0.3 * abs(up) + sum(
                weight
                for (u, v), weight in obstacles
                if box[0] - 0.07 < u < box[2] + 0.07 and box[1] - 0.07 < v < box[3] + 0.07
            )
            cost += 3 * sum(
                box[0] - 0.1 < own[2]
                and own[0] < box[2] + 0.1
                and box[1] < own[3]
                and own[1] < box[3]
                for own in taken
            )
            cost += 9 * (box[0] < 0.1 or box[2] > WIDTH - 0.1)
            if best is None or cost < best[0]:
                best = (cost, box, (x + across, y + up, side))
        assert best is not None
        taken.append(best[1])
        names[station] = best[2]
    return names
