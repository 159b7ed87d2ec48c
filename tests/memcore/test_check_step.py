"""The checks over time: links along writes, and whole steps of a DNC."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

import memcore
from memcore import dnc
from memcore.testing import checks
from memcore.testing.checks import rollout
from memcore.testing.checks import step as step_check

EXAMPLES = 25
# A fifth of them each time, the others with ``-m slow``.


def some_of(laws: Iterable[str]) -> list[Any]:
    return [
        pytest.param(law, marks=[pytest.mark.slow] if place % 5 else [])
        for place, law in enumerate(laws)
    ]


both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@both_dtypes
def test_our_own_functions_pass(dtype: torch.dtype) -> None:
    checks.check_linkage(memcore.link, memcore.precedence, dtype=dtype, examples=20)
    checks.check_step(dnc.step, dtype=dtype, examples=20)


def off_diagonal(links: Tensor) -> Tensor:
    return links * (1 - torch.eye(len(links), dtype=links.dtype))


def as_in_rae(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    return off_diagonal((1 - weights)[:, None] * links + weights[:, None] * before)


def with_diagonal(links: Tensor, weights: Tensor, before: Tensor) -> Tensor:
    decay = (1 - weights[:, None] - weights).clamp(min=0)
    return decay * links + weights[:, None] * before


def never_less(before: Tensor, weights: Tensor) -> Tensor:
    return before + weights


def follow(links: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    forward, backward = memcore.directional_weightings.unchecked(links, weights)
    return forward, 2 * backward + weights


OWN = {
    "link": memcore.link,
    "precedence": memcore.precedence,
    "directional_weightings": memcore.directional_weightings,
}
BROKEN_LINKAGE: dict[str, dict[str, Callable[..., Any]]] = {
    "precedence non-negative, sums to at most 1": {"precedence": never_less},
    "links non-negative": {"link": lambda *three: memcore.link.unchecked(*three) - 0.1},
    "the diagonal of the links is 0": {"link": with_diagonal},
    "row sums of the links at most 1": {"link": lambda *three: 2 * memcore.link.unchecked(*three)},
    "column sums of the links with the precedence at most 1": {"link": as_in_rae},
    "directional weightings non-negative": {
        "directional_weightings": lambda links, weights: (weights - 0.1, weights)
    },
    "directional weightings sum to at most 1": {"directional_weightings": follow},
}


@pytest.mark.parametrize("law", some_of(BROKEN_LINKAGE), ids=lambda law: law.replace(" ", "_"))
def test_links_that_break_a_law(law: str) -> None:
    functions = {**OWN, **BROKEN_LINKAGE[law]}
    with pytest.raises(AssertionError) as caught:
        checks.check_linkage(**functions, examples=EXAMPLES)
    message = str(caught.value)
    assert message.startswith(f"linkage: {law}: expected "), message
    script = message.split("smallest counterexample:\n")[1]
    by_name = {getattr(own, "__name__", ""): own for own in functions.values()}
    names: dict[str, Any] = {"torch": torch, "function": by_name.get("<lambda>"), **by_name}
    exec(script, names)
    assert len(names["last"]) <= 2, message


def test_the_shortest_rollout_is_printed() -> None:
    with pytest.raises(AssertionError) as caught:
        checks.check_linkage(memcore.link, never_less, examples=EXAMPLES)
    assert str(caught.value) == (
        "linkage: precedence non-negative, sums to at most 1: expected at most 1, got 2.0\n"
        "smallest counterexample:\n"
        "links, last = torch.zeros(1, 1, dtype=torch.float64), "
        "torch.zeros(1, dtype=torch.float64)\n"
        "written = torch.tensor([1.0], dtype=torch.float64)\n"
        "links, last = link(links, written, last), never_less(last, written)\n"
        "written = torch.tensor([1.0], dtype=torch.float64)\n"
        "links, last = link(links, written, last), never_less(last, written)"
    )


Change = Callable[[dnc.DNCState, dnc.DNCInterface], dict[str, Tensor]]


def after(change: Change) -> Callable[..., Any]:
    """Our own step, some of whose fields are changed afterwards."""

    def step(state: dnc.DNCState, interface: dnc.DNCInterface) -> tuple[Tensor, dnc.DNCState]:
        reads, new = dnc.step(state, interface)
        return reads, new._replace(**change(new, interface))

    return step


def before(change: Change) -> Callable[..., Any]:
    def step(state: dnc.DNCState, interface: dnc.DNCInterface) -> tuple[Tensor, dnc.DNCState]:
        return dnc.step(state._replace(**change(state, interface)), interface)

    return step


def first_column(links: Tensor) -> Tensor:
    return torch.eye(len(links), dtype=links.dtype)[0].expand_as(links)


def always_writes(state: dnc.DNCState, interface: dnc.DNCInterface) -> Any:
    return dnc.step(state, interface._replace(write_gate=torch.ones_like(interface.write_gate)))


def first_slot_fades(state: dnc.DNCState, interface: dnc.DNCInterface) -> dict[str, Tensor]:
    fading = 1 - interface.write_gate / 2 * torch.eye(len(state.memory), dtype=state.memory.dtype)
    return {"memory": state.memory * fading[:, :1]}


def noisy(state: dnc.DNCState, interface: dnc.DNCInterface) -> Any:
    return dnc.step(state._replace(usage=torch.rand_like(state.usage)), interface)


# law: (a step that breaks it and none before it, slots and steps of the smallest counterexample)
BROKEN: dict[str, tuple[Callable[..., Any], int, int]] = {
    "the same call gives the same result": (noisy, 2, 1),
    "usage in [0, 1]": (after(lambda state, _: {"usage": state.usage + 1.1}), 1, 1),
    "write weights on the sub-simplex": (
        after(lambda state, _: {"write_weights": state.write_weights - 0.1}),
        1,
        1,
    ),
    "write weights sum to at most the write gate": (always_writes, 1, 1),
    "links in [0, 1]": (after(lambda state, _: {"link": state.link - 0.1}), 1, 1),
    "the diagonal of the links is 0": (
        after(lambda state, _: {"link": torch.eye(len(state.link), dtype=state.link.dtype)}),
        1,
        1,
    ),
    "row sums of the links at most 1": (
        after(lambda state, _: {"link": off_diagonal(torch.ones_like(state.link))}),
        3,
        1,
    ),
    "precedence on the sub-simplex": (
        after(lambda state, _: {"precedence": state.precedence + 1.1}),
        1,
        1,
    ),
    "column sums of the links with the precedence at most 1": (
        after(lambda state, _: {"link": off_diagonal(first_column(state.link))}),
        2,
        1,
    ),
    "read weights on the sub-simplex": (
        after(lambda state, _: {"read_weights": 2 * state.read_weights}),
        1,
        1,
    ),
    "reads are the memory as the read weights say": (
        lambda *both: (2 * dnc.step(*both)[0], dnc.step(*both)[1]),
        1,
        1,
    ),
    "a closed write gate leaves memory, links and precedence": (
        before(lambda state, _: {"memory": 0.9 * state.memory}),
        1,
        2,
    ),
    "permuting the slots of distinct usages permutes the result": (before(first_slot_fades), 2, 2),
}


def refused(step: Callable[..., Any], **options: Any) -> str:
    options = {"examples": EXAMPLES, **options}
    with pytest.raises(AssertionError) as caught:
        checks.check_step(step, **options)
    return str(caught.value)


def test_every_law_has_functions_that_break_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(BROKEN) == list(step_check.LAWS)
    asked: list[str] = []
    monkeypatch.setattr(rollout, "refute", lambda what, laws, *_: asked.extend(laws))
    checks.check_linkage(memcore.link, memcore.precedence)
    assert list(BROKEN_LINKAGE) == asked


@pytest.mark.parametrize("law", some_of(BROKEN), ids=lambda law: law.replace(" ", "_"))
def test_a_step_that_breaks_a_law(law: str) -> None:
    step, slots, steps = BROKEN[law]
    message = refused(step, gradients=False, vmap=False)
    assert message.startswith(f"step: {law}: expected "), message
    names: dict[str, Any] = {
        **dict.fromkeys(("step", "function", step.__name__), step),
        "torch": torch,
        "init_state": dnc.init_state,
        "DNCInterface": dnc.DNCInterface,
    }
    script = message.split("smallest counterexample:\n")[1]
    exec(script, names)
    assert len(names["state"].usage) <= slots, message
    assert script.count("reads, state =") <= steps, message


def changing(state: dnc.DNCState, interface: dnc.DNCInterface) -> Any:
    result = dnc.step(state, interface)
    interface.write_gate.fill_(0.5)
    return result


def rootless(state: dnc.DNCState, interface: dnc.DNCInterface) -> Any:
    reads, new = dnc.step(state, interface)
    return reads + 0 * interface.write_key.square().sum().sqrt(), new


def looking(state: dnc.DNCState, interface: dnc.DNCInterface) -> Any:
    return dnc.step(state, interface) if interface.write_gate.item() >= 0 else None


def failing(state: dnc.DNCState, interface: dnc.DNCInterface) -> Any:
    raise IndexError("no room")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (failing, "raises nothing: expected a result, got IndexError: no room\n"),
        (
            lambda *both: dnc.step(*both)[1],
            "type: expected (read_vectors, state), got a DNCState\n",
        ),
        (lambda *both: (dnc.step(*both)[0], ()), "type: expected a named tuple with the fields of"),
        (
            after(lambda state, _: {"usage": state.usage[:, None]}),
            "shape: expected state.usage [1], got [1, 1]\n",
        ),
        (
            lambda *both: (dnc.step(*both)[0].float(), dnc.step(*both)[1]),
            "dtype: expected read_vectors torch.float64, got torch.float32\n",
        ),
        (
            after(lambda state, _: {"memory": state.memory / 0}),
            "finite: expected finite numbers in state.memory, got [[nan]]\n",
        ),
        (changing, "arguments are left unchanged: expected interface.write_gate 0.0 afterwards"),
        (
            rootless,
            "gradients are finite: expected finite numbers for write_key of step 0, got [nan]",
        ),
        (looking, "vmap over a batch equals a loop: expected a result, got RuntimeError: vmap: "),
    ],
)
def test_what_no_step_may_do(step: Callable[..., Any], message: str) -> None:
    assert refused(step).startswith(f"step: {message}")


def test_the_counterexample_of_a_step_is_a_script() -> None:
    said = refused(failing, dtype=torch.float32)
    assert re.search(
        r"smallest counterexample:\n"
        r"state = init_state\(slots=1, word_size=1, read_heads=1, dtype=torch.float32\)\n"
        r"reads, state = failing\(state, DNCInterface\(\n"
        r"    read_keys=torch.tensor\(\[\[0.0\]\]\),",
        said,
    )
