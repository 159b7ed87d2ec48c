"""What `check_step` draws: rollouts of a few steps, a choice for each field of an interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from memcore.dnc import DNCInterface
from memcore.testing.checks.step_calls import Rollout

# The first says how to install hypothesis where it is missing.
from memcore.testing.strategies import st  # isort: skip

__all__ = ["dnc_rollouts"]

MOST = {"N": 4, "W": 2, "R": 2}  # of the axes; less where smaller cases are asked for
# Of what is written and looked for; gradients go over products of these.
LARGE = {torch.float64: 1e15, torch.float32: 1e5}
Shape = tuple[int, ...]
# One draw for all numbers of a field: a rollout has too many to draw each. Plain ones come first,
# towards which counterexamples shrink.
MODES = [[0, 1.0, 0], [1.0, 0, 0], [0, 0, 1.0], [0.5, 0.5, 0], [0.25, 0.25, 0.5], [0.1, 0.6, 0.3]]


def dnc_rollouts(dtypes: Sequence[torch.dtype], size: int) -> st.SearchStrategy[Rollout]:
    """One to six steps of a DNC."""
    kind_of_dtype, count = st.sampled_from(dtypes), st.integers(1, 6)
    kinds_of_size = {axis: st.integers(1, min(most, size)) for axis, most in MOST.items()}

    @st.composite
    def draw_rollout(draw: Callable[..., Any]) -> Rollout:
        dtype = draw(kind_of_dtype)
        sizes = {axis: draw(kind) for axis, kind in kinds_of_size.items()}
        told = _interfaces(sizes["W"], sizes["R"], dtype)
        return Rollout(dtype, sizes, [draw(told) for _ in range(draw(count))])

    return draw_rollout()


@cache  # making a strategy takes longer than to draw from it
def _interfaces(words: int, heads: int, dtype: torch.dtype) -> st.SearchStrategy[DNCInterface]:
    def among(choices: list[Tensor]) -> st.SearchStrategy[Tensor]:
        made = [own.to(dtype) for own in choices]
        return st.sampled_from(range(len(made))).map(lambda number: made[number].clone())

    # Not `st.builds`, which would draw the fields of options too.
    fields = {
        "read_keys": among(_contents((heads, words), LARGE[dtype])),
        "read_strengths": among(_strengths((heads,))),
        "write_key": among(_contents((words,), LARGE[dtype])),
        "write_strength": among(_strengths(())),
        "erase_vector": among(_gates((words,))),
        "write_vector": among(_contents((words,), LARGE[dtype])),
        "free_gates": among(_gates((heads,))),
        "allocation_gate": among(_gates(())),
        "write_gate": among(_gates(())),
        "read_modes": among(_modes(heads)),
    }
    return st.fixed_dictionaries(fields).map(lambda told: DNCInterface(**told))


def _noise(shape: Shape, count: int) -> list[Tensor]:
    """Numbers in [0, 1) with two decimals, always the same."""
    generator = torch.Generator().manual_seed(0)
    return [
        (100 * torch.rand(shape, generator=generator)).floor().double() / 100 for _ in range(count)
    ]


def _contents(shape: Shape, large: float) -> list[Tensor]:
    """Without bounds: mostly ordinary ones."""
    zeros = torch.zeros(shape, dtype=torch.float64)
    first = zeros.index_fill(-1, torch.tensor([0]), 1)
    noise = [2 * own - 1 for own in _noise(shape, 8)]
    return [zeros, zeros + 1, first, *noise, 1e-30 * noise[0], large * noise[1], large * first]


def _gates(shape: Shape) -> list[Tensor]:
    """Open ones often: what goes wrong later needs a whole write first."""
    levels = [torch.full(shape, level, dtype=torch.float64) for level in (0.0, 1.0, 0.5, 1e-9)]
    return [*levels, *_noise(shape, 3), *levels[1:2] * 3]


def _strengths(shape: Shape) -> list[Tensor]:
    levels = [torch.full(shape, level, dtype=torch.float64) for level in (1.0, 3.0, 100.0)]
    return [*levels, *(1 + 9 * own for own in _noise(shape, 2))]


def _modes(heads: int) -> list[Tensor]:
    rows = torch.tensor(MODES, dtype=torch.float64)
    same = [row.expand(heads, 3) for row in rows]
    return same if heads == 1 else [*same, rows[[0, 1]], rows[[1, 2]], rows[[5, 2]]]
