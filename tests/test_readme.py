"""The README tells the truth: its Python runs, its options and arguments are the real ones."""

from __future__ import annotations

import csv
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memcore
from learning_lines import LINES
from learning_tables import tabulate
from options import build_parser
from torch_adapters import DNC, SDNC

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
TASKS = {line.task for line in LINES.values()}
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_python_blocks_run(block: str) -> None:
    """With warnings as errors, as everywhere here; the first as a newcomer would."""
    if block == BLOCKS[0]:
        subprocess.run([sys.executable, "-W", "error", "-c", block], check=True)
    else:
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


COMMANDS = re.findall(
    r"^(?:python|torchrun [-=\w ]+?) tasks/(\w+_task)\.py ?(.*)$", README, flags=re.MULTILINE
) + re.findall(r"^python tasks/sweep\.py (\w+_task)\.py .* -- (.*)$", README, flags=re.MULTILINE)


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 3
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize(("script", "arguments"), COMMANDS)
def test_the_commands_of_tasks_are_understood(script: str, arguments: str) -> None:
    (task,) = (kind for kind in TASKS if kind.__module__ == script)
    assert build_parser("", task().add_options, **task.defaults).parse_args(arguments.split())


def test_every_task_is_listed() -> None:
    listed = set(re.findall(r"^\| `tasks/(\w+)\.py`", README, flags=re.MULTILINE))
    assert listed == {path.stem for path in (ROOT / "tasks").glob("*_task.py")}


def test_what_was_learned_is_what_the_tables_say(tmp_path: Path) -> None:
    results, page = ROOT / "docs" / "results", ROOT / "docs" / "results.md"
    with open(results / "learning.csv", encoding="utf-8", newline="") as file:
        tabulate(tmp_path / "learning.md", list(csv.DictReader(file)))
    table = (tmp_path / "learning.md").read_text(encoding="utf-8")
    assert table == (results / "learning.md").read_text(encoding="utf-8")
    assert table in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_pages_point_at_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_table_of_operations_is_complete() -> None:
    listed = set(re.findall(r"^\| `(\w+)\(", README, flags=re.MULTILINE))
    functions = {name for name in memcore.__all__ if inspect.isfunction(getattr(memcore, name))}
    assert functions - listed == {"exclusive_cumulative_product", "oneplus", "safe_norm"}


def test_the_table_of_arguments_is_complete() -> None:
    for function in (DNC.__init__, SDNC.__init__, DNC.forward):
        for name in list(inspect.signature(function).parameters)[1:]:
            assert re.search(rf"^\|.*`{name}`.*\|", README, flags=re.MULTILINE), name


def test_the_table_of_options_is_complete() -> None:
    table = "".join(re.findall(r"^\| `-.*$", README, flags=re.MULTILINE))
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
