"""What checks types and shapes of functions under pytest, by its name in pyproject.toml."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

__all__ = ["check"]

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
