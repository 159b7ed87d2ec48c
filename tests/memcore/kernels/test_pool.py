"""Whoever runs the chunks of a batch, the numbers are the same."""

# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")

from memcore.kernels import layout, pool
from torch_adapters import DAM, DNC

models = pytest.mark.parametrize("model", [DNC, DAM])


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every example may have a thread of its own."""
    monkeypatch.setattr(layout, "THREAD_PAYS", 1)
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Into how many parts batches were cut."""
    seen: list[int] = []
    run = pool.run

    def counted(entry: Any, told: Any, count: int) -> None:
        seen.append(count)
        run(entry, told, count)

    monkeypatch.setattr("memcore.kernels.segment.run_kernel", counted)
    return seen


def numbers(model: Any, examples: int = 5) -> list[Tensor]:
    torch.manual_seed(0)
    module = model(3, 8, nr_cells=5, cell_size=4, backend="numba", dtype=torch.float64)
    input = torch.randn(examples, 4, 3, dtype=torch.float64, requires_grad=True)
    output, (_, memory, _) = module(input)
    (output.sum() + memory.memory.square().sum()).backward()
    assert input.grad is not None
    return [output.detach(), memory.memory.detach(), input.grad]


def equal(ones: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


@models
@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_threads_of_python_in_place_of_torchs(
    model: Any, count: int, chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    expected = numbers(model)
    assert chunks == [1, 1]
    torch.set_num_threads(count)
    assert equal(numbers(model), expected)
    monkeypatch.setattr(pool, "_torch_team", lambda: None)
    assert equal(numbers(model), expected)
    assert set(chunks[2:]) == {min(count, 5)}


def test_as_many_chunks_as_examples(chunks: list[int]) -> None:
    torch.set_num_threads(4)
    numbers(DNC, 1)
    numbers(DNC, 3)
    assert chunks == [1, 1, 3, 3]


def test_small_work_has_one_thread(chunks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    torch.set_num_threads(4)
    monkeypatch.setattr("memcore.kernels.segment.run_kernel", lambda *a: chunks.append(a[2]))
    with torch.no_grad():
        DAM(1, 1, nr_cells=1, cell_size=1, read_heads=1, num_hidden_layers=1)(torch.zeros(2, 1, 1))
    assert chunks == [1]


def test_this_torch_has_a_team() -> None:
    """Else the tests above would compare Python's threads with themselves."""
    team = pool._torch_team()
    if team is None:
        pytest.skip("torch brought no libgomp")
    assert team.number
    assert team.count


@pytest.mark.parametrize("team", [True, False])
def test_a_team_smaller_than_asked_for_does_all(
    team: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenMP may give fewer threads than chunks: each then takes several."""
    if team and pool._torch_team() is None:
        pytest.skip("torch brought no libgomp")
    torch.set_num_threads(1)
    expected = numbers(DNC)
    monkeypatch.setattr(layout.Layout, "chunks", property(lambda self: 5))
    if team:
        real = pool._torch_team()

        class Few:
            number, count = real.number, real.count

            @staticmethod
            def parallel(function: Any, data: Any, _: int, flags: int) -> None:
                real.parallel(function, data, 2, flags)

        monkeypatch.setattr(pool, "_torch_team", lambda: Few)
    else:
        monkeypatch.setattr(pool, "_torch_team", lambda: None)
    assert equal(numbers(DNC), expected)


def test_many_callers_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """More callers than threads, all of which wait for chunks: none waits for ever."""
    monkeypatch.setattr(pool, "_torch_team", lambda: None)
    torch.set_num_threads(1)
    expected = numbers(DAM)
    found: list[bool] = []

    def work() -> None:
        torch.set_num_threads(4)
        found.extend(equal(numbers_of(module, input), expected) for _ in range(3))

    torch.manual_seed(0)
    module = DAM(3, 8, nr_cells=5, cell_size=4, backend="numba", dtype=torch.float64)
    input = torch.randn(5, 4, 3, dtype=torch.float64)

    def numbers_of(module: Any, input: Tensor) -> list[Tensor]:
        own = input.clone().requires_grad_()
        output, (_, memory, _) = module(own)
        loss = output.sum() + memory.memory.square().sum()
        (slope,) = torch.autograd.grad(loss, own)
        return [output.detach(), memory.memory.detach(), slope]

    threads = [threading.Thread(target=work, daemon=True) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 36
