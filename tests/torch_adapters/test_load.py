"""Much of everything: draws, long sequences, threads, processes, iterations; in small each time.

``pytest -m slow -k load`` runs them in full.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from load_cases import BACKENDS, trouble
from memcore.backends import NUMBA
from modules import batch, build, every_model, same
from scripts import script
from torch_adapters import DAM, DNC, SAM, SDNC, detach_state

MIB = 2**20


def sized(few: int, many: int) -> Any:
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])


def resident() -> int:
    """Bytes of memory that this process holds."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("memory is read from /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@sized(8, 10_000)
def test_draws_of_everything(count: int) -> None:
    """No value that is not finite, no exception where options are right, no input changed."""
    wrong, refused, threads = [], 0, torch.get_num_threads()
    torch.set_num_threads(1)  # for cases so small a second one triples the time
    for seed in range(count):
        outcome = trouble(seed)
        refused += outcome.refused
        wrong += [f"seed {seed}: {text}" for text in outcome.wrong]
    torch.set_num_threads(threads)
    print(f"{count} draws, {refused} refused")
    assert refused < count / 3
    assert not wrong, "\n".join(wrong[:20])


@every_model
@pytest.mark.parametrize(
    "backend",
    [pytest.param(own, marks=pytest.mark.slow if own == "reference" else ()) for own in BACKENDS],
)
@sized(400, 100_000)
def test_a_long_sequence_at_constant_memory(model: Any, backend: str, count: int) -> None:
    if backend == "reference":
        count = max(count // 20, 100)
    module, piece = build(model, backend=backend, dtype=torch.float32, nr_cells=64), count // 20
    held, hx, whole = [], None, torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(20):
            input = torch.randn(1, piece, module.input_size, generator=whole)
            output, hx = module(input, hx)
            held.append(resident())
            assert output.isfinite().all()
        assert max(held) - held[4] < 24 * MIB, [bytes_ // MIB for bytes_ in held]
        # As one call, which needs room for what goes in and comes out.
        width = 2 * (module.hidden_size + module.cell.read_size) + module.output_size
        before, input = resident(), torch.randn(1, count, module.input_size)
        assert module(input)[0].isfinite().all()
        assert resident() - before < 4 * count * (width + module.input_size) + 24 * MIB


def pieces(module: Any, seed: int, count: int) -> list[Tensor]:
    return [batch(module, size=2, steps=3, seed=100 * seed + piece) for piece in range(count)]


def train(module: Any, inputs: list[Tensor]) -> tuple[list[Tensor], Any]:
    """Gradients of each stretch, the state carried on."""
    hx, found = None, []
    for input in inputs:
        output, hx = module(input, hx)
        loss = output.square().sum()
        found += torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
        hx = detach_state(hx)
    return found, hx


@every_model
@pytest.mark.parametrize("backend", BACKENDS)
@sized(2, 60)
def test_eight_threads_on_one_module(model: Any, backend: str, count: int) -> None:
    module = build(model, backend=backend)
    programs = [pieces(module, seed, count) for seed in range(8)]
    wanted = [train(module, program) for program in programs]
    begin = threading.Barrier(8)

    def run(program: list[Tensor]) -> Any:
        begin.wait()
        return train(module, program)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(run, programs))
    for (gradients, hx), (others, other_hx) in zip(found, wanted, strict=True):
        for one, other in zip(gradients, others, strict=True):
            assert one is other or torch.equal(one, other)
        same(hx, other_hx)


@every_model
@pytest.mark.parametrize("backend", BACKENDS)
@sized(2, 60)
def test_states_move_between_threads(model: Any, backend: str, count: int) -> None:
    """Each piece of a sequence is run by whichever thread is free; branches too."""
    module = build(model, backend=backend)
    programs = [pieces(module, seed, count) for seed in range(6)]
    wanted = []
    for program in programs:
        output, hx = module(program[0])
        for input in program[1:]:
            branch, _ = module(input, hx)
            output, hx = module(input, hx)
            assert torch.equal(branch, output)
        wanted.append((output, hx))

    def work(which: int, place: int, hx: Any) -> tuple[int, int, Tensor, Any]:
        module(programs[which][place], hx)  # a branch, thrown away
        return which, place + 1, *module(programs[which][place], hx)

    done: dict[int, Any] = {}
    with ThreadPoolExecutor(4) as pool:
        running = {pool.submit(work, which, 0, None) for which in range(len(programs))}
        while running:
            ended, running = wait(running, timeout=600, return_when=FIRST_COMPLETED)
            assert ended, "nothing ended in 600 s"
            for which, place, output, hx in [future.result() for future in ended]:
                if place == count:
                    done[which] = output, hx
                else:
                    running.add(pool.submit(work, which, place, hx))
    for which, (output, hx) in enumerate(wanted):
        assert torch.equal(done[which][0], output)
        same(done[which][1], hx)


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes(start: str) -> None:
    """A module and a state, used before, go on in children; and the parent goes on too."""
    if start not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {start} here")
    lines = script("children.py", start)
    cases = [[model.__name__, backend] for model in (DNC, DAM, SAM, SDNC) for backend in BACKENDS]
    assert lines == [{"case": case, "goes on": True} for case in cases]


@every_model
@sized(60, 2_000)
def test_training_at_flat_memory(model: Any, count: int) -> None:
    module = build(model, dtype=torch.float32, nr_cells=256 if model in (SAM, SDNC) else 32)
    module.backend = "numba" if NUMBA else "reference"
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    held, hx, begun = [], None, time.perf_counter()
    for iteration in range(count):
        output, hx = module(batch(module, size=4, steps=8, seed=iteration), hx)
        optimizer.zero_grad()
        output.square().mean().backward()
        optimizer.step()
        hx = detach_state(hx)
        if iteration % (count // 20) == 0:
            held.append(resident())
    shown = [round(bytes_ / MIB, 1) for bytes_ in held]
    print(f"{model.__name__}: MiB {shown}, {time.perf_counter() - begun:.0f} s")
    assert held[-1] - held[5] < 16 * MIB, shown
