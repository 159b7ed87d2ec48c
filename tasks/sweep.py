"""One task with several seeds, some at a time, each in a process and a folder of its own; a table.

``python tasks/sweep.py copy_task.py -seeds 0 1 2 -jobs 2 -out checkpoints/sweep -- -lr 0.001``:
what follows ``--`` are options of the task. The same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from script_runs import (
    check_options,
    each,
    measured,
    minutes_of,
    parser_of,
    restored,
    train_script,
)
from task import Task, number

__all__ = ["main"]

OWN = ("seed", "checkpoint_dir", "resume", "overwrite")  # given to each seed
# A seed may be trained longer and tested more; the others of its table are by the same command.
MAY_CHANGE = ("train_on", "test_size", "summarize_freq")


class Trained(NamedTuple):
    """What became of a seed: its checkpoint, or why there is none to be tested."""

    seed: int
    checkpoint: Path | None
    trouble: str = ""


def main(argv: Sequence[str] | None = None) -> None:
    """Train all seeds to their end, then test them and print the table."""
    given = sys.argv[1:] if argv is None else list(argv)
    end = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("task", type=_task, help="a script of this folder, such as copy_task.py")
    add("-seeds", nargs="+", type=number(int, 0, 2**62), default=[0, 1, 2], help="default: 0 1 2")
    add("-jobs", type=number(int, 1), default=2, help="processes at a time; default: 2")
    add("-out", type=Path, default=Path("checkpoints/sweep"), help="folder of the seeds' folders")
    options = parser.parse_args(given[:end])
    task, arguments = options.task, given[end + 1 :]
    for text in arguments:
        if text.partition("=")[0].lstrip("-") in OWN and text.startswith("-"):
            parser.error(f"{text} is not for the task: each seed is given its own")
    given = parser_of(task).parse_args(arguments)  # is answered once, not by each seed
    # Where the rate falls with the iterations, more of them are another run.
    more = ("iterations",) if given.scheduler == "none" else ()
    check = partial(_refused, task, arguments, options.out, (*MAY_CHANGE, *more))
    refused = {seed: check(seed) for seed in dict.fromkeys(options.seeds)}  # before hours are spent
    train = partial(_train, task, arguments, options.out)
    try:
        done = each(train, [seed for seed, why in refused.items() if not why], options.jobs)
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on") from None
    known = {own.seed: own for own in done}
    trained = [known.get(seed, Trained(seed, None, why)) for seed, why in refused.items()]
    _print([_header(task), *(_row(task, options.out, own) for own in trained)])
    troubles = [f"seed {own.seed}: {own.trouble}" for own in trained if own.checkpoint is None]
    if troubles:
        raise SystemExit("\n".join(troubles))


def _task(text: str) -> Task:
    name = Path(text).name.removesuffix(".py")
    names = sorted(path.stem for path in Path(__file__).parent.glob("*_task.py"))
    if name not in names:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, got {text}")
    kinds = [own for own in vars(import_module(name)).values() if isinstance(own, type)]
    (kind,) = (own for own in kinds if issubclass(own, Task) and own.__module__ == name)
    return kind()


def _refused(
    task: Task, arguments: Sequence[str], out: Path, may_change: Sequence[str], seed: int
) -> str:
    """Why what is in a seed's folder is another run, if it is."""
    own = [*arguments, "-seed", str(seed)]
    try:
        check_options(task, own, out / str(seed), "-out", may_change)
    except SystemExit as end:
        print(f"seed {seed}: failed", flush=True)
        return str(end.code)
    return ""


def _train(task: Task, arguments: Sequence[str], out: Path, seed: int) -> Trained:
    try:
        path = train_script(task, [*arguments, "-seed", str(seed)], out / str(seed))
    except SystemExit as end:
        print(f"seed {seed}: failed", flush=True)
        return Trained(seed, None, str(end.code))
    print(f"seed {seed}: trained", flush=True)
    return Trained(seed, path)


def _header(task: Task) -> list[str]:
    twice = [f"{name} at twice that" for name in task.metrics]
    return ["seed", "iterations", "solved", "minutes", "level", *task.metrics, *twice]


def _row(task: Task, out: Path, trained: Trained) -> list[str]:
    if trained.checkpoint is None:
        return [str(trained.seed), "failed", *["-"] * (3 + 2 * len(task.metrics))]
    run = restored(task, trained.checkpoint)
    level, bound = run.level(), task.longest(run.options)
    lengths = [level] if bound and 2 * level > bound else [level, 2 * level]
    scores = measured(run, lengths)
    values = [f"{value:.4f}" for length in lengths for value in scores[length]]
    values += ["-"] * (2 * len(task.metrics) - len(values))
    minutes = f"{minutes_of(out / str(trained.seed)):.1f}"
    solved = "yes" if run.solved else "no"
    return [str(trained.seed), str(run.iteration), solved, minutes, str(level), *values]


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
