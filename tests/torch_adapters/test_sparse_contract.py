"""What SAM and the SDNC promise holds with kernels: values, autograd, threads, failures."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import sys
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

pytest.importorskip("numba")

from memcore import MemcoreError, RowMemory, SparseWrite, sam, sdnc, sparse_state
from memcore.index import AllRowsIndex
from memcore.kernels import layout, pages, segment
from memcore.kernels.sparse_states import Journal
from memcore.persistent.recency import Recency
from torch_adapters import SAM, SDNC, select_state

X, H, N, W = 3, 8, 30, 5
models = pytest.mark.parametrize("model", [SAM, SDNC])


def build(model: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"nr_cells": N, "cell_size": W, "read_heads": 2, "sparse_reads": 3, "backend": "numba"}
    sizes |= {"temporal_reads": 2} if model is SDNC else {}
    return model(X, H, **{**sizes, "dtype": torch.float64, **options})


def rows(batch: int = 3, steps: int = 6) -> Tensor:
    return torch.randn(batch, steps, X, dtype=torch.float64)


def seen(hx: Any) -> list[Tensor]:
    """All that an ``hx`` with a shared memory holds."""
    hidden, memory, reads = hx
    parts = [part for layer in hidden for part in (layer if isinstance(layer, tuple) else (layer,))]
    parts += [memory.memory.to_tensor(), memory.read_index, memory.read_weights, reads]
    parts += [memory.write_index, memory.write_weights, memory.recency.last_access()]
    if hasattr(memory, "links"):
        parts += [memory.links.to_tensor(), *memory.links.precedence()]
    return [part.detach().clone() for part in parts]


def same(one: Any, other: Any) -> bool:
    return all(map(torch.equal, seen(one), seen(other)))


@models
@pytest.mark.parametrize("layers", [{}, {"num_layers": 2}])
def test_resuming_is_exact(model: Any, layers: dict[str, Any]) -> None:
    module, input = build(model, **layers), rows(steps=11)
    whole, last = module(input)
    first, hx = module(input[:, :4])
    second, hx = module(input[:, 4:], hx)
    assert torch.equal(whole, torch.cat([first, second], 1))
    assert same(last, hx)
    state, outputs = None, []
    for step in range(11):
        output, state = module.step(input[:, step], state)
        outputs.append(output)
    torch.testing.assert_close(torch.stack(outputs, 1), whole, rtol=1e-12, atol=1e-12)


@models
def test_threads_and_other_examples_change_nothing(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "THREAD_PAYS", 1)
    module, input, before = build(model), rows(5), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone, hx = module(input)
        torch.set_num_threads(2)
        together, other = module(input)
    finally:
        torch.set_num_threads(before)
    assert same(hx, other)
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)
    for example in range(5):
        own, _ = module(input[example : example + 1])
        torch.testing.assert_close(own[0], alone[example], rtol=1e-12, atol=1e-12)


@models
def test_old_states_stay_what_they_were(model: Any) -> None:
    module = build(model)
    states: list[Any] = []
    hx = None
    for _ in range(6):
        hx = module(rows(), hx)[1]
        states.append((hx, seen(hx)))
    for place in (2, 5, 0, 3, 3, 1, 4):
        module(rows(), states[place][0])
    for hx, wanted in states:
        assert all(map(torch.equal, seen(hx), wanted))


@models
def test_one_state_for_two_layers(model: Any) -> None:
    """Each layer's memory then goes its own way."""
    module = build(model, num_layers=2, share_memory=False)
    input = rows()
    memory = sparse_state.detach(module(input)[1][1][0])
    results = {}
    for backend in ("reference", "numba"):
        module.backend = backend
        output, hx = module(input, (None, [memory, memory], None))
        results[backend] = [output, *(own.memory.to_tensor() for own in hx[1])]
        results[backend] += [module(input, (None, hx[1][::-1], None))[0]]
    for one, other in zip(*results.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@models
def test_backends_take_turns_on_a_state(model: Any) -> None:
    module, parts = build(model), [rows() for _ in range(6)]
    outputs = []
    for turns in (
        ["reference"] * 6,
        ["numba", "reference"] * 3,
        ["reference", "numba", "numba"] * 2,
    ):
        hx, own = None, []
        for part, backend in zip(parts, turns, strict=True):
            module.backend = backend
            output, hx = module(part, hx)
            own.append(output)
        total = torch.cat(own)
        outputs.append([total, *torch.autograd.grad(total.sum(), list(module.parameters()))])
    for other in outputs[1:]:
        for one, two in zip(outputs[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)


@models
def test_writes_by_hand_in_between(model: Any) -> None:
    module, input = build(model), rows()
    slots, values = torch.tensor([[3, 7], [0, 29], [5, 5]]), torch.randn(3, 2, W).double()
    found = []
    for backend in ("reference", "numba"):
        module.backend = backend
        hidden, memory, reads = module(input)[1]
        add = values.clone().requires_grad_()
        written = memory.memory.write(SparseWrite(slots[:, :1], slots, add))
        hx = hidden, memory._replace(memory=written), reads
        output, last = module(input, hx)
        output.square().sum().backward()
        assert add.grad is not None
        found.append([output, last[1].memory.read(slots), add.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


@models
def test_gradients_go_through_many_calls_and_back_again(model: Any) -> None:
    module, first, later = build(model), rows().requires_grad_(), rows()
    _, hx = module(first)
    outputs = [module(later, hx)[0] for _ in range(2)]  # two futures of one state
    total = torch.stack(outputs).square().sum()
    once = torch.autograd.grad(total, first, retain_graph=True)[0]
    module(later, hx)  # edits the buffers meanwhile
    again = torch.autograd.grad(total, first, retain_graph=True)[0]
    one = torch.autograd.grad(outputs[0].square().sum(), first)[0]
    assert torch.equal(once, again)
    torch.testing.assert_close(2 * one, once, rtol=1e-12, atol=1e-12)


@models
def test_a_learned_beginning(model: Any) -> None:
    """Its gradient by differences."""
    module, input = build(model), rows(1, 4)
    kind: Any = sam if model is SAM else sdnc
    sizes = (1, N, W, 2, 3) if model is SAM else (1, N, W, 2, 3, 2)

    def loss(row: Tensor) -> Tensor:
        memory = RowMemory.filled(row, 1, N)
        state = kind.init_state(*sizes, memory=memory, dtype=torch.float64)
        output, hx = module(input, (None, state, None))
        return output.square().sum() + hx[1].memory.to_tensor().sin().sum()

    torch.autograd.gradcheck(loss, torch.randn(W, dtype=torch.float64, requires_grad=True))


@models
def test_second_derivatives_are_refused(model: Any) -> None:
    module, input = build(model), rows().requires_grad_()
    output, _ = module(input)
    with pytest.raises(MemcoreError, match="create_graph: expected False"):
        torch.autograd.grad(output.sum(), input, create_graph=True)
    output, _ = module(input)
    with pytest.raises((MemcoreError, RuntimeError), match="is_grads_batched: expected False"):
        torch.autograd.grad(
            output, input, torch.ones(2, *output.shape).double(), is_grads_batched=True
        )


@models
def test_checkpoints_and_offloading(model: Any) -> None:
    module, input = build(model), rows()

    def gradients(run: Any) -> list[Tensor]:
        output, hx = run(input, None)
        output, hx = run(input, hx)
        return list(torch.autograd.grad(output.square().sum(), list(module.parameters())))

    wanted = gradients(module)
    found = gradients(lambda *given: checkpoint(module, *given, use_reentrant=False))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.numpy().copy(), torch.from_numpy):
        offloaded = gradients(module)
    for one, other, third in zip(wanted, found, offloaded, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(one, third, rtol=1e-12, atol=1e-13)


@models
def test_a_change_of_weights_before_backward_is_refused(model: Any) -> None:
    module = build(model)
    output, _ = module(rows())
    with torch.no_grad():
        next(module.parameters()).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


@models
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["kernel", "journal", "index"])
def test_a_failed_call_changes_nothing(
    model: Any, error: type[BaseException], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, input = build(model), rows()
    _, older = module(input)
    _, hx = module(input, older)
    wanted, before, old = module(input, hx)[0], seen(hx), seen(older)
    _, hx = module(input, older)

    def fail(*_: Any, **__: Any) -> Any:
        raise error("in the middle")

    with monkeypatch.context() as patched:
        if when == "kernel":
            run = segment.run_kernel

            def run_and_fail(*given: Any) -> None:
                run(*given)
                fail()

            patched.setattr(segment, "run_kernel", run_and_fail)
        elif when == "journal":
            edited, calls = Journal.edited, []

            def fail_once(self: Journal) -> Any:
                calls.append(self)
                return fail() if len(calls) == 1 else edited(self)

            patched.setattr(Journal, "edited", fail_once)
        else:
            patched.setattr(type(hx[1].index.index), "changed", fail)
        with pytest.raises(error, match="in the middle"):
            module(input, hx)
    assert all(map(torch.equal, seen(hx), before))
    torch.testing.assert_close(module(input, hx)[0], wanted, rtol=1e-12, atol=1e-12)
    assert all(map(torch.equal, seen(older), old))


@models
def test_many_threads_go_on_from_one_history(model: Any) -> None:
    module, input = build(model, num_layers=2, share_memory=False), rows(2, 4)
    states: list[Any] = [None]
    with torch.no_grad():
        for _ in range(3):
            states.append(module(input, states[-1])[1])
        wanted = [module(input, hx)[0] for hx in states]
    failures: list[str] = []

    def work(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _ in range(25):
                place = int(torch.randint(len(states), (), generator=generator))
                hx = states[place]
                if not torch.allclose(module(input, hx)[0], wanted[place], rtol=1e-11):
                    failures.append(f"state {place}")
                if hx is not None:  # memories in each other's places: locks in another order
                    module(input, (hx[0], hx[1][::-1], hx[2]))

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures


def _in_a_child(module: Any, input: Tensor, hx: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    answers.put(module(input, hx)[0].tolist())


@models
@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_goes_on(model: Any) -> None:
    module, input = build(model), rows()
    with torch.no_grad():
        _, hx = module(input)
        wanted = module(input, hx)[0]
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child: Any = context.Process(target=_in_a_child, args=(module, input, hx, answers))
        child.start()
        try:
            found = torch.tensor(answers.get(timeout=100), dtype=torch.float64)
        finally:
            child.kill()
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@models
def test_what_is_kept_for_backward_does_not_know_the_slots(model: Any) -> None:
    kept = []
    for slots in (1 << 14, 1 << 20):
        module = build(model, nr_cells=slots, dtype=torch.float32, cell_size=32, sparse_reads=4)
        input = torch.randn(1, 100, X)
        module(input)
        before, held = pages.lent(), []

        def note(tensor: Tensor, held: list[int] = held) -> Tensor:
            held.append(tensor.untyped_storage().nbytes())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            output, _ = module(input)
        kept.append(sum(held) + pages.lent() - before)
        del output
    assert abs(kept[0] - kept[1]) < 0.02 * kept[0]
    assert kept[1] < 1 << 20


@models
@pytest.mark.parametrize("index", ["exact", "auto", AllRowsIndex(3, N, W, dtype=torch.float64)])
def test_what_nobody_holds_is_freed_at_once(model: Any, index: Any) -> None:
    """Without waiting for garbage to be collected, which would keep old versions and their rows."""
    module, input = build(model, index=index), rows()
    output, hx = module(input)
    gc.collect()
    gc.disable()
    try:
        memories = [weakref.ref(hx[1].memory.version)]
        for _ in range(3):
            output, hx = module(input, hx)
            memories.append(weakref.ref(hx[1].memory.version))
        assert [memory() is None for memory in memories] == [True, True, True, False]
        output.sum().backward()
        del output, hx
        assert memories[-1]() is None
    finally:
        gc.enable()


@models
def test_a_step_with_a_controller_of_ones_own(model: Any) -> None:
    kind: Any = sam if model is SAM else sdnc
    sizes = (2, N, W, 2, 3) if model is SAM else (2, N, W, 2, 3, 2)
    results = []
    for backend in ("reference", "numba"):
        torch.manual_seed(1)
        state = kind.init_state(*sizes, dtype=torch.float64)
        vectors = torch.randn(7, 2, kind.interface_size(W, 2)).double().requires_grad_()
        reads = []
        for vector in vectors:
            read, state = kind.batched_step(state, vector, backend=backend)
            reads.append(read)
        total = torch.stack(reads).square().sum() + state.memory.to_tensor().square().sum()
        results.append([torch.stack(reads), *torch.autograd.grad(total, vectors)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
    with pytest.raises(MemcoreError, match=r"vectors: expected shape \[2, "):
        kind.batched_step(state, vectors[0, :, :-1])
    with pytest.raises(MemcoreError, match="backend: expected one of"):
        kind.batched_step(state, vectors[0], backend="cuda")


@models
def test_nan_stays_with_its_example(model: Any) -> None:
    module, input = build(model, nr_cells=9), rows(4, 8)
    clean, last = module(input)
    for bad in (torch.nan, torch.inf, 1e300):
        poisoned = input.clone()
        poisoned[1, 3] = bad
        output, hx = module(poisoned)
        others = torch.tensor([0, 2, 3])
        assert torch.equal(output[others], clean[others])
        assert output[1, :3].isfinite().all()
        if bad is torch.nan:
            assert output[1, 3].isnan().any()
        own = select_state(hx, torch.tensor([1]))[1]
        assert ((own.read_index >= 0) & (own.read_index < 9)).all()
        again = module(input, hx)[0]
        torch.testing.assert_close(again[others], module(input, last)[0][others])


class _Answers:
    """An index that answers whatever it was made with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def empty(self, batch_size: int) -> _Answers:
        return self

    def reset(self, memory: RowMemory, examples: Tensor | None = None) -> None:
        pass

    def update(self, index: Tensor, rows: Tensor, examples: Tensor | None = None) -> None:
        pass

    def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
        return self.answer


@models
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.full((3, 2, 3), -1), r"expected slots in \[0, 30\) from its search, got -1 to -1"),
        (torch.full((3, 2, 3), 30), r"expected slots in \[0, 30\) from its search, got 30 to 30"),
        (torch.zeros(3, 2, 1, dtype=torch.int64), r"expected int64 slots of shape \[3, 2, 3\]"),
        (torch.zeros(3, 2, 3), r"expected int64 slots of shape .* got torch.float32"),
    ],
)
def test_wrong_answers_of_an_index_are_refused(model: Any, answer: Tensor, message: str) -> None:
    """Kernels check no bounds themselves."""
    index = _Answers(torch.zeros(3, 2, 3, dtype=torch.int64))
    module, input = build(model, index=index), rows()
    _, hx = module(input)
    before = seen(hx)
    index.answer = answer
    with pytest.raises(MemcoreError, match=f"index: {message}"):
        module(input, hx)
    assert all(map(torch.equal, seen(hx), before))


@models
def test_an_index_may_keep_what_it_is_given(model: Any) -> None:
    """What it was told and asked at one step is not what the next one is at work on."""

    class Keeping(AllRowsIndex):
        def __init__(self) -> None:
            super().__init__(3, N, W, dtype=torch.float64)
            self.kept: list[tuple[Tensor, Tensor]] = []

        def empty(self, batch_size: int) -> Keeping:
            return Keeping()

        def update(self, index: Tensor, rows: Tensor, examples: Tensor | None = None) -> None:
            self.kept += [(index, index.clone()), (rows, rows.clone())]
            super().update(index, rows, examples)

        def search(self, keys: Tensor, k: int, examples: Tensor | None = None) -> Tensor:
            self.kept.append((keys, keys.clone()))
            return super().search(keys, k, examples)

    module = build(model, index=Keeping())
    with torch.no_grad():
        _, hx = module(rows())
    kept = hx[1].index.index.kept
    assert len(kept) == 18
    assert all(torch.equal(given, copy) for given, copy in kept)


@models
def test_an_index_for_another_dtype_is_refused(model: Any) -> None:
    module, input = build(model, dtype=torch.float32), rows().float()
    hidden, memory, reads = module(input)[1]
    wide = memory._replace(
        memory=memory.memory.detach().to(torch.float64),
        read_weights=memory.read_weights.double(),
        write_weights=memory.write_weights.double(),
    )
    hidden = [tuple(part.double() for part in layer) for layer in hidden]
    with pytest.raises(MemcoreError, match=r"index: expected one for memories of .*float64"):
        module.double()(input.double(), (hidden, wide, reads.double()))


@models
def test_read_weights_that_are_yet_to_be_negated(model: Any) -> None:
    module, input = build(model), rows()
    hidden, memory, reads = module(input)[1]
    weights = memory.read_weights.detach()
    lazy = torch.complex(torch.zeros_like(weights), -weights).conj().imag
    assert lazy.is_neg()
    assert torch.equal(lazy, weights)
    wanted, _ = module(input, (hidden, memory, reads))
    found, _ = module(input, (hidden, memory._replace(read_weights=lazy), reads))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@models
def test_the_least_recent_slot_of_many_blocks(model: Any) -> None:
    """All slots were accessed but for three: these are the next written."""
    slots = 128 * 128 + 1
    module, input, last = build(model, nr_cells=slots), rows(2, 3), slots - 1
    free = (300, 3 * 128 - 1, last)  # two of one block, of which one is its last; one far from them
    others = torch.tensor([slot for slot in range(slots) if slot not in free])
    recency = Recency(2, slots)
    for some in others.split(1000):
        recency = recency.accessed(some.expand(2, -1), torch.ones(2, len(some), dtype=torch.bool))
    state = module.cell.init_state(2, dtype=torch.float64, device="cpu")
    hx: Any = None, state._replace(recency=recency), None
    written = []
    for step in range(3):
        _, hx = module(input[:, step : step + 1], hx)
        written.append(hx[1].write_index[:, -1].tolist())
    assert written == [[slot, slot] for slot in free]


@torch.no_grad()
@pytest.mark.parametrize("reads", [1, 2])
@models
def test_an_old_state_goes_on_as_its_copy_does(model: Any, reads: int) -> None:
    """Also where another future of it came first."""
    module = build(model, **({"temporal_reads": reads} if model is SDNC else {}))
    hx = None
    for _ in range(12):
        hx = module(rows(steps=3), hx)[1]
        kept, later = copy.deepcopy(hx), rows(steps=3)
        module(rows(steps=3), hx)
        (one, after), (other, wanted) = module(later, hx), module(later, kept)
        assert torch.equal(one, other)
        assert same(after, wanted)


def test_a_clip_of_minus_zero_is_none() -> None:
    """Neither there, nor in what is kept for all modules of the same sizes."""
    input = rows(2, 1)
    found = [build(SAM, clip=clip)(input)[0] for clip in (-0.0, 0.0)]
    expected = build(SAM, clip=0, backend="reference")(input)[0]
    for output in found:
        torch.testing.assert_close(output, expected)


@models
@pytest.mark.parametrize("which", ["hidden", "reads"])
def test_tensors_without_memory_go_to_the_reference(model: Any, which: str) -> None:
    module, input = build(model, backend="auto", num_hidden_layers=1), rows(2, 1)
    _, ([(hidden, cell)], memory, reads) = module(input)

    def state(zeros: Any) -> Any:
        if which == "hidden":
            return [(zeros(hidden.shape, dtype=hidden.dtype), cell)], memory, reads
        return [(hidden, cell)], memory, zeros(reads.shape, dtype=reads.dtype)

    without: Any = torch._efficientzerotensor  # pyright: ignore
    assert module.backend_of(input, state(without)) == (
        "reference", "a tensor has no memory of its own, which kernels would read",
    )  # fmt: skip
    expected = module(input, state(torch.zeros))[0]
    torch.testing.assert_close(module(input, state(without))[0], expected)


@models
def test_an_old_state_of_an_initial_row_stays_what_it_was(model: Any) -> None:
    """Rows that were not marked as written then are not marked now."""
    module, kind = build(model), sam if model is SAM else sdnc
    sizes = (3, N, W, 2, 3) if model is SAM else (3, N, W, 2, 3, 2)
    memory = RowMemory.filled(torch.ones(W, dtype=torch.float64), 3, N)
    hx: Any = None, kind.init_state(*sizes, memory=memory, dtype=torch.float64), None
    states = []
    for _ in range(4):
        hx = module(rows(), hx)[1]
        states.append((hx, seen(hx)))
    for place in (1, 3, 0, 2):
        module(rows(), states[place][0])
        for hx, wanted in states:
            assert all(map(torch.equal, seen(hx), wanted))
    assert (memory.to_tensor() == 1).all()


@models
def test_an_index_of_ones_own_finds_the_same_without_a_graph(model: Any) -> None:
    """Where two records are used in turn, not one for each step."""
    input, found = rows(), []
    for index in ("exact", AllRowsIndex(3, N, W, dtype=torch.float64)):
        module = build(model, index=index)
        with torch.no_grad():
            found.append(module(input)[0])
        found.append(module(input)[0])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-12, atol=1e-12)


@models
def test_a_learned_beginning_of_a_frozen_module(model: Any) -> None:
    """The row alone has a gradient."""
    module, input = build(model).requires_grad_(False), rows()
    kind, found = sam if model is SAM else sdnc, []
    sizes = (3, N, W, 2, 3) if model is SAM else (3, N, W, 2, 3, 2)
    for backend in ("reference", "numba"):
        module.backend = backend
        row = torch.ones(W, dtype=torch.float64, requires_grad=True)
        memory = RowMemory.filled(row, 3, N)
        hx: Any = None, kind.init_state(*sizes, memory=memory, dtype=torch.float64), None
        output, hx = module(input, hx)
        total = output.square().sum() + module(input, hx)[0].sin().sum()
        found.append(torch.autograd.grad(total, row)[0])
    assert found[0].any()
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)
