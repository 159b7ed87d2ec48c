"""Laws that every operation obeys, run over a registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

import memcore
from memcore import DNCOptions, dam, dnc, sam, sdnc

SLOTS, WORDS, HEADS, READS, TEMPORAL, WRITES, OFFSETS = 5, 3, 2, 3, 2, 2, 3


class Draw:
    """Random arguments in the ranges that the docstrings give."""

    def __init__(self, dtype: torch.dtype, device: torch.device, seed: int = 0) -> None:
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator().manual_seed(seed)

    def real(self, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return drawn.to(self.device, self.dtype)

    def gate(self, *shape: int) -> Tensor:
        return self.real(*shape).sigmoid()

    def strength(self, *shape: int) -> Tensor:
        return 1 + self.real(*shape).square()

    def weights(self, *shape: int) -> Tensor:
        return self.real(*shape).softmax(-1) * self.gate(*shape[:-1], 1)

    def links(self) -> Tensor:
        off_diagonal = 1 - torch.eye(SLOTS, dtype=self.dtype, device=self.device)
        return self.gate(SLOTS, SLOTS) * off_diagonal / SLOTS

    def state(self) -> dnc.DNCState:
        return dnc.DNCState(
            memory=self.real(SLOTS, WORDS),
            usage=self.gate(SLOTS),
            precedence=self.weights(SLOTS),
            link=self.links(),
            read_weights=self.weights(HEADS, SLOTS),
            write_weights=self.weights(SLOTS),
        )

    def wide_state(self) -> dnc.DNCState:
        """Of several write heads."""
        return self.state()._replace(
            precedence=self.weights(WRITES, SLOTS),
            link=torch.stack([self.links() for _ in range(WRITES)]),
            write_weights=self.weights(WRITES, SLOTS),
        )

    def dam_state(self) -> tuple[Tensor, ...]:
        return self.real(SLOTS, WORDS), self.weights(HEADS, SLOTS), self.weights(SLOTS)

    def sam_interface_vector(self) -> Tensor:
        return self.real(sam.interface_size(WORDS, HEADS))

    def sdnc_interface_vector(self) -> Tensor:
        return self.real(sdnc.interface_size(WORDS, HEADS))

    def interface_vector(self) -> Tensor:
        return self.real(dnc.interface_size(WORDS, HEADS))


def parse(vector: Tensor) -> dnc.DNCInterface:
    return dnc.parse_interface(vector, WORDS, HEADS)


def step(vector: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
    reads, after = dnc.step(dnc.DNCState(*state), parse(vector))
    return reads, *after


EVERY = DNCOptions(
    masking=True,
    mask_minimum=0.1,
    temperature=1.5,
    deallocation=True,
    link_sharpness=True,
    write_heads=2,
)


def step_with_options(vector: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
    interface = dnc.parse_interface(vector, WORDS, HEADS, options=EVERY)
    reads, after = dnc.step(dnc.DNCState(*state), interface, options=EVERY)
    return reads, *after


def parse_sam(vector: Tensor) -> sam.SAMInterface:
    return sam.parse_interface(vector, WORDS, HEADS)


def parse_sdnc(vector: Tensor) -> sdnc.SDNCInterface:
    return sdnc.parse_interface(vector, WORDS, HEADS)


def step_dam(vector: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
    # The usage has no gradient and is left out of what comes back.
    reads, after = dam.step(dam.DAMState(state[0], state[0].detach()[:, 0].abs(), *state[1:]),
                            parse_sam(vector))  # fmt: skip
    return reads, after.memory, after.read_weights, after.write_weights


# name: (operation on tensors, its arguments)
OPERATIONS: dict[str, tuple[Callable[..., Any], Callable[[Draw], tuple[Tensor, ...]]]] = {
    "safe_norm": (memcore.safe_norm, lambda d: (d.real(SLOTS, WORDS),)),
    "oneplus": (memcore.oneplus, lambda d: (d.real(HEADS),)),
    "exclusive_cumulative_product": (
        memcore.exclusive_cumulative_product,
        lambda d: (d.gate(SLOTS),),
    ),
    "cosine_similarity": (
        memcore.cosine_similarity,
        lambda d: (d.real(SLOTS, WORDS), d.real(HEADS, WORDS)),
    ),
    "content_weighting": (
        memcore.content_weighting,
        lambda d: (d.real(SLOTS, WORDS), d.real(HEADS, WORDS), d.strength(HEADS)),
    ),
    "retention": (memcore.retention, lambda d: (d.gate(HEADS), d.weights(HEADS, SLOTS))),
    "usage": (memcore.usage, lambda d: (d.gate(SLOTS), d.weights(SLOTS), d.gate(SLOTS))),
    "allocation_weighting": (memcore.allocation_weighting, lambda d: (d.gate(SLOTS),)),
    "precedence": (memcore.precedence, lambda d: (d.weights(SLOTS), d.weights(SLOTS))),
    "link": (memcore.link, lambda d: (d.links(), d.weights(SLOTS), d.weights(SLOTS))),
    "directional_weightings": (
        memcore.directional_weightings,
        lambda d: (d.links(), d.weights(HEADS, SLOTS)),
    ),
    "write_weighting": (
        memcore.write_weighting,
        lambda d: (d.weights(SLOTS), d.weights(SLOTS), d.gate(), d.gate()),
    ),
    "read_weighting": (
        memcore.read_weighting,
        lambda d: (
            d.weights(HEADS, SLOTS),
            d.weights(HEADS, SLOTS),
            d.weights(HEADS, SLOTS),
            d.weights(HEADS, 3),
        ),
    ),
    "erase_and_add": (
        memcore.erase_and_add,
        lambda d: (d.real(SLOTS, WORDS), d.weights(SLOTS), d.gate(WORDS), d.real(WORDS)),
    ),
    "read": (memcore.read, lambda d: (d.real(SLOTS, WORDS), d.weights(HEADS, SLOTS))),
    "masked_cosine_similarity": (
        memcore.masked_cosine_similarity,
        lambda d: (d.real(SLOTS, WORDS), d.real(HEADS, WORDS), d.gate(HEADS, WORDS)),
    ),
    "masked_content_weighting": (
        memcore.masked_content_weighting,
        lambda d: (
            d.real(SLOTS, WORDS),
            d.real(HEADS, WORDS),
            d.strength(HEADS),
            d.gate(HEADS, WORDS),
        ),
    ),
    "masked_sparse_content_weighting": (
        memcore.masked_sparse_content_weighting,
        lambda d: (
            d.real(HEADS, READS, WORDS),
            d.real(HEADS, WORDS),
            d.strength(HEADS),
            d.gate(HEADS, WORDS),
        ),
    ),
    "allocation_weightings": (
        memcore.allocation_weightings,
        lambda d: (d.gate(SLOTS), d.gate(WRITES), d.gate(WRITES)),
    ),
    "combined_write_weighting": (
        memcore.combined_write_weighting,
        lambda d: (d.weights(WRITES, SLOTS),),
    ),
    "erase_and_add_heads": (
        memcore.erase_and_add_heads,
        lambda d: (
            d.real(SLOTS, WORDS),
            d.weights(WRITES, SLOTS),
            d.gate(WRITES, WORDS),
            d.real(WRITES, WORDS),
        ),
    ),
    "deallocate": (memcore.deallocate, lambda d: (d.real(SLOTS, WORDS), d.gate(SLOTS))),
    "sharpen": (memcore.sharpen, lambda d: (d.weights(HEADS, SLOTS), d.strength(HEADS))),
    "interpolate": (
        memcore.interpolate,
        lambda d: (d.weights(HEADS, SLOTS), d.weights(HEADS, SLOTS), d.gate(HEADS)),
    ),
    "circular_shift": (
        memcore.circular_shift,
        lambda d: (d.weights(HEADS, SLOTS), d.weights(HEADS, OFFSETS)),
    ),
    "read_weighting_heads": (
        memcore.read_weighting_heads,
        lambda d: (
            d.weights(WRITES, HEADS, SLOTS),
            d.weights(HEADS, SLOTS),
            d.weights(WRITES, HEADS, SLOTS),
            d.weights(HEADS, 2 * WRITES + 1),
        ),
    ),
    "sparse_write_weighting": (
        memcore.sparse_write_weighting,
        lambda d: (d.weights(HEADS, READS), d.gate(), d.gate()),
    ),
    "sparse_content_weighting": (
        memcore.sparse_content_weighting,
        lambda d: (d.real(HEADS, READS, WORDS), d.real(HEADS, WORDS), d.strength(HEADS)),
    ),
    "sparse_read": (
        memcore.sparse_read,
        lambda d: (d.real(HEADS, READS, WORDS), d.weights(HEADS, READS)),
    ),
    "sparse_read_weighting": (
        memcore.sparse_read_weighting,
        lambda d: (
            d.weights(HEADS, TEMPORAL),
            d.weights(HEADS, READS),
            d.weights(HEADS, TEMPORAL),
            d.weights(HEADS, 3),
        ),
    ),
    "parse_interface": (parse, lambda d: (d.interface_vector(),)),
    "step": (step, lambda d: (d.interface_vector(), *d.state())),
    "step, every option": (
        step_with_options,
        lambda d: (d.real(dnc.interface_size(WORDS, HEADS, options=EVERY)), *d.wide_state()),
    ),
    "sam.parse_interface": (parse_sam, lambda d: (d.sam_interface_vector(),)),
    "sdnc.parse_interface": (parse_sdnc, lambda d: (d.sdnc_interface_vector(),)),
    "dam.step": (step_dam, lambda d: (d.sam_interface_vector(), *d.dam_state())),
}
FUNCTIONS = {name for name in memcore.__all__ if callable(getattr(memcore, name))}

every_operation = pytest.mark.parametrize("name", OPERATIONS)
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
CPU = torch.device("cpu")


def outputs(result: Any) -> tuple[Tensor, ...]:
    if isinstance(result, Tensor):
        return (result,)
    return tuple(part for part in result if isinstance(part, Tensor))  # () is an option left out


def total(operation: Callable[..., Any], *arguments: Any) -> Tensor:
    """A scalar that depends on every output, each element with another factor."""
    result = torch.zeros((), dtype=arguments[0].dtype, device=arguments[0].device)
    for output in outputs(operation(*arguments)):
        factors = torch.arange(1, output.numel() + 1, dtype=output.dtype, device=output.device)
        result = result + (output.flatten() * factors.sin()).sum()
    return result


def test_the_registry_holds_every_public_function() -> None:
    classes = {name for name in FUNCTIONS if isinstance(getattr(memcore, name), type)}
    assert FUNCTIONS - classes - {"make_index"} <= set(OPERATIONS)


@pytest.mark.parametrize(
    "name",
    [
        "sparse_write_weighting",
        "sparse_content_weighting",
        "sparse_read_weighting",
        "sparse_read",
        "sam.parse_interface",
        "sdnc.parse_interface",
    ],
)
def test_unchecked_forms_that_take_a_batch_equal_vmap(name: str) -> None:
    operation, draw = OPERATIONS[name]
    examples = [draw(Draw(torch.float64, CPU, seed)) for seed in range(4)]
    stacked = tuple(torch.stack(part) for part in zip(*examples, strict=True))
    unchecked = {
        "sam.parse_interface": lambda v: sam.parse_interface.unchecked(v, WORDS, HEADS),
        "sdnc.parse_interface": lambda v: sdnc.parse_interface.unchecked(v, WORDS, HEADS),
    }.get(name) or operation.unchecked  # pyright: ignore[reportFunctionMemberAccess]
    for one, other in zip(outputs(unchecked(*stacked)), outputs(vmap(operation)(*stacked)),
                          strict=True):  # fmt: skip
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@every_operation
@both_dtypes
def test_dtype_and_device_are_kept(name: str, dtype: torch.dtype, device: torch.device) -> None:
    operation, draw = OPERATIONS[name]
    arguments = draw(Draw(dtype, device))
    for output in outputs(operation(*arguments)):
        assert output.dtype == dtype
        assert output.device == arguments[0].device


@every_operation
def test_inputs_are_unchanged(name: str, device: torch.device) -> None:
    operation, draw = OPERATIONS[name]
    arguments = draw(Draw(torch.float32, device))
    before = [argument.clone() for argument in arguments]
    operation(*arguments)
    for argument, copy in zip(arguments, before, strict=True):
        assert torch.equal(argument, copy)


@every_operation
def test_vmap_equals_a_loop(name: str, device: torch.device) -> None:
    operation, draw = OPERATIONS[name]
    examples = [draw(Draw(torch.float64, device, seed)) for seed in range(4)]
    batched = vmap(operation)(*(torch.stack(part) for part in zip(*examples, strict=True)))
    for index, example in enumerate(examples):
        for together, alone in zip(outputs(batched), outputs(operation(*example)), strict=True):
            torch.testing.assert_close(together[index], alone, rtol=1e-12, atol=1e-12)


@every_operation
def test_gradient_of_vmap_equals_vmap_of_gradient(name: str, device: torch.device) -> None:
    operation, draw = OPERATIONS[name]
    examples = [draw(Draw(torch.float64, device, seed)) for seed in range(3)]
    stacked = tuple(torch.stack(part) for part in zip(*examples, strict=True))
    positions = tuple(range(len(stacked)))
    inside = vmap(grad(lambda *a: total(operation, *a), argnums=positions))(*stacked)
    outside = grad(lambda *a: vmap(lambda *b: total(operation, *b))(*a).sum(), argnums=positions)(
        *stacked
    )
    for one, other in zip(inside, outside, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == "step, every option" else [])
        for name in OPERATIONS
    ],
)
def test_first_and_second_gradients(name: str) -> None:
    operation, draw = OPERATIONS[name]
    arguments = tuple(a.requires_grad_() for a in draw(Draw(torch.float64, CPU)))

    def tensors(*given: Tensor) -> tuple[Tensor, ...]:
        return outputs(operation(*given))

    assert torch.autograd.gradcheck(tensors, arguments, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(tensors, arguments)


def edges(draw: Callable[[Draw], tuple[Tensor, ...]], dtype: torch.dtype) -> dict[str, Any]:
    drawn = draw(Draw(dtype, CPU))
    return {
        "zeros": tuple(torch.zeros_like(a) for a in drawn),
        "tiny": tuple(torch.full_like(a, 1e-30) for a in drawn),
        "ones": tuple(torch.ones_like(a) for a in drawn),
        "large": tuple(a * 1e6 if (a < 0).any() else a for a in drawn),
    }


@every_operation
@both_dtypes
@pytest.mark.parametrize("edge", ["zeros", "tiny", "ones", "large"])
def test_gradients_are_finite_at_the_edges(name: str, dtype: torch.dtype, edge: str) -> None:
    operation, draw = OPERATIONS[name]
    arguments = edges(draw, dtype)[edge]
    positions = tuple(range(len(arguments)))
    first = grad(lambda *a: total(operation, *a), argnums=positions)
    for gradient in first(*arguments):
        assert gradient.isfinite().all()


@every_operation
def test_the_unchecked_form_is_the_same_function(name: str) -> None:
    operation, draw = OPERATIONS[name]
    unchecked = getattr(operation, "unchecked", None)
    if unchecked is None:
        pytest.skip("takes any shape")
    arguments = draw(Draw(torch.float64, CPU))
    checked = outputs(operation(*arguments))
    for one, other in zip(checked, outputs(unchecked(*arguments)), strict=True):
        assert torch.equal(one, other)
