"""SAM learning to copy with each index: the same seed, one loss curve each, as a figure.

``python tests/benchmarks/index_curves.py -out docs/results``. Once from an empty memory, and once
from one that already holds many random rows, where approximate search has something to miss.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "tasks"))

from copy_task import CopyTask
from memcore import MemcoreError, RowMemory, SparseWrite, make_index, sam
from options import build_parser
from torch_adapters import SAM

INDEXES = ("exact", "faiss", "flann", "auto")
OPTIONS = build_parser("").parse_args(["-input_size", "6"])


def clustered(rows: int, width: int) -> Tensor:
    """Rows ``[1, rows, width]`` around some hundred directions, as trained memories have them."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(100, width, generator=generator)
    own = torch.randint(100, (rows,), generator=generator)
    return (centres[own] + 0.3 * torch.randn(rows, width, generator=generator))[None]


def train(index: str, filled: int, iterations: int, batch: int) -> list[float]:
    """The loss of each iteration."""
    torch.manual_seed(0)
    slots = max(64, 2 * filled)
    module = SAM(
        6, 64, num_hidden_layers=1, nr_cells=slots, cell_size=20, index=index, output_size=5
    )
    optimizer = torch.optim.RMSprop(module.parameters(), lr=5e-4, momentum=0.9, eps=1e-10)
    start = None
    if filled:
        places = torch.arange(filled).expand(batch, filled)
        rows = clustered(filled, 20).expand(batch, filled, 20)
        empty = RowMemory.filled(torch.zeros(20), batch, slots)
        memory = empty.write(SparseWrite(places[:, :0], places, rows))
        start = (None, sam.init_state(batch, slots, 20, 4, 4, memory=memory, index=index), None)
    data, task, losses = torch.Generator().manual_seed(0), CopyTask(), []
    for iteration in range(iterations):
        length = int(torch.randint(1, 9, (), generator=data))
        input, target = task.batch(OPTIONS, (length,), batch, data)
        loss = task.loss(module(input, start)[0], target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 50)
        optimizer.step()
        losses.append(loss.item())
        if iteration % 100 == 99:
            print(f"{index}, {filled} rows: {iteration + 1}: {sum(losses[-100:]) / 100:.4f}",
                  flush=True)  # fmt: skip
    return losses


def main() -> None:
    """Train, write the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-iterations", type=int, default=1500)
    parser.add_argument("-filled", type=int, nargs="+", default=[0, 2**14])
    parser.add_argument("-batch", type=int, default=[32, 4], nargs="+")
    parser.add_argument("-threads", type=int, default=2, help="of torch")
    parser.add_argument("-out", type=Path, default=Path("index_curves"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    curves: dict[tuple[int, str], list[float]] = {}
    for filled, batch in zip(options.filled, options.batch, strict=True):
        for index in INDEXES:
            try:
                make_index(index, batch_size=1, slots=1, word_size=1)
            except (ImportError, MemcoreError) as error:
                print(f"left out: {error}")
                continue
            curves[filled, index] = train(index, filled, options.iterations, batch)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "index_curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rows_at_first", "index", "iteration", "mean_loss_of_50"])
        for (filled, index), losses in curves.items():
            for end in range(50, len(losses) + 1, 50):
                writer.writerow([filled, index, end, f"{sum(losses[end - 50 : end]) / 50:.5f}"])
    draw(options.out / "index_curves.png", curves)


def draw(path: Path, curves: dict[tuple[int, str], list[float]]) -> None:
    """One panel for each number of rows that the memory begins with."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(filled for filled, _ in curves))
    figure = Figure(figsize=(9, 4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle("SAM learning to copy, by index (same seed; mean loss of 50 iterations)")
    for axis, filled in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for style, index in zip(("-", "--", "-.", ":"), INDEXES, strict=True):
            losses = torch.tensor(curves.get((filled, index), []))
            if len(losses):
                means = losses[: len(losses) // 50 * 50].view(-1, 50).mean(1)
                axis.plot(range(50, len(losses) + 1, 50), means, style, label=index)
        axis.set_title(f"{filled} rows written at first", fontsize="medium")
        axis.set_xlabel("iteration")
        axis.set_ylabel("loss")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
