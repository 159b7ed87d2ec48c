"""What a run leaves behind for people: its metrics by length, and pictures."""

from __future__ import annotations

import torch

from memcore import MemcoreError
from metrics import read_metrics
from plots import save_curve_picture, save_memory_picture
from run import Run

__all__ = ["describe", "report"]


def describe(names: tuple[str, ...], values: tuple[float, ...]) -> str:
    """Names and values on one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in zip(names, values, strict=True))


def report(run: Run) -> None:
    """Test on longer sequences, and draw an example and the learning curve."""
    generator = torch.Generator().manual_seed(run.options.seed + 2)
    longest = run.level()
    lengths = {round(longest * factor) for factor in run.task.multiples}
    if bound := run.task.longest(run.options):
        lengths = {min(length, bound) for length in lengths}
    said = ", ".join(run.task.metrics)
    print(f"{said} by length (trained up to {longest}), of {run.options.test_size} others each:")
    for length in sorted(lengths):
        values = ", ".join(f"{value:.4f}" for value in run.test(length, generator))
        print(f"  length {length:4d}: {values}")
    picture = run.checkpoint.with_suffix(".png")
    try:
        batch, output, trace = run.example(longest)
        save_memory_picture(picture, run.task.name, batch.input[0].cpu(), output[0], trace)
    except MemcoreError as error:
        print(f"no picture of the memory: {error}")
    columns = read_metrics(run.checkpoint.with_suffix(".csv"))
    title = f"{run.task.name} with {run.options.memory_type}"
    save_curve_picture(
        picture.with_name(f"{picture.stem}_curve.png"), title, columns, run.task.metrics
    )
    run.task.report(run)
