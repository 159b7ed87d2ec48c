"""What a model that learned random graphs makes of the London Underground."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graphs import Graph, triples_of
from task import Batch
from torch_adapters.recurrence import MemoryRNN
from triples import logits_of
from underground import Edge, Network, graph_of, interchanges
from underground_map import save_underground_picture

if TYPE_CHECKING:
    from run import Run

ROOM = 1.2  # slots for each edge, at the least

__all__ = ["edges_of", "report_on_underground"]


def report_on_underground(
    run: Run, longest: int, ask: Callable[[Graph, int, torch.Generator], Batch]
) -> None:
    """Test on the map of interchanges, and draw one answer.

    Where it has more edges than there are slots the memory is a larger one for this. Drawn is a
    path of the greatest length of which at least half of the answers are right.

    Args:
        run: whose model is tested.
        longest: path.
        ask: makes of graphs a batch of paths of a length.
    """
    options, network = run.options, interchanges()
    if len(network.stations) > 10**options.digits:
        print(
            "no test on the London Underground: for its "
            f"{len(network.stations)} stations there are {10**options.digits} labels, "
            f"with -digits {options.digits}"
        )
        return
    with _room_for(run, len(network.edges)) as note:
        _ask(run, network, longest, ask, note)


@contextmanager
def _room_for(run: Run, edges: int) -> Iterator[str]:
    """Slots enough, where the memory has too few, and words for it; afterwards it is as before."""
    slots, wanted = run.options.mem_slot, round(ROOM * edges)
    if not isinstance(run.model, MemoryRNN) or slots >= wanted:
        yield ""
        return
    run.model.resize(wanted)
    try:
        yield f", with {wanted} slots in place of {slots}"
    finally:
        run.model.resize(slots)


def _ask(
    run: Run,
    network: Network,
    longest: int,
    ask: Callable[[Graph, int, torch.Generator], Batch],
    note: str,
) -> None:
    options = run.options
    generator = torch.Generator().manual_seed(options.seed + 3)
    print(
        f"share of right answers on the London Underground ({len(network.stations)} interchanges, "
        f"{len(network.edges)} edges{note}):"
    )
    drawn = 1
    for length in range(1, longest + 1):
        graph = graph_of(network, options.test_size, options.digits, generator)
        right = 1 - run.score([ask(graph, length, generator)])[0]
        print(f"  length {length:4d}: {right:.4f}")
        drawn = length if right >= 0.5 else drawn
    graph = graph_of(network, 1, options.digits, generator)
    batch = ask(graph, drawn, generator)
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
