"""`memcore.testing.check_index` must fail where an index does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from memcore import RowMemory
from memcore.index import WrittenRowsIndex
from memcore.testing import check_index


class Passing(WrittenRowsIndex):
    """Right; what is broken derives from it."""

    def empty(self, batch_size: int) -> Any:
        return type(self)(batch_size, *self._shape[1:], dtype=self._dtype)


class Repeating(Passing):
    def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
        found = super().search(keys, k, examples)
        return torch.cat([found[..., :1], found[..., :-1]], 2)


class Deaf(Passing):
    def update(self, index: Tensor, rows: Tensor, examples: Tensor | None = None) -> None:
        pass


class Adding(Passing):
    """Rows that are known already are left as they are."""

    def update(self, index: Tensor, rows: Tensor, examples: Tensor | None = None) -> None:
        flat = index + self.unwritten.all[0] + torch.arange(len(index))[:, None] * self._shape[1]
        new = (torch.from_numpy(self.unwritten.place)[flat] == 0).all(0)
        super().update(index[:, new], rows[:, new], examples)


class NeverDeleting(Passing):
    def update(self, index: Tensor, rows: Tensor, examples: Tensor | None = None) -> None:
        kept = rows.any(2).all(0)
        super().update(index[:, kept], rows[:, kept], examples)


class Remembering(Passing):
    def reset(self, memory: RowMemory, examples: Tensor | None = None) -> None:
        written = memory.written()
        self.update(written, memory.peek(written), examples)


class ResettingAll(Passing):
    def reset(self, memory: RowMemory, examples: Tensor | None = None) -> None:
        if examples is not None:
            self._clear()
        super().reset(memory, examples)


class ResettingInOrder(Passing):
    def reset(self, memory: RowMemory, examples: Tensor | None = None) -> None:
        super().reset(memory, None if examples is None else examples.sort().values)


class WorstFirst(Passing):
    def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
        return super().search(keys, k, examples).flip(2)


class Random(Passing):
    def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
        return torch.stack([torch.randperm(self._shape[1])[:k] for _ in keys[..., 0].flatten()]
                           ).view(*keys.shape[:2], k)  # fmt: skip


class Undetermined(Passing):
    """Two that are made alike answer otherwise."""

    def __init__(self, *sizes: int, **place: Any) -> None:
        super().__init__(*sizes, **place)
        self.turn = bool(torch.rand(()) < 0.5)

    def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
        self.turn = not self.turn
        return (
            super().search(keys, k, examples) if self.turn else super().search(-keys, k, examples)
        )


class WrittenOnly(Passing):
    """Pads by slot 0 where fewer rows were written than asked for."""

    def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
        found = super().search(keys, k, examples)
        return torch.where(torch.arange(k) < int(self.table.used.min()), found, 0)


class OfLongerRows(Passing):
    """Ranks by the inner product."""

    def update(self, index: Tensor, rows: Tensor, examples: Tensor | None = None) -> None:
        super().update(index, rows, examples)
        mine = torch.arange(self._shape[0]) if examples is None else examples
        place = self.unwritten.place[(index + mine[:, None] * self._shape[1]).numpy()]
        self.table._rows[mine[:, None].numpy(), place - 1] = rows.numpy()


class Forgetful(Passing):
    """Finds but every second row once there are many."""

    def update(self, index: Tensor, rows: Tensor, examples: Tensor | None = None) -> None:
        if self.table.most > 100:
            rows = rows * (index % 2 == 0).unsqueeze(2)
        super().update(index, rows, examples)


class Sharing(Passing):
    def empty(self, batch_size: int) -> Any:
        made = super().empty(batch_size)
        made.update(torch.zeros(batch_size, 1).long(), torch.ones(batch_size, 1, self._shape[2]))
        return made


class OfFirstExample(Passing):
    def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
        return super().search(keys, k, None if examples is None else examples.sort().values)


class ZeroInitial(Passing):
    def reset(self, memory: RowMemory, examples: Tensor | None = None) -> None:
        super().reset(memory, examples)
        self.unwritten.initial = None


class AfraidOfNan(Passing):
    def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
        found = super().search(keys, k, examples)
        return torch.where(keys.isfinite().all(2, keepdim=True), found, 0)


def make(kind: type[Passing]) -> Any:
    def index(*, batch_size: int, slots: int, word_size: int, **place: Any) -> Passing:
        del place["device"]
        return kind(batch_size, slots, word_size, **place)

    return index


def test_what_is_right_passes() -> None:
    check_index(make(Passing), recall=1.0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Repeating, "found twice"),
        (Deaf, "better rows were not found"),
        (Adding, "rows replaced by update"),
        (NeverDeleting, "rows zeroed by update"),
        (Remembering, "after reset"),
        (ResettingAll, "after reset of examples 2 and 0"),
        (ResettingInOrder, "after reset of examples 2 and 0"),
        (WorstFirst, "not best first"),
        (Random, "same search gave other slots|not best first"),
        (Undetermined, "same search gave other slots|not best first|better rows"),
        (WrittenOnly, "found twice"),
        (OfLongerRows, "not best first|better rows"),
        (Forgetful, "expected a recall"),
        (Sharing, "empty"),
        (OfFirstExample, "examples 2 and 0 searched"),
        (ZeroInitial, "initial row"),
        (AfraidOfNan, "a key of nan"),
    ],
)
def test_what_is_broken_is_caught(kind: type[Passing], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_index(make(kind))
