"""`torch.compile` and `torch.export`, as users have the library.

Run by `test_torch_tools.py` in a process of its own: compilers make nothing of the checks of types
that tests have.
"""

from __future__ import annotations

import copy
import io
import pickle
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch.nn.utils.rnn import pack_sequence

from memcore import DNCState, MemcoreError, dam, dnc
from memcore.backends import NUMBA
from modules import CLOSE, X, batch, build, close, gradients, same
from torch_adapters import DAM, DNC, SAM, SDNC, detach_state, time_loop

dense = pytest.mark.parametrize("model", [DNC, DAM])
sparse = pytest.mark.parametrize("model", [SAM, SDNC])
# "Releases of torch" in docs/guides/torch_tools.md
saves = pytest.mark.skipif(torch.__version__ < "2.13", reason="export saves it from torch 2.13 on")
pytestmark = [
    pytest.mark.skipif(torch.__version__ < "2.12", reason="compiled from torch 2.12 on"),
    # Dynamo's own, where it looks at the arguments of a frame, and of what it imports.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
]


class Inside(nn.Module):
    """A memory in the middle of a model."""

    def __init__(self, memory: nn.Module) -> None:
        super().__init__()
        self.before = nn.Linear(X, X, dtype=torch.float64)
        self.memory = memory
        self.after = nn.Linear(X, X, dtype=torch.float64)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        output, hx = self.memory(self.before(input).relu(), hx)
        return self.after(output.relu()), hx


class Counted:
    """A backend of `torch.compile` that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def slow(*own: Any) -> Any:
    """Parameters of a case that takes long."""
    return pytest.param(*own, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> None:
    torch._dynamo.reset()


# torch.compile


@pytest.mark.parametrize("memory", [dnc, dam])
def test_a_step_of_the_memory_is_compiled_whole(memory: Any) -> None:
    state = memory.init_state(5, 4, 2, dtype=torch.float64)
    state = type(state)(*(part.expand(3, *part.shape) for part in state))
    vectors = torch.randn(3, memory.interface_size(4, 2), dtype=torch.float64, requires_grad=True)

    def run(step: Any) -> tuple[Tensor, Any, Tensor]:
        interfaces = torch.func.vmap(lambda own: memory.parse_interface(own, 4, 2))(vectors)
        reads, after = step(state, interfaces)
        return reads, after, torch.autograd.grad(reads.square().sum(), vectors)[0]

    step = torch.func.vmap(memory.step)
    reads, after, gradient = run(step)
    own, own_after, own_gradient = run(torch.compile(step, fullgraph=True, backend="aot_eager"))
    close([own, *own_after, own_gradient], [reads, *after, gradient])


def test_module_compile_compiles_the_time_step_once() -> None:
    module, backend = build(DNC, num_hidden_layers=1, backend="reference"), Counted()
    input, other = batch(module), batch(module, steps=9, seed=2)
    packed = pack_sequence([other[0], other[1, :4], other[2, :1]])
    start = torch.zeros(3, 9, dtype=torch.bool)
    start[1, 3] = True

    def run() -> list[Any]:
        output, hx = module(input)
        longer, after = module(other, hx, episode_start=start)
        apart, _ = module(packed)
        stepped, _ = module.step(other[:, 0], hx)
        return [output, longer, apart.data, stepped, *gradients(module, longer + 1), after]

    *wanted, after = run()
    module.compile(backend=backend)
    *found, own_after = run()
    close(found, wanted)
    same(own_after, after, **CLOSE)
    compiled = backend.graphs
    assert compiled
    module(batch(module, steps=20, seed=3), own_after)
    assert backend.graphs == compiled  # not once for each length
    for other_module in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(other_module(input)[0], found[0], **CLOSE)
    assert backend.graphs == compiled  # copies are without


def test_a_module_that_was_compiled_takes_part_in_transforms() -> None:
    """By the plain step, since compilers fail under them."""
    module = build(DNC, backend="reference")
    input, weights = batch(module, steps=2), dict(module.named_parameters())
    wanted = gradients(module, module(input)[0])
    module.compile(backend="eager")
    module(input)

    def loss(own: Any) -> Tensor:
        return torch.func.functional_call(module, own, (input,))[0].square().sum()

    close(torch.func.grad(loss)(weights).values(), wanted)
    several = {name: torch.stack([value, value]) for name, value in weights.items()}
    losses = torch.func.vmap(loss)(several)
    close(losses, [loss(weights)] * 2)


@sparse
def test_module_compile_of_sparse_memories_changes_nothing(model: Any) -> None:
    module = build(model)
    output, hx = module(batch(module))
    module.compile(backend="eager")
    for _ in range(2):
        own, own_hx = module(batch(module))
        assert torch.equal(own, output)
        same(own_hx, hx)


@sparse
@pytest.mark.parametrize("around", [False, True])
def test_a_refused_transform_leaves_a_compiled_module_as_it_was(model: Any, around: bool) -> None:
    """Dynamo leaves out a frame that it failed to trace, and then traces what that calls."""
    module = build(model)
    input = batch(module)
    output, _ = module(input)
    run: Any = torch.compile(module, backend="eager") if around else module
    if not around:
        module.compile(backend="eager")
    for transform in (torch.func.jvp, torch.func.jvp):
        with pytest.raises(MemcoreError, match="expected to be differentiated backward"):
            transform(lambda x: run(x)[0], (input,), (input,))
        assert torch.equal(run(input)[0], output)


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        (DNC, "auto"),
        slow(DAM, "auto"),
        slow(DNC, "reference"),
        (SAM, "auto"),
        (SDNC, "reference"),
        slow(SAM, "reference"),
        slow(SDNC, "auto"),
    ],
)
def test_a_compiled_model_breaks_its_graph_at_the_memory(
    model: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where kernels run or the state is edited in place; else it is traced whole."""
    whole = Inside(build(model, backend=backend))
    input, graphs, segments = batch(whole.memory, steps=2), Counted(), []
    run_segment = time_loop.run_segment

    def counted(*given: Any) -> Any:
        segments.append(given)
        return run_segment(*given)

    monkeypatch.setattr(time_loop, "run_segment", counted)
    output, hx = whole(input)
    wanted = [output, *gradients(whole, output), whole(input, hx)[0]]
    of_kernels = len(segments)
    assert bool(of_kernels) == (NUMBA and backend == "auto")

    compiled = torch.compile(whole, backend=graphs)
    own, own_hx = compiled(input)
    found = [own, *gradients(whole, own), compiled(input, own_hx)[0]]
    close(found, wanted)
    same(own_hx, hx, **CLOSE)
    assert len(segments) == 2 * of_kernels  # compiled, the kernels run too
    branch = compiled(input, own_hx)[0]  # a state goes on twice
    torch.testing.assert_close(branch, wanted[-1], **CLOSE)
    broken = model in (SAM, SDNC) or of_kernels > 0
    assert (graphs.graphs >= 3) if broken else (graphs.graphs == 2), graphs.graphs


def test_a_compiled_model_without_breaks() -> None:
    whole = Inside(build(DNC, backend="reference"))
    input = batch(whole.memory, steps=2)
    output = whole(input)[0]
    compiled = torch.compile(whole, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(input)[0], output, **CLOSE)
    whole = Inside(build(SAM, backend="reference"))
    compiled = torch.compile(whole, fullgraph=True, backend="eager")
    with pytest.raises(Unsupported, match="_outside_of_the_graph"):
        compiled(batch(whole.memory))


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        (DNC, "auto"),
        (SDNC, "reference"),
        *(slow(*own) for own in product([DNC, DAM], ["reference"])),
        *(slow(*own) for own in product([DAM, SDNC], ["auto"])),
    ],
)
def test_a_compiled_bidirectional_model_breaks_its_graph(model: Any, backend: str) -> None:
    whole = Inside(build(model, backend=backend, bidirectional=True))
    input = batch(whole.memory)
    output, _ = whole(input)
    compiled = torch.compile(whole, backend="eager")(input)[0]
    close([compiled, *gradients(whole, compiled)], [output, *gradients(whole, output)])


def test_a_bidirectional_model_is_refused_whole() -> None:
    module = build(DNC, backend="reference", bidirectional=True)
    with pytest.raises(Unsupported, match="bidirectional: expected False under"):
        torch.compile(module, fullgraph=True, backend="eager")(batch(module))
    with pytest.raises(Exception, match="bidirectional: expected False under"):
        torch.export.export(module, (batch(module),))


@pytest.mark.slow
@dense
def test_compiled_by_inductor(model: Any) -> None:
    module = build(model, backend="reference")
    input = batch(module)
    output, hx = module(input)
    wanted = [output, module(input, hx)[0], *gradients(module, output)]
    module.compile()
    own, own_hx = module(input)
    found = [own, module(input, own_hx)[0], *gradients(module, own)]
    close(found, wanted)


@pytest.mark.slow
def test_several_write_heads_compiled_whole_by_inductor() -> None:
    """A sequence, so that one allocation follows another in the graph."""
    module = build(DNC, backend="reference", write_heads=2)
    input = batch(module, steps=2)
    hx = detach_state(module(batch(module, steps=3, seed=1))[1])
    output, after = module(input, hx)
    wanted = [output, *after[1], *gradients(module, output)]
    own, own_after = torch.compile(module)(input, hx)
    close([own, *own_after[1], *gradients(module, own)], wanted)


# torch.export


class OneStep(nn.Module):
    """`DNC.step` as what a program is made of."""

    def __init__(self, memory: Any) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, input: Tensor, hx: Any) -> Any:
        return self.memory.step(input, hx)


def saved_and_loaded(program: Any) -> Any:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


@saves
@pytest.mark.parametrize("model", [DNC, slow(DAM)])
def test_export_of_a_sequence_with_a_dynamic_batch(model: Any) -> None:
    strict = model is DAM
    module = build(model)
    shapes, example = ({0: torch.export.Dim("batch")},), batch(module, steps=2)
    program = torch.export.export(module, (example,), dynamic_shapes=shapes, strict=strict)
    loaded = saved_and_loaded(program)
    for size in (1, 2, 7):
        input = batch(module, size, steps=2)
        output, hx = loaded(input)
        wanted, wanted_hx = module(input)
        torch.testing.assert_close(output, wanted, **CLOSE)
        same(hx, wanted_hx, **CLOSE)
        assert type(hx[1]) is type(wanted_hx[1])


@saves
def test_export_of_a_step_with_its_state() -> None:
    module = build(DNC)
    first = batch(module, steps=5)
    _, hx = module(first[:, :1])
    size = torch.export.Dim("batch")
    hidden = [tuple({1: size} for _ in layer) for layer in hx[0]]
    memory = DNCState(*({0: size} for _ in DNCState._fields))  # pyright: ignore
    program = torch.export.export(
        OneStep(module),
        (first[:, 0], detach_state(hx)),
        dynamic_shapes=({0: size}, (hidden, memory, {0: size})),
    )
    loaded, input = saved_and_loaded(program), batch(module, 5, steps=4)
    _, own = module.step(input[:, 0])
    others = own
    for step in range(1, 4):
        output, own = loaded(input[:, step], own)
        wanted, others = module.step(input[:, step], others)
        torch.testing.assert_close(output, wanted, **CLOSE)
    same(own, others, **CLOSE)


@sparse
def test_export_of_sparse_memories_is_refused(model: Any) -> None:
    module = build(model)
    with pytest.raises(MemcoreError, match=rf"{model.__name__}: expected to be run, got torch.exp"):
        torch.export.export(module, (batch(module),))
