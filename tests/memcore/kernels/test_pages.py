"""Memory for tapes: lent to one at a time, given back when nobody refers to it any more."""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading

import pytest
import torch

from memcore.kernels import pages

BIG = pages.SMALL // 2  # float32 numbers: twice the least that is used again


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(pages, "_free", [])


def tape(count: int = BIG, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return pages.new_tape((count,), dtype)


def test_a_tape_is_an_ordinary_tensor() -> None:
    for shape in ((3, BIG), (BIG, 3), (2, 3)):
        for dtype in (torch.float32, torch.float64):
            own = pages.new_tape(shape, dtype)
            assert own.shape == shape
            assert own.dtype == dtype
            assert own.is_contiguous()
            assert own.data_ptr() % pages.ALIGNMENT == 0
            own.fill_(1)
            assert own.sum() == own.numel()


def test_memory_is_used_again_and_by_one_at_a_time() -> None:
    first = tape()
    place = first.data_ptr()
    second = tape()
    assert second.data_ptr() != place
    first.fill_(1)
    second.fill_(2)
    assert (first == 1).all()
    view = first[5:]
    del first
    third = tape()
    assert third.data_ptr() != place  # a view is alive
    del view
    fourth = tape()
    assert fourth.data_ptr() == place
    fifth = tape()
    assert fifth.data_ptr() != place  # which is lent again
    del fourth
    assert tape(BIG - 100).data_ptr() == place  # also for one a little smaller


def test_tapes_of_a_graph_are_not_lent_again() -> None:
    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            own = tape()
            own.fill_(3)
            ctx.save_for_backward(own)
            return value + own.data_ptr() % 2

        @staticmethod
        def backward(ctx, slope):
            (own,) = ctx.saved_tensors
            return slope * own[0]

    value = torch.ones(1, requires_grad=True)
    results = [Keep.apply(value) for _ in range(3)]
    for result in results:
        (slope,) = torch.autograd.grad(result, value)
        assert slope == 3


def test_a_much_larger_one_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    large = tape(5 * BIG)
    place = large.data_ptr()
    del large
    assert tape(BIG).data_ptr() != place
    assert tape(4 * BIG).data_ptr() == place


def test_what_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LIMIT", 5 * pages.SMALL)
    tapes = [tape() for _ in range(10)]
    del tapes
    gc.collect()
    assert 0 < sum(map(len, pages._free)) <= 5 * pages.SMALL


def test_a_tape_is_poisoned_where_torch_is_told_to() -> None:
    own = tape()
    own.fill_(1)
    del own
    torch.use_deterministic_algorithms(True)
    try:
        assert tape().isnan().all()
        assert pages.new_tape((2, 3), torch.float64).isnan().all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_many_threads_borrow_and_give_back() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(100):
            own = tape()
            own.fill_(number)
            if not bool((own[::1024] == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


COLLECT = """
import gc
import torch
from memcore.kernels import pages

class Cycle:
    pass

gc.set_threshold(1)  # garbage is collected wherever something is made
for _ in range(200):
    cycle = Cycle()
    cycle.own, cycle.tape = cycle, pages.new_tape((1 << 20,), torch.float32)
    del cycle
print("done")
"""


def test_garbage_may_be_collected_in_the_middle() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COLLECT],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "done\n", done.stderr
