"""The pages tell the truth: their Python runs; tables, commands and links are the real ones."""

from __future__ import annotations

import argparse
import csv
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

import memcore
from learning_lines import LINES
from learning_tables import tabulate
from options import build_parser
from torch_adapters import DAM, DNC, SAM, SDNC

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = DOCS / "guides"
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
    ),
    *sorted(DOCS.rglob("*.md")),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
pages = pytest.mark.parametrize("page", TEXTS)


def guide(name: str) -> str:
    return (GUIDES / f"{name}.md").read_text(encoding="utf-8")


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Python to run, each with what a comment before it says that it needs."""
    found = re.findall(
        r"^(?:<!-- needs: ([\w >=.]+) -->\n)?```python\n(.*?)^```",
        text,
        flags=re.DOTALL | re.MULTILINE,
    )
    # Scripts that a page includes have tests of their own.
    return [(needs, block) for needs, block in found if not block.startswith("--8<--")]


BLOCKS = [
    pytest.param(needs, block, id=f"{page}: {block.splitlines()[-1]}")
    for page, text in TEXTS.items()
    if page != "README.zh-CN.md"  # whose blocks are those of README.md
    for needs, block in blocks_of(text)
]


@pytest.mark.parametrize(("needs", "block"), BLOCKS)
def test_python_blocks_run(needs: str, block: str) -> None:
    """With warnings as errors, as everywhere here."""
    for needed in needs.split():
        module, _, release = needed.partition(">=")
        pytest.importorskip(module, minversion=release or None)
    exec(compile(block, "a page", "exec"), {"__name__": "__main__"})


def test_what_pages_include_is_there() -> None:
    included = re.findall(r"^--8<-- \"(.+)\"$", "".join(TEXTS.values()), flags=re.MULTILINE)
    assert sorted(included) == sorted(f"examples/{path.name}" for path in EXAMPLES)


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 20
    assert {needs for needs, _ in blocks_of(guide("testing"))} == {"hypothesis"}


TASKS = {line.task for line in LINES.values()}
OF_TASKS, OTHERS = [], []
for _text in TEXTS.values():  # with arguments only: others are mentions
    for _script, _given in re.findall(
        r"(?:python|torchrun [-=\w ]+?) tasks/(\w+)\.py ([^`\n]+)[`\n]",
        re.sub("<!--.*?-->", "", _text, flags=re.DOTALL),
    ):
        (OF_TASKS if _script.endswith("_task") else OTHERS).append((_script, _given))
        if _script == "sweep" and " -- " in _given:
            OF_TASKS.append((_given.split()[0].removesuffix(".py"), _given.split(" -- ")[1]))


@pytest.mark.parametrize(("script", "arguments"), dict.fromkeys(OF_TASKS))
def test_the_commands_of_tasks_are_understood(script: str, arguments: str) -> None:
    (task,) = (kind for kind in TASKS if kind.__module__ == script)
    assert build_parser("", task().add_options, **task.defaults).parse_args(arguments.split())


class UnderstoodError(Exception):
    pass


@pytest.mark.parametrize(("script", "arguments"), dict.fromkeys(OTHERS))
def test_the_other_commands_are_understood(
    script: str, arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self: argparse.ArgumentParser, *args: Any) -> None:
        parse(self, *args)
        raise UnderstoodError

    main = importlib.import_module(script).main
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    with pytest.raises(UnderstoodError):
        main(arguments.replace("NAME", next(iter(LINES))).split())


def test_there_are_commands() -> None:
    assert len(set(OF_TASKS)) >= 5
    assert {"sweep", "scaling", "learning", "recall_picture"} <= {script for script, _ in OTHERS}


@pages
def test_what_pages_point_at_is_there(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", TEXTS[page]):
        there = (ROOT / page).parent / target
        assert target.startswith("https://") or there.exists(), target


@pages
def test_headings_that_pages_point_at_are_there(page: str) -> None:
    """GitHub and the site make the same anchors of such headings."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", TEXTS[page]):
        path = (ROOT / page).parent / target if target else ROOT / page
        if target.startswith("https://"):
            continue
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
        assert anchor in anchors, f"{target}#{anchor}"


def test_every_task_is_listed() -> None:
    listed = set(re.findall(r"^\| `tasks/(\w+)\.py`", guide("tasks"), flags=re.MULTILINE))
    assert listed == {path.stem for path in (ROOT / "tasks").glob("*_task.py")}


def test_what_was_learned_is_what_the_tables_say(tmp_path: Path) -> None:
    results, page = DOCS / "results", DOCS / "results.md"
    with open(results / "learning.csv", encoding="utf-8", newline="") as file:
        tabulate(tmp_path / "learning.md", list(csv.DictReader(file)))
    table = (tmp_path / "learning.md").read_text(encoding="utf-8")
    assert table == (results / "learning.md").read_text(encoding="utf-8")
    assert table in page.read_text(encoding="utf-8")


def test_the_table_of_operations_is_complete() -> None:
    listed = set(re.findall(r"^\| `(\w+)\(", guide("compose"), flags=re.MULTILINE))
    functions = {name for name in memcore.__all__ if inspect.isfunction(getattr(memcore, name))}
    assert functions - listed == {"exclusive_cumulative_product", "oneplus", "safe_norm"}


def test_the_table_of_arguments_is_complete() -> None:
    for function in (DNC.__init__, SDNC.__init__, DNC.forward):
        for name in list(inspect.signature(function).parameters)[1:]:
            assert re.search(rf"^\|.*`{name}`.*\|", guide("module"), flags=re.MULTILINE), name


@pytest.mark.parametrize("model", [DNC, SAM, SDNC, DAM])
def test_the_table_of_the_debug_dictionary_is_complete(model: Any) -> None:
    section = guide("module").partition("## The debug dictionary")[2].partition("\n## ")[0]
    table = re.findall(r"^\|.*$", section, flags=re.MULTILINE)
    head, _, *rows = ([cell.strip() for cell in line.split("|")] for line in table)
    place = head.index(model.__name__)
    listed = {row[1].strip("`"): row[place] for row in rows if row[place]}
    slots, width, heads, sparse, temporal = 12, 3, 2, 4, 2
    own: dict[str, Any] = {"sparse_reads": sparse} if model in (SAM, SDNC) else {}
    own |= {"temporal_reads": temporal} if model is SDNC else {}
    module = model(5, 8, nr_cells=slots, cell_size=width, read_heads=heads, debug=True, **own)
    debug = module(torch.randn(2, 3, 5))[2]
    visible = heads * (sparse + (2 * temporal if model is SDNC else 0)) + 1
    sizes = {"N": slots, "W": width, "R": heads, "c": visible}
    assert listed.keys() == debug.keys()
    for name, shown in listed.items():
        expected = 1
        for factor in shown.split("·"):
            expected *= sizes[factor]
        assert debug[name].shape == (3, expected), name


def test_the_table_of_options_is_complete() -> None:
    table = "".join(re.findall(r"^\| `-.*$", guide("tasks"), flags=re.MULTILINE))
    listed = dict(re.findall(r"`-(\w+)` \| (\S+)", table))
    defaults = vars(build_parser("").parse_args([]))
    assert listed.keys() == defaults.keys()
    for name, shown in listed.items():
        value = defaults[name]
        if isinstance(value, float):
            assert float(shown) == value, name
        elif value is None or value is False:
            assert shown == ("none" if value is None else "off"), name
        else:
            assert shown == str(value), name


def public(modules: tuple[str, ...]) -> dict[str, Any]:
    """All public names of these modules."""
    return {
        f"{name}.{own}": getattr(importlib.import_module(name), own)
        for name in modules
        for own in importlib.import_module(name).__all__
    }


def all_public() -> dict[str, Any]:
    pytest.importorskip("hypothesis")
    models = ("memcore.dnc", "memcore.sam", "memcore.sdnc", "memcore.dam")
    testing = ("memcore.testing", "memcore.testing.strategies")
    return public(("memcore", *models, "torch_adapters", *testing))


MODULES_OF_PAGES = (
    *(f"memcore.{model}" for model in ("dnc", "sam", "sdnc", "dam")),
    *(f"memcore.testing.{kind}" for kind in ("oracle", "sam_oracle", "sdnc_oracle", "strategies")),
)


def test_the_reference_is_complete() -> None:
    """Each public name stands on a page, by itself or as a member of a module that does."""
    text = "\n".join(path.read_text("utf-8") for path in sorted((DOCS / "reference").glob("*.md")))
    directives = re.findall(r"^::: ([\w.]+)$", text, flags=re.MULTILINE)
    assert len(directives) == len(set(directives))
    names = all_public()
    there = {
        *(id(value) for name, value in names.items() if name in directives),
        *(id(value) for value in public(MODULES_OF_PAGES).values()),
    }
    assert set(MODULES_OF_PAGES) <= set(directives) <= names.keys() | set(MODULES_OF_PAGES)
    missing = {name for name, value in names.items() if id(value) not in there}
    assert not missing, sorted(missing)


def test_the_navigation_has_every_page() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": ([\w/-]+\.md)$", settings, flags=re.MULTILINE))
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert named == {page for page in there if not page.startswith("results/")}


@pytest.mark.skipif(shutil.which("mkdocs") is None, reason="needs the dependency group docs")
def test_the_site_has_every_public_name(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings_handlers")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True)
    inventory = (tmp_path / "objects.inv").read_bytes().split(b"\n", 4)[4]
    named = {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines()}
    assert named >= all_public().keys()
    assert {"torch_adapters.DNC.forward", "memcore.RowMemory.read"} <= named
