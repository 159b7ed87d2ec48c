"""For those who test addressing, ours or their own: an oracle, assertions and strategies.

`oracle`, `sam_oracle` and `sdnc_oracle` need NumPy only; the hypothesis strategies need the extra
``torch-memcore[testing]`` and are imported from `memcore.testing.strategies`.
"""

from memcore.testing import oracle, sam_oracle, sdnc_oracle
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
    "check_index",
    "complex_step_derivative",
    "oracle",
    "sam_oracle",
    "sdnc_oracle",
]
