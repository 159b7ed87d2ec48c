"""Recency and links as values: cleared ones are new ones, dictionaries share nothing with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from memcore import Recency, SparseLinks

SLOTS, READS = 130, 3  # of the two in the last block of the recency both are accessed
kinds = pytest.mark.parametrize("kind", [Recency, SparseLinks])


def new(kind: Any) -> Any:
    return Recency(3, SLOTS) if kind is Recency else SparseLinks(3, SLOTS, READS)


def used(kind: Any, seed: int = 0) -> Any:
    """After some steps, in the first and the last slots of each example."""
    value, generator = new(kind), torch.Generator().manual_seed(seed)
    for _ in range(12):
        index = torch.randint(12, (3, 6), generator=generator)
        index = torch.where(index < 6, index, SLOTS - index + 5)
        if kind is Recency:
            value = value.accessed(index, torch.ones(3, 6, dtype=torch.bool))
        else:
            value = value.written(index, torch.rand(3, 6, generator=generator) / 6)
    return value


def fields(value: Any) -> dict[str, Tensor]:
    """All that it holds, with the batch in front."""
    buffers = value.version.look(lambda buffers: [buffer.clone() for buffer in buffers])
    # The last table of links is scratch, whose content says nothing.
    tables = buffers[:3] if isinstance(value, SparseLinks) else buffers
    found = {f"table {at}": table.view(3, -1) for at, table in enumerate(tables)}
    found |= {f"carried {at}": one.clone() for at, one in enumerate(value.carried)}
    if isinstance(value, Recency):
        return {**found, "time": value.time, "least": value.least()}
    return found | dict(zip(("on", "weights"), value.precedence(), strict=True))


def equal(one: Any, other: Any, examples: list[int]) -> None:
    ours, theirs = fields(one), fields(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name][examples], theirs[name][examples]), name
        assert ours[name].dtype == theirs[name].dtype, name


@kinds
def test_a_cleared_one_is_a_new_one_field_by_field(kind: Any) -> None:
    value, before = used(kind), fields(used(kind))
    equal(value.cleared(torch.ones(3, dtype=torch.bool)), new(kind), [0, 1, 2])
    some = value.cleared(torch.tensor([True, False, True]))
    equal(some, new(kind), [0, 2])
    equal(some, value, [1])
    assert all(torch.equal(fields(value)[name], before[name]) for name in before)


@kinds
def test_a_cleared_one_goes_on_as_a_new_one(kind: Any) -> None:
    index, one = torch.arange(6).expand(3, 6), used(kind).cleared(torch.ones(3, dtype=torch.bool))
    other = new(kind)
    for shift in range(3):
        if kind is Recency:
            which = index % 2 == shift % 2
            one, other = one.accessed(index + shift, which), other.accessed(index + shift, which)
        else:
            weights = (index + 1) / 40
            one, other = one.written(index + shift, weights), other.written(index + shift, weights)
        equal(one, other, [0, 1, 2])


@kinds
def test_a_dictionary_shares_nothing_with_the_value(kind: Any) -> None:
    """Neither that which it gave nor that of which it was made."""
    value = used(kind)
    before, saved = fields(value), value.to_dict()
    loaded = kind.from_dict(saved)
    equal(loaded, value, [0, 1, 2])
    for part in saved.values():
        part.fill_(1)
    for one in (value, loaded):
        assert all(torch.equal(own, before[name]) for name, own in fields(one).items())
    saved = value.to_dict()
    kept = {name: part.clone() for name, part in saved.items()}
    one = kind.from_dict(saved)
    for seed in range(3):
        one = used(kind, seed) if seed else one
        for part in one.carried:
            part.fill_(0)
    assert all(torch.equal(saved[name], kept[name]) for name in kept)


def test_a_precedence_that_was_handed_out_can_be_changed() -> None:
    links = used(SparseLinks)
    before = fields(links)
    for part in links.precedence():
        part.fill_(0)
    assert all(torch.equal(own, before[name]) for name, own in fields(links).items())


def test_a_time_that_was_handed_out_can_be_changed() -> None:
    recency = used(Recency)
    before = fields(recency)
    recency.time.fill_(0)
    recency.last_access().fill_(0)
    assert all(torch.equal(own, before[name]) for name, own in fields(recency).items())
