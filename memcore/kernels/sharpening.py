"""`memcore.sharpen` for one example, forward and backward."""

from __future__ import annotations

import math

from memcore.kernels.compiling import kernel
from memcore.kernels.content import softmax
from memcore.kernels.lanes import filled, fma, lane_count, load, store, total

__all__ = ["sharpen", "sharpen_backward"]

SHARPNESS_EPSILON = 1e-6  # that of memcore.linkage


@kernel
def sharpen(weighting, at, target, to, interface, place, slots, padded):
    """``softmax(s log(d + ε))`` of a row [P], with the sharpness ``interface[place]``."""
    sharpness = interface[place]
    for n in range(slots):
        value = weighting[at + n]
        above = max(value, 0.0) if value == value else value
        target[to + n] = sharpness * math.log(above + SHARPNESS_EPSILON)
    softmax(target, to, slots, padded)


@kernel
def sharpen_backward(
    weighting, at, sharp, to, interface, place, gradient, gradient_at, d_interface, slots, padded
):  # fmt: skip
    """From the gradient of what `sharpen` made, in its place, that of the weighting."""
    dot, lanes = filled(sharp, 0), lane_count(sharp)
    for n in range(0, padded, lanes):
        dot = fma(load(sharp, to + n), load(gradient, gradient_at + n), dot)
    mean = filled(sharp, total(dot))
    for n in range(0, padded, lanes):
        slope = load(sharp, to + n) * (load(gradient, gradient_at + n) - mean)
        store(gradient, gradient_at + n, slope)
    sharpness, along = interface[place], 0.0
    for n in range(slots):
        value, slope = weighting[at + n], gradient[gradient_at + n]
        above = max(value, 0.0) if value == value else value
        shifted = above + SHARPNESS_EPSILON
        along += slope * math.log(shifted)
        gradient[gradient_at + n] = 0.0 if value < 0 else slope * sharpness / shifted
    d_interface[place] += along
