"""Which backend runs a module's call, and if it is the reference, why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.nn.utils.parametrize import type_before_parametrizations

from memcore import MemcoreError
from memcore.backends import COMPILING, numba_is_missing, why_not_numba
from torch_adapters.cells import CELLS
from torch_adapters.controller import Controller
from torch_adapters.interface import Interface
from torch_adapters.segment import Weights, is_sparse

if TYPE_CHECKING:
    from torch_adapters.carried import Carried
    from torch_adapters.recurrence import MemoryRNN

__all__ = ["Backend", "choose", "has_kernels"]

LAYER_NORM_EPSILON = 1e-5  # torch's own, and that of the kernels
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


class Backend(NamedTuple):
    """What runs a call, and the sentence that says why not the kernels."""

    name: str  # 'numba' or 'reference'
    reason: str | None  # None for 'numba'


def choose(
    module: MemoryRNN,
    inputs: Tensor,
    carried: Carried,
    *,
    autocast: bool,
    pass_through_memory: bool,
) -> tuple[Backend, Weights | None]:
    """The backend of one call, and the weights that kernels take.

    Raises:
        MemcoreError: ``module.backend`` is ``'numba'`` and the kernels do not take the call.
    """
    if module.backend == "reference":
        return Backend("reference", "backend='reference' was asked for"), None
    reason = _why_not_call(module, autocast, pass_through_memory) or _why_not_modules(module)
    if reason is None:
        weights = Weights(module)
        hidden = [part for layer in carried.hidden for state in layer for part in state]
        memories = [field for memory in carried.memories for field in _tensors(module, memory)]
        tensors = [inputs, carried.reads, *hidden, *memories, *weights.tensors()]
        reason = why_not_numba(tensors) or _why_not_shapes(module, weights)
        if reason is None:
            return Backend("numba", None), weights
    if module.backend == "numba":
        raise MemcoreError(f"backend: expected what the kernels take for 'numba', but {reason}")
    return Backend("reference", reason), None


def _tensors(module: MemoryRNN, memory: Any) -> list[Tensor]:
    """The floating-point tensors of a memory's state."""
    return [memory.read_weights] if is_sparse(module.cell) else list(memory)


def has_kernels(cell: object) -> bool:
    """Whether there are kernels for a memory: for ours, not for what somebody derived from it."""
    return "kernel" in vars(type(cell))


def _why_not_call(module: MemoryRNN, autocast: bool, pass_through_memory: bool) -> str | None:
    if torch.compiler.is_compiling():
        return COMPILING
    if not has_kernels(module.cell):
        return f"there are no kernels for the memory {type(module.cell).__name__}"
    if autocast:
        return "autocast is on, which chooses a dtype for each of torch's operations"
    if module.debug is not False:  # 0 is an example
        return "the debug dictionary shows every step"
    if not pass_through_memory:
        return "pass_through_memory=False leaves the memory out"
    return numba_is_missing()


def _why_not_modules(module: MemoryRNN) -> str | None:
    """Kernels take the weights and leave the modules out: that must make no difference."""
    if any(getattr(module_hooks, name) for name in GLOBAL_HOOKS):
        return "hooks are registered on all modules"
    first: Any = module.controllers[0].cells[0]  # pyright: ignore
    for layer, controller in enumerate(module.controllers):
        reason = _why_not_one(f"controllers[{layer}]", controller, Controller)
        if reason is not None:
            return reason
        cells: Any = controller.cells
        for depth, cell in enumerate(cells):
            name = f"controllers[{layer}].cells[{depth}]"
            reason = _why_not_one(name, cell, *_kinds_of_cell(module.rnn_type))
            if reason is not None:
                return reason
            own = module.rnn_type in ("rnn", "linear")
            if own and cell.nonlinearity != first.nonlinearity:
                return f"{name} has a nonlinearity of its own"
    for layer, interface in enumerate(module.interfaces):
        reason = _why_not_one(f"interfaces[{layer}]", interface, Interface)
        if reason is not None:
            return reason
        reason = _why_not_norm(f"interfaces[{layer}].norm", interface.norm, module)
        if reason is not None:
            return reason
        parts: Any = interface.parts
        for part, linear in parts.items():
            name = f"interfaces[{layer}].parts.{part}"
            reason = _why_not_one(name, linear, nn.Linear)
            if reason is not None:
                return reason
            if linear.bias is None:
                return f"{name} has no bias"
    return None


def _kinds_of_cell(rnn_type: str) -> list[type[nn.Module]]:
    """Our cell, and torch's own, which somebody may put in its place."""
    ours = CELLS[rnn_type]
    return [ours] if rnn_type == "linear" else [ours, *ours.__bases__]


def _why_not_norm(name: str, norm: Any, module: MemoryRNN) -> str | None:
    first: Any = module.interfaces[0].norm
    if norm is None:
        return None if first is None else f"{name} is missing"
    reason = f"{name} is new" if first is None else _why_not_one(name, norm, nn.LayerNorm)
    if reason is None and (norm.weight is None or norm.bias is None):
        reason = f"{name} has no weight or no bias"
    if reason is None and norm.eps != LAYER_NORM_EPSILON:
        reason = f"{name} has an eps of its own"
    return reason


def _why_not_one(name: str, module: nn.Module, *expected: type[nn.Module]) -> str | None:
    kind, own = type(module), module.__dict__
    if kind not in expected and type_before_parametrizations(module) not in expected:
        return f"{name} is a {kind.__name__}, not a {expected[0].__name__}"
    if any(own[hooks] for hooks in HOOKS):
        return f"{name} has hooks"
    if "forward" in own:
        return f"{name} has a forward of its own"
    return None


def _why_not_shapes(module: MemoryRNN, weights: Weights) -> str | None:
    """What somebody put in place of ours, or a parametrization, may have other sizes."""
    hidden, reads = module.hidden_size, module.cell.read_size
    gates = {"lstm": 4, "gru": 3, "rnn": 1, "linear": 1}[module.rnn_type] * hidden
    vector = sum(module.cell.interface_sizes.values())
    controllers: Any = module.controllers
    counts = [len(own.cells) for own in controllers]
    if counts != [module.num_hidden_layers] * module.num_layers:
        return "there are more or fewer cells than the module was made with"
    if len(weights.interfaces) != module.num_layers:
        return "there are more or fewer interfaces than the module was made with"
    for which, (from_input, from_state, *biases) in enumerate(weights.cells):
        layer, depth = divmod(which, module.num_hidden_layers)
        inputs = hidden if depth else reads + (hidden if layer else module.input_size)
        if module.rnn_type == "linear":
            right = _fit([from_input], (gates, inputs)) and _fit(biases[:1], (gates,))
        else:
            right = _fit([from_input], (gates, inputs)) and _fit([from_state], (gates, hidden))
            right = right and _fit(biases, (gates,))
        if not right:
            return f"controllers[{layer}].cells[{depth}] has weights of other sizes"
    for layer, (weight, *others) in enumerate(weights.interfaces):
        if weight.shape != (vector, hidden) or not _fit(others, (vector,)):
            return f"interfaces[{layer}] has weights of other sizes"
    return None


def _fit(biases: Sequence[Tensor | None], shape: tuple[int, ...]) -> bool:
    """Whether all biases have that shape, or all are None."""
    missing = [bias is None for bias in biases]
    return all(missing) or all(bias is not None and bias.shape == shape for bias in biases)
