"""A random case of "the backends agree", and the comparison of all that it gives, by name."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

from memcore import DNCState
from memcore.dam import DAMState
from torch_adapters import DAM, DNC

__all__ = [
    "Case",
    "Result",
    "assert_agree",
    "disagreement",
    "draw",
    "gradients",
    "map_state",
    "named_state",
    "random_memory",
    "random_state",
    "run",
]

# What is compared is compared relative to the largest element of its tensor, or to this.
LEAST_SCALE = 1e-2


class Case(NamedTuple):
    """A module and a call of it; ``seed`` determines all numbers."""

    seed: int
    model: type[Any]
    sizes: tuple[int, int]  # input_size, hidden_size
    options: dict[str, Any]
    gain: float  # what parameters are multiplied by
    lengths: tuple[int, ...]  # time steps of each example
    layout: str  # 'padded', 'packed' or 'packed unsorted'
    starts: str  # episode_start: 'none', 'padded' or 'packed'
    reset: str  # reset_experience: 'none', 'all' or 'some'
    given: str  # hx: 'none', 'partly', 'given', 'learned' or 'expanded'
    split: int  # time steps of the first of two calls; 0: one call
    chunks: bool  # whether two threads share the batch, however small


class Result(NamedTuple):
    """What a call gave, by name."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor | None]


def draw(seed: int) -> Case:
    """The case of a seed."""
    rng = random.Random(seed)
    model = rng.choice([DNC, DNC, DAM])
    kind = rng.choice(["lstm", "gru", "rnn tanh", "rnn relu", "linear tanh", "linear relu"])
    rnn_type, _, nonlinearity = kind.partition(" ")
    depth = rng.choice([1, 2])
    options: dict[str, Any] = {
        "rnn_type": rnn_type,
        "nonlinearity": nonlinearity or "tanh",
        "num_layers": rng.choice([1, 1, 2, 3]),
        "num_hidden_layers": depth,
        "dropout": rng.choice([0, 0, 0.3]) if depth > 1 else 0,
        "bias": rng.random() < 0.8,
        "share_memory": rng.random() < 0.6,
        "independent_linears": rng.random() < 0.3,
        "batch_first": rng.random() < 0.7,
        "clip": rng.choice([0, 20, 0.2]),
        "read_heads": rng.randint(1, 5),
        "nr_cells": rng.choice([1, 2, 5, 16, 17, 33, 40]),
        "cell_size": rng.choice([1, 3, 8, 10]),
        "output_size": rng.choice([None, 2]),
        "dtype": rng.choice([torch.float64, torch.float64, torch.float32]),
    }
    layout = rng.choice(["padded", "padded", "packed", "packed unsorted"])
    size, steps = rng.randint(1, 5), rng.randint(1, 4)
    lengths = [steps] * size
    if layout != "padded":
        lengths = [rng.randint(1, steps) for _ in range(size)]
    if layout == "packed":
        lengths.sort(reverse=True)
    starts = rng.choice(["none", "none", "padded", "packed"])
    if layout == "padded" and starts == "packed":
        starts = "padded"
    split = 0
    if layout == "padded" and steps > 1 and not options["dropout"]:
        split = rng.choice([0, rng.randint(1, steps - 1)])
    if rng.random() < 0.6:
        options |= _later_options(rng, model)
    return Case(
        seed=seed,
        model=model,
        sizes=(rng.choice([1, 3, 4]), rng.choice([1, 4, 8, 13])),
        options=options,
        gain=rng.choice([1, 2, 3]),
        lengths=tuple(lengths),
        layout=layout,
        starts=starts,
        reset=rng.choice(["none", "none", "none", "all", "some"]),
        given=rng.choice(["none", "partly", "given", "learned", "learned", "expanded"]),
        split=split,
        chunks=rng.random() < 0.25,
    )


def _later_options(rng: random.Random, model: type[Any]) -> dict[str, Any]:
    """What later papers added."""
    masking = rng.random() < 0.5
    options = {
        "masking": masking,
        "mask_minimum": rng.choice([0, 0.2]) if masking else 0,
        "temperature": rng.choice([1, 0.5, 3]),
    }
    options["layer_norm"] = rng.random() < 0.4
    if model is DNC:
        options["write_heads"] = rng.choice([1, 1, 2, 3])
        options["deallocation"] = rng.random() < 0.5
        options["link_sharpness"] = rng.random() < 0.5
    return options


def random_memory(
    model: type[Any],
    size: int,
    slots: int,
    words: int,
    heads: int,
    generator: torch.Generator,
    writes: int = 1,
) -> Any:
    """A batch of memory states, each field in its range and no two slots equally used."""

    def real(*shape: int) -> Tensor:
        return torch.randn(size, *shape, generator=generator, dtype=torch.float64)

    def weights(*shape: int) -> Tensor:
        return real(*shape, slots).softmax(-1) * real(*shape, 1).sigmoid()

    place = torch.rand(size, slots, generator=generator, dtype=torch.float64).argsort(-1)
    jitter = torch.rand(size, slots, generator=generator, dtype=torch.float64) / 2
    usage = (place + 0.25 + jitter) / slots
    if model is DAM:
        return DAMState(
            real(slots, words), usage, real(heads, slots).softmax(-1), weights().view(size, slots)
        )
    shape = (size, writes, slots) if writes > 1 else (size, slots)
    precedence = weights(writes).view(shape)
    off_diagonal = 1 - torch.eye(slots, dtype=torch.float64)
    links = real(writes, slots, slots).sigmoid().view(*shape, slots)
    links = links * off_diagonal / slots * (1 - precedence.unsqueeze(-2))
    written = weights(writes).view(shape)
    return DNCState(real(slots, words), usage, precedence, links, weights(heads), written)


def random_state(module: Any, size: int, generator: torch.Generator) -> Any:
    """An ``hx`` for a module, in its dtype."""
    cell, dtype = module.cell, module.output.weight.dtype
    model = DAM if cell.kernel == "DAM" else DNC

    def hidden() -> Tensor:
        shape = (module.num_hidden_layers, size, module.hidden_size)
        return torch.randn(shape, generator=generator, dtype=torch.float64).tanh().to(dtype)

    layers = range(module.num_layers)
    lstm = module.rnn_type == "lstm"
    controller = [(hidden(), hidden()) if lstm else hidden() for _ in layers]
    memories = []
    for _ in range(1 if module.shared_memory else module.num_layers):
        sizes = (cell.nr_cells, cell.cell_size, cell.read_heads)
        writes = getattr(cell.options, "write_heads", 1)
        state = random_memory(model, size, *sizes, generator, writes)
        memories.append(type(state)(*(field.to(dtype) for field in state)))
    reads = torch.randn(size, cell.read_size, generator=generator, dtype=torch.float64).to(dtype)
    return controller, memories[0] if module.shared_memory else memories, reads


def named_state(hx: Any) -> dict[str, Tensor]:
    """The tensors of an ``hx`` by name; what is None is left out."""
    hidden, memory, reads = hx
    named: dict[str, Tensor] = {}
    for layer, state in enumerate(hidden or []):
        parts = state if isinstance(state, tuple) else (state,)
        named |= {
            f"hidden[{layer}].{part}": value for part, value in zip("hc", parts, strict=False)
        }
    memories = [] if memory is None else memory if isinstance(memory, list) else [memory]
    for layer, state in enumerate(memories):
        named |= {f"memory[{layer}].{field}": value for field, value in state._asdict().items()}
    if reads is not None:
        named["reads"] = reads
    return named


def map_state(function: Any, hx: Any) -> Any:
    """An ``hx`` with a function applied to each of its tensors."""
    hidden, memory, reads = hx
    mapped = [
        tuple(map(function, layer)) if isinstance(layer, tuple) else function(layer)
        for layer in hidden
    ]
    memories = memory if isinstance(memory, list) else [memory]
    states = [type(state)(*map(function, state)) for state in memories]
    return mapped, states if isinstance(memory, list) else states[0], function(reads)


class _Call:
    """The tensors of a case."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(case.seed)
        self.case = case
        self.module = case.model(*case.sizes, **case.options)
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.mul_(case.gain)
        self.generator = torch.Generator().manual_seed(case.seed)
        self.size, self.steps = len(case.lengths), max(case.lengths)
        self.tied = torch.zeros(self.size, dtype=torch.bool)
        shape = (self.size, self.steps, case.sizes[0])
        self.rows = self.random(*shape).requires_grad_()
        self.learned: dict[str, Tensor] = {}
        self.hx = self._hx()
        self.reset = self._reset()
        self.starts = self._starts()
        if case.options["nr_cells"] <= 2:
            self.tied[:] = False

    def random(self, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return drawn.to(self.case.options["dtype"])

    def _flags(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) < 0.3

    def _hx(self) -> Any:
        case = self.case
        if case.given == "none":
            self.tied[:] = True
            return None
        one = case.given == "expanded"
        hx = random_state(self.module, 1 if one else self.size, self.generator)
        if case.given in ("learned", "expanded"):
            hx = map_state(lambda value: value.requires_grad_(), hx)
            self.learned = {f"hx {name}": value for name, value in named_state(hx).items()}
        if one:
            hidden, memory, reads = map_state(
                lambda value: value.expand(self.size, *value.shape[1:]), ([], *hx[1:])
            )
            wide = (self.module.num_hidden_layers, self.size, case.sizes[1])
            hidden = [
                tuple(part.expand(wide) for part in layer)
                if isinstance(layer, tuple)
                else layer.expand(wide)
                for layer in hx[0]
            ]
            hx = hidden, memory, reads
        if case.given == "partly":
            keep = [bool(flag) for flag in self._flags(3)]
            hx = tuple(part if kept else None for part, kept in zip(hx, keep, strict=True))
            self.tied[:] = not keep[1]
        return hx

    def _reset(self) -> bool | Tensor:
        if self.case.reset == "none":
            return False
        if self.case.reset == "all":
            self.tied[:] = True
            return True
        flags = self._flags(self.size)
        self.tied |= flags
        return flags

    def _starts(self) -> Any:
        if self.case.starts == "none":
            return None
        flags = self._flags(self.size, self.steps)
        for example, length in enumerate(self.case.lengths):
            self.tied[example] |= bool(flags[example, :length].any())
        return flags

    def pieces(self, split: int) -> list[tuple[Any, Any]]:
        """Of each call the input and ``episode_start``."""
        case, rows, starts = self.case, self.rows, self.starts
        if case.layout == "padded":
            pieces = [(rows, starts)]
            if split:
                pieces = [
                    (rows[:, part], None if starts is None else starts[:, part])
                    for part in (slice(0, split), slice(split, None))
                ]
            if not self.module.batch_first:
                pieces = [
                    (rows.transpose(0, 1), None if flags is None else flags.t())
                    for rows, flags in pieces
                ]
            return pieces
        packed = pack_padded_sequence(
            rows, torch.tensor(case.lengths), batch_first=True,
            enforce_sorted=case.layout == "packed",
        )  # fmt: skip
        if starts is not None and case.starts == "packed":
            each = [starts[i, :length] for i, length in enumerate(case.lengths)]
            starts = pack_sequence(each, enforce_sorted=case.layout == "packed")
        elif starts is not None and not self.module.batch_first:
            starts = starts.t()
        return [(packed, starts)]


def gradients(
    outputs: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    cotangents: Mapping[str, Tensor],
    **options: Any,
) -> dict[str, Tensor | None]:
    """By name, those of all inputs; outputs that have none, or no cotangent, are passed by."""
    chosen = [name for name in cotangents if outputs[name].requires_grad]
    found = torch.autograd.grad(
        [outputs[name] for name in chosen],
        list(inputs.values()),
        [cotangents[name] for name in chosen],
        allow_unused=True,
        **options,
    )
    return dict(zip(inputs, found, strict=True))


def run(case: Case, backend: str) -> Result:
    """Outputs, final state and all gradients, with random cotangents on all that is comparable.

    Slots of a memory that began empty are equally good, and rounding decides which of them is
    taken: of examples with such a memory the fields of the memory are left out, unless two slots or
    one are all there are.
    """
    call = _Call(case)
    module = call.module
    module.backend = backend
    torch.manual_seed(case.seed + 1)
    hx, reset, outputs = call.hx, call.reset, []
    for input, starts in call.pieces(case.split if backend == "numba" else 0):
        if backend == "numba":
            assert module.backend_of(input, hx, reset, episode_start=starts) == ("numba", None)
        output, hx = module(input, hx, reset, episode_start=starts)
        outputs.append(output)
        reset = False
    whole: Any = outputs[0]
    whole = (
        whole.data
        if isinstance(whole, PackedSequence)
        else torch.cat(outputs, 1 if module.batch_first else 0)
    )
    named = {"output": whole}
    untied = ~call.tied
    for name, value in named_state(hx).items():
        if not name.startswith("memory"):
            named[name] = value
        elif untied.any():
            named[name] = value[untied]
    cotangents = {name: call.random(*value.shape) for name, value in named.items()}
    inputs = {"input": call.rows, **dict(module.named_parameters()), **call.learned}
    return Result(
        {name: value.detach() for name, value in named.items()},
        gradients(named, inputs, cotangents),
    )


def disagreement(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest element of ``other``."""
    if one.numel() == 0:
        return 0.0
    one, other = one.detach(), other.detach()
    return float((one - other).abs().max()) / max(float(other.abs().max()), LEAST_SCALE)


def assert_agree(
    ones: Mapping[str, Tensor | None], others: Mapping[str, Tensor | None], tolerance: float
) -> float:
    """The largest disagreement; raise where one exceeds the tolerance, or something is missing."""
    assert list(ones) == list(others)
    largest, wrong = 0.0, []
    for name, one in ones.items():
        other = others[name]
        # An input on which nothing depends has no gradient, or one of zeros.
        present = one if other is None else other
        if present is None:
            continue
        one, other = (torch.zeros_like(present) if x is None else x for x in (one, other))
        assert one.shape == other.shape, name
        assert one.dtype == other.dtype, name
        assert bool(torch.isfinite(other).all()), f"{name}: not finite in the reference"
        found = disagreement(one, other)
        largest = max(largest, found)
        if not found <= tolerance:
            wrong.append(f"{name}: {found:.2e}")
    assert not wrong, "; ".join(wrong)
    return largest
