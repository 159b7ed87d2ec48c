"""Differentiable external memory as pure functions over explicit state tuples.

Every function takes **one example**; batch it with ``torch.func.vmap``. What is sparse, a
`RowMemory` and what is built on it, comes in batches. Inputs are never mutated, state is in the
arguments and the results, and each docstring gives shapes, ranges, invariants, errors and the
source.
"""

from memcore import dam, dnc, sam, sdnc
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
from memcore.content import (
    content_weighting,
    cosine_similarity,
    masked_content_weighting,
    masked_cosine_similarity,
)
from memcore.dam import DAMState
from memcore.dnc import DNCInterface, DNCState
from memcore.errors import MemcoreError
from memcore.index import Index, MaskedIndex, make_index
from memcore.linkage import directional_weightings, link, precedence, sharpen
from memcore.location import circular_shift, interpolate
from memcore.numerics import exclusive_cumulative_product, oneplus, safe_norm
from memcore.options import DNCOptions, SAMOptions
from memcore.persistent.links import Directional, SparseLinks
from memcore.persistent.recency import Recency
from memcore.persistent.rows import RowMemory, SparseWrite
from memcore.sam import SAMInterface, SAMState
from memcore.sdnc import SDNCInterface, SDNCState
from memcore.sparse_access import (
    masked_sparse_content_weighting,
    sparse_content_weighting,
    sparse_read,
    sparse_read_weighting,
    sparse_write_weighting,
)

__version__ = "0.2.0"

__all__ = [
    "DAMState",
    "DNCInterface",
    "DNCOptions",
    "DNCState",
    "Directional",
    "Index",
    "MaskedIndex",
    "MemcoreError",
    "Recency",
    "RowMemory",
    "SAMInterface",
    "SAMOptions",
    "SAMState",
    "SDNCInterface",
    "SDNCState",
    "SparseLinks",
    "SparseWrite",
    "allocation_weighting",
    "allocation_weightings",
    "circular_shift",
    "combined_write_weighting",
    "content_weighting",
    "cosine_similarity",
    "dam",
    "deallocate",
    "directional_weightings",
    "dnc",
    "erase_and_add",
    "erase_and_add_heads",
    "exclusive_cumulative_product",
    "interpolate",
    "link",
    "make_index",
    "masked_content_weighting",
    "masked_cosine_similarity",
    "masked_sparse_content_weighting",
    "oneplus",
    "precedence",
    "read",
    "read_weighting",
    "read_weighting_heads",
    "retention",
    "safe_norm",
    "sam",
    "sdnc",
    "sharpen",
    "sparse_content_weighting",
    "sparse_read",
    "sparse_read_weighting",
    "sparse_write_weighting",
    "usage",
    "write_weighting",
]
