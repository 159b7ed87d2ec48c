"""Gradients through rows that are edited in place: whole and partial passes, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from memcore import MemcoreError, RowMemory, SparseWrite
from row_programs import CLOSE, SHAPE, SLOTS, dense_write, some_write, zeros


def one_write(slot: int, values: Tensor) -> SparseWrite:
    """Example 0 of one: that slot becomes the values."""
    return SparseWrite(torch.tensor([[slot]]), torch.tensor([[slot]]), values.view(1, 1, -1))


def test_a_graph_may_be_walked_in_parts() -> None:
    """An output of an early version alone, then one of a late version."""
    first, second = (torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in "ab")
    early = zeros().write(some_write(1)._replace(add=first))
    late = early.write(some_write(2)._replace(add=second))
    early_read, late_read = early.read(SLOTS).sum(), late.read(SLOTS).square().sum()
    early_read.backward(retain_graph=True)
    assert second.grad is None
    assert first.grad is not None
    plain_early = dense_write(torch.zeros(SHAPE).double(), some_write(1)._replace(add=first))
    plain_late = dense_write(plain_early, some_write(2)._replace(add=second))
    index = SLOTS.unsqueeze(-1).expand(-1, -1, 3)
    (expected,) = torch.autograd.grad(plain_early.gather(1, index).sum(), first, retain_graph=True)
    torch.testing.assert_close(first.grad, expected, **CLOSE)
    gradients = torch.autograd.grad(late_read, (first, second))
    wanted = torch.autograd.grad(plain_late.gather(1, index).square().sum(), (first, second))
    for gradient, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, other, **CLOSE)


def test_a_failed_pass_leaves_nothing_behind() -> None:
    add = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    memory = zeros().write(some_write()._replace(add=add * 1))
    output = memory.read(SLOTS)
    (expected,) = torch.autograd.grad(output.sum(), add, retain_graph=True)

    def fail(_: Tensor) -> None:
        raise RuntimeError("stop")

    handle = output.register_hook(fail)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="stop"):
            torch.autograd.grad(output.sum() + memory.read(SLOTS).sum(), add, retain_graph=True)
    handle.remove()
    (gradient,) = torch.autograd.grad(output.sum(), add)
    torch.testing.assert_close(gradient, expected, **CLOSE)


def test_there_is_no_second_derivative() -> None:
    add = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    output = zeros().write(some_write()._replace(add=add)).read(SLOTS).square().sum()
    with pytest.raises(MemcoreError, match="create_graph: expected False .*memcore.erase_and_add"):
        torch.autograd.grad(output, add, create_graph=True)
    with (
        pytest.warns(UserWarning, match="create_graph=True"),
        pytest.raises(MemcoreError, match="create_graph: expected False"),
    ):
        output.backward(create_graph=True)


def test_function_transforms_are_refused() -> None:
    def loss(add: Tensor) -> Tensor:
        return zeros().write(some_write()._replace(add=add)).read(SLOTS).sum()

    expected = "RowMemory: expected to be used outside of torch.func transforms"
    with pytest.raises(MemcoreError, match=expected):
        torch.func.grad(loss)(some_write().add)
    with pytest.raises(MemcoreError, match=expected):
        torch.func.vmap(loss)(some_write().add.expand(4, 2, 3, 3))


def test_batches_of_gradients_are_refused() -> None:
    add = some_write().add.requires_grad_()
    rows = zeros().write(some_write()._replace(add=add)).read(SLOTS)
    with pytest.raises((MemcoreError, RuntimeError), match="is_grads_batched: expected False"):
        torch.autograd.grad(rows, add, torch.ones(4, *rows.shape).double(), is_grads_batched=True)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_forward_mode_is_refused() -> None:
    def read_back(add: Tensor) -> Tensor:
        return zeros().write(some_write()._replace(add=add)).read(SLOTS)

    add = some_write().add
    with pytest.raises(MemcoreError, match="expected to be differentiated backward, got forward"):
        torch.func.jvp(read_back, (add,), (torch.ones_like(add),))
    with pytest.raises(MemcoreError, match="expected to be differentiated backward, got forward"):
        torch.func.jvp(RowMemory.from_tensor, (torch.ones(1, 2, 3),), (torch.ones(1, 2, 3),))


def test_no_gradient_reaches_a_learned_row_through_cleared_rows() -> None:
    """Also where the row is 0, as learned rows often are at first."""
    for value in (0.0, 1.0):
        row = torch.full((3,), value, dtype=torch.float64, requires_grad=True)
        memory = RowMemory.filled(row, 2, 6).write(some_write(erase=0))
        memory = memory.cleared(torch.tensor([True, False]))
        (gradient,) = torch.autograd.grad(memory.to_tensor().sum(), row)
        assert gradient.tolist() == [6.0] * 3


def test_the_log_forgets_graphs_that_are_gone() -> None:
    values = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    memory = RowMemory.from_tensor(values)
    for _ in range(1000):
        torch.autograd.grad(memory.read(SLOTS).sum(), values, retain_graph=True)
    assert memory._line is not None
    assert len(memory._line.log._parts) < 100


def test_non_reentrant_checkpointing() -> None:
    first, second = (torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True) for _ in "ab")

    def piece(memory: RowMemory, add: Tensor, seed: int) -> tuple[RowMemory, Tensor]:
        memory = memory.write(some_write(seed)._replace(add=add.sin()))
        return memory, memory.read(SLOTS).tanh()

    def loss(run: Callable[..., Any]) -> Tensor:
        memory, one = run(piece, zeros(), first, 1)
        _, two = run(piece, memory, second, 2)
        return (one * two).sum()

    plain = torch.autograd.grad(loss(lambda f, *a: f(*a)), (first, second))
    saved = torch.autograd.grad(
        loss(lambda f, *a: checkpoint(f, *a, use_reentrant=False)), (first, second)
    )
    for one, other in zip(plain, saved, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_gradient_of_an_initial_row_is_the_sum_over_the_rows() -> None:
    row = torch.randn(3, dtype=torch.float64, requires_grad=True)
    memory = RowMemory.filled(row, 1, 4).write(one_write(2, torch.ones(3).double()))
    factors = torch.arange(12.0, dtype=torch.float64).view(1, 4, 3)
    (memory.to_tensor() * factors).sum().backward()
    assert row.grad is not None
    assert row.grad.tolist() == factors[0, [0, 1, 3]].sum(0).tolist()


@pytest.mark.parametrize("begin", ["zeros", "learned row", "tensor"])
@pytest.mark.parametrize("how", ["no_grad", "detach", "anew", "anew, other rows", "branch"])
def test_examples_left_out_keep_their_history(begin: str, how: str) -> None:
    """As ``torch.cat([new, old[2:]])`` has it, whatever became of those that were not."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    row, first, second, after = random(3), random(3, 2, 3), random(2, 2, 3), random(3, 2, 3)
    tensor = random(3, 6, 3)
    weights = random(3, 6, 3)
    slots = {"first": torch.tensor([[0, 1], [1, 2], [2, 3]]), "second": torch.tensor([[1, 4]] * 2)}
    if how == "anew, other rows":
        slots["second"] = torch.tensor([[5, 4]] * 2)
    given = [x.requires_grad_() for x in (row, tensor, first, second, after)]

    def dense_write(memory: Tensor, index: Tensor, add: Tensor) -> Tensor:
        keep = torch.ones(memory.shape[:2], dtype=torch.float64).scatter(1, index[:, :1], 0)
        added = torch.zeros_like(memory).scatter_add(1, index[..., None].expand_as(add), add)
        return memory * keep[..., None] + added

    def write(memory: RowMemory, index: Tensor, add: Tensor) -> RowMemory:
        return memory.write(SparseWrite(index[:, :1], index, add))

    def run(memory: Any, write: Any, narrow: Any, widen: Any) -> Any:
        memory = write(memory, slots["first"], first)
        part = narrow(memory)
        if how == "no_grad":
            with torch.no_grad():
                part = write(part, slots["second"], second)
        elif how == "detach":
            part = part.detach()
        elif how == "branch":
            write(memory, slots["first"], after)
            part = write(part, slots["second"], second)
        else:
            part = write(part.detach(), slots["second"], second)
        wide = widen(part, memory)
        branch = write(memory, slots["first"], 3 * after)
        return write(wide, slots["first"], after), wide, branch

    begun = {
        "zeros": (lambda: RowMemory.zeros(3, 6, 3, dtype=torch.float64), torch.zeros(3, 6, 3)),
        "learned row": (lambda: RowMemory.filled(row, 3, 6), row.expand(3, 6, 3)),
        "tensor": (lambda: RowMemory.from_tensor(tensor), tensor),
    }[begin]
    found = run(begun[0](), write, lambda memory: memory.narrow(2), RowMemory.widen)
    wanted = run(
        begun[1].double(),
        dense_write,
        lambda memory: memory[:2],
        lambda part, memory: torch.cat([part, memory[2:]]),
    )

    def gradients(memories: Any) -> list[Tensor]:
        loss = sum(
            ((scale + 1) * weights * memory**2).sum() for scale, memory in enumerate(memories)
        )
        return list(torch.autograd.grad(loss, given, materialize_grads=True))  # pyright: ignore

    dense = [memory.to_tensor() for memory in found]
    for own, other in zip(dense, wanted, strict=True):
        torch.testing.assert_close(own, other)
    for own, other in zip(gradients(dense), gradients(wanted), strict=True):
        torch.testing.assert_close(own, other)


def test_what_is_logged_in_the_middle_of_a_pass_moves_no_rows() -> None:
    """As by a recomputation, between the parts of a pass that belong to two branches."""
    first, second, third = (
        torch.randn(1, 1, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)
    )
    four, five, three = (torch.tensor([[slot]]) for slot in (4, 5, 3))
    base = zeros((1, 6, 3)).write(SparseWrite(four, four, first))
    one = base.write(SparseWrite(five, five, second))
    outputs = [one.read(torch.tensor([[4, 5]]))]
    other = base.write(SparseWrite(three, three, third))
    outputs.append(other.read(torch.tensor([[3, 4]])))
    factors = torch.randn(2, 1, 2, 3, dtype=torch.float64)
    kept: list[Tensor] = []

    def log_more(_: Tensor) -> None:
        # Before the branch hands over its gradient; rows below those that are known.
        with torch.enable_grad():
            kept.append(base.read(torch.tensor([[0, 1, 2]])))

    third.register_hook(log_more)
    (torch.stack(outputs) * factors).sum().backward()
    assert len(kept) == 1
    for leaf, wanted in (
        (first, factors[0, 0, 0] + factors[1, 0, 1]),
        (second, factors[0, 0, 1]),
        (third, factors[1, 0, 0]),
    ):
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad.flatten(), wanted, **CLOSE)
