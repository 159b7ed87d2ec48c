"""What a model that learned random graphs makes of the London Underground."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphs import Graph, triples_of
from task import Batch
from triples import logits_of
from underground import Edge, Network, graph_of, interchanges
from underground_map import save_underground_picture

if TYPE_CHECKING:
    from run import Run

__all__ = ["edges_of", "report_on_underground"]


def report_on_underground(
    run: Run, longest: int, ask: Callable[[Graph, int, torch.Generator], Batch]
) -> None:
    """Test on the map of interchanges, and draw one answer.

    Args:
        run: whose model is tested.
        longest: path.
        ask: makes of graphs a batch of paths of a length.
    """
    options, network = run.options, interchanges()
    if len(network.stations) > 10**options.digits:
        print("no test on the London Underground: -digits is too small for its stations")
        return
    generator = torch.Generator().manual_seed(options.seed + 3)
    note = ""
    if len(network.edges) > options.mem_slot:
        note = f", more than -mem_slot {options.mem_slot}"
    print(
        f"share of right answers on the London Underground ({len(network.stations)} interchanges, "
        f"{len(network.edges)} edges{note}):"
    )
    for length in range(1, longest + 1):
        graph = graph_of(network, options.test_size, options.digits, generator)
        right = 1 - run.score([ask(graph, length, generator)])[0]
        print(f"  length {length:4d}: {right:.4f}")
    graph = graph_of(network, 1, options.digits, generator)
    batch = ask(graph, longest, generator)
    output, due = run.answer(batch)
    answer = logits_of(output, due.shape[1]).argmax(3).cpu()
    target = batch.target if batch.target.dim() == 3 else batch.target[:, :, 0]
    asked = [edge for edge in edges_of(network, graph, target[0]) if edge is not None]
    title = f"{run.task.name.replace('_', ' ').capitalize()} on the London Underground, zone 1"
    picture = run.checkpoint.with_name(f"{run.checkpoint.stem}_underground.png")
    save_underground_picture(picture, title, asked, edges_of(network, graph, answer[0]))


def edges_of(network: Network, graph: Graph, digits: Tensor) -> list[Edge | None]:
    """The edges that triples name, as digits ``[p, 3·digits]``, in the first example of a graph."""
    powers = 10 ** torch.arange(digits.shape[1] // 3 - 1, -1, -1)
    labels = (digits.unflatten(1, (3, -1)) * powers).sum(2)
    known = map(tuple, triples_of(graph)[0].tolist())
    named = dict(zip(known, network.edges, strict=True))
    return [named.get(tuple(triple)) for triple in labels.tolist()]
