"""Traversal: a graph is described, then a walk by its edges; the triples of the walk are due.

Graves et al. 2016, *Hybrid computing using a neural network with dynamic external memory*. The
level is the longest walk, with which the graphs grow.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import torch

from graphs import (
    Graph,
    digits_of,
    knn_graph,
    labelled,
    random_walk,
    rows_of,
    shuffled,
    triples_of,
)
from task import Batch, Shape, check_sizes
from triples import GraphTask, lay_out
from underground_report import report_on_underground

if TYPE_CHECKING:
    from run import Run

__all__ = ["TraversalTask", "traversal_batch", "traversal_of"]


def traversal_batch(
    batch: int, nodes: int, neighbours: int, path: int, digits: int, generator: torch.Generator
) -> Batch:
    """Walks in graphs of `knn_graph`, asked as in `traversal_of`.

    Args:
        batch: examples B.
        nodes: of a graph, n.
        neighbours: edges k that leave a node, at most n − 1.
        path: edges p of a walk.
        digits: of a label; at least n and k labels there must be.
        generator: what is drawn from; nothing else is.

    Returns:
        Input ``[B, n·k + 2·p, 3·digits·10 + 2]`` and target ``[B, p, 3·digits]``.
    """
    check_sizes(path=path, digits=digits)
    edges, _ = knn_graph(batch, nodes, neighbours, generator)
    return traversal_of(labelled(edges, nodes, digits, generator), path, digits, generator)


def traversal_of(graph: Graph, path: int, digits: int, generator: torch.Generator) -> Batch:
    """The triples of a graph in random order, a walk's start and edges, blank steps; it is due.

    The first step of the query shows the start and the first edge, each further one the next edge.

    Args:
        graph: of which an edge at least leaves each node.
        path: edges p of a walk.
        digits: of a label.
        generator: what is drawn from; nothing else is.

    Returns:
        Input ``[B, E + 2·p, 3·digits·10 + 2]`` as of `lay_out`, and target ``[B, p, 3·digits]``:
        the digits of the triples of the walk, in order.
    """
    check_sizes(path=path, digits=digits)
    batch, nodes = graph.node_labels.shape
    start = torch.randint(0, nodes, (batch,), generator=generator)
    triples = triples_of(graph)
    due = rows_of(triples, random_walk(graph.edges, start, path, generator))
    query = torch.full_like(due, -1)
    query[:, 0, 0], query[:, :, 1] = due[:, 0, 0], due[:, :, 1]
    phases = (shuffled(triples, generator), query, torch.full_like(due, -1))
    return Batch(lay_out(phases, digits), digits_of(due, digits).flatten(2))


class TraversalTask(GraphTask):
    """A graph, the start and the edges of a walk, blank steps; due are the walk's triples.

    Channels in: source, edge and destination, the flags of a new phase and of an answer. Channels
    out: source, edge and destination.
    """

    name = "traversal"

    def batch(
        self, options: argparse.Namespace, shape: Shape, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Of `traversal_batch`; the shape is nodes, neighbours and path."""
        nodes, neighbours, path = shape
        return traversal_batch(batch_size, nodes, neighbours, path, options.digits, generator)

    def report(self, run: Run) -> None:
        """Walks on the London Underground."""

        def ask(graph: Graph, length: int, generator: torch.Generator) -> Batch:
            return traversal_of(graph, length, run.options.digits, generator)

        report_on_underground(run, run.level(), ask)


if __name__ == "__main__":
    from training import main

    main(TraversalTask(), "Follow edges through a graph that was described, from node to node.")
