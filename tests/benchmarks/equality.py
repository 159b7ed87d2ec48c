"""Whether the kernels compute what the reference does: asked before any of their times is shown.

In float64, where rounding hides no mistake, and for dense memories from random states: in an empty
one many slots are equally used, and rounding would decide which of them a write takes.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from contenders import StepLoop, kernel_step, plain_step
from memcore import MemcoreError
from torch_adapters.cell import DenseMemory
from torch_adapters.recurrence import MemoryRNN

__all__ = ["fault_of_kernels", "fault_of_step", "why_no_kernels"]

TOLERANCE = 1e-12  # of the largest value, or of 1 where that is more


def why_no_kernels(module: MemoryRNN, input: Tensor) -> str | None:
    """Why this call cannot be run by kernels; None if it can."""
    before = module.backend
    module.backend = "numba"
    try:
        module.backend_of(input)
    except MemcoreError as error:
        return str(error)
    finally:
        module.backend = before
    return None


def fault_of_kernels(module: MemoryRNN, input: Tensor) -> str | None:
    """Where a module's kernels and its reference differ, and how much; None: nowhere.

    Compared are outputs, the final controller state, memory and reads, and the gradients of
    parameters and input, with random cotangents on all the former.
    """
    module, leaf = copy.deepcopy(module).double(), input.double().requires_grad_()
    hx = None
    if isinstance(module.cell, DenseMemory):
        reads = torch.randn(len(input), module.cell.read_size, dtype=torch.float64)
        hx = (None, _random_state(module.cell, len(input)), reads)

    def results(backend: str) -> dict[str, Tensor]:
        module.backend = backend
        output, ((hidden,), memory, last_reads) = module(leaf, hx)
        named = dict(zip(("final hidden", "final cell"), hidden, strict=True))
        return {"output": output, "final read vectors": last_reads, **named} | _fields(memory)

    return _fault(module, leaf, results("reference"), results("numba"))


def fault_of_step(loop: StepLoop, input: Tensor) -> str | None:
    """The same of `memcore.dnc.batched_step`, taken again and again by that loop."""
    loop, leaf = copy.deepcopy(loop).double(), input.double().requires_grad_()
    state = _random_state(loop.setting.module("reference").cell, len(input))

    def results(step: Any) -> dict[str, Tensor]:
        loop.step = step
        output, last = loop(leaf, state)
        return {"output": output} | _fields(last)

    return _fault(loop, leaf, results(plain_step(loop.setting)), results(kernel_step()))


def _random_state(cell: Any, batch: int) -> Any:
    """A dense memory's state in the ranges of its fields, no two slots equally used."""
    empty = cell.init_state(batch, dtype=torch.float64, device="cpu")

    def filled(field: str, value: Tensor) -> Tensor:
        if field == "memory":
            return torch.randn_like(value)
        if field == "usage":
            return torch.rand_like(value)
        if field == "link":
            links = torch.rand_like(value) / value.shape[-1]
            return links * (1 - torch.eye(value.shape[-1], dtype=value.dtype))
        return 0.9 * torch.randn_like(value).softmax(-1)

    return type(empty)(*(filled(*field) for field in empty._asdict().items()))


def _fields(state: Any) -> dict[str, Tensor]:
    """Those of a state that are tensors, by name."""
    own = state._asdict().items()
    return {f"final {name}": value for name, value in own if isinstance(value, Tensor)}


def _fault(
    module: nn.Module, input: Tensor, expected: dict[str, Tensor], found: dict[str, Tensor]
) -> str | None:
    """The first of the results, then of their gradients, that is not the same."""
    leaves = {"input": input, **dict(module.named_parameters())}
    ends = [name for name, value in expected.items() if value.requires_grad]
    cotangents = [torch.randn_like(expected[name]) for name in ends]

    def with_gradients(results: dict[str, Tensor]) -> dict[str, Tensor]:
        gradients = torch.autograd.grad(
            [results[name] for name in ends],
            list(leaves.values()),
            cotangents,
            materialize_grads=True,
        )
        names = [f"gradient of {name}" for name in leaves]
        return results | dict(zip(names, gradients, strict=True))

    expected, found = with_gradients(expected), with_gradients(found)
    for name, value in expected.items():
        difference = (value - found[name]).detach().abs().max()
        relative = float(difference) / max(1.0, float(value.detach().abs().max()))
        if not relative <= TOLERANCE:  # NaN is no equality either
            return f"{name} {relative:.1e}"
    return None
