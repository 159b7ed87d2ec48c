"""The packages that some indexes are made with: imported when first needed."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from types import ModuleType

from memcore.errors import how_to_install

__all__ = ["PACKAGES", "has_library", "library"]

PACKAGES = {"faiss": "faiss", "flann": "pyflann"}  # index, which is the extra too: module


def has_library(index: str) -> bool:
    """Whether the package of this index is installed."""
    try:
        return importlib.util.find_spec(PACKAGES[index]) is not None
    except ValueError:  # what stands in sys.modules under that name is no module
        return False


def library(index: str) -> ModuleType:
    """The package of this index.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        # Its wrapper code warns about itself on some versions of Python.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(PACKAGES[index])
    except ImportError as error:
        raise ImportError(
            f"index {index!r} needs the package {PACKAGES[index]}: {how_to_install(index)}"
        ) from error
