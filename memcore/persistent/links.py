"""Temporal links of which each slot keeps a few, at a cost that does not depend on the slots.

The DNC's rule for links and precedence, `memcore.linkage`, truncated: Rae et al. 2016, "Scaling
Memory-Augmented Neural Networks with Sparse Reads and Writes" (arXiv 1610.09027), supplementary
D, without its change to the rule (it leaves out the decay by the weight of the slot before; then
columns can sum to more than 1 and backward weightings leave the sub-simplex).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from memcore.circumstances import outside_of_graphs
from memcore.errors import MemcoreError, check_device, check_float_dtype, check_size, check_tensor
from memcore.persistent.buffers import Buffers
from memcore.persistent.link_tables import (
    LinkWrite,
    check_tables,
    empty_tables,
    held,
    largest_totals,
    rows_at,
    rows_of,
)
from memcore.persistent.slot_state import SlotState
from memcore.persistent.versions import Version
from memcore.sparse_checks import check_slots

__all__ = ["Directional", "SparseLinks"]


class Directional(NamedTuple):
    """Where each head goes by following the links: weightings on K_L slots each."""

    backward_index: Int[Tensor, "B R K"]  # slots in [0, N); distinct where the weight is not 0
    backward_weights: Float[Tensor, "B R K"]  # descending, each row on the sub-simplex
    forward_index: Int[Tensor, "B R K"]  # likewise
    forward_weights: Float[Tensor, "B R K"]  # likewise


class SparseLinks(SlotState):
    """Which slot was written after which, and the precedence; an immutable value like `RowMemory`.

    ``L[i, j]``, how much slot i was written right after j, is kept for at most K_L slots j in
    each row i and at most K_L slots i in each column j. A write decays all links of the slots
    written, keeps the K_L largest of each row written, then the K_L largest of each column that
    the precedence is on, then the K_L largest of the precedence. With K_L = N it is the DNC's
    `link` and `precedence`.

    A link's value stands once, in its row; a column only names the rows that may hold it, so the
    two cannot disagree. No gradient flows through links or precedence. A write of J slots costs
    O(K_L² (J + K_L)) whatever N is, and nothing waits for the device.

    Args:
        batch: B.
        slots: N.
        temporal_reads: K_L, at most N.
        dtype: float32 or float64.
        device: PyTorch's convention.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: a size below 1, ``temporal_reads`` over ``slots``, another dtype, or a
            device that is not there.

    >>> links = SparseLinks(batch=1, slots=5, temporal_reads=2)
    >>> for slot in (3, 1):
    ...     links = links.written(torch.tensor([[slot]]), torch.ones(1, 1))
    >>> links.to_tensor().nonzero()  # 1 was written after 3
    tensor([[0, 1, 3]])
    """

    __slots__ = ("dtype", "temporal_reads")

    def __init__(
        self,
        batch: int,
        slots: int,
        temporal_reads: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | int | None = None,
    ) -> None:
        self.batch, self.slots = check_size("batch", batch), check_size("slots", slots)
        self.temporal_reads = check_size("temporal_reads", temporal_reads)
        if temporal_reads > slots:
            raise MemcoreError(
                f"temporal_reads: expected at most slots = {slots}, got {temporal_reads}"
            )
        check_float_dtype("dtype", dtype)
        self.dtype = dtype
        check_device("device", device)
        place = torch.empty(0, device=device).device
        begin = partial(empty_tables, batch * slots, temporal_reads, dtype, place)
        with torch.inference_mode(False):
            # The precedence is always on K_L distinct slots.
            on = torch.arange(temporal_reads, device=place).repeat(batch, 1)
            weights = torch.zeros(batch, temporal_reads, dtype=dtype, device=place)
            self._begin(Version(begin(), begin), slots, (on, weights))

    def _first(self) -> tuple[Tensor, ...]:
        on, weights = self._carried
        return (
            torch.arange(self.temporal_reads, device=on.device)[None],
            weights.new_zeros(1, self.temporal_reads),
        )

    def __repr__(self) -> str:
        return (
            f"SparseLinks(batch={self.batch}, slots={self.slots}, "
            f"temporal_reads={self.temporal_reads})"
        )

    @outside_of_graphs
    def precedence(self) -> tuple[Int[Tensor, "B K"], Float[Tensor, "B K"]]:
        """How much each slot was the one written last, on the K_L slots where it is largest.

        Returns:
            ``(index [B, K_L], weights [B, K_L])``: distinct slots, and weights on the
            sub-simplex, some of them 0.
        """
        on, weights = self._carried
        return on.clone(), weights.clone()

    @outside_of_graphs
    def written(self, index: Int[Tensor, "B J"], weights: Float[Tensor, "B J"]) -> SparseLinks:
        """The links after a write: ``L[i, j] = (1 − w_i − w_j) L'[i, j] + w_i p'_j``.

        Args:
            index: ``[B, J]``, int64 or int32, slots in [0, N); the weights of repeats add up.
            weights: ``[B, J]``, each row on the sub-simplex. No gradient flows back.

        Raises:
            TypeError: not tensors.
            MemcoreError: wrong shape, dtype or device, or (on a CPU) a slot out of range.
        """
        check_slots("index", index, self.batch, self.slots)
        device = self._carried[1].device
        check_tensor("weights", weights, tuple(index.shape), self.dtype, device)
        return self.written_unchecked(index.long(), weights)

    def written_unchecked(self, index: Tensor, weights: Tensor) -> SparseLinks:
        """`written` for what is known to be right."""
        on, precedence = self._carried
        write = LinkWrite(index, weights.detach(), on, precedence, self._offsets)
        columns = self._version.look(write.columns)
        version = self._version.edit(write.rows(columns), write.change)
        return self._replace(_version=version, _carried=write.precedence())

    @outside_of_graphs
    def directional_weightings(
        self, index: Int[Tensor, "B R V"], weights: Float[Tensor, "B R V"]
    ) -> Directional:
        """Where each head goes by following the links from where it read last.

        Forward ``f[i] = Σ_j L[i, j] w[j]``, to the slots written next; backward ``b[i] = Σ_j
        L[j, i] w[j]``, to those written before; of each the K_L largest.

        Args:
            index: ``[B, R, V]``, int64, the slots that a head read, in [0, N); repeats add up.
            weights: ``[B, R, V]``, each row on the sub-simplex. No gradient flows back.

        Raises:
            TypeError: not tensors.
            MemcoreError: wrong shape, dtype or device, or (on a CPU) a slot out of range.
        """
        if not isinstance(index, Tensor):
            raise TypeError(f"index: expected a torch.Tensor, got {type(index).__name__}")
        if index.dim() != 3:
            raise MemcoreError(f"index: expected shape [B, R, V], got {list(index.shape)}")
        check_slots("index", index.flatten(1), self.batch, self.slots)
        device = self._carried[1].device
        check_tensor("weights", weights, tuple(index.shape), self.dtype, device)
        return self.directional_weightings_unchecked(index.long(), weights)

    def directional_weightings_unchecked(self, index: Tensor, weights: Tensor) -> Directional:
        """`directional_weightings` for what is known to be right."""
        weights = weights.detach().unsqueeze(-1)

        def follow(buffers: Buffers) -> tuple[Tensor, Tensor]:
            before, value, after, _ = buffers
            rows = index + self._offsets.unsqueeze(-1)
            named, column = rows_at(after, rows), (index + 1).int().unsqueeze(-1)
            holders = rows_of(named, column, self._offsets[:, :, None, None])
            entering = held(before, value, holders, column).sum(-1)
            slots = torch.stack([rows_at(before, rows), named])
            values = torch.stack([rows_at(value, rows), entering]).mul_(weights)
            return slots.flatten(-2), values.flatten(-2)

        slots, values = largest_totals(*self._version.look(follow), self.temporal_reads)
        return Directional(slots[0], values[0], slots[1], values[1])

    @outside_of_graphs
    def among(self, index: Int[Tensor, "B C"]) -> Float[Tensor, "B C C"]:
        """The links among some slots: ``[b, m, n]`` is ``L[index[b, m], index[b, n]]``.

        Args:
            index: ``[B, C]``, int64 or int32, slots in [0, N); repeats allowed.

        Raises:
            TypeError: not a tensor.
            MemcoreError: wrong shape or dtype, or (on a CPU) a slot out of range.
        """
        check_slots("index", index, self.batch, self.slots)

        def links(buffers: Buffers) -> Tensor:
            before, value, *_ = buffers
            rows = index + self._offsets
            same = before[rows].unsqueeze(2) == (index + 1)[:, None, :, None]
            return (value[rows].unsqueeze(2) * same).sum(-1)

        return self._version.look(links)

    @outside_of_graphs
    def to_tensor(self) -> Float[Tensor, "B N N"]:
        """All links ``[B, N, N]``, a copy: O(B·N²)."""
        every = torch.arange(self.slots, device=self._offsets.device)
        return self.among(every.expand(self.batch, -1))

    @outside_of_graphs
    def to_dict(self) -> dict[str, Tensor]:
        """Plain tensors that `from_dict` makes the value of again.

        Returns:
            ``shape`` (B, N, K_L), ``rows [n]``, ascending, the flat numbers (slot + N · example)
            of the slots with links, their rows of the tables ``before``, ``value`` and ``after``
            (see `memcore.persistent.link_tables`), each ``[n, K_L]``, and the precedence,
            ``on [B, K_L]`` and ``weights [B, K_L]``.
        """
        edited = self._version.edited()
        assert edited is not None
        mine = (edited >= self._offsets) & (edited < self._offsets + self.slots)
        example, place = mine.nonzero(as_tuple=True)
        before, value, after, _ = self._version.read(edited[place])
        linked = ((before > 0) | (after > 0)).any(-1)
        rows = edited[place] + example * self.slots - self._offsets.squeeze(1)[example]
        on, weights = self._carried
        return {
            "shape": torch.tensor([self.batch, self.slots, self.temporal_reads]),
            "rows": rows[linked],
            "before": before[linked],
            "value": value[linked],
            "after": after[linked],
            "on": on.clone(),
            "weights": weights.clone(),
        }

    @classmethod
    @outside_of_graphs
    def from_dict(cls, saved: dict[str, Tensor]) -> SparseLinks:
        """The value that `to_dict` took apart.

        Raises:
            MemcoreError: a key is missing, or something out of its range.
        """
        keys = ("shape", "rows", "before", "value", "after", "on", "weights")
        if not isinstance(saved, dict) or not all(isinstance(saved.get(k), Tensor) for k in keys):
            raise MemcoreError(f"saved: expected a dict of tensors {', '.join(keys)}")
        if saved["shape"].shape != (3,):
            raise MemcoreError(f"saved['shape']: expected (B, N, K_L), got {saved['shape']}")
        batch, slots, reads = saved["shape"].tolist()
        value = saved["value"]
        made = cls(batch, slots, reads, dtype=value.dtype, device=value.device)
        number = len(saved["rows"])
        for name, shape, most in (
            ("rows", (number,), batch * slots - 1),
            ("before", (number, reads), slots),
            ("value", (number, reads), 1),
            ("after", (number, reads), slots),
            ("on", (batch, reads), slots - 1),
            ("weights", (batch, reads), 1),
        ):
            own = saved[name]
            if own.shape != shape or not ((own >= 0) & (own <= most + 1e-5)).all():
                raise MemcoreError(
                    f"saved[{name!r}]: expected shape {list(shape)} in [0, {most}], got "
                    f"{list(own.shape)}"
                )
        rows, tables = saved["rows"], (saved["before"].int(), value, saved["after"].int())
        check_tables(rows, *tables, slots)

        def change(buffers: Buffers, lost: Buffers) -> None:
            for buffer, table in zip(buffers, tables, strict=False):
                buffer[rows] = table

        version = made._version.edit(rows, change)
        carried = (saved["on"].clone(), saved["weights"].to(value.dtype, copy=True))
        return made._replace(_version=version, _carried=carried)
