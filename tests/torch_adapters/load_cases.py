"""Any module, any options, any sequence: what is drawn to look for what should never happen."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from memcore import MemcoreError
from memcore.backends import NUMBA
from modules import leaves
from torch_adapters import DAM, DNC, SAM, SDNC, detach_state, select_state

__all__ = ["BACKENDS", "Outcome", "trouble"]

BACKENDS = ("reference", "numba") if NUMBA else ("reference",)
SCALES = (0, 1e-30, 1e-3, 1, 1, 1, 30, 1e3)  # of inputs


class Outcome(NamedTuple):
    """What came of a draw."""

    refused: bool  # its options were wrong, and the module said so
    wrong: list[str]  # what should not have happened


def trouble(seed: int) -> Outcome:
    """Build and run what a seed draws, by each backend."""
    rng = random.Random(seed)
    model = rng.choice([DNC, DAM, SAM, SDNC])
    options = _options(rng, model)
    sizes = rng.choice([1, 2, 5]), rng.choice([1, 4, 9])
    try:
        torch.manual_seed(seed)
        module = model(*sizes, **options)
    except MemcoreError:
        return Outcome(True, [])
    gain = rng.choice([0.1, 1, 1, 3])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(gain)
    program = rng.random()
    wrong = []
    for backend in BACKENDS:
        module.backend = backend
        try:
            wrong += [f"{backend}: {text}" for text in _run(module, random.Random(program))]
        except Exception as error:  # whatever it is: none is expected
            wrong.append(f"{backend}: {type(error).__name__}: {error}")
    return Outcome(False, [f"{model.__name__} {options}: {text}" for text in wrong])


def _options(rng: random.Random, model: Any) -> dict[str, Any]:
    """Of which some do not go together."""
    options: dict[str, Any] = {
        "rnn_type": rng.choice(["lstm", "gru", "rnn"]),
        "nonlinearity": rng.choice(["tanh", "relu"]),
        "num_layers": rng.choice([1, 1, 2, 3]),
        "num_hidden_layers": rng.choice([1, 2]),
        "bias": rng.random() < 0.8,
        "batch_first": rng.random() < 0.7,
        "nr_cells": rng.choice([1, 2, 3, 8, 17, 130]),
        "read_heads": rng.choice([1, 2, 4]),
        "cell_size": rng.choice([1, 3, 8, 17]),
        "independent_linears": rng.random() < 0.3,
        "share_memory": rng.random() < 0.6,
        "clip": rng.choice([0, 0.1, 20]),
        "output_size": rng.choice([None, 1, 3]),
        "dtype": rng.choice([torch.float32, torch.float32, torch.float64]),
    }
    if options["num_hidden_layers"] > 1:
        options["dropout"] = rng.choice([0, 0, 0.4])
    if model in (SAM, SDNC):
        options["sparse_reads"] = rng.choice([1, 2, 4])
    if model is SDNC:
        options["temporal_reads"] = rng.choice([1, 2, 3])
    return options


def _run(module: Any, rng: random.Random) -> list[str]:
    """A few calls, some of them from a state of before, and a backward pass."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    torch.manual_seed(rng.randrange(2**31))
    wrong: list[str] = []
    hx: Any = None
    batch, outputs = rng.randint(1, 4), []
    for _ in range(rng.randint(1, 3)):
        input, given = _input(module, batch, rng, generator)
        options = _call(module, batch, input, rng)
        before = [value.clone() for value in given]
        states = [] if hx is None else [value.detach().clone() for value in leaves(hx)]
        output, after = module(input, hx, **options)
        data = output.data if isinstance(output, PackedSequence) else output
        wrong += [f"{name} not finite" for name in _not_finite({"output": data, "state": after})]
        if not all(map(torch.equal, before, given)):
            wrong.append("input changed")
        if hx is not None and not all(map(_same, states, leaves(hx))):
            wrong.append("hx changed")
        outputs.append(data.square().sum())
        kind = rng.choice(["go on", "go on", "detach", "select", "anew", "from before"])
        if kind == "detach":
            hx = detach_state(after)
        elif kind == "select":
            chosen = [rng.randrange(batch) for _ in range(rng.randint(1, 4))]
            hx, batch = select_state(after, chosen), len(chosen)
        elif kind == "anew":
            hx, batch = None, rng.randint(1, 4)
        elif kind == "go on":
            hx = after
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    total = torch.stack(outputs).sum()
    if not total.isfinite():  # squares of what is finite may be too large for float32
        return wrong
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    named = {str(which): value for which, value in enumerate(found) if value is not None}
    return wrong + [f"gradient of parameter {name} not finite" for name in _not_finite(named)]


def _input(
    module: Any, batch: int, rng: random.Random, generator: torch.Generator
) -> tuple[Tensor | PackedSequence, list[Tensor]]:
    steps, width = rng.choice([1, 2, 3, 7]), module.input_size
    dtype, scale = module.output.weight.dtype, rng.choice(SCALES)
    padded = scale * torch.randn(batch, steps, width, generator=generator, dtype=torch.float64)
    padded = padded.to(dtype)
    if rng.random() < 0.3:
        rows = [padded[example, : rng.randint(1, steps)] for example in range(batch)]
        packed = pack_sequence(rows, enforce_sorted=False)
        return packed, [packed.data]
    input = padded if module.batch_first else padded.transpose(0, 1)
    return input, [input]


def _call(module: Any, batch: int, input: Any, rng: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {}
    reset = rng.choice(["none", "none", "all", "some"])
    if reset != "none":
        flags = torch.tensor([rng.random() < 0.5 for _ in range(batch)])
        options["reset_experience"] = True if reset == "all" else flags
    if rng.random() < 0.3:
        if isinstance(input, PackedSequence):
            starts = torch.tensor([rng.random() < 0.2 for _ in range(len(input.data))])
            options["episode_start"] = input._replace(data=starts)
        else:
            starts = [[rng.random() < 0.2 for _ in row] for row in input]
            options["episode_start"] = torch.tensor(starts)
    if rng.random() < 0.05 and module.backend == "reference":
        options["pass_through_memory"] = False
    return options


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other.detach())


def _not_finite(named: dict[str, Any]) -> list[str]:
    bad = []
    for name, value in named.items():
        if not isinstance(value, Tensor):
            hidden, memory, reads = value
            memories = memory if isinstance(memory, list) else [memory]
            tensors = leaves([*hidden, *memories, reads])
        else:
            tensors = [value]
        if not all(tensor.isfinite().all() for tensor in tensors):
            bad.append(name)
    return bad
