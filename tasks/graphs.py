"""Random directed graphs with numbers for names, in batches, and what is asked about them.

As in Graves et al. 2016, *Hybrid computing using a neural network with dynamic external memory*:
points in a square, each with edges to its nearest neighbours. A graph is described by triples of
labels, (source, edge, destination).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from memcore import MemcoreError
from task import check_sizes

__all__ = [
    "Graph", "digits_of", "distances", "distinct_labels", "knn_graph", "labelled", "next_edges",
    "one_hot_digits", "one_of", "random_walk", "rows_of", "shuffled", "triples_of",
]  # fmt: skip


class Graph(NamedTuple):
    """Graphs with equally many nodes and edges."""

    edges: Tensor  # [B, E, 2] nodes, from 0: source and destination
    node_labels: Tensor  # [B, n], distinct in an example
    edge_labels: Tensor  # [B, E], distinct among the edges that leave a node


def knn_graph(
    batch: int, nodes: int, neighbours: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Points drawn from the unit square, with edges from each to those nearest to it.

    Args:
        batch: examples B.
        nodes: points n.
        neighbours: edges k that leave a node, at most n − 1.
        generator: what is drawn from; nothing else is.

    Returns:
        Edges ``[B, n·k, 2]``, in order of the source, nearest destination first; and the points
        ``[B, n, 2]``.
    """
    check_sizes(batch=batch, neighbours=neighbours)
    check_sizes(2, nodes=nodes)
    if neighbours >= nodes:
        raise MemcoreError(
            f"neighbours: expected at most {nodes - 1} with {nodes} nodes, got {neighbours}"
        )
    points = torch.rand(batch, nodes, 2, generator=generator)
    apart = (points.unsqueeze(1) - points.unsqueeze(2)).square().sum(3)
    apart.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest = apart.topk(neighbours, dim=2, largest=False).indices.flatten(1)
    sources = torch.arange(nodes).repeat_interleave(neighbours).expand(batch, -1)
    return torch.stack((sources, nearest), 2), points


def distinct_labels(rows: int, count: int, digits: int, generator: torch.Generator) -> Tensor:
    """Random numbers of so many digits ``[rows, count]``, all different in each row."""
    check_sizes(rows=rows, count=count, digits=digits)
    if digits > 18:
        raise MemcoreError(f"digits: expected at most 18, got {digits}")
    limit = 10**digits
    if count > limit:
        raise MemcoreError(f"digits: {count} labels that differ need more than {digits}")
    # Floyd's: the set of the first so many numbers grows by one, and each set is as likely.
    labels = torch.full((rows, count), -1)
    for at in range(count):
        last = limit - count + at
        drawn = torch.randint(0, last + 1, (rows,), generator=generator)
        taken = (labels == drawn.unsqueeze(1)).any(1)
        labels[:, at] = drawn.where(~taken, torch.tensor(last))
    return shuffled(labels, generator)


def labelled(edges: Tensor, nodes: int, digits: int, generator: torch.Generator) -> Graph:
    """The graphs of `knn_graph` with labels drawn anew for each example."""
    batch, count, _ = edges.shape
    node_labels = distinct_labels(batch, nodes, digits, generator)
    edge_labels = distinct_labels(batch * nodes, count // nodes, digits, generator)
    return Graph(edges, node_labels, edge_labels.reshape(batch, count))


def triples_of(graph: Graph, chosen: Tensor | None = None) -> Tensor:
    """Labels of source, edge and destination ``[B, E, 3]``, or ``[B, K, 3]`` of edges ``[B, K]``.

    A chosen edge of −1 gives labels of −1.
    """
    edges, labels = graph.edges, graph.edge_labels
    sources = graph.node_labels.gather(1, edges[:, :, 0])
    destinations = graph.node_labels.gather(1, edges[:, :, 1])
    triples = torch.stack((sources, labels, destinations), 2)
    if chosen is None:
        return triples
    return rows_of(triples, chosen.clamp(min=0)).masked_fill(chosen.unsqueeze(2) < 0, -1)


def rows_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Of values ``[B, E, X]`` those at places ``[B, K]``, as ``[B, K, X]``."""
    return values.gather(1, chosen.unsqueeze(2).expand(-1, -1, values.shape[2]))


def shuffled(values: Tensor, generator: torch.Generator) -> Tensor:
    """Values ``[B, E]`` or ``[B, E, X]``, each example in another random order."""
    order = torch.rand(values.shape[:2], generator=generator).argsort(1)
    return values.gather(1, order) if values.dim() == 2 else rows_of(values, order)


def digits_of(labels: Tensor, digits: int) -> Tensor:
    """The digits of labels ``[...]``, highest first, ``[..., digits]``; those of −1 are −1."""
    powers = 10 ** torch.arange(digits - 1, -1, -1, device=labels.device)
    shown = labels.unsqueeze(-1)
    return (shown.clamp(min=0) // powers % 10).masked_fill(shown < 0, -1)


def one_hot_digits(labels: Tensor, digits: int) -> Tensor:
    """Each digit of labels ``[...]`` as one of ten, ``[..., digits·10]``; −1 is all zeros."""
    numbers = torch.arange(10, device=labels.device)
    return (digits_of(labels, digits).unsqueeze(-1) == numbers).flatten(-2).float()


def random_walk(edges: Tensor, start: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Walk from node to node, along an edge drawn from those that leave it.

    Args:
        edges: ``[B, E, 2]``; one at least must leave each node that can be reached.
        start: nodes ``[B]``.
        steps: how far.
        generator: what is drawn from; nothing else is.

    Returns:
        The edges taken, places in ``edges``, ``[B, steps]``.
    """
    check_sizes(steps=steps)
    taken, node = [], start
    for _ in range(steps):
        edge = one_of(edges[:, :, 0] == node.unsqueeze(1), generator)
        node = rows_of(edges, edge.unsqueeze(1))[:, 0, 1]
        taken.append(edge)
    return torch.stack(taken, 1)


def one_of(allowed: Tensor, generator: torch.Generator) -> Tensor:
    """The place of one drawn from those that are True in each row of ``[B, X]``, ``[B]``."""
    drawn = torch.rand(allowed.shape, generator=generator)
    return drawn.masked_fill(~allowed, -1).argmax(1)


def distances(edges: Tensor, nodes: int) -> Tensor:
    """The least number of edges ``[B, E, 2]`` from each node to each, ``[B, n, n]``; −1: no way."""
    batch, count, _ = edges.shape
    every = torch.arange(batch).unsqueeze(1).expand(batch, count)
    adjacent = torch.zeros(batch, nodes, nodes)
    adjacent[every, edges[:, :, 0], edges[:, :, 1]] = 1
    reached = torch.eye(nodes).repeat(batch, 1, 1)
    found = reached.long() - 1
    for step in range(1, nodes):
        reached = (reached @ adjacent).clamp(max=1)
        fresh = (reached > 0) & (found < 0)
        if not fresh.any():
            break
        found[fresh] = step
    return found


def next_edges(edges: Tensor, lengths: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Where an edge lies on the shortest paths between two nodes.

    Args:
        edges: ``[B, E, 2]``.
        lengths: of `distances`, ``[B, n, n]``.
        start: nodes ``[B]``.
        end: nodes ``[B]``, which can be reached from there.

    Returns:
        ``[B, E]``: 0 for the edges with which such a path can begin, 1 for those that come second
        and so on; −1 for edges on none.
    """
    every = torch.arange(len(edges))
    before = lengths[every, start].gather(1, edges[:, :, 0])
    after = lengths[every, :, end].gather(1, edges[:, :, 1])
    path = lengths[every, start, end].unsqueeze(1)
    on_path = (before >= 0) & (after >= 0) & (before + 1 + after == path)
    return before.where(on_path, torch.tensor(-1))
