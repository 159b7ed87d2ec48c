"""Checks of addressing functions, ours or a user's, against the invariants of the DNC and SAM."""

from memcore.testing.checks.access import (
    check_read_weighting,
    check_sparse_write_weighting,
    check_write_weighting,
)
from memcore.testing.checks.allocation import (
    check_allocation_weighting,
    check_retention,
    check_usage,
)
from memcore.testing.checks.content import check_content_weighting, check_sparse_content_weighting
from memcore.testing.checks.linkage import (
    check_directional_weightings,
    check_link,
    check_precedence,
)
from memcore.testing.checks.rollout import check_linkage
from memcore.testing.checks.search import Options
from memcore.testing.checks.step import check_step

__all__ = [
    "Options",
    "check_allocation_weighting",
    "check_content_weighting",
    "check_directional_weightings",
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
]
