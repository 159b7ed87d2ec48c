"""Named tuples that ``torch.export`` can save, and that ``torch.load`` takes for harmless."""

from __future__ import annotations

from typing import TypeVar

from torch.serialization import add_safe_globals
from torch.utils import _pytree

__all__ = ["serializable"]

Kind = TypeVar("Kind", bound=type)


def serializable(kind: Kind) -> Kind:
    """Make a named tuple of tensors one that exported programs are saved and loaded with.

    A process that loads such a program has to import memcore first.
    """
    add_safe_globals([kind])
    # Torch has no public function for it; without it all but saving works.
    register = getattr(_pytree, "_register_namedtuple", None)
    if register is not None:
        register(kind, serialized_type_name=f"{kind.__module__}.{kind.__qualname__}")
    return kind
