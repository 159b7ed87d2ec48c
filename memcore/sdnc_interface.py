"""What a controller tells the SDNC's memory at one step: what it tells SAM's, and read modes.

Rae et al. 2016, arXiv 1610.09027, supplementary D. Axes: W word size, R read heads.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from memcore import sam_interface
from memcore.errors import MemcoreError, checked
from memcore.options import PLAIN_SAM, SAMOptions

__all__ = ["SDNCInterface", "interface_size", "interface_sizes", "parse_interface"]


class SDNCInterface(NamedTuple):
    """What a controller tells the memory at one step."""

    read_keys: Float[Tensor, "R W"]  # unbounded
    read_strengths: Float[Tensor, "R"]  # in [1, ∞)
    write_vector: Float[Tensor, "W"]  # unbounded
    write_gate: Float[Tensor, ""]  # α, in [0, 1]
    interpolation_gate: Float[Tensor, ""]  # γ, in [0, 1]
    read_modes: Float[Tensor, "R 3"]  # rows on the simplex: backward, content, forward
    read_masks: Float[Tensor, "R W"] | tuple[()] = ()  # in [μ, 1]; () without masking


def interface_sizes(
    word_size: int, read_heads: int, *, options: SAMOptions = PLAIN_SAM
) -> dict[str, int]:
    """How many numbers of the interface vector each field of `SDNCInterface` takes, in order.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1.
    """
    sizes = sam_interface.interface_sizes(word_size, read_heads, options=options)
    masks = sizes.pop("read_masks", None)
    modes = {"read_modes": 3 * read_heads}
    return sizes | modes if masks is None else sizes | modes | {"read_masks": masks}


def interface_size(word_size: int, read_heads: int, *, options: SAMOptions = PLAIN_SAM) -> int:
    """Length of the interface vector, ``R·W + 4·R + W + 2``; masking adds ``R·W``.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1.

    >>> interface_size(word_size=10, read_heads=2)
    40
    """
    return sum(interface_sizes(word_size, read_heads, options=options).values())


@checked
def parse_interface(
    vector: Float[Tensor, "*batch interface"],
    word_size: int,
    read_heads: int,
    *,
    options: SAMOptions = PLAIN_SAM,
) -> SDNCInterface:
    """Split an interface vector and bring each part into its range.

    Strengths by `oneplus`, gates by the sigmoid, each head's read modes by the softmax, masks by
    ``σ(m̂)(1 − μ) + μ``; keys and write vector as they are.

    Args:
        vector: ``[I]`` with I as `interface_size` gives it, unbounded, in the order of
            `interface_sizes`.
        word_size: W.
        read_heads: R.
        options: what the interface is for.

    Returns:
        The interface, each field in the range that `SDNCInterface` gives.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: wrong rank, size or dtype.
    """
    size = interface_size(word_size, read_heads, options=options)
    if vector.shape[-1] != size:
        raise MemcoreError(
            f"vector: expected {size} elements for word_size {word_size} and read_heads "
            f"{read_heads}{', masking' if options.masking else ''}, got {vector.shape[-1]}"
        )
    # Only the last axis is looked at, so that a batch will do as well.
    modes, masked = 3 * read_heads, read_heads * word_size * options.masking
    rest, modes, masks = vector.split([size - modes - masked, modes, masked], dim=-1)
    plain = SAMOptions(temperature=options.temperature)
    parsed = sam_interface.parse_interface.unchecked(rest, word_size, read_heads, options=plain)
    return SDNCInterface(
        *parsed[:5],
        read_modes=modes.unflatten(-1, (read_heads, 3)).softmax(-1),
        read_masks=options.masks(masks).unflatten(-1, (read_heads, word_size)) if masked else (),
    )
