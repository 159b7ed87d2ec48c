"""For each law of the published checks a function that breaks it, as little as can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import memcore
from memcore import cosine_similarity

__all__ = ["BROKEN", "in_descending_order"]


def in_descending_order(usage: Tensor) -> Tensor:
    descending, order = usage.sort(descending=True)
    before = torch.cat([torch.ones_like(usage[:1]), descending[:-1]]).cumprod(0)
    return torch.zeros_like(usage).scatter(0, order, (1 - descending) * before)


def to_first(weights: Tensor, share: Tensor) -> Tensor:
    """Move a share of each row's weight to the first slot."""
    first = torch.eye(weights.shape[-1], dtype=weights.dtype)[0]
    return weights * (1 - share) + share * weights.sum(-1, keepdim=True) * first


allocate, look_up = memcore.allocation_weighting, memcore.content_weighting
keep, use, move = memcore.retention, memcore.usage, memcore.directional_weightings
write, read = memcore.write_weighting.unchecked, memcore.read_weighting.unchecked
few = memcore.sparse_write_weighting.unchecked
last, join = memcore.precedence, memcore.link
seek = memcore.sparse_content_weighting


def first_head_half(gates: Tensor, weights: Tensor) -> Tensor:
    halves = torch.ones_like(gates)
    halves[: len(gates) - 1] = 0.5
    return keep(halves * gates, weights)


def last_slot(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    if len(values) == 1:
        return values
    return torch.cat([values[:-1], change(values[-1:])])


def no_decay_of_rows(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    new = (1 - weights) * links + weights[:, None] * before
    return new * (1 - torch.eye(len(links), dtype=links.dtype))


def as_in_rae(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    new = (1 - weights)[:, None] * links + weights[:, None] * before
    return new * (1 - torch.eye(len(links), dtype=links.dtype))


def with_diagonal(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    decay = (1 - weights[:, None] - weights).clamp(min=0)
    return decay * links + weights[:, None] * before


def half_linked(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    return join(links, weights, before / 2)


def first_row_weaker(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    less = (1 - weights * (1 - weights))[:1]
    scale = torch.cat([less, torch.ones_like(weights[1:])])
    return join(links, weights, before) * scale[:, None]


def swapped(links: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    forward, backward = move(links, weights)
    return backward, forward


def wavy(gates: Tensor) -> Tensor:
    return (gates + torch.sin(2 * torch.pi * gates) / 2).clamp(0, 1)


def interior(gate: Tensor) -> Tensor:
    return gate * (1 - gate)


def others(modes: Tensor) -> Tensor:
    mixed = 27 * modes.prod(-1)
    return (mixed.sum() - mixed)[:, None].clamp(0, 1)


# law: (a function that breaks it and none before it, the longest axis of the smallest
# counterexample)
Table = dict[str, tuple[Callable[..., Any], int]]
BROKEN: dict[str, Table] = {
    "allocation_weighting": {
        "non-negative": (lambda usage: allocate(usage) - 0.1, 1),
        "nothing where all slots are full": (lambda usage: allocate(usage).clamp(min=0.01), 1),
        "sums to 1 − ∏ usage": (lambda usage: 1 - usage, 2),
        "permuting the slots permutes the weights": (
            lambda usage: (1 - usage) * memcore.exclusive_cumulative_product(usage),
            2,
        ),
        "the less used come first": (in_descending_order, 2),
        "of equal usages the lowest slot comes first": (
            lambda usage: allocate(usage.flip(0)).flip(0),
            2,
        ),
    },
    "content_weighting": {
        "non-negative": (lambda rows, keys, _: cosine_similarity(rows, keys), 1),
        "each head's weights sum to 1": (
            lambda rows, keys, strengths: 0.9 * look_up(rows, keys, strengths),
            1,
        ),
        "uniform for a memory of zeros": (
            lambda rows, keys, strengths: to_first(look_up(rows, keys, strengths), torch.ones(())),
            2,
        ),
        "equal rows get equal weights": (
            lambda rows, keys, strengths: (
                cosine_similarity(rows, keys)
                * strengths[:, None]
                * torch.linspace(1, 0.9, len(rows), dtype=rows.dtype)
            ).softmax(-1),
            2,
        ),
        "each head is on its own": (
            lambda rows, keys, strengths: look_up(rows, keys, 0 * strengths + strengths.mean()),
            2,
        ),
        "permuting the rows permutes the weights": (
            lambda rows, keys, strengths: look_up(rows - rows[:1], keys, strengths),
            3,
        ),
        "a greater strength makes the best row weigh more": (
            lambda rows, keys, strengths: look_up(rows, keys, torch.ones_like(strengths)),
            2,
        ),
        "a row that points where the key does weighs most": (
            lambda rows, keys, strengths: look_up(-rows, keys, strengths),
            2,
        ),
        "scaling keys and rows changes nothing": (
            lambda rows, keys, strengths: look_up(
                rows, keys, strengths * (1 + keys.norm(dim=-1).clamp(max=10))
            ),
            2,
        ),
    },
    "directional_weightings": {
        "non-negative": (lambda *both: (move(*both)[0] - 0.1, move(*both)[1]), 1),
        "each head's weights sum to at most 1": (
            lambda *both: (move(*both)[0], 2 * move(*both)[1]),
            2,
        ),
        "each head is on its own": (
            lambda links, weights: move(links, weights.mean(0).expand_as(weights)),
            2,
        ),
        "permuting the slots permutes the weights": (
            lambda links, weights: move(links * torch.arange(len(links)).clamp(max=1), weights),
            2,
        ),
        "forward leads to the slots written after those read": (swapped, 2),
        "backward leads to the slots written before those read": (
            lambda *both: (move(*both)[0],) * 2,
            2,
        ),
    },
    "link": {
        "non-negative": (lambda *three: join(*three) - 0.1, 1),
        "the diagonal is 0": (with_diagonal, 1),
        "row sums at most 1": (no_decay_of_rows, 3),
        "column sums with the precedence at most 1": (as_in_rae, 2),
        "unchanged where nothing is written": (lambda *three: 0.9 * join(*three), 2),
        "a slot written is linked to the one written before": (half_linked, 2),
        "permuting the slots permutes both axes": (first_row_weaker, 2),
    },
    "precedence": {
        "non-negative": (lambda before, weights: last(before, weights) - 0.1, 1),
        "sums to at most 1": (lambda before, weights: before + weights, 1),
        "unchanged where nothing is written": (lambda *both: 0.9 * last(*both), 1),
        "a whole write replaces it": (
            lambda before, weights: (1 - weights.sum()).clamp(min=0) * before + weights / 2,
            1,
        ),
        "sums to what is left and what is written": (
            lambda before, weights: (1 - weights.sum()).square() * before + weights,
            1,
        ),
        "permuting the slots permutes the result": (
            lambda *both: to_first(last(*both), interior(both[1].sum()).clamp(0, 1)),
            2,
        ),
    },
    "read_weighting": {
        "non-negative": (lambda *four: read(*four) - 0.1, 1),
        "each head's weights sum to at most 1": (lambda *four: 1.5 * read(*four), 1),
        "backward mode alone gives the backward weighting": (
            lambda back, content, forward, modes: read(forward, content, back, modes),
            1,
        ),
        "content mode alone gives the content weighting": (
            lambda back, content, forward, modes: read(back, content / 2, forward, modes),
            1,
        ),
        "forward mode alone gives the forward weighting": (
            lambda back, content, forward, modes: read(back, content, back, modes),
            1,
        ),
        "sums to what the modes take of each": (
            lambda back, content, forward, modes: read(back, content, forward, modes.square()),
            1,
        ),
        "each head is on its own": (lambda *four: to_first(read(*four), others(four[3])), 2),
        "permuting the slots permutes the weights": (
            lambda *four: to_first(read(*four), four[3].prod(-1, keepdim=True)),
            2,
        ),
    },
    "retention": {
        "not negative, also where rounding took a weight above 1": (
            lambda gates, weights: (1 - gates[:, None] * weights).prod(0),
            1,
        ),
        "at most 1": (lambda *both: 1.1 * keep(*both), 1),
        "closed free gates keep everything": (lambda *both: 0.9 * keep(*both), 1),
        "a slot that no head reads is kept": (
            lambda gates, weights: keep(gates, weights) * (1 - gates.max() / 2),
            1,
        ),
        "an open free gate frees the slot that its head reads": (
            lambda gates, weights: keep(gates / 2, weights),
            1,
        ),
        "a wider free gate keeps no more": (lambda gates, weights: keep(wavy(gates), weights), 1),
        "the order of the heads does not matter": (first_head_half, 2),
        "permuting the slots permutes the result": (
            lambda *both: last_slot(keep(*both), torch.square),
            2,
        ),
    },
    "sparse_write_weighting": {
        "non-negative": (lambda *three: few(*three) - 0.1, 1),
        "a closed write gate writes nothing": (lambda *three: few(*three).clamp(min=0.01), 1),
        "sums to at most the write gate": (
            lambda weights, gate, between: few(len(weights) * weights, gate, between),
            2,
        ),
        "a closed interpolation gate writes to the least recently accessed slot": (
            lambda weights, gate, between: few(weights, gate, 1 - between),
            1,
        ),
        "an open interpolation gate writes what was read, the mean over the heads": (
            lambda weights, gate, between: few(
                weights.prod(0, keepdim=True).expand_as(weights), gate, between
            ),
            2,
        ),
        "proportional to the write gate": (
            lambda *three: few(*three) * (1 - interior(three[2]) * (1 - three[1])),
            1,
        ),
        "the interpolation gate shares between the slots read and the other": (
            lambda weights, gate, between: few(weights, gate, between.square()),
            1,
        ),
    },
    "usage": {
        "in [0, 1]": (lambda before, weights, kept: (before + weights) * kept, 1),
        "unchanged where nothing is written and all is retained": (
            lambda *three: 0.9 * use(*three),
            1,
        ),
        "a slot that is not retained is free": (
            lambda before, weights, kept: use(before, weights, (1 + kept) / 2),
            1,
        ),
        "a slot that is written wholly is in use": (
            lambda before, weights, kept: use(before, weights / 2, kept),
            1,
        ),
        "writing does not lower it": (
            lambda before, weights, kept: (before * (1 - weights) + weights.square()) * kept,
            1,
        ),
        "permuting the slots permutes the result": (
            lambda before, weights, kept: use(before, last_slot(weights, torch.square), kept),
            2,
        ),
    },
    "write_weighting": {
        "non-negative": (lambda *four: write(*four) - 0.1, 1),
        "a closed write gate writes nothing": (lambda *four: write(*four).clamp(min=0.01), 1),
        "sums to at most the write gate": (lambda *four: 1.5 * write(*four), 1),
        "an open allocation gate takes the allocation weighting": (
            lambda content, allocation, *gates: write(allocation, content, *gates),
            1,
        ),
        "a closed allocation gate takes the content weighting": (
            lambda content, *rest: write(content / 2, *rest),
            1,
        ),
        "proportional to the write gate": (
            lambda *four: write(*four) * (1 - interior(four[2]) * (1 - four[3])),
            1,
        ),
        "permuting the slots permutes the weights": (
            lambda *four: to_first(write(*four), interior(four[2])),
            2,
        ),
    },
    "sparse_content_weighting": {
        "non-negative": (lambda *three: seek(*three) - 0.6, 2),
        "each head's weights sum to 1": (lambda *three: 0.9 * seek(*three), 1),
        "uniform for a memory of zeros": (
            lambda *three: to_first(seek(*three), torch.ones(())),
            2,
        ),
        "each head is on its own": (
            lambda rows, keys, strengths: seek(rows[:1].expand_as(rows), keys, strengths),
            2,
        ),
        "a row that points where the key does weighs most": (
            lambda rows, keys, strengths: seek(-rows, keys, strengths),
            2,
        ),
    },
}
