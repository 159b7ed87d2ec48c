"""What later papers added to the models of 2016, each off unless asked for.

Csordás & Schmidhuber 2019, "Improving Differentiable Neural Computers Through Memory Masking,
De-allocation, and Link Distribution Sharpness Control" (arXiv 1904.10278); several write heads as
in google-deepmind/dnc.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, TypeVar

from torch import Tensor

from memcore.errors import MemcoreError, check_size

__all__ = [
    "PLAIN_DNC",
    "PLAIN_SAM",
    "DNCOptions",
    "SAMOptions",
    "check_options",
    "options_among",
    "told_to_kernels",
]


Kind = TypeVar("Kind", bound="SAMOptions")


@dataclass(frozen=True)
class SAMOptions:
    """Options of content addressing, which `memcore.sam`, `memcore.sdnc` and `memcore.dam` take.

    Args:
        masking: each key brings a mask ``m`` and is compared with rows as far as that shows them
            (`masked_content_weighting`).
        mask_minimum: μ in [0, 1): masks are ``σ(m̂)(1 − μ) + μ``, so that nothing is hidden whole.
        temperature: above 0: strengths are multiplied by it. In a memory with more slots than in
            training a softmax spreads further, which one above 1 works against.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: one out of its range, or a ``mask_minimum`` without ``masking``.
    """

    masking: bool = False
    mask_minimum: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_bool("masking", self.masking)
        for name in ("mask_minimum", "temperature"):
            value = getattr(self, name)
            if not isinstance(value, Real) or isinstance(value, bool):
                raise TypeError(f"{name}: expected a float, got {type(value).__name__}")
            # Frozen: a field can be normalised in this way only.
            object.__setattr__(self, name, float(value))
        if not 0 <= self.mask_minimum < 1:
            raise MemcoreError(
                f"mask_minimum: expected a number in [0, 1), got {self.mask_minimum:g}"
            )
        if self.mask_minimum and not self.masking:
            raise MemcoreError(
                f"mask_minimum: expected 0 without masking, got {self.mask_minimum:g}"
            )
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise MemcoreError(
                f"temperature: expected a finite number above 0, got {self.temperature:g}"
            )

    def strengths(self, strengths: Tensor) -> Tensor:
        """Strengths as `oneplus` makes them, with the temperature."""
        return strengths if self.temperature == 1 else strengths * self.temperature

    def masks(self, part: Tensor) -> Tensor:
        """``σ(m̂)(1 − μ) + μ`` of what an interface vector says of masks."""
        return part.sigmoid() * (1 - self.mask_minimum) + self.mask_minimum


@dataclass(frozen=True)
class DNCOptions(SAMOptions):
    """Options of `memcore.dnc`: those of `SAMOptions` and its own.

    Args:
        masking: as in `SAMOptions`, of read and write keys.
        mask_minimum: as in `SAMOptions`.
        temperature: as in `SAMOptions`, of read and write strengths.
        deallocation: what the free gates release is faded before the write (`deallocate`).
        link_sharpness: forward and backward weightings are concentrated as the controller says
            (`sharpen`).
        write_heads: H. With several, the state's ``precedence``, ``link`` and ``write_weights`` and
            what the interface says of writing have an axis H in front.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: one out of its range, or a ``mask_minimum`` without ``masking``.
    """

    deallocation: bool = False
    link_sharpness: bool = False
    write_heads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_bool("deallocation", self.deallocation)
        _check_bool("link_sharpness", self.link_sharpness)
        object.__setattr__(self, "write_heads", check_size("write_heads", self.write_heads))


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected a bool, got {type(value).__name__}")


def options_among(kind: type[Kind], arguments: Mapping[str, Any]) -> Kind:
    """Those among the arguments of a module's constructor, its ``locals()``."""
    return kind(**{field.name: arguments[field.name] for field in fields(kind)})


def check_options(options: Any, kind: type[SAMOptions]) -> None:
    """Raise unless these are options of that kind."""
    if type(options) is not kind:
        raise TypeError(f"options: expected {kind.__name__}, got {type(options).__name__}")


def told_to_kernels(options: SAMOptions) -> dict[str, Any]:
    """Fields of `memcore.kernels.parts.Memory`."""
    told: dict[str, Any] = {
        "masking": options.masking,
        "mask_minimum": options.mask_minimum,
        "temperature": options.temperature,
    }
    if isinstance(options, DNCOptions):
        told["writes"] = options.write_heads
        told["deallocation"] = options.deallocation
        told["sharpness"] = options.link_sharpness
    return told


PLAIN_SAM = SAMOptions()
PLAIN_DNC = DNCOptions()
