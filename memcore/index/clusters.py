"""Which inverted list a row belongs in: clusters of each example's rows, trained on them."""

from __future__ import annotations

import numpy as np
import torch

from memcore.index.faiss_lists import one_thread
from memcore.index.libraries import library
from memcore.index.unwritten import inner

__all__ = ["TRAIN_FROM", "Clusters"]

TRAIN_FROM = 4096  # rows; fewer are searched one by one
LISTS = 2  # times the root of the rows
SAMPLE = 32  # rows that a list is trained on
ITERATIONS = 6
GROWTH = 4  # rows since training, before it is done again
WORSE_BALANCE = 1.5  # times the imbalance after training
WORSE_FIT = 1.5  # times the mean distance, 1 − cosine, from the centroid after training
NEVER = 2**62
SMALL = 0.25  # squared length of what stands for a row of zeros
CHUNK = 2**22


class Clusters:
    """For each of B examples some centroids; their lists are numbered through.

    Retraining costs as much as writing the rows a few times. It is due when the rows are
    `GROWTH` times those at the last training, and may be when half as many as there are have
    been rewritten since: then if the lists are out of balance, or rows written since are farther
    from their centroids, as drift makes them also where lists stay balanced.

    Args:
        batch: B.
        width: W.
        seed: of the training.
    """

    def __init__(self, batch: int, width: int, seed: int) -> None:
        self._seed = seed
        # [B, L, W], and what is added to the cosine [B, L]: −∞ for lists not in use.
        self._centroids = np.zeros((batch, 1, width), np.float32)
        self._closed = np.zeros((batch, 1), np.float32)
        self.count = np.ones(batch, np.int64)  # lists in use, the first ones
        self._train_at = np.full(batch, TRAIN_FROM)  # rows
        self._look_at = np.full(batch, NEVER)  # rows rewritten
        self._rewritten = np.zeros(batch, np.int64)
        self._distance = np.zeros(batch)  # of the rewritten from their centroids, summed
        self._good_distance = np.zeros(batch)
        self._good_balance = np.ones(batch)

    @property
    def capacity(self) -> int:
        """How many lists each example has numbers for."""
        return self._centroids.shape[1]

    def nearest(self, rows: np.ndarray, slots: np.ndarray, mine: np.ndarray) -> np.ndarray:
        """The list ``[b, J]`` of each of the rows ``[b, J, W]`` of examples ``mine [b]``."""
        base = (mine * self.capacity)[:, None]
        if self.capacity == 1:
            return np.broadcast_to(base, slots.shape)
        chunk = max(1, CHUNK // (self.capacity * len(mine)))
        if rows.shape[1] > chunk:
            pieces = range(0, rows.shape[1], chunk)
            found = [
                self.nearest(rows[:, i : i + chunk], slots[:, i : i + chunk], mine) for i in pieces
            ]
            return np.concatenate(found, 1)
        cosines = self._cosines(rows, mine)
        nearest = cosines.argmax(2)
        best = np.take_along_axis(cosines, nearest[:, :, None], 2)[:, :, 0]
        # Rows of zeros are equally near to all: spread, they leave the lists in balance.
        small = np.einsum("bnw,bnw->bn", rows, rows) < SMALL
        self._rewritten[mine] += rows.shape[1]
        self._distance[mine] += np.where(small, 0, 1 - best).sum(1)
        nearest = np.where(small, slots % self.count[mine][:, None], nearest)
        return nearest + base

    def probe(self, keys: np.ndarray, mine: np.ndarray, probes: int) -> np.ndarray:
        """The lists ``[b·R, p]`` nearest to keys ``[b, R, W]``; −1: none."""
        shape = keys.shape[0] * keys.shape[1], min(probes, self.capacity)
        base = (mine * self.capacity)[:, None, None]
        if self.capacity == 1:
            return np.broadcast_to(base, (*keys.shape[:2], 1)).reshape(shape)
        best = torch.from_numpy(self._cosines(keys, mine)).topk(shape[1], sorted=False)
        lists = best.indices.numpy() + base
        if (self.count < shape[1]).any():
            lists[best.values.numpy() == -np.inf] = -1
        return lists.reshape(shape)

    def _cosines(self, vectors: np.ndarray, mine: np.ndarray) -> np.ndarray:
        whole = len(mine) == len(self.count)
        if whole and len(mine) > 1:
            whole = bool((mine == np.arange(len(mine))).all())
        centroids = self._centroids if whole else self._centroids[mine]
        cosines = inner(vectors, centroids)
        if (self.count < self.capacity).any():
            cosines += (self._closed if whole else self._closed[mine])[:, None]
        return cosines

    def lists_for(self, rows: int) -> int:
        """How many lists so many rows are given."""
        return 1 if rows < TRAIN_FROM else int(LISTS * rows**0.5)

    def widen(self, capacity: int) -> None:
        """Numbers for more lists; all are numbered anew."""
        batch, before, width = self._centroids.shape
        more = np.zeros((batch, capacity - before, width), np.float32)
        self._centroids = np.concatenate([self._centroids, more], 1)
        closed = np.full((batch, capacity - before), -np.inf, np.float32)
        self._closed = np.concatenate([self._closed, closed], 1)

    def train(self, example: int, rows: np.ndarray) -> None:
        """Choose the centroids of an example for the rows ``[n, W]`` that it has."""
        count = self.lists_for(len(rows))
        real = rows[np.einsum("nw,nw->n", rows, rows) >= SMALL]
        if len(real) < 2 * count:
            count = 1
        self.count[example] = count
        self._closed[example] = -np.inf
        self._closed[example, :count] = 0
        self._centroids[example] = 0
        self._train_at[example] = max(TRAIN_FROM, GROWTH * len(rows))
        self._rewritten[example], self._look_at[example] = 0, NEVER
        self._distance[example] = 0
        if count == 1:
            return
        faiss = library("faiss")
        chosen = np.random.default_rng(self._seed).permutation(len(real))[: SAMPLE * count]
        means = faiss.Kmeans(
            real.shape[1],
            count,
            niter=ITERATIONS,
            seed=self._seed + 1,
            spherical=True,
            min_points_per_centroid=1,
            max_points_per_centroid=SAMPLE,
        )
        with one_thread(faiss):
            means.train(np.ascontiguousarray(real[chosen]))
        self._centroids[example, :count] = means.centroids

    def trained(self, example: int, sizes: np.ndarray) -> None:
        """Remember how good it is right after training, its rows assigned: lists of ``sizes``."""
        rows = int(sizes.sum())
        if self.count[example] > 1:
            self._good_balance[example] = balance(sizes)
            self._good_distance[example] = self._distance[example] / rows
            self._look_at[example] = rows // 2
        self._rewritten[example] = self._distance[example] = 0

    def due(self, mine: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The examples among ``mine`` of which to ask `worn`; ``rows [B]`` are held."""
        late = (rows[mine] >= self._train_at[mine]) | (self._rewritten[mine] >= self._look_at[mine])
        return mine[late] if late.any() else mine[:0]

    def worn(self, example: int, sizes: np.ndarray) -> bool:
        """Whether to train an example anew whose lists are of these sizes."""
        rows = int(sizes.sum())
        if rows >= self._train_at[example]:
            return True
        distance = self._distance[example] / max(1, self._rewritten[example])
        if (
            balance(sizes) > WORSE_BALANCE * self._good_balance[example]
            or distance > WORSE_FIT * self._good_distance[example]
        ):
            return True
        self._rewritten[example] = self._distance[example] = 0
        return False


def balance(sizes: np.ndarray) -> float:
    """How many times more rows a search looks at than with lists of one size."""
    return float(len(sizes) * (sizes.astype(float) ** 2).sum() / max(1, sizes.sum()) ** 2)
