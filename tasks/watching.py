"""What is shown of the memory while it is trained: on a visdom server and in TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from heat_maps import HeatMapServer
from memcore import MemcoreError
from metrics import TensorBoard
from plots import memory_picture, pixels
from run import Run

__all__ = ["Watch"]

MORE = 1.1  # iterations before the next picture: a picture takes as long as many iterations


class Watch:
    """One example's use of the memory, shown at the summaries.

    Args:
        heat_maps: where the debug dictionary and the picture go, if anywhere.
        board: where the picture goes, if anywhere.
        say: how to say what is no longer shown.
    """

    def __init__(
        self, heat_maps: HeatMapServer | None, board: TensorBoard | None, say: Callable[[str], Any]
    ) -> None:
        self._heat_maps, self._board, self._say = heat_maps, board, say
        self._next = 0.0  # the iteration of the next picture, at the earliest
        self._draws = True

    def show(self, run: Run, loss: float) -> None:
        """Show an example of the longest length that is drawn now; what fails ends with a line."""
        if self._heat_maps is None and self._board is None:
            return
        draws = self._draws and run.iteration >= self._next
        if self._heat_maps is None and not draws:
            return
        try:
            batch, output, trace = run.example(run.level())
        except MemcoreError as error:
            self._end_heat_maps(str(error))
            self._end_board(str(error))
            return
        picture = None
        if draws:
            self._next = MORE * run.iteration
            picture = self._picture(run, batch.input[0].cpu(), output[0], trace)
        if self._heat_maps is not None:
            trouble = self._heat_maps.send(trace, run.iteration, loss, picture)
            if trouble is not None:
                self._end_heat_maps(trouble)
        if self._board is not None and picture is not None:
            self._board.add_picture(picture, run.iteration)

    def _picture(self, run: Run, input: Any, output: Any, trace: Any) -> np.ndarray | None:
        try:
            return pixels(memory_picture(run.task.name, input, output, trace))
        except ImportError as error:
            self._draws = False
            self._say(f"no pictures of the memory: {error}")
            if self._heat_maps is None:
                self._board = None  # nothing is left to show
            return None

    def _end_heat_maps(self, why: str) -> None:
        if self._heat_maps is not None:
            self._say(f"-visdom: {why}, training goes on without heat maps")
            self._heat_maps = None

    def _end_board(self, why: str) -> None:
        if self._board is not None:
            self._say(f"-tensorboard: {why}, training goes on without pictures of the memory")
            self._board = None
