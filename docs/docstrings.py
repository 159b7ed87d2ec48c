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

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """The comments of fields, a named tuple's above all, are what there is to say of them."""
        fields = [field for field in cls.attributes.values() if not field.name.startswith("_")]
        said = {field.name: comment for field in fields if (comment := _comment(field))}
        if cls.docstring is not None and said:
            lines = [f"    {name}: {comment}" for name, comment in said.items()]
            cls.docstring.value += "\n\nAttributes:\n" + "\n".join(lines)

    def _linked(self, text: str) -> str:
        def link(found: re.Match[str]) -> str:
            target = self._targets.get(found[1])
            return f"[`{found[1]}`][{target}]" if target else found[0]

        return re.sub(r"(?<![`\[])`([\w.]+)`(?![`\]])", link, text)


def _comment(field: griffe.Attribute) -> str | None:
    """What stands behind it on its line, shapes as code."""
    if not field.lineno or not isinstance(field.filepath, Path):
        return None
    line = field.lines_collection[field.filepath][field.lineno - 1]
    comment = re.search(r"  # (?!type:|pyright:)(.+?)(?:  #.*)?$", line)
    return re.sub(r"(\[[^\]]*[\])])", r"`\1`", comment[1]) if comment else None


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
