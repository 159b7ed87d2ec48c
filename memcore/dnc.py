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

from memcore.access import (
    deallocate,
    erase_and_add,
    erase_and_add_heads,
    read,
    read_weighting,
    read_weighting_heads,
    write_weighting,
)
from memcore.allocation import (
    allocation_weighting,
    allocation_weightings,
    combined_write_weighting,
    retention,
    usage,
)
from memcore.batched import BatchedModel
from memcore.content import content_weighting, masked_content_weighting
from memcore.errors import (
    MemcoreError,
    allocated,
    check_device,
    check_float_dtype,
    check_size,
    checked,
)
from memcore.linkage import directional_weightings, link, precedence, sharpen
from memcore.numerics import oneplus
from memcore.options import PLAIN_DNC, DNCOptions, check_options
from memcore.trees import serializable

__all__ = [
    "DNCInterface",
    "DNCOptions",
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
    precedence: Float[Tensor, "*H N"]  # on the sub-simplex
    link: Float[Tensor, "*H N N"]  # in [0, 1], diagonal 0
    read_weights: Float[Tensor, "R N"]  # each row on the sub-simplex
    write_weights: Float[Tensor, "*H N"]  # on the sub-simplex


@serializable
class DNCInterface(NamedTuple):
    """What a controller tells the memory at one step.

    H is there with several write heads only. The last three are ``()`` without their option.
    """

    read_keys: Float[Tensor, "R W"]  # unbounded
    read_strengths: Float[Tensor, "R"]  # in [1, ∞), times the temperature
    write_key: Float[Tensor, "*H W"]  # unbounded
    write_strength: Float[Tensor, "*H"]  # in [1, ∞), times the temperature
    erase_vector: Float[Tensor, "*H W"]  # in [0, 1]
    write_vector: Float[Tensor, "*H W"]  # unbounded
    free_gates: Float[Tensor, "R"]  # in [0, 1]
    allocation_gate: Float[Tensor, "*H"]  # in [0, 1]
    write_gate: Float[Tensor, "*H"]  # in [0, 1]
    read_modes: Float[Tensor, "R M"]  # rows on the simplex: backward (H), content, forward (H)
    read_masks: Float[Tensor, "R W"] | tuple[()] = ()  # in [μ, 1]
    write_mask: Float[Tensor, "*H W"] | tuple[()] = ()  # in [μ, 1]
    sharpness: Float[Tensor, "R 2"] | tuple[()] = ()  # in [1, ∞): of forward, of backward


def interface_sizes(
    word_size: int, read_heads: int, *, options: DNCOptions = PLAIN_DNC
) -> dict[str, int]:
    """How many numbers of the interface vector each field of `DNCInterface` takes, in order.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1.
    """
    check_size("word_size", word_size)
    check_size("read_heads", read_heads)
    check_options(options, DNCOptions)
    heads = options.write_heads
    named = {
        "read_keys": read_heads * word_size,
        "read_strengths": read_heads,
        "write_key": heads * word_size,
        "write_strength": heads,
        "erase_vector": heads * word_size,
        "write_vector": heads * word_size,
        "free_gates": read_heads,
        "allocation_gate": heads,
        "write_gate": heads,
        "read_modes": (2 * heads + 1) * read_heads,
    }
    if options.masking:
        named |= {"read_masks": read_heads * word_size, "write_mask": heads * word_size}
    if options.link_sharpness:
        named["sharpness"] = 2 * read_heads
    return named


def interface_size(word_size: int, read_heads: int, *, options: DNCOptions = PLAIN_DNC) -> int:
    """Length of the interface vector, ``R·W + 3·W + 5·R + 3`` without options.

    With H write heads ``R·W + 3·H·W + 3·R + 3·H + R·(2·H + 1)``; masking adds ``(R + H)·W``, link
    sharpness ``2·R``.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1.

    >>> interface_size(word_size=10, read_heads=2)
    63
    """
    return sum(interface_sizes(word_size, read_heads, options=options).values())


@checked
def parse_interface(
    vector: Float[Tensor, "interface"],
    word_size: int,
    read_heads: int,
    *,
    options: DNCOptions = PLAIN_DNC,
) -> DNCInterface:
    """Split an interface vector and bring each part into its range.

    Strengths and sharpness by `oneplus`, erase vectors and gates by the sigmoid, masks by
    ``σ(m̂)(1 − μ) + μ``, read modes by the softmax; keys and write vectors as they are. Graves et
    al. 2016, Methods, "Interface parameters"; masks and sharpness: Csordás & Schmidhuber 2019.

    Args:
        vector: ``[I]`` with I as `interface_size` gives it, unbounded, in the order of
            `interface_sizes`.
        word_size: W.
        read_heads: R.
        options: what the interface is for.

    Returns:
        The interface, each field in the range that `DNCInterface` gives.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: wrong rank, size or dtype.
    """
    sizes = interface_sizes(word_size, read_heads, options=options)
    length = vector.shape[0]
    if length != sum(sizes.values()):
        raise MemcoreError(
            f"vector: expected {sum(sizes.values())} elements for word_size {word_size} and "
            f"read_heads {read_heads}{_asked_for(options)}, got {length}"
        )
    parts = DNCInterface(**dict(zip(sizes, vector.split(list(sizes.values())), strict=True)))
    several = options.write_heads > 1

    def words(part: Tensor) -> Tensor:
        return part.reshape(-1, word_size) if several else part

    def numbers(part: Tensor) -> Tensor:
        return part if several else part.squeeze(0)

    interface = DNCInterface(
        read_keys=parts.read_keys.reshape(read_heads, word_size),
        read_strengths=options.strengths(oneplus(parts.read_strengths)),
        write_key=words(parts.write_key),
        write_strength=numbers(options.strengths(oneplus(parts.write_strength))),
        erase_vector=words(parts.erase_vector.sigmoid()),
        write_vector=words(parts.write_vector),
        free_gates=parts.free_gates.sigmoid(),
        allocation_gate=numbers(parts.allocation_gate.sigmoid()),
        write_gate=numbers(parts.write_gate.sigmoid()),
        read_modes=parts.read_modes.reshape(read_heads, -1).softmax(-1),
    )
    if isinstance(parts.read_masks, Tensor) and isinstance(parts.write_mask, Tensor):
        interface = interface._replace(
            read_masks=options.masks(parts.read_masks).reshape(read_heads, word_size),
            write_mask=words(options.masks(parts.write_mask)),
        )
    if isinstance(parts.sharpness, Tensor):
        sharpness = oneplus(parts.sharpness).reshape(read_heads, 2)
        interface = interface._replace(sharpness=sharpness)
    return interface


def _asked_for(options: DNCOptions) -> str:
    """The options that an interface grows with, for a message."""
    asked = [f"write_heads {options.write_heads}"] if options.write_heads > 1 else []
    asked += [name for name in ("masking", "link_sharpness") if getattr(options, name)]
    return "".join(f", {name}" for name in asked)


def init_state(
    slots: int,
    word_size: int,
    read_heads: int,
    *,
    options: DNCOptions = PLAIN_DNC,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
) -> DNCState:
    """The state before the first step: an empty memory, nothing used, written or read.

    Args:
        slots: N.
        word_size: W.
        read_heads: R.
        options: of which ``write_heads`` counts.
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
    check_options(options, DNCOptions)
    check_float_dtype("dtype", dtype)
    check_device("device", device)
    heads = (options.write_heads,) if options.write_heads > 1 else ()

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=device)

    def make() -> DNCState:
        return DNCState(
            memory=zeros(slots, word_size),
            usage=zeros(slots),
            precedence=zeros(*heads, slots),
            link=zeros(*heads, slots, slots),
            read_weights=zeros(read_heads, slots),
            write_weights=zeros(*heads, slots),
        )

    largest = (options.write_heads, slots, max(slots, word_size, read_heads))
    return allocated(make, largest if heads else largest[1:], dtype, WAY_OUT)


@checked
def step(
    state: DNCState, interface: DNCInterface, *, options: DNCOptions = PLAIN_DNC
) -> tuple[Float[Tensor, "R W"], DNCState]:
    """Write to the memory, then read from it: one step of one example.

    Graves et al. 2016, Methods; in order: usage from the step before, allocation, write
    weighting, the write, links, precedence, read weightings on the memory just written.

    Args:
        state: as `init_state` or an earlier step gives it; not changed.
        interface: as `parse_interface` gives it.
        options: those of the state and the interface.

    Returns:
        ``(read_vectors [R, W], state)``, every field of the state in the range that `DNCState`
        gives.

    Raises:
        TypeError: an argument of another type.
        MemcoreError: a field of the wrong rank, size, dtype or device; options that are not those
            of the state and the interface.
    """
    # The arguments are checked once for all that follows.
    check_options(options, DNCOptions)
    _check_options(state, interface, options)
    kept = retention.unchecked(interface.free_gates, state.read_weights)
    write_weights, used = _where_to_write(state, interface, kept)
    several = write_weights.dim() > 1
    before = deallocate.unchecked(state.memory, kept) if options.deallocation else state.memory
    write = erase_and_add_heads if several else erase_and_add
    memory = write.unchecked(before, write_weights, interface.erase_vector, interface.write_vector)
    links = link.unchecked(state.link, write_weights, state.precedence)
    forward, backward = directional_weightings.unchecked(links, state.read_weights)
    if isinstance(interface.sharpness, Tensor):
        onward, back = interface.sharpness.unbind(-1)
        forward, backward = sharpen.unchecked(forward, onward), sharpen.unchecked(backward, back)
    read_content = _content(
        memory, interface.read_keys, interface.read_strengths, interface.read_masks
    )
    choose = read_weighting_heads if several else read_weighting
    read_weights = choose.unchecked(backward, read_content, forward, interface.read_modes)
    return read.unchecked(memory, read_weights), DNCState(
        memory=memory,
        usage=used,
        precedence=precedence.unchecked(state.precedence, write_weights),
        link=links,
        read_weights=read_weights,
        write_weights=write_weights,
    )


def _check_options(state: DNCState, interface: DNCInterface, options: DNCOptions) -> None:
    """Raise unless state and interface are of these options."""
    heads = state.write_weights.shape[0] if state.write_weights.dim() > 1 else 1
    masks = isinstance(interface.read_masks, Tensor), isinstance(interface.write_mask, Tensor)
    if masks[0] != masks[1]:
        given, missing = ("read_masks", "write_mask") if masks[0] else ("write_mask", "read_masks")
        raise MemcoreError(f"interface.{missing}: expected a tensor, as {given} is one, got ()")
    for name, there in (
        ("write_heads", heads),
        ("masking", masks[0]),
        ("link_sharpness", isinstance(interface.sharpness, Tensor)),
    ):
        if getattr(options, name) != there:
            whose = "state" if name == "write_heads" else "interface"
            raise MemcoreError(
                f"options: expected {name}={there}, as the {whose} has it, "
                f"got {name}={getattr(options, name)}"
            )
    reads, modes = interface.read_modes.shape
    if modes != 2 * heads + 1:
        raise MemcoreError(
            f"interface.read_modes: expected shape [{reads}, {2 * heads + 1}] with write_heads "
            f"{heads}, got [{reads}, {modes}]"
        )


def _where_to_write(
    state: DNCState, interface: DNCInterface, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """The write weighting, ``[N]`` or ``[H, N]``, and the usage ``[N]`` from which it follows."""
    gates = interface.allocation_gate, interface.write_gate
    if state.write_weights.dim() > 1:
        written = combined_write_weighting.unchecked(state.write_weights)
        used = usage.unchecked(state.usage, written, kept)
        content = _content(
            state.memory, interface.write_key, interface.write_strength, interface.write_mask
        )
        allocation = allocation_weightings.unchecked(used, *gates)
    else:
        used = usage.unchecked(state.usage, state.write_weights, kept)
        mask = interface.write_mask
        content = _content(
            state.memory,
            interface.write_key[None],
            interface.write_strength[None],
            mask[None] if isinstance(mask, Tensor) else (),
        )[0]
        allocation = allocation_weighting.unchecked(used)
    return write_weighting.unchecked(content, allocation, *gates), used


def _content(memory: Tensor, keys: Tensor, strengths: Tensor, masks: Tensor | tuple[()]) -> Tensor:
    if isinstance(masks, Tensor):
        return masked_content_weighting.unchecked(memory, keys, strengths, masks)
    return content_weighting.unchecked(memory, keys, strengths)


def _from_vector(
    state: DNCState, vector: Tensor, word_size: int, read_heads: int, options: DNCOptions
) -> tuple[Tensor, DNCState]:
    interface = parse_interface.unchecked(vector, word_size, read_heads, options=options)
    return step.unchecked(state, interface, options=options)


_model = BatchedModel("DNC", DNCState, DNCOptions, _from_vector, interface_size)


def batched_step(
    state: DNCState,
    vectors: Float[Tensor, "B interface"],
    *,
    options: DNCOptions = PLAIN_DNC,
    backend: str = "auto",
) -> tuple[Float[Tensor, "B R W"], DNCState]:
    """`parse_interface` and `step` for a batch, by compiled loops where they apply.

    For a controller of one's own: it is differentiable, twice too, and equals
    ``vmap(step)`` of the parsed vectors to rounding.

    Args:
        state: as `init_state` gives it with the batch in front of each field, or from an earlier
            step; not changed.
        vectors: ``[B, I]`` with I as `interface_size` gives it, unbounded.
        options: those that `init_state` was given.
        backend: ``'numba'``: compiled loops on the CPU, or an error that says why not;
            ``'reference'``: torch's operations; ``'auto'``: the former where they apply.

    Returns:
        ``(read_vectors [B, R, W], state)``.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a field or the vectors of the wrong shape, dtype or device; an unknown
            backend; ``'numba'`` with what the kernels do not take.
    """
    _model.check(state, vectors, options, backend)
    return _model.step(state, vectors, options, backend)


def batched_step_unchecked(
    state: DNCState, vectors: Tensor, options: DNCOptions, backend: str
) -> tuple[Tensor, DNCState]:
    """`batched_step` of what was checked already."""
    return _model.step(state, vectors, options, backend)
