"""Those that run the same training step of a dense model: the peer, and ours in its forms."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness import Step, Work, train
from memcore import dnc
from torch_adapters import DAM, DNC
from torch_adapters.recurrence import MemoryRNN

__all__ = [
    "Setting",
    "StepLoop",
    "compiled_step",
    "forward",
    "kernel_step",
    "peer_package",
    "plain_step",
    "training",
]

WIDTH = 8  # of the input, and of the output

MemoryStep = Callable[[dnc.DNCState, Tensor], tuple[Tensor, dnc.DNCState]]


class Setting(NamedTuple):
    """A model's sizes, and its batch's; an LSTM of one layer throughout."""

    batch: int
    slots: int
    word_size: int
    read_heads: int
    hidden_size: int
    steps: int = 20
    memory: str = "dnc"

    @property
    def options(self) -> dict[str, Any]:
        """Keywords that our constructors and the peer's have in common."""
        return {
            "num_hidden_layers": 1,
            "nr_cells": self.slots,
            "cell_size": self.word_size,
            "read_heads": self.read_heads,
        }

    def input(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """``[B, T, input_size]``."""
        return torch.randn(self.batch, self.steps, WIDTH, dtype=dtype)

    def module(self, backend: str, dtype: torch.dtype = torch.float32) -> MemoryRNN:
        """Ours."""
        kind = {"dnc": DNC, "dam": DAM}[self.memory]
        return kind(WIDTH, self.hidden_size, backend=backend, dtype=dtype, **self.options)

    def peer(self) -> nn.Module | None:
        """The peer's module; None where it is not installed or has no such model."""
        package = peer_package()
        if package is None or self.memory != "dnc":
            return None
        return package.DNC(WIDTH, self.hidden_size, gpu_id=-1, **self.options)


@cache
def peer_package() -> Any:
    """The package `dnc`, or None: ``pip install --no-deps dnc==1.1.0``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dnc as package  # pyright: ignore
    except ImportError:
        return None
    return package


def training(module: nn.Module, input: Tensor) -> Step:
    """A training step of a sequence, the making of the state included."""
    work = forward(module, input)
    return lambda: train(work)


def forward(module: nn.Module, input: Tensor) -> Work:
    """Its forward pass; the peer asks for a tuple in place of no state."""
    is_ours = isinstance(module, MemoryRNN | StepLoop)
    more: tuple[Any, ...] = () if is_ours else ((None, None, None),)
    return lambda: module(input, *more)[0]


class StepLoop(nn.Module):
    """A DNC as one writes it around `memcore.dnc`: a controller of one's own, a step of ours.

    Args:
        setting: the sizes.
        step: one step of the memory for a batch, from interface vectors.
        dtype: of the parameters.
    """

    def __init__(
        self, setting: Setting, step: MemoryStep, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.setting, self.step = setting, step
        reads, hidden = setting.read_heads * setting.word_size, setting.hidden_size
        vector = dnc.interface_size(setting.word_size, setting.read_heads)
        self.controller = nn.LSTMCell(WIDTH + reads, hidden, dtype=dtype)
        self.interface = nn.Linear(hidden, vector, dtype=dtype)
        self.output = nn.Linear(hidden + reads, WIDTH, dtype=dtype)

    def forward(
        self, input: Tensor, state: dnc.DNCState | None = None
    ) -> tuple[Tensor, dnc.DNCState]:
        """From ``[B, T, input_size]`` to ``[B, T, output_size]`` and the last state."""
        sizes = (self.setting.slots, self.setting.word_size, self.setting.read_heads)
        if state is None:
            empty = dnc.init_state(*sizes, dtype=input.dtype)
            state = dnc.DNCState(*(field.expand(len(input), *field.shape) for field in empty))
        reads = input.new_zeros(len(input), self.setting.read_heads * self.setting.word_size)
        hidden = cell = input.new_zeros(len(input), self.setting.hidden_size)
        outputs = []
        for own in input.unbind(1):
            hidden, cell = self.controller(torch.cat([own, reads], 1), (hidden, cell))
            read, state = self.step(state, self.interface(hidden))
            reads = read.flatten(1)
            outputs.append(self.output(torch.cat([hidden, reads], 1)))
        return torch.stack(outputs, 1), state


def plain_step(setting: Setting) -> MemoryStep:
    """`parse_interface` and `step` under one vmap."""

    def one(state: dnc.DNCState, vector: Tensor) -> tuple[Tensor, dnc.DNCState]:
        interface = dnc.parse_interface(vector, setting.word_size, setting.read_heads)
        return dnc.step(state, interface)

    return torch.func.vmap(one)


def kernel_step() -> MemoryStep:
    """The same in compiled loops."""
    return partial(dnc.batched_step, backend="numba")


def compiled_step(setting: Setting) -> MemoryStep:
    """The same by `torch.compile`, of these sizes only."""
    torch._dynamo.reset()  # it gives up on a function after some recompilations
    return torch.compile(plain_step(setting), dynamic=False)
