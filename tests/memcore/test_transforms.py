"""What is sparse under ``torch.func`` and `torch.compile`: a refusal in one line; a graph break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from memcore import (
    MemcoreError,
    Recency,
    RowMemory,
    SparseLinks,
    SparseWrite,
    make_index,
    sam,
    sdnc,
)

SLOTS = torch.tensor([[1, 3]])
FLAGS = torch.ones(1, 2, dtype=torch.bool)
ROWS = torch.randn(1, 2, 3)
MEMORY = RowMemory.zeros(1, 5, 3)
RECENCY, LINKS = Recency(1, 5), SparseLinks(1, 5, 2)
INDEX = make_index("exact", batch_size=1, slots=5, word_size=3)
VECTORS = {model: torch.randn(1, model.interface_size(3, 1)) for model in (sam, sdnc)}
STATES = {
    sam: sam.init_state(1, 5, 3, 1, 2),
    sdnc: sdnc.init_state(1, 5, 3, 1, 2, 2),
}


def interface(model: Any) -> Any:
    return torch.func.vmap(lambda own: model.parse_interface(own, 3, 1))(VECTORS[model])


INTERFACES = {model: interface(model) for model in (sam, sdnc)}


# Each takes a number, to be transformed by.
CALLS: dict[str, Callable[[Tensor], Any]] = {
    "read": lambda one: MEMORY.read(SLOTS + one.long()),
    "write": lambda one: MEMORY.write(SparseWrite(SLOTS, SLOTS, ROWS * one)),
    "zeros": lambda one: RowMemory.zeros(1, 5, 3),
    "filled": lambda one: RowMemory.filled(ROWS[0, 0] * one, 1, 5),
    "from_tensor": lambda one: RowMemory.from_tensor(ROWS * one),
    "select": lambda one: MEMORY.select(one.long()[None]),
    "cleared": lambda one: MEMORY.cleared(one[None] > 0),
    "refilled": lambda one: MEMORY.refilled(one[None] > 0, ROWS[0, 0]),
    "accessed": lambda one: RECENCY.accessed(SLOTS, FLAGS & (one > 0)),
    "recency cleared": lambda one: RECENCY.cleared(one[None] > 0),
    "written": lambda one: LINKS.written(SLOTS, ROWS[..., 0].abs() * one),
    "follow": lambda one: LINKS.directional_weightings(SLOTS[None], ROWS[None, ..., 0].abs() * one),
    "search": lambda one: INDEX.search(ROWS * one, 2),
    "update": lambda one: INDEX.update(SLOTS, ROWS * one),
    "sam.step": lambda one: sam.step(
        STATES[sam], INTERFACES[sam]._replace(write_vector=ROWS[:, 0] * one)
    ),
    "sam.batched_step": lambda one: sam.batched_step(STATES[sam], VECTORS[sam] * one),
    "sdnc.step": lambda one: sdnc.step(
        STATES[sdnc], INTERFACES[sdnc]._replace(write_vector=ROWS[:, 0] * one)
    ),
    "sdnc.batched_step": lambda one: sdnc.batched_step(STATES[sdnc], VECTORS[sdnc] * one),
    "sam.init_state": lambda one: sam.init_state(1, 5, 3, 1, 2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_transforms_are_refused_in_one_line(call: Callable[[Tensor], Any]) -> None:
    def loss(one: Tensor) -> Tensor:
        call(one)
        return one

    for transformed, given in (
        (torch.func.vmap(loss), torch.zeros(3)),
        (torch.func.grad(loss), torch.zeros(())),
    ):
        with pytest.raises(MemcoreError, match=r"^\S+: expected to be used outside of ") as error:
            transformed(given)
        assert "\n" not in str(error.value)
    assert not MEMORY.read(SLOTS).any()
    assert RECENCY.least().item() == 0


def values(result: Any) -> list[Tensor]:
    """What can be seen of a result."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, RowMemory | SparseLinks):
        return [result.to_tensor()]
    if isinstance(result, Recency):
        return [result.last_access()]
    return [value for part in result for value in values(part)] if isinstance(result, tuple) else []


COMPILED = [name for name in CALLS if name != "update"]


@pytest.mark.skipif(torch.__version__ < "2.12", reason="compiled from torch 2.12 on")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("call", [CALLS[name] for name in COMPILED], ids=COMPILED)
def test_compiled_functions_break_their_graph(call: Callable[[Tensor], Any]) -> None:
    """Nothing is traced into edits: what comes out is the same, and the state before is left."""
    torch._dynamo.reset()

    def run(one: Tensor) -> tuple[Any, Tensor]:
        doubled = one * 2
        return call(doubled / 2), doubled

    one = torch.zeros(()) if call is CALLS["select"] else torch.ones(())
    if call is CALLS["read"]:
        one = torch.zeros(())
    wanted = values(call(one))
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(run, backend=backend)
    for _ in range(2):
        result, doubled = compiled(one)
        assert torch.equal(doubled, 2 * one)
        for own, other in zip(values(result), wanted, strict=True):
            assert torch.equal(own, other)
    assert graphs  # what surrounds the call was compiled
    assert not MEMORY.read(SLOTS).any()
    assert RECENCY.least().item() == 0


def test_a_branch_inside_of_a_compiled_function() -> None:
    torch._dynamo.reset()

    def run(add: Tensor) -> tuple[Tensor, ...]:
        first = MEMORY.write(SparseWrite(SLOTS, SLOTS, add * 2))
        second = MEMORY.write(SparseWrite(SLOTS, SLOTS, add * 3))
        return first.read(SLOTS) + 1, second.read(SLOTS) + 1, MEMORY.read(SLOTS) + 1

    for own, other in zip(torch.compile(run, backend="eager")(ROWS), run(ROWS), strict=True):
        assert torch.equal(own, other)
