"""RowMemory: the value it is, its gradients, its refusals."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from memcore import MemcoreError, RowMemory, SparseWrite
from row_programs import Program, dense_write, draw_write

SHAPE = (2, 6, 3)
SLOTS = torch.tensor([[0, 5], [2, 2]])
CLOSE: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}


def zeros(shape: tuple[int, int, int] = SHAPE, dtype: torch.dtype = torch.float64) -> RowMemory:
    return RowMemory.filled(torch.zeros(shape[2], dtype=dtype), shape[0], shape[1])


def some_write(seed: int = 0, **options: Any) -> SparseWrite:
    return draw_write(SHAPE, torch.Generator().manual_seed(seed), **options)


def one_write(slot: int, values: Tensor) -> SparseWrite:
    """Example 0 of one: that slot becomes the values."""
    return SparseWrite(torch.tensor([[slot]]), torch.tensor([[slot]]), values.view(1, 1, -1))


@pytest.mark.parametrize("seed", range(80))
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

    with pytest.raises(RuntimeError):
        torch.func.grad(loss)(some_write().add)
    with pytest.raises((RuntimeError, MemcoreError)):
        torch.func.vmap(loss)(some_write().add.expand(4, 2, 3, 3))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
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


@pytest.mark.parametrize("row", [0.0, 2.0])
@pytest.mark.parametrize("part", [None, [1]])
def test_copies(row: float, part: list[int] | None) -> None:
    learned = torch.full((3,), row, dtype=torch.float64, requires_grad=True)
    memory = RowMemory.filled(learned, 2, 6).write(some_write(0))
    if part is not None:
        memory = memory.select(torch.tensor(part))
    values = memory.to_tensor().detach()
    file = io.BytesIO()
    torch.save(memory.to_dict(), file)
    file.seek(0)
    copies = [
        copy.deepcopy(memory),
        pickle.loads(pickle.dumps(memory)),
        RowMemory.from_dict(torch.load(file, weights_only=True)),
        memory.clone(),
    ]
    write = draw_write(tuple(memory.shape), torch.Generator().manual_seed(5))  # pyright: ignore
    for one in copies:
        torch.testing.assert_close(one.to_tensor().detach(), values, **CLOSE)
        changed = one.write(write)
        torch.testing.assert_close(memory.to_tensor().detach(), values, **CLOSE)
        torch.testing.assert_close(
            changed.to_tensor().detach(), dense_write(values, write), **CLOSE
        )
    assert [one.requires_grad for one in copies] == [False, False, False, True]
    (gradient,) = torch.autograd.grad(copies[-1].to_tensor().sum(), learned)
    erased = some_write(0).erase if part is None else some_write(0).erase[part]
    rows = sum(6 - len(set(example)) for example in erased.tolist())
    torch.testing.assert_close(gradient, torch.full((3,), float(rows), dtype=torch.float64))


def test_to_dict_holds_the_rows_written_only() -> None:
    memory = zeros((2, 10_000, 3))
    memory = memory.write(draw_write((2, 10_000, 3), torch.Generator().manual_seed(0)))
    saved = memory.to_dict()
    assert len(saved["written"]) == len(saved["values"]) <= 10
    assert torch.equal(RowMemory.from_dict(saved).to_tensor(), memory.to_tensor())


@pytest.mark.parametrize("recorded", [False, True])
def test_dtype_and_device(recorded: bool, device: torch.device) -> None:
    row = torch.ones(3, dtype=torch.float64, requires_grad=recorded)
    memory = RowMemory.filled(row, 2, 6).write(some_write())
    moved = memory.to(device, torch.float32)
    assert (moved.dtype, moved.device.type) == (torch.float32, device.type)
    torch.testing.assert_close(moved.to_tensor().cpu(), memory.to_tensor().float())
    assert memory.to(torch.float64) is memory
    if recorded:
        moved.to_tensor().sum().backward()
        assert row.grad is not None
        assert row.grad.any()


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


def test_gradient_of_an_initial_row_is_the_sum_over_the_rows() -> None:
    row = torch.randn(3, dtype=torch.float64, requires_grad=True)
    memory = RowMemory.filled(row, 1, 4).write(one_write(2, torch.ones(3).double()))
    factors = torch.arange(12.0, dtype=torch.float64).view(1, 4, 3)
    (memory.to_tensor() * factors).sum().backward()
    assert row.grad is not None
    assert row.grad.tolist() == factors[0, [0, 1, 3]].sum(0).tolist()


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
    with pytest.raises(TypeError, match="expected to be made by RowMemory.filled or from_tensor"):
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
    select = inspect.unwrap(RowMemory.select)
    for examples in (torch.tensor([2]), torch.tensor([-1]), torch.tensor([0.5]), torch.tensor([])):
        with pytest.raises(MemcoreError, match="examples: expected"):
            select(memory, examples)
    with pytest.raises(TypeError, match="examples: expected a torch.Tensor, got list"):
        select(memory, [0, 1])
    for count in (0, 3):
        with pytest.raises(MemcoreError, match="count: expected"):
            memory.narrow(count)
    with pytest.raises(MemcoreError, match=re.escape("examples: expected a bool tensor [2]")):
        memory.cleared(torch.tensor([0, 1]))
    with pytest.raises(MemcoreError, match=r"dtype: expected torch.float32 or torch.float64, got"):
        memory.to(torch.float16)


def test_a_wrong_dictionary() -> None:
    saved = zeros().write(some_write()).to_dict()
    with pytest.raises(MemcoreError, match="saved: expected a dict of tensors shape, row, written"):
        RowMemory.from_dict({"row": saved["row"]})
    with pytest.raises(MemcoreError, match=re.escape("saved: expected row [W], written [n] and")):
        RowMemory.from_dict({**saved, "row": torch.zeros(4)})
    with pytest.raises(MemcoreError, match=re.escape("saved['written']: expected rows in [0, 12)")):
        RowMemory.from_dict({**saved, "written": saved["written"] + 9})
    with pytest.raises(MemcoreError, match=re.escape("saved['written']: expected dtype int64")):
        RowMemory.from_dict({**saved, "written": saved["written"].float()})
    with pytest.raises(MemcoreError, match=re.escape("saved['values']: expected dtype float32 or")):
        RowMemory.from_dict({**saved, "values": saved["values"].long()})


def test_a_dictionary_in_another_order() -> None:
    memory = zeros().write(some_write())
    saved = memory.to_dict()
    order = torch.arange(len(saved["written"])).flip(0)
    turned = {**saved, "written": saved["written"][order], "values": saved["values"][order]}
    other = RowMemory.from_dict(turned)
    assert torch.equal(other.to_tensor(), memory.to_tensor())
    assert torch.equal(other.written(), RowMemory.from_dict(saved).written())


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
