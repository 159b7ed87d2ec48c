"""Differentiable external memory as pure functions over explicit state tuples.

Every function takes **one example**; batch it with ``torch.func.vmap``. What is sparse, a
`RowMemory` and what is built on it, comes in batches. Inputs are never mutated, state is in the
arguments and the results, and each docstring gives shapes, ranges, invariants, errors and the
source.
"""

from memcore import dam, dnc, sam, sdnc
from memcore.access import erase_and_add, read, read_weighting, write_weighting
from memcore.allocation import allocation_weighting, retention, usage
from memcore.content import content_weighting, cosine_similarity
from memcore.dam import DAMState
from memcore.dnc import DNCInterface, DNCState
from memcore.errors import MemcoreError
from memcore.index import Index, make_index
from memcore.linkage import directional_weightings, link, precedence
from memcore.numerics import exclusive_cumulative_product, oneplus, safe_norm
from memcore.persistent.links import Directional, SparseLinks
from memcore.persistent.recency import Recency
from memcore.persistent.rows import RowMemory, SparseWrite
from memcore.sam import SAMInterface, SAMState
from memcore.sdnc import SDNCInterface, SDNCState
from memcore.sparse_access import (
    sparse_content_weighting,
    sparse_read,
    sparse_read_weighting,
    sparse_write_weighting,
)

__version__ = "0.1.0"

__all__ = [
    "DAMState",
    "DNCInterface",
    "DNCState",
    "Directional",
    "Index",
    "MemcoreError",
    "Recency",
    "RowMemory",
    "SAMInterface",
    "SAMState",
    "SDNCInterface",
    "SDNCState",
    "SparseLinks",
    "SparseWrite",
    "allocation_weighting",
    "content_weighting",
    "cosine_similarity",
    "dam",
    "directional_weightings",
    "dnc",
    "erase_and_add",
    "exclusive_cumulative_product",
    "link",
    "make_index",
    "oneplus",
    "precedence",
    "read",
    "read_weighting",
    "retention",
    "safe_norm",
    "sam",
    "sdnc",
    "sparse_content_weighting",
    "sparse_read",
    "sparse_read_weighting",
    "sparse_write_weighting",
    "usage",
    "write_weighting",
]
