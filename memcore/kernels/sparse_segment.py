"""A segment of SAM or the SDNC as one operation: its states are values, edited in place underneath.

All steps of a segment are one edit of the rows, the recency and the links, which says afterwards
what it touched. For autograd the segment is a read of the rows touched as they were before, the
operation, and a write of them as they are then; no more is needed for old versions, branches and
partial backward passes to be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from memcore.index.auto import AutoIndex
from memcore.index.exact import WrittenRowsIndex
from memcore.index.mirror import Mirror, check_masked, held
from memcore.kernels.layout import Packed
from memcore.kernels.parts import Parts, Result, Segment
from memcore.kernels.segment import Done, collected, launched, recorded, resolved
from memcore.kernels.sparse_states import Journal
from memcore.persistent.buffers import Buffers, put
from memcore.persistent.versions import Edited, Version, edit_together

__all__ = ["run"]

Touched: TypeAlias = "tuple[Tensor, Tensor, Tensor]"  # as `Journal.touched` has it


def _table_of(mirror: Mirror) -> WrittenRowsIndex | None:
    """Where the rows stand that exact search looks at, if that is how this mirror searches."""
    index = mirror.index
    if type(index) is AutoIndex:
        index = index.index
    return index if type(index) is WrittenRowsIndex else None


def run(
    segment: Segment, parts: Parts, states: Sequence[Any], packed: Packed
) -> tuple[Result, list[Any]]:
    """Run a segment on the CPU.

    Args:
        segment: its sizes.
        parts: its tensors as for `memcore.kernels.segment.run`, but without the states.
        states: of each memory, `SAMState` or `SDNCState`; not changed.
        packed: as for `memcore.kernels.segment.run`.

    Returns:
        The result, and the states after it.
    """
    if segment.memory.masking:
        for state in states:
            check_masked(state.index.index)
    given = [(state.read_weights, None) for state in states]
    parts, flat = resolved(segment, parts._replace(states=given))
    recording = torch.is_grad_enabled() and (
        any(x is not None and x.requires_grad for x in flat)
        or any(state.memory.requires_grad for state in states)
    )

    def edited(mirrors: list[Mirror]) -> tuple[_Edit, list[Version], list[Any], list[Mirror]]:
        edit = _Edit(segment, parts, states, mirrors, recording, packed)
        versions = edit_together(edit.versions, edit.change)
        memories = [
            state.memory.in_version(version)
            for state, version in zip(states, versions[:: edit.each], strict=True)
        ]
        for mirror, memory in zip(mirrors, memories, strict=True):
            if edit.by_kernel:
                index: Any = mirror.index
                index.changed()
            mirror.knows(memory)
        return edit, versions, memories, mirrors

    edit, versions, memories, mirrors = held(
        [state.index for state in states], [state.memory for state in states], edited
    )
    assert edit.done is not None
    touched: list[Touched] = []
    if not recording:
        result = collected(segment, edit.done)
    else:
        touched = [journal.touched() for journal in edit.journals]
        result = _recorded(segment, edit.done, touched, flat, states, packed)
    after = []
    for place, (state, journal, mirror) in enumerate(
        zip(states, edit.journals, mirrors, strict=True)
    ):
        own = versions[place * edit.each : (place + 1) * edit.each]
        read_weights, write_weights, rows = result.states[place]
        memory = memories[place]
        if recording:
            every, written, _ = touched[place]
            memory = state.memory.rewritten(own[0], every[written], rows)
        state = state._replace(
            memory=memory,
            read_index=journal.read_index,
            read_weights=read_weights,
            write_index=journal.write_index,
            write_weights=write_weights,
            recency=state.recency.edited(own[1], (journal.now.unsqueeze(1),)),
            index=mirror,
        )
        if edit.each > 2:
            links = state.links.edited(own[2], journal.linked)
            state = state._replace(links=links)
        after.append(state)
    return result, after


def _recorded(
    segment: Segment,
    done: Done,
    touched: Sequence[Touched],
    flat: Sequence[Any],
    states: Sequence[Any],
    packed: Packed,
) -> Result:
    """The result, with the history of the rows before."""
    given, made = [], []
    of_memories: list[Tensor] = []
    for place, (state, (every, written, begins)) in enumerate(zip(states, touched, strict=True)):
        width = state.memory.shape[2]
        # Autograd asks for their shape only.
        before = state.memory.recorded(every, flat[0].new_zeros(len(every), width))
        given.append((state.read_weights, before))
        read_weights, write_weights, _ = done.states[place]
        made.append([read_weights, write_weights, flat[0].new_zeros(len(written), width)])
        of_memories += [*done.of_memories[2 * place : 2 * place + 2], begins, written]
    done = done._replace(states=made, of_memories=of_memories)
    parts = segment.split(flat)._replace(states=given)
    return recorded(segment, segment.flatten(parts), None, packed, done)


class _Edit:
    """What is done to the buffers of all states at once."""

    def __init__(
        self,
        segment: Segment,
        parts: Parts,
        states: Sequence[Any],
        mirrors: Sequence[Mirror],
        recording: bool,
        packed: Packed,
    ) -> None:
        self._call = segment, parts, recording, packed
        self._states, self._mirrors = states, mirrors
        tables = [_table_of(mirror) for mirror in mirrors]
        self.by_kernel = all(table is not None for table in tables)
        self._tables = tables if self.by_kernel else [None] * len(tables)
        self.versions: list[Version] = []
        for state in states:
            self.versions += [state.memory.version, state.recency.version]
            if hasattr(state, "links"):
                self.versions.append(state.links.version)
        self.each = len(self.versions) // len(states)
        self.journals: list[Journal] = []
        self.done: Done | None = None

    def change(self, buffers: list[Buffers], edited: list[Edited]) -> None:
        """Run the forward kernel, and say what it touched."""
        segment, parts, recording, packed = self._call
        shared = segment.cells.shared
        steps = len(parts.inputs) * (max(segment.cells.layers, 1) if shared else 1)
        with torch.inference_mode(False), torch.no_grad():
            self.journals = [
                Journal(
                    state,
                    mirror.index,
                    table,
                    segment.memory.reads,
                    buffers[place * self.each : (place + 1) * self.each],
                    steps,
                )
                for place, (state, mirror, table) in enumerate(
                    zip(self._states, self._mirrors, self._tables, strict=True)
                )
            ]
        try:
            with torch.no_grad():
                self.done = launched(segment, parts, recording, packed, self.journals)
            edited += self._edited()
        except BaseException:
            # An interrupt is told of after the kernel.
            for own, (rows, before) in zip(buffers, self._edited(), strict=True):
                put(own, rows, before)
            raise

    def _edited(self) -> list[Edited]:
        with torch.inference_mode(False), torch.no_grad():
            return [edited for journal in self.journals for edited in journal.edited()]
