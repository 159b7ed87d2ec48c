"""No gradient is ever NaN or infinite: the complaint that this library starts from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

import memcore
from memcore import dnc
from memcore.numerics import at_least_zero, bounded

DRAWS = 10_000
WORDS, HEADS, STEPS = 3, 2, 3


def rollout(vectors: Tensor, state: dnc.DNCState) -> Tensor:
    """A scalar that depends on every output of a few steps."""
    total = vectors.new_zeros(())
    for vector in vectors:
        reads, state = dnc.step(state, dnc.parse_interface(vector, WORDS, HEADS))
        total = total + sum(part.sin().sum() for part in (reads, *state))
    return total


def nonfinite(*gradients: Tensor) -> int:
    return sum(int((~gradient.isfinite()).sum()) for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("values", ["random", "saturated", "mixed", "large"])
def test_ten_thousand_draws(
    dtype: torch.dtype, slots: int, values: str, device: torch.device
) -> None:
    """From an empty memory, with gradients to every field of the initial state."""
    generator = torch.Generator().manual_seed(slots)
    shape = (DRAWS, STEPS, dnc.interface_size(WORDS, HEADS))
    normal = torch.randn(shape, generator=generator, dtype=dtype)
    saturated = 50 * normal.sign()
    vectors = {
        "random": normal,
        "saturated": saturated,
        "mixed": torch.where(normal.abs() > 0.7, saturated, normal),
        "large": normal * 1e4,
    }[values].to(device)
    state = dnc.init_state(slots, WORDS, HEADS, dtype=dtype, device=device)
    gradients = vmap(grad(rollout, argnums=(0, 1)), in_dims=(0, None))(vectors, state)
    assert nonfinite(gradients[0], *gradients[1]) == 0
    assert any(gradient.any() for gradient in gradients[1])


def test_read_weights_a_little_over_one_free_a_slot() -> None:
    """A softmax over the modes can sum to 1 + ε; with an open free gate usage stays at 0."""
    logits = torch.randn(10_000, 3) * 4
    logits[:, 2] = -30
    modes = logits.softmax(-1)
    above = modes[modes[:, :2].sum(-1) > 1]
    assert len(above) > 100
    one_hot = torch.eye(2)
    weights = memcore.read_weighting(one_hot[:1], one_hot[:1], one_hot[:1], above[:1])
    assert weights.max() > 1
    kept = memcore.retention(torch.ones(1), weights)
    used = memcore.usage(torch.ones(2), torch.zeros(2), kept)
    assert used.tolist() == [0, 1]
    assert memcore.allocation_weighting(used).tolist() == [1, 0]


def test_a_usage_that_rounding_took_below_zero_counts_as_free() -> None:
    weights = memcore.allocation_weighting(torch.tensor([-1e-8, 0.5, 0.2]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.0, 0.0]))


def test_zero_rows_have_bounded_cosine_gradients() -> None:
    """ε inside each norm: at most |k| / √ε · 1/√ε, where ε on the product gives millions."""
    memory = torch.zeros(4, 8, requires_grad=True)
    keys = torch.randn(2, 8, requires_grad=True)
    memcore.cosine_similarity(memory, keys).sum().backward()
    assert memory.grad is not None
    assert memory.grad.norm() < 1e4
    assert nonfinite(memory.grad) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_cumulative_product_gradient_is_right_at_zero(dtype: torch.dtype) -> None:
    """The derivative of Π_{i<j} x_i by x_k is the product of the others, zero or not."""
    factors = torch.tensor([0.0, 0.5, 0.0, 0.25, 1.0], dtype=dtype)
    jacobian: Any = torch.autograd.functional.jacobian(
        memcore.exclusive_cumulative_product, factors
    )
    for row in range(5):
        for column in range(5):
            others = [float(factors[i]) for i in range(row) if i != column]
            expected = torch.tensor(others).prod().item() if column < row else 0.0
            assert float(jacobian[row, column]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_gradients_pass_at_a_bound_and_end_beyond_it() -> None:
    """In every torch: the gradient of its clamp at the bound changed with 2.14."""
    values = torch.tensor([-2.0, -1.0, 0.5, 1.0, 2.0], requires_grad=True)
    found = bounded(values, 1.0)
    (slope,) = torch.autograd.grad(found.sum(), values)
    assert found.tolist() == [-1.0, -1.0, 0.5, 1.0, 1.0]
    assert slope.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    values = torch.tensor([-1.0, 0.0, 2.0, torch.nan], requires_grad=True)
    found = at_least_zero(values)
    (slope,) = torch.autograd.grad(found[:3].sum(), values)
    assert found[:3].tolist() == [0.0, 0.0, 2.0]
    assert found[3].isnan()
    assert slope.tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_cumulative_product_second_derivative_is_right_at_two_zeros(dtype: torch.dtype) -> None:
    """∂²(x_0 x_1) / ∂x_0 ∂x_1 is 1, also where both are 0."""
    hessian: Any = torch.autograd.functional.hessian(
        lambda factors: memcore.exclusive_cumulative_product(factors)[2],
        torch.zeros(3, dtype=dtype),
    )
    expected = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=dtype)
    torch.testing.assert_close(hessian, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_second_gradients_are_finite_at_zero_usage(dtype: torch.dtype) -> None:
    usage = torch.zeros(6, dtype=dtype)
    hessian: Any = torch.autograd.functional.hessian(
        lambda usage: memcore.allocation_weighting(usage).sin().sum(), usage
    )
    assert nonfinite(hessian) == 0
    assert hessian.any()
