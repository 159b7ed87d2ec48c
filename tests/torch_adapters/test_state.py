"""State is a value: passed twice, copied, saved, selected, shared between threads."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from memcore import Recency, SparseLinks
from memcore.index import Mirror
from modules import CLOSE, batch, build, every_model, leaves, same, variants
from torch_adapters import (
    detach_state,
    select_state,
    state_from_dict,
    state_to_dict,
)


@variants
def test_the_same_hx_twice_gives_the_same(options: dict[str, Any]) -> None:
    module = build(**options)
    _, hx = module(batch(module))
    before = copy.deepcopy(detach_state(hx))
    first, second = module(batch(module, seed=2), hx), module(batch(module, seed=2), hx)
    same(first, second)
    same(detach_state(hx), before)


def test_parts_of_hx_may_be_none() -> None:
    module = build()
    _, (hidden, memory, reads) = module(batch(module))
    input = batch(module, seed=2)
    same(module(input, (None, None, None)), module(input))
    zero_reads = module(input, (hidden, memory, torch.zeros_like(reads)))
    same(module(input, (hidden, memory, None)), zero_reads)
    zero_hidden = [tuple(torch.zeros_like(part) for part in hidden[0])]
    same(module(input, (None, memory, reads)), module(input, (zero_hidden, memory, reads)))


@every_model
def test_threads_may_share_a_module(model: Any) -> None:
    module = build(model).eval()
    inputs = [batch(module, seed=seed, steps=6) for seed in range(4)]

    def stream(input: Tensor) -> list[Tensor]:
        outputs, hx = [], None
        for piece in input.split(2, dim=1):
            output, hx = module(piece, hx)
            outputs.append(output)
        return outputs

    serial = [stream(input) for input in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for one, other in zip(pool.map(stream, inputs), serial, strict=True):
                same(one, other, **CLOSE)


@variants
def test_copies_pickles_and_checkpoints(options: dict[str, Any]) -> None:
    module = build(**options)
    input = batch(module)
    expected = module(input)
    same(copy.deepcopy(module)(input), expected)
    same(pickle.loads(pickle.dumps(module))(input), expected)
    fresh = build(**options)
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    fresh.load_state_dict(module.state_dict())
    same(fresh(input), expected)
    hx = detach_state(expected[1])
    same(pickle.loads(pickle.dumps(hx)), hx)
    same(copy.deepcopy(hx), hx)
    file = io.BytesIO()
    saved = state_to_dict(expected[1])
    assert not saved["read_vectors"].requires_grad
    torch.save(saved, file)
    file.seek(0)
    loaded = state_from_dict(torch.load(file, weights_only=True))
    same(loaded, hx)
    same(module(input, loaded), module(input, hx))


@every_model
def test_detached_state_cuts_the_history(model: Any) -> None:
    module = build(model)
    _, hx = module(batch(module))
    assert all(leaf.requires_grad for leaf in leaves(hx[0]))
    assert not any(leaf.requires_grad for leaf in leaves(detach_state(hx)))
    same(detach_state(hx), hx)


@every_model
@pytest.mark.parametrize("chosen", [[2, 0, 0], torch.tensor([2, 0, 0])])
def test_selected_state(chosen: Any, model: Any) -> None:
    module = build(model, num_layers=2, share_memory=False)
    _, hx = module(batch(module))
    input = batch(module, seed=2)
    expected, _ = module(input, hx)
    output, _ = module(input[[2, 0, 0]], select_state(hx, chosen))
    same(output, expected[[2, 0, 0]], **CLOSE)
    mask = torch.tensor([True, False, True])
    same(select_state(hx, mask), select_state(hx, [0, 2]))


@every_model
@pytest.mark.parametrize("backend", [pytest.param("reference", marks=pytest.mark.slow), "auto"])
def test_a_state_selected_twice_goes_two_ways(model: Any, backend: str) -> None:
    """Each is told something else from then on, and is what it would be alone."""
    module = build(model, num_layers=2, share_memory=False, backend=backend)
    _, hx = module(batch(module))
    chosen = [1, 1, 0]
    together = select_state(hx, chosen)
    alone = [select_state(hx, [example]) for example in chosen]
    for seed in range(2, 6):
        input = batch(module, seed=seed)
        output, together = module(input, together)
        for place in range(3):
            own, alone[place] = module(input[place : place + 1], alone[place])
            same(output[place : place + 1], own, **CLOSE)
    for place in range(3):
        same(select_state(together, [place]), alone[place], **CLOSE)


def named_fields(state: Any) -> dict[str, Tensor]:
    """What a memory's state holds, as it stands there; an index is a cache."""
    found: dict[str, Tensor] = {}
    for name, part in state._asdict().items():
        if isinstance(part, Tensor):
            found[name] = part
        elif not isinstance(part, Mirror):
            found |= {f"{name} {at}": leaf for at, leaf in enumerate(leaves(part))}
            if isinstance(part, SparseLinks):
                found[f"{name} on"] = part.precedence()[0]
            if isinstance(part, Recency):
                found[f"{name} least"] = part.least()
    return found


@every_model
def test_a_memory_that_is_reset_is_a_new_one_field_by_field(model: Any) -> None:
    module = build(model)
    _, memory, _ = detach_state(module(batch(module, steps=7))[1])
    new = named_fields(module.cell.init_state(3, dtype=torch.float64, device="cpu"))
    before = named_fields(memory)
    every = named_fields(module.cell.reset(memory, torch.ones(3, dtype=torch.bool)))
    some = named_fields(module.cell.reset(memory, torch.tensor([True, False, True])))
    assert every.keys() == some.keys() == new.keys()
    for name, value in new.items():
        assert torch.equal(every[name], value), name
        assert torch.equal(some[name][[0, 2]], value[[0, 2]]), name
        assert torch.equal(some[name][1], before[name][1]), name
