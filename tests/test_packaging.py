"""One place for each version: what CI installs is what pre-commit runs and what users get."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

import memcore

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tool", ["ruff", "pyright"])
def test_precommit_runs_the_versions_of_ci(tool: str) -> None:
    pinned = re.search(rf'"{tool}(?:\[\w+\])?==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    hooked = re.search(rf"{tool}[\w-]*\n\s+rev: v([\d.]+)", hooks)
    assert pinned is not None
    assert hooked is not None
    assert pinned[1] == hooked[1]


def test_the_distribution_describes_the_package() -> None:
    described = metadata("memcore")
    assert described["Version"] == memcore.__version__
    runtime = [r for r in described.get_all("Requires-Dist") or [] if "extra ==" not in r]
    assert {re.split(r"[^\w-]", name)[0] for name in runtime} == {"torch", "numpy", "jaxtyping"}
    assert {"faiss", "faiss-gpu", "flann", "viz", "testing", "test"} <= set(
        described.get_all("Provides-Extra") or []
    )


def test_everything_public_is_importable_from_the_top() -> None:
    assert sorted(memcore.__all__) == memcore.__all__
    for name in memcore.__all__:
        assert getattr(memcore, name).__doc__, name
