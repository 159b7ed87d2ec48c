"""What the options of later papers do to learning: iterations to solve, error at twice the length.

``python tasks/ablation.py -out docs/results`` trains each task with each option, in processes of
one thread each, and goes on where it was interrupted. All is shown as it came out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from associative_recall_task import AssociativeRecallTask
from copy_task import CopyTask
from learning_lines import Line, Outcome
from line_runs import add_options, check, outcome, train
from memcore.errors import how_to_install
from repeat_copy_task import RepeatCopyTask
from script_runs import each

__all__ = ["STUDIES", "VARIANTS", "main"]

RECALL = (
    "-input_size 17 -rnn_type lstm -nhid 64 -queries 1 -batch_size 128 -batch_budget 0 "
    "-mem_size 32 -sparse_reads 16 "
    "-sequence_max_length 6 -curriculum linear -iterations 4000 -test_size 1000"
)


def _solved(found: Outcome) -> bool:
    return found.solved


STUDIES = {
    "copy": Line(
        "copy, DNC",
        "no wrong bit at length 8",
        CopyTask,
        "-optim rmsprop -batch_size 32 -nhlayer 1 -lr 0.0005 -sequence_max_length 8 "
        "-test_size 1000 -iterations 4000 -read_heads 1 -mem_size 16 -mem_slot 32",
        (8, 16),
        _solved,
    ),
    "repeat_copy": Line(
        "repeat copy, DNC",
        "no wrong bit at length 8, 1 or 2 repeats",
        RepeatCopyTask,
        "-curriculum_limit 8 -iterations 6000",
        (8, 16),
        _solved,
    ),
    "recall_dnc": Line(
        "associative recall, DNC",
        "no wrong bit with 6 pairs",
        AssociativeRecallTask,
        f"{RECALL} -memory_type dnc -mem_slot 16",
        (6, 12),
        _solved,
    ),
    "recall_sdnc": Line(
        "associative recall, SDNC",
        "no wrong bit with 6 pairs",
        AssociativeRecallTask,
        f"{RECALL} -memory_type sdnc -mem_slot 256",
        (6, 12),
        _solved,
    ),
}
OF_THE_DNC = {
    "deallocation": "-deallocation",
    "link sharpness": "-link_sharpness",
    "masking, deallocation, sharpness": "-masking -deallocation -link_sharpness",
    "two write heads": "-write_heads 2",
}
VARIANTS = {
    "none": "",
    "masking": "-masking",
    **OF_THE_DNC,
    "temperature 2": "-temperature 2",
    "layer norm": "-layer_norm",
    "bypass dropout 0.1": "-bypass_dropout 0.1",
    "layer norm, bypass dropout": "-layer_norm -bypass_dropout 0.1",
    "bidirectional": "-bidirectional",
    "learned memory": "-learned_memory",
    "feed-forward controller": "-rnn_type linear",
}
Key = tuple[str, str, int]  # study, variant, seed


def _line(study: str, variant: str) -> Line:
    line = STUDIES[study]
    return line._replace(options=f"{line.options} {VARIANTS[variant]}")


def main(argv: Sequence[str] | None = None) -> None:
    """Train all that is not yet trained, then write the tables and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-studies", nargs="+", choices=list(STUDIES), default=list(STUDIES), help="default: all")
    add("-variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="default: all")
    add_options(parser, "checkpoints/ablation", "ablation")
    options = parser.parse_args(argv)
    todo: list[Key] = [
        (study, variant, seed)
        for study in dict.fromkeys(options.studies)
        for variant in dict.fromkeys(options.variants)
        for seed in dict.fromkeys(options.seeds)
        if variant not in OF_THE_DNC or "-memory_type sdnc" not in STUDIES[study].options
    ]

    def job(key: Key) -> tuple[Line, int, Path]:
        study, variant, seed = key
        name = variant.replace(",", "").replace(" ", "_")
        return _line(study, variant), seed, options.runs / f"{study}_{name}_{seed}"

    def one(key: Key) -> Outcome:
        (line, *_), (_, variant, seed) = job(key), key
        found = outcome(line, train(*job(key)))
        print(f"{line.title}, {variant}, seed {seed}: {_described(line, found)}", flush=True)
        return found

    for key in todo:  # before hours are spent on the others
        check(*job(key))
    found = dict(zip(todo, each(one, todo, options.jobs), strict=True))
    options.out.mkdir(parents=True, exist_ok=True)
    _write(options.out / "ablation.csv", found)
    _tabulate(options.out / "ablation.md", found)
    _draw(options.out / "ablation.png", found)


def _described(line: Line, found: Outcome) -> str:
    said = f"solved after {found.iterations}" if found.solved else "not solved"
    errors = (f"{found.scores[length][0]:.4f} at {length}" for length in line.lengths)
    return f"{said}; {line.task.metrics[0]} {', '.join(errors)}"


def _write(path: Path, found: dict[Key, Outcome]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["study", "option", "seed", "iterations", "solved", "length", "bit error"])
        for (study, variant, seed), own in found.items():
            for length, score in own.scores.items():
                row = [study, variant, seed, own.iterations, own.solved, length]
                table.writerow([*row, f"{score[0]:.6f}"])
    print(f"table: {path}")


def _by_study(found: dict[Key, Outcome]) -> dict[str, dict[str, list[Outcome]]]:
    result: dict[str, dict[str, list[Outcome]]] = {}
    for (study, variant, _), own in found.items():
        result.setdefault(study, {}).setdefault(variant, []).append(own)
    return result


def _tabulate(path: Path, found: dict[Key, Outcome]) -> None:
    """A table for people: of each option the seeds' medians."""
    studies = _by_study(found)
    titles = [STUDIES[study].title for study in studies]
    lines = ["| Option | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for variant in dict.fromkeys(variant for _, variant, _ in found):
        cells = [_cell(STUDIES[study], own.get(variant, [])) for study, own in studies.items()]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"table: {path}")


def _cell(line: Line, runs: list[Outcome]) -> str:
    if not runs:
        return "–"
    solved = [own.iterations for own in runs if own.solved]
    error = median(own.scores[line.lengths[-1]][0] for own in runs)
    # A run that was not solved takes longer than any that was.
    typical = sorted(solved)[len(runs) // 2] if len(solved) > len(runs) // 2 else None
    said = f"{typical:,}" if typical is not None else "not solved"
    said += "" if len(solved) == len(runs) else f" ({len(solved)} of {len(runs)})"
    return f"{said}; {100 * error:.2g} %"


def _draw(path: Path, found: dict[Key, Outcome]) -> None:
    """Two panels for each task, a row for each option: iterations, error at twice the length."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no figure: matplotlib is not installed ({how_to_install('viz')})")
        return
    studies = _by_study(found)
    variants = list(dict.fromkeys(variant for _, variant, _ in found))
    figure = Figure(
        figsize=(10, len(studies) * (0.9 + 0.24 * len(variants))),
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(studies), 2, squeeze=False, sharey="row")
    for (left, right), (study, by_variant) in zip(axes, studies.items(), strict=True):
        line = STUDIES[study]
        rows = [variant for variant in variants if variant in by_variant]
        for place, variant in enumerate(rows):
            color = "C3" if variant == "none" else "C0"
            for own in by_variant[variant]:
                style: dict[str, Any] = {"color": color, "marker": "o", "linestyle": "none"}
                left.plot(
                    own.iterations, place, fillstyle="full" if own.solved else "none", **style
                )
                right.plot(max(own.scores[line.lengths[-1]][0], 1e-4), place, **style)
        left.set_yticks(range(len(rows)), rows)
        left.set_ylim(len(rows) - 0.5, -0.5)
        most = max(own.iterations for runs in by_variant.values() for own in runs)
        left.set_xlim(0, 1.04 * most)
        left.set_title(
            f"{line.title}: iterations\nuntil {line.target} (hollow: not)", fontsize="small"
        )
        right.set_xscale("log")
        right.set_xlim(0.7e-4, 1)
        right.set_title(
            f"bit error at length {line.lengths[-1]} then\n(no wrong bit counts as 0.0001)",
            fontsize="small",
        )
        for axis in (left, right):
            axis.grid(alpha=0.3)
            first = by_variant.get("none")
            if first:
                typical = [own.iterations for own in first]
                if axis is right:
                    typical = [max(own.scores[line.lengths[-1]][0], 1e-4) for own in first]
                axis.axvline(median(typical), color="C3", alpha=0.4, linewidth=1)
    figure.savefig(path, dpi=110)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
