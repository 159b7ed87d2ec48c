"""The README is short, runs as a newcomer runs it, and says in Chinese what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
FRONT = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
MOST_LINES = 200


def blocks(text: str, language: str = r"[a-z]*") -> list[str]:
    return re.findall(rf"^```{language}\n.*?^```$", text, flags=re.DOTALL | re.MULTILINE)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", [README, CHINESE], ids=["README.md", "README.zh-CN.md"])
def test_it_is_short(text: str) -> None:
    assert len(text.splitlines()) <= MOST_LINES


def test_the_first_example_runs_as_a_newcomer_runs_it() -> None:
    block = blocks(README, "python")[0].removeprefix("```python\n").removesuffix("```")
    subprocess.run([sys.executable, "-W", "error", "-c", block], check=True)


def test_there_are_three_examples() -> None:
    assert len(blocks(README, "python")) == 3


def test_commands_are_one_line_each() -> None:
    for block in blocks(README, "sh"):
        assert len(block.splitlines()) == 3, block


def test_the_front_page_has_the_same_commands() -> None:
    assert blocks(FRONT, "sh") == blocks(README, "sh")


def test_the_python_and_the_torch_it_names_are_those_it_needs() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    python = re.findall(r'requires-python = ">=([\d.]+)"', settings)
    torch = re.findall(r'"torch>=([\d.]+)"', settings)
    for text in (README, FRONT):
        assert re.findall(r"Python ([\d.]+) or later, torch ([\d.]+) or later", text) == [
            (python[0], torch[0])
        ]


def test_the_chinese_one_has_the_same_blocks() -> None:
    assert blocks(CHINESE) == blocks(README)


def test_the_chinese_one_has_the_same_headings() -> None:
    """As many, of the same level, in the same order, with the same between them."""
    assert structure(CHINESE) == structure(README)


def structure(text: str) -> list[list[str]]:
    """For each heading its level, and of what follows the kind of each line that is not prose."""
    sections = re.split(r"^(#+) .*$", without_blocks(text), flags=re.MULTILINE)[1:]
    return [
        [level, *re.findall(r"^(?:- |!|\|(?=-)|\|)", body, flags=re.MULTILINE)]
        for level, body in zip(sections[::2], sections[1::2], strict=True)
    ]


def test_the_chinese_one_has_the_same_images_and_links() -> None:
    each_other = {"README.md", "README.zh-CN.md"}

    def targets(text: str) -> list[tuple[str, str]]:
        return [
            (mark, target)
            for mark, target in re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text)
            if target not in each_other
        ]

    assert targets(CHINESE) == targets(README)
    assert "](README.zh-CN.md)" in "\n".join(README.splitlines()[:5])
    assert "](README.md)" in "\n".join(CHINESE.splitlines()[:5])


def test_the_chinese_one_names_the_same_code_and_numbers() -> None:
    def named(text: str) -> set[str]:
        return set(re.findall(r"`([^`\n]+)`", without_blocks(text)))

    assert named(CHINESE) == named(README)
    pattern = r"\d[\d,.]*\d|\d"
    numbers = set(re.findall(pattern, without_blocks(README)))
    assert numbers == set(re.findall(pattern, without_blocks(CHINESE)))
