"""The published checks: they accept our own functions and refuse, by name, what breaks a law."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import memcore
from memcore import cosine_similarity
from memcore.testing import checks
from memcore.testing.checks import calls

EXAMPLES = 25
ONE = [
    "allocation_weighting",
    "content_weighting",
    "directional_weightings",
    "link",
    "precedence",
    "read_weighting",
    "retention",
    "sparse_content_weighting",
    "sparse_write_weighting",
    "usage",
    "write_weighting",
]


def check_of(name: str) -> Callable[..., None]:
    return getattr(checks, f"check_{name}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ONE)
def test_our_own_functions_pass(name: str, dtype: torch.dtype) -> None:
    check_of(name)(getattr(memcore, name), dtype=dtype, examples=16)


def refused(name: str, function: Callable[..., Any], **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check_of(name)(function, **{"examples": EXAMPLES, **options})
    return str(caught.value)


def test_the_message_is_two_lines_to_read_and_paste() -> None:
    def without_product(usage: Tensor) -> Tensor:
        return (1 - usage) / (1 - usage).sum().clamp(min=1e-6)

    assert refused("allocation_weighting", without_product) == (
        "allocation_weighting: sums to 1 − ∏ usage: expected 0.5, got 1.0\n"
        "smallest counterexample: without_product(usage=torch.tensor([0.5], dtype=torch.float64))"
    )


# What people write: each looks right where no usage is 0 and none are equal.
def in_descending_order(usage: Tensor) -> Tensor:
    descending, order = usage.sort(descending=True)
    before = torch.cat([torch.ones_like(usage[:1]), descending[:-1]]).cumprod(0)
    return torch.zeros_like(usage).scatter(0, order, (1 - descending) * before)


def by_logarithms(usage: Tensor) -> Tensor:
    ascending, order = usage.sort(stable=True)
    before = torch.cat([torch.zeros_like(usage[:1]), ascending[:-1].log()]).cumsum(0).exp()
    return torch.zeros_like(usage).scatter(0, order, (1 - ascending) * before)


def divided(usage: Tensor) -> Tensor:
    ascending, order = usage.sort(stable=True)
    weights = (1 - ascending) * ascending.cumprod(0) / ascending
    return torch.zeros_like(usage).scatter(0, order, weights)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            in_descending_order,
            "the less used come first: expected 1.0 for the slots [1], got 0.5\n"
            "smallest counterexample: in_descending_order(usage=torch.tensor([0.5, 0.0], "
            "dtype=torch.float64))",
        ),
        (
            by_logarithms,
            "gradients are finite: expected finite numbers for usage, got [nan, 0.0]\n"
            "smallest counterexample: by_logarithms(usage=torch.tensor([0.0, 0.0], "
            "dtype=torch.float64, requires_grad=True))",
        ),
        (
            divided,
            "finite: expected finite numbers, got [nan]\n"
            "smallest counterexample: divided(usage=torch.tensor([0.0], dtype=torch.float64))",
        ),
    ],
)
def test_allocations_that_people_write(function: Callable[..., Tensor], message: str) -> None:
    assert refused("allocation_weighting", function) == f"allocation_weighting: {message}"


def to_first(weights: Tensor, share: Tensor) -> Tensor:
    """Move a share of each row's weight to the first slot."""
    first = torch.eye(weights.shape[-1], dtype=weights.dtype)[0]
    return weights * (1 - share) + share * weights.sum(-1, keepdim=True) * first


allocate, look_up = memcore.allocation_weighting, memcore.content_weighting
keep, use, move = memcore.retention, memcore.usage, memcore.directional_weightings
write, read = memcore.write_weighting.unchecked, memcore.read_weighting.unchecked
few = memcore.sparse_write_weighting.unchecked
last, join = memcore.precedence, memcore.link
seek = memcore.sparse_content_weighting


def first_head_half(gates: Tensor, weights: Tensor) -> Tensor:
    halves = torch.ones_like(gates)
    halves[: len(gates) - 1] = 0.5
    return keep(halves * gates, weights)


def last_slot(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    if len(values) == 1:
        return values
    return torch.cat([values[:-1], change(values[-1:])])


def no_decay_of_rows(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    new = (1 - weights) * links + weights[:, None] * before
    return new * (1 - torch.eye(len(links), dtype=links.dtype))


def as_in_rae(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    new = (1 - weights)[:, None] * links + weights[:, None] * before
    return new * (1 - torch.eye(len(links), dtype=links.dtype))


def with_diagonal(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    decay = (1 - weights[:, None] - weights).clamp(min=0)
    return decay * links + weights[:, None] * before


def half_linked(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    return join(links, weights, before / 2)


def first_row_weaker(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    less = (1 - weights * (1 - weights))[:1]
    scale = torch.cat([less, torch.ones_like(weights[1:])])
    return join(links, weights, before) * scale[:, None]


def swapped(links: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    forward, backward = move(links, weights)
    return backward, forward


def wavy(gates: Tensor) -> Tensor:
    return (gates + torch.sin(2 * torch.pi * gates) / 2).clamp(0, 1)


def interior(gate: Tensor) -> Tensor:
    return gate * (1 - gate)


def others(modes: Tensor) -> Tensor:
    mixed = 27 * modes.prod(-1)
    return (mixed.sum() - mixed)[:, None].clamp(0, 1)


# law: (a function that breaks it and none before it, the longest axis of the smallest
# counterexample)
Table = dict[str, tuple[Callable[..., Any], int]]
BROKEN: dict[str, Table] = {
    "allocation_weighting": {
        "non-negative": (lambda usage: allocate(usage) - 0.1, 1),
        "nothing where all slots are full": (lambda usage: allocate(usage).clamp(min=0.01), 1),
        "sums to 1 − ∏ usage": (lambda usage: 1 - usage, 2),
        "permuting the slots permutes the weights": (
            lambda usage: (1 - usage) * memcore.exclusive_cumulative_product(usage),
            2,
        ),
        "the less used come first": (in_descending_order, 2),
        "of equal usages the lowest slot comes first": (
            lambda usage: allocate(usage.flip(0)).flip(0),
            2,
        ),
    },
    "content_weighting": {
        "non-negative": (lambda rows, keys, _: cosine_similarity(rows, keys), 1),
        "each head's weights sum to 1": (
            lambda rows, keys, strengths: 0.9 * look_up(rows, keys, strengths),
            1,
        ),
        "uniform for a memory of zeros": (
            lambda rows, keys, strengths: to_first(look_up(rows, keys, strengths), torch.ones(())),
            2,
        ),
        "equal rows get equal weights": (
            lambda rows, keys, strengths: (
                cosine_similarity(rows, keys)
                * strengths[:, None]
                * torch.linspace(1, 0.9, len(rows), dtype=rows.dtype)
            ).softmax(-1),
            2,
        ),
        "each head is on its own": (
            lambda rows, keys, strengths: look_up(rows, keys, 0 * strengths + strengths.mean()),
            2,
        ),
        "permuting the rows permutes the weights": (
            lambda rows, keys, strengths: look_up(rows - rows[:1], keys, strengths),
            3,
        ),
        "a greater strength makes the best row weigh more": (
            lambda rows, keys, strengths: look_up(rows, keys, torch.ones_like(strengths)),
            2,
        ),
        "a row that points where the key does weighs most": (
            lambda rows, keys, strengths: look_up(-rows, keys, strengths),
            2,
        ),
        "scaling keys and rows changes nothing": (
            lambda rows, keys, strengths: look_up(
                rows, keys, strengths * (1 + keys.norm(dim=-1).clamp(max=10))
            ),
            2,
        ),
    },
    "directional_weightings": {
        "non-negative": (lambda *both: (move(*both)[0] - 0.1, move(*both)[1]), 1),
        "each head's weights sum to at most 1": (
            lambda *both: (move(*both)[0], 2 * move(*both)[1]),
            2,
        ),
        "each head is on its own": (
            lambda links, weights: move(links, weights.mean(0).expand_as(weights)),
            2,
        ),
        "permuting the slots permutes the weights": (
            lambda links, weights: move(links * torch.arange(len(links)).clamp(max=1), weights),
            2,
        ),
        "forward leads to the slots written after those read": (swapped, 2),
        "backward leads to the slots written before those read": (
            lambda *both: (move(*both)[0],) * 2,
            2,
        ),
    },
    "link": {
        "non-negative": (lambda *three: join(*three) - 0.1, 1),
        "the diagonal is 0": (with_diagonal, 1),
        "row sums at most 1": (no_decay_of_rows, 3),
        "column sums with the precedence at most 1": (as_in_rae, 2),
        "unchanged where nothing is written": (lambda *three: 0.9 * join(*three), 2),
        "a slot written is linked to the one written before": (half_linked, 2),
        "permuting the slots permutes both axes": (first_row_weaker, 2),
    },
    "precedence": {
        "non-negative": (lambda before, weights: last(before, weights) - 0.1, 1),
        "sums to at most 1": (lambda before, weights: before + weights, 1),
        "unchanged where nothing is written": (lambda *both: 0.9 * last(*both), 1),
        "a whole write replaces it": (
            lambda before, weights: (1 - weights.sum()).clamp(min=0) * before + weights / 2,
            1,
        ),
        "sums to what is left and what is written": (
            lambda before, weights: (1 - weights.sum()).square() * before + weights,
            1,
        ),
        "permuting the slots permutes the result": (
            lambda *both: to_first(last(*both), interior(both[1].sum()).clamp(0, 1)),
            2,
        ),
    },
    "read_weighting": {
        "non-negative": (lambda *four: read(*four) - 0.1, 1),
        "each head's weights sum to at most 1": (lambda *four: 1.5 * read(*four), 1),
        "backward mode alone gives the backward weighting": (
            lambda back, content, forward, modes: read(forward, content, back, modes),
            1,
        ),
        "content mode alone gives the content weighting": (
            lambda back, content, forward, modes: read(back, content / 2, forward, modes),
            1,
        ),
        "forward mode alone gives the forward weighting": (
            lambda back, content, forward, modes: read(back, content, back, modes),
            1,
        ),
        "sums to what the modes take of each": (
            lambda back, content, forward, modes: read(back, content, forward, modes.square()),
            1,
        ),
        "each head is on its own": (lambda *four: to_first(read(*four), others(four[3])), 2),
        "permuting the slots permutes the weights": (
            lambda *four: to_first(read(*four), four[3].prod(-1, keepdim=True)),
            2,
        ),
    },
    "retention": {
        "not negative, also where rounding took a weight above 1": (
            lambda gates, weights: (1 - gates[:, None] * weights).prod(0),
            1,
        ),
        "at most 1": (lambda *both: 1.1 * keep(*both), 1),
        "closed free gates keep everything": (lambda *both: 0.9 * keep(*both), 1),
        "a slot that no head reads is kept": (
            lambda gates, weights: keep(gates, weights) * (1 - gates.max() / 2),
            1,
        ),
        "an open free gate frees the slot that its head reads": (
            lambda gates, weights: keep(gates / 2, weights),
            1,
        ),
        "a wider free gate keeps no more": (lambda gates, weights: keep(wavy(gates), weights), 1),
        "the order of the heads does not matter": (first_head_half, 2),
        "permuting the slots permutes the result": (
            lambda *both: last_slot(keep(*both), torch.square),
            2,
        ),
    },
    "sparse_write_weighting": {
        "non-negative": (lambda *three: few(*three) - 0.1, 1),
        "a closed write gate writes nothing": (lambda *three: few(*three).clamp(min=0.01), 1),
        "sums to at most the write gate": (
            lambda weights, gate, between: few(len(weights) * weights, gate, between),
            2,
        ),
        "a closed interpolation gate writes to the least recently accessed slot": (
            lambda weights, gate, between: few(weights, gate, 1 - between),
            1,
        ),
        "an open interpolation gate writes what was read, the mean over the heads": (
            lambda weights, gate, between: few(
                weights.prod(0, keepdim=True).expand_as(weights), gate, between
            ),
            2,
        ),
        "proportional to the write gate": (
            lambda *three: few(*three) * (1 - interior(three[2]) * (1 - three[1])),
            1,
        ),
        "the interpolation gate shares between the slots read and the other": (
            lambda weights, gate, between: few(weights, gate, between.square()),
            1,
        ),
    },
    "usage": {
        "in [0, 1]": (lambda before, weights, kept: (before + weights) * kept, 1),
        "unchanged where nothing is written and all is retained": (
            lambda *three: 0.9 * use(*three),
            1,
        ),
        "a slot that is not retained is free": (
            lambda before, weights, kept: use(before, weights, (1 + kept) / 2),
            1,
        ),
        "a slot that is written wholly is in use": (
            lambda before, weights, kept: use(before, weights / 2, kept),
            1,
        ),
        "writing does not lower it": (
            lambda before, weights, kept: (before * (1 - weights) + weights.square()) * kept,
            1,
        ),
        "permuting the slots permutes the result": (
            lambda before, weights, kept: use(before, last_slot(weights, torch.square), kept),
            2,
        ),
    },
    "write_weighting": {
        "non-negative": (lambda *four: write(*four) - 0.1, 1),
        "a closed write gate writes nothing": (lambda *four: write(*four).clamp(min=0.01), 1),
        "sums to at most the write gate": (lambda *four: 1.5 * write(*four), 1),
        "an open allocation gate takes the allocation weighting": (
            lambda content, allocation, *gates: write(allocation, content, *gates),
            1,
        ),
        "a closed allocation gate takes the content weighting": (
            lambda content, *rest: write(content / 2, *rest),
            1,
        ),
        "proportional to the write gate": (
            lambda *four: write(*four) * (1 - interior(four[2]) * (1 - four[3])),
            1,
        ),
        "permuting the slots permutes the weights": (
            lambda *four: to_first(write(*four), interior(four[2])),
            2,
        ),
    },
    "sparse_content_weighting": {
        "non-negative": (lambda *three: seek(*three) - 0.6, 2),
        "each head's weights sum to 1": (lambda *three: 0.9 * seek(*three), 1),
        "uniform for a memory of zeros": (
            lambda *three: to_first(seek(*three), torch.ones(())),
            2,
        ),
        "each head is on its own": (
            lambda rows, keys, strengths: seek(rows[:1].expand_as(rows), keys, strengths),
            2,
        ),
        "a row that points where the key does weighs most": (
            lambda rows, keys, strengths: seek(-rows, keys, strengths),
            2,
        ),
    },
}
# A fifth of them each time, the others with ``-m slow``.
PAIRS = [
    pytest.param(name, law, marks=[pytest.mark.slow] if place % 5 else [])
    for name, table in BROKEN.items()
    for place, law in enumerate(table)
]


def sizes_in(counterexample: str) -> list[int]:
    """The sizes of the tensors of a call, which is run for it."""
    sizes: list[int] = []

    def noted(*own: Tensor, **named: Tensor) -> None:
        sizes.extend(size for value in (*own, *named.values()) for size in value.shape)

    names = re.findall(r"^(\w+)\(", counterexample)
    exec(counterexample, {"torch": torch, **dict.fromkeys(names, noted)})
    return sizes


@pytest.mark.parametrize(("name", "law"), PAIRS, ids=lambda text: text.replace(" ", "_"))
def test_what_breaks_a_law_is_refused_by_its_name(name: str, law: str) -> None:
    function, size = BROKEN[name][law]
    message = refused(name, function, gradients=False, vmap=False)
    assert message.startswith(f"{name}: {law}: expected "), message
    counterexample = message.split("smallest counterexample:")[1].strip()
    modes = 3 if name == "read_weighting" else 1
    assert max(sizes_in(counterexample), default=1) == max(size, modes), message


@pytest.mark.parametrize("name", ONE)
def test_every_law_has_a_function_that_breaks_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(calls, "refute", lambda what, laws, *_: asked.extend(laws))
    check_of(name)(lambda: None, vmap=False, gradients=False)
    if name == "sparse_content_weighting":  # whose laws are those of the dense form
        assert set(BROKEN[name]) <= set(asked)
    else:
        assert ["the same call gives the same result", *BROKEN[name]] == asked


def noisy(usage: Tensor) -> Tensor:
    return allocate(usage) * (1 - torch.rand(()) / 2)


def of_two_slots(usage: Tensor) -> Tensor:
    if len(usage) == 2:
        raise IndexError("no room")
    return allocate(usage)


def changing(usage: Tensor) -> Tensor:
    weights = allocate(usage)
    usage.mul_(0.5)
    return weights


def looking(usage: Tensor) -> Tensor:
    return allocate(usage) if usage.sum().item() >= 0 else usage


def of_the_batch(usage: Tensor) -> Tensor:
    return allocate(usage) if torch._C._functorch.maybe_current_level() is None else usage  # pyright: ignore


def in_place(usage: Tensor) -> Tensor:
    return allocate(usage) if not usage.requires_grad else allocate(usage.neg_().neg_())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            of_two_slots,
            r"raises nothing: expected a result, got IndexError: no room\n"
            r"smallest counterexample: of_two_slots\(usage=torch.tensor\(\[0.0, 0.0\], ",
        ),
        (lambda usage: [allocate(usage)], r"type: expected a tensor, got list\n.*\(\[0.0\], "),
        (lambda usage: (usage, usage), r"type: expected a tensor, got \(Tensor, Tensor\)\n"),
        (lambda usage: allocate(usage)[:, None], r"shape: expected \[1\], got \[1, 1\]\n"),
        (
            lambda usage: allocate(usage).double(),
            "dtype: expected torch.float32, got torch.float64",
        ),
        (
            lambda usage: allocate(usage) / usage.sum(),
            r"finite: expected finite numbers, got \[inf",
        ),
        (changing, r"arguments are left unchanged: expected usage \[1.0\] afterwards, got \[0.5\]"),
        (noisy, "the same call gives the same result: expected .* again, got "),
        (in_place, "gradients are finite: expected a gradient, got RuntimeError: a leaf"),
        (looking, "vmap over a batch equals a loop: expected a result, got RuntimeError: vmap: "),
        (
            of_the_batch,
            r"vmap over a batch equals a loop: expected \[\[1.0\], \[1.0\]\], got \[\[0",
        ),
    ],
)
def test_what_no_function_may_do(function: Callable[..., Any], message: str) -> None:
    assert re.match(f"allocation_weighting: {message}", refused("allocation_weighting", function))


def test_the_error_of_the_function_is_chained() -> None:
    with pytest.raises(AssertionError) as caught:
        checks.check_allocation_weighting(of_two_slots, examples=EXAMPLES)
    assert isinstance(caught.value.__cause__, IndexError)


def test_the_same_function_gets_the_same_answer() -> None:
    first, second = (refused("write_weighting", lambda *four: write(*four) * 2) for _ in range(2))
    assert first == second


def test_conventions_can_be_left_out() -> None:
    def highest_first(usage: Tensor) -> Tensor:
        return allocate(usage.flip(0)).flip(0)

    def by_product(rows: Tensor, keys: Tensor, strengths: Tensor) -> Tensor:
        return (strengths[:, None] * (keys @ rows.mT)).softmax(-1)

    checks.check_allocation_weighting(highest_first, stable=False, examples=EXAMPLES)
    checks.check_content_weighting(by_product, cosine=False, examples=EXAMPLES)
    message = refused("content_weighting", by_product)
    assert message.startswith("content_weighting: a row that points where the key does weighs most")


def test_options() -> None:
    def with_epsilon(usage: Tensor) -> Tensor:
        return allocate(1e-6 + (1 - 1e-6) * usage)

    assert "0.999999" in refused("allocation_weighting", with_epsilon)
    checks.check_allocation_weighting(with_epsilon, tolerance=1e-5, examples=EXAMPLES)
    checks.check_allocation_weighting(looking, vmap=False, examples=EXAMPLES)
    checks.check_allocation_weighting(by_logarithms, gradients=False, examples=EXAMPLES)
    float32 = refused("allocation_weighting", lambda usage: 1 - usage, dtype=torch.float32)
    assert float32.endswith("function(usage=torch.tensor([0.0, 0.0]))")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"example": 3}, TypeError, "example: expected one of the options examples, dtype"),
        ({"examples": 0}, ValueError, "examples: expected an int of at least 1, got 0"),
        ({"examples": 2.5}, TypeError, "examples: expected an int, got float"),
        ({"dtype": torch.float16}, ValueError, "dtype: expected torch.float32 or torch.float64"),
    ],
)
def test_wrong_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        checks.check_usage(memcore.usage, **options)
    with pytest.raises(TypeError):
        checks.check_usage(3)  # pyright: ignore[reportArgumentType]


SCRIPT = """
import sys
{before}
from memcore.testing import check_allocation_weighting

def mine(usage):
    return 1 - usage

check_allocation_weighting(mine, examples=20)
"""


def run(before: str) -> str:
    command = [sys.executable, "-W", "error", "-c", SCRIPT.format(before=before)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.stdout == ""
    return ran.stderr


def test_a_script_ends_with_the_counterexample() -> None:
    """And with nothing of hypothesis."""
    said = run("")
    assert said.endswith(
        "AssertionError: allocation_weighting: sums to 1 − ∏ usage: expected 1.0, got 2.0\n"
        "smallest counterexample: mine(usage=torch.tensor([0.0, 0.0], dtype=torch.float64))\n"
    )
    assert "hypothesis" not in said


def test_without_hypothesis_a_line_says_how_to_install_it() -> None:
    said = run("sys.modules['hypothesis'] = None")
    assert said.splitlines()[-1].startswith(
        "ImportError: memcore.testing.strategies needs hypothesis: pip"
    )
