"""Temporal linkage: in which order the slots were written."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from memcore.errors import checked
from memcore.numerics import at_least_zero
from memcore.ranges import WEIGHTING, in_range

__all__ = ["directional_weightings", "link", "precedence", "sharpen"]

SHARPNESS_EPSILON = 1e-6


@in_range(previous=WEIGHTING, write_weights=WEIGHTING)
@checked
def precedence(
    previous: Float[Tensor, "*batch N"], write_weights: Float[Tensor, "*batch N"]
) -> Float[Tensor, "*batch N"]:
    """How much each slot was the one written last.

    ``p = (1 − Σ w) p' + w``. Graves et al. 2016, Methods, "Temporal memory linkage".

    Args:
        previous: ``[N]``, the precedence of the step before, on the sub-simplex.
        write_weights: ``[N]``, this step's write weighting, on the sub-simplex.

    Returns:
        ``[N]``, non-negative, sums to at most 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    return (1 - write_weights.sum(-1, keepdim=True)) * previous + write_weights


@in_range(previous=WEIGHTING, write_weights=WEIGHTING, previous_precedence=WEIGHTING)
@checked
def link(
    previous: Float[Tensor, "*batch N N"],
    write_weights: Float[Tensor, "*batch N"],
    previous_precedence: Float[Tensor, "*batch N"],
) -> Float[Tensor, "*batch N N"]:
    """Update the temporal links: ``link[i, j]`` is how much slot i was written right after j.

    ``L[i, j] = (1 − w_i − w_j) L'[i, j] + w_i p'_j``, the diagonal 0. Graves et al. 2016,
    Methods, "Temporal memory linkage".

    Args:
        previous: ``[N, N]``, the links of the step before.
        write_weights: ``[N]``, this step's write weighting, on the sub-simplex.
        previous_precedence: ``[N]``, the precedence of the step **before**; today's would link
            each slot to itself.

    Returns:
        ``[N, N]``, in [0, 1], diagonal 0, each row sum at most 1, and with this step's
        precedence p each column ``Σ_i L[i, j] + p_j`` at most 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    after, before = write_weights[..., :, None], write_weights[..., None, :]
    links = (1 - after - before) * previous + after * previous_precedence[..., None, :]
    diagonal = torch.eye(write_weights.shape[-1], dtype=torch.bool, device=links.device)
    return links.masked_fill(diagonal, 0)


@in_range(link=WEIGHTING, read_weights=WEIGHTING)
@checked
def directional_weightings(
    link: Float[Tensor, "*batch N N"], read_weights: Float[Tensor, "R N"]
) -> tuple[Float[Tensor, "*batch R N"], Float[Tensor, "*batch R N"]]:
    """Where each head goes by following the links from where it read last.

    Forward ``f = L w``, to the slots written next; backward ``b = Lᵀ w``, to those written
    before. Graves et al. 2016, Methods, "Temporal memory linkage".

    Args:
        link: ``[N, N]``, as `link` gives it.
        read_weights: ``[R, N]``, the read weightings of the step before, on the sub-simplex.

    Returns:
        ``(forward [R, N], backward [R, N])``, non-negative, each row sums to at most 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    return read_weights @ link.mT, read_weights @ link


@in_range(weighting=WEIGHTING)
@checked
def sharpen(
    weighting: Float[Tensor, "*batch R N"], sharpness: Float[Tensor, "R"]
) -> Float[Tensor, "*batch R N"]:
    """Concentrate each weighting on its largest weights.

    ``S(d, s)_i = ((d_i + ε) / max(d + ε))^s / Σ_j ((d_j + ε) / max(d + ε))^s`` with ε = 1e-6: links
    that were followed several times are blurred, and this takes it back. Csordás & Schmidhuber
    2019, "Sharpness of temporal link distributions". But for ε it is ``d_i^s / Σ_j d_j^s``, eq. 9
    of Graves, Wayne & Danihelka 2014 (arXiv 1410.5401), which a Neural Turing Machine takes after
    `circular_shift`.

    Args:
        weighting: ``[R, N]``, forward or backward as `directional_weightings` gives them, or any
            other, on the sub-simplex.
        sharpness: ``[R]``, in [1, ∞) as `oneplus` makes them; 0 makes a weighting uniform.

    Returns:
        ``[R, N]``, each row non-negative with sum 1, also where nothing was ever written; in the
        order of the weighting given, if the sharpness is above 0.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.

    >>> import torch
    >>> sharpen(torch.tensor([[0.6, 0.3]]), torch.tensor([2.0]))
    tensor([[0.8000, 0.2000]])
    """
    # xˢ is exp(s log x), and the division by the largest is what a softmax does.
    logarithms = (at_least_zero(weighting) + SHARPNESS_EPSILON).log()
    return (sharpness[:, None] * logarithms).softmax(-1)
