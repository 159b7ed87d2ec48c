"""Primitives whose gradients stay finite where the textbook forms divide by zero."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad, softplus

from memcore.errors import check_floats

__all__ = ["at_least_zero", "bounded", "exclusive_cumulative_product", "oneplus", "safe_norm"]

NORM_EPSILON = 1e-6


def safe_norm(
    vectors: Float[Tensor, "*axes W"], epsilon: float = NORM_EPSILON
) -> Float[Tensor, "*axes 1"]:
    """Euclidean norm along the last axis with a gradient that is bounded everywhere.

    ``√(Σ x² + ε)``: at zero it is ``√ε``, and its gradient there is 0, not NaN. Finite while
    the squared norm is (entries below about 1e18 in float32).

    Args:
        vectors: ``[..., W]``, unbounded.
        epsilon: what is added under the root.

    Returns:
        ``[..., 1]``, at least ``√ε``.

    Raises:
        TypeError: not a tensor.
        MemcoreError: a scalar, or another dtype than float32 and float64.
    """
    check_floats("vectors", vectors, 1)
    return (vectors.square().sum(-1, keepdim=True) + epsilon).sqrt()


def at_least_zero(values: Tensor) -> Tensor:
    """What rounding took below 0 set to 0, with a gradient of 1 at 0 itself.

    That of `torch.clamp` at its bound is 1 before torch 2.14 and 0 from then on.
    """
    return torch.where(values < 0, 0.0, values)


def bounded(values: Tensor, bound: float) -> Tensor:
    """Values clipped to ``[-bound, bound]``, with a gradient of 1 at the bounds themselves."""
    inside = torch.where(values > bound, bound, values)
    return torch.where(values < -bound, -bound, inside)


def oneplus(values: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """``1 + log(1 + eˣ)``, which maps the reals to strengths in [1, ∞).

    Graves et al. 2016, Methods, "Interface parameters".

    Args:
        values: any shape, unbounded.

    Returns:
        The same shape, at least 1.

    Raises:
        TypeError: not a tensor.
        MemcoreError: another dtype than float32 and float64.

    >>> oneplus(torch.tensor([0.0]))
    tensor([1.6931])
    """
    check_floats("values", values, 0)
    return 1 + softplus(values)


def exclusive_cumulative_product(factors: Float[Tensor, "*axes N"]) -> Float[Tensor, "*axes N"]:
    """Products of the elements before each one along the last axis: ``y_j = Π_{i<j} x_i``.

    The gradient of a cumulative product is usually found by dividing by the factors, which is
    zero times infinity at a factor of exactly 0. Here it is summed in the logarithm of the
    factors, moved off zero by the square root of the smallest normal number: first and second
    derivatives are finite and right at zero, nothing branches on values (so it can be vmapped
    and compiled), and the result differs from the exact one by rounding only.

    Args:
        factors: ``[..., N]``, non-negative; what rounding took below 0 counts as 0.

    Returns:
        ``[..., N]``, the first entry 1; non-increasing where the factors are at most 1.

    Raises:
        TypeError: not a tensor.
        MemcoreError: a scalar, or another dtype than float32 and float64.

    >>> exclusive_cumulative_product(torch.tensor([0.5, 0.5, 0.5]))
    tensor([1.0000, 0.5000, 0.2500])
    """
    check_floats("factors", factors, 1)
    offset = torch.finfo(factors.dtype).tiny ** 0.5
    logarithms = (at_least_zero(factors[..., :-1]) + offset).log()
    # Not torch.cat, under vmap of which torch.export takes the size of the batch for a constant.
    return pad(logarithms, (1, 0)).cumsum(-1).exp()
