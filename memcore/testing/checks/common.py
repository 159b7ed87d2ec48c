"""Laws that every operation obeys, whatever it computes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memcore.testing.checks.calls import Call
from memcore.testing.checks.printing import numbers
from memcore.testing.checks.search import RAISES, Broken

__all__ = ["again", "finite_gradients", "heads_apart", "nonnegative", "permuting", "vmap_is_a_loop"]


def again(call: Call, *arguments: Tensor) -> None:
    """The same call gives the same result."""
    first, second = (call.tensors(call(*arguments)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        if not torch.equal(one, other):
            call.fail(f"{numbers(one)} again", numbers(other))


def nonnegative(call: Call, *arguments: Tensor) -> None:
    """No weight is below 0."""
    for result in call.tensors(call(*arguments)):
        call.at_least(0, result)


def permuting(axis: str = "N", where: Callable[..., bool] | None = None) -> Callable[..., None]:
    """Permuting an axis of the arguments permutes that of the results.

    Args:
        axis: its letter.
        where: whether the arguments say in which order the slots come; None: always.
    """

    def law(call: Call, *arguments: Tensor) -> None:
        if where is not None and not where(*arguments):
            return
        results = call.tensors(call(*arguments))
        kinds = call.axes
        outputs = [text.split() for text in call.operation.outputs]
        size = call.sizes(arguments)[axis]
        # These two generate all permutations.
        for order in ([1, 0, *range(2, size)][:size] if size > 1 else [0], [*range(1, size), 0]):
            chosen = torch.tensor(order)

            def permuted(tensor: Tensor, axes: list[str], chosen: Tensor = chosen) -> Tensor:
                for dim, own in enumerate(axes):
                    if own == axis:
                        tensor = tensor.index_select(dim, chosen)
                return tensor

            pairs = zip(arguments, kinds, strict=True)
            other = call.tensors(call(*(permuted(own, axes) for own, axes in pairs)))
            for result, axes, got in zip(results, outputs, other, strict=True):
                why = f", as {numbers(result)} in the order {order}"
                call.same(permuted(result, axes), got, why)

    return law


def heads_apart(call: Call, *arguments: Tensor) -> None:
    """What a head gets does not depend on the others."""
    results = call.tensors(call(*arguments))
    kinds = call.axes
    for head in range(call.sizes(arguments)["R"]):
        alone = (
            own[head : head + 1] if axes[:1] == ["R"] else own
            for own, axes in zip(arguments, kinds, strict=True)
        )
        for result, got in zip(results, call.tensors(call(*alone)), strict=True):
            call.same(result[head : head + 1], got, f", as head {head} gets among the others")


def finite_gradients(call: Call, *arguments: Tensor) -> None:
    """No gradient is NaN or infinite, wherever the result has one."""
    leaves = [argument.clone().requires_grad_() for argument in arguments]
    try:
        results = [one for one in call.differentiable(*leaves) if one.requires_grad]
        # Not the plain sum, whose gradient is 0 where weights sum to 1.
        total = sum((one * torch.arange(1, one.numel() + 1).view_as(one)).sum() for one in results)
        if not isinstance(total, Tensor):
            return
        gradients = torch.autograd.grad(total, leaves, allow_unused=True)
    except (Broken, RuntimeError) as error:
        if isinstance(error, Broken) and error.law != RAISES:
            raise
        got = error.got if isinstance(error, Broken) else f"RuntimeError: {error}"
        raise Broken("a gradient", got, call.counterexample) from (error.__cause__ or error)
    for name, gradient in zip(call.operation.inputs, gradients, strict=True):
        if gradient is not None and not gradient.isfinite().all():
            call.fail(f"finite numbers for {name}", numbers(gradient))


def vmap_is_a_loop(call: Call, *examples: tuple[Tensor, ...]) -> None:
    """A batch gives what its examples give one by one."""
    alone = [call.tensors(call(*example)) for example in examples]
    together = call.batch(*map(torch.stack, zip(*examples, strict=True)))
    for one, other in zip(map(torch.stack, zip(*alone, strict=True)), together, strict=True):
        if one.shape != other.shape:
            call.fail(f"shape {list(one.shape)}", f"shape {list(other.shape)}")
        call.same(one, other)


vmap_is_a_loop.of_several = True  # pyright: ignore[reportFunctionMemberAccess]
