"""FAISS and FLANN, alone and as what `auto` changes to."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from index_cases import clustered, recall, refuses_bad_input
from memcore import RowMemory, make_index, sam
from memcore.index import AutoIndex, auto, index_name
from memcore.index.clusters import Clusters
from memcore.index.faiss import FaissIndex
from memcore.index.faiss_gpu import FaissGpuIndex
from memcore.index.flann import FlannIndex
from memcore.testing import check_index

MODULES = {"faiss": "faiss", "flann": "pyflann"}


@pytest.fixture(params=["faiss", "flann"])
def name(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(MODULES[request.param])
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_keeps_the_contract(name: str, dtype: torch.dtype) -> None:
    check_index(partial(make_index, name), dtype=dtype)


def test_auto_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it changes in the middle of growing."""
    monkeypatch.setattr(auto, "BREAK_EVEN", {name: 20})
    check_index(partial(make_index, "auto"))


def test_auto_changes_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "BREAK_EVEN", {name: 5000})
    index, kind = AutoIndex(2, 10_000, 8), {"faiss": FaissIndex, "flann": FlannIndex}[name]
    rows = clustered(6000, 8, 0, batch=2)
    slots = torch.arange(6000).expand(2, -1)
    index.update(slots[:, :4000], rows[:, :4000])
    assert not isinstance(index.index, kind)
    index.update(slots[:, 4000:], rows[:, 4000:])
    assert isinstance(index.index, kind)
    assert recall(index, rows) > 0.9
    index.reset(RowMemory.filled(torch.zeros(8), 2, 10_000))
    assert not isinstance(index.index, kind)
    index.reset(RowMemory.from_tensor(rows))
    assert isinstance(index.index, kind)
    assert index_name(index) == index_name(index.empty(1)) == "auto"


def test_bad_input_changes_nothing(name: str) -> None:
    refuses_bad_input(make_index(name, batch_size=2, slots=5, word_size=3))


def test_a_copy_keeps_the_options(name: str) -> None:
    options: dict[str, Any] = {"faiss": {"probes": 3}, "flann": {"checks": 7}}[name]
    sizes: dict[str, Any] = {"batch_size": 2, "slots": 5, "word_size": 3, "dtype": torch.float64}
    index: Any = make_index(name, **sizes, **options, seed=4)
    index.update(torch.tensor([[3], [3]]), torch.ones(2, 1, 3, dtype=torch.float64))
    for other in (copy.deepcopy(index), pickle.loads(pickle.dumps(index)), index.empty(2)):
        assert index_name(other) == name
        assert other._options() == index._options()
        assert other._options()["seed"] == 4
        assert other.search(torch.ones(2, 1, 3, dtype=torch.float64), 1).tolist() == [[[0]], [[0]]]


def test_examples_of_very_different_sizes(name: str) -> None:
    """One is in one list or without a tree, others not."""
    index = make_index(name, batch_size=3, slots=20_000, word_size=8)
    rows = torch.zeros(3, 20_000, 8)
    for example, count in enumerate((6000, 50, 18_000)):
        rows[example, :count] = clustered(count, 8, example)
        own = torch.tensor([example])
        for slots in torch.randperm(count).split(3000):
            index.update(slots[None], rows[None, example, slots], own)
    keys = rows[:, :40] + 0.1
    for example, count in enumerate((6000, 50, 18_000)):
        own = torch.tensor([example])
        found = index.search(keys[own], 4, own)
        wanted = torch.nn.functional.normalize(rows[own, :count], dim=2) @ keys[own].mT
        hits = found.unsqueeze(3) == wanted.mT.topk(4).indices.unsqueeze(2)
        assert hits.any(3).double().mean() > 0.9
        assert torch.equal(found, index.search(keys, 4)[own])


def test_zeros_and_copies_of_one_row(name: str) -> None:
    """No clusters to be found."""
    index = make_index(name, batch_size=1, slots=9000, word_size=8)
    slots = torch.arange(9000)[None]
    for rows in (torch.zeros(1, 9000, 8), torch.ones(1, 9000, 8)):
        for _ in range(3):
            index.update(slots, rows)
        found = index.search(torch.ones(1, 2, 8), 20)
        assert all(len(set(own)) == 20 for own in found[0].tolist())
    index.update(slots[:, :8990], torch.zeros(1, 8990, 8))
    found = index.search(torch.ones(1, 1, 8), 10)
    assert sorted(found[0, 0].tolist()) == list(range(8990, 9000))


def test_rows_that_are_not_finite_harm_no_others(name: str) -> None:
    index = make_index(name, batch_size=1, slots=6000, word_size=8)
    rows = clustered(6000, 8, 0)
    rows[:, ::3] = float("nan")
    rows[:, 1::300] = float("inf")
    index.update(torch.arange(6000)[None], rows)
    rows[~rows.isfinite().all(2)] = 0
    found = index.search(rows[:, 2::60] * 2, 1)
    assert (found.flatten() == torch.arange(2, 6000, 60)).double().mean() > 0.9


def test_rows_drift(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are rewritten four times, each time turned, clusters and all, another way."""
    trained: list[int] = []
    train = Clusters.train

    def counted(self: Clusters, example: int, rows: np.ndarray) -> None:
        trained.append(example)
        train(self, example, rows)

    monkeypatch.setattr(Clusters, "train", counted)
    index = make_index(name, batch_size=1, slots=8192, word_size=16)
    rows = clustered(8192, 16, 0)
    index.reset(RowMemory.from_tensor(rows))
    assert recall(index, rows) > 0.9
    for _ in range(4):
        rows = rows @ torch.linalg.qr(torch.randn(16, 16)).Q
        for slots in torch.randperm(8192).split(500):
            index.update(slots[None], rows[:, slots])
    assert recall(index, rows) > 0.9
    if name == "faiss":
        assert 2 <= len(trained) <= 9  # at most for each half of the rows, and at the beginning


@pytest.mark.parametrize("slots", [300, 9000])
def test_sam_reads_the_same_with_it(name: str, slots: int) -> None:
    """With few rows, exactly what exact search reads."""
    memory = RowMemory.from_tensor(clustered(slots, 8, 0, batch=2))
    vectors = torch.randn(6, 2, sam.interface_size(8, 2))

    def reads(index: str) -> tuple[Tensor, Tensor]:
        state = sam.init_state(2, slots, 8, 2, 3, memory=memory, index=index)
        for vector in vectors[:-1]:
            state = sam.step(state, interfaces(vector))[1]
        read, state = sam.step(state, interfaces(vectors[-1]))
        return read, state.read_index

    def interfaces(vector: Tensor) -> sam.SAMInterface:
        return torch.func.vmap(lambda own: sam.parse_interface(own, 8, 2))(vector)

    (wanted, wanted_slots), (read, found_slots) = reads("exact"), reads(name)
    if slots == 300:
        assert torch.equal(wanted_slots, found_slots)
        torch.testing.assert_close(read, wanted)
    same = (wanted_slots.unsqueeze(3) == found_slots.unsqueeze(2)).any(3)
    assert same.double().mean() > 0.7


def brute_force(keys: Tensor, rows: Tensor, k: int) -> Tensor:
    return (keys @ rows.T).topk(k).indices


def test_on_a_gpu_with_what_searches_there_replaced() -> None:
    def make(*, batch_size: int, slots: int, word_size: int, **place: Any) -> FaissGpuIndex:
        return FaissGpuIndex(batch_size, slots, word_size, **place, find=brute_force)

    check_index(make)
    index = make(batch_size=2, slots=5, word_size=3, device=torch.device("cpu"))
    assert index_name(pickle.loads(pickle.dumps(index)).empty(1)) == "faiss"
