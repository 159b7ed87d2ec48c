"""Options of later papers in modules: what they do, what they refuse, and that backends agree."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from memcore import MemcoreError, make_index, sam
from memcore.backends import NUMBA
from memcore.index.exact import AllRowsIndex
from memcore.options import SAMOptions
from modules import CLOSE, X, batch, build, every_model, gradients, same
from torch_adapters import (
    DAM,
    DNC,
    SAM,
    SDNC,
    detach_state,
    select_state,
    state_from_dict,
    state_to_dict,
)

sparse = pytest.mark.parametrize("model", [SAM, SDNC])
DOUBLE: dict[str, Any] = {"dtype": torch.float64}
BOTH = [
    "reference",
    pytest.param("numba", marks=pytest.mark.skipif(not NUMBA, reason="needs numba")),
]


def test_what_a_module_is_made_of() -> None:
    options = {"masking": True, "link_sharpness": True, "write_heads": 2, "temperature": 2.0}
    module = build(DNC, **options)
    assert (
        sum(module.cell.interface_sizes.values()) == module.interfaces[0].parts["all"].out_features
    )
    _, (_, memory, _) = module(batch(module))
    assert memory.write_weights.shape == (3, 2, 5)
    assert memory.link.shape == (3, 2, 5, 5)
    assert "write_heads=2" in repr(module)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (DNC, {"mask_minimum": 0.1}, MemcoreError, "mask_minimum: expected 0 without masking"),
        (SAM, {"write_heads": 2}, TypeError, "write_heads"),
        (DAM, {"deallocation": True}, TypeError, "deallocation"),
        (SDNC, {"link_sharpness": True}, TypeError, "link_sharpness"),
        (
            SAM,
            {"masking": True, "index": "faiss"},
            MemcoreError,
            "index: expected 'auto', 'exact' or one",
        ),
        (
            DNC,
            {"bypass_dropout": 1},
            MemcoreError,
            r"bypass_dropout: expected a number in \[0, 1\)",
        ),
        (DNC, {"layer_norm": 1}, TypeError, "layer_norm: expected a bool, got int"),
        (DAM, {"learned_memory": None}, TypeError, "learned_memory: expected a bool"),
        (DNC, {"temperature": -1}, MemcoreError, "temperature: expected a finite number above 0"),
    ],
)
def test_options_that_do_not_go_together(
    model: Any, options: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        build(model, **options)


@every_model
def test_masks_of_ones_and_a_temperature_of_one_change_nothing(model: Any) -> None:
    plain, masked = build(model), build(model, masking=True)
    interface, wide = plain.interfaces[0].parts["all"], masked.interfaces[0].parts["all"]
    same_weights = {
        name: value for name, value in plain.state_dict().items() if "interfaces" not in name
    }
    masked.load_state_dict(same_weights, strict=False)
    with torch.no_grad():
        wide.weight.zero_()
        wide.bias.fill_(50.0)  # of the sigmoid 1
        wide.weight[: interface.out_features] = interface.weight
        wide.bias[: interface.out_features] = interface.bias
        input = batch(plain)
        expected, hx = plain(input)
        output, masked_hx = masked(input)
    torch.testing.assert_close(output, expected, **CLOSE)
    if model in (DNC, DAM):
        same(masked_hx[1], hx[1], **CLOSE)


# ADNC


@every_model
@pytest.mark.parametrize("backend", BOTH)
def test_bypass_dropout_is_between_the_controller_and_the_output(model: Any, backend: str) -> None:
    module = build(model, bypass_dropout=0.5, backend=backend)
    input = batch(module)
    module.eval()
    expected, hx = module(input)
    same(build(model, backend=backend)(input)[0], expected)
    module.train()
    torch.manual_seed(3)
    output, dropped_hx = module(input)
    assert not torch.equal(output, expected)
    same(dropped_hx, hx)  # nothing of it gets into the recurrence
    torch.manual_seed(3)
    same(module(input)[0], output)


@every_model
def test_layer_norm_is_on_the_whole_interface_vector(model: Any) -> None:
    module = build(model, layer_norm=True)
    size = sum(module.cell.interface_sizes.values())
    norm = module.interfaces[0].norm
    assert isinstance(norm, nn.LayerNorm)
    assert norm.normalized_shape == (size,)
    hidden = torch.randn(4, module.hidden_size, dtype=torch.float64)
    vectors = module.interfaces[0](hidden)
    torch.testing.assert_close(vectors.mean(-1), torch.zeros(4, dtype=torch.float64))
    output, _ = module(batch(module))
    assert all(gradient.isfinite().all() for gradient in gradients(module, output))
    if not NUMBA:
        return
    assert module.backend_of(batch(module)).name == "numba"
    changes: list[tuple[dict[str, Any], str]] = [
        ({"eps": 1e-3}, "interfaces[0].norm has an eps of its own"),
        ({"elementwise_affine": False}, "interfaces[0].norm has no weight or no bias"),
    ]
    for change, reason in changes:
        own = nn.LayerNorm(size, dtype=torch.float64, **change)
        module.interfaces[0].norm = own
        assert module.backend_of(batch(module)).reason == reason
    module.interfaces[0].norm = None
    assert module.backend_of(batch(module)).name == "numba"
    two = build(model, layer_norm=True, num_layers=2)
    two.interfaces[1].norm = None
    assert two.backend_of(batch(two)).reason == "interfaces[1].norm is missing"
    two = build(model, num_layers=2)
    two.interfaces[1].norm = nn.LayerNorm(size, dtype=torch.float64)
    assert two.backend_of(batch(two)).reason == "interfaces[1].norm is new"


@every_model
@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("rnn_type", ["lstm", "gru", "rnn"])
def test_bidirectional_reads_what_comes_after(model: Any, backend: str, rnn_type: str) -> None:
    """An output knows the input after it; and is what an RNN over the reversed one adds."""
    module = build(model, bidirectional=True, rnn_type=rnn_type, backend=backend, output_size=4)
    input = batch(module)
    output, hx = module(input)
    changed = input.clone()
    changed[:, -1] += 1
    assert not torch.equal(module(changed)[0][:, 0], output[:, 0])
    # The memory does not.
    before = module(input[:, :-1])[1], module(changed[:, :-1])[1]
    same(*before)

    back = module.reverse.rnn(input.transpose(0, 1).flip(0))[0].flip(0).transpose(0, 1)
    weight = module.output.weight[:, -module.hidden_size :]
    alone = build(model, rnn_type=rnn_type, backend=backend, output_size=4)
    kept = {name: value for name, value in module.state_dict().items() if "reverse" not in name}
    kept["output.weight"] = module.output.weight[:, : -module.hidden_size]
    alone.load_state_dict(kept)
    expected, alone_hx = alone(input)
    torch.testing.assert_close(output, expected + back @ weight.mT, **CLOSE)
    same(hx, alone_hx)


@every_model
def test_bidirectional_packed_examples_are_what_they_are_alone(model: Any) -> None:
    module = build(model, bidirectional=True)
    lengths = (2, 4, 1)
    rows = [torch.randn(length, X, dtype=torch.float64) for length in lengths]
    packed, _ = module(pack_sequence(rows, enforce_sorted=False))
    padded, _ = pad_packed_sequence(packed, batch_first=True)
    for example, row in enumerate(rows):
        alone, _ = module(row[None])
        torch.testing.assert_close(padded[example, : len(row)], alone[0], **CLOSE)


@every_model
def test_bidirectional_needs_whole_sequences(model: Any) -> None:
    module = build(model, bidirectional=True)
    input = batch(module)
    _, hx = module(input)
    with pytest.raises(MemcoreError, match="hx: expected None with bidirectional=True"):
        module(input, hx)
    start = torch.zeros(3, 4, dtype=torch.bool)
    with pytest.raises(MemcoreError, match="episode_start: expected None with bidirectional=True"):
        module(input, episode_start=start)
    with pytest.raises(MemcoreError, match="step: expected bidirectional=False, got True"):
        module.step(input[:, 0])


@pytest.mark.parametrize("model", [DNC, DAM])
def test_bidirectional_takes_no_part_in_transforms(model: Any) -> None:
    module = build(model, bidirectional=True)
    input = batch(module)
    with pytest.raises(MemcoreError, match="^bidirectional: expected False under torch.func"):
        torch.func.vmap(lambda one: module(one[None])[0])(input)
    with pytest.raises(MemcoreError, match="^bidirectional: expected False under torch.func"):
        torch.func.grad(lambda own: module(own)[0].sum())(input)


# A feed-forward controller


@every_model
@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize(("nonlinearity", "bias"), [("tanh", True), ("relu", False)])
def test_a_feed_forward_controller(model: Any, backend: str, nonlinearity: str, bias: bool) -> None:
    """Each layer is ``φ(W x + b)``; nothing but the memory goes from one step to the next."""
    options = {"rnn_type": "linear", "nonlinearity": nonlinearity, "bias": bias}
    module = build(model, num_hidden_layers=2, backend=backend, **options)
    input = batch(module)
    output, hx = module(input)
    rows, top, (_, memory, reads) = [], input[:, 0], module(input[:, :1])[1]
    for time in range(1, input.shape[1]):
        top = torch.cat([input[:, time], reads], 1)
        for layer in module.controllers[0].cells:
            product = top @ layer.weight.mT
            top = getattr(torch, nonlinearity)(product + layer.bias if bias else product)
        vectors = module.interfaces[0](top)
        reads, memory = module.cell.step(memory, vectors)
        rows.append(module.output(torch.cat([top, reads], 1)))
    torch.testing.assert_close(output[:, 1:], torch.stack(rows, 1), **CLOSE)
    torch.testing.assert_close(hx[0][0][-1], top, **CLOSE)

    # Its state is its last output, and is not looked at.
    spoilt = [torch.full_like(state, torch.nan).requires_grad_() for state in hx[0]]
    wanted, expected = module(input, (hx[0], *hx[1:])), module(input, (spoilt, *hx[1:]))
    same(wanted[0], expected[0])
    same(wanted[1][1], expected[1][1])
    found = torch.autograd.grad(expected[0].sum(), spoilt, allow_unused=True)
    assert all(gradient is None for gradient in found)


def test_a_feed_forward_controller_in_words() -> None:
    cell = build(DNC, rnn_type="linear").controllers[0].cells[0]
    assert "nonlinearity=tanh" in repr(cell)
    with pytest.raises(MemcoreError, match=r"^bidirectional: expected False with rnn_type='line"):
        build(DNC, rnn_type="linear", bidirectional=True)


# A learned memory


@every_model
@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("share", [True, False])
def test_an_empty_memory_holds_the_learned_row(model: Any, backend: str, share: bool) -> None:
    options = {"num_layers": 2, "share_memory": share, "backend": backend}
    module = build(model, learned_memory=True, **options)
    assert module.memory_rows.shape == (1 if share else 2, 4)
    input = batch(module)
    output, hx = module(input)
    found = torch.autograd.grad(output.square().sum(), module.memory_rows)[0]
    assert found.isfinite().all()
    assert found.ne(0).any(1).all()
    # The same as a memory of that row, given.
    plain = build(model, **options)
    plain.load_state_dict(module.state_dict(), strict=False)
    begun = module.cell.init_state(3, dtype=torch.float64, device="cpu", row=module.memory_rows[0])
    if share:
        expected, other = plain(input, (None, begun, None))
        same(output, expected)
        same(hx, other)


@every_model
@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("packed", [False, True])
def test_who_begins_anew_has_the_learned_row(model: Any, backend: str, packed: bool) -> None:
    """By episode_start, reset_experience and in part; gradients of the row included."""
    module = build(model, learned_memory=True, backend=backend)
    lengths = (4, 3, 2) if packed else (4, 4, 4)
    rows = [torch.randn(length, X, dtype=torch.float64) for length in lengths]
    starts = torch.tensor([[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
    _, hx = module(batch(module))
    hx = detach_state(hx)
    with torch.no_grad():  # those who go on have the row of before
        module.memory_rows.add_(torch.arange(4) / 2)

    def run(input: Any, start: Any, hx: Any) -> Any:
        return module(input, hx, episode_start=start)

    if packed:
        given: Any = pack_sequence(rows)
        flags: Any = pack_sequence([starts[i, : len(row)] for i, row in enumerate(rows)])
    else:
        given, flags = torch.stack(rows), starts
    output, after = run(given, flags, hx)
    whole = pad_packed_sequence(output, batch_first=True)[0] if packed else output
    wanted = []
    for example, row in enumerate(rows):
        begin = [0, *[int(at) for at in starts[example, : len(row)].nonzero()], len(row)]
        state, parts = select_state(hx, [example]), []
        for first, last in pairwise(begin):
            if first:
                state = None
            part, state = module(row[None, first:last], state)
            parts.append(part[0])
        wanted.append(torch.cat(parts))
        same(select_state(after, [example]), state, **CLOSE)
        torch.testing.assert_close(whole[example, : len(row)], wanted[-1], **CLOSE)
    used = [*module.parameters()]
    ones = torch.autograd.grad(
        sum((whole[i, : len(row)].square().sum() for i, row in enumerate(rows)), torch.zeros(())),
        used, materialize_grads=True,
    )  # fmt: skip
    others = torch.autograd.grad(
        sum((part.square().sum() for part in wanted), torch.zeros(())), used, materialize_grads=True
    )
    for one, other in zip(ones, others, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


# More slots, without training


@every_model
@pytest.mark.parametrize("backend", BOTH)
def test_resized(model: Any, backend: str) -> None:
    module, large = build(model, backend=backend), build(model, nr_cells=9, backend=backend)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    _, hx = module(batch(module))
    module.resize(9)
    same(module(batch(module)), large(batch(large)))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(MemcoreError, match=r"hx\[1\]"):
        module(batch(module), hx)
    module.resize(9, temperature=2)
    assert not torch.equal(module(batch(module))[0], large(batch(large))[0])
    with pytest.raises(MemcoreError, match="nr_cells: expected an int of at least 1, got 0"):
        module.resize(0)
    assert module.cell.nr_cells == 9


@sparse
def test_the_index_of_a_resized_memory(model: Any) -> None:
    """One that the module was given is for so many slots."""
    module = build(model, index=make_index("exact", batch_size=3, slots=5, word_size=4, **DOUBLE))
    message = "^nr_cells: expected 5, for which the WrittenRowsIndex was made .*, got 9"
    with pytest.raises(MemcoreError, match=message):
        module.resize(9)
    assert module.cell.nr_cells == 5
    module.resize(5, temperature=2)
    module(batch(module))


@sparse
@pytest.mark.parametrize(
    ("index", "kind", "message"),
    [
        (3, TypeError, "^index: expected"),
        ("nope", MemcoreError, "^index: expected one of"),
        ("faiss", MemcoreError, "^index: expected 'auto', 'exact' or one .*, got 'faiss'"),
    ],
)
def test_what_finds_rows_with_masks(model: Any, index: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        build(model, index=index, masking=True)


@pytest.mark.parametrize("model", [DNC, DAM])
def test_a_state_does_not_follow_the_learned_row(model: Any) -> None:
    module = build(model, learned_memory=True, backend="reference")
    _, hx = module(batch(module), pass_through_memory=False)
    before = hx[1].memory.detach().clone()
    with torch.no_grad():
        module.memory_rows.add_(1)
    same(hx[1].memory.detach(), before)


@sparse
@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize(
    "made",
    [{"slots": 4}, {"slots": 9}, {"word_size": 3}, {"dtype": torch.float32}],
    ids=lambda made: str(next(iter(made))),
)
@pytest.mark.parametrize("name", ["exact", "auto", "faiss", "flann", "all rows"])
def test_an_index_of_other_sizes_is_refused(model: Any, backend: str, made: Any, name: str) -> None:
    """Kernels would write beyond its table."""
    if name in ("faiss", "flann"):
        pytest.importorskip({"faiss": "faiss", "flann": "pyflann"}[name])
    sizes = {"batch_size": 3, "slots": 5, "word_size": 4, "dtype": torch.float64, **made}
    of_all = name == "all rows"
    index = AllRowsIndex(*list(sizes.values())[:3], dtype=sizes["dtype"]) if of_all else None
    module = build(model, index=index or make_index(name, **sizes), backend=backend)
    with pytest.raises(MemcoreError, match=r"^index: expected one for 5 slots of 4 numbers"):
        module(batch(module))


# What searches by masked keys


@sparse
def test_an_index_of_ones_own_searches_with_masks(model: Any) -> None:
    """Asked by kernels in the middle of each step, as by the reference."""
    found = {}
    for backend in ["reference", "numba"] if NUMBA else ["reference"]:
        index = AllRowsIndex(3, 5, 4, dtype=torch.float64)
        module = build(model, index=index, masking=True, backend=backend, num_layers=2)
        output, hx = module(batch(module))
        found[backend] = output, hx, gradients(module, output)
    exact = build(model, masking=True, index="exact", num_layers=2)
    wanted, state = exact(batch(exact))
    expected = gradients(exact, wanted)
    for output, hx, slopes in found.values():
        torch.testing.assert_close(output, wanted, **CLOSE)
        same(hx, state, **CLOSE)
        for one, other in zip(slopes, expected, strict=True):
            torch.testing.assert_close(one, other, **CLOSE)


@sparse
def test_a_saved_state_of_a_masked_memory_is_masked_again(model: Any) -> None:
    """Whatever index it had: one of one's own comes back as exact search."""

    class Own(AllRowsIndex):
        def empty(self, batch_size: int) -> Own:
            return Own(batch_size, *self._shape[1:], dtype=torch.float64)

    module = build(model, index=Own(3, 5, 4, dtype=torch.float64), masking=True)
    _, hx = module(batch(module))
    input = batch(module, seed=1)
    same(module(input, state_from_dict(state_to_dict(hx)))[0], module(input, hx)[0], **CLOSE)


@pytest.mark.parametrize("backend", BOTH)
def test_an_index_that_knows_no_masks_is_refused(backend: str) -> None:
    """Where a state was made without masks in mind; it stays what it was."""
    options = SAMOptions(masking=True)
    state = sam.init_state(2, 8, 4, 1, 2, dtype=torch.float64, index="auto")
    vectors = torch.randn(2, sam.interface_size(4, 1, options=options), dtype=torch.float64)
    plain = vectors[:, : sam.interface_size(4, 1)]
    expected = sam.batched_step(state, plain, backend=backend)
    with pytest.raises(MemcoreError, match=r"^index: expected one that searches with masks"):
        sam.batched_step(state, vectors, options=options, backend=backend)
    same(sam.batched_step(state, plain, backend=backend)[0], expected[0])
