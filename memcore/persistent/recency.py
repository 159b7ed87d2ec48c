"""The least recently accessed slot, found and kept in O(log N) a step."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import MemcoreError, check_device, check_size
from memcore.persistent.buffers import Buffers, array, lazy_zeros
from memcore.persistent.slot_state import SlotState
from memcore.persistent.versions import Version
from memcore.sparse_checks import check_slots

__all__ = ["Recency"]

FAN_BITS = 7  # a block holds 2^7 entries: 3 levels up to 2^21 slots, 4 up to 2^28
FAN_OUT = 2**FAN_BITS
NEVER_LEAST = torch.iinfo(torch.int32).max


class Recency(SlotState):
    """When each slot of each example was last accessed; an immutable value like `RowMemory`.

    A tree of block minima: level 0 holds the times, each entry of a further level the least of a
    block of 128 below it. Looking for the least goes down one block a level, an access goes up
    one a level. Nothing waits for the device, and nothing is proportional to N.

    Args:
        batch: B.
        slots: N.
        device: PyTorch's convention.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1, or a device that is not there.

    >>> recency = Recency(batch=1, slots=3)
    >>> recency = recency.accessed(torch.tensor([[0, 2]]), torch.tensor([[True, True]]))
    >>> recency.least()
    tensor([1])
    """

    __slots__ = ("_bases", "_first_block", "_layout")

    def __init__(
        self, batch: int, slots: int, *, device: torch.device | str | int | None = None
    ) -> None:
        self.batch, self.slots = check_size("batch", batch), check_size("slots", slots)
        check_device("device", device)
        device = torch.empty(0, device=device).device
        self._layout = _Layout(self.slots, device)
        begin = partial(self._layout.begin, self.batch, device)
        with torch.inference_mode(False):
            time = torch.zeros(self.batch, 1, dtype=torch.int32, device=device)
            self._begin(Version(begin(), begin), self._layout.size, (time,))

    def _first(self) -> tuple[Tensor, ...]:
        return (self._carried[0].new_zeros(1, 1),)

    def _place(self, offsets: Tensor) -> Recency:
        with torch.inference_mode(False):
            self._first_block = array(offsets.squeeze(1) >> FAN_BITS)
            self._bases = self._layout.bases + array(offsets)  # [levels, B, 1]
            return super()._place(offsets)

    def __repr__(self) -> str:
        return f"Recency(batch={self.batch}, slots={self.slots})"

    @property
    def time(self) -> Int[Tensor, "B"]:
        """Steps of each example ``[B]``, int32, since its beginning."""
        return self._carried[0].squeeze(1).clone()

    @outside_of_graphs
    def least(self) -> Int[Tensor, "B"]:
        """The slot ``[B]`` accessed longest ago; of several the lowest."""
        layout = self._layout

        def search(buffers: Buffers) -> Tensor:
            blocks = array(buffers[0]).reshape(-1, FAN_OUT)
            first = self._first_block
            entry = blocks[first + layout.starts[-1]].argmin(-1)
            for start in layout.starts[-2::-1]:
                entry = entry * FAN_OUT + blocks[entry + (first + start)].argmin(-1)
            return torch.as_tensor(entry)

        return self._version.look(search)

    @outside_of_graphs
    def accessed(self, index: Int[Tensor, "B J"], which: Bool[Tensor, "B J"]) -> Recency:
        """The state one step later, in which some slots were accessed.

        Args:
            index: ``[B, J]``, int64 or int32, slots in [0, N); repeats allowed.
            which: ``[B, J]``, whether that slot was accessed; a slot that is there several times
                was if any of them says so.

        Raises:
            TypeError: not tensors.
            MemcoreError: wrong shape or dtype, or (on a CPU) a slot out of range.
        """
        check_slots("index", index, self.batch, self.slots)
        if not isinstance(which, Tensor):
            raise TypeError(f"which: expected a torch.Tensor, got {type(which).__name__}")
        if which.dtype != torch.bool or which.shape != index.shape:
            raise MemcoreError(
                f"which: expected torch.bool of shape {list(index.shape)}, got {which.dtype} of "
                f"shape {list(which.shape)}"
            )
        index = index.long()
        agreed = (index.unsqueeze(-1) == index.unsqueeze(-2)) & which.unsqueeze(-2)
        return self.accessed_unchecked(array(index), array(agreed.any(-1)))

    def accessed_unchecked(self, index: Any, which: Any) -> Recency:
        """`accessed` for what is known to be right.

        Args:
            index: ``[B, J]``, as `memcore.persistent.buffers.array` gives it.
            which: ``[B, J]``, likewise; repeats of a slot must agree.
        """
        time = self._carried[0] + 1
        now = array(time)
        # Where each slot's entry stands at each level, [levels, B, J].
        entries = (index >> self._layout.shifts) + self._bases

        def change(buffers: Buffers, lost: Buffers) -> None:
            times = array(buffers[0])
            before = array(lost[0])[: which.shape[0] * which.shape[1]].reshape(which.shape)
            # Without a branch: now for those accessed, else what it was.
            times[entries[0]] = before + (now - before) * which
            _renew(times, entries)

        rows = torch.as_tensor(entries.reshape(-1))
        return self._replace(_version=self._version.edit(rows, change), _carried=(time,))

    @property
    def levels(self) -> tuple[tuple[int, ...], int]:
        """Where each level begins in an example's stretch of the buffer, and how long that is."""
        return tuple(start * FAN_OUT for start in self._layout.starts), self._layout.size

    @outside_of_graphs
    def last_access(self) -> Int[Tensor, "B N"]:
        """The step ``[B, N]``, int32, at which each slot was last accessed; 0: never. O(B·N)."""
        size, slots = self._layout.size, self.slots
        examples = (self._offsets // size).squeeze(1)
        return self._version.look(lambda buffers: buffers[0].view(-1, size)[examples, :slots])

    @outside_of_graphs
    def to_dict(self) -> dict[str, Tensor]:
        """Plain tensors that `from_dict` makes the value of again.

        Returns:
            ``shape`` (B, N), ``time [B]``, the flat numbers ``slots [n]`` (slot + N · example) of
            the slots that were accessed, and when, ``times [n]``.
        """
        times = self.last_access().flatten()
        accessed = times.nonzero().squeeze(1)
        return {
            "shape": torch.tensor([self.batch, self.slots]),
            "time": self.time,
            "slots": accessed,
            "times": times[accessed],
        }

    @classmethod
    @outside_of_graphs
    def from_dict(cls, saved: dict[str, Tensor]) -> Recency:
        """The value that `to_dict` took apart.

        Raises:
            MemcoreError: a key is missing, or a slot or time out of range.
        """
        keys = ("shape", "time", "slots", "times")
        if not isinstance(saved, dict) or not all(isinstance(saved.get(k), Tensor) for k in keys):
            raise MemcoreError(f"saved: expected a dict of tensors {', '.join(keys)}")
        time, flat, times = saved["time"], saved["slots"], saved["times"]
        if saved["shape"].shape != (2,) or flat.dtype != torch.int64:
            raise MemcoreError(
                f"saved: expected shape (B, N) and int64 slots, got {saved['shape'].tolist()} and "
                f"{flat.dtype}"
            )
        batch, slots = saved["shape"].tolist()
        if time.shape != (batch,) or flat.dim() != 1 or times.shape != flat.shape:
            raise MemcoreError(
                f"saved: expected time [{batch}], slots [n] and times [n], got {list(time.shape)}, "
                f"{list(flat.shape)} and {list(times.shape)}"
            )
        if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < batch * slots:
            raise MemcoreError(
                f"saved['slots']: expected numbers in [0, {batch * slots}), got {int(flat.min())} "
                f"to {int(flat.max())}"
            )
        if not ((times > 0) & (times <= time[flat // slots])).all():
            raise MemcoreError("saved['times']: expected numbers in [1, time] of each example")
        made = cls(batch, slots, device=flat.device)
        flat, times = array(flat), array(times)
        example, slot = flat // slots, flat % slots
        entries = (slot >> made._layout.shifts[:, :, 0]) + made._bases[:, example, 0]

        def change(buffers: Buffers, lost: Buffers) -> None:
            array(buffers[0])[entries[0]] = times
            _renew(array(buffers[0]), entries)

        version = made._version.edit(torch.as_tensor(entries.reshape(-1)), change)
        time = time.to(torch.int32, copy=True).unsqueeze(1)
        return made._replace(_version=version, _carried=(time,))


def _renew(times: Any, entries: Any) -> None:
    """Make the entries above level 0, ``[levels, ...]``, the least of their blocks again."""
    blocks = times.reshape(-1, FAN_OUT)
    for below, above in pairwise(entries):
        chosen = blocks[below >> FAN_BITS]
        times[above] = chosen.min(-1) if isinstance(chosen, np.ndarray) else chosen.amin(-1)


class _Layout:
    """Where the levels of one example's tree stand in its stretch of the buffer."""

    def __init__(self, slots: int, device: torch.device) -> None:
        self.sizes: list[int] = []  # real entries of each level
        self.starts: list[int] = []  # in blocks, from the beginning of the stretch
        blocks = 0
        while not self.sizes or self.sizes[-1] > FAN_OUT:
            self.sizes.append(slots if not self.sizes else -(-self.sizes[-1] // FAN_OUT))
            self.starts.append(blocks)
            blocks += -(-self.sizes[-1] // FAN_OUT)
        self.size = blocks * FAN_OUT
        levels = torch.arange(len(self.sizes), device=device)[:, None, None]
        # [levels, 1, 1]: how far a slot is shifted to get its entry; where each level begins.
        self.shifts = array(levels * FAN_BITS)
        bases = torch.zeros_like(levels)
        for level, start in enumerate(self.starts):
            bases[level] = start * FAN_OUT  # without a wait for the device
        self.bases = array(bases)

    def begin(self, batch: int, device: torch.device) -> Buffers:
        """Nothing accessed; what pads a level's last block is never the least."""
        times = lazy_zeros((batch, self.size), torch.int32, device)
        for start, size in zip(self.starts, self.sizes, strict=True):
            first = start * FAN_OUT + size
            times[:, first : first + -size % FAN_OUT] = NEVER_LEAST
        return (times.view(-1),)
