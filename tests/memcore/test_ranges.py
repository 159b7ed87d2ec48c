"""Values out of range are refused by name where they can be looked at, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import memcore
from memcore import MemcoreError

N, R, K, W = 4, 2, 3, 5
UNIT, WEIGHTS = "numbers in [0, 1]", "weights of at least 0 with sums of at most 1"


def weights(*shape: int) -> Tensor:
    return torch.full(shape, 1 / shape[-1])


def half(*shape: int) -> Tensor:
    return torch.full(shape, 0.5)


# Each operation with arguments that are right, and what the ranges of some are.
OPERATIONS: dict[str, tuple[dict[str, Tensor], dict[str, str]]] = {
    "retention": (
        {"free_gates": half(R), "read_weights": weights(R, N)},
        {"free_gates": UNIT, "read_weights": WEIGHTS},
    ),
    "usage": (
        {"previous": half(N), "write_weights": weights(N), "retention": half(N)},
        {"previous": UNIT, "write_weights": UNIT, "retention": UNIT},
    ),
    "combined_write_weighting": ({"write_weights": weights(R, N)}, {"write_weights": WEIGHTS}),
    "allocation_weightings": (
        {"usage": half(N), "allocation_gates": half(R), "write_gates": half(R)},
        {"usage": UNIT, "allocation_gates": UNIT, "write_gates": UNIT},
    ),
    "masked_cosine_similarity": (
        {"memory": half(N, W), "keys": half(R, W), "masks": half(R, W)},
        {"masks": UNIT},
    ),
    "masked_content_weighting": (
        {
            "memory": half(N, W),
            "keys": half(R, W),
            "strengths": 9 * half(R),
            "masks": half(R, W),
        },
        {"masks": UNIT},
    ),
    "masked_sparse_content_weighting": (
        {
            "rows": half(R, K, W),
            "keys": half(R, W),
            "strengths": 9 * half(R),
            "masks": half(R, W),
        },
        {"masks": UNIT},
    ),
    "erase_and_add_heads": (
        {
            "memory": half(N, W),
            "write_weights": weights(R, N),
            "erase": half(R, W),
            "add": 9 * half(R, W),
        },
        {"write_weights": WEIGHTS, "erase": UNIT},
    ),
    "deallocate": ({"memory": 9 * half(N, W), "retention": half(N)}, {"retention": UNIT}),
    "sharpen": ({"weighting": weights(R, N), "sharpness": 9 * half(R)}, {"weighting": WEIGHTS}),
    "interpolate": (
        {"content": weights(R, N), "previous": weights(R, N), "gate": half(R)},
        {"content": WEIGHTS, "previous": WEIGHTS, "gate": UNIT},
    ),
    "circular_shift": (
        {"weighting": weights(R, N), "shift": weights(R, 3)},
        {"weighting": WEIGHTS, "shift": WEIGHTS},
    ),
    "read_weighting_heads": (
        {
            "backward": weights(2, R, N),
            "content": weights(R, N),
            "forward": weights(2, R, N),
            "read_modes": weights(R, 5),
        },
        {"backward": WEIGHTS, "content": WEIGHTS, "forward": WEIGHTS, "read_modes": WEIGHTS},
    ),
    "allocation_weighting": ({"usage": half(N)}, {"usage": UNIT}),
    "write_weighting": (
        {
            "content": weights(N),
            "allocation": weights(N),
            "allocation_gate": half(),
            "write_gate": half(),
        },
        {
            "content": WEIGHTS,
            "allocation": WEIGHTS,
            "allocation_gate": UNIT,
            "write_gate": UNIT,
        },
    ),
    "erase_and_add": (
        {"memory": half(N, W), "write_weights": weights(N), "erase": half(W), "add": 9 * half(W)},
        {"write_weights": WEIGHTS, "erase": UNIT},
    ),
    "precedence": (
        {"previous": weights(N), "write_weights": weights(N)},
        {"previous": WEIGHTS, "write_weights": WEIGHTS},
    ),
    "link": (
        {
            "previous": weights(N, N),
            "write_weights": weights(N),
            "previous_precedence": weights(N),
        },
        {"previous": WEIGHTS, "write_weights": WEIGHTS, "previous_precedence": WEIGHTS},
    ),
    "directional_weightings": (
        {"link": weights(N, N), "read_weights": weights(R, N)},
        {"link": WEIGHTS, "read_weights": WEIGHTS},
    ),
    "read_weighting": (
        {
            "backward": weights(R, N),
            "content": weights(R, N),
            "forward": weights(R, N),
            "read_modes": weights(R, 3),
        },
        {"backward": WEIGHTS, "content": WEIGHTS, "forward": WEIGHTS, "read_modes": WEIGHTS},
    ),
    "sparse_write_weighting": (
        {"read_weights": weights(R, K), "write_gate": half(), "interpolation_gate": half()},
        {"read_weights": WEIGHTS, "write_gate": UNIT, "interpolation_gate": UNIT},
    ),
    "sparse_read_weighting": (
        {
            "backward": weights(R, K),
            "content": weights(R, N),
            "forward": weights(R, K),
            "read_modes": weights(R, 3),
        },
        {"backward": WEIGHTS, "content": WEIGHTS, "forward": WEIGHTS, "read_modes": WEIGHTS},
    ),
}
CASES = [
    (name, argument, expected)
    for name, (_, ranges) in OPERATIONS.items()
    for argument, expected in ranges.items()
]


@pytest.mark.parametrize(("name", "argument", "expected"), CASES)
def test_what_is_out_of_range(name: str, argument: str, expected: str) -> None:
    operation: Any = getattr(memcore, name)
    given, _ = OPERATIONS[name]
    right = given[argument]

    def call(value: Tensor) -> Any:
        return operation(**{**given, argument: value})

    at_the_edge = torch.zeros_like(right)
    if at_the_edge.dim():
        at_the_edge[..., 0] = 1
    for value in (right, at_the_edge, at_the_edge * (1 + 1e-6), at_the_edge - 1e-6):
        call(value)
    call(right * torch.nan)  # NaN is for who made it to find
    wrong = [(right - 1, "got -"), (right + 1.25, "got "), (right + torch.inf, "got inf")]
    if expected is WEIGHTS:
        wrong.append((torch.ones_like(right) * 0.75, "got a sum of 2.25" if right.shape[-1] == 3
                      else "got a sum of 3"))  # fmt: skip
    for value, got in wrong:
        with pytest.raises(MemcoreError) as error:
            call(value)
        message = str(error.value)
        assert message.startswith(f"{argument}: expected {expected}, {got}"), message
        operation.unchecked(**{**given, argument: value})
    # Where it cannot be looked at, or only at the price of a wait.
    torch.func.vmap(call)(torch.stack([right, right + 9]))
    on_meta = {name: value.to("meta") for name, value in given.items()}
    operation(**{**on_meta, argument: (right + 9).to("meta")})


def test_a_tensor_without_numbers_is_not_looked_at() -> None:
    """Outside of its mode too, and where a graph is traced."""
    fake = FakeTensorMode().from_tensor(half(N))
    assert memcore.usage(fake, fake, fake).shape == (N,)


def test_positional_arguments_too() -> None:
    with pytest.raises(MemcoreError, match=r"usage: expected numbers in \[0, 1\], got 2"):
        memcore.allocation_weighting(torch.tensor([2.0, -1.0]).abs())
    with pytest.raises(MemcoreError, match="write_weights: expected weights .* got -1"):
        memcore.precedence(torch.zeros(2), torch.tensor([0.5, -1.0]))
