"""Every fault of `tests/faults/check.py` can still be planted, and something looks for it."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from fault import Fault
from planted import FAULTS

ROOT = Path(__file__).parents[1]

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


@every_fault
def test_it_can_be_planted(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    assert fault.new != fault.old
    ast.parse(text.replace(fault.old, fault.new))


@every_fault
def test_there_are_tests_that_look_for_it(fault: Fault) -> None:
    assert fault.tests
    for selected in fault.tests:
        path, *names = selected.split("::")
        assert (ROOT / path).is_file()
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in names:
            assert f"def {name.partition('[')[0]}(" in source


def test_each_has_a_name_of_its_own() -> None:
    assert [
        name for name, count in Counter(fault.name for fault in FAULTS).items() if count > 1
    ] == []


def test_few_are_none() -> None:
    assert sum(bool(fault.no_fault) for fault in FAULTS) <= 3
