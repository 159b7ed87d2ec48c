"""Search indexes, and how they follow the versions of a memory."""

from __future__ import annotations

import copy
import pickle
import random
import re
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from index_cases import refuses_bad_input
from memcore import Index, MemcoreError, RowMemory, SparseWrite, make_index, sam, testing
from memcore.backends import numba_is_missing
from memcore.errors import how_to_install
from memcore.index import (
    AllRowsIndex,
    AutoIndex,
    Mirror,
    WrittenRowsIndex,
    auto,
    check_choice,
    index_name,
)
from memcore.index.checks import check_search, check_update
from memcore.index.libraries import PACKAGES

every_kind = pytest.mark.parametrize("kind", [WrittenRowsIndex, AllRowsIndex])


def best(memory: RowMemory, keys: Tensor, k: int) -> list[list[list[int]]]:
    """By the definition: rounded cosine, best first, of equals the lowest slot."""
    result = []
    for rows, own in zip(memory.to_tensor().tolist(), keys.tolist(), strict=True):
        result.append([])
        for key in own:
            cosines = []
            for row in rows:
                lengths = [(sum(x * x for x in v) + 1e-6) ** 0.5 for v in (key, row)]
                dot = sum(x * y for x, y in zip(key, row, strict=True))
                cosines.append(round(dot / lengths[0] / lengths[1] * 10_000))
            order = sorted(range(len(rows)), key=lambda slot: (-cosines[slot], slot))
            result[-1].append(order[:k])
    return result


@every_kind
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("slots", [5, 40, 300])
@pytest.mark.parametrize("row", [0.0, 1.0])
def test_exactly_the_best(kind: Any, batch: int, slots: int, row: float) -> None:
    """Of new and old versions, of branches, of cleared examples and of parts of the batch."""
    choice, generator = random.Random(slots), torch.Generator().manual_seed(slots)
    memory = RowMemory.filled(torch.full((4,), row, dtype=torch.float64), batch, slots)
    mirror = Mirror(kind(batch, slots, 4, dtype=torch.float64), memory)
    states = [(memory, mirror)]
    for _ in range(40):
        before, mirror = states[-1] if choice.random() < 0.7 else choice.choice(states)
        base = torch.randn(batch, 1, 4, generator=generator, dtype=torch.float64)
        factors = torch.randn(batch, 5, 1, generator=generator, dtype=torch.float64)
        erase = torch.randint(slots, (batch, 1), generator=generator)
        index = torch.randint(slots, (batch, 5), generator=generator)
        index[:, 3] = index[:, 1]
        k = choice.choice([1, 4, 5])
        kind_of_step = choice.random()
        if kind_of_step < 0.15:
            some = torch.arange(batch) == choice.randrange(batch)
            filling = torch.randn(4, generator=generator, dtype=torch.float64)
            anew = choice.random() < 0.6
            memory = before.refilled(some, filling) if anew else before.cleared(some)
            hint: dict[str, Any] = {}
        elif kind_of_step < 0.4 and batch > 1:
            whole, before = before, before.select(torch.tensor([2, 0, 1])).narrow(2)
            write = SparseWrite(erase[:2], index[:2], factors[:2] * base[:2])
            part = before.write(write)
            keys = torch.randn(2, 2, 4, generator=generator, dtype=torch.float64)
            touched = torch.cat([erase[:2], index[:2]], 1)
            slots_found, mirror = mirror.search(part, keys, k, before=before, touched=touched)
            assert slots_found.tolist() == best(part, keys, k)
            memory, hint = part.widen(whole), {}
        else:
            memory = before.write(SparseWrite(erase, index, factors * base))
            touched = torch.cat([erase, index], 1)
            hint = {"before": before, "touched": touched} if choice.random() < 0.8 else {}
        keys = torch.randn(batch, 2, 4, generator=generator, dtype=torch.float64)
        keys[:, 1] = base[:, 0]
        found, mirror = mirror.search(memory, keys, k, **hint)
        assert found.tolist() == best(memory, keys, k)
        states.append((memory, mirror))


@every_kind
def test_all_slots_are_found_when_asked_for(kind: Any) -> None:
    memory = RowMemory.filled(torch.zeros(2), 2, 7)
    mirror = Mirror(kind(2, 7, 2), memory)
    for _ in range(20):
        slot = torch.randint(7, (2, 2))
        memory = memory.write(SparseWrite(slot[:, :1], slot, torch.randn(2, 2, 2)))
        found, mirror = mirror.search(memory, torch.randn(2, 3, 2), 7)
        for slots in found.flatten(0, 1).tolist():
            assert sorted(slots) == list(range(7))


@every_kind
def test_some_examples_can_be_reset(kind: Any) -> None:
    index = kind(3, 50, 2)
    memory = RowMemory.from_tensor(torch.randn(3, 50, 2))
    index.reset(memory)
    other = RowMemory.filled(torch.zeros(2), 2, 50)
    slot = torch.tensor([[9, 4], [30, 3]])
    other = other.write(SparseWrite(slot[:, :0], slot, torch.ones(2, 2, 2)))
    index.reset(other, torch.tensor([2, 0]))
    keys = torch.ones(3, 1, 2)
    found = index.search(keys, 2)
    assert found[2].tolist() == [[4, 9]]
    assert found[0].tolist() == [[3, 30]]
    assert found[[1]].tolist() == best(memory.select(torch.tensor([1])), keys[:1], 2)
    assert index.search(keys[:2], 2, torch.tensor([2, 1])).tolist() == found[[2, 1]].tolist()
    # Nothing is left of what these held before: each slot is there once.
    every = index.search(keys[:2], 50, torch.tensor([2, 0]))
    assert every.tolist() == best(other, keys[:2], 50)


@every_kind
def test_a_copy_begins_anew_and_is_right(kind: Any) -> None:
    memory = RowMemory.from_tensor(torch.randn(2, 20, 3, dtype=torch.float64))
    mirror = Mirror(kind(2, 20, 3, dtype=torch.float64), memory)
    keys = torch.randn(2, 2, 3, dtype=torch.float64)
    for one in (copy.deepcopy(mirror), pickle.loads(pickle.dumps(mirror)), mirror.of(memory)):
        assert one.search(memory, keys, 4)[0].tolist() == best(memory, keys, 4)
    bigger = memory.select(torch.tensor([1, 1, 0]))
    assert mirror.of(bigger).search(bigger, keys[[1, 1, 0]], 4)[0].tolist() == best(
        bigger, keys[[1, 1, 0]], 4
    )


@pytest.mark.parametrize("told", [False, True])
def test_an_update_that_is_interrupted_is_forgotten(
    told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the index would be taken to know the version before it; also where a step tells it."""
    memory = RowMemory.from_tensor(torch.randn(1, 20, 3, dtype=torch.float64))
    index: Any = make_index("exact", batch_size=1, slots=20, word_size=3, dtype=torch.float64)
    mirror, keys = Mirror(index, memory), torch.randn(1, 4, 3, dtype=torch.float64)
    slots = torch.arange(8)[None]
    written = memory.write(SparseWrite(slots, slots, torch.randn(1, 8, 3).double()))
    update = index.update

    def interrupted(*given: Any) -> None:
        update(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(index, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mirror.search(
                written, keys, 4, **({"before": memory, "touched": slots} if told else {})
            )
    assert mirror.search(memory, keys, 4)[0].tolist() == best(memory, keys, 4)
    assert mirror.search(written, keys, 4)[0].tolist() == best(written, keys, 4)


def test_two_lines_get_an_index_each() -> None:
    """Else each would have to bring it up to date from the other's side."""
    memory = RowMemory.from_tensor(torch.randn(1, 5, 3))
    mirror = Mirror(make_index("exact", batch_size=1, slots=5, word_size=3), memory)
    keys = torch.randn(1, 1, 3)
    other = memory.clone()
    assert mirror.search(memory, keys, 1)[1] is mirror
    assert mirror.search(other, keys, 1)[1] is not mirror


def test_make_index() -> None:
    sizes: dict[str, Any] = {"batch_size": 2, "slots": 5, "word_size": 3}
    for name in ("auto", "exact"):
        index = make_index(name, **sizes)
        assert isinstance(index, Index)
        assert index_name(index) == name
        assert index_name(index.empty(3)) == index_name(copy.deepcopy(index)) == name
    own = make_index(AllRowsIndex(1, 5, 3), **sizes)
    assert own.search(torch.zeros(2, 1, 3), 2).shape == (2, 1, 2)
    with pytest.raises(
        MemcoreError, match="name: expected one of auto, exact, faiss, flann, got 'annoy'"
    ):
        make_index("annoy", **sizes)
    with pytest.raises(MemcoreError, match="slots: expected an int of at least 1, got 0"):
        make_index("exact", **{**sizes, "slots": 0})
    with pytest.raises(TypeError, match="'exact': it has none, got 'trees'"):
        make_index("exact", **sizes, trees=4)
    with pytest.raises(TypeError, match="'faiss': expected one of probes, seed, got 'trees'"):
        make_index("faiss", **sizes, trees=4)


@pytest.mark.parametrize("name", ["faiss", "flann"])
def test_a_missing_package_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    message = re.escape(how_to_install(name))
    for make in (check_choice, sam_with):
        with pytest.raises(ImportError, match=message) as caught:
            make("index", name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ImportError, match=message):
        make_index(name, batch_size=1, slots=5, word_size=3)


def sam_with(argument: str, name: str) -> None:
    assert argument == "index"
    sam.init_state(1, 5, 3, 1, 2, index=name)


def test_auto_is_exact_without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in PACKAGES.values():
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(auto, "BREAK_EVEN", {"faiss": 4, "flann": 4})
    index = AutoIndex(1, 50, 3)
    index.reset(RowMemory.from_tensor(torch.randn(1, 50, 3)))
    assert isinstance(index.index, WrittenRowsIndex)
    testing.check_index(partial(make_index, "auto"))


class Later(WrittenRowsIndex):
    """In place of FAISS, which need not be installed: loaded as that is, and exact."""

    def load(self, example: int, slots: np.ndarray, rows: np.ndarray) -> None:
        self.table.put(slots[None].copy(), rows[None].copy(), np.array([example]))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` changes over to that index above six rows."""
    monkeypatch.setattr(auto, "BREAK_EVEN", {"faiss": 6})
    monkeypatch.setattr(auto, "MAKE", {"faiss": Later})
    monkeypatch.setattr(auto, "has_library", lambda _: True)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_auto_hands_over_the_initial_row_too(later: None, value: float) -> None:
    generator = torch.Generator().manual_seed(0)
    row = torch.full((4,), value, dtype=torch.float64)
    memory = RowMemory.filled(row, 3, 30)
    index = AutoIndex(3, 30, 4, dtype=torch.float64)
    mirror, kinds = Mirror(index, memory), []
    for step in range(6):
        slots = torch.randint(30, (3, 2), generator=generator)
        rows = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
        before = memory
        memory = memory.write(SparseWrite(slots[:, :0], slots, rows))
        keys = torch.randn(3, 2, 4, generator=generator, dtype=torch.float64)
        keys[:, 1] = row + 0.1 * step  # most like what was never written
        found, mirror = mirror.search(memory, keys, 5, before=before, touched=slots)
        assert found.tolist() == best(memory, keys, 5)
        kinds.append(type(index.index))
    assert kinds == [WrittenRowsIndex] * 3 + [Later] * 3


def test_auto_hands_over_what_kernels_wrote(later: None) -> None:
    if numba_is_missing() is not None:
        pytest.skip("numba is not installed")
    vectors = torch.randn(12, 2, sam.interface_size(4, 2), dtype=torch.float64)
    reads: list[list[Tensor]] = []
    for name in ("exact", "auto"):
        torch.manual_seed(0)
        memory = RowMemory.filled(torch.ones(4, dtype=torch.float64), 2, 30)
        state = sam.init_state(2, 30, 4, 2, 3, memory=memory, index=name, dtype=torch.float64)
        reads.append([])
        for vector in vectors:
            read, state = sam.batched_step(state, vector, backend="numba")
            reads[-1].append(read)
        index: Any = state.index.index
    assert type(index.index) is Later
    torch.testing.assert_close(torch.stack(reads[1]), torch.stack(reads[0]), rtol=1e-12, atol=1e-12)


@every_kind
def test_two_writes_to_other_examples_before_a_search(kind: Any) -> None:
    """Of both the slots written are no longer among those that never were."""
    index, keys = kind(3, 8, 2), torch.ones(3, 1, 2)
    assert index.search(keys, 2).tolist() == [[[0, 1]]] * 3
    for example in (0, 2):
        own = torch.tensor([example])
        index.update(torch.tensor([[0]]), -torch.ones(1, 1, 2), own)
    assert index.search(keys, 2).tolist() == [[[1, 2]], [[0, 1]], [[1, 2]]]


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, torch, memcore\n"
        "state = memcore.sam.init_state(1, 50, 3, 1, 2)\n"
        "memcore.make_index('exact', batch_size=1, slots=5, word_size=3)\n"
        "assert not {'faiss', 'pyflann'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@every_kind
def test_bad_input_changes_nothing(kind: Any) -> None:
    refuses_bad_input(kind(2, 5, 3))


def test_the_rank_is_checked() -> None:
    sizes, place = (2, 5, 3), (torch.float32, torch.device("cpu"))
    with pytest.raises(MemcoreError, match=re.escape("keys: expected shape [2, R, 3], got [2, 3]")):
        check_search(sizes, *place, torch.zeros(2, 3), 1, None)
    with pytest.raises(MemcoreError, match=re.escape("keys: expected shape [1, R, 3]")):
        check_search(sizes, *place, torch.zeros(2, 1, 3), 1, torch.tensor([1]))
    with pytest.raises(TypeError, match="keys: expected a torch.Tensor, got list"):
        check_search(sizes, *place, [], 1, None)
    with pytest.raises(TypeError, match="k: expected an int, got float"):
        check_search(sizes, *place, torch.zeros(2, 1, 3), 1.0, None)
    with pytest.raises(MemcoreError, match=re.escape("index: expected shape [2, J], got [2]")):
        check_update(sizes, *place, torch.zeros(2).long(), torch.zeros(2, 1, 3), None)
    with pytest.raises(TypeError, match="rows: expected a torch.Tensor, got int"):
        check_update(sizes, *place, torch.zeros(2).long(), 1, None)


@every_kind
def test_it_keeps_the_contract(kind: Any) -> None:
    testing.check_index(
        lambda batch_size, slots, word_size, **place: kind(batch_size, slots, word_size, **place),
        recall=1.0,
        dtype=torch.float64,
    )
