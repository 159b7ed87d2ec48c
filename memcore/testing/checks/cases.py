"""What the checks draw: arguments of an operation, with the edges where addressing breaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from memcore.testing import strategies as some
from memcore.testing.checks.calls import Arguments, Operation, parse
from memcore.testing.checks.rollout import Writes

# The strategies module has said how to install it where it is missing.
from hypothesis import strategies as st  # isort: skip

__all__ = ["arguments", "writes"]

MOST = {"N": 5, "W": 3, "R": 3, "K": 4}  # of the axes; less where smaller cases are asked for
# Up to where the square of a norm is finite, and down to where it is 0.
SCALES = {torch.float64: (1e3, 1e30, 1e-30), torch.float32: (1e3, 1e15, 1e-30)}
Draw = Callable[..., Any]


def arguments(
    operation: Operation, dtypes: Sequence[torch.dtype], examples: int, size: int
) -> st.SearchStrategy[list[Arguments]]:
    """The arguments of an operation by name, for several examples of the same sizes."""
    kind_of_dtype, kinds_of_size = st.sampled_from(dtypes), _sizes(size)

    @st.composite
    def draw_arguments(draw: Draw) -> list[Arguments]:
        dtype = draw(kind_of_dtype)
        axes = {axis: None for text in operation.inputs.values() for axis in parse(text)[1]}
        sizes = {axis: draw(kinds_of_size[axis]) for axis in axes if axis in MOST}
        return [
            operation.repaired(drawn(draw, operation.inputs, sizes, dtype)) for _ in range(examples)
        ]

    return draw_arguments()


def drawn(
    draw: Draw, inputs: dict[str, str], sizes: dict[str, int], dtype: torch.dtype
) -> Arguments:
    """A tensor for each ``name: "kind axes"``."""
    result = {}
    for name, text in inputs.items():
        kind, axes = parse(text)
        shape = tuple(sizes[axis] if axis in sizes else int(axis) for axis in axes)
        result[name] = draw(_strategy(kind, shape, dtype))
    return result


@cache  # making a strategy takes longer than to draw from it
def _strategy(kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    return KINDS[kind](shape, dtype)


def _sizes(size: int) -> dict[str, st.SearchStrategy[int]]:
    return {axis: st.integers(1, min(most, size)) for axis, most in MOST.items()}


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    return st.builds(torch.zeros, st.just(shape), dtype=st.just(dtype))


def _values(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    """Numbers without bounds: zeros, tied rows, huge and tiny ones too."""
    return _scaled(shape, dtype, SCALES[dtype])


def _moderate(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    """Likewise, but none that are huge."""
    return _scaled(shape, dtype, (1e-3, 1e-30))


def _scaled(
    shape: tuple[int, ...], dtype: torch.dtype, factors: tuple[float, ...]
) -> st.SearchStrategy[Tensor]:
    plain = _listed(st.floats(-2, 2, allow_subnormal=False), shape, dtype)
    scale = st.sampled_from([1.0, 1.0, 1.0, 1.0, 0.0, *factors])  # ordinary ones half the time
    spread = st.tuples(plain, scale).map(lambda pair: pair[0] * pair[1])
    return st.one_of(spread, spread, spread, spread.map(_tied))


def _listed(
    numbers: st.SearchStrategy[float], shape: tuple[int, ...], dtype: torch.dtype
) -> st.SearchStrategy[Tensor]:
    """A tensor of numbers drawn one by one."""
    count = torch.Size(shape).numel()
    return st.lists(numbers, min_size=count, max_size=count).map(
        lambda values: torch.tensor(values, dtype=dtype).reshape(shape)
    )


def _tied(values: Tensor) -> Tensor:
    return values[:1].expand_as(values).clone() if values.dim() > 1 else values


SHARES = st.floats(0, 1, allow_subnormal=False)
LEVELS = st.sampled_from([0.0, 1.0, 0.5, 1.0])  # what goes wrong later needs a whole write first


def _gates(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    return st.one_of(_listed(LEVELS, shape, dtype), _listed(SHARES, shape, dtype))


def _strengths(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    """From 1 up, half of them too small to saturate a softmax."""
    small, large = (st.floats(1, most) for most in (3, 100))
    return st.one_of(_listed(small, shape, dtype), _listed(large, shape, dtype))


def _usages(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    return some.usages(shape[0], dtype=dtype)


def _weightings(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    return st.one_of(
        _zeros(shape, dtype),
        some.weightings(shape, dtype=dtype),
        _listed(SHARES, shape, dtype).map(_everywhere),
        _listed(SHARES, shape, dtype).map(_everywhere).map(lambda weights: weights / 2),
    )


def _everywhere(shares: Tensor) -> Tensor:
    """A weighting that leaves no slot out."""
    return (shares + 0.1) / (shares + 0.1).sum(-1, keepdim=True)


def _simplex(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    def full(weights: Tensor) -> Tensor:
        """What is missing to 1 goes to the first."""
        missing = (1 - weights.sum(-1, keepdim=True)).clamp(min=0)
        return torch.cat([weights[..., :1] + missing, weights[..., 1:]], -1)

    return _weightings(shape, dtype).map(full)


def _links(shape: tuple[int, ...], dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    """Links that a DNC can have: diagonal 0, each row and each column summing to at most 1."""

    def valid(values: Tensor) -> Tensor:
        values = values.clone().fill_diagonal_(0)
        values = values / values.sum(1, keepdim=True).clamp(min=1)
        return values / values.sum(0, keepdim=True).clamp(min=1)

    def chain(length: int) -> Tensor:
        """The first slots, written one after the other."""
        return torch.eye(shape[0], dtype=dtype).roll(1, 0).tril(-1) * (
            torch.arange(shape[0], dtype=dtype)[:, None] <= length
        )

    chains = st.integers(0, shape[0] - 1).map(chain)
    return st.one_of(_zeros(shape, dtype), chains, _gates(shape, dtype).map(valid))


KINDS: dict[str, Callable[[tuple[int, ...], torch.dtype], st.SearchStrategy[Tensor]]] = {
    "values": _values,
    "moderate": _moderate,
    "gates": _gates,
    "strengths": _strengths,
    "usages": _usages,
    "weightings": _weightings,
    "simplex": _simplex,
    "links": _links,
}


def writes(dtypes: Sequence[torch.dtype], size: int) -> st.SearchStrategy[Writes]:
    """One to five writes, and where heads read after them."""
    kind_of_dtype, kinds_of_size = st.sampled_from(dtypes), _sizes(size)

    @st.composite
    def draw_writes(draw: Draw) -> Writes:
        dtype = draw(kind_of_dtype)
        slots, heads = draw(kinds_of_size["N"]), draw(kinds_of_size["R"])
        one = _strategy("weightings", (slots,), dtype)
        steps = draw(st.lists(one, min_size=1, max_size=5))
        return Writes(steps, draw(_strategy("weightings", (heads, slots), dtype)))

    return draw_writes()
