"""Graphs and questions, read off the inputs of tasks over triples by plain Python."""

from __future__ import annotations

from collections import deque

import torch

__all__ = ["Triple", "all_paths", "drawn", "number", "phases_of", "steps_between", "triples"]

Triple = tuple[int, int, int]


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def number(digits: list[float]) -> int:
    """The number that one-hot digits show; −1: nothing."""
    if not any(digits):
        return -1
    assert set(digits) == {0, 1}
    places = [digits[at : at + 10] for at in range(0, len(digits), 10)]
    assert all(sum(place) == 1 for place in places)
    return int("".join(str(place.index(1)) for place in places))


def phases_of(example: list[list[float]], digits: int) -> tuple[list[list[Triple]], list[bool]]:
    """The triples of each phase, and in which an answer is due."""
    phases: list[list[Triple]] = []
    due = []
    for step in example:
        width = 10 * digits
        triple = tuple(number(step[at : at + width]) for at in range(0, 3 * width, width))
        begins, answer = step[3 * width :]
        assert {begins, answer} <= {0, 1}
        if begins:
            phases.append([])
            due.append(bool(answer))
        assert due[-1] == answer
        phases[-1].append(triple)  # pyright: ignore
    return phases, due


def triples(digits: list[list[int]]) -> list[Triple]:
    """The triples of a target ``[p, 3·digits]``."""
    third = len(digits[0]) // 3
    return [
        tuple(int("".join(map(str, row[at : at + third]))) for at in range(0, 3 * third, third))
        for row in digits
    ]  # pyright: ignore


def steps_between(described: list[Triple], start: int, end: int) -> int | None:
    """The length of a shortest path, by breadth first search."""
    found, queue = {start: 0}, deque([start])
    while queue:
        node = queue.popleft()
        for source, _, destination in described:
            if source == node and destination not in found:
                found[destination] = found[node] + 1
                queue.append(destination)
    return found.get(end)


def all_paths(described: list[Triple], start: int, end: int, length: int) -> set:
    """Every path of that length, as tuples of triples."""
    if length == 0:
        return {()} if start == end else set()
    return {
        (triple, *rest)
        for triple in described
        if triple[0] == start
        for rest in all_paths(described, triple[2], end, length - 1)
    }
