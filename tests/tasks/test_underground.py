"""The London Underground: its table, its graphs, questions about it, its picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from graphs import distances, triples_of
from shortest_path_task import shortest_path_of
from traversal_task import traversal_of
from triple_reading import drawn, phases_of, steps_between
from underground import STATIONS, Network, graph_of, interchanges, lines_of, zone_one
from underground_map import save_underground_picture
from underground_report import edges_of


@pytest.mark.parametrize("network", [zone_one(), interchanges()], ids=["zone one", "interchanges"])
def test_the_underground_is_a_map(network: Network) -> None:
    """There is a way back by the same line, and from each station to each."""
    pairs = {(edge.source, edge.destination, edge.line.name) for edge in network.edges}
    assert pairs == {(end, source, line) for source, end, line in pairs}
    assert len({(edge.source, edge.label) for edge in network.edges}) == len(network.edges)
    assert {edge.source for edge in network.edges} == set(network.stations)
    graph = graph_of(network, 2, 2, drawn(0))
    assert (distances(graph.edges, len(network.stations)) >= 0).all()
    described = triples_of(graph).tolist()
    assert described[0] != described[1]
    for example in described:
        assert len({(source, edge) for source, edge, _ in example}) == len(example)
    for edge in network.edges:  # what is passed is not on the map
        assert not set(edge.via[1:-1]) & set(network.stations)
        stops = edge.line.stations
        for one, other in pairwise(edge.via):
            apart = abs(stops.index(one) - stops.index(other))
            assert apart == 1 or (edge.line.loop and apart == len(stops) - 1)


@pytest.mark.parametrize(
    ("station", "lines"),
    [
        ("Oxford Circus", "Bakerloo, Central, Victoria"),
        ("Bank", "Central, Circle, District, Northern, Waterloo & City"),
        ("Green Park", "Jubilee, Piccadilly, Victoria"),
        ("Baker Street", "Bakerloo, Circle, Hammersmith & City, Jubilee, Metropolitan"),
        ("Embankment", "Bakerloo, Circle, District, Northern"),
        ("Waterloo", "Bakerloo, Jubilee, Northern, Waterloo & City"),
        ("Aldgate", "Circle, Metropolitan"),
        ("Aldgate East", "District, Hammersmith & City"),
        ("Euston", "Northern, Victoria"),
        ("Covent Garden", "Piccadilly"),
        ("Pimlico", "Victoria"),
        ("Southwark", "Jubilee"),
    ],
)
def test_which_lines_serve_a_station(station: str, lines: str) -> None:
    assert lines_of(station) == set(lines.split(", "))


def test_interchanges() -> None:
    network = interchanges()
    assert all(len(lines_of(station)) >= 2 for station in network.stations)
    assert len({line for station in STATIONS for line in lines_of(station)}) == 11
    passed = {"Covent Garden", "Pimlico", "Temple", "Kennington", "Barbican"}
    assert not passed & set(network.stations)
    ways = {(edge.source, edge.label): edge.destination for edge in network.edges}
    assert ways["Oxford Circus", "Central westbound"] == "Bond Street"
    assert ways["Bond Street", "Central westbound"] == "Notting Hill Gate"
    assert ways["Victoria", "District westbound"] == "South Kensington"
    assert ways["Bank", "Northern southbound via Bank"] == "London Bridge"
    assert ways["Edgware Road", "Circle clockwise"] == "Baker Street"
    assert ways["Edgware Road", "Circle anticlockwise"] == "Paddington"


def test_questions_about_the_underground() -> None:
    network = interchanges()
    graph = graph_of(network, 3, 2, drawn(0))
    walk = traversal_of(graph, 4, 2, drawn(0))
    edges = [edge for edge in edges_of(network, graph, walk.target[0]) if edge is not None]
    assert len(edges) == 4
    for one, other in pairwise(edges):
        assert one.destination == other.source
    assert edges_of(network, graph, torch.zeros(1, 6).long()) == [None]
    batch = shortest_path_of(graph, 5, 2, drawn(0))
    for example in batch.input.tolist():
        (described, ((start, _, end),), *_), _ = phases_of(example, 2)
        assert steps_between(described, start, end) == 5


def test_the_map(tmp_path: Path) -> None:
    edges = interchanges().edges[:1]
    save_underground_picture(tmp_path / "map.png", "", edges, [*edges, None])
    assert (tmp_path / "map.png").stat().st_size > 10_000
