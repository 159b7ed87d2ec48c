"""Shortest path: a graph is described, then two nodes; the triples of a shortest path are due.

Graves et al. 2016, *Hybrid computing using a neural network with dynamic external memory*. Between
query and answer there are blank steps to plan in. The level is the longest path, with which the
graphs grow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from graphs import (
    Graph,
    digits_of,
    distances,
    knn_graph,
    labelled,
    next_edges,
    one_hot_digits,
    one_of,
    rows_of,
    shuffled,
    triples_of,
)
from memcore import MemcoreError
from task import Batch, Shape, check_sizes, number
from triples import GraphTask, TripleTask, lay_out, logits_of, some_or_all
from underground import graph_of, interchanges
from underground_report import report_on_underground

if TYPE_CHECKING:
    from run import Run

__all__ = ["ShortestPathTask", "due_moves", "shortest_path_batch", "shortest_path_of"]

# Of so many graphs in a row none with a path of the length asked for: there hardly is any.
MOST_DRAWS = 1000


def shortest_path_batch(
    batch: int, nodes: int, neighbours: int, path: int, digits: int, generator: torch.Generator,
    planning: int = 10,
) -> Batch:  # fmt: skip
    """Shortest paths in graphs of `knn_graph`, asked as in `shortest_path_of`.

    Args:
        batch: examples B.
        nodes: of a graph, n.
        neighbours: edges k that leave a node, at most n − 1.
        path: edges p of a shortest path, at most n − 1.
        digits: of a label; at least n and k labels there must be.
        generator: what is drawn from; nothing else is.
        planning: blank steps before the answer.

    Returns:
        Input ``[B, n·k + 1 + planning + p, 3·digits·10 + 2]`` and target ``[B, p, M, 3·digits]``.

    Raises:
        MemcoreError: graphs of that kind with so long a path are too rare.
    """
    check_sizes(path=path, digits=digits)
    edges, _ = knn_graph(batch, nodes, neighbours, generator)
    lacking = torch.arange(batch)
    for _ in range(MOST_DRAWS):
        found = (distances(edges[lacking], nodes) == path).flatten(1).any(1)
        lacking = lacking[~found]
        if not len(lacking):
            break
        edges[lacking] = knn_graph(len(lacking), nodes, neighbours, generator)[0]
    else:
        raise MemcoreError(
            f"path: found no shortest path of {path} edges in graphs of {nodes} nodes with "
            f"{neighbours} neighbours"
        )
    graph = labelled(edges, nodes, digits, generator)
    return shortest_path_of(graph, path, digits, generator, planning)


def shortest_path_of(
    graph: Graph, path: int, digits: int, generator: torch.Generator, planning: int = 10
) -> Batch:
    """The triples of a graph in random order, start and end, blank steps; a shortest path is due.

    Of the steps where an answer is due all but the first show the triple before, of a shortest path
    that was drawn.

    Args:
        graph: in each example of which a shortest path has that length.
        path: edges p of a shortest path.
        digits: of a label.
        generator: what is drawn from; nothing else is.
        planning: blank steps before the answer.

    Returns:
        Input ``[B, E + 1 + planning + p, 3·digits·10 + 2]`` as of `lay_out`, and target
        ``[B, p, M, 3·digits]``: at each step the digits of all edges that shortest paths from
        start to end have there, first that of the path drawn, −1 where there are fewer than M.
        Those are due of which the source is that of the first (`due_moves`).
    """
    check_sizes(path=path, digits=digits)
    check_sizes(0, planning=planning)
    batch, nodes = graph.node_labels.shape
    lengths = distances(graph.edges, nodes)
    pair = lengths.flatten(1) == path
    if not pair.any(1).all():
        raise MemcoreError(f"path: expected a shortest path of {path} edges in each example")
    drawn = one_of(pair, generator)
    start, end = drawn // nodes, drawn % nodes
    at = next_edges(graph.edges, lengths, start, end)
    node, moves, walked = start, [], []
    for step in range(path):
        here = at == step
        edge = one_of(here & (graph.edges[:, :, 0] == node.unsqueeze(1)), generator)
        node = rows_of(graph.edges, edge.unsqueeze(1))[:, 0, 1]
        # The edge drawn first, then the others, then what is not there.
        rank = here.int().scatter(1, edge.unsqueeze(1), 2)
        order = rank.argsort(dim=1, descending=True, stable=True)
        moves.append(order.masked_fill(rank.gather(1, order) == 0, -1))
        walked.append(edge)
    chosen = torch.stack(moves, 1)
    chosen = chosen[:, :, : int((chosen >= 0).sum(2).max())]
    due = triples_of(graph, chosen.flatten(1)).unflatten(1, chosen.shape[1:])
    triples = triples_of(graph)
    answer = torch.full((batch, path, 3), -1)
    answer[:, 1:] = rows_of(triples, torch.stack(walked, 1))[:, :-1]
    labels = graph.node_labels.gather(1, torch.stack((start, end), 1))
    query = torch.stack((labels[:, 0], torch.full_like(start, -1), labels[:, 1]), 1).unsqueeze(1)
    blank = torch.full((batch, planning, 3), -1)
    input = lay_out((shuffled(triples, generator), query, blank, answer), digits)
    return Batch(input, digits_of(due, digits).flatten(3))


def due_moves(target: Tensor) -> Tensor:
    """Which of the moves ``[B, p, M, 3·digits]`` go on from where the first does, ``[B, p, M]``."""
    sources = target[..., : target.shape[3] // 3]
    return (sources == sources[:, :, :1]).all(3) & (sources[..., 0] >= 0)


class ShortestPathTask(GraphTask):
    """A graph, two nodes, blank steps; due is a shortest path between them, whichever.

    Channels in: source, edge and destination, the flags of a new phase and of an answer. Channels
    out: source, edge and destination. While training, what is due follows from the triple shown, so
    that a sequence is one call of the model, and half of the batches have fewer blank steps. In
    tests it is the model's own triple that is shown, and an answer is right if it leads along edges
    from start to end in as few steps as can be.
    """

    name = "shortest_path"
    # With many edges from each node, as with one, long shortest paths are too rare.
    least_neighbours = 2
    most_neighbours = 4
    # With labels of one digit and two edges from the start it is learned, with two digits it was
    # not, with one edge by some seeds (docs/guides/how_to_train.md).
    defaults = TripleTask.defaults | {
        "sequence_max_length": 2,
        "digits": 1,
        "max_nodes": 10,
        "mem_slot": 64,
        "lr": 0.001,
        "clip": 1.0,
    }

    def add_options(self, add: Callable[..., None]) -> None:
        """How many steps there are to plan in."""
        super().add_options(add)
        add("planning_steps", number(int, 0, 2**31 - 1), 10, "most blank steps before the answer")
        add("planning_per_node", number(float, 0, 2**20), 0.0, "so many more for each node")

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """As for all graphs, if the level is not beyond them and the model reads forward only."""
        if options.sequence_max_length > self.longest(options):
            raise SystemExit(
                f"-sequence_max_length {options.sequence_max_length}: expected at most a third of "
                f"-max_nodes {options.max_nodes}, {self.longest(options)}; longer shortest paths "
                "are too rare"
            )
        if options.bidirectional:
            raise SystemExit("-bidirectional: a model that reads backward sees the answer")
        return super().sizes(options)

    def longest(self, options: argparse.Namespace) -> int:
        """A third of the nodes."""
        return options.max_nodes // 3

    def least(self, path: int) -> int:
        """One edge, with which the next is easily found, and two where that is too few."""
        return 1 if path <= 2 else 2

    def shape(self, options: argparse.Namespace, length: int, generator: torch.Generator) -> Shape:
        """As of all graphs, and blank steps: all in half of the batches, else from none to all."""
        nodes, neighbours, path = super().shape(options, length, generator)
        planning = some_or_all(self.planning(options, nodes), generator)
        return nodes, neighbours, path, planning

    def largest(self, options: argparse.Namespace, length: int) -> Shape:
        """As of all graphs, and all blank steps."""
        nodes, neighbours, path = super().largest(options, length)
        return nodes, neighbours, path, self.planning(options, nodes)

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `shortest_path_batch`; the shape is nodes, neighbours, path and planning."""
        nodes, neighbours, path, planning = shape
        return shortest_path_batch(
            batch_size, nodes, neighbours, path, options.digits, generator, planning
        )

    @staticmethod
    def planning(options: argparse.Namespace, nodes: int) -> int:
        """Blank steps before the answer in a graph of so many nodes."""
        return options.planning_steps + round(options.planning_per_node * nodes)

    def answered(self, model: nn.Module, batch: Batch) -> Batch:
        """The batch with the model's own triples shown; due is what goes on from each."""
        steps, width = batch.target.shape[1], batch.target.shape[3]
        begin = batch.input.shape[1] - steps
        input = batch.input.clone()
        output, state, *_ = model(input[:, : begin + 1])
        own = []
        for step in range(1, steps):
            own.append(logits_of(output, 1).argmax(3)[:, 0])
            input[:, begin + step, : 10 * width] = one_hot_digits(own[-1], 1).flatten(1)
            output, state, *_ = model(input[:, begin + step : begin + step + 1], state)
        if not own:
            return batch
        third = width // 3
        target = batch.target.clone()
        node = torch.stack(own, 1)[:, :, None, -third:]
        goes_on = (target[:, 1:, :, :third] == node).all(3)
        order = goes_on.int().argsort(dim=2, descending=True, stable=True)
        moves = target[:, 1:].masked_fill(~goes_on.unsqueeze(3), -1)
        target[:, 1:] = moves.gather(2, order.unsqueeze(3).expand_as(moves))
        return Batch(input, target)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross entropy per digit of that move, of those due, to which it is closest."""
        logarithms = logits_of(output, target.shape[1]).log_softmax(3).unsqueeze(2)
        digits = target.clamp(min=0).unsqueeze(4)
        chosen = logarithms.expand(-1, -1, target.shape[2], -1, -1).gather(4, digits)
        losses = -chosen.squeeze(4).mean(3)
        return losses.masked_fill(~due_moves(target), torch.inf).amin(2).mean()

    def wrong(self, output: Tensor, target: Tensor) -> Tensor:
        """Which triples are none of those due, ``[B, p]``."""
        own = logits_of(output, target.shape[1]).argmax(3).unsqueeze(2)
        return ~((own == target).all(3) & due_moves(target)).any(2)

    def report(self, run: Run) -> None:
        """Shortest paths on the London Underground."""
        nodes = len(interchanges().stations)
        planning = self.planning(run.options, nodes)

        def ask(graph: Graph, length: int, generator: torch.Generator) -> Batch:
            return shortest_path_of(graph, length, run.options.digits, generator, planning)

        farthest = int(
            distances(graph_of(interchanges(), 1, 2, torch.Generator()).edges, nodes).max()
        )
        report_on_underground(run, min(run.level(), farthest), ask)


if __name__ == "__main__":
    from training import main

    main(ShortestPathTask(), "Find a shortest path through a graph that was described.")
