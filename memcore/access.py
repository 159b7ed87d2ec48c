"""Reading and writing the memory, and the gates that choose where."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from memcore.errors import checked
from memcore.ranges import UNIT, WEIGHTING, in_range

__all__ = ["erase_and_add", "read", "read_weighting", "write_weighting"]


@in_range(content=WEIGHTING, allocation=WEIGHTING, allocation_gate=UNIT, write_gate=UNIT)
@checked
def write_weighting(
    content: Float[Tensor, "N"],
    allocation: Float[Tensor, "N"],
    allocation_gate: Float[Tensor, ""],
    write_gate: Float[Tensor, ""],
) -> Float[Tensor, "N"]:
    """Where to write: between content and allocation, as far as the write gate is open.

    ``w = g_w (g_a a + (1 − g_a) c)``. Graves et al. 2016, Methods, "Write weighting".

    Args:
        content: ``[N]``, a content weighting.
        allocation: ``[N]``, an allocation weighting.
        allocation_gate: ``[]``, in [0, 1].
        write_gate: ``[]``, in [0, 1].

    Returns:
        ``[N]``, non-negative, sums to at most ``write_gate``.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    return write_gate * (allocation_gate * allocation + (1 - allocation_gate) * content)


@in_range(backward=WEIGHTING, content=WEIGHTING, forward=WEIGHTING, read_modes=WEIGHTING)
@checked
def read_weighting(
    backward: Float[Tensor, "R N"],
    content: Float[Tensor, "R N"],
    forward: Float[Tensor, "R N"],
    read_modes: Float[Tensor, "R 3"],
) -> Float[Tensor, "R N"]:
    """Where each head reads: backward or forward in time, or by content.

    ``w_r = π_r1 b_r + π_r2 c_r + π_r3 f_r``. Graves et al. 2016, Methods, "Read weighting".

    Args:
        backward: ``[R, N]``, on the sub-simplex.
        content: ``[R, N]``, on the simplex.
        forward: ``[R, N]``, on the sub-simplex.
        read_modes: ``[R, 3]``, in the order backward, content, forward; each row on the simplex.

    Returns:
        ``[R, N]``, non-negative, each row sums to at most 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    go_back, look_up, go_forward = read_modes[:, :, None].unbind(1)
    return go_back * backward + look_up * content + go_forward * forward


@in_range(write_weights=WEIGHTING, erase=UNIT)
@checked
def erase_and_add(
    memory: Float[Tensor, "N W"],
    write_weights: Float[Tensor, "N"],
    erase: Float[Tensor, "W"],
    add: Float[Tensor, "W"],
) -> Float[Tensor, "N W"]:
    """Write: fade the rows by the erase vector, then add the write vector, both as weighted.

    ``M = M' ∘ (1 − w eᵀ) + w vᵀ``. Graves et al. 2016, Methods, "Memory reading and writing".

    Args:
        memory: ``[N, W]``, unbounded.
        write_weights: ``[N]``, on the sub-simplex.
        erase: ``[W]``, in [0, 1].
        add: ``[W]``, unbounded.

    Returns:
        ``[N, W]``; rows of weight 0 are unchanged.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    weights = write_weights[:, None]
    return memory * (1 - weights * erase) + weights * add


@checked
def read(memory: Float[Tensor, "N W"], read_weights: Float[Tensor, "R N"]) -> Float[Tensor, "R W"]:
    """Read: the weighted sum of the rows, one for each head.

    ``r = Mᵀ w``. Graves et al. 2016, Methods, "Memory reading and writing".

    Args:
        memory: ``[N, W]``, unbounded.
        read_weights: ``[R, N]``, each row on the sub-simplex.

    Returns:
        ``[R, W]``.

    Raises:
        MemcoreError: wrong rank, size, dtype or device.
    """
    return read_weights @ memory
