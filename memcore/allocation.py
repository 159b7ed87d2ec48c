"""Dynamic memory allocation: which slots are in use, and where to write next."""

from __future__ import annotations

from functools import reduce
from operator import mul

import torch
from jaxtyping import Float
from torch import Tensor

from memcore.errors import checked
from memcore.numerics import at_least_zero, exclusive_cumulative_product
from memcore.ranges import UNIT, WEIGHTING, in_range

__all__ = [
    "allocation_weighting",
    "allocation_weightings",
    "combined_write_weighting",
    "retention",
    "usage",
]


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
    kept = at_least_zero(1 - free_gates[:, None] * read_weights)
    return reduce(mul, kept.unbind(0))


@in_range(previous=UNIT, write_weights=UNIT, retention=UNIT)
@checked
def usage(
    previous: Float[Tensor, "N"], write_weights: Float[Tensor, "N"], retention: Float[Tensor, "N"]
) -> Float[Tensor, "N"]:
    """How much each slot is in use, after the last step's write and the heads' releases.

    ``u = (u' + w − u'∘w) ∘ ψ``. Graves et al. 2016, Methods, "Dynamic memory allocation".

    Args:
        previous: ``[N]``, the usage of the step before, in [0, 1].
        write_weights: ``[N]``, the write weighting of the step before, in [0, 1]; of several
            heads their `combined_write_weighting`.
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
    # Not scatter, under vmap of which torch.export takes the size of the batch for a constant; nor
    # index_put, of which Inductor (torch 2.13) makes wrong numbers where one follows another.
    return weights[order.argsort()]


@in_range(usage=UNIT, allocation_gates=UNIT, write_gates=UNIT)
@checked
def allocation_weightings(
    usage: Float[Tensor, "N"],
    allocation_gates: Float[Tensor, "H"],
    write_gates: Float[Tensor, "H"],
) -> Float[Tensor, "H N"]:
    """Allocation weightings of several write heads, one head after the other.

    ``a_h`` is the `allocation_weighting` of a usage ``u_h``, where ``u_1 = u`` and
    ``u_{h+1} = u_h + (1 − u_h) g^a_h g^w_h a_h``: what one head is about to take, the next one does
    not. google-deepmind/dnc, ``Freeness.write_allocation_weights``.

    Args:
        usage: ``[N]``, in [0, 1].
        allocation_gates: ``[H]``, in [0, 1].
        write_gates: ``[H]``, in [0, 1].

    Returns:
        ``[H, N]``, each row as that of `allocation_weighting`.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.

    >>> allocation_weightings(torch.zeros(3), torch.ones(2), torch.ones(2))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    weightings = []
    for gate in (allocation_gates * write_gates).unbind(0):
        weights = allocation_weighting.unchecked(usage)
        # What the logarithm of a usage of 0 leaves would give the highest slot to the next head.
        left = weights.detach()
        weights = weights - left.where(left < 2 * torch.finfo(left.dtype).tiny ** 0.5, 0)
        weightings.append(weights)
        usage = usage + (1 - usage) * gate * weights
    return torch.stack(weightings)


@in_range(write_weights=WEIGHTING)
@checked
def combined_write_weighting(write_weights: Float[Tensor, "H N"]) -> Float[Tensor, "N"]:
    """How much each slot was written by any of several heads, ``1 − Π_h (1 − w_h)``.

    In place of one head's write weighting in `usage`. google-deepmind/dnc, ``Freeness``.

    Args:
        write_weights: ``[H, N]``, each on the sub-simplex.

    Returns:
        ``[N]``, in [0, 1]; its sum can exceed 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    spared = at_least_zero(1 - write_weights)
    return 1 - reduce(mul, spared.unbind(0))
