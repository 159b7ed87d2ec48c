"""Content-based addressing: how much each row of the memory resembles a key."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from memcore.errors import checked
from memcore.numerics import safe_norm

__all__ = ["content_weighting", "cosine_similarity"]


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
