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
from broken_functions import BROKEN, in_descending_order
from memcore.testing import checks
from memcore.testing.checks import calls

EXAMPLES = 25
allocate, write = memcore.allocation_weighting, memcore.write_weighting.unchecked
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
