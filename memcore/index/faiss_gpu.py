"""FAISS's brute force on a GPU, over the rows where they are."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.index.checks import check_search
from memcore.index.exact import AllRowsIndex
from memcore.index.libraries import library
from memcore.index.unwritten import made
from memcore.numerics import safe_norm

__all__ = ["FaissGpuIndex"]

MOST = 1024  # slots that FAISS selects on a GPU

Find = Callable[[Tensor, Tensor, int], Tensor]  # keys [R, W], rows [N, W], k → slots [R, k]


class FaissGpuIndex(AllRowsIndex):
    """Brute force by FAISS over all rows, which stay on the device of the memory.

    Args:
        batch_size: B.
        slots: N.
        word_size: W.
        dtype: of the rows.
        device: where the rows are, and the search.
        find: what searches one example; None: FAISS.

    Raises:
        ImportError: FAISS is not installed.
    """

    def __init__(
        self,
        batch_size: int,
        slots: int,
        word_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | int | None = None,
        find: Find | None = None,
    ) -> None:
        super().__init__(batch_size, slots, word_size, dtype=dtype, device=device)
        self._given = find
        self._find = find or knn(self._rows.device)

    def _options(self) -> dict[str, Any]:
        return {"dtype": self._rows.dtype, "device": self._rows.device, "find": self._given}

    def empty(self, batch_size: int) -> FaissGpuIndex:
        """A new index of the same kind, for so many memories of zeros."""
        return FaissGpuIndex(batch_size, *self._shape[1:], **self._options())

    def __reduce__(self) -> tuple[Any, ...]:
        return made, (FaissGpuIndex, self._shape, self._options())

    def search(
        self, keys: Float[Tensor, "b R W"], k: int, examples: Int[Tensor, "b"] | None = None
    ) -> Int[Tensor, "b R k"]:
        """For each key k distinct slots, best first: O(b·R·N)."""
        if k > MOST:
            return super().search(keys, k, examples)
        check_search(self._shape, self._rows.dtype, self._rows.device, keys, k, examples)
        with torch.no_grad():
            units = (keys / safe_norm(keys)).nan_to_num_(0, 0, 0)
            own = range(self._shape[0]) if examples is None else examples.tolist()
            found = [
                self._find(mine, self._rows[example], k)
                for mine, example in zip(units, own, strict=True)
            ]
        return torch.stack(found)


def knn(device: torch.device) -> Find:
    """FAISS's search on that device, by the inner product."""
    faiss: Any = library("faiss")
    # With it FAISS takes tensors of torch.
    importlib.import_module("faiss.contrib.torch_utils")
    resources = faiss.StandardGpuResources()
    number = torch.cuda.current_device() if device.index is None else device.index

    def find(keys: Tensor, rows: Tensor, k: int) -> Tensor:
        # FAISS takes its scratch memory and stream from torch's current device.
        with torch.cuda.device(number):
            return faiss.knn_gpu(
                resources,
                keys.float().contiguous(),
                rows.float(),
                k,
                metric=faiss.METRIC_INNER_PRODUCT,
                device=number,
            )[1].long()

    return find
