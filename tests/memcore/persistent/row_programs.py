"""Small memories and writes; random programs, side by side on plain out-of-place tensors."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from memcore import RowMemory, SparseWrite

__all__ = ["CLOSE", "SHAPE", "SLOTS", "Program", "dense_write", "draw_write", "some_write", "zeros"]

SHAPE = (2, 6, 3)  # B, N, W
SLOTS = torch.tensor([[0, 5], [2, 2]])
CLOSE: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}


def dense_write(memory: Tensor, write: SparseWrite) -> Tensor:
    """The write on a tensor ``[B, N, W]``, by the definition."""
    kept = torch.ones_like(memory).scatter(
        1, write.erase.unsqueeze(-1).expand(-1, -1, memory.shape[2]), 0.0
    )
    return (memory * kept).scatter_add(1, write.index.unsqueeze(-1).expand_as(write.add), write.add)


def draw_write(
    shape: tuple[int, int, int], generator: torch.Generator, erase: int = 2, add: int = 3
) -> SparseWrite:
    batch, slots, width = shape
    return SparseWrite(
        torch.randint(slots, (batch, erase), generator=generator),
        torch.randint(slots, (batch, add), generator=generator),
        torch.randn(batch, add, width, generator=generator, dtype=torch.float64),
    )


def zeros(shape: tuple[int, int, int] = SHAPE, dtype: torch.dtype = torch.float64) -> RowMemory:
    return RowMemory.filled(torch.zeros(shape[2], dtype=dtype), shape[0], shape[1])


def some_write(seed: int = 0, **options: Any) -> SparseWrite:
    return draw_write(SHAPE, torch.Generator().manual_seed(seed), **options)


@dataclass
class Program:
    """Applies the same random operations to both, and keeps what they gave."""

    seed: int
    shape: tuple[int, int, int] = SHAPE
    leaves: list[Tensor] = field(default_factory=list)
    outputs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    versions: list[tuple[RowMemory, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.choice = random.Random(self.seed)
        self.generator = torch.Generator().manual_seed(self.seed)
        batch, slots, width = self.shape
        kind = self.choice.choice(["dense", "learned row", "constant row", "zero row"])
        if kind == "dense":
            values = self.leaf(batch, slots, width)
            self.versions = [(RowMemory.from_tensor(values), values)]
            return
        row = torch.zeros(width, dtype=torch.float64)
        if kind != "zero row":
            row = self.leaf(width) if kind == "learned row" else self.normal(width)
        self.versions = [(RowMemory.filled(row, batch, slots), row.expand(self.shape))]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def leaf(self, *shape: int) -> Tensor:
        self.leaves.append(self.normal(*shape).requires_grad_())
        return self.leaves[-1]

    def run(self, operations: int) -> None:
        for _ in range(operations):
            self.operate()

    def operate(self) -> None:
        # Mostly go on from the newest version, now and then from an older one.
        newest = self.choice.random() < 0.7
        memory, plain = self.versions[-1] if newest else self.choice.choice(self.versions)
        kind = self.choice.choices(
            ["write", "read", "read all", "detach", "no grad", "drop", "clone", "constant",
             "clear", "part", "refill"],
            [10, 6, 1, 1, 1, 2, 1, 2, 1, 2, 2],
        )[0]  # fmt: skip
        if kind == "read":
            index = torch.randint(self.shape[1], (self.shape[0], 4), generator=self.generator)
            expected = plain.gather(1, index.unsqueeze(-1).expand(-1, -1, self.shape[2]))
            self.outputs.append((memory.read(index), expected))
        elif kind == "read all":
            self.outputs.append((memory.to_tensor(), plain))
        elif kind == "detach":
            self.versions.append((memory.detach(), plain.detach()))
        elif kind == "drop":
            del self.versions[: len(self.versions) // 2]
        elif kind == "clone":
            self.versions.append((memory.clone(), plain.clone()))
        elif kind == "clear":
            examples = torch.tensor([True, False])
            kept = plain.masked_fill(examples[:, None, None], 0)
            self.versions.append((memory.cleared(examples), kept))
        elif kind == "refill":
            examples = torch.tensor([self.choice.random() < 0.5 for _ in range(self.shape[0])])
            row = self.leaf(self.shape[2])
            anew = torch.where(examples[:, None, None], row, plain)
            self.versions.append((memory.refilled(examples, row), anew))
        elif kind == "part":
            self.write_to_a_part(memory, plain)
        else:
            write = draw_write(self.shape, self.generator)
            if kind != "constant":
                add = self.leaf(*write.add.shape)
                write = write._replace(add=add * 2 if self.choice.random() < 0.5 else add)
            with torch.set_grad_enabled(kind != "no grad"):
                self.versions.append((memory.write(write), dense_write(plain, write)))

    def write_to_a_part(self, memory: RowMemory, plain: Tensor) -> None:
        swapped, count = torch.tensor([1, 0]), self.choice.choice([1, 2])
        part, own = memory.select(swapped).narrow(count), plain[swapped][:count]
        how = self.choice.choice(["write", "write", "write", "no grad", "anew", "detach", "refill"])
        if how in ("anew", "detach"):
            part, own = part.detach(), own.detach()
        if how != "detach":
            write = draw_write((count, *self.shape[1:]), self.generator)
            write = write._replace(add=self.leaf(*write.add.shape))
            with torch.set_grad_enabled(how != "no grad"):
                part, own = part.write(write), dense_write(own, write)
        if how == "refill" or self.choice.random() < 0.2:
            examples, row = torch.arange(count) == count - 1, self.leaf(self.shape[2])
            part = part.refilled(examples, row)
            own = torch.where(examples[:, None, None], row, own)
        after = torch.cat([own, plain[swapped][count:]])
        self.versions.append((part.widen(memory), after[swapped]))

    def loss(self) -> tuple[Tensor, Tensor]:
        """The same random combination of all outputs and versions, for both."""
        pairs = self.outputs + [(memory.to_tensor(), plain) for memory, plain in self.versions]
        factors = [self.normal(*ours.shape) for ours, _ in pairs]
        ours, plain = (
            torch.stack([(pair[side] * by).sum() for pair, by in zip(pairs, factors, strict=True)])
            for side in (0, 1)
        )
        return ours.sum(), plain.sum()
