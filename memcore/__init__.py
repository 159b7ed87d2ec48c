"""Differentiable external memory as pure functions over explicit state tuples.

Every function takes **one example**; batch it with ``torch.func.vmap``. Inputs are never
mutated, state is in the arguments and the results, and each docstring gives shapes, ranges,
invariants, errors and the source.
"""

from memcore import dnc
from memcore.access import erase_and_add, read, read_weighting, write_weighting
from memcore.allocation import allocation_weighting, retention, usage
from memcore.content import content_weighting, cosine_similarity
from memcore.dnc import DNCInterface, DNCState
from memcore.errors import MemcoreError
from memcore.linkage import directional_weightings, link, precedence
from memcore.numerics import exclusive_cumulative_product, oneplus, safe_norm

__version__ = "0.1.0"

__all__ = [
    "DNCInterface",
    "DNCState",
    "MemcoreError",
    "allocation_weighting",
    "content_weighting",
    "cosine_similarity",
    "directional_weightings",
    "dnc",
    "erase_and_add",
    "exclusive_cumulative_product",
    "link",
    "oneplus",
    "precedence",
    "read",
    "read_weighting",
    "retention",
    "safe_norm",
    "usage",
    "write_weighting",
]
