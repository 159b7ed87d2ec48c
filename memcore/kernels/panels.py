"""Weights turned into the panels that products read, as torch's own copies take too long for."""

from __future__ import annotations

import ctypes
from typing import Any

from torch import Tensor

from memcore.kernels.compiling import entries, kernel
from memcore.kernels.lanes import floats_at, lane_count
from memcore.kernels.sizes import padded_to
from memcore.kernels.squares import turn_square
from memcore.kernels.told import ANYTHING

__all__ = ["turn", "turned"]


@kernel
def _turn_panel(source, at, row, step, own, target, to, unit, terms):
    """So many rows of weights become the first columns of a panel; zeros are the others."""
    begin, lanes = 0, lane_count(source)
    if step == 1:
        while begin + lanes <= terms:
            for lane in range(0, unit, lanes):
                turn_square(
                    source, at + min(lane, own - 1) * row + begin, row, own - lane,
                    target, to + begin * unit + lane, unit,
                )  # fmt: skip
            begin += lanes
    for term in range(begin, terms):
        for lane in range(own):
            target[to + term * unit + lane] = source[at + term * step + lane * row]
        for lane in range(own, unit):
            target[to + term * unit + lane] = 0


@kernel
def _turn(source, row, step, target, blocks, rows, terms, total, unit):
    """Blocks of weights ``[rows, terms]`` to panels, zeros beyond the last row of each."""
    to = 0
    for block in range(blocks):
        for first in range(0, rows, unit):
            at, own = (block * rows + first) * row, min(unit, rows - first)
            _turn_panel(source, at, row, step, own, target, to, unit, terms)
            to += total * unit


def _turn_entry(real: Any, digest: str) -> Any:
    def run(source, row, step, target, blocks, rows, terms, total, unit):
        if len(digest) > 0:
            _turn(
                floats_at(source, ANYTHING, real(0)), row, step,
                floats_at(target, ANYTHING, real(0)), blocks, rows, terms, total, unit,
            )  # fmt: skip

    return run


TURN = entries(_turn_entry, 9)
_PROTOTYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 9)


def turn(weight: Tensor, panels: Tensor, blocks: int = 1, panel: int = 0, term: int = 0) -> None:
    """Fill panels with a weight, a row becoming a column of them.

    Args:
        weight: ``[blocks · rows, terms]``, in any layout.
        panels: ``[·, all terms, unit]``, contiguous, of the same dtype. Each block begins with a
            panel; what is beyond its last row becomes 0.
        blocks: how many.
        panel: the first panel.
        term: the first term.
    """
    total, unit = panels.shape[1:]
    rows, terms = weight.shape
    row, step = weight.stride()
    size = weight.element_size()
    target = panels.data_ptr() + (panel * total + term) * unit * size
    run = _PROTOTYPE(TURN[size].address)
    run(weight.data_ptr(), row, step, target, blocks, rows // blocks, terms, total, unit)


def turned(weight: Tensor, unit: int) -> Tensor:
    """Panels of a weight ``[rows, terms]``: ``[rows / unit, terms, unit]``, zeros at the end."""
    rows, terms = weight.shape
    panels = weight.new_empty(padded_to(unit, rows) // unit, terms, unit)
    turn(weight, panels)
    return panels
