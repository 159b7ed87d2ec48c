"""Random histories of SAM's and the SDNC's states, run by either backend and compared by name.

A history is a program over a pool of states: calls of a module, padded or packed, with resets
and episodes, from the newest state or from an old one, in a graph or not; parts of a batch, copies,
saved and loaded states, states cut off from their history.
"""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from memcore import RowMemory
from memcore.index.libraries import has_library
from torch_adapters import SAM, SDNC, detach_state, select_state, state_from_dict, state_to_dict

__all__ = ["Case", "Run", "disagreement", "draw", "play", "run"]

LEAST_SCALE = 1e-2
# What searches from Python: at sizes like these as exact search does, ties included.
INDEXES = [name for name in ("faiss", "flann") if has_library(name)]
OPERATIONS = ["run"] * 7 + ["select", "copy", "save", "detach"]
COPIES = (copy.deepcopy, lambda hx: pickle.loads(pickle.dumps(hx)))


class Case(NamedTuple):
    """A module and a program; ``seed`` determines all numbers and choices."""

    seed: int
    model: type[Any]
    sizes: tuple[int, int]  # input_size, hidden_size
    options: dict[str, Any]
    gain: float  # what parameters are multiplied by
    batch: int
    memory: str  # what the memory begins with
    operations: int
    longest: int  # time steps of a call


class Run(NamedTuple):
    """What a case gave, by name."""

    values: dict[str, Tensor]
    gradients: dict[str, Tensor | None]


def draw(seed: int, dtype: torch.dtype | None = None) -> Case:
    """The case of a seed."""
    rng = random.Random(seed)
    model = rng.choice([SAM, SDNC])
    kind = rng.choice(["lstm", "gru", "rnn tanh", "rnn relu", "linear tanh"])
    rnn_type, _, nonlinearity = kind.partition(" ")
    slots = rng.choice([1, 2, 5, 9, 17, 40, 130, 20_000])
    reads = rng.randint(1, min(slots, 5))
    options: dict[str, Any] = {
        "rnn_type": rnn_type,
        "nonlinearity": nonlinearity or "tanh",
        "num_layers": rng.choice([1, 1, 1, 2]),
        "num_hidden_layers": rng.choice([1, 1, 2]),
        "share_memory": rng.random() < 0.5,
        "clip": rng.choice([0, 20, 0.2]),
        "read_heads": rng.randint(1, 4),
        "nr_cells": slots,
        "cell_size": rng.choice([1, 3, 4, 8, 10]),
        "sparse_reads": reads,
        # Of thousands of rows FAISS looks at a part only.
        "index": "exact" if slots > 1000 else rng.choice(["auto", "exact", "exact", *INDEXES]),
        "layer_norm": rng.random() < 0.2,
        "temperature": rng.choice([1, 1, 2]),
        "dtype": dtype or rng.choice([torch.float64] * 4 + [torch.float32]),
    }
    if options["index"] in ("auto", "exact") and rng.random() < 0.35:
        # In float32 what is hidden nearly whole is ranked as rounding has it.
        least = 0.2 if options["dtype"] == torch.float32 else rng.choice([0, 0, 0.2])
        options |= {"masking": True, "mask_minimum": least}
    if model is SDNC:
        options["temporal_reads"] = rng.randint(1, min(slots, 4))
    short = options["dtype"] == torch.float32
    longest = 2 if short else rng.choice([1, 4, 12, 30])
    return Case(
        seed=seed,
        model=model,
        sizes=(rng.choice([1, 3]), rng.choice([3, 8, 13])),
        options=options,
        # Over many steps large weights make any rounding grow to all there is.
        gain=rng.choice([1, 2, 3] if longest < 10 else [1, 1.5]),
        batch=rng.randint(1, 4),
        memory=rng.choice(["zeros", "zeros", "row", "learned row", "tensor", "learned tensor"]),
        operations=3 if short else rng.randint(1, 9),
        longest=longest,
    )


class _Player:
    """One run of a program."""

    def __init__(self, case: Case, backend: str) -> None:
        torch.manual_seed(case.seed)
        self.case, self.backend = case, backend
        self.rng = random.Random(case.seed)
        self.module = case.model(*case.sizes, **case.options, backend=backend)
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.mul_(case.gain)
        self.generator = torch.Generator().manual_seed(case.seed)
        self.inputs: dict[str, Tensor] = dict(self.module.named_parameters())
        self.outputs: dict[str, Tensor] = {}
        self.pool: list[tuple[Any, int]] = [(self.begin(), case.batch)]

    def random(self, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return drawn.to(self.case.options["dtype"])

    def begin(self) -> Any:
        case, options = self.case, self.case.options
        slots, width = options["nr_cells"], options["cell_size"]
        if case.memory == "zeros" or (slots > 1000 and "tensor" in case.memory):
            return None
        cell, dtype = self.module.cell, options["dtype"]
        states = []
        for _ in range(1 if self.module.shared_memory else self.module.num_layers):
            state = cell.init_state(case.batch, dtype=dtype, device="cpu")
            content = self.random(width) if "row" in case.memory else self.random(
                case.batch, slots, width
            )  # fmt: skip
            if "learned" in case.memory:
                self.inputs[f"initial {len(self.inputs)}"] = content.requires_grad_()
            if "row" in case.memory:
                memory = RowMemory.filled(content, case.batch, slots)
            else:
                memory = RowMemory.from_tensor(content)
            states.append(state._replace(memory=memory))
        return None, states[0] if self.module.shared_memory else states, None

    def play(self) -> Run:
        for number in range(self.case.operations):
            newest = self.rng.random() < 0.7
            chosen = len(self.pool) - 1 if newest else self.rng.randrange(len(self.pool))
            hx, batch = self.pool[chosen]
            kind = self.rng.choice(OPERATIONS)
            if kind == "run" or hx is None or hx[0] is None:
                self.pool.append((self.call(number, hx, batch), batch))
            elif kind == "select":
                self.pool.append(self.select(hx, batch))
            elif kind == "detach":
                self.pool.append((detach_state(hx), batch))
            elif kind == "save":
                saved = state_to_dict(hx)
                self.pool.append((state_from_dict(saved), batch))
            else:
                self.pool.append((self.rng.choice(COPIES)(detach_state(hx)), batch))
        for number, (hx, _) in enumerate(self.pool):
            self.outputs |= named_state(f"state {number}", hx)
        return Run(self.outputs, self.gradients())

    def select(self, hx: Any, batch: int) -> tuple[Any, int]:
        count = self.rng.randint(1, batch + 1)
        if count > batch:
            examples = [self.rng.randrange(batch) for _ in range(count)]
        else:
            examples = self.rng.sample(range(batch), count)
        return select_state(hx, torch.tensor(examples)), count

    def call(self, number: int, hx: Any, batch: int) -> Any:
        rng, steps = self.rng, self.rng.randint(1, self.case.longest)
        rows = self.random(batch, steps, self.case.sizes[0]).requires_grad_()
        self.inputs[f"input {number}"] = rows
        options: dict[str, Any] = {}
        if hx is not None and hx[0] is not None and rng.random() < 0.2:
            options["reset_experience"] = torch.tensor([rng.random() < 0.4 for _ in range(batch)])
        if rng.random() < 0.25:
            flags = [[rng.random() < 0.2 for _ in range(steps)] for _ in range(batch)]
            options["episode_start"] = torch.tensor(flags)
        input: Tensor | PackedSequence = rows
        if rng.random() < 0.25:
            lengths = torch.tensor([rng.randint(1, steps) for _ in range(batch)])
            input = pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
            if "episode_start" in options:
                options["episode_start"] = options["episode_start"][:, : int(lengths.max())]
        recording = rng.random() < 0.85
        with torch.set_grad_enabled(recording):
            if self.backend == "numba":
                found = self.module.backend_of(input, hx, **options)
                assert found == ("numba", None), found
            output, after = self.module(input, hx, **options)
        if isinstance(output, PackedSequence):
            output, _ = pad_packed_sequence(output, batch_first=True)
        self.outputs[f"output {number}"] = output
        return after

    def gradients(self) -> dict[str, Tensor | None]:
        rng = random.Random(self.case.seed + 1)
        chosen = [
            name
            for name, value in self.outputs.items()
            if value.requires_grad and rng.random() < 0.7
        ]
        cotangents = [self.random(*self.outputs[name].shape) for name in chosen]
        if not chosen:
            return {}
        found = torch.autograd.grad(
            [self.outputs[name] for name in chosen],
            list(self.inputs.values()),
            cotangents,
            allow_unused=True,
        )
        return dict(zip(self.inputs, found, strict=True))


def named_state(name: str, hx: Any) -> dict[str, Tensor]:
    """All that can be seen of an ``hx``, by name."""
    if hx is None or hx[0] is None:
        return {}
    hidden, memory, reads = hx
    named: dict[str, Tensor] = {f"{name} reads": reads}
    for layer, own in enumerate(hidden):
        for part, value in enumerate(own if isinstance(own, tuple) else (own,)):
            named[f"{name} hidden {layer} {part}"] = value
    for layer, state in enumerate(memory if isinstance(memory, list) else [memory]):
        own = f"{name} memory {layer}"
        for way in ("read", "write"):
            index, weights = getattr(state, f"{way}_index"), getattr(state, f"{way}_weights")
            # Whether a link is 0 or 1e-17 is a matter of rounding, and so is where it leads.
            named[f"{own} {way}_index"] = index.masked_fill(weights.abs() < 1e-12, -1)
            named[f"{own} {way}_weights"] = weights
        seen = torch.cat([state.read_index.flatten(1), state.write_index], 1)
        named[f"{own} least"], named[f"{own} time"] = state.recency.least(), state.recency.time
        large, last_access = state.memory.shape[1] > 1000, state.recency.last_access()
        named[f"{own} rows"] = state.memory.read(seen) if large else state.memory.to_tensor()
        named[f"{own} last access"] = last_access.gather(1, seen) if large else last_access
        if "links" in state._fields:
            links = state.links.among(seen) if large else state.links.to_tensor()
            named[f"{own} links"] = links
            on, weights = state.links.precedence()
            named |= {f"{own} on": on, f"{own} precedence": weights}
        keys = torch.ones(len(seen), 1, state.memory.shape[2], dtype=state.memory.dtype)
        most = min(4, state.memory.shape[1])
        named[f"{own} found"], _ = state.index.search(state.memory.detach(), keys, most)
    return named


def run(case: Case, backend: str) -> Run:
    """Play a case."""
    return _Player(case, backend).play()


def play(seed: int, dtype: torch.dtype | None = None) -> str | None:
    """Where the two backends differ for a seed; None where they agree."""
    case = draw(seed, dtype)
    single = case.options["dtype"] == torch.float32
    return disagreement(run(case, "reference"), run(case, "numba"), 2e-3 if single else 1e-9)


def disagreement(one: Run, other: Run, tolerance: float) -> str | None:
    """The first difference, by name; None where there is none."""
    if one.values.keys() != other.values.keys():
        return f"other values: {one.values.keys() ^ other.values.keys()}"
    if one.gradients.keys() != other.gradients.keys():
        return f"other gradients: {one.gradients.keys() ^ other.gradients.keys()}"
    for what, left, right in (
        ("", one.values, other.values),
        ("gradient of ", one.gradients, other.gradients),
    ):
        for name in left:
            difference = _difference(left[name], right[name], tolerance)
            if difference is not None:
                return f"{what}{name}: {difference}"
    return None


def _difference(left: Tensor | None, right: Tensor | None, tolerance: float) -> str | None:
    # What gets no gradient may be told of as zeros.
    if left is None or right is None:
        given = right if left is None else left
        return None if given is None or not given.any() else "one has none"
    if left.shape != right.shape or left.dtype != right.dtype:
        return f"{left.dtype} {list(left.shape)} and {right.dtype} {list(right.shape)}"
    if not left.dtype.is_floating_point:
        return None if torch.equal(left, right) else f"{left.tolist()} and {right.tolist()}"[:300]
    if not torch.equal(left.isnan(), right.isnan()):
        return "NaN in other places"
    if not left.numel():
        return None
    left, right = left.detach(), right.detach()
    scale = max(LEAST_SCALE, float(left.abs().max()))
    most = float((left - right).abs().max()) / scale
    return None if most <= tolerance else f"{most:.3g} of {scale:.3g}"
