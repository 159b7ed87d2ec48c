"""RowMemory: the value it is, its refusals."""

from __future__ import annotations

import copy
import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from memcore import MemcoreError, RowMemory, SparseWrite
from row_programs import CLOSE, SHAPE, SLOTS, Program, dense_write, some_write, zeros


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(40, 400))]
)
def test_a_program_equals_plain_tensors(seed: int) -> None:
    """Values of every read and every version held, then gradients of them all."""
    program = Program(seed)
    program.run(50)
    for ours, plain in program.outputs:
        torch.testing.assert_close(ours, plain, **CLOSE)
    for memory, plain in program.versions:
        torch.testing.assert_close(memory.to_tensor(), plain, **CLOSE)
    ours, plain = program.loss()
    leaves = program.leaves
    if not ours.requires_grad:
        assert not plain.requires_grad
        return
    expected = torch.autograd.grad(
        plain, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    for _ in range(2):  # a pass leaves nothing behind for the next one
        gradients = torch.autograd.grad(
            ours, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for gradient, wanted in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient, wanted, **CLOSE)
    some = leaves[:: 1 + seed % 3]
    partial = torch.autograd.grad(
        ours, some, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    for gradient, wanted in zip(partial, expected[:: 1 + seed % 3], strict=True):
        torch.testing.assert_close(gradient, wanted, **CLOSE)
    ours.backward()
    for leaf, wanted in zip(leaves, expected, strict=True):
        torch.testing.assert_close(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad,
                                   wanted, **CLOSE)  # fmt: skip


def test_two_futures_of_one_version() -> None:
    base = zeros().write(some_write(0))
    one, other = base.write(some_write(1)), base.write(some_write(2))
    plain = dense_write(torch.zeros(SHAPE).double(), some_write(0))
    torch.testing.assert_close(one.to_tensor(), dense_write(plain, some_write(1)), **CLOSE)
    torch.testing.assert_close(other.to_tensor(), dense_write(plain, some_write(2)), **CLOSE)
    torch.testing.assert_close(base.to_tensor(), plain, **CLOSE)


def test_what_is_read_is_a_copy() -> None:
    memory = zeros()
    memory.read(SLOTS).fill_(9)
    memory.to_tensor().fill_(9)
    values = torch.ones(SHAPE)
    other = RowMemory.from_tensor(values)
    values.fill_(9)
    assert not memory.to_tensor().any()
    assert (other.to_tensor() == 1).all()
    write = some_write()
    before = [part.clone() for part in write]
    memory.write(write)
    assert all(torch.equal(*pair) for pair in zip(write, before, strict=True))


def test_an_erased_row_that_is_also_written() -> None:
    memory = RowMemory.from_tensor(torch.ones(1, 3, 2))
    slot = torch.tensor([[1, 1]])
    after = memory.write(SparseWrite(slot, slot, torch.tensor([[[1.0, 2.0], [10.0, 20.0]]])))
    assert after.to_tensor()[0].tolist() == [[1, 1], [11, 22], [1, 1]]


def test_nothing_may_be_written_or_read() -> None:
    none = torch.zeros(2, 0, dtype=torch.int64)
    memory = zeros().write(some_write())
    same = memory.write(SparseWrite(none, none, torch.zeros(2, 0, 3, dtype=torch.float64)))
    assert torch.equal(same.to_tensor(), memory.to_tensor())
    assert memory.read(none).shape == (2, 0, 3)


def test_no_grad_and_detach_cut_the_history() -> None:
    add = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    memory = zeros().write(some_write()._replace(add=add))
    assert memory.requires_grad
    assert not memory.detach().requires_grad
    assert not memory.detach().read(SLOTS).requires_grad
    with torch.no_grad():
        assert not memory.read(SLOTS).requires_grad
        assert not memory.write(some_write()).requires_grad
    torch.testing.assert_close(memory.detach().to_tensor(), memory.to_tensor(), **CLOSE)


def test_inference_mode_and_back() -> None:
    with torch.inference_mode():
        memory = RowMemory.filled(torch.ones(3, dtype=torch.float64), 2, 6).write(some_write(0))
        old, memory = memory, memory.write(some_write(1))
        dense = RowMemory.from_tensor(torch.ones(SHAPE, dtype=torch.float64))
    plain = dense_write(torch.ones(SHAPE).double(), some_write(0))
    torch.testing.assert_close(old.write(some_write(2)).to_tensor(),
                               dense_write(plain, some_write(2)), **CLOSE)  # fmt: skip
    torch.testing.assert_close(old.to_tensor(), plain, **CLOSE)
    torch.testing.assert_close(memory.to_tensor(), dense_write(plain, some_write(1)), **CLOSE)
    add = some_write(3).add.requires_grad_()
    dense.write(some_write(3)._replace(add=add)).to_tensor().sum().backward()
    assert add.grad is not None


def test_autocast_brings_what_is_written_to_the_memorys_dtype() -> None:
    add = torch.ones(2, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        memory = zeros(dtype=torch.float32).write(some_write()._replace(add=add))
    memory.read(SLOTS).sum().backward()
    assert memory.dtype == torch.float32
    assert add.grad is not None
    assert add.grad.dtype == torch.bfloat16


def test_threads_may_use_one_memory() -> None:
    base = zeros().write(some_write(0))
    plain = dense_write(torch.zeros(SHAPE).double(), some_write(0))

    def line(seed: int) -> None:
        memory, expected = base, plain
        for step in range(60):
            write = some_write(seed * 1000 + step)
            memory, expected = memory.write(write), dense_write(expected, write)
            torch.testing.assert_close(memory.to_tensor(), expected, **CLOSE)
            torch.testing.assert_close(base.to_tensor(), plain, **CLOSE)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(line, range(4)))


def test_poisoned_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were never written are taken from the initial row, not from the buffer."""
    from memcore.persistent import row_views

    lazy = row_views.lazy_zeros
    monkeypatch.setattr(
        row_views,
        "lazy_zeros",
        lambda shape, dtype, device: (
            torch.full(shape, torch.nan, dtype=dtype)
            if dtype.is_floating_point
            else lazy(shape, dtype, device)
        ),
    )
    row = torch.randn(3, dtype=torch.float64, requires_grad=True)
    memory = RowMemory.filled(row, 2, 6)
    old, memory = memory, memory.write(some_write(0)).write(some_write(1))
    plain = dense_write(dense_write(row.expand(SHAPE), some_write(0)), some_write(1))
    torch.testing.assert_close(memory.to_tensor(), plain, **CLOSE)
    torch.testing.assert_close(old.write(some_write(2)).to_tensor(),
                               dense_write(row.expand(SHAPE), some_write(2)), **CLOSE)  # fmt: skip
    torch.testing.assert_close(copy.deepcopy(memory).to_tensor(), plain, **CLOSE)


GOOD = some_write(erase=1, add=2)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (GOOD._replace(index=torch.tensor([[0, -1], [0, 0]])),
         "write.index: expected slots in [0, 6), got -1"),
        (GOOD._replace(index=torch.tensor([[0, 6], [0, 0]])),
         "write.index: expected slots in [0, 6), got 6"),
        (GOOD._replace(erase=torch.tensor([[7], [0]])),
         "write.erase: expected slots in [0, 6), got 7"),
        (GOOD._replace(index=torch.zeros(3, 2, dtype=torch.int64)),
         "write.index: expected shape [2, J], got [3, 2]"),
        (GOOD._replace(index=torch.zeros(2, dtype=torch.int64)),
         "write.index: expected shape [2, J], got [2]"),
        (GOOD._replace(index=torch.zeros(2, 2)),
         "write.index: expected dtype int64 or int32, got torch.float32"),
        (GOOD._replace(erase=torch.zeros(2, 1)),
         "write.erase: expected dtype int64 or int32, got torch.float32"),
        (GOOD._replace(index=torch.zeros(2, 2, dtype=torch.int64, device="meta")),
         "write.index: expected device cpu, got meta"),
        (GOOD._replace(add=torch.zeros(2, 2, 4)),
         "write.add: expected shape [B, J, W] = [2, 2, 3], got [2, 2, 4]"),
        (GOOD._replace(add=torch.zeros(2, 2, 3)),
         "write.add: expected the memory's dtype torch.float64, got torch.float32"),
        (GOOD._replace(add=GOOD.add.to("meta")),
         "write.add: expected the memory's device cpu, got meta"),
    ],
)  # fmt: skip
def test_a_wrong_write_changes_nothing(write: SparseWrite, message: str) -> None:
    memory = zeros().write(some_write())
    before = memory.to_tensor()
    with pytest.raises(MemcoreError, match="^" + re.escape(message)):
        memory.write(write)
    assert torch.equal(memory.to_tensor(), before)


def test_wrong_types_and_reads() -> None:
    memory: Any = zeros()
    # Beneath the type checks that only the tests have.
    read, write = inspect.unwrap(RowMemory.read), inspect.unwrap(RowMemory.write)
    with pytest.raises(TypeError, match="write: expected a SparseWrite, got tuple"):
        write(memory, tuple(some_write()))
    with pytest.raises(TypeError, match="write.index: expected a torch.Tensor, got list"):
        write(memory, some_write()._replace(index=[[0]]))  # pyright: ignore
    with pytest.raises(TypeError, match="write.add: expected a torch.Tensor, got float"):
        write(memory, some_write()._replace(add=1.0))  # pyright: ignore
    with pytest.raises(TypeError, match="index: expected a torch.Tensor, got int"):
        read(memory, 0)
    with pytest.raises(MemcoreError, match=re.escape("index: expected slots in [0, 6), got 6")):
        memory.read(torch.full((2, 1), 6))
    with pytest.raises(TypeError, match="expected to be made by RowMemory.zeros, filled"):
        RowMemory()
    with pytest.raises(MemcoreError, match=re.escape("values: expected shape [B, N, W]")):
        inspect.unwrap(RowMemory.from_tensor.__func__)(RowMemory, torch.zeros(2, 3))
    with pytest.raises(MemcoreError, match="values: expected dtype float32 or float64, got"):
        inspect.unwrap(RowMemory.from_tensor.__func__)(
            RowMemory, torch.zeros(2, 3, 4, dtype=torch.float16)
        )
    with pytest.raises(MemcoreError, match=re.escape("row: expected shape [W], not empty, got")):
        inspect.unwrap(RowMemory.filled.__func__)(RowMemory, torch.zeros(2, 3), 1, 1)
    with pytest.raises(MemcoreError, match="slots: expected an int of at least 1, got 0"):
        RowMemory.filled(torch.zeros(2), 1, 0)
    with pytest.raises(MemcoreError, match=re.escape("examples: expected a bool tensor [2]")):
        memory.cleared(torch.tensor([0, 1]))
    with pytest.raises(MemcoreError, match=r"dtype: expected torch.float32 or torch.float64, got"):
        memory.to(torch.float16)


def test_an_edit_that_fails_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = zeros().write(some_write(0))
    before = memory.to_tensor()
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "index_add_", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            memory.write(some_write(1))
    assert torch.equal(memory.to_tensor(), before)
    expected = dense_write(before, some_write(2))
    torch.testing.assert_close(memory.write(some_write(2)).to_tensor(), expected, **CLOSE)


@pytest.mark.parametrize("dense", [False, True])
def test_a_copy_made_in_inference_mode_goes_on_outside(dense: bool) -> None:
    """Also one that is made for an old version, since going to and fro has cost as much."""
    begin = RowMemory.from_tensor(torch.zeros(SHAPE).double()) if dense else zeros()
    memory = begin.write(some_write(0))
    plain = memory.to_tensor()
    with torch.inference_mode():
        copies = [memory.clone()]
        for seed in range(20):  # futures of one version in turn
            copies = [*copies[:1], memory.write(some_write(seed)), memory]
    for one in copies:
        before = one.to_tensor()
        add = some_write(30).add.requires_grad_()
        after = one.write(some_write(30)._replace(add=add))
        torch.testing.assert_close(
            after.to_tensor().detach(), dense_write(before, some_write(30)), **CLOSE
        )
        after.to_tensor().sum().backward()
        assert add.grad is not None
    torch.testing.assert_close(copies[0].to_tensor(), plain, **CLOSE)


@pytest.mark.parametrize(
    ("part", "before", "error"),
    [
        (
            lambda memory: memory.select(torch.tensor([1, 1, 0])),
            lambda memory: memory,
            MemcoreError,
        ),
        (lambda memory: memory.narrow(1), lambda _: zeros(), MemcoreError),
        (lambda memory: memory.narrow(1), lambda _: 5, TypeError),
        (lambda memory: memory.narrow(1), lambda memory: memory.to_tensor(), TypeError),
    ],
)
def test_what_was_not_narrowed_is_not_widened(part: Any, before: Any, error: Any) -> None:
    memory = zeros().write(some_write(0))
    plain = memory.to_tensor()
    with pytest.raises(error, match="before"):
        part(memory).widen(before(memory))
    assert torch.equal(memory.to_tensor(), plain)


def test_a_part_is_widened_though_the_buffers_were_copied_on_the_way() -> None:
    """Two memories of one history, edited together, get buffers each; what stands where stays."""
    memory = zeros().write(some_write(0))
    part = memory.narrow(1)
    copied = part._replace(_version=part._version.copy())
    assert torch.equal(copied.widen(memory).to_tensor(), memory.to_tensor())
