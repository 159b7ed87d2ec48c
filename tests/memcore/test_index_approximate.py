"""FAISS and FLANN, alone and as what `auto` changes to."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from index_cases import clustered, recall, refuses_bad_input
from memcore import RowMemory, make_index, sam
from memcore.backends import numba_is_missing
from memcore.index import AutoIndex, auto, index_name
from memcore.index.clusters import Clusters
from memcore.index.faiss import FaissIndex
from memcore.index.faiss_gpu import FaissGpuIndex
from memcore.index.flann import FlannIndex
from memcore.testing import check_index
from torch_adapters import SAM, SDNC, select_state

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
    index, kind = AutoIndex(2, 6000, 8), {"faiss": FaissIndex, "flann": FlannIndex}[name]
    rows = clustered(6000, 8, 0, batch=2)
    slots = torch.arange(6000).expand(2, -1)
    index.update(slots[:, :4000], rows[:, :4000])
    assert not isinstance(index.index, kind)
    index.update(slots[:, 4000:], rows[:, 4000:])
    assert isinstance(index.index, kind)
    assert recall(index, rows) > 0.9
    index.reset(RowMemory.filled(torch.zeros(8), 2, 6000))
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
        assert other._options == index._options
        assert other._options["seed"] == 4
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


def test_a_row_that_is_written_again_is_found_as_it_is(name: str) -> None:
    """Not as it was when the lists were trained or the tree was built."""
    index = make_index(name, batch_size=1, slots=6000, word_size=8)
    slots, rows = torch.arange(6000)[None], clustered(6000, 8, 0)
    index.update(slots, rows)
    index.update(slots[:, :100], -rows[:, :100])
    found = index.search(rows[:, :100], 4)[0]
    assert all(len(set(own)) == 4 for own in found.tolist())
    assert not (found == torch.arange(100)[:, None]).any()
    again = index.search(-rows[:, :100], 4)[0]
    assert (again[:, :1] == torch.arange(100)[:, None]).double().mean() > 0.9


def test_rows_that_are_not_finite_harm_no_others(name: str) -> None:
    index = make_index(name, batch_size=1, slots=6000, word_size=8)
    rows = clustered(6000, 8, 0)
    rows[:, ::3] = float("nan")
    rows[:, 1::300] = float("inf")
    index.update(torch.arange(6000)[None], rows)
    rows[~rows.isfinite().all(2)] = 0
    found = index.search(rows[:, 2::60] * 2, 1)
    assert (found.flatten() == torch.arange(2, 6000, 60)).double().mean() > 0.9


def test_auto_hands_over_rows_that_are_not_finite(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each slot is found once, and those that are finite as exact search finds them."""
    monkeypatch.setattr(auto, "BREAK_EVEN", {name: 100})
    index, exact = AutoIndex(1, 300, 8), make_index("exact", batch_size=1, slots=300, word_size=8)
    rows = torch.randn(1, 200, 8)
    rows[:, ::7] = torch.nan
    rows[:, 1::50, 3] = torch.inf
    slots = torch.randperm(300)[None, :200]
    for part in range(0, 200, 40):
        for own in (index, exact):
            own.update(slots[:, part : part + 40], rows[:, part : part + 40])
    assert index_name(index.index) == name
    keys = torch.randn(1, 5, 8)
    found = index.search(keys, 300)[0]
    assert all(sorted(own) == list(range(300)) for own in found.tolist())
    assert torch.equal(index.search(keys, 4), exact.search(keys, 4))


def test_equal_cosines_go_to_the_lowest_slot(name: str) -> None:
    """Whatever was written before, and in which order."""
    basis = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    chosen = torch.randint(3, (400,))
    rows = basis[chosen] * torch.rand(400, 1).add(0.5)
    exact = make_index("exact", batch_size=1, slots=500, word_size=8)
    exact.update(torch.arange(400)[None], rows[None])
    keys = torch.randn(1, 20, 8)
    for _ in range(4):
        index = make_index(name, batch_size=1, slots=500, word_size=8)
        for _ in range(2):
            order = torch.randperm(400)
            for part in order.split(37):
                index.update(part[None], torch.randn(1, len(part), 8))
                index.update(part[None], rows[None, part])
        for k in (1, 4, 30):
            assert torch.equal(index.search(keys, k), exact.search(keys, k))


@pytest.mark.parametrize("model", [SAM, SDNC])
def test_a_recomputation_finds_the_same(name: str, model: Any) -> None:
    """Activation checkpointing runs a call again from the same state, later."""

    def gradients(module: Any, inputs: Tensor, checkpointed: bool) -> list[Tensor]:
        def run(input: Tensor, hx: Any) -> Any:
            if not checkpointed:
                return module(input, hx)
            return checkpoint(module, input, hx, use_reentrant=False)

        output, hx = run(inputs[0], None)
        other, again = run(inputs[1], hx)[0], run(inputs[1], hx)[0]
        total = output.square().sum() + other.square().sum() + again.sum()
        return list(torch.autograd.grad(total, list(module.parameters())))

    for seed in range(6):
        torch.manual_seed(seed)
        module = model(
            3, 8, nr_cells=12, cell_size=4, read_heads=2, sparse_reads=3, index=name,
            dtype=torch.float64,
        )  # fmt: skip
        inputs = torch.randn(2, 2, 5, 3, dtype=torch.float64)
        plain, again = (gradients(module, inputs, checkpointed) for checkpointed in (False, True))
        for one, other in zip(plain, again, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("model", [SAM, SDNC])
@pytest.mark.parametrize("shared", [True, False])
def test_kernels_ask_it_between_the_halves_of_a_step(name: str, model: Any, shared: bool) -> None:
    """And find, read and learn what the reference does; also in parts of a batch."""
    if numba_is_missing() is not None:
        pytest.skip("numba is not installed")
    torch.manual_seed(0)
    module = model(
        3, 8, nr_cells=20, cell_size=4, read_heads=2, sparse_reads=3, index=name, num_layers=2,
        share_memory=shared, dtype=torch.float64,
    )  # fmt: skip
    input, starts = torch.randn(3, 9, 3, dtype=torch.float64), torch.zeros(3, 9, dtype=torch.bool)
    starts[1, 4] = True
    packed = pack_padded_sequence(input, torch.tensor([4, 9, 6]), True, enforce_sorted=False)
    results = []
    for backend in ("reference", "numba"):
        module.backend = backend
        output, hx = module(input, episode_start=starts)
        again, _ = module(packed, hx)
        other, _ = module(input[:2], select_state(hx, torch.tensor([2, 0])))
        total = output.square().sum() + again.data.square().sum() + other.square().sum()
        found = torch.autograd.grad(total, list(module.parameters()))
        results.append([output, again.data, other, *found])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


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


def _search_in_a_child(index: Any, answers: Any) -> None:
    torch.set_num_threads(1)  # torch's own threads did not come along either
    answers.put(index.search(torch.ones(2, 3, 8), 2).tolist())


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_searches_too(name: str) -> None:
    """The threads that searched the parent's trees did not come along."""
    context = multiprocessing.get_context("fork")
    index, answers = make_index(name, batch_size=2, slots=20_000, word_size=8), context.Queue()
    index.reset(RowMemory.from_tensor(clustered(20_000, 8, 0, batch=2)))
    wanted = index.search(torch.ones(2, 3, 8), 2).tolist()
    child: Any = context.Process(target=_search_in_a_child, args=(index, answers))
    child.start()
    try:
        assert answers.get(timeout=60) == wanted
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()


def brute_force(keys: Tensor, rows: Tensor, k: int) -> Tensor:
    return (keys @ rows.T).topk(k).indices


def test_on_a_gpu_with_what_searches_there_replaced() -> None:
    def make(*, batch_size: int, slots: int, word_size: int, **place: Any) -> FaissGpuIndex:
        return FaissGpuIndex(batch_size, slots, word_size, **place, find=brute_force)

    check_index(make)
    index = make(batch_size=2, slots=5, word_size=3, device=torch.device("cpu"))
    assert index_name(pickle.loads(pickle.dumps(index)).empty(1)) == "faiss"
