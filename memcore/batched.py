"""One step of a dense memory for a whole batch, from interface vectors: what the models share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from memcore.backends import check_backend, why_not_numba
from memcore.errors import FLOAT_DTYPES, MemcoreError, check_tensor
from memcore.options import SAMOptions, check_options, told_to_kernels

if TYPE_CHECKING:
    from memcore.kernels.parts import Parts, Result, Segment

__all__ = ["BatchedModel"]

State = TypeVar("State", bound=Any)


class BatchedModel(NamedTuple):
    """A dense model of `memcore`, as its batched step needs to know it."""

    name: str  # in `memcore.kernels.kinds`
    state_type: type[Any]
    options_type: type[SAMOptions]
    one_example: Callable[[Any, Tensor, int, int, Any], tuple[Tensor, Any]]  # state, vector, W, R
    interface_size: Callable[..., int]  # W, R, options=

    def check(self, state: Any, vectors: object, options: Any, backend: object) -> None:
        """Raise unless these are a batch's state and interface vectors, options, and a backend.

        Raises:
            TypeError: an argument of the wrong type.
            MemcoreError: a field or the vectors of the wrong shape, dtype or device.
        """
        check_backend("backend", backend)
        check_options(options, self.options_type)
        if not isinstance(state, self.state_type):
            raise TypeError(
                f"state: expected a {self.state_type.__name__}, got {type(state).__name__}"
            )
        memory, read_weights = state.memory, state.read_weights
        for name, value in (("state.memory", memory), ("state.read_weights", read_weights)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
        if memory.dim() != 3 or memory.numel() == 0:
            raise MemcoreError(
                f"state.memory: expected shape [B, N, W] with no empty axis, "
                f"got {list(memory.shape)}"
            )
        if memory.dtype not in FLOAT_DTYPES:
            raise MemcoreError(f"state.memory: expected float32 or float64, got {memory.dtype}")
        batch, slots, words = memory.shape
        if read_weights.dim() != 3 or read_weights.numel() == 0:
            raise MemcoreError(
                f"state.read_weights: expected shape [{batch}, R, {slots}] with R of at least 1, "
                f"got {list(read_weights.shape)}"
            )
        heads = read_weights.shape[1]
        writes = getattr(options, "write_heads", 1)
        written = (batch, writes, slots) if writes > 1 else (batch, slots)
        shapes = {
            "memory": (batch, slots, words),
            "precedence": written,
            "link": (*written, slots),
            "read_weights": (batch, heads, slots),
            "write_weights": written,
        }
        for field, value in state._asdict().items():
            shape = shapes.get(field, (batch, slots))
            check_tensor(f"state.{field}", value, shape, memory.dtype, memory.device)
        shape = (batch, self.interface_size(words, heads, options=options))
        check_tensor("vectors", vectors, shape, memory.dtype, memory.device)

    def step(
        self, state: State, vectors: Tensor, options: Any, backend: str
    ) -> tuple[Tensor, State]:
        """The step, unchecked: read vectors ``[B, R, W]`` and the next state."""
        reason = None
        if backend != "reference":
            reason = why_not_numba([vectors, *state])
            words, heads = state.memory.shape[-1], state.read_weights.shape[-2]
            if vectors.shape[-1] != self.interface_size(words, heads, options=options):
                return self._plain(state, vectors, options)  # which says what is wrong
            if reason is None:
                return self._by_kernels(state, vectors, options)
        if backend == "numba":
            raise MemcoreError(f"backend: expected what the kernels take for 'numba', but {reason}")
        return self._plain(state, vectors, options)

    def _plain(self, state: State, vectors: Tensor, options: Any) -> tuple[Tensor, State]:
        words, heads = state.memory.shape[2], state.read_weights.shape[1]

        def one(own: State, vector: Tensor) -> tuple[Tensor, State]:
            return self.one_example(own, vector, words, heads, options)

        return torch.func.vmap(one)(state, vectors)

    def _by_kernels(self, state: State, vectors: Tensor, options: Any) -> tuple[Tensor, State]:
        from memcore.kernels import kinds
        from memcore.kernels.parts import Cells, Memory, Parts, Segment
        from memcore.kernels.segment import run

        batch, slots, words = state.memory.shape
        heads = state.read_weights.shape[1]
        kind = getattr(kinds, self.name)
        sizes = slots, words, heads, vectors.shape[1]
        segment = Segment(Memory(kind, *sizes, **told_to_kernels(options)), Cells())
        parts = Parts(vectors[None], None, None, [], [tuple(state)], [], [])
        result = run(segment, parts, partial(self._plain_segment, options))
        return result.rows.view(batch, heads, words), self.state_type(*result.states[0])

    def _plain_segment(self, options: Any, segment: Segment, parts: Parts) -> Result:
        from memcore.kernels.parts import Result

        state = self.state_type(*parts.states[0])
        rows = []
        for vectors in parts.inputs.unbind(0):
            reads, state = self._plain(state, vectors, options)
            rows.append(reads.flatten(1))
        return Result(torch.stack(rows), None, [], [tuple(state)])
