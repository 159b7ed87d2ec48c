"""From options to the model and to what trains it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from baselines import Attention, ControllerAlone
from torch_adapters import DAM, DNC, SAM, SDNC

__all__ = ["build_model", "build_optimizer", "build_scheduler"]


def build_model(options: argparse.Namespace, sizes: tuple[int, int]) -> nn.Module:
    """The module that the options describe, on the CPU; it gives its output first."""
    if options.memory_type == "none":
        return ControllerAlone(
            sizes[0],
            options.nhid,
            sizes[1],
            rnn_type=options.rnn_type,
            num_layers=options.nlayer * options.nhlayer,
            dropout=options.dropout,
        )
    if options.memory_type == "attention":
        return Attention(
            sizes[0],
            options.nhid,
            sizes[1],
            heads=options.read_heads,
            num_layers=options.nlayer,
            dropout=options.dropout,
        )
    kinds = {"dnc": DNC, "sam": SAM, "sdnc": SDNC, "dam": DAM}
    reads = {"sam": ("sparse_reads",), "sdnc": ("sparse_reads", "temporal_reads")}
    sparse: dict[str, Any] = {}
    for name in reads.get(options.memory_type, ()):
        asked = getattr(options, name)
        sparse |= {name: min(asked, options.mem_slot), "index": options.index}
        if sparse[name] < asked:
            print(f"-{name} {asked} is more than there are slots: reduced to {options.mem_slot}")
    shared = ("masking", "mask_minimum", "temperature", "layer_norm", "bypass_dropout")
    shared += ("bidirectional", "learned_memory")
    own = ("write_heads", "deallocation", "link_sharpness") if options.memory_type == "dnc" else ()
    return kinds[options.memory_type](
        sizes[0],
        options.nhid,
        output_size=sizes[1],
        rnn_type=options.rnn_type,
        num_layers=options.nlayer,
        num_hidden_layers=options.nhlayer,
        dropout=options.dropout,
        nr_cells=options.mem_slot,
        cell_size=options.mem_size,
        read_heads=options.read_heads,
        backend=options.backend,
        **{name: getattr(options, name) for name in (*shared, *own)},
        **sparse,
    )


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    """The optimizer of ``-optim``, with the settings that its users know."""
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.98), eps=1e-9)
    if name == "adamax":
        return torch.optim.Adamax(parameters, lr=lr, betas=(0.9, 0.98), eps=1e-9)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, momentum=0.9, eps=1e-10)
    plain = {
        "sgd": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "adadelta": torch.optim.Adadelta,
    }
    return plain[name](parameters, lr=lr)


def build_scheduler(name: str, optimizer: torch.optim.Optimizer, iterations: int) -> LambdaLR:
    """The learning rate over that many iterations: as it is, or down to 0.

    It is a function of the iteration alone, so that a run resumed with another ``-lr`` or another
    ``-iterations`` has the rates of a run that had them from the start.
    """

    def factor(done: int) -> float:
        share = min(done / iterations, 1) if iterations else 1
        return {"none": 1.0, "linear": 1 - share, "cosine": (1 + math.cos(math.pi * share)) / 2}[
            name
        ]

    return LambdaLR(optimizer, factor)
