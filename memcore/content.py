"""Content-based addressing: how much each row of the memory resembles a key."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from memcore.errors import checked
from memcore.numerics import NORM_EPSILON, safe_norm
from memcore.ranges import UNIT, in_range

__all__ = [
    "content_weighting",
    "cosine_similarity",
    "masked_content_weighting",
    "masked_cosine_similarity",
]


@checked
def cosine_similarity(
    memory: Float[Tensor, "N W"], keys: Float[Tensor, "R W"]
) -> Float[Tensor, "R N"]:
    """Cosine of the angle between each key and each row of the memory.

    ``k·m / (√(|k|² + ε) √(|m|² + ε))`` with ε = 1e-6: inside each norm, so that a row or key of
    zeros gives 0 with a bounded gradient.

    Args:
        memory: ``[N, W]``, unbounded.
        keys: ``[R, W]``, unbounded.

    Returns:
        ``[R, N]``, in [-1, 1] up to rounding.

    Raises:
        MemcoreError: wrong rank, size, dtype or device.

    >>> import torch
    >>> cosine_similarity(torch.eye(2), torch.tensor([[3.0, 0.0]]))
    tensor([[1.0000, 0.0000]])
    """
    # The scores are divided by the norms, not the rows: R·N numbers rather than N·W.
    return ((keys / safe_norm(keys)) @ memory.mT) / safe_norm(memory).squeeze(-1)


@checked
def content_weighting(
    memory: Float[Tensor, "N W"], keys: Float[Tensor, "R W"], strengths: Float[Tensor, "R"]
) -> Float[Tensor, "R N"]:
    """Weight the rows of the memory by their similarity with each key.

    ``C(M, k, β) = softmax_i(β cos(k, M_i))``. Graves et al. 2016, Methods, "Content-based
    addressing".

    Args:
        memory: ``[N, W]``, unbounded.
        keys: ``[R, W]``, unbounded.
        strengths: ``[R]``, in [1, ∞) as `oneplus` makes them; any finite value is accepted.

    Returns:
        ``[R, N]``, each row non-negative with sum 1; uniform for a memory of zeros.

    Raises:
        MemcoreError: wrong rank, size, dtype or device.

    >>> import torch
    >>> content_weighting(torch.eye(2), torch.tensor([[1.0, 0.0]]), torch.tensor([5.0]))
    tensor([[0.9933, 0.0067]])
    """
    return (strengths[:, None] * cosine_similarity.unchecked(memory, keys)).softmax(-1)


@in_range(masks=UNIT)
@checked
def masked_cosine_similarity(
    memory: Float[Tensor, "N W"], keys: Float[Tensor, "R W"], masks: Float[Tensor, "R W"]
) -> Float[Tensor, "R N"]:
    """Cosine of the angle between each key and each row, as far as the key's mask shows them.

    `cosine_similarity` of ``k∘m`` and ``M_i∘m``. Csordás & Schmidhuber 2019, "Masked
    content-based addressing".

    Args:
        memory: ``[N, W]``, unbounded.
        keys: ``[R, W]``, unbounded.
        masks: ``[R, W]``, in [0, 1]: which elements to look at, one mask for each key.

    Returns:
        ``[R, N]``, in [-1, 1] up to rounding; 0 where a mask hides all of a key or of a row.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.

    >>> import torch
    >>> row, key = torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, 0.0]])
    >>> masked_cosine_similarity(row, key, masks=torch.tensor([[1.0, 0.0]]))
    tensor([[1.0000]])
    """
    # Not masked rows, which would be R·N·W numbers: Σ m² k M and Σ m² M² are products of matrices.
    squares = masks.square()
    norms = (squares @ memory.square().mT + NORM_EPSILON).sqrt()
    return ((keys * squares / safe_norm(keys * masks)) @ memory.mT) / norms


@in_range(masks=UNIT)
@checked
def masked_content_weighting(
    memory: Float[Tensor, "N W"],
    keys: Float[Tensor, "R W"],
    strengths: Float[Tensor, "R"],
    masks: Float[Tensor, "R W"],
) -> Float[Tensor, "R N"]:
    """Weight the rows of the memory by what a mask shows of their similarity with each key.

    ``softmax_i(β cos(k∘m, M_i∘m))``: a key that is to find the rest of its row need not know it.
    Csordás & Schmidhuber 2019, "Masked content-based addressing".

    Args:
        memory: ``[N, W]``, unbounded.
        keys: ``[R, W]``, unbounded.
        strengths: ``[R]``, in [1, ∞) as `oneplus` makes them; any finite value is accepted.
        masks: ``[R, W]``, in [0, 1]; of ones: as `content_weighting`.

    Returns:
        ``[R, N]``, each row non-negative with sum 1; uniform where a mask hides all.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    cosines = masked_cosine_similarity.unchecked(memory, keys, masks)
    return (strengths[:, None] * cosines).softmax(-1)
