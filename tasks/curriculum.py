"""How the longest sequence grows while training."""

from __future__ import annotations

import argparse
from collections import deque
from typing import Any

__all__ = [
    "AdaptiveCurriculum", "Curriculum", "ExponentialCurriculum", "LinearCurriculum",
    "build_curriculum",
]  # fmt: skip


class LinearCurriculum:
    """The longest sequence grows by as much every so many iterations."""

    kind = "linear"

    def __init__(
        self, start: int, limit: int, *, increment: int, every: int, iterations: int
    ) -> None:
        self._start, self._limit = start, limit
        self._increment, self._every, self._iterations = increment, every, iterations

    def level(self, iteration: int) -> int:
        """The longest sequence at that iteration."""
        grown = (iteration - 1) // self._every if iteration else 0
        return _capped(self._start + self._increment * grown, self._limit)

    def goal(self) -> int:
        """The longest sequence that this run will ever ask for."""
        return self.level(self._iterations)

    def observe(self, loss: float) -> None:
        """Nothing: it grows whatever the loss."""

    def state_dict(self) -> dict[str, Any]:
        """Its kind alone: the rest follows from the iteration."""
        return {"kind": self.kind}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Nothing to take over."""


class LossCurriculum:
    """The longest sequence grows whenever the average loss has come under a threshold.

    The average is over the last ``window`` iterations, all of them at the present level.
    """

    kind: str

    def __init__(self, start: int, limit: int, *, threshold: float, window: int) -> None:
        self._start, self._limit = start, limit
        self._threshold = threshold
        self._level = _capped(start, limit)
        self._losses: deque[float] = deque(maxlen=window)

    def grown(self, level: int) -> int:
        """What follows a level."""
        raise NotImplementedError

    def level(self, iteration: int) -> int:
        """The longest sequence now, whichever the iteration."""
        return self._level

    def goal(self) -> int | None:
        """The limit once it is reached, None before and where there is none."""
        return self._limit if self._limit and self._level == self._limit else None

    def observe(self, loss: float) -> None:
        """Take the loss of one iteration, and grow if it was the last that was missing."""
        self._losses.append(loss)
        full = len(self._losses) == self._losses.maxlen
        if full and sum(self._losses) / len(self._losses) < self._threshold:
            self._level = _capped(self.grown(self._level), self._limit)
            self._losses.clear()

    def state_dict(self) -> dict[str, Any]:
        """The level and the losses seen at it."""
        return {"kind": self.kind, "level": self._level, "losses": list(self._losses)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave, at a level that start and limit now allow."""
        self._level = _capped(max(saved["level"], self._start), self._limit)
        self._losses.clear()
        if self._level == saved["level"]:
            self._losses.extend(saved["losses"])


class ExponentialCurriculum(LossCurriculum):
    """The longest sequence doubles.

    Rae et al. 2016, *Scaling Memory-Augmented Neural Networks with Sparse Reads and Writes*.
    """

    kind = "exponential"

    def grown(self, level: int) -> int:
        """Twice as much."""
        return 2 * level


class AdaptiveCurriculum(LossCurriculum):
    """The longest sequence grows by as much each time."""

    kind = "adaptive"

    def __init__(
        self, start: int, limit: int, *, threshold: float, window: int, increment: int
    ) -> None:
        super().__init__(start, limit, threshold=threshold, window=window)
        self._increment = increment

    def grown(self, level: int) -> int:
        """The increment more."""
        return level + self._increment


Curriculum = LinearCurriculum | ExponentialCurriculum | AdaptiveCurriculum


def _capped(level: int, limit: int) -> int:
    return min(level, limit) if limit else level


def build_curriculum(options: argparse.Namespace, longest: int = 0) -> Curriculum:
    """The curriculum of ``-curriculum`` with its options; never beyond ``longest``, 0 for any."""
    start = options.sequence_max_length
    limit = _capped(options.curriculum_limit or longest, longest)
    average = {"threshold": options.curriculum_threshold, "window": options.curriculum_window}
    if options.curriculum == "exponential":
        return ExponentialCurriculum(start, limit, **average)
    if options.curriculum == "adaptive":
        increment = max(1, options.curriculum_increment)
        return AdaptiveCurriculum(start, limit, **average, increment=increment)
    return LinearCurriculum(
        start,
        limit,
        increment=options.curriculum_increment,
        every=options.curriculum_freq,
        iterations=options.iterations,
    )
