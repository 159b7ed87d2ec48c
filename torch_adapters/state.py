"""The state ``hx`` that modules take and return, as a value: detach, select, save, load.

``hx`` is ``(controller_hidden, memory, read_vectors)``: a list with one RNN state a layer
(``[layers, B, H]``, a pair of them for an LSTM), one batched memory state or a list with one a
layer, and ``[B, R·W]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from memcore import MemcoreError
from memcore.dnc import DNCState

__all__ = [
    "Hidden",
    "ModuleState",
    "detach_state",
    "select_state",
    "state_from_dict",
    "state_to_dict",
]

Hidden: TypeAlias = "Tensor | tuple[Tensor, Tensor]"
ModuleState: TypeAlias = "tuple[list[Hidden], Any, Tensor]"

MEMORY_STATES = {kind.__name__: kind for kind in (DNCState,)}


def map_hidden(function: Callable[[Tensor], Tensor], hidden: Hidden) -> Hidden:
    """Apply a function to an RNN state, to both tensors of an LSTM's."""
    if isinstance(hidden, Tensor):
        return function(hidden)
    cell_output, cell = hidden
    return function(cell_output), function(cell)


def _map_memory(function: Callable[[Tensor], Tensor], memory: Any) -> Any:
    if isinstance(memory, list):
        return [_map_memory(function, layer) for layer in memory]
    return type(memory)(*(function(value) for value in memory))


def detach_state(hx: ModuleState) -> ModuleState:
    """The same state without its history, for truncated backpropagation through time."""
    hidden, memory, reads = _parts(hx)
    return (
        [map_hidden(Tensor.detach, layer) for layer in hidden],
        _map_memory(Tensor.detach, memory),
        reads.detach(),
    )


def select_state(hx: ModuleState, examples: Tensor | Sequence[int]) -> ModuleState:
    """The state of some examples of the batch, in the order asked for.

    Args:
        hx: a state that a module returned.
        examples: ``[n]``, whole numbers in [0, B) (repeats allowed) or a bool for each example.

    Raises:
        TypeError: ``hx`` is not such a state.
        MemcoreError: ``examples`` of the wrong rank, dtype or range, or empty.
    """
    hidden, memory, reads = _parts(hx)
    batch_size = reads.shape[0]
    chosen = torch.as_tensor(examples, device=reads.device)
    if chosen.dtype == torch.bool and chosen.shape == (batch_size,):
        chosen = chosen.nonzero().squeeze(1)
    if chosen.dim() != 1 or chosen.numel() == 0 or chosen.dtype not in (torch.int64, torch.int32):
        raise MemcoreError(
            f"examples: expected a non-empty list of ints or a bool tensor [{batch_size}], got "
            f"{chosen.dtype} of shape {list(chosen.shape)}"
        )
    if chosen.device.type == "cpu" and not ((chosen >= 0) & (chosen < batch_size)).all():
        raise MemcoreError(
            f"examples: expected numbers in [0, {batch_size}), got {chosen.tolist()}"
        )
    return (
        [map_hidden(lambda state: state[:, chosen], layer) for layer in hidden],
        _map_memory(lambda value: value[chosen], memory),
        reads[chosen],
    )


def state_to_dict(hx: ModuleState) -> dict[str, Any]:
    """The state as dictionaries and lists of plain tensors, without history.

    ``torch.load(weights_only=True)`` refuses named tuples; it loads this. `state_from_dict`
    is the way back.
    """
    hidden, memory, reads = _parts(detach_state(hx))

    def plain(state: Any) -> dict[str, Any]:
        return {"type": type(state).__name__, **state._asdict()}

    return {
        "controller_hidden": [
            layer if isinstance(layer, Tensor) else list(layer) for layer in hidden
        ],
        "memory": [plain(state) for state in memory] if isinstance(memory, list) else plain(memory),
        "read_vectors": reads,
    }


def state_from_dict(saved: dict[str, Any]) -> ModuleState:
    """The state that `state_to_dict` made a dictionary of.

    Raises:
        TypeError: ``saved`` is not a dictionary.
        MemcoreError: a key is missing, or the memory of an unknown type.
    """
    if not isinstance(saved, dict):
        raise TypeError(f"saved: expected a dict, got {type(saved).__name__}")
    missing = {"controller_hidden", "memory", "read_vectors"} - saved.keys()
    if missing:
        raise MemcoreError(f"saved: expected the keys of state_to_dict, missing {sorted(missing)}")

    def rebuilt(state: dict[str, Any]) -> Any:
        fields = dict(state)
        name = fields.pop("type", None)
        kind = MEMORY_STATES.get(name)  # pyright: ignore[reportArgumentType]
        if kind is None or set(fields) != set(kind._fields):
            raise MemcoreError(
                f"saved['memory']: expected type one of {sorted(MEMORY_STATES)} with its fields, "
                f"got type {name!r} with {sorted(fields)}"
            )
        return kind(**fields)

    memory = saved["memory"]
    return (
        [
            layer if isinstance(layer, Tensor) else tuple(layer)
            for layer in saved["controller_hidden"]
        ],
        [rebuilt(state) for state in memory] if isinstance(memory, list) else rebuilt(memory),
        saved["read_vectors"],
    )


def _parts(hx: object) -> ModuleState:
    if not isinstance(hx, tuple) or len(hx) != 3 or any(part is None for part in hx):
        raise TypeError(
            "hx: expected (controller_hidden, memory, read_vectors) as a module returns it, "
            f"got {type(hx).__name__}"
        )
    return hx
