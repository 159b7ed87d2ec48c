"""Search indexes: which rows of a memory resemble a key most.

`Index` is what each must do, `make_index` makes one by name, `Mirror` keeps one in step with the
versions of a memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from memcore.errors import MemcoreError, check_device, check_float_dtype, check_size
from memcore.index.auto import AutoIndex
from memcore.index.checks import check_options
from memcore.index.exact import AllRowsIndex, WrittenRowsIndex, exact_index
from memcore.index.faiss import FaissIndex
from memcore.index.faiss_gpu import FaissGpuIndex
from memcore.index.flann import FlannIndex
from memcore.index.libraries import PACKAGES, library
from memcore.index.mirror import Mirror
from memcore.index.protocol import Index, MaskedIndex

__all__ = ["Index", "MaskedIndex", "Mirror", "check_choice", "index_name", "make_index"]

OPTIONS: dict[str, tuple[str, ...]] = {
    "auto": (),
    "exact": (),
    "faiss": ("probes", "seed"),
    "flann": ("checks", "seed"),
}
KINDS: dict[type, str] = {
    AutoIndex: "auto",
    AllRowsIndex: "exact",
    WrittenRowsIndex: "exact",
    FaissIndex: "faiss",
    FaissGpuIndex: "faiss",
    FlannIndex: "flann",
}


def index_name(index: Index) -> str:
    """The name that makes an index of this kind; of a kind of one's own one that can do as much."""
    own = "exact" if isinstance(index, MaskedIndex) else "auto"
    return KINDS.get(type(index), own)


def _faiss_index(*sizes: Any, device: torch.device, **options: Any) -> Index:
    """Over the rows in place where FAISS knows the GPU that they are on."""
    if device.type == "cuda" and hasattr(library("faiss"), "StandardGpuResources"):
        # Brute force has nothing to choose.
        return FaissGpuIndex(*sizes, device=device, dtype=options["dtype"])
    return FaissIndex(*sizes, device=device, **options)


MAKERS: dict[str, Callable[..., Index]] = {
    "auto": AutoIndex,
    "exact": exact_index,
    "faiss": _faiss_index,
    "flann": FlannIndex,
}


def check_choice(argument: str, index: object) -> None:
    """Raise, naming the argument, unless `make_index` can make something of ``index``.

    A package that it needs is imported.
    """
    _check_name(argument, index)
    if isinstance(index, str) and index in PACKAGES:
        library(index)


def _check_name(argument: str, index: object) -> None:
    if isinstance(index, str):
        if index not in MAKERS:
            raise MemcoreError(f"{argument}: expected one of {', '.join(MAKERS)}, got {index!r}")
    elif not isinstance(index, Index):
        raise TypeError(f"{argument}: expected a str or an Index, got {type(index).__name__}")


def make_index(
    name: str | Index,
    *,
    batch_size: int,
    slots: int,
    word_size: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
    **options: Any,
) -> Index:
    """An index for ``batch_size`` memories of ``slots`` rows of zeros.

    Args:
        name: ``'exact'``, ``'faiss'`` (extra ``torch-memcore[faiss]``), ``'flann'`` (extra
            ``torch-memcore[flann]``), or ``'auto'``: exact while that is the fastest, then FAISS
            where it is installed, else FLANN where that is. An object that keeps the protocol
            `Index` gives an empty one of its kind.
        batch_size: B.
        slots: N.
        word_size: W.
        dtype: of the rows, float32 or float64.
        device: where the rows are.
        **options: those of the index. FAISS: ``probes`` (16), how many inverted lists are
            searched for a key, ``seed`` (0) of their training. FLANN: ``checks`` (256, or half the
            root of the rows if that is more), how many rows of its tree are looked at for a key,
            ``seed`` (0). The others have none.

    Raises:
        TypeError: an argument of the wrong type, or an option that the index does not have.
        MemcoreError: an unknown name, a size below 1, another dtype, or a device not there.
        ImportError: the package that the index needs is not installed.
    """
    _check_name("name", name)
    if not isinstance(name, str):
        return name.empty(check_size("batch_size", batch_size))
    check_size("batch_size", batch_size)
    check_size("slots", slots)
    check_size("word_size", word_size)
    check_float_dtype("dtype", dtype)
    check_device("device", device)
    check_options(name, options, OPTIONS[name])
    place = torch.empty(0, device=device).device
    return MAKERS[name](batch_size, slots, word_size, dtype=dtype, device=place, **options)
