"""Where SAM writes and reads: weightings that live on a few slots.

One example at a time, as everywhere in memcore. But these functions look at the last axes only,
so that their ``unchecked`` forms take any batch axes in front, which spares a step the ``vmap``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from memcore.errors import checked
from memcore.numerics import safe_norm
from memcore.ranges import UNIT, WEIGHTING, in_range

__all__ = [
    "masked_sparse_content_weighting",
    "sparse_content_weighting",
    "sparse_read",
    "sparse_read_weighting",
    "sparse_write_weighting",
]


@in_range(read_weights=WEIGHTING, write_gate=UNIT, interpolation_gate=UNIT)
@checked
def sparse_write_weighting(
    read_weights: Float[Tensor, "*batch R K"],
    write_gate: Float[Tensor, "*batch"],
    interpolation_gate: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch J"]:
    """How much to write to the slots read before and to the least recently accessed one.

    ``w = α (γ mean_r w_r + (1 − γ) 1[least])``. Rae et al. 2016, Eq. 5, the heads averaged.

    Args:
        read_weights: ``[R, K]``, of the step before, each row on the sub-simplex.
        write_gate: α ``[]``, in [0, 1].
        interpolation_gate: γ ``[]``, in [0, 1].

    Returns:
        ``[J]`` with J = R·K + 1, the read slots in order, then the least recently accessed one;
        non-negative, sums to at most ``write_gate``. A slot that is there several times gets
        the sum.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.

    >>> sparse_write_weighting(torch.tensor([[0.5, 0.5]]), torch.tensor(1.0), torch.tensor(0.8))
    tensor([0.4000, 0.4000, 0.2000])
    """
    to_read = write_gate * interpolation_gate
    again = read_weights.flatten(-2) * (to_read / read_weights.shape[-2]).unsqueeze(-1)
    return torch.cat([again, (write_gate - to_read).unsqueeze(-1)], dim=-1)


@checked
def sparse_content_weighting(
    rows: Float[Tensor, "*batch R K W"],
    keys: Float[Tensor, "*batch R W"],
    strengths: Float[Tensor, "*batch R"],
) -> Float[Tensor, "*batch R K"]:
    """Weight the rows that each head reads by their similarity with its key.

    ``softmax_k(β cos(key, row_k))`` over the K rows of the head only, with the cosine of
    `cosine_similarity`. Rae et al. 2016, section 3.1.

    Args:
        rows: ``[R, K, W]``, unbounded.
        keys: ``[R, W]``, unbounded.
        strengths: ``[R]``, in [1, ∞) as `oneplus` makes them; any finite value is accepted.

    Returns:
        ``[R, K]``, each row non-negative with sum 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device.

    >>> rows = torch.eye(2)[None]
    >>> sparse_content_weighting(rows, torch.tensor([[1.0, 0.0]]), torch.tensor([5.0]))
    tensor([[0.9933, 0.0067]])
    """
    directions = keys * (strengths.unsqueeze(-1) / safe_norm(keys))
    # Products and sums rather than matrix products: those are slower at these sizes.
    similarity = (rows * directions.unsqueeze(-2)).sum(-1, keepdim=True) / safe_norm(rows)
    return similarity.squeeze(-1).softmax(-1)


@in_range(masks=UNIT)
@checked
def masked_sparse_content_weighting(
    rows: Float[Tensor, "*batch R K W"],
    keys: Float[Tensor, "*batch R W"],
    strengths: Float[Tensor, "*batch R"],
    masks: Float[Tensor, "*batch R W"],
) -> Float[Tensor, "*batch R K"]:
    """Weight the rows that each head reads by what its mask shows of their similarity to its key.

    The sparse form of `masked_content_weighting`. Csordás & Schmidhuber 2019, "Masked
    content-based addressing".

    Args:
        rows: ``[R, K, W]``, unbounded.
        keys: ``[R, W]``, unbounded.
        strengths: ``[R]``, in [1, ∞) as `oneplus` makes them; any finite value is accepted.
        masks: ``[R, W]``, in [0, 1]; of ones: as `sparse_content_weighting`.

    Returns:
        ``[R, K]``, each row non-negative with sum 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    shown = rows * masks.unsqueeze(-2)
    return sparse_content_weighting.unchecked(shown, keys * masks, strengths)


@checked
def sparse_read(
    rows: Float[Tensor, "*batch R K W"], read_weights: Float[Tensor, "*batch R K"]
) -> Float[Tensor, "*batch R W"]:
    """The weighted sum of each head's rows: ``r = Σ_k w_k row_k``. Rae et al. 2016, Eq. 1.

    Args:
        rows: ``[R, K, W]``, unbounded.
        read_weights: ``[R, K]``, each row on the sub-simplex.

    Returns:
        ``[R, W]``.

    Raises:
        MemcoreError: wrong rank, size, dtype or device.

    >>> sparse_read(torch.eye(2)[None], torch.tensor([[0.25, 0.75]]))
    tensor([[0.2500, 0.7500]])
    """
    return (read_weights.unsqueeze(-1) * rows).sum(-2)


@in_range(backward=WEIGHTING, content=WEIGHTING, forward=WEIGHTING, read_modes=WEIGHTING)
@checked
def sparse_read_weighting(
    backward: Float[Tensor, "*batch R L"],
    content: Float[Tensor, "*batch R K"],
    forward: Float[Tensor, "*batch R L"],
    read_modes: Float[Tensor, "*batch R 3"],
) -> Float[Tensor, "*batch R V"]:
    """Mix the three ways of a head, side by side: ``[π₁ b, π₂ c, π₃ f]``.

    The sparse form of `read_weighting`: a slot that is found in several ways is there as often,
    and its weights add up. Graves et al. 2016, Methods, "Read weighting".

    Args:
        backward: ``[R, K_L]``, each row on the sub-simplex.
        content: ``[R, K]``, likewise.
        forward: ``[R, K_L]``, likewise.
        read_modes: ``[R, 3]``, each row on the simplex: backward, content, forward.

    Returns:
        ``[R, V]`` with V = K_L + K + K_L, each row on the sub-simplex.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.

    >>> one, both = torch.ones(1, 1), torch.tensor([[0.5, 0.5]])
    >>> sparse_read_weighting(one, both, one, torch.tensor([[0.2, 0.4, 0.4]]))
    tensor([[0.2000, 0.2000, 0.2000, 0.4000]])
    """
    first, second, third = read_modes.unsqueeze(-1).unbind(-2)
    return torch.cat([first * backward, second * content, third * forward], dim=-1)
