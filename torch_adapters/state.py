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

from memcore import MemcoreError, sam, sdnc, sparse_state
from memcore.dam import DAMState
from memcore.dnc import DNCState
from memcore.sam import SAMState
from memcore.sdnc import SDNCState

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

SPARSE = {SAMState: sam.from_dict, SDNCState: sdnc.from_dict}
MEMORY_STATES = {kind.__name__: kind for kind in (DAMState, DNCState, *SPARSE)}


def map_hidden(function: Callable[[Tensor], Tensor], hidden: Hidden) -> Hidden:
    """Apply a function to an RNN state, to both tensors of an LSTM's."""
    if isinstance(hidden, Tensor):
        return function(hidden)
    cell_output, cell = hidden
    return function(cell_output), function(cell)


def _map_memory(
    dense: Callable[[Tensor], Tensor], sparse: Callable[[Any], Any], memory: Any
) -> Any:
    """Apply ``dense`` to each tensor of a dense memory's state, ``sparse`` to a sparse one's."""
    if isinstance(memory, list):
        return [_map_memory(dense, sparse, layer) for layer in memory]
    if isinstance(memory, tuple(SPARSE)):
        return sparse(memory)
    return type(memory)(*(dense(value) for value in memory))


def detach_state(hx: ModuleState) -> ModuleState:
    """The same state without its history, for truncated backpropagation through time.

    Args:
        hx: a state that a module returned.

    Returns:
        The state, sharing its numbers with ``hx``.

    Raises:
        TypeError: ``hx`` is not such a state.
    """
    hidden, memory, reads = _parts(hx)
    return (
        [map_hidden(Tensor.detach, layer) for layer in hidden],
        _map_memory(Tensor.detach, sparse_state.detach, memory),
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
    try:
        given = torch.as_tensor(examples, device=reads.device)
    except (RuntimeError, TypeError, ValueError):
        raise TypeError(
            f"examples: expected a list of ints or a bool tensor [{batch_size}], "
            f"got {type(examples).__name__}"
        ) from None
    chosen = given.long() if given.dtype == torch.int32 else given
    if given.dtype == torch.bool and given.shape == (batch_size,):
        chosen = given.nonzero().squeeze(1)
    if chosen.dim() != 1 or chosen.numel() == 0 or chosen.dtype not in (torch.int64, torch.int32):
        raise MemcoreError(
            f"examples: expected a non-empty list of ints or a bool tensor [{batch_size}] with "
            f"some True, got {given.dtype} of shape {list(given.shape)}"
        )
    if chosen.device.type == "cpu" and not ((chosen >= 0) & (chosen < batch_size)).all():
        raise MemcoreError(
            f"examples: expected numbers in [0, {batch_size}), got {chosen.tolist()}"
        )
    return (
        [map_hidden(lambda state: state[:, chosen], layer) for layer in hidden],
        _map_memory(
            lambda value: value[chosen], lambda state: sparse_state.select(state, chosen), memory
        ),
        reads[chosen],
    )


def state_to_dict(hx: ModuleState) -> dict[str, Any]:
    """The state as dictionaries and lists of plain tensors, without history.

    ``torch.load(weights_only=True)`` refuses named tuples; it loads this. `state_from_dict`
    is the way back.

    Args:
        hx: a state that a module returned.

    Returns:
        A dictionary whose tensors share their numbers with ``hx``.

    Raises:
        TypeError: ``hx`` is not such a state.
    """
    hidden, memory, reads = _parts(detach_state(hx))

    def plain(state: Any) -> dict[str, Any]:
        fields = (
            sparse_state.to_dict(state) if isinstance(state, tuple(SPARSE)) else state._asdict()
        )
        return {"type": type(state).__name__, **fields}

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

    hidden, memory, reads = (saved[key] for key in ("controller_hidden", "memory", "read_vectors"))
    if not isinstance(hidden, list):
        raise MemcoreError(
            f"saved['controller_hidden']: expected a list, got {type(hidden).__name__}"
        )
    return _parts(
        (
            [layer if isinstance(layer, Tensor) else tuple(layer) for layer in hidden],
            [_rebuilt(state) for state in memory] if isinstance(memory, list) else _rebuilt(memory),
            reads,
        )
    )


def _rebuilt(state: Any) -> Any:
    fields = dict(state) if isinstance(state, dict) else {}
    name = fields.pop("type", None)
    kind = MEMORY_STATES.get(name) if isinstance(name, str) else None
    if kind is None or set(fields) != set(kind._fields):
        raise MemcoreError(
            f"saved['memory']: expected a dict of type {' or '.join(sorted(MEMORY_STATES))} with "
            f"its fields, got {type(state).__name__} of type {name!r} with {sorted(fields)}"
        )
    return SPARSE[kind](fields) if kind in SPARSE else kind(**fields)


def _parts(hx: object) -> ModuleState:
    """``hx``, if its parts have the types of a state."""
    expected = "hx: expected (controller_hidden, memory, read_vectors) as a module returns it, "
    if not isinstance(hx, tuple) or len(hx) != 3:
        raise TypeError(f"{expected}got {type(hx).__name__}")
    hidden, memory, reads = hx
    memories = memory if isinstance(memory, list) else [memory]
    tensors: list[Any] = [reads]
    for layer in hidden if isinstance(hidden, list) else [None]:
        tensors += layer if isinstance(layer, tuple) else [layer]
    for state in memories:
        known = isinstance(state, tuple(MEMORY_STATES.values()))
        tensors += [] if isinstance(state, tuple(SPARSE)) else state if known else [None]
    if not all(isinstance(value, Tensor) for value in tensors):
        got = ", ".join(type(part).__name__ for part in hx)
        raise TypeError(f"{expected}got a tuple of ({got}) or with such parts")
    return hidden, memory, reads
