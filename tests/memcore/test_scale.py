"""Nothing in a step grows with the slots, and nothing is kept that nobody holds."""

from __future__ import annotations

import gc
import inspect
import resource
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from memcore import Recency, RowMemory, SparseLinks, SparseWrite, sam, sdnc
from memcore.persistent import versions
from memcore.persistent.versions import SWEEP_AFTER, Version

BATCH, WIDTH, HEADS, READS, TEMPORAL = 2, 4, 2, 3, 2
# Operations that touch the rows they are told to, however large the tensor is.
INDEXED = {"index_select", "index_copy_", "index_fill_", "index_add_", "index", "index_put_"}
VIEWS = {"alias", "detach", "view", "_unsafe_view", "slice", "expand", "t", "transpose"}


class BigOperations(TorchDispatchMode):
    """Names of operations that get or make a tensor with at least so many elements."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.elements, self.names = elements, set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            if isinstance(value, Tensor) and value.numel() >= self.elements:
                self.names.add(func.__name__.split(".")[0])
        return result


class MadeElements(TorchDispatchMode):
    """Elements of all that operations return, views aside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {v.untyped_storage().data_ptr() for v in tree_leaves(args) if isinstance(v, Tensor)}
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in given:
                self.count += value.numel()
        return result


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


both_models = pytest.mark.parametrize("model", [sam, sdnc], ids=["SAM", "SDNC"])


def train(model: Any, state: Any, steps: int = 6) -> Tensor:
    """Forward and backward; the interface vectors' gradient."""
    generator = torch.Generator().manual_seed(0)
    size = model.interface_size(WIDTH, HEADS)
    vectors = torch.randn(steps, BATCH, size, generator=generator).requires_grad_()
    total = torch.zeros(())
    for vector in vectors:
        interface = torch.func.vmap(lambda v: model.parse_interface(v, WIDTH, HEADS))(vector)
        reads, state = model.step(state, interface)
        total = total + reads.square().sum()
    return torch.autograd.grad(total, vectors)[0]


def begin(model: Any, slots: int) -> Any:
    sizes = (READS,) if model is sam else (READS, TEMPORAL)
    return model.init_state(BATCH, slots, WIDTH, HEADS, *sizes)


@both_models
def test_only_indexing_operations_see_the_whole_memory(model: Any) -> None:
    slots = 2**14
    state = begin(model, slots)
    with BigOperations(slots) as seen:
        train(model, state)
    assert "index_select" in seen.names
    assert seen.names <= INDEXED | VIEWS, seen.names


@both_models
def test_a_step_makes_as_many_elements_for_any_number_of_slots(model: Any) -> None:
    counts = []
    for slots in (2**15, 2**20):
        state = begin(model, slots)
        with MadeElements() as made:
            train(model, state)
        counts.append(made.count)
    # A level more in the tree of the recency.
    assert counts[1] <= 1.05 * counts[0]


@both_models
def test_pages_touched_do_not_grow_with_the_slots(model: Any) -> None:
    """Making the state included; this sees what is done in NumPy too."""
    faults = []
    for slots in (2**15, 2**15, 2**23):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        train(model, begin(model, slots))
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    pages = BATCH * 2**23 * WIDTH * 4 // resource.getpagesize()
    assert faults[2] - faults[1] < pages / 50, faults


@both_models
def test_bytes_kept_for_backward_do_not_grow_with_the_slots(model: Any) -> None:
    kept = []
    for slots in (2**12, 2**20):
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            train(model, begin(model, slots))
        kept.append(sum(sizes.values()))
    assert kept[1] <= 1.05 * kept[0]


def write(slots: int, seed: int, count: int = 3) -> SparseWrite:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(slots, (1, count), generator=generator)
    return SparseWrite(index[:, :1], index, torch.randn(1, count, WIDTH, generator=generator))


def buffers_of(memory: RowMemory) -> Tensor:
    found: list[Tensor] = []
    memory._version.look(lambda buffers: found.append(buffers[0]) or buffers[0])
    return found[0]


def test_what_nobody_holds_is_freed_at_once(no_collector: None) -> None:
    memory = RowMemory.filled(torch.zeros(WIDTH), 1, 2**16)
    versions: list[weakref.ref[Version]] = []
    for seed in range(300):
        memory = memory.write(write(2**16, seed))
        versions.append(weakref.ref(memory._version))
    assert sum(version() is not None for version in versions) == 1
    whole = weakref.ref(buffers_of(memory).untyped_storage())
    del memory
    assert whole() is None


def test_a_graph_and_its_memory_are_freed_without_the_collector(no_collector: None) -> None:
    alive: list[weakref.ref[Any]] = []
    for backward in (True, False):
        add = torch.randn(1, 3, WIDTH, requires_grad=True)
        memory = RowMemory.filled(torch.zeros(WIDTH), 1, 1000)
        old = [memory]
        for seed in range(50):
            memory = memory.write(write(1000, seed)._replace(add=add * seed))
            old.append(memory)
        branch = old[10].write(write(1000, 0)._replace(add=add))
        output = memory.read(torch.tensor([[1, 2]])).sum() + branch.to_tensor().sum()
        if backward:
            output.backward()
        alive += [weakref.ref(m._line) for m in (memory, branch) if m._line is not None]
        alive += [weakref.ref(m._version) for m in (*old, branch)]
        del memory, old, branch, output
    assert not any(one() is not None for one in alive)


def test_a_deep_chain_is_freed_without_recursion(no_collector: None) -> None:
    first = newest = Version((torch.zeros(2**16, 1),))
    rows = torch.arange(1)
    for _ in range(20_000):
        newest = inspect.unwrap(Version.edit)(newest, rows, lambda buffers, lost: None)
    assert len(first._node.path()) > 20_000
    del first, newest


def test_a_held_old_version_costs_no_more_than_a_copy() -> None:
    slots = 32
    first = RowMemory.from_tensor(torch.ones(1, slots, WIDTH))
    memory = first
    for seed in range(6 * SWEEP_AFTER):
        memory = memory.write(write(slots, seed))
    chain = first._version._node.path()
    assert sum(node.rows.numel() for node in chain if node.rows is not None) <= 8 * slots
    assert (first.to_tensor() == 1).all()


def test_holding_every_version_copies_none() -> None:
    """Each then costs what it lost, and no more."""
    memory = RowMemory.from_tensor(torch.ones(1, 64, WIDTH))
    held = [memory]
    for seed in range(20 * SWEEP_AFTER):
        memory = memory.write(write(64, seed))
        held.append(memory)
    assert all(version._version._node.store is None for version in held[:-1])


def test_alternating_futures_settle_on_a_buffer_each() -> None:
    slots = 50
    first = RowMemory.from_tensor(torch.ones(1, slots, WIDTH))
    one = other = first
    for seed in range(8):  # before the journal is swept for the first time
        one, other = one.write(write(slots, seed)), other.write(write(slots, -seed - 1 + 2**31))
    before = (buffers_of(one).data_ptr(), buffers_of(other).data_ptr())
    assert before[0] != before[1]
    one, other = one.write(write(slots, 7)), other.write(write(slots, 8))
    assert (buffers_of(one).data_ptr(), buffers_of(other).data_ptr()) == before


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows put into buffers by going to and fro and by copying, a number each time."""
    counts: list[int] = []
    put = versions.put

    def count_and_put(buffers: Any, rows: Tensor, values: Any) -> None:
        counts.append(rows.numel())
        put(buffers, rows, values)

    copy = versions._Store.copy

    def count_and_copy(store: Any) -> Any:
        counts.append(store.buffers[0].shape[0])
        return copy(store)

    monkeypatch.setattr(versions, "put", count_and_put)
    monkeypatch.setattr(versions._Store, "copy", count_and_copy)
    return counts


@pytest.mark.parametrize(
    "order", ["oldest first", "newest first", pytest.param("mixed", marks=pytest.mark.slow)]
)
def test_going_over_stored_versions_costs_no_more_than_making_them(
    order: str, moved: list[int]
) -> None:
    """As replaying a stored rollout does; quadratic if each were reached from the newest."""
    memory = RowMemory.from_tensor(torch.ones(1, 50, WIDTH))
    held = [memory]
    for seed in range(1000):
        memory = memory.write(write(50, seed))
        held.append(memory)
    moved.clear()
    if order != "oldest first":
        held.reverse()
    if order == "mixed":
        held = held[1::2] + held[::2]
    for version in held:
        version.read(torch.zeros(1, 1, dtype=torch.int64))
    assert sum(moved) < 10 * 1000 * 4


def test_looking_back_one_step_at_every_step_is_cheap(moved: list[int]) -> None:
    slots = 500
    memory = RowMemory.from_tensor(torch.ones(1, slots, WIDTH))
    look = torch.zeros(1, 1, dtype=torch.int64)
    for seed in range(1000):
        after = memory.write(write(slots, seed))
        memory.read(look)
        after.read(look)
        memory = after
    assert sum(moved) < 5 * 1000 * 4


def test_a_held_version_older_than_one_with_its_own_buffers() -> None:
    slots = 100
    first = RowMemory.from_tensor(torch.ones(1, slots, WIDTH))
    second = first.write(write(slots, 0))
    other = second
    for seed in range(2 * SWEEP_AFTER):
        other = other.write(write(slots, seed))
    second.read(torch.zeros(1, 1, dtype=torch.int64))
    memory = second
    del second, other
    for seed in range(12 * SWEEP_AFTER):
        memory = memory.write(write(slots, seed))
    assert len(first._version._node.path()) < 10 * SWEEP_AFTER
    assert (first.to_tensor() == 1).all()


def test_a_clone_has_nothing_to_do_with_the_versions_of_its_original() -> None:
    """It has a lock of its own, so it may not touch them."""
    memory = RowMemory.from_tensor(torch.ones(1, 50, WIDTH))
    held = [memory]
    for seed in range(20):
        held.append(held[-1].write(write(50, seed)))
    store = held[-1].clone()._version._newest()
    assert store._superseded == []


def test_going_back_and_on_again_copies_nothing() -> None:
    """One call a step from the same state, as a search tree does."""
    memory = RowMemory.filled(torch.zeros(WIDTH), 1, 2**16)
    for seed in range(2000):
        memory = memory.write(write(2**16, seed))
    place = buffers_of(memory).data_ptr()
    for seed in range(200):
        assert buffers_of(memory.write(write(2**16, seed))).data_ptr() == place
    assert buffers_of(memory).data_ptr() == place


def test_a_copy_of_a_lazy_memory_costs_the_rows_written() -> None:
    memory = RowMemory.filled(torch.zeros(WIDTH), 1, 2**22).write(write(2**22, 0))
    recency = Recency(1, 2**22).accessed(torch.tensor([[5]]), torch.tensor([[True]]))
    links = SparseLinks(1, 2**22, 2)
    for slot in (7, 2**21):
        links = links.written(torch.tensor([[slot]]), torch.ones(1, 1))
    with BigOperations(2**22) as seen:
        copied = memory.clone()
        cleared = copied.cleared(torch.tensor([True]))
        empty = recency.cleared(torch.tensor([True]))
        unlinked = links.cleared(torch.tensor([True]))
    assert seen.names <= INDEXED | VIEWS | {"frombuffer"}, seen.names
    index = write(2**22, 0).index
    assert torch.equal(copied.read(index), memory.read(index))
    assert not cleared.read(index).any()
    assert empty.least().tolist() == [0]
    assert links.to_dict()["rows"].tolist() == [7, 2**21]
    assert not len(unlinked.to_dict()["rows"])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_to_begin_anew_costs_the_rows_written(value: float) -> None:
    """Whatever the rows were before; gradients included."""
    slots, row = 2**22, torch.full((WIDTH,), value)
    touched = SparseWrite(*(torch.cat([part, part]) for part in write(slots, 0)))
    memory = RowMemory.filled(row, 2, slots).write(touched)
    anew = torch.full((WIDTH,), 3.0, requires_grad=True)
    with BigOperations(slots) as seen:
        other = memory.refilled(torch.tensor([False, True]), anew)
        found = other.read(touched.index)
        found.sum().backward()
    assert seen.names <= INDEXED | VIEWS | {"frombuffer"}, seen.names
    assert torch.equal(found[0], memory.read(touched.index)[0])
    assert (found[1] == 3).all()
    torch.testing.assert_close(anew.grad, torch.full((WIDTH,), float(found.shape[1])))


def test_to_begin_anew_again_changes_what_was_written_since(moved: list[int]) -> None:
    """And not what was written before it began anew the last time."""
    memory = RowMemory.filled(torch.ones(WIDTH), 1, 2**16)
    everyone = torch.tensor([True])
    for step in range(20):
        memory = memory.write(write(2**16, step, count=100)).refilled(everyone, torch.ones(WIDTH))
    old = memory.write(write(2**16, 20, count=100))
    anew = old.refilled(everyone, torch.ones(WIDTH))
    moved.clear()
    assert old.read(write(2**16, 20, count=100).index).ne(1).any()
    assert not anew.to_tensor().ne(1).any()
    assert sum(moved) <= 4 * 110, moved


def test_the_log_of_edited_rows_stays_in_proportion_to_them() -> None:
    memory = RowMemory.filled(torch.zeros(WIDTH), 1, 2**20)
    same = write(2**20, 0, count=1000)
    for _ in range(200):
        memory = memory.write(same)
    store = memory._version._newest()
    assert store._log_size < 50_000
    assert memory.written().shape[1] <= 1000


def forks(output: Tensor) -> int:
    """How many branches the graph of an output has."""
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [before for before, _ in node.next_functions]
    return sum(node.name() == "_ForkBackward" for node in seen)


def test_a_branch_is_one_line_however_long_it_is() -> None:
    """Else each of its writes would branch off the one before, and hand a gradient over to it."""
    made = []
    for steps in (20, 40):
        add = torch.randn(1, 3, WIDTH, requires_grad=True)
        first = RowMemory.filled(torch.zeros(WIDTH), 1, 1000)
        first = first.write(write(1000, 0)._replace(add=add))
        other = first.write(write(1000, 1)._replace(add=add))  # the future that came first
        memory, lines = first, set()
        for seed in range(steps):
            memory = memory.write(write(1000, seed)._replace(add=add * seed))
            lines.add(id(memory._line))
        assert len(lines) == 1
        assert memory._line is not other._line
        output = memory.read(torch.tensor([[1, 2]])).sum()
        assert forks(output) == 1
        with MadeElements() as counted:
            torch.autograd.grad(output, add)
        made.append(counted.count)
    assert made[1] < 2.2 * made[0]
