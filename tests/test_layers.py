"""The layers point one way: tasks → torch_adapters → memcore, and within memcore upwards."""

# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Lower ranks may not import higher ones; equal ranks may not import each other.
RANKS = {
    "memcore.errors": -1,
    "memcore.trees": 0,
    "memcore.options": 0,
    "memcore.numerics": 1,
    "memcore.circumstances": 0,
    "memcore.backends": 1,
    "memcore.ranges": 1,
    "memcore.sparse_checks": 1,
    "memcore.access": 2,
    "memcore.allocation": 2,
    "memcore.content": 2,
    "memcore.linkage": 2,
    "memcore.location": 2,
    "memcore.sparse_access": 2,
    "memcore.persistent.buffers": 1,
    "memcore.persistent.row_gradients": 2,
    "memcore.persistent.versions": 2,
    "memcore.persistent.link_tables": 3,
    "memcore.persistent.row_views": 3,
    "memcore.persistent.slot_state": 3,
    "memcore.persistent.links": 4,
    "memcore.persistent.recency": 4,
    "memcore.persistent.row_saving": 4,
    "memcore.persistent.rows": 5,
    "memcore.index.protocol": 6,
    "memcore.index.checks": 3,
    "memcore.index.unwritten": 3,
    "memcore.index.libraries": 1,
    "memcore.index.faiss_lists": 2,
    "memcore.index.flann_tree": 2,
    "memcore.index.clusters": 4,
    "memcore.index.row_table": 4,
    "memcore.index.exact": 6,
    "memcore.index.approximate": 6,
    "memcore.index.faiss": 7,
    "memcore.index.flann": 7,
    "memcore.index.faiss_gpu": 7,
    "memcore.index.auto": 8,
    "memcore.index.mirror": 7,
    "memcore.index": 9,
    "memcore.kernels.compiling": 1,
    "memcore.kernels.lanes": 0,
    "memcore.kernels.pages": 1,
    "memcore.kernels.plan": 1,
    "memcore.kernels.sizes": 1,
    "memcore.kernels.pool": 2,
    "memcore.kernels.told": 2,
    "memcore.kernels.functions": 2,
    "memcore.kernels.products": 2,
    "memcore.kernels.squares": 1,
    "memcore.kernels.allocation": 3,
    "memcore.kernels.joining": 3,
    "memcore.kernels.panels": 3,
    "memcore.kernels.cells": 4,
    "memcore.kernels.content": 3,
    "memcore.kernels.controllers": 3,
    "memcore.kernels.links": 3,
    "memcore.kernels.records": 3,
    "memcore.kernels.dam": 5,
    "memcore.kernels.dnc_record": 3,
    "memcore.kernels.masked_content": 4,
    "memcore.kernels.sharpening": 4,
    "memcore.kernels.dnc": 5,
    "memcore.kernels.dnc_backward": 5,
    "memcore.kernels.packing": 4,
    "memcore.kernels.sequence": 5,
    "memcore.kernels.memories": 6,
    "memcore.kernels.journal": 2,
    "memcore.kernels.sparse_plan": 2,
    "memcore.kernels.recency": 3,
    "memcore.kernels.sparse_links": 3,
    "memcore.kernels.sparse_rows": 4,
    "memcore.kernels.sparse_record": 3,
    "memcore.kernels.sparse": 5,
    "memcore.kernels.sparse_backward": 5,
    "memcore.kernels.sparse_memories": 6,
    "memcore.kernels.kinds": 7,
    "memcore.kernels.parts": 8,
    "memcore.kernels.layout": 9,
    "memcore.kernels.dense_states": 10,
    "memcore.kernels.room": 10,
    "memcore.kernels.sparse_room": 11,
    "memcore.kernels.sparse_states": 12,
    "memcore.kernels.weight_gradients": 10,
    "memcore.kernels.segment": 13,
    "memcore.kernels.sparse_segment": 14,
    "memcore.kernels": 15,
    "memcore.batched": 16,
    "memcore.sam_interface": 6,
    "memcore.dam": 17,
    "memcore.dnc": 17,
    "memcore.sdnc_interface": 7,
    "memcore.sparse_state": 10,
    "memcore.sparse_step": 10,
    "memcore.sparse_batched": 16,
    "memcore.sam": 17,
    "memcore.sdnc": 18,
    "memcore": 19,
    "memcore.testing": 20,
    "torch_adapters": 21,
    "tasks": 22,
}
# The scripts are no package: they import each other by bare names.
RANKS |= {path.stem: 22 for path in (ROOT / "tasks").glob("*.py")}
FILES = [
    path.relative_to(ROOT)
    for folder in ("memcore", "torch_adapters", "tasks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def rank(module: str) -> tuple[int, str] | None:
    """The rank of the longest prefix that has one; None for modules of others."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        if prefix in RANKS:
            return RANKS[prefix], prefix
    return None


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, f"{path}: relative import"
            # `from memcore import dnc` may name a module or a function of it.
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in submodules if name in RANKS}
            names |= known
            if known != submodules:
                names.add(node.module)
    return names


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_points_back(path: Path) -> None:
    own = rank(module_of(path))
    assert own is not None
    for name in imported(path):
        other = rank(name)
        if other is not None and other[1] != own[1] and own[1] != "tasks":
            assert other[0] < own[0], f"{path} imports {name}"


def test_the_core_knows_nothing_of_models() -> None:
    """The time loop is written for any memory: it imports none."""
    files = (
        "recurrence",
        "time_loop",
        "carried",
        "cell",
        "controller",
        "interface",
        "sequence",
        "debug",
        "hx",
    )
    for name in (*files, "backend", "segment"):
        for module in imported(Path("torch_adapters") / f"{name}.py"):
            assert not {"dnc", "dam", "sam", "sdnc"} & set(module.split("."))


def test_shapes_are_checked_in_all_of_memcore_but_the_kernels(pytestconfig: pytest.Config) -> None:
    *checked, _ = pytestconfig.getoption("--jaxtyping-packages").split(",")
    modules = {path.stem for path in (ROOT / "memcore").iterdir() if path.suffix in ("", ".py")}
    assert set(checked) == {
        f"memcore.{name}" for name in modules - {"__init__", "__pycache__", "kernels", "py"}
    }
