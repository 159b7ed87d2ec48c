"""The DNC's training step over its slots and its batch, and what compiling kernels costs.

``python tests/benchmarks/sizes.py`` measures, writes ``docs/results/kernels.json`` and draws
``docs/results/kernels.png`` from it; ``--draw`` only draws. The figure needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from contenders import Setting, forward, training
from dense_lines import Unfit, with_kernels
from harness import BUSY, Step, in_turn, machine, train, version_of
from memcore.errors import how_to_install

RESULTS = Path(__file__).parents[2] / "docs" / "results"
MIDDLE = Setting(batch=16, slots=64, word_size=32, read_heads=4, hidden_size=128)
SWEEPS = {
    "slots": [8 * 2**power for power in range(7)],
    "batch": [2**power for power in range(9)],
}


def at(setting: Setting, threads: int, pairs: int) -> dict[str, Any]:
    """Median ms a step of all there are, each with one thread and with more, all in turn."""
    input, module, peer = setting.input(), setting.module("reference"), setting.peer()
    modules: dict[str, torch.nn.Module] = {"reference": module}
    if peer is not None:
        modules["peer"] = peer
    counts = sorted({1, threads})
    point: dict[str, Any] = {"setting": setting._asdict()}
    try:
        for count in counts:
            torch.set_num_threads(count)
            modules["kernels"] = with_kernels(module, input)
    except Unfit as reason:
        modules.pop("kernels", None)
        point["reason"] = str(reason)
    steps = {
        f"{name}, {count}": _with_threads(count, training(own, input))
        for count in counts
        for name, own in modules.items()
    }
    times = in_turn(steps, pairs)
    point["ms"] = {name: median(own) / setting.steps * 1e3 for name, own in times.items()}
    return point


def _with_threads(count: int, step: Step) -> Step:
    def own() -> None:
        torch.set_num_threads(count)
        step()

    return own


def sweeps(threads: int, pairs: int) -> dict[str, list[dict[str, Any]]]:
    """The middle setting with other slots, and with another batch."""
    points: dict[str, list[dict[str, Any]]] = {}
    for field, values in SWEEPS.items():
        points[field] = []
        for value in values:
            point = at(MIDDLE._replace(**{field: value}), threads, pairs)
            points[field].append(point)
            told = ", ".join(f"{name} {ms:.3f}" for name, ms in sorted(point["ms"].items()))
            print(f"{field} {value}, ms by threads: {told}", point.get("reason", ""), flush=True)
    return points


def compiling() -> dict[str, Any]:
    """What the first training steps in a process cost, nothing compiled yet and all compiled."""
    with tempfile.TemporaryDirectory() as folder:
        costs: dict[str, Any] = {}
        for state in ("nothing compiled", "all compiled"):
            command = [sys.executable, __file__, "--first-calls"]
            result = subprocess.run(
                command,
                env={**os.environ, "NUMBA_CACHE_DIR": folder},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            costs[state] = json.loads(result.stdout)
            told = ", ".join(f"{name} {taken:.3f}" for name, taken in costs[state].items())
            print(f"{state}, seconds: {told}", flush=True)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        costs["cache_mb"] = sum(path.stat().st_size for path in files) / 1e6
    print(f"on the disk: {costs['cache_mb']:.1f} MB")
    return costs


def first_calls() -> dict[str, float]:
    """Seconds of a first training step, the next, and the first of another size.

    Those of the processor, too: where others use it, a compiler has to wait.
    """
    module, other = (MIDDLE._replace(slots=slots).module("numba") for slots in (64, 32))
    input, taken = MIDDLE.input(), {}
    for name, own in (("first", module), ("second", module), ("another size", other)):
        begin, begin_processor = time.perf_counter(), time.process_time()
        train(forward(own, input))
        taken[name] = time.perf_counter() - begin
        taken[f"{name}, processor"] = time.process_time() - begin_processor
    return taken


# Colours that all kinds of colour vision tell apart (Okabe and Ito), and shapes beside them; the
# peer's are hollow and large, since our reference lies on top of it.
LOOKS: dict[str, dict[str, Any]] = {
    "peer": {"color": "#D55E00", "marker": "s", "markersize": 8, "markerfacecolor": "none"},
    "reference": {"color": "#0072B2", "marker": "^", "markersize": 4},
    "kernels": {"color": "#009E73", "marker": "o", "markersize": 5},
}
AXES = {"slots": "slots N (batch {batch})", "batch": "batch (N = {slots})"}


def draw(result: dict[str, Any], path: Path) -> None:
    """The sweeps, time a step against size."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no figure: matplotlib is not installed ({how_to_install('viz')})")
        return
    where, middle = result["machine"], result["sweeps"]["slots"][0]["setting"]
    figure = Figure(figsize=(9, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (field, points) in zip(axes, result["sweeps"].items(), strict=True):
        sizes = [point["setting"][field] for point in points]
        for name, look in LOOKS.items():
            for threads in sorted({1, where["threads"]}):
                key = f"{name}, {threads}"
                if any(key in point["ms"] for point in points):
                    times = [point["ms"].get(key, float("nan")) for point in points]
                    package = f" (dnc {where['peer']})" if name == "peer" else ""
                    label = f"{name}{package}, {threads} thread{'s' if threads > 1 else ''}"
                    axis.loglog(sizes, times, "-" if threads > 1 else "--", label=label, **look)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_xlabel(AXES[field].format(**MIDDLE._asdict()))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("forward + backward, ms a time step")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    figure.suptitle(
        f"A DNC's training step (W = {middle['word_size']}, R = {middle['read_heads']}, "
        f"LSTM of {middle['hidden_size']}, {middle['steps']} time steps)\n"
        f"{where['processor']}, torch {where['torch']}",
        fontsize="medium",
    )
    figure.savefig(path, dpi=200)
    print(f"figure: {path}")


def main() -> None:
    """Measure and write, or read; then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="interleaved runs")
    parser.add_argument("--threads", type=int, default=2, help="beside one")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of JSON and figure")
    parser.add_argument("--draw", action="store_true", help="only draw what was measured before")
    parser.add_argument("--first-calls", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first_calls:
        print(json.dumps(first_calls()))
        return
    table = options.out / "kernels.json"
    if not options.draw:
        options.out.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(options.threads)
        torch.manual_seed(0)
        where = {**machine(), "pairs": options.pairs, "peer": version_of("dnc")}
        print(where)
        if (where["load"] or 0) > BUSY:
            print("The machine is busy: draw no conclusions.")
        result = {"machine": where, "compiling": compiling()}
        result["sweeps"] = sweeps(options.threads, options.pairs)
        table.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"table: {table}")
    draw(json.loads(table.read_text(encoding="utf-8")), options.out / "kernels.png")


if __name__ == "__main__":
    main()
