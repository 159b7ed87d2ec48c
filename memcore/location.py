"""Addressing by location: to stay where a head was, or to move a few slots from there.

Of the Neural Turing Machine. Its other steps are `memcore.content_weighting` before these two and
`memcore.sharpen` after them.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from jaxtyping import Float
from torch import Tensor

from memcore.errors import MemcoreError, checked
from memcore.ranges import UNIT, WEIGHTING, in_range

__all__ = ["circular_shift", "interpolate"]


@in_range(content=WEIGHTING, previous=WEIGHTING, gate=UNIT)
@checked
def interpolate(
    content: Float[Tensor, "R N"], previous: Float[Tensor, "R N"], gate: Float[Tensor, "R"]
) -> Float[Tensor, "R N"]:
    """Between what the content says and where each head was, as far as its gate is open.

    ``w = g c + (1 − g) w'``. Graves, Wayne & Danihelka 2014 (arXiv 1410.5401), eq. 7.

    Args:
        content: ``[R, N]``, content weightings, on the sub-simplex.
        previous: ``[R, N]``, the weightings of the step before, on the sub-simplex.
        gate: ``[R]``, in [0, 1]; 0: only by location, 1: only by content.

    Returns:
        ``[R, N]``, non-negative; each row sums to at most 1, to 1 where both weightings do.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.

    >>> import torch
    >>> interpolate(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.25]))
    tensor([[0.2500, 0.7500]])
    """
    opened = gate[:, None]
    return opened * content + (1 - opened) * previous


@in_range(weighting=WEIGHTING, shift=WEIGHTING)
@checked
def circular_shift(
    weighting: Float[Tensor, "R N"], shift: Float[Tensor, "R S"]
) -> Float[Tensor, "R N"]:
    """Move each weighting by a few slots, around the end of the memory to its beginning.

    A circular convolution, ``w̃_i = Σ_j w_{(i − j) mod N} s_j``, over the offsets j from −(S − 1)/2
    to (S − 1)/2. Graves, Wayne & Danihelka 2014 (arXiv 1410.5401), eq. 8.

    Args:
        weighting: ``[R, N]``, on the sub-simplex.
        shift: ``[R, S]``, the weight of each offset in ascending order, S odd, each row on the
            sub-simplex; as ``softmax`` makes it, on the simplex. Of three, the first is how much
            to go one slot back, the second how much to stay, the third how much to go one slot on.
            S may be greater than N: offsets that lead to the same slot add up.

    Returns:
        ``[R, N]``, non-negative; each row sums to the product of the sums of both, so to that of
        the weighting where the shift is on the simplex.

    Raises:
        MemcoreError: wrong rank, size, dtype or device, an even S; on a CPU, a value out of its
            range.

    >>> import torch
    >>> circular_shift(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.1, 0.2, 0.7]]))
    tensor([[0.7000, 0.1000, 0.2000]])
    """
    offsets, slots = shift.shape[1], weighting.shape[1]
    if offsets % 2 == 0:
        raise MemcoreError(
            f"shift: expected an odd number of offsets, with 0 in the middle, got {offsets}"
        )
    moved = (
        own * weighting.roll((place - offsets // 2) % slots, -1)
        for place, own in enumerate(shift[..., None].unbind(1))
    )
    return reduce(add, moved)
