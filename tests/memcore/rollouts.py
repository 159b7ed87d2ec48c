"""Settings of hypothesis for tests of which an example is a whole rollout."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["of_rollouts"]

of_rollouts = settings(max_examples=settings().max_examples // 3)
