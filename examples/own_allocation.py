"""Property tests of an allocation function of one's own: one that is wrong, one that is right."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

import memcore
from memcore.errors import how_to_install
from memcore.testing import assert_subsimplex, check_allocation_weighting

try:
    from hypothesis import given, seed, settings

    from memcore.testing.strategies import usages
except ImportError:
    raise SystemExit(f"this example needs hypothesis: {how_to_install('testing')}") from None


def sorted_only(usage: Tensor) -> Tensor:
    """Wrong: it forgets to bring the weights back from the order of usage to that of the slots."""
    ascending = usage.sort(stable=True).values
    return (1 - ascending) * memcore.exclusive_cumulative_product(ascending)


def by_comparison(usage: Tensor) -> Tensor:
    """Right, without sorting: each slot gets what all slots before it in the order leave over."""
    place = torch.arange(len(usage))
    less, equal = usage[:, None] < usage, usage[:, None] == usage
    before = less | (equal & (place[:, None] < place))  # [i, j]: whether i comes before j
    left = (1 - usage).new_ones(len(usage))
    for own, later in zip(usage, before, strict=True):
        left = left * own.where(later, 1)
    return (1 - usage) * left


def check(function) -> None:
    """All that `check_allocation_weighting` knows of the DNC's allocation."""
    try:
        check_allocation_weighting(function, examples=options.examples)
    except AssertionError as error:
        print(f"{function.__name__} is wrong:\n{error}")
    else:
        print(f"{function.__name__} keeps every law")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100, help="of each law")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    check(sorted_only)
    check(by_comparison)

    @seed(options.seed)
    @settings(max_examples=options.examples, deadline=None, database=None)
    @given(usages(5))
    def test_it_is_that_of_memcore(usage: Tensor) -> None:
        """A property of one's own, with a strategy of `memcore.testing.strategies`."""
        weights = by_comparison(usage)
        assert_subsimplex(weights)
        torch.testing.assert_close(weights, memcore.allocation_weighting(usage))

    test_it_is_that_of_memcore()
    print(f"by_comparison and memcore's agree on {options.examples} usages that hypothesis drew")
