"""How docstrings are read for the site: doctests as code, fields by their comment, names as links.

An extension of griffe, which `mkdocs.yml` names; not part of the site nor of the packages.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]
MODULES = (
    "memcore",
    "torch_adapters",
    "memcore.dnc",
    "memcore.sam",
    "memcore.sdnc",
    "memcore.dam",
    "memcore.testing",
    "memcore.testing.strategies",
)


class Docstrings(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def __init__(self) -> None:
        self._targets = _targets()

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Doctests stand in a section of their own; public names are links."""
        if obj.docstring is not None:
            obj.docstring.value = self._linked(_with_examples(obj.docstring.value))

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """A field's comment is what there is to say of it."""
        if attr.docstring is None and attr.lineno and isinstance(attr.filepath, Path):
            line = attr.lines_collection[attr.filepath][attr.lineno - 1]
            comment = re.search(r"  # (?!type:|pyright:)(.+?)(?:  #.*)?$", line)
            if comment:
                text = re.sub(r"(\[[^\]]*\])", r"`\1`", comment[1])
                attr.docstring = griffe.Docstring(text, parent=attr)

    def _linked(self, text: str) -> str:
        def link(found: re.Match[str]) -> str:
            target = self._targets.get(found[1])
            return f"[`{found[1]}`][{target}]" if target else found[0]

        return re.sub(r"(?<![`\[])`([\w.]+)`(?![`\]])", link, text)


def _with_examples(text: str) -> str:
    """The text with its doctest, which stands last, under "Examples:"."""
    head, prompt, tail = text.partition("\n>>> ")
    if not prompt:
        return text
    doctest = (">>> " + tail).replace("\n", "\n    ")
    return f"{head}\n\nExamples:\n    {doctest}"


def _targets() -> dict[str, str]:
    """What names in docstrings lead to: full ones, and short ones that no method shares."""
    targets = {module: module for module in MODULES if module.count(".") == 1}
    for module in MODULES:
        for name in _public(module):
            targets.setdefault(f"{module}.{name}", f"{module}.{name}")
            if module in ("memcore", "torch_adapters", "memcore.testing") and (
                "_" in name or name != name.lower()
            ):
                targets.setdefault(name, f"{module}.{name}")
    return targets


def _public(module: str) -> list[str]:
    path = ROOT / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    raise ValueError(f"{path}: no __all__")
