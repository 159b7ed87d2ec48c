"""What the tests of several indexes share."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from memcore import Index, MemcoreError


def clustered(rows: int, width: int, seed: int, batch: int = 1) -> Tensor:
    """Rows ``[batch, rows, width]`` around one centre for each sixteen of them."""
    generator = torch.Generator().manual_seed(seed)
    count = max(1, rows // 16)
    centres = torch.randn(batch, count, width, generator=generator)
    chosen = torch.randint(count, (batch, rows, 1), generator=generator).expand(-1, -1, width)
    return centres.gather(1, chosen) + 0.3 * torch.randn(batch, rows, width, generator=generator)


def recall(index: Index, rows: Tensor, k: int = 4) -> float:
    """The share of the k best rows found for keys near 200 of them."""
    batch, count, width = rows.shape
    generator = torch.Generator().manual_seed(9)
    chosen = torch.randint(count, (batch, 200, 1), generator=generator).expand(-1, -1, width)
    keys = rows.gather(1, chosen) + 0.1 * torch.randn(batch, 200, width, generator=generator)
    best = torch.nn.functional.normalize(rows, dim=2) @ keys.mT
    wanted = best.mT.topk(k).indices
    found = index.search(keys, k)
    return float((found.unsqueeze(3) == wanted.unsqueeze(2)).any(3).double().mean())


def refuses_bad_input(index: Index) -> None:
    """An empty index for 2 memories of 5 rows of 3."""
    slots, rows, keys = torch.tensor([[1], [2]]), torch.ones(2, 1, 3), torch.ones(2, 1, 3)
    index.update(slots, rows)
    for message, wrong, k in (
        ("keys: expected shape [2, R, 3], got [2, 1, 4]", torch.ones(2, 1, 4), 1),
        ("keys: expected shape [2, R, 3], got [1, 1, 3]", keys[:1], 1),
        ("keys: expected dtype torch.float32, got torch.float64", keys.double(), 1),
        ("keys: expected device cpu, got meta", keys.to("meta"), 1),
        ("k: expected 1 to N = 5, got 6", keys, 6),
        ("k: expected 1 to N = 5, got 0", keys, 0),
    ):
        with pytest.raises(MemcoreError, match=re.escape(message)):
            index.search(wrong, k)
    for message, where, what in (
        ("index: expected shape [2, J], got [1, 1]", slots[:1], rows[:1]),
        ("rows: expected shape [2, 1, 3], got [2, 1, 4]", slots, torch.ones(2, 1, 4)),
        ("rows: expected dtype torch.float32, got torch.float64", slots, rows.double()),
        ("rows: expected device cpu, got meta", slots, rows.to("meta")),
        ("index: expected dtype torch.int64, got torch.int32", slots.int(), rows),
    ):
        with pytest.raises(MemcoreError, match=re.escape(message)):
            index.update(where, what)
    assert index.search(keys, 2).tolist() == [[[1, 0]], [[2, 0]]]
