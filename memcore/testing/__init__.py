"""For those who test addressing, ours or their own: checks, an oracle, assertions, strategies.

The extra ``torch-memcore[testing]`` is for the hypothesis strategies, which are imported from
`memcore.testing.strategies`, and for all checks but `check_index`; the oracles need NumPy only.
"""

from memcore.testing import oracle, sam_oracle, sdnc_oracle
from memcore.testing.checks import (
    check_allocation_weighting,
    check_content_weighting,
    check_directional_weightings,
    check_link,
    check_linkage,
    check_precedence,
    check_read_weighting,
    check_retention,
    check_sparse_content_weighting,
    check_sparse_write_weighting,
    check_step,
    check_usage,
    check_write_weighting,
)
from memcore.testing.index_contract import check_index
from memcore.testing.invariants import (
    assert_dnc_state,
    assert_finite,
    assert_links,
    assert_sam_state,
    assert_sdnc_state,
    assert_simplex,
    assert_subsimplex,
)
from memcore.testing.oracle import complex_step_derivative

__all__ = [
    "assert_dnc_state",
    "assert_finite",
    "assert_links",
    "assert_sam_state",
    "assert_sdnc_state",
    "assert_simplex",
    "assert_subsimplex",
    "check_allocation_weighting",
    "check_content_weighting",
    "check_directional_weightings",
    "check_index",
    "check_link",
    "check_linkage",
    "check_precedence",
    "check_read_weighting",
    "check_retention",
    "check_sparse_content_weighting",
    "check_sparse_write_weighting",
    "check_step",
    "check_usage",
    "check_write_weighting",
    "complex_step_derivative",
    "oracle",
    "sam_oracle",
    "sdnc_oracle",
]
