"""A DNC that learned to copy with few slots, used with many on longer sequences, without training.

``python tasks/larger_memory.py -out docs/results`` trains it, with and without some options, and
tests it with each number of slots, temperature and length.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from copy_task import CopyTask
from learning_lines import Line
from line_runs import add_options, check, train
from script_runs import each, restored

__all__ = ["LINE", "VARIANTS", "main"]

LINE = Line(
    "copy, DNC, trained up to length 8 with 16 slots",
    "",
    CopyTask,
    "-optim rmsprop -batch_size 32 -nhlayer 1 -lr 0.0005 -scheduler cosine -iterations 8000 "
    "-train_on -read_heads 1 -mem_size 16 -mem_slot 16 -sequence_max_length 4 "
    "-curriculum exponential -curriculum_threshold 0.02 -curriculum_limit 8",
    (8, 16, 32, 64),
    lambda found: found.scores[8][0] == 0,
)
VARIANTS = {
    "none": "",
    "link sharpness": "-link_sharpness",
    "masking": "-masking",
    "masking, deallocation, sharpness": "-masking -deallocation -link_sharpness",
}
Key = tuple[str, int]  # variant, seed
Point = tuple[int, float, int]  # slots, temperature, length


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is not yet trained, then test it and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("-variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="default: all")
    add("-slots", nargs="+", type=int, default=[16, 256], help="default: 16 256")
    add("-temperatures", nargs="+", type=float, default=[1, 1.5, 2, 3], help="default: 1 1.5 2 3")
    add("-lengths", nargs="+", type=int, default=LINE.lengths, help="default: 8 16 32 64")
    add_options(parser, "checkpoints/larger_memory", "larger_memory")
    options = parser.parse_args(argv)
    points: list[Point] = [
        (slots, temperature, length)
        for slots in options.slots
        for temperature in options.temperatures
        for length in options.lengths
    ]

    def job(key: Key) -> tuple[Line, int, Path]:
        variant, seed = key
        name = variant.replace(",", "").replace(" ", "_")
        line = LINE._replace(options=f"{LINE.options} {VARIANTS[variant]}")
        return line, seed, options.runs / f"{name}_{seed}"

    def one(key: Key) -> dict[Point, float]:
        variant, seed = key
        path = train(*job(key))
        print(f"{variant}, seed {seed}: trained", flush=True)
        run = restored(LINE.task(), path)
        errors = {}
        for slots, temperature, length in points:
            run.memory.resize(slots, temperature=temperature)
            generator = torch.Generator().manual_seed(seed + 3)
            errors[slots, temperature, length] = run.test(length, generator)[0]
        return errors

    variants, seeds = dict.fromkeys(options.variants), dict.fromkeys(options.seeds)
    todo = [(variant, seed) for variant in variants for seed in seeds]
    for key in todo:  # before hours are spent on the others
        check(*job(key))
    found = dict(zip(todo, each(one, todo, options.jobs), strict=True))
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "larger_memory.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["option", "seed", "slots", "temperature", "length", "bit error"])
        for (variant, seed), errors in found.items():
            for point, error in errors.items():
                table.writerow([variant, seed, *point, f"{error:.6f}"])
    lines = ["| Option | Slots | Temperature | " + " | ".join(map(str, options.lengths)) + " |"]
    lines.append("|---" * (3 + len(options.lengths)) + "|")
    for variant in variants:
        for slots in options.slots:
            for temperature in options.temperatures:
                cells = []
                for length in options.lengths:
                    own = [found[variant, seed][slots, temperature, length]
                           for seed in seeds]  # fmt: skip
                    cells.append(f"{median(own):.2%} ({min(own):.2%} to {max(own):.2%})")
                lines.append(
                    f"| {variant} | {slots} | {temperature:g} | " + " | ".join(cells) + " |"
                )
    (options.out / "larger_memory.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"tables: {options.out / 'larger_memory.csv'}, {options.out / 'larger_memory.md'}")


if __name__ == "__main__":
    main()
