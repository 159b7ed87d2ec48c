"""What indexes that hold only the rows ever written share: the other rows, and the ranking.

All rows that were never written hold the memory's initial row, so the lowest k of them stand for
all. NumPy, not torch: the arrays are small and a NumPy operation takes a quarter of the time to
start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memcore.numerics import NORM_EPSILON, safe_norm
from memcore.persistent.buffers import lazy_zeros

__all__ = [
    "HIDDEN",
    "NOTHING",
    "RESOLUTION",
    "SLOT_BITS",
    "SLOT_MASK",
    "Unwritten",
    "rank",
    "shown",
    "slots_of",
    "unit",
]

RESOLUTION = 10_000  # cosines are ranked in steps of 1e-4
SLOT_BITS = 40
SLOT_MASK = 2**SLOT_BITS - 1
NOTHING = -(2**62)
# By the size of a number: the squared length, at the least, of what a mask shows of a row of length
# 1. It is a difference from 1, and below this its rounding would tell.
HIDDEN = {4: 1e-5, 8: 1e-12}
# Multiplications of one example: in a piece, and from where on torch's threads pay.
PIECE = 2**17
BY_TORCH = 2**24
BLOCK = 64  # ranks, of which the best is looked at first

Part = tuple[np.ndarray | float, np.ndarray]


class Unwritten:
    """Which slots of each example were never written, and what they hold.

    Args:
        batch: B.
        slots: N.
        kind: of `place`.
    """

    def __init__(self, batch: int, slots: int, kind: torch.dtype = torch.int32) -> None:
        self.all = np.arange(batch)
        # 0: never written; else what the index likes. Flat, and by example.
        self.place = lazy_zeros((batch * slots,), kind, "cpu").numpy()
        self._places = self.place.reshape(batch, slots)
        self.initial: np.ndarray | None = None  # [B, W], of length 1; None: zeros
        self._first_free = np.zeros(batch, np.int64)  # no slot below is unwritten
        self._free = np.zeros((batch, 0), np.int64)  # −slot of the lowest unwritten ones
        self._stale = self.all  # examples whose row in _free must be made anew

    def wrote(self, examples: np.ndarray) -> None:
        """`place` of slots of these examples ``[n]``, repeats allowed, is no longer 0."""
        self._stale = self.all if len(self.all) == 1 else np.union1d(self._stale, examples)

    @property
    def first_free(self) -> np.ndarray:
        """A slot ``[B]`` below which none is unwritten; kernels change it in place."""
        return self._first_free

    def forget(self, examples: np.ndarray, flat: np.ndarray) -> None:
        """The slots ``flat``, all that were written of these examples, count as unwritten."""
        self.place[flat] = 0
        self._first_free[examples] = 0
        self.wrote(examples)

    def begin(self, examples: np.ndarray, row: Tensor) -> None:
        """Unwritten rows of these examples ``[b]`` hold ``row [b, W]``."""
        if row.any() or self.initial is not None:
            values = (row / safe_norm(row)).cpu().numpy()
            if self.initial is None:
                self.initial = np.zeros((len(self.all), values.shape[1]), values.dtype)
            self.initial[examples] = values

    def part(self, keys: np.ndarray, k: int, examples: np.ndarray | None) -> Part:
        """The lowest k unwritten slots of each example, for `rank`."""
        free, initial = self._lowest(k), self.initial
        if examples is not None:
            free = free[examples]
            initial = initial if initial is None else initial[examples]
        return 0 if initial is None else keys @ initial[:, :, None], free[:, None]

    def masked_part(
        self, keys: np.ndarray, squares: np.ndarray, k: int, examples: np.ndarray | None
    ) -> Part:
        """As `part`, the rows as far as masks show them, of which ``squares`` are the squares."""
        cosines, names = self.part(keys, k, examples)
        if self.initial is None:
            return cosines, names
        initial = self.initial if examples is None else self.initial[examples]
        return shown(cosines, (squares - 1) @ (initial * initial)[:, :, None]), names

    def _lowest(self, k: int) -> np.ndarray:
        """−slot ``[B, k]`` of the lowest unwritten slots, NOTHING where there are fewer."""
        if self._free.shape[1] != k:
            self._free, self._stale = np.zeros((len(self.all), k), np.int64), self.all
        slots = self._places.shape[1]
        for example in self._stale:
            begin, window = self._first_free[example], 2 * k + 64
            while True:
                free = np.flatnonzero(self._places[example, begin : begin + window] == 0)
                if len(free) >= k or begin + window >= slots:
                    break
                window *= 4
            free = free[:k] + begin
            self._first_free[example] = free[0] if len(free) else slots
            self._free[example] = NOTHING
            self._free[example, : len(free)] = -free
        self._stale = self.all[:0]
        return self._free


def rank(parts: Sequence[Part], shape: tuple[int, int], k: int) -> Tensor:
    """The k best of some slots for each of ``[b, R]`` keys.

    Args:
        parts: pairs of cosines ``[b, R, n]`` in units of `RESOLUTION` (or one number; arrays are
            overwritten) and −slot ``[b, 1 or R, n]``, NOTHING where there is none. A slot stands
            in one place of one part.
        shape: (b, R).
        k: how many; at most the sum of the n.

    Returns:
        Integers ``[b, R, k]``, best first, whose `slots_of` are the slots; below ``NOTHING / 2``
        where there is none.
    """
    sizes = [names.shape[2] for _, names in parts]
    total = sum(sizes)
    blocks = -(-total // BLOCK)
    blocked = blocks > 8 * k
    ranks = np.empty((*shape, blocks * BLOCK if blocked else total), np.int64)
    spans, begin = [], 0
    for (cosines, _), size in zip(parts, sizes, strict=True):
        span = ranks[:, :, begin : begin + size]
        span[...] = _rounded(cosines) if isinstance(cosines, np.ndarray) else cosines
        spans.append(span)
        begin += size
    # One integer ranks by cosine, then by slot, and tells the slot.
    ranks <<= SLOT_BITS
    for span, (_, names) in zip(spans, parts, strict=True):
        span += names
    if blocked:
        ranks[:, :, total:] = 2 * NOTHING
        ranks = _of_best_blocks(ranks.reshape(*shape, blocks, BLOCK), k)
    return torch.from_numpy(ranks).topk(k).values


def _of_best_blocks(ranks: np.ndarray, k: int) -> np.ndarray:
    """Of ``[b, R, n, BLOCK]`` ranks ``[b, R, k·BLOCK]``, with the k best: each block has its own.

    One pass over all of them, in place of a selection that starts torch's threads.
    """
    best = torch.from_numpy(ranks.max(3)).topk(k, sorted=False).indices.numpy()
    chosen = np.take_along_axis(ranks, best[..., None], 2)
    return chosen.reshape(*chosen.shape[:2], k * BLOCK)


def slots_of(ranks: Tensor) -> Tensor:
    """The slots in what `rank` gives, which is overwritten."""
    return ranks.neg_().bitwise_and_(SLOT_MASK)


def unit(vectors: np.ndarray, length: float) -> np.ndarray:
    """Vectors ``[b, n, W]`` brought to that length, up to ε."""
    lengths = np.sqrt(np.einsum("bnw,bnw->bn", vectors, vectors) + NORM_EPSILON)
    with np.errstate(invalid="ignore"):
        return vectors * (length / lengths)[:, :, None]


def shown(products: np.ndarray | float, hidden: np.ndarray) -> np.ndarray:
    """Cosines of masked keys and masked rows.

    Args:
        products: of the former, of length 1, and the latter, as below.
        hidden: ``Σ (m² − 1) u²`` of rows ``u = M / √(|M|² + ε)``, of which ``1 − |u|²`` is the ε
            that a masked row of that length would get.
    """
    with np.errstate(invalid="ignore"):
        return products / np.sqrt(np.maximum(1 + hidden, HIDDEN[hidden.itemsize]))


def inner(keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products ``[b, R, n]`` of keys ``[b, R, W]`` and rows ``[b, n, W]``.

    In pieces so small that NumPy starts no threads for them; large ones by torch. Threads of both
    that are more than the cores wait for each other, spinning: 8 ms for what takes 0.2, on 2.
    """
    each = keys.shape[1] * keys.shape[2]
    if rows.shape[1] * each > BY_TORCH:
        return torch.bmm(torch.from_numpy(keys), torch.from_numpy(rows).mT).numpy()
    piece = max(1, PIECE // max(1, each))
    if rows.shape[1] <= piece:
        return keys @ rows.swapaxes(1, 2)
    products = np.empty((*keys.shape[:2], rows.shape[1]), rows.dtype)
    for begin in range(0, rows.shape[1], piece):
        part = slice(begin, begin + piece)
        np.matmul(keys, rows[:, part].swapaxes(1, 2), out=products[:, :, part])
    return products


def finite_units(vectors: Tensor) -> np.ndarray:
    """Vectors of length 1, in float32 on the CPU; what is not finite becomes 0, which has a rank.

    The libraries compare numbers only.
    """
    return finite(unit(vectors.detach().to("cpu", torch.float32).numpy(), 1))


def finite(units: np.ndarray) -> np.ndarray:
    """The same with 0 for what is not finite."""
    return units if np.isfinite(units).all() else np.nan_to_num(units, nan=0, posinf=0, neginf=0)


def _rounded(cosines: np.ndarray) -> np.ndarray:
    # What is not a number comes last: fmax takes the other argument then.
    return np.rint(np.fmax(cosines, -RESOLUTION, out=cosines), out=cosines)


def made(kind: Any, sizes: tuple[int, int, int], options: dict[str, Any]) -> Any:
    """An index of that kind; for pickling, which knows no keyword arguments."""
    return kind(*sizes, **options)
