"""One place for each version: what CI installs is what pre-commit runs and what users get."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

import memcore
from memcore.errors import DISTRIBUTION, how_to_install

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tool", ["ruff", "pyright"])
def test_precommit_runs_the_versions_of_ci(tool: str) -> None:
    pinned = re.search(rf'"{tool}(?:\[\w+\])?==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    hooked = re.search(rf"{tool}[\w-]*\n\s+rev: v([\d.]+)", hooks)
    assert pinned is not None
    assert hooked is not None
    assert pinned[1] == hooked[1]


NAMED = [
    path
    for pattern in ("*.md", "docs/**/*.md", "*.toml", "memcore/**/*.py", "torch_adapters/**/*.py",
                    "tasks/*.py", "examples/*.py", "tests/**/*.py")
    for path in sorted(ROOT.glob(pattern))
]  # fmt: skip


@pytest.mark.parametrize("path", NAMED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_sends_people_to_another_package(path: Path) -> None:
    """On the package index the name of ours is not that of the import."""
    text = path.read_text(encoding="utf-8")
    wrong = re.findall(
        r"(?<!torch-)\bmemcore\[[a-z]|pip install\s[^\n]*(?<!torch-)\bmemcore\b", text
    )
    assert not wrong, wrong
    extras = metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    asked = re.findall(r"how_to_install\(\W(\w[\w-]*)\W\)|torch-memcore\[([\w-]+)\]", text)
    for names in asked:
        assert set(filter(None, names)) <= set(extras), names


def test_how_to_install_names_a_checkout_too() -> None:
    assert how_to_install("fast") == (
        "pip install 'torch-memcore[fast]', in a checkout pip install -e '.[fast]'"
    )


def test_the_distribution_describes_the_package() -> None:
    described = metadata(DISTRIBUTION)
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
