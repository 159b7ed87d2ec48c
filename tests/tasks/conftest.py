"""What tests of the tasks share."""

from __future__ import annotations

import pytest

import report


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than the runs of most tests."""
    for name in ("save_curve_picture", "save_memory_picture"):
        monkeypatch.setattr(report, name, lambda *_: None)
