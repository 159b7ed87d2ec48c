"""States of SAM and the SDNC as values: copies, parts, and parts put together by hand."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from memcore import MemcoreError, RowMemory, sam, sdnc, sparse_state

SLOTS, WORDS, HEADS = 12, 3, 2
BEGINNINGS: dict[Any, tuple[int, ...]] = {
    sam: (SLOTS, WORDS, HEADS, 3),
    sdnc: (SLOTS, WORDS, HEADS, 3, 2),
}
models = pytest.mark.parametrize("model", [sam, sdnc], ids=["sam", "sdnc"])

every_copy = pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda state: pickle.loads(pickle.dumps(state)),
        lambda state: type(state)(*map(copy.deepcopy, state)),
    ],
    ids=["deepcopy", "pickle", "parts"],
)  # fmt: skip


def interfaces(model: Any, steps: int, batch: int) -> list[Any]:
    size = model.interface_size(WORDS, HEADS)
    parse = torch.func.vmap(lambda vector: model.parse_interface(vector, WORDS, HEADS))
    return [parse(2 * vectors) for vectors in torch.randn(steps, batch, size, dtype=torch.float64)]


def of(interface: Any, examples: Tensor) -> Any:
    chosen = {name: part[examples] for name, part in interface._asdict().items() if len(part)}
    return interface._replace(**chosen)


def masked(part: Tensor | tuple[()], examples: Tensor) -> Tensor | tuple[()]:
    if isinstance(part, tuple):
        return ()
    return part.masked_fill(examples.view(-1, *[1] * (part.dim() - 1)), torch.nan)


def rolled(model: Any, batch: int, steps: int = 6, **options: Any) -> Any:
    state = model.init_state(batch, *BEGINNINGS[model], dtype=torch.float64, **options)
    for interface in interfaces(model, steps, batch):
        state = model.step(state, interface)[1]
    return state


@models
@every_copy
@pytest.mark.parametrize("first", [[0], [2, 1], [1, 1, 0], [2, 0, 1]], ids=str)
def test_a_copy_is_asked_about_a_part_first(
    model: Any, copied: Callable[[Any], Any], first: list[int]
) -> None:
    state, interface = rolled(model, 3), interfaces(model, 1, 3)[0]
    whole, _ = model.step(state, interface)
    one = copied(state)
    for examples in (first, [0, 1, 2], [1], [2, 1, 0], [0, 2]):
        own = torch.tensor(examples)
        reads, _ = model.step(sparse_state.select(one, own), of(interface, own))
        torch.testing.assert_close(reads, whole[own], rtol=1e-12, atol=1e-12)
    again, _ = model.step(one, interface)
    torch.testing.assert_close(again, whole, rtol=1e-12, atol=1e-12)


@models
@every_copy
def test_a_copy_of_a_part(model: Any, copied: Callable[[Any], Any]) -> None:
    state, interface = rolled(model, 3), interfaces(model, 1, 3)[0]
    whole, _ = model.step(state, interface)
    own = torch.tensor([2, 0])
    one = copied(sparse_state.select(state, own))
    for places in ([1], [0, 1], [0]):
        mine = torch.tensor(places)
        reads, _ = model.step(sparse_state.select(one, mine), of(interface, own[mine]))
        torch.testing.assert_close(reads, whole[own[mine]], rtol=1e-12, atol=1e-12)


@models
def test_a_memory_in_place_of_a_states_own(model: Any) -> None:
    """Of another history, or a part of a larger memory: its rows are what is read."""
    state, interface = rolled(model, 2), interfaces(model, 1, 2)[0]
    values = torch.randn(3, SLOTS, WORDS, dtype=torch.float64)
    larger = RowMemory.from_tensor(values)
    part = larger.select(torch.tensor([2, 0]))
    own = RowMemory.from_tensor(values[[2, 0]])
    wanted, _ = model.step(state._replace(memory=own), interface)
    for memory in (part, own.select(torch.tensor([1, 0])).select(torch.tensor([1, 0]))):
        reads, after = model.step(state._replace(memory=memory), interface)
        torch.testing.assert_close(reads, wanted, rtol=1e-12, atol=1e-12)
        again, _ = model.step(after, interface)
        assert again.isfinite().all()
    other = state._replace(memory=state.memory.select(torch.tensor([1, 0])))
    swapped = RowMemory.from_tensor(state.memory.to_tensor()[[1, 0]])
    torch.testing.assert_close(
        model.step(other, interface)[0], model.step(state._replace(memory=swapped), interface)[0]
    )


@models
def test_a_memory_of_another_width_is_refused(model: Any) -> None:
    state, interface = rolled(model, 2), interfaces(model, 1, 2)[0]
    wide = RowMemory.filled(torch.zeros(WORDS + 1, dtype=torch.float64), 2, SLOTS)
    with pytest.raises(MemcoreError, match=r"state.index: expected one for .*\(12, 4, .*\), got"):
        model.step(state._replace(memory=wide), interface)


@models
@pytest.mark.parametrize("seed", range(12))
def test_nan_stays_with_its_example(model: Any, seed: int) -> None:
    """Also for one whose neighbour writes to the last slot."""
    torch.manual_seed(seed)
    shape = (4, *BEGINNINGS[model][1:3], 2, 1)[: len(BEGINNINGS[model])]
    state = clean = model.init_state(3, *shape, dtype=torch.float64)
    poisoned = torch.tensor([True, False, False])
    reads = []
    for step, interface in enumerate(interfaces(model, 10, 3)):
        bad = interface
        if step in (3, 4):
            bad = type(bad)(*(masked(part, poisoned) for part in bad))
        read, state = model.step(state, bad)
        wanted, clean = model.step(clean, interface)
        torch.testing.assert_close(read[1:], wanted[1:], rtol=1e-12, atol=1e-12)
        reads.append(read[0])
    assert torch.stack(reads).isnan().any()
