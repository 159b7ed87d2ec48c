"""What SAM's and the SDNC's states have in common: parts of a batch, saving, and one check.

A state is a named tuple of tensors with the batch in front, of which ``memory``, ``recency``,
``index`` and, in the SDNC, ``links`` are values of their own kinds.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from memcore.errors import MemcoreError, check_tensor
from memcore.index import Mirror, index_name, make_index
from memcore.persistent.links import SparseLinks
from memcore.persistent.recency import Recency
from memcore.persistent.rows import RowMemory
from memcore.persistent.slot_state import SlotState
from memcore.sparse_checks import check_slots

__all__ = ["check_parts", "detach", "from_dict", "narrow", "select", "to_dict", "widen"]

State = TypeVar("State", bound=Any)
VALUES = {"memory": RowMemory, "recency": Recency, "links": SparseLinks}


def detach(state: State) -> State:
    """The same state without its history."""
    kinds = (Tensor, RowMemory)
    parts = (part.detach() if isinstance(part, kinds) else part for part in state)
    return type(state)(*parts)


def select(state: State, examples: Int[Tensor, "b"]) -> State:
    """The state of some examples, in the order asked for.

    O(1) in the slots as long as none is asked for twice; else the rows written are copied.

    Args:
        state: of a batch.
        examples: ``[b]``, int64, in [0, B).

    Raises:
        MemcoreError: ``examples`` of another rank or dtype, empty, or (on a CPU) out of range.
    """
    memory = state.memory.select(examples)
    index = state.index if memory.same_version(state.memory) else state.index.of(memory)

    def chosen(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part[examples]
        return part.select(examples) if isinstance(part, SlotState) else part

    return type(state)(*map(chosen, state))._replace(memory=memory, index=index)


def narrow(state: State, count: int) -> State:
    """The state of the first ``count`` examples, 1 to B, in O(1)."""

    def first(part: Any) -> Any:
        if isinstance(part, Tensor):
            return part[:count]
        return part if isinstance(part, Mirror) else part.narrow(count)

    return type(state)(*map(first, state))


def widen(state: State, before: State) -> State:
    """Undo `narrow`: all examples of ``before``, those left out as they were."""

    def joined(new: Any, old: Any) -> Any:
        if isinstance(new, Tensor):
            return torch.cat([new, old[len(new) :]])
        return new if isinstance(new, Mirror) else new.widen(old)

    return type(state)(*map(joined, state, before))


def to_dict(state: Any) -> dict[str, Any]:
    """Plain tensors, numbers and dictionaries, without history, for ``torch.save``."""
    plain = detach(state)._asdict()
    for name in VALUES.keys() & plain.keys():
        plain[name] = getattr(state, name).to_dict()
    plain["index"] = index_name(state.index.index)
    return plain


def from_dict(kind: type[State], saved: dict[str, Any]) -> State:
    """The state that `to_dict` took apart, unchecked; its index is made anew.

    Raises:
        TypeError: a part of the wrong type.
        MemcoreError: a field is missing, or something in it is out of range.
    """
    missing = set(kind._fields) - set(saved)
    if missing:
        raise MemcoreError(
            f"saved: expected the fields of a {kind.__name__}, missing {sorted(missing)}"
        )
    parts = {name: saved[name] for name in kind._fields}
    for name in VALUES.keys() & parts.keys():
        parts[name] = VALUES[name].from_dict(parts[name])
    memory = parts["memory"]
    batch, slots, width = memory.shape
    place = {"dtype": memory.dtype, "device": memory.device}
    index = make_index(saved["index"], batch_size=batch, slots=slots, word_size=width, **place)
    return kind(**{**parts, "index": Mirror(index, memory)})


def check_parts(name: str, state: Any) -> None:
    """Raise unless the parts of ``state`` fit each other and its memory."""
    if not isinstance(state.memory, RowMemory):
        raise TypeError(f"{name}.memory: expected a RowMemory, got {type(state.memory).__name__}")
    batch, slots, _ = state.memory.shape
    if not isinstance(state.read_index, Tensor) or state.read_index.dim() != 3:
        raise MemcoreError(f"{name}.read_index: expected a tensor [B, R, K]")
    heads, reads = state.read_index.shape[1:]
    read, written = (batch, heads, reads), (batch, heads * reads + 1)
    like = state.memory
    for field, shape, dtype in (
        ("read_index", read, torch.int64),
        ("read_weights", read, like.dtype),
        ("write_index", written, torch.int64),
        ("write_weights", written, like.dtype),
    ):
        value = getattr(state, field)
        check_tensor(f"{name}.{field}", value, shape, dtype, like.device)
        if dtype == torch.int64:
            check_slots(f"{name}.{field}", value.flatten(1), batch, slots)
    if not isinstance(state.index, Mirror):
        raise TypeError(f"{name}.index: expected a Mirror, got {type(state.index).__name__}")
    sizes = (*state.memory.shape[1:], state.memory.dtype)
    if state.index.sizes not in (None, sizes):
        raise MemcoreError(
            f"{name}.index: expected one for memories of (N, W, dtype) = {sizes}, got one for "
            f"{state.index.sizes}"
        )
    for field in {"recency", "links"} & set(state._fields):
        part: Any = getattr(state, field)
        if not isinstance(part, VALUES[field]):
            raise TypeError(
                f"{name}.{field}: expected a {VALUES[field].__name__}, got {type(part).__name__}"
            )
        if (part.batch, part.slots) != (batch, slots):
            raise MemcoreError(
                f"{name}.{field}: expected one of batch {batch} and slots {slots}, got {part}"
            )
