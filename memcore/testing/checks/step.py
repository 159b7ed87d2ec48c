"""A check of a whole step of a DNC, along rollouts, ours or a user's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from memcore import dnc
from memcore.testing.checks.printing import name_of, numbers, tensor
from memcore.testing.checks.search import Broken, Law, Options, Unpack, refute, settings_of
from memcore.testing.checks.step_calls import STATE, Machine, Rollout, Step, said

__all__ = ["check_step"]

ROOM = 2.0**10  # times rounding: contents that cancel multiply it, strengths once more
LARGE = 10  # of what is written, from where that is not enough


def check_step(
    step: Callable[..., tuple[Tensor, Any]],
    init_state: Callable[..., Any] = dnc.init_state,
    **options: Unpack[Options],
) -> None:
    """Raise unless a step of one example keeps the invariants of `memcore.dnc.step`, over time.

    Along drawn interfaces, up to saturated gates and huge keys: all finite; usage in [0, 1];
    weightings and precedence on the sub-simplex, the write weights within the write gate; links in
    [0, 1], diagonal 0, row sums and, with the precedence, column sums at most 1; reads are what
    the read weights say of the memory; a closed write gate leaves memory, links and precedence;
    permuting the slots of distinct usages permutes the result.

    Args:
        step: ``(state, DNCInterface) → (read_vectors [R, W], state)``; the state a named tuple with
            the fields of `DNCState`, and others if it likes.
        init_state: called with ``slots``, ``word_size``, ``read_heads`` and ``dtype`` by keyword.
        options: see `memcore.testing.checks.Options`.

    Raises:
        AssertionError: it does not; the message has the shortest rollout that shows it.
        TypeError: not a function, or an option that there is not.
        ImportError: hypothesis is missing.

    >>> check_step(dnc.step, examples=5)
    """
    __tracebackhide__ = True
    from memcore.testing.checks.step_cases import dnc_rollouts

    settings = settings_of(options)
    for name, function in (("step", step), ("init_state", init_state)):
        if not callable(function):
            raise TypeError(f"{name}: expected a callable, got {type(function).__name__}")
    laws = dict(LAWS)
    if settings.gradients:
        laws["gradients are finite"] = _finite_gradients
    if settings.vmap:
        laws["vmap over a batch equals a loop"] = _vmap_is_a_loop
    machine = Machine(step, init_state, settings)
    asked: dict[str, Law] = {name: partial(law, machine) for name, law in laws.items()}
    error = refute("step", asked, partial(dnc_rollouts, settings.dtypes), settings.examples)
    if error is not None:
        raise error


def _again(machine: Machine, case: Rollout) -> None:
    for at in machine.roll(case):
        reads, after = machine(at.before, at.interface, at.script)
        pairs = [(at.reads, reads), *((getattr(at.after, f), getattr(after, f)) for f in STATE)]
        for one, other in pairs:
            if not torch.equal(one, other):
                raise Broken(f"{numbers(one)} again", numbers(other), at.script)


def _usage(machine: Machine, at: Step) -> None:
    machine.within(0, 1, at.after.usage, at.script)


def _sub_simplex(field: str) -> Callable[[Machine, Step], None]:
    def law(machine: Machine, at: Step) -> None:
        weights = getattr(at.after, field)
        machine.within(0, 1, weights, at.script)
        machine.within(0, 1, weights.sum(-1), at.script)

    return law


def _within_the_gate(machine: Machine, at: Step) -> None:
    machine.within(0, at.interface.write_gate, at.after.write_weights.sum(), at.script)


def _links(machine: Machine, at: Step) -> None:
    machine.within(0, 1, at.after.link, at.script)


def _diagonal(machine: Machine, at: Step) -> None:
    machine.within(0, 0, at.after.link.diagonal(), at.script)


def _rows(machine: Machine, at: Step) -> None:
    machine.within(0, 1, at.after.link.sum(1), at.script)


def _columns(machine: Machine, at: Step) -> None:
    machine.within(0, 1, at.after.link.sum(0) + at.after.precedence, at.script)


def _reads(machine: Machine, at: Step) -> None:
    scale = 1 + float(at.after.memory.abs().max())
    expected = at.after.read_weights @ at.after.memory
    if not ((at.reads - expected).abs() <= scale * machine.settings.slack(expected.dtype)).all():
        raise Broken(numbers(expected), numbers(at.reads), at.script)


def _closed(machine: Machine, case: Rollout) -> None:
    *before, last = case.interfaces
    shut = last._replace(write_gate=torch.zeros_like(last.write_gate))
    at = machine.roll(case._replace(interfaces=[*before, shut]))[-1]
    for field in ("memory", "link", "precedence"):
        machine.close(getattr(at.before, field), getattr(at.after, field), at.script, field)


def _permuted(machine: Machine, case: Rollout) -> None:
    at, slots = machine.roll(case)[-1], case.sizes["N"]
    if _is_large(case) or slots == 1:
        return
    # Distinct usages, which nothing that is freed brings together.
    usage = torch.arange(1, slots + 1, dtype=case.dtype) / (slots + 1)
    before = at.before._replace(usage=usage, write_weights=torch.zeros_like(usage))
    interface = at.interface._replace(free_gates=torch.zeros_like(at.interface.free_gates))
    zeros = torch.zeros_like(usage)
    script = at.leads.then(f"used, none = {tensor(usage)}, {tensor(zeros)}")
    script = script.then("state = state._replace(usage=used, write_weights=none)").then(interface)
    reads, after = machine(before, interface, script)
    # These two generate all permutations.
    for order in ([1, 0, *range(2, slots)], [*range(1, slots), 0]):
        script_too = script.then(f"# and the same with the slots of the state in the order {order}")
        chosen = torch.tensor(order)
        reads_too, after_too = machine(_in_order(before, chosen), interface, script_too)
        machine.close(reads, reads_too, script_too, "read vectors", ROOM)
        expected = _in_order(after, chosen)
        for field in STATE:
            pair = getattr(expected, field), getattr(after_too, field)
            machine.close(*pair, script_too, f"{field} in the order {order}", ROOM)


def _in_order(state: Any, chosen: Tensor) -> Any:
    """The state with its slots in another order."""
    parts = {}
    for field, axes in STATE.items():
        part = getattr(state, field)
        for dim, axis in enumerate(axes.split()):
            part = part.index_select(dim, chosen) if axis == "N" else part
        parts[field] = part
    return state._replace(**parts)


def _is_large(case: Rollout) -> bool:
    """Whether contents that cancel leave too little to compare."""
    return any(float(told.write_vector.abs().max()) > LARGE for told in case.interfaces)


def _finite_gradients(machine: Machine, case: Rollout) -> None:
    steps = machine.roll(case)
    script = steps[-1].script
    leaves: dict[str, Tensor] = {}
    state, _ = machine.first(case)
    total = state.memory.new_zeros(())
    try:
        for at, told in enumerate(case.interfaces):
            fields = told._asdict().items()
            # The fields of options that are off are ().
            own = {name: part.clone().requires_grad_() for name, part in fields if _is_told(part)}
            leaves |= {f"{name} of step {at}": part for name, part in own.items()}
            reads, state = machine.function(state, told._replace(**own))
            weights = torch.arange(1, reads.numel() + 1, dtype=reads.dtype).view_as(reads)
            total = total + (weights * reads).sum()
        gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    except RuntimeError as error:
        raise Broken("a gradient", f"RuntimeError: {error}", script) from error
    for name, gradient in zip(leaves, gradients, strict=True):
        if gradient is not None and not gradient.isfinite().all():
            raise Broken(f"finite numbers for {name}", numbers(gradient), script)


def _is_told(part: Tensor | tuple[()]) -> bool:
    return isinstance(part, Tensor)


def _vmap_is_a_loop(machine: Machine, case: Rollout) -> None:
    steps = machine.roll(case)
    if _is_large(case):
        return
    pair = steps[0], steps[-1]
    name = name_of(machine.function)
    script = steps[-1].script.then(f"# torch.func.vmap({name}) of the first and the last, stacked")
    states, told = _stacked([at.before for at in pair]), _stacked([at.interface for at in pair])
    try:
        reads, after = torch.func.vmap(machine.function)(states, told)
    except Exception as error:
        raise Broken("a result", said(error), script) from error
    machine.close(torch.stack([at.reads for at in pair]), reads, script, "read vectors", ROOM)
    expected = _stacked([at.after for at in pair])
    for field in STATE:
        machine.close(getattr(expected, field), getattr(after, field), script, field, ROOM)


def _stacked(values: list[Any]) -> Any:
    parts = zip(*values, strict=True)
    return type(values[0])(*(torch.stack(part) if _is_told(part[0]) else () for part in parts))


# Of each state, in the order in which a step comes to them.
STATE_LAWS: dict[str, Callable[[Machine, Step], None]] = {
    "usage in [0, 1]": _usage,
    "write weights on the sub-simplex": _sub_simplex("write_weights"),
    "write weights sum to at most the write gate": _within_the_gate,
    "links in [0, 1]": _links,
    "the diagonal of the links is 0": _diagonal,
    "row sums of the links at most 1": _rows,
    "precedence on the sub-simplex": _sub_simplex("precedence"),
    "column sums of the links with the precedence at most 1": _columns,
    "read weights on the sub-simplex": _sub_simplex("read_weights"),
    "reads are the memory as the read weights say": _reads,
}


def _of_states(name: str) -> Callable[[Machine, Rollout], None]:
    def law(machine: Machine, case: Rollout) -> None:
        broken = machine.states(case, STATE_LAWS)
        if broken is not None and broken.law == name:
            raise broken

    return law


LAWS: dict[str, Callable[[Machine, Rollout], None]] = {
    "the same call gives the same result": _again,
    **{name: _of_states(name) for name in STATE_LAWS},
    "a closed write gate leaves memory, links and precedence": _closed,
    "permuting the slots of distinct usages permutes the result": _permuted,
}
