"""What a sparse memory that learned associative recall does with thousands of pairs, as a picture.

``python tasks/recall_picture.py checkpoints/associative_recall_sam.pt -pairs 4096`` stores so many
pairs, asks for some of them, and draws where each was written and which of them each query read.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from associative_recall_task import AssociativeRecallTask, associative_recall_batch
from memcore.errors import how_to_install
from run import Run
from script_runs import restored
from task import number

__all__ = ["Recall", "main", "recall", "save_recall_picture"]


class Recall(NamedTuple):
    """What became of pairs and of queries for some of them."""

    slots: int  # of the memory
    written: Tensor  # [pairs], the slot that got most of each
    asked: Tensor  # [queries], which pair
    read: Tensor  # [queries], of which pair the slot with the largest weight is; -1: of none
    weight: Tensor  # [queries], that weight
    wrong: Tensor  # [queries], how many bits of the answer


def main(argv: Sequence[str] | None = None) -> None:
    """Ask, print how much was right, and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="of the associative recall task, with sam or sdnc")
    add("-pairs", type=number(int, 1, 2**20), default=4096, help="to store; default: 4096")
    add("-queries", type=number(int, 1, 2**20), default=512, help="default: 512")
    add("-out", type=Path, default=Path("recall.png"), help="the picture; default: recall.png")
    options = parser.parse_args(argv)
    run = restored(AssociativeRecallTask(), options.checkpoint)
    if run.options.memory_type not in ("sam", "sdnc"):
        raise SystemExit(
            f"{options.checkpoint}: expected sam or sdnc, got a {run.options.memory_type}"
        )
    longest = run.task.longest(run.options)
    if options.pairs > longest:
        raise SystemExit(f"-pairs {options.pairs}: expected at most {longest} distinct keys")
    found = recall(run, options.pairs, options.queries)
    right = (found.read == found.asked).double().mean()
    print(
        f"{options.pairs} pairs: {100 * right:.1f} % of {options.queries} queries read most from "
        f"the slot of their pair; {100 * found.wrong.gt(0).double().mean():.1f} % have a wrong bit"
    )
    save_recall_picture(options.out, found)


def recall(run: Run, pairs: int, queries: int) -> Recall:
    """Store one example's pairs and ask for some, one step a call."""
    bits = run.options.input_size // 2
    generator = torch.Generator().manual_seed(run.options.seed + 4)
    batch = associative_recall_batch(1, pairs, bits, generator, queries=queries)
    model = run.memory.eval()
    state: Any = None
    outputs, written, slots, weights = [], [], [], []
    with torch.no_grad():
        for step in range(pairs + queries):
            output, state = model(batch.input[:, step : step + 1], state)
            memory = state[1]
            where, how_much = memory.write_index[0], memory.write_weights[0]
            if step < pairs:
                written.append(where[how_much.argmax()])
                continue
            outputs.append(output[0, 0])
            best = memory.read_weights[0].flatten().argmax()
            slots.append(memory.read_index[0].flatten()[best])
            weights.append(memory.read_weights[0].flatten()[best])
    owner = torch.full((run.options.mem_slot,), -1)
    owner[torch.stack(written)] = torch.arange(pairs)  # of several pairs, the last stays
    keys, asked = batch.input[0, :pairs, :bits], batch.input[0, pairs:, :bits]
    which = (asked.unsqueeze(1) == keys).all(2).int().argmax(1)
    wrong = (torch.stack(outputs) > 0).ne(batch.target[0].bool()).sum(1)
    return Recall(
        run.options.mem_slot, torch.stack(written), which, owner[torch.stack(slots)],
        torch.stack(weights), wrong,
    )  # fmt: skip


def save_recall_picture(path: Path, found: Recall) -> None:
    """Draw on the left where pairs were written, on the right which pair each query read.

    Args:
        path: where the PNG goes.
        found: what became of the pairs.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no picture: matplotlib is not installed ({how_to_install('viz')})")
        return
    pairs, queries = len(found.written), len(found.asked)
    figure = Figure(figsize=(11, 5.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(range(pairs), found.written, ",", color="C0")
    left.set_title(f"{pairs:,} pairs: the slot that got most of each", fontsize="medium")
    left.set_xlabel("pair, in the order of writing")
    left.set_ylabel(f"slot (of {found.slots:,})")
    good = found.wrong == 0
    marks = right.scatter(
        found.asked, found.read, s=9, c=found.weight, vmin=0, vmax=1, cmap="viridis"
    )
    right.scatter(
        found.asked[~good], found.read[~good], s=60, facecolors="none", edgecolors="C3",
        label=f"an answer with a wrong bit ({int((~good).sum())} of {queries})",
    )  # fmt: skip
    right.set_title(f"{queries:,} queries: whose slot each read most", fontsize="medium")
    right.set_xlabel("pair that was asked for")
    right.set_ylabel("pair that was read")
    right.legend(loc="upper left", fontsize="small")
    figure.colorbar(marks, ax=right, label="weight of that slot")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
