"""The constructor arguments that all modules share: checked once, in one place."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import torch

from memcore import MemcoreError
from memcore.backends import check_backend
from memcore.errors import check_device, check_size
from torch_adapters.cells import CELLS
from torch_adapters.controller import Controller
from torch_adapters.debug import check_debug
from torch_adapters.reverse import Reverse

__all__ = ["RNNOptions", "check_clip"]

PARAMETER_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass
class RNNOptions:
    """What a module is built from, apart from its memory.

    Args are those of `torch_adapters.DNC`.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: an argument out of its range.
    """

    input_size: int
    hidden_size: int
    rnn_type: str
    num_layers: int
    num_hidden_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bypass_dropout: float
    layer_norm: bool
    bidirectional: bool
    nonlinearity: str
    gpu_id: int
    independent_linears: bool
    share_memory: bool
    learned_memory: bool
    debug: bool | int
    clip: float
    output_size: int | None
    device: torch.device | str | int | None
    dtype: torch.dtype | None
    backend: str

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> RNNOptions:
        """Those among the arguments of a module's constructor, its ``locals()``."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})

    def __post_init__(self) -> None:
        for name in ("input_size", "hidden_size", "num_layers", "num_hidden_layers"):
            setattr(self, name, check_size(name, getattr(self, name)))
        if self.output_size is not None:
            self.output_size = check_size("output_size", self.output_size)
        for name in ("bias", "batch_first", "layer_norm", "bidirectional", "independent_linears",
                     "share_memory", "learned_memory"):  # fmt: skip
            if not isinstance(getattr(self, name), bool):
                kind = type(getattr(self, name)).__name__
                raise TypeError(f"{name}: expected a bool, got {kind}")
        self.rnn_type = _choice("rnn_type", self.rnn_type, tuple(CELLS))
        if self.bidirectional and self.rnn_type == "linear":
            raise MemcoreError(
                "bidirectional: expected False with rnn_type='linear', which carries nothing from "
                "step to step, got True"
            )
        self.nonlinearity = _choice("nonlinearity", self.nonlinearity, ("tanh", "relu"))
        self.dropout = _rate("dropout", self.dropout)
        self.bypass_dropout = _rate("bypass_dropout", self.bypass_dropout)
        self.debug = check_debug(self.debug)
        self.clip = check_clip(self.clip)
        if self.dropout and self.num_hidden_layers == 1:
            warnings.warn(
                f"dropout: {self.dropout:g} does nothing with num_hidden_layers=1, since it stands "
                "between the layers of the controller",
                stacklevel=5,
            )
        if self.dtype is not None:
            if not isinstance(self.dtype, torch.dtype):
                raise TypeError(f"dtype: expected a torch.dtype, got {type(self.dtype).__name__}")
            if self.dtype not in PARAMETER_DTYPES:
                known = ", ".join(str(dtype).removeprefix("torch.") for dtype in PARAMETER_DTYPES)
                raise MemcoreError(f"dtype: expected one of {known}, got {self.dtype}")
        self.device = _device(self.gpu_id, self.device)
        self.backend = check_backend("backend", self.backend)

    def controller(self, width: int) -> Controller:
        """The controller of one layer, for inputs of that width."""
        return Controller(width, *self._sizes(), **self._kind())

    def reverse(self) -> Reverse | None:
        """The controller that reads the sequence backward; None if it is not bidirectional."""
        if not self.bidirectional:
            return None
        return Reverse(self.input_size, *self._sizes(), **self._kind())

    def _sizes(self) -> tuple[int, int]:
        return self.hidden_size, self.num_hidden_layers

    def _kind(self) -> dict[str, Any]:
        names = ("rnn_type", "nonlinearity", "bias", "dropout", "device", "dtype")
        return {name: getattr(self, name) for name in names}


def check_clip(clip: object) -> float:
    """``clip`` as a float.

    Raises:
        TypeError: not a number.
        MemcoreError: below 0, or not a number (NaN).
    """
    number = _number("clip", clip)
    if not number >= 0:
        raise MemcoreError(f"clip: expected a number of at least 0, got {number:g}")
    return number + 0.0  # −0 is 0


def _choice(name: str, value: object, known: tuple[str, ...]) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, got {type(value).__name__}")
    if value.lower() not in known:
        raise MemcoreError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    return value.lower()


def _rate(name: str, value: object) -> float:
    number = _number(name, value)
    if not 0 <= number < 1:
        raise MemcoreError(f"{name}: expected a number in [0, 1), got {number:g}")
    return number


def _number(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    return float(value)


def _device(
    gpu_id: int, device: torch.device | str | int | None
) -> torch.device | str | int | None:
    check_size("gpu_id", gpu_id, minimum=-1)
    check_device("device", device)
    if gpu_id == -1:
        return device
    chosen = torch.device("cuda", gpu_id)
    if device is not None and torch.device(device) != chosen:
        raise MemcoreError(f"gpu_id: expected to agree with device={device}, got {gpu_id}")
    count = torch.cuda.device_count()
    if gpu_id >= count:
        raise MemcoreError(
            f"gpu_id: expected -1 for the CPU or a CUDA device of this machine, which has {count}, "
            f"got {gpu_id}"
        )
    return chosen
