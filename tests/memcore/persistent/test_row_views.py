"""Parts of a batch, and which rows differ between versions."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from memcore import MemcoreError, RowMemory
from row_programs import CLOSE, SHAPE, dense_write, draw_write, some_write, zeros


def test_select() -> None:
    memory = zeros((3, 6, 3)).write(draw_write((3, 6, 3), torch.Generator().manual_seed(0)))
    values = memory.to_tensor()
    for chosen in ([2, 0], [1], [2, 2, 0], [0, 1, 2]):
        part = memory.select(torch.tensor(chosen))
        assert part.shape == (len(chosen), 6, 3)
        assert torch.equal(part.to_tensor(), values[chosen])
        again = part.select(torch.tensor([len(chosen) - 1]))
        assert torch.equal(again.to_tensor(), values[[chosen[-1]]])
    repeated = memory.select(torch.tensor([1, 1]))
    write = draw_write((2, 6, 3), torch.Generator().manual_seed(1))
    expected = dense_write(values[[1, 1]], write)
    torch.testing.assert_close(repeated.write(write).to_tensor(), expected, **CLOSE)


def test_a_repeated_selection_is_differentiable_and_copies_the_rows_written() -> None:
    add = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    write, chosen = some_write(erase=0)._replace(add=add), torch.tensor([1, 1, 0])
    plain = dense_write(torch.zeros(SHAPE).double(), write)
    memory = zeros().write(write).select(chosen)
    assert memory.written().shape[1] <= 3
    factors = torch.randn(3, 6, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((memory.to_tensor() * factors).sum(), add)
    (expected,) = torch.autograd.grad((plain[chosen] * factors).sum(), add)
    torch.testing.assert_close(gradient, expected, **CLOSE)


def test_written_and_changed() -> None:
    memory = zeros((2, 1000, 3))
    assert memory.written().shape == (2, 0)
    first = memory.write(draw_write((2, 1000, 3), torch.Generator().manual_seed(0)))
    for example, slots in enumerate(first.written().tolist()):
        changed = first.to_tensor()[example].any(-1).nonzero().squeeze(1).tolist()
        assert set(changed) <= set(slots)
        assert len(slots) <= 5
    for _ in range(100):
        first = first.write(draw_write((2, 1000, 3), torch.Generator().manual_seed(0)))
    second = first.write(draw_write((2, 1000, 3), torch.Generator().manual_seed(1)))
    for one, other in ((first, second), (second, first)):
        slots = one.changed_since(other)
        assert slots is not None
        assert slots.shape[1] <= 10
        differs = (one.to_tensor() != other.to_tensor()).any(-1)
        for example in range(2):
            found = set(slots[example].tolist())
            assert set(differs[example].nonzero().squeeze(1).tolist()) <= found
    assert second.changed_since(zeros()) is None
    dense = RowMemory.from_tensor(torch.ones(SHAPE))
    assert dense.written().tolist() == [list(range(6))] * 2


def test_wrong_parts() -> None:
    memory: Any = zeros()
    # Beneath the type checks that only the tests have.
    select = inspect.unwrap(RowMemory.select)
    for examples in (torch.tensor([2]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor([])):
        with pytest.raises(MemcoreError, match="examples: expected"):
            select(memory, examples)
    with pytest.raises(TypeError, match="examples: expected a torch.Tensor, got list"):
        select(memory, [0, 1])
    for count in (0, 3):
        with pytest.raises(MemcoreError, match="count: expected"):
            memory.narrow(count)


@pytest.mark.parametrize("learned", [False, True])
def test_a_repeated_selection_keeps_the_initial_row_and_its_gradient(learned: bool) -> None:
    row = torch.randn(3, dtype=torch.float64, requires_grad=learned)
    add = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    more = torch.randn(3, 3, 3, dtype=torch.float64, requires_grad=True)
    write, chosen = some_write(erase=1)._replace(add=add), torch.tensor([1, 1, 0])
    later = draw_write((3, 6, 3), torch.Generator().manual_seed(1))._replace(add=more)
    memory = RowMemory.filled(row, 2, 6).write(write).select(chosen)
    plain = dense_write(row.expand(SHAPE), write)[chosen]
    torch.testing.assert_close(memory.to_tensor(), plain, **CLOSE)
    after, expected = memory.write(later), dense_write(plain, later)
    torch.testing.assert_close(after.to_tensor(), expected, **CLOSE)
    torch.testing.assert_close(memory.to_tensor(), plain, **CLOSE)
    leaves = [add, more, *([row] if learned else [])]
    factors = torch.randn(2, 3, 6, 3, dtype=torch.float64)
    ours = (after.to_tensor() * factors[0] + memory.to_tensor() * factors[1]).sum()
    gradients = torch.autograd.grad(ours, leaves)
    wanted = torch.autograd.grad((expected * factors[0] + plain * factors[1]).sum(), leaves)
    for gradient, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, other, **CLOSE)
