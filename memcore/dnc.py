"""The Differentiable Neural Computer: one step of its memory, for one example.

Graves et al. 2016, "Hybrid computing using a neural network with dynamic external memory",
Nature 538. Batch it with ``torch.func.vmap(dnc.step)``.

Axes: N slots, W word size, R read heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from memcore.access import erase_and_add, read, read_weighting, write_weighting
from memcore.allocation import allocation_weighting, retention, usage
from memcore.batched import BatchedModel
from memcore.content import content_weighting
from memcore.errors import (
    MemcoreError,
    allocated,
    check_device,
    check_float_dtype,
    check_size,
    checked,
)
from memcore.linkage import directional_weightings, link, precedence
from memcore.numerics import oneplus
from memcore.trees import serializable

__all__ = [
    "DNCInterface",
    "DNCState",
    "batched_step",
    "init_state",
    "interface_size",
    "interface_sizes",
    "parse_interface",
    "step",
]


WAY_OUT = "take fewer slots, or the SDNC, which keeps a few links of each"


@serializable
class DNCState(NamedTuple):
    """All that a DNC's memory carries from one step to the next."""

    memory: Float[Tensor, "N W"]  # unbounded
    usage: Float[Tensor, "N"]  # in [0, 1]
    precedence: Float[Tensor, "N"]  # on the sub-simplex
    link: Float[Tensor, "N N"]  # in [0, 1], diagonal 0
    read_weights: Float[Tensor, "R N"]  # each row on the sub-simplex
    write_weights: Float[Tensor, "N"]  # on the sub-simplex


@serializable
class DNCInterface(NamedTuple):
    """What a controller tells the memory at one step."""

    read_keys: Float[Tensor, "R W"]  # unbounded
    read_strengths: Float[Tensor, "R"]  # in [1, ∞)
    write_key: Float[Tensor, "W"]  # unbounded
    write_strength: Float[Tensor, ""]  # in [1, ∞)
    erase_vector: Float[Tensor, "W"]  # in [0, 1]
    write_vector: Float[Tensor, "W"]  # unbounded
    free_gates: Float[Tensor, "R"]  # in [0, 1]
    allocation_gate: Float[Tensor, ""]  # in [0, 1]
    write_gate: Float[Tensor, ""]  # in [0, 1]
    read_modes: Float[Tensor, "R 3"]  # rows on the simplex: backward, content, forward


def interface_sizes(word_size: int, read_heads: int) -> dict[str, int]:
    """How many numbers of the interface vector each field of `DNCInterface` takes, in order.

    Raises:
        MemcoreError: a size below 1.
    """
    check_size("word_size", word_size)
    check_size("read_heads", read_heads)
    sizes = (read_heads * word_size, read_heads, word_size, 1, word_size, word_size)
    sizes += (read_heads, 1, 1, 3 * read_heads)
    return dict(zip(DNCInterface._fields, sizes, strict=True))


def interface_size(word_size: int, read_heads: int) -> int:
    """Length of the interface vector, ``R·W + 3·W + 5·R + 3``.

    Raises:
        MemcoreError: a size below 1.

    >>> interface_size(word_size=10, read_heads=2)
    63
    """
    return sum(interface_sizes(word_size, read_heads).values())


@checked
def parse_interface(
    vector: Float[Tensor, "interface"], word_size: int, read_heads: int
) -> DNCInterface:
    """Split an interface vector and bring each part into its range.

    Strengths by `oneplus`, erase vector and gates by the sigmoid, read modes by the softmax;
    keys and write vector as they are. Graves et al. 2016, Methods, "Interface parameters".

    Args:
        vector: ``[R·W + 3·W + 5·R + 3]``, unbounded, in the order of `interface_sizes`.
        word_size: W.
        read_heads: R.

    Returns:
        The interface, each field in the range that `DNCInterface` gives.

    Raises:
        MemcoreError: wrong rank, size or dtype.
    """
    sizes = interface_sizes(word_size, read_heads)
    length = vector.shape[0]
    if length != sum(sizes.values()):
        raise MemcoreError(
            f"vector: expected {sum(sizes.values())} elements for word_size {word_size} and "
            f"read_heads {read_heads}, got {length}"
        )
    parts = DNCInterface(*vector.split(list(sizes.values())))
    return DNCInterface(
        read_keys=parts.read_keys.reshape(read_heads, word_size),
        read_strengths=oneplus(parts.read_strengths),
        write_key=parts.write_key,
        write_strength=oneplus(parts.write_strength).squeeze(0),
        erase_vector=parts.erase_vector.sigmoid(),
        write_vector=parts.write_vector,
        free_gates=parts.free_gates.sigmoid(),
        allocation_gate=parts.allocation_gate.sigmoid().squeeze(0),
        write_gate=parts.write_gate.sigmoid().squeeze(0),
        read_modes=parts.read_modes.reshape(read_heads, 3).softmax(-1),
    )


def init_state(
    slots: int,
    word_size: int,
    read_heads: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
) -> DNCState:
    """The state before the first step: an empty memory, nothing used, written or read.

    Args:
        slots: N.
        word_size: W.
        read_heads: R.
        dtype: float32 or float64.
        device: PyTorch's convention.

    Returns:
        A state of zeros.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1, another dtype, or a device that is not there.
    """
    check_size("slots", slots)
    check_size("word_size", word_size)
    check_size("read_heads", read_heads)
    check_float_dtype("dtype", dtype)
    check_device("device", device)

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def make() -> DNCState:
        return DNCState(
            memory=zeros(slots, word_size),
            usage=zeros(slots),
            precedence=zeros(slots),
            link=zeros(slots, slots),
            read_weights=zeros(read_heads, slots),
            write_weights=zeros(slots),
        )

    return allocated(make, (slots, max(slots, word_size, read_heads)), dtype, WAY_OUT)


@checked
def step(state: DNCState, interface: DNCInterface) -> tuple[Float[Tensor, "R W"], DNCState]:
    """Write to the memory, then read from it: one step of one example.

    Graves et al. 2016, Methods; in order: usage from the step before, allocation, write
    weighting, the write, links, precedence, read weightings on the memory just written.

    Args:
        state: as `init_state` or an earlier step gives it; not changed.
        interface: as `parse_interface` gives it.

    Returns:
        ``(read_vectors [R, W], state)``, every field of the state in the range that `DNCState`
        gives.

    Raises:
        TypeError: ``state`` or ``interface`` of another type.
        MemcoreError: a field of the wrong rank, size, dtype or device.
    """
    # The arguments are checked once for all that follows.
    kept = retention.unchecked(interface.free_gates, state.read_weights)
    used = usage.unchecked(state.usage, state.write_weights, kept)
    write_content = content_weighting.unchecked(
        state.memory, interface.write_key[None], interface.write_strength[None]
    )
    write_weights = write_weighting.unchecked(
        write_content[0],
        allocation_weighting.unchecked(used),
        interface.allocation_gate,
        interface.write_gate,
    )
    memory = erase_and_add.unchecked(
        state.memory, write_weights, interface.erase_vector, interface.write_vector
    )
    links = link.unchecked(state.link, write_weights, state.precedence)
    forward, backward = directional_weightings.unchecked(links, state.read_weights)
    read_content = content_weighting.unchecked(
        memory, interface.read_keys, interface.read_strengths
    )
    read_weights = read_weighting.unchecked(backward, read_content, forward, interface.read_modes)
    return read.unchecked(memory, read_weights), DNCState(
        memory=memory,
        usage=used,
        precedence=precedence.unchecked(state.precedence, write_weights),
        link=links,
        read_weights=read_weights,
        write_weights=write_weights,
    )


def _from_vector(
    state: DNCState, vector: Tensor, word_size: int, read_heads: int
) -> tuple[Tensor, DNCState]:
    return step.unchecked(state, parse_interface.unchecked(vector, word_size, read_heads))


_model = BatchedModel("DNC", DNCState, _from_vector, interface_size)


def batched_step(
    state: DNCState, vectors: Float[Tensor, "B interface"], *, backend: str = "auto"
) -> tuple[Float[Tensor, "B R W"], DNCState]:
    """`parse_interface` and `step` for a batch, by compiled loops where they apply.

    For a controller of one's own: it is differentiable, twice too, and equals
    ``vmap(step)`` of the parsed vectors to rounding.

    Args:
        state: as `init_state` gives it with the batch in front of each field, or from an earlier
            step; not changed.
        vectors: ``[B, R·W + 3·W + 5·R + 3]``, unbounded.
        backend: ``'numba'``: compiled loops on the CPU, or an error that says why not;
            ``'reference'``: torch's operations; ``'auto'``: the former where they apply.

    Returns:
        ``(read_vectors [B, R, W], state)``.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a field or the vectors of the wrong shape, dtype or device; an unknown
            backend; ``'numba'`` with what the kernels do not take.
    """
    _model.check(state, vectors, backend)
    return _model.step(state, vectors, backend)


def batched_step_unchecked(
    state: DNCState, vectors: Tensor, backend: str
) -> tuple[Tensor, DNCState]:
    """`batched_step` of what was checked already."""
    return _model.step(state, vectors, backend)
