"""Zone 1 of the London Underground as a graph, and the map of its interchanges.

Facts: where a line runs and what its directions are called. Stations that trains reach from zone 1
only through another zone are left out; Bank and Monument are one station. Edges are labelled by
line, direction and, where a line branches, the branch, so that those that leave a station differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import NamedTuple

import torch

from graphs import Graph, distinct_labels
from task import check_sizes

__all__ = [
    "LINES",
    "STATIONS",
    "Edge",
    "Line",
    "Network",
    "graph_of",
    "interchanges",
    "lines_of",
    "zone_one",
]


class Line(NamedTuple):
    """A line, or a branch of one, in zone 1."""

    name: str
    color: str  # the official one
    forth: str  # the direction in which the stations stand
    back: str
    stations: tuple[str, ...]
    loop: bool = False


class Edge(NamedTuple):
    """From a station to the next by a line."""

    source: str
    label: str  # the line and its direction
    destination: str
    line: Line
    via: tuple[str, ...]  # all stations on the way, both ends too


class Network(NamedTuple):
    """Stations and the edges among them."""

    stations: tuple[str, ...]
    edges: tuple[Edge, ...]


# Longitude and latitude.
STATIONS: dict[str, tuple[float, float]] = {
    "Aldgate": (-0.076, 51.514),
    "Aldgate East": (-0.072, 51.515),
    "Angel": (-0.106, 51.532),
    "Baker Street": (-0.157, 51.523),
    "Bank": (-0.088, 51.513),
    "Barbican": (-0.098, 51.520),
    "Battersea Power Station": (-0.143, 51.480),
    "Bayswater": (-0.188, 51.512),
    "Blackfriars": (-0.104, 51.512),
    "Bond Street": (-0.149, 51.514),
    "Borough": (-0.094, 51.501),
    "Cannon Street": (-0.091, 51.511),
    "Chancery Lane": (-0.111, 51.518),
    "Charing Cross": (-0.125, 51.508),
    "Covent Garden": (-0.124, 51.513),
    "Earl's Court": (-0.194, 51.491),
    "Edgware Road": (-0.168, 51.520),
    "Edgware Road (Bakerloo)": (-0.170, 51.521),
    "Elephant & Castle": (-0.100, 51.494),
    "Embankment": (-0.122, 51.507),
    "Euston": (-0.133, 51.528),
    "Euston Square": (-0.136, 51.525),
    "Farringdon": (-0.105, 51.520),
    "Gloucester Road": (-0.183, 51.494),
    "Goodge Street": (-0.134, 51.521),
    "Great Portland Street": (-0.144, 51.524),
    "Green Park": (-0.143, 51.507),
    "High Street Kensington": (-0.192, 51.501),
    "Holborn": (-0.120, 51.517),
    "Hyde Park Corner": (-0.153, 51.503),
    "Kennington": (-0.106, 51.488),
    "King's Cross St Pancras": (-0.124, 51.530),
    "Knightsbridge": (-0.161, 51.501),
    "Lambeth North": (-0.112, 51.499),
    "Lancaster Gate": (-0.176, 51.512),
    "Leicester Square": (-0.128, 51.511),
    "Liverpool Street": (-0.083, 51.518),
    "London Bridge": (-0.086, 51.505),
    "Mansion House": (-0.094, 51.512),
    "Marble Arch": (-0.159, 51.514),
    "Marylebone": (-0.163, 51.522),
    "Moorgate": (-0.089, 51.519),
    "Nine Elms": (-0.128, 51.480),
    "Notting Hill Gate": (-0.197, 51.509),
    "Old Street": (-0.088, 51.526),
    "Oxford Circus": (-0.142, 51.515),
    "Paddington": (-0.176, 51.516),
    "Piccadilly Circus": (-0.134, 51.510),
    "Pimlico": (-0.133, 51.489),
    "Queensway": (-0.187, 51.510),
    "Regent's Park": (-0.147, 51.523),
    "Russell Square": (-0.124, 51.523),
    "Sloane Square": (-0.157, 51.492),
    "South Kensington": (-0.174, 51.494),
    "Southwark": (-0.105, 51.504),
    "St James's Park": (-0.134, 51.499),
    "St Paul's": (-0.098, 51.515),
    "Temple": (-0.114, 51.511),
    "Tottenham Court Road": (-0.131, 51.516),
    "Tower Hill": (-0.077, 51.510),
    "Vauxhall": (-0.124, 51.486),
    "Victoria": (-0.145, 51.497),
    "Warren Street": (-0.138, 51.525),
    "Waterloo": (-0.113, 51.504),
    "Westminster": (-0.125, 51.501),
}

EAST_WEST = ("eastbound", "westbound")
NORTH_SOUTH = ("northbound", "southbound")
SOUTH_NORTH = ("southbound", "northbound")

LINES: tuple[Line, ...] = (
    Line(
        "Bakerloo", "#B36305", *SOUTH_NORTH,
        (
            "Paddington", "Edgware Road (Bakerloo)", "Marylebone", "Baker Street",
            "Regent's Park", "Oxford Circus", "Piccadilly Circus", "Charing Cross", "Embankment",
            "Waterloo", "Lambeth North", "Elephant & Castle",
        ),
    ),
    Line(
        "Central", "#E32017", *EAST_WEST,
        (
            "Notting Hill Gate", "Queensway", "Lancaster Gate", "Marble Arch", "Bond Street",
            "Oxford Circus", "Tottenham Court Road", "Holborn", "Chancery Lane", "St Paul's",
            "Bank", "Liverpool Street",
        ),
    ),
    Line(
        "Circle", "#FFD300", "anticlockwise", "clockwise",
        (
            "Edgware Road", "Paddington", "Bayswater", "Notting Hill Gate",
            "High Street Kensington", "Gloucester Road", "South Kensington", "Sloane Square",
            "Victoria", "St James's Park", "Westminster", "Embankment", "Temple", "Blackfriars",
            "Mansion House", "Cannon Street", "Bank", "Tower Hill", "Aldgate", "Liverpool Street",
            "Moorgate", "Barbican", "Farringdon", "King's Cross St Pancras", "Euston Square",
            "Great Portland Street", "Baker Street",
        ),
        loop=True,
    ),
    Line(
        "District", "#00782A", *EAST_WEST,
        (
            "Earl's Court", "Gloucester Road", "South Kensington", "Sloane Square", "Victoria",
            "St James's Park", "Westminster", "Embankment", "Temple", "Blackfriars",
            "Mansion House", "Cannon Street", "Bank", "Tower Hill", "Aldgate East",
        ),
    ),
    Line(
        "District", "#00782A", *NORTH_SOUTH,
        (
            "Earl's Court", "High Street Kensington", "Notting Hill Gate", "Bayswater",
            "Paddington", "Edgware Road",
        ),
    ),
    Line(
        "Hammersmith & City", "#F3A9BB", *EAST_WEST,
        (
            "Paddington", "Edgware Road", "Baker Street", "Great Portland Street",
            "Euston Square", "King's Cross St Pancras", "Farringdon", "Barbican", "Moorgate",
            "Liverpool Street", "Aldgate East",
        ),
    ),
    Line(
        "Jubilee", "#A0A5A9", *SOUTH_NORTH,
        (
            "Baker Street", "Bond Street", "Green Park", "Westminster", "Waterloo", "Southwark",
            "London Bridge",
        ),
    ),
    Line(
        "Metropolitan", "#9B0056", *SOUTH_NORTH,
        (
            "Baker Street", "Great Portland Street", "Euston Square", "King's Cross St Pancras",
            "Farringdon", "Barbican", "Moorgate", "Liverpool Street", "Aldgate",
        ),
    ),
    Line(
        "Northern", "#000000", "southbound via Charing Cross", "northbound via Charing Cross",
        (
            "Euston", "Warren Street", "Goodge Street", "Tottenham Court Road",
            "Leicester Square", "Charing Cross", "Embankment", "Waterloo", "Kennington",
            "Nine Elms", "Battersea Power Station",
        ),
    ),
    Line(
        "Northern", "#000000", "southbound via Bank", "northbound via Bank",
        (
            "Euston", "King's Cross St Pancras", "Angel", "Old Street", "Moorgate", "Bank",
            "London Bridge", "Borough", "Elephant & Castle", "Kennington",
        ),
    ),
    Line(
        "Piccadilly", "#003688", *EAST_WEST,
        (
            "Earl's Court", "Gloucester Road", "South Kensington", "Knightsbridge",
            "Hyde Park Corner", "Green Park", "Piccadilly Circus", "Leicester Square",
            "Covent Garden", "Holborn", "Russell Square", "King's Cross St Pancras",
        ),
    ),
    Line(
        "Victoria", "#0098D4", *NORTH_SOUTH,
        (
            "Vauxhall", "Pimlico", "Victoria", "Green Park", "Oxford Circus", "Warren Street",
            "Euston", "King's Cross St Pancras",
        ),
    ),
    Line("Waterloo & City", "#95CDBA", *EAST_WEST, ("Waterloo", "Bank")),
)  # fmt: skip


def zone_one() -> Network:
    """All stations."""
    return _network(STATIONS)


def interchanges() -> Network:
    """The stations where one can change to a line that goes elsewhere; the others are passed.

    So stations that only one line serves are passed, and those through which several lines run on
    from the same station to the same.
    """
    next_to: dict[str, dict[Line, set[str]]] = {station: {} for station in STATIONS}
    for edge in zone_one().edges:
        next_to[edge.source].setdefault(edge.line, set()).add(edge.destination)
    ways = {station: list(own.values()) for station, own in next_to.items()}
    return _network(
        [
            station
            for station, own in ways.items()
            if len(lines_of(station)) > 1 and any(way != own[0] for way in own)
        ]
    )


def lines_of(station: str) -> set[str]:
    """The names of the lines that serve a station."""
    return {line.name for line in LINES if station in line.stations}


def _network(stations: Collection[str]) -> Network:
    """The graph of some stations; trains pass the others."""
    edges = []
    for line in LINES:
        stops = list(line.stations)
        if line.loop:  # from a stop that is kept once round to it
            begin = next(at for at, stop in enumerate(stops) if stop in stations)
            stops = [*stops[begin:], *stops[: begin + 1]]
        kept = [at for at, stop in enumerate(stops) if stop in stations]
        for first, last in itertools.pairwise(kept):
            via = tuple(stops[first : last + 1])
            for direction, way in ((line.forth, via), (line.back, via[::-1])):
                edges.append(Edge(way[0], f"{line.name} {direction}", way[-1], line, way))
    return Network(tuple(sorted(stations)), tuple(edges))


def graph_of(network: Network, batch: int, digits: int, generator: torch.Generator) -> Graph:
    """The network with labels drawn anew for each example.

    Args:
        network: of n stations, and E edges with fewer names than there are labels.
        batch: examples B.
        digits: of a label.
        generator: what is drawn from; nothing else is.

    Returns:
        A graph of which the nodes are the stations, in the network's order, and so are the edges;
        edges of one name have one label.
    """
    check_sizes(batch=batch, digits=digits)
    names = sorted({edge.label for edge in network.edges})
    station_at = {station: at for at, station in enumerate(network.stations)}
    edges = torch.tensor(
        [[station_at[edge.source], station_at[edge.destination]] for edge in network.edges]
    )
    kinds = torch.tensor([names.index(edge.label) for edge in network.edges])
    node_labels = distinct_labels(batch, len(network.stations), digits, generator)
    edge_labels = distinct_labels(batch, len(names), digits, generator)[:, kinds]
    return Graph(edges.repeat(batch, 1, 1), node_labels, edge_labels)
