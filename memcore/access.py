"""Reading and writing the memory, and the gates that choose where."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from memcore.errors import MemcoreError, checked
from memcore.ranges import UNIT, WEIGHTING, in_range

__all__ = [
    "deallocate",
    "erase_and_add",
    "erase_and_add_heads",
    "read",
    "read_weighting",
    "read_weighting_heads",
    "write_weighting",
]


@in_range(content=WEIGHTING, allocation=WEIGHTING, allocation_gate=UNIT, write_gate=UNIT)
@checked
def write_weighting(
    content: Float[Tensor, "*batch N"],
    allocation: Float[Tensor, "*batch N"],
    allocation_gate: Float[Tensor, "*batch"],
    write_gate: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch N"]:
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
    by_allocation, opened = allocation_gate[..., None], write_gate[..., None]
    return opened * (by_allocation * allocation + (1 - by_allocation) * content)


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


@in_range(backward=WEIGHTING, content=WEIGHTING, forward=WEIGHTING, read_modes=WEIGHTING)
@checked
def read_weighting_heads(
    backward: Float[Tensor, "H R N"],
    content: Float[Tensor, "R N"],
    forward: Float[Tensor, "H R N"],
    read_modes: Float[Tensor, "R M"],
) -> Float[Tensor, "R N"]:
    """`read_weighting` where several write heads have links of their own.

    ``w_r = Σ_h π_{r,h} b_{h,r} + π_{r,H+1} c_r + Σ_h π_{r,H+1+h} f_{h,r}``. google-deepmind/dnc,
    ``_read_weights``.

    Args:
        backward: ``[H, R, N]``, on the sub-simplex, of the links of each write head.
        content: ``[R, N]``, on the simplex.
        forward: ``[H, R, N]``, on the sub-simplex.
        read_modes: ``[R, 2·H + 1]``: backward of each write head, content, forward of each write
            head; each row on the simplex.

    Returns:
        ``[R, N]``, non-negative, each row sums to at most 1.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    heads, modes = backward.shape[0], read_modes.shape[1]
    if modes != 2 * heads + 1:
        raise MemcoreError(
            f"read_modes: expected {2 * heads + 1} for each read head with {heads} write heads, "
            f"got {modes}"
        )
    go_back, look_up, go_forward = read_modes.mT[..., None].split([heads, 1, heads])
    return (go_back * backward + go_forward * forward).sum(0) + look_up[0] * content


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


@in_range(write_weights=WEIGHTING, erase=UNIT)
@checked
def erase_and_add_heads(
    memory: Float[Tensor, "N W"],
    write_weights: Float[Tensor, "H N"],
    erase: Float[Tensor, "H W"],
    add: Float[Tensor, "H W"],
) -> Float[Tensor, "N W"]:
    """Write by several heads at once: all erase, then all add.

    ``M = M' ∘ Π_h (1 − w_h e_hᵀ) + Σ_h w_h v_hᵀ``. google-deepmind/dnc, ``_erase_and_write``.

    Args:
        memory: ``[N, W]``, unbounded.
        write_weights: ``[H, N]``, each on the sub-simplex.
        erase: ``[H, W]``, in [0, 1].
        add: ``[H, W]``, unbounded.

    Returns:
        ``[N, W]``; rows of weight 0 in all heads are unchanged.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    for weights, erased in zip(write_weights.unbind(0), erase.unbind(0), strict=True):
        memory = memory * (1 - weights[:, None] * erased)
    return memory + write_weights.mT @ add


@in_range(retention=UNIT)
@checked
def deallocate(memory: Float[Tensor, "N W"], retention: Float[Tensor, "N"]) -> Float[Tensor, "N W"]:
    """Fade what the free gates release, before a write: ``M' ∘ ψ 1ᵀ``.

    Else a slot that is free again still has its content, and is still found by it. Csordás &
    Schmidhuber 2019, "De-allocation and content-based look-up".

    Args:
        memory: ``[N, W]``, unbounded.
        retention: ``[N]``, in [0, 1], that of this step.

    Returns:
        ``[N, W]``; rows that are retained whole are unchanged.

    Raises:
        MemcoreError: wrong rank, size, dtype or device; on a CPU, a value out of its range.
    """
    return memory * retention[:, None]


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
