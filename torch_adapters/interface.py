"""From the controller's output to the interface vector of a memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Interface"]


class Interface(nn.Module):
    """One linear map to the whole interface vector, or one for each of its parts.

    The two compute the same family of functions; separate maps have parameters by name
    (``parts.write_gate.bias`` …), for learning rates, initial values or freezing of their own.

    Args:
        hidden_size: H.
        sizes: name → length of each part, in order.
        independent: one map for each part.
        layer_norm: normalize the whole vector, before its parts are brought into their ranges.
            Franke et al. 2018 (arXiv 1807.02658).
        device: PyTorch's convention.
        dtype: PyTorch's convention.
    """

    def __init__(
        self,
        hidden_size: int,
        sizes: Mapping[str, int],
        *,
        independent: bool = False,
        layer_norm: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        parts = sizes if independent else {"all": sum(sizes.values())}
        self.parts = nn.ModuleDict(
            {
                name: nn.Linear(hidden_size, size, device=device, dtype=dtype)
                for name, size in parts.items()
            }
        )
        size = sum(sizes.values())
        self.norm = nn.LayerNorm(size, device=device, dtype=dtype) if layer_norm else None

    def forward(self, hidden: Tensor) -> Tensor:
        """``[B, H]`` to interface vectors ``[B, I]``."""
        vectors = [part(hidden) for part in self.parts.values()]
        whole = vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)
        return whole if self.norm is None else self.norm(whole)
