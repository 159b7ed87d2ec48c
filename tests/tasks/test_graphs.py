"""Tasks over triples, against plain Python that reads graphs and answers off the inputs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import underground_report
from graphs import (
    distances,
    distinct_labels,
    knn_graph,
    labelled,
    one_hot_digits,
    random_walk,
    triples_of,
)
from memcore import MemcoreError
from options import build_parser
from run import Run
from shortest_path_task import ShortestPathTask, shortest_path_batch, shortest_path_of
from task import Batch, Task
from training import main
from traversal_task import TraversalTask, traversal_batch
from triple_reading import (
    all_paths,
    drawn,
    number,
    phases_of,
    steps_between,
    triples,
)
from triples import GraphTask, TripleTask

seeds = st.integers(0, 2**31)
sizes = st.tuples(st.integers(2, 9), st.integers(1, 4)).filter(lambda pair: pair[1] < pair[0])


@given(seeds, sizes, st.integers(1, 3))
def test_graphs_of_nearest_neighbours(seed: int, size: tuple[int, int], digits: int) -> None:
    nodes, neighbours = size
    edges, points = knn_graph(3, nodes, neighbours, drawn(seed))
    assert edges.shape == (3, nodes * neighbours, 2)
    assert 0 <= float(points.min()) <= float(points.max()) <= 1
    for own, places in zip(edges.tolist(), points.double(), strict=True):
        for node in range(nodes):
            apart = (places - places[node]).square().sum(1).tolist()
            others = sorted((far, at) for at, far in enumerate(apart) if at != node)
            taken = [destination for source, destination in own if source == node]
            assert [apart[at] for at in taken] == pytest.approx(
                [far for far, _ in others[:neighbours]], rel=1e-3
            )
            assert len(set(taken)) == neighbours
    graph = labelled(edges, nodes, digits, drawn(seed))
    for example, labels in zip(triples_of(graph).tolist(), graph.node_labels.tolist(), strict=True):
        assert len(set(labels)) == nodes
        assert len({(source, edge) for source, edge, _ in example}) == len(example)
        assert all(0 <= label < 10**digits for triple in example for label in triple)


@given(seeds, st.integers(1, 100))
def test_labels_differ(seed: int, count: int) -> None:
    labels = distinct_labels(3, count, 2, drawn(seed)).tolist()
    assert all(len(set(row)) == count and set(row) <= set(range(100)) for row in labels)


def test_labels_are_all_as_likely() -> None:
    labels = distinct_labels(20000, 3, 1, drawn(0))
    for place in labels.unbind(1):
        assert (place.bincount(minlength=10) / 20000 - 0.1).abs().max() < 0.01


@given(st.lists(st.integers(-1, 999), min_size=1, max_size=5))
def test_digits(labels: list[int]) -> None:
    shown = one_hot_digits(torch.tensor(labels), 3).tolist()
    assert [number(row) for row in shown] == labels


@given(seeds, sizes)
def test_distances_and_walks(seed: int, size: tuple[int, int]) -> None:
    edges, _ = knn_graph(2, *size, drawn(seed))
    lengths = distances(edges, size[0])
    start = torch.tensor([0, size[0] - 1])
    walks = random_walk(edges, start, 4, drawn(seed))
    for example in range(2):
        described = [(source, 0, end) for source, end in edges[example].tolist()]
        for source in range(size[0]):
            for end in range(size[0]):
                own = steps_between(described, source, end)
                assert lengths[example, source, end] == (-1 if own is None else own)
        node = int(start[example])
        for edge in walks[example].tolist():
            assert edges[example, edge, 0] == node
            node = int(edges[example, edge, 1])


@given(seeds, sizes, st.integers(1, 4), st.integers(1, 2))
def test_traversal(seed: int, size: tuple[int, int], path: int, digits: int) -> None:
    batch = traversal_batch(2, *size, path, digits, drawn(seed))
    assert batch.input.shape == (2, size[0] * size[1] + 2 * path, 30 * digits + 2)
    for example, target in zip(batch.input.tolist(), batch.target.tolist(), strict=True):
        (described, query, answer), due = phases_of(example, digits)
        assert due == [False, False, True]
        assert len(set(described)) == size[0] * size[1]
        assert answer == [(-1, -1, -1)] * path
        assert [asked[0] for asked in query[1:]] == [-1] * (path - 1)
        assert {asked[2] for asked in query} == {-1}
        node, walked = query[0][0], []
        for _, edge, _ in query:
            (triple,) = (own for own in described if own[:2] == (node, edge))
            walked.append(triple)
            node = triple[2]
        assert triples(target) == walked


@given(seeds, st.integers(6, 9), st.integers(2, 3), st.integers(0, 2), st.data())
def test_shortest_path(
    seed: int, nodes: int, neighbours: int, planning: int, data: st.DataObject
) -> None:
    path = data.draw(st.integers(1, nodes // 3))
    batch = shortest_path_batch(2, nodes, neighbours, path, 2, drawn(seed), planning)
    for example, target in zip(batch.input.tolist(), batch.target.tolist(), strict=True):
        phases, due = phases_of(example, 2)
        described, ((start, no_edge, end),), *blank, answer = phases
        assert due == [False, False, *[False for _ in blank], True]
        assert no_edge == -1
        assert [len(own) for own in blank] == ([planning] if planning else [])
        assert len(set(described)) == nodes * neighbours
        assert steps_between(described, start, end) == path
        paths = all_paths(described, start, end, path)
        layers = [[own for own in layer if own[0] >= 0] for layer in target]
        first = tuple(triples([layer[0]])[0] for layer in layers)
        assert first in paths
        assert answer == [(-1, -1, -1), *first[:-1]]
        for step, layer in enumerate(layers):
            assert sorted(triples(layer)) == sorted({own[step] for own in paths})


class Says(nn.Module):
    """Answers with given triples, as digits ``[B, p, 3·digits]``, and keeps what it is shown."""

    def __init__(self, answer: Tensor, begin: int) -> None:
        super().__init__()
        self.answer, self.begin = answer, begin
        self.shown: list[Tensor] = []

    def forward(self, input: Tensor, state: int | None = None) -> tuple[Tensor, int]:
        begin = state or 0
        output = torch.zeros(*input.shape[:2], self.answer.shape[2] * 10)
        for step in range(input.shape[1]):
            if begin + step >= self.begin:
                answer = self.answer[:, begin + step - self.begin]
                output[:, step] = nn.functional.one_hot(answer, 10).flatten(1).float()
        self.shown.append(input)
        return output, begin + input.shape[1]


def freely(batch: Batch, answer: Tensor) -> tuple[tuple[float, ...], Says]:
    """The score of a model that answers this, shown its own answers."""
    task, model = ShortestPathTask(), Says(answer, batch.input.shape[1] - answer.shape[1])
    own = task.answered(model, batch)
    return task.score(model(own.input)[0], own.target), model


def as_digits(path: Any) -> Tensor:
    return torch.tensor(
        [[int(digit) for label in step for digit in f"{label:02d}"] for step in path]
    )


@given(seeds, st.integers(1, 3))
def test_a_free_answer_is_right_if_it_is_a_shortest_path(seed: int, path: int) -> None:
    """And its own triples are shown to the model, not those of the path drawn."""
    batch = shortest_path_batch(1, 8, 3, path, 2, drawn(seed), 1)
    (described, ((start, _, end),), *_), _ = phases_of(batch.input[0].tolist(), 2)
    right = all_paths(described, start, end, path)
    for own in right:
        score, model = freely(batch, as_digits(own).unsqueeze(0))
        assert score == (0, 0)
        shown = [phases_of(model.shown[-1][0].tolist(), 2)[0][-1]]
        assert shown == [[(-1, -1, -1), *own[:-1]]]
    other_walks = {
        (*own[:at], triple, *own[at + 1 :])
        for own in right
        for at in range(path)
        for triple in [*described, (own[at][0], (own[at][1] + 1) % 100, own[at][2])]
    }
    for own in sorted(other_walks)[:20]:
        score, _ = freely(batch, as_digits(own).unsqueeze(0))
        assert (score[0] == 0) == (own in right)


def test_paths_that_cross_are_not_one_path() -> None:
    """Each triple lies on some shortest path, but the second does not begin where the first ends.

    The graph: 0 → 1 → 3, 0 → 2 → 3.
    """
    edges = torch.tensor([[[0, 1], [0, 2], [1, 3], [2, 3]]])
    graph = labelled(edges, 4, 2, drawn(0))._replace(edge_labels=torch.tensor([[5, 6, 7, 8]]))
    graph = graph._replace(node_labels=torch.tensor([[10, 11, 12, 13]]))
    batch = shortest_path_of(graph, 2, 2, drawn(0), 0)
    assert batch.target.shape == (1, 2, 2, 6)
    one = as_digits([(10, 5, 11), (11, 7, 13)]).unsqueeze(0)
    other = as_digits([(10, 6, 12), (12, 8, 13)]).unsqueeze(0)
    crossed = torch.stack((one[:, 0], other[:, 1]), 1)
    assert freely(batch, one)[0] == freely(batch, other)[0] == (0, 0)
    assert freely(batch, crossed)[0] == (1, 0.5)


def test_the_loss_is_that_of_the_closest_move() -> None:
    """At the first step either move is right; then the one that goes on from what is shown."""
    edges = torch.tensor([[[0, 1], [0, 2], [1, 3], [2, 3]]])
    graph = labelled(edges, 4, 1, drawn(0))._replace(node_labels=torch.tensor([[1, 2, 3, 4]]))
    graph = graph._replace(edge_labels=torch.tensor([[5, 6, 7, 8]]))
    task, output = ShortestPathTask(), torch.randn(1, 7, 30, generator=drawn(1))
    moves = [(1, 5, 2), (1, 6, 3)], [(2, 7, 4), (3, 8, 4)]
    logarithms = output[0, -2:].unflatten(1, (3, 10)).log_softmax(2)
    seen = set()
    for seed in range(9):
        target = shortest_path_of(graph, 2, 1, drawn(seed), 0).target
        shown = triples(target[0, 0, :1].tolist())[0]
        seen.add(shown)
        first = min(
            -sum(float(logarithms[0, at, digit]) for at, digit in enumerate(own)) / 3
            for own in moves[0]
        )
        (then,) = (own for own in moves[1] if own[0] == shown[2])
        second = -sum(float(logarithms[1, at, digit]) for at, digit in enumerate(then)) / 3
        assert task.loss(output, target).item() == pytest.approx((first + second) / 2, rel=1e-5)
    assert seen == set(moves[0])


def options_of(task: TripleTask, *arguments: str) -> argparse.Namespace:
    return build_parser("", task.add_options, **task.defaults).parse_args(arguments)


@pytest.mark.parametrize("kind", [TraversalTask, ShortestPathTask])
def test_graphs_grow_with_the_level(kind: type[GraphTask]) -> None:
    task, generator = kind(), drawn(0)
    own = options_of(task, "-max_nodes", "20")
    shapes = [task.shape(own, 3, generator) for _ in range(300)]
    assert {shape[0] for shape in shapes} == {9, 10, 11, 12}
    neighbours = {path: {shape[1] for shape in shapes if shape[2] == path} for path in (1, 2, 3)}
    least = 2 if kind is ShortestPathTask else 1
    assert neighbours == {1: {1, 2, 3}, 2: {1, 2, 3}, 3: set(range(least, 4))}
    assert {task.shape(own, 9, generator)[0] for _ in range(9)} == {20}
    (test,) = task.tests(own, 2, 5, generator)
    assert test.target.shape[:2] == (5, 2)
    for _ in range(50):  # at a length of 1 there are few nodes
        task.batch(own, task.shape(own, 1, generator), 2, generator)


def test_planning_grows_with_the_graph() -> None:
    task = ShortestPathTask()
    own = options_of(
        task, *"-planning_steps 4 -planning_per_node 0.5 -max_nodes 30 -digits 2".split()
    )
    assert [task.planning(own, nodes) for nodes in (3, 4, 9)] == [6, 6, 8]
    generator = drawn(0)
    shapes = [task.shape(own, 3, generator) for _ in range(1000)]
    assert {planning for nodes, _, _, planning in shapes if nodes == 10} == set(range(10))
    (test,) = task.tests(own, 3, 2, drawn(0))
    assert test.input.shape[1] == 36 + 1 + 10 + 3


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (
            TraversalTask(),
            "-digits 1",
            "-max_nodes 30: with -digits 1 there are 10 labels, expected -digits 2",
        ),
        (
            TraversalTask(),
            "-max_nodes 5 -max_neighbours 5",
            "-max_neighbours 5: expected at most 4 with -max_nodes 5",
        ),
        (
            ShortestPathTask(),
            "-sequence_max_length 4 -max_nodes 9",
            "-sequence_max_length 4: expected at most a third of -max_nodes 9, 3;",
        ),
        (ShortestPathTask(), "-bidirectional", "-bidirectional: a model that reads backward"),
    ],
)
def test_options_that_exclude_each_other(task: TripleTask, arguments: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        task.sizes(options_of(task, *arguments.split()))


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(MemcoreError, match="^neighbours: expected at most 3 with 4 nodes, got 4"):
        traversal_batch(2, 4, 4, 1, 1, drawn(0))
    with pytest.raises(MemcoreError, match="^digits: 11 labels that differ need more than 1"):
        traversal_batch(2, 11, 1, 1, 1, drawn(0))
    with pytest.raises(MemcoreError, match="^path: found no shortest path of 4 edges in graphs"):
        shortest_path_batch(2, 4, 2, 4, 1, drawn(0))
    graph = labelled(knn_graph(2, 3, 2, drawn(0))[0], 3, 1, drawn(0))
    with pytest.raises(MemcoreError, match="^path: expected a shortest path of 3 edges in each"):
        shortest_path_of(graph, 3, 1, drawn(0))
    with pytest.raises(MemcoreError, match="^planning: expected an int of at least 0, got -1"):
        shortest_path_batch(2, 4, 2, 1, 1, drawn(0), -1)


SMALL = (
    "-batch_size 3 -nhid 8 -mem_slot 12 -mem_size 4 -read_heads 1 -max_nodes 9 -digits 2 "
    "-test_size 5 -sequence_max_length 1"
)


@pytest.mark.parametrize("memory", ["dnc", "sam"])
def test_a_test_answers_step_by_step(memory: str) -> None:
    """What is fed back is what the model says, seen in one call over all of it."""
    task = ShortestPathTask()
    own = options_of(task, *SMALL.split(), "-memory_type", memory, "-backend", "reference")
    run = Run(task, own, torch.device("cpu"))
    (batch,) = task.tests(own, 3, 5, drawn(0))
    run.model.eval()
    with torch.no_grad():
        answered = task.answered(run.model, batch)
        output = run.model(answered.input)[0][:, -3:-1]
    shown = answered.input[:, -2:, :60]
    assert torch.equal(
        output.unflatten(2, (6, 10)).argmax(3), shown.unflatten(2, (6, 10)).argmax(3)
    )
    assert torch.equal(answered.input[:, :-2], batch.input[:, :-2])
    assert run.test(3, drawn(0))[0] == 1  # untrained


@pytest.fixture
def no_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(underground_report, "save_underground_picture", lambda *_: None)


@pytest.mark.usefixtures("no_pictures", "no_map")
@pytest.mark.parametrize("task", [TraversalTask(), ShortestPathTask()], ids=lambda task: task.name)
def test_a_run(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The curriculum never asks for more than there can be."""
    arguments = f"{SMALL} -curriculum_threshold 9 -curriculum_window 1 -iterations 6"
    main(task, "", [*arguments.split(), "-checkpoint_dir", str(tmp_path)])
    rows = (tmp_path / f"{task.name}_dnc.csv").read_text().splitlines()[1:]
    levels = [int(row.rpartition(",")[2]) for row in rows]
    assert levels == ([1, 2, 3, 4, 5, 6] if task.name == "traversal" else [1, 2, 3, 3, 3, 3])
    said = capsys.readouterr().out
    assert "share of wrong answers" in said
    assert (
        "on the London Underground (31 interchanges, 160 edges, with 192 slots in place of 12)"
        in said
    )


@pytest.mark.usefixtures("no_pictures")
def test_a_run_with_labels_too_few_for_the_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is the default."""
    arguments = "-batch_size 3 -nhid 8 -mem_slot 12 -mem_size 4 -test_size 5 -iterations 1"
    main(ShortestPathTask(), "", [*arguments.split(), "-checkpoint_dir", str(tmp_path)])
    said = (
        "no test on the London Underground: for its 31 stations there are 10 labels, with -digits 1"
    )
    assert said in capsys.readouterr().out
