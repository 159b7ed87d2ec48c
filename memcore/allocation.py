"""Dynamic memory allocation: which slots are in use, and where to write next."""

from __future__ import annotations

from functools import reduce
from operator import mul

import torch
from jaxtyping import Float
from torch import Tensor

from memcore.errors import checked
from memcore.numerics import exclusive_cumulative_product
from memcore.ranges import UNIT, WEIGHTING, in_range

__all__ = ["allocation_weighting", "retention", "usage"]


@in_range(free_gates=UNIT, read_weights=WEIGHTING)
@checked
def retention(
    free_gates: Float[Tensor, "R"], read_weights: Float[Tensor, "R N"]
) -> Float[Tensor, "N"]:
    """How much of each slot is kept by the free gates of the heads that read it.

    ``ψ = Π_r (1 − f_r w_r)``. Graves et al. 2016, Methods, "Dynamic memory allocation".

    Args:
        free_gates: ``[R]``, in [0, 1].
        read_weights: ``[R, N]``, the read weightings of the step before, each on the
            sub-simplex.

    Returns:
        ``[N]``, in [0, 1], also where rounding took a weight above 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    # A softmax can sum to 1 + ε, and so can a read weighting: without the clamp the usage would
    # turn negative. One multiplication a head: the gradient of torch.prod looks for zeros on
    # the host.
    kept = (1 - free_gates[:, None] * read_weights).clamp(min=0)
    return reduce(mul, kept.unbind(0))


@in_range(previous=UNIT, write_weights=WEIGHTING, retention=UNIT)
@checked
def usage(
    previous: Float[Tensor, "N"], write_weights: Float[Tensor, "N"], retention: Float[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """How much each slot is in use, after the last step's write and the heads' releases.

    ``u = (u' + w − u'∘w) ∘ ψ``. Graves et al. 2016, Methods, "Dynamic memory allocation".

    Args:
        previous: ``[N]``, the usage of the step before, in [0, 1].
        write_weights: ``[N]``, the write weighting of the step before, on the sub-simplex.
        retention: ``[N]``, in [0, 1], as `retention` gives it.

    Returns:
        ``[N]``, in [0, 1].

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    # u + (1 − u) w is u + w − u w, and stays in [0, 1] where its arguments do.
    return (previous + (1 - previous) * write_weights) * retention


@in_range(usage=UNIT)
@checked
def allocation_weighting(usage: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """Weight the slots to write to, the least used first.

    With φ the slots in ascending order of usage, ``a[φ_j] = (1 − u[φ_j]) Π_{i<j} u[φ_i]``.
    Graves et al. 2016, Methods, "Dynamic memory allocation". The order carries no gradient.

    Args:
        usage: ``[N]``, in [0, 1]. Of equal usages the lowest slot comes first.

    Returns:
        ``[N]``, non-negative with sum ``1 − Π u``: 1 where a slot is free, 0 where all are full.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.

    >>> allocation_weighting(torch.tensor([0.5, 0.25, 1.0]))
    tensor([0.1250, 0.7500, 0.0000])
    """
    ascending, order = usage.sort(dim=-1, stable=True)
    weights = (1 - ascending) * exclusive_cumulative_product(ascending)
    # Not scatter, under vmap of which torch.export takes the size of the batch for a constant.
    return torch.zeros_like(weights).index_put((order,), weights)
