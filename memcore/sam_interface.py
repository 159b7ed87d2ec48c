"""What a controller tells SAM's, DAM's or the SDNC's memory at one step.

Rae et al. 2016, "Scaling Memory-Augmented Neural Networks with Sparse Reads and Writes" (arXiv
1610.09027), section 3. Axes: W word size, R read heads.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from memcore.errors import MemcoreError, check_size, checked
from memcore.numerics import oneplus
from memcore.options import PLAIN_SAM, SAMOptions, check_options
from memcore.trees import serializable

__all__ = ["SAMInterface", "interface_size", "interface_sizes", "parse_interface"]


@serializable
class SAMInterface(NamedTuple):
    """What a controller tells the memory at one step."""

    read_keys: Float[Tensor, "R W"]  # unbounded
    read_strengths: Float[Tensor, "R"]  # in [1, ∞)
    write_vector: Float[Tensor, "W"]  # unbounded
    write_gate: Float[Tensor, ""]  # α, in [0, 1]
    interpolation_gate: Float[Tensor, ""]  # γ, in [0, 1]
    read_masks: Float[Tensor, "R W"] | tuple[()] = ()  # in [μ, 1]; () without masking


def interface_sizes(
    word_size: int, read_heads: int, *, options: SAMOptions = PLAIN_SAM
) -> dict[str, int]:
    """How many numbers of the interface vector each field of `SAMInterface` takes, in order.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1.
    """
    check_size("word_size", word_size)
    check_size("read_heads", read_heads)
    check_options(options, SAMOptions)
    named = {
        "read_keys": read_heads * word_size,
        "read_strengths": read_heads,
        "write_vector": word_size,
        "write_gate": 1,
        "interpolation_gate": 1,
    }
    return named | {"read_masks": read_heads * word_size} if options.masking else named


def interface_size(word_size: int, read_heads: int, *, options: SAMOptions = PLAIN_SAM) -> int:
    """Length of the interface vector, ``R·W + R + W + 2``; masking adds ``R·W``.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1.

    >>> interface_size(word_size=10, read_heads=2)
    34
    """
    return sum(interface_sizes(word_size, read_heads, options=options).values())


@checked
def parse_interface(
    vector: Float[Tensor, "*batch interface"],
    word_size: int,
    read_heads: int,
    *,
    options: SAMOptions = PLAIN_SAM,
) -> SAMInterface:
    """Split an interface vector and bring each part into its range.

    Strengths by `oneplus`, gates by the sigmoid, masks by ``σ(m̂)(1 − μ) + μ``; keys and write
    vector as they are.

    Args:
        vector: ``[I]`` with I as `interface_size` gives it, unbounded, in the order of
            `interface_sizes`.
        word_size: W.
        read_heads: R.
        options: what the interface is for.

    Returns:
        The interface, each field in the range that `SAMInterface` gives.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: wrong rank, size or dtype.
    """
    sizes = interface_sizes(word_size, read_heads, options=options)
    if vector.shape[-1] != sum(sizes.values()):
        raise MemcoreError(
            f"vector: expected {sum(sizes.values())} elements for word_size {word_size} and "
            f"read_heads {read_heads}{', masking' if options.masking else ''}, "
            f"got {vector.shape[-1]}"
        )
    masked = read_heads * word_size * options.masking
    # Only the last axis is looked at, so that a batch will do as well.
    keys, strengths, write_vector, gates, masks = vector.split(
        [read_heads * word_size, read_heads, word_size, 2, masked], dim=-1
    )
    write_gate, interpolation_gate = gates.sigmoid().unbind(-1)
    return SAMInterface(
        read_keys=keys.unflatten(-1, (read_heads, word_size)),
        read_strengths=options.strengths(oneplus(strengths)),
        write_vector=write_vector,
        write_gate=write_gate,
        interpolation_gate=interpolation_gate,
        read_masks=options.masks(masks).unflatten(-1, (read_heads, word_size)) if masked else (),
    )
