"""The contract that every search index must meet, those of others too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from memcore.index import Index, MaskedIndex
from memcore.numerics import safe_norm
from memcore.persistent.rows import RowMemory, SparseWrite

__all__ = ["check_index"]

WIDTH = 16
MANY = 2**13  # rows, of which an approximate index has to make something
CLUSTERS, SPREAD = 512, 0.3  # standard deviation of rows around centres, and
NEAR = 0.1  # of keys around rows, where centres have 1 in each component
CLOSE = 2e-3  # cosines that count as equal

Make = Callable[..., Index]


def check_index(
    make: Make,
    *,
    recall: float = 0.9,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | int | None = None,
) -> None:
    """Raise unless an index does all that `memcore.Index` asks of it.

    Slots are distinct, in range and best first, also where fewer rows were written than are asked
    for; updates replace rows, zeros delete them; `reset` forgets, of some examples too; examples
    are independent, in any order; `empty` gives one that knows nothing; keys that are not numbers
    do no harm; the same calls give the same slots; and of the best rows enough are found. Of a
    `memcore.MaskedIndex` also that masks hide what they should. It takes some seconds.

    Args:
        make: called with the keyword arguments ``batch_size``, ``slots``, ``word_size``, ``dtype``
            and ``device``, and no others, for an index of memories of zeros, whose random choices
            have a fixed seed: ``functools.partial(make_index, "exact")`` is one.
        recall: the least mean share of the 4 best of 8192 rows to be found, in clusters (512
            centres with standard deviation 1 in each of 16 components, rows around them with
            0.3, keys around rows with 0.1), just loaded as well as rewritten by and by. A row
            as good as the fourth best within 0.002 counts.
        dtype: of the rows.
        device: where the rows are.

    Raises:
        AssertionError: it does not; the message says what.

    >>> from functools import partial
    >>> from memcore import make_index
    >>> check_index(partial(make_index, "exact"))
    """
    place = torch.empty(0, device=device).device
    given = {"dtype": dtype, "device": place}
    generator = torch.Generator().manual_seed(0)

    def made(batch_size: int, slots: int) -> Index:
        index = make(batch_size=batch_size, slots=slots, word_size=WIDTH, **given)
        assert isinstance(index, Index), f"make: expected an Index, got {type(index).__name__}"
        return index

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, WIDTH, generator=generator, dtype=torch.float64).to(**given)

    for check in (_few_rows, _updates, _resets, _initial_row, _parts, _copies, _masks, _bad_keys):
        check(made, noise)
    _check_many(made, noise, generator, recall)


def _search(
    index: Any,
    rows: Tensor,
    keys: Tensor,
    k: int,
    what: str,
    masks: Tensor | None = None,
    **more: Any,
) -> Tensor:
    """The slots found, after looking whether they are some at all, and in order."""

    def search() -> Any:
        if masks is None:
            return index.search(keys, k, **more)
        return index.search_masked(keys, masks, k, **more)

    found = search()
    shape = (*keys.shape[:2], k)
    assert isinstance(found, Tensor), f"{what}: expected a tensor, got {type(found).__name__}"
    assert found.shape == shape, f"{what}: expected shape {shape}, got {tuple(found.shape)}"
    assert found.dtype == torch.int64, f"{what}: expected int64, got {found.dtype}"
    assert found.device == keys.device, f"{what}: expected {keys.device}, got {found.device}"
    slots = rows.shape[1]
    assert bool(((found >= 0) & (found < slots)).all()), f"{what}: a slot is not in [0, {slots})"
    distinct = (found.sort(-1).values.diff(dim=-1) > 0).all()
    assert bool(distinct), f"{what}: a slot was found twice for one key"
    own = _cosines(rows, keys, masks).gather(2, found)
    assert bool((own.diff(dim=-1) < CLOSE).all()), f"{what}: slots are not best first"
    again = search()
    assert torch.equal(found, again), f"{what}: the same search gave other slots"
    return found


def _cosines(rows: Tensor, keys: Tensor, masks: Tensor | None = None) -> Tensor:
    if masks is None:
        return torch.bmm(keys / safe_norm(keys), (rows / safe_norm(rows)).mT).nan_to_num(-1)
    shown, own = rows[:, None] * masks[:, :, None], keys * masks
    return torch.einsum("brnw,brw->brn", shown / safe_norm(shown), own / safe_norm(own))


def _recall(rows: Tensor, keys: Tensor, found: Tensor, masks: Tensor | None = None) -> float:
    """The share of slots found that are as good as the k best."""
    cosines, k = _cosines(rows, keys, masks), found.shape[2]
    worst = cosines.topk(k).values[..., -1:]
    return float((cosines.gather(2, found) > worst - CLOSE).double().mean())


def _all_best(index: Index, rows: Tensor, keys: Tensor, k: int, what: str, **more: Any) -> None:
    """Few rows, so there is no excuse."""
    found = _search(index, rows, keys, k, what, **more)
    share = _recall(rows, keys, found, more.get("masks"))
    assert share == 1, f"{what}: better rows were not found"


def _put(index: Index, rows: Tensor, slots: Tensor, values: Tensor) -> None:
    """Write to the index and to what it mirrors."""
    index.update(slots, values)
    rows.scatter_(1, slots.unsqueeze(2).expand_as(values), values)


def _few_rows(made: Callable[..., Index], noise: Callable[..., Tensor]) -> None:
    index, rows = made(2, 40), noise(2, 40) * 0
    keys = noise(2, 3)
    _all_best(index, rows, keys, 5, "nothing written")
    slots = torch.tensor([[7, 3, 11], [39, 0, 7]], device=rows.device)
    _put(index, rows, slots, noise(2, 3))
    for k in (1, 4, 40):
        _all_best(index, rows, keys, k, f"3 of 40 rows written, k = {k}")
    _all_best(index, rows, rows.gather(1, slots[..., None].expand(2, 3, WIDTH)), 1, "own rows")


def _updates(made: Callable[..., Index], noise: Callable[..., Tensor]) -> None:
    index, rows = made(2, 40), noise(2, 40) * 0
    slots = torch.arange(30, device=rows.device).expand(2, 30)
    _put(index, rows, slots, noise(2, 30))
    # Once as another row, once as the same row twice, once as zeros.
    for name, changed in (("replaced", [5, 6, 33]), ("repeated", [8, 8, 9]), ("zeroed", [1, 2, 5])):
        before = rows[:, changed].clone()
        values = noise(2, 3) * (name != "zeroed")
        if name == "repeated":
            values[:, 1] = values[:, 0]
        _put(index, rows, torch.tensor([changed, changed], device=rows.device), values)
        keys = torch.cat([values, before], 1)
        for k in (1, 3, 40):
            _all_best(index, rows, keys, k, f"rows {name} by update, k = {k}")


def _resets(made: Callable[..., Index], noise: Callable[..., Tensor]) -> None:
    index, rows = made(3, 40), noise(3, 40)
    index.reset(RowMemory.from_tensor(rows))
    keys = torch.cat([rows[:, :3], noise(3, 2)], 1)
    _all_best(index, rows, keys, 4, "after reset to a memory of all rows")
    few = torch.tensor([[4, 9], [30, 3]], device=rows.device)
    memory = RowMemory.filled(rows[0, 0] * 0, 2, 40)
    memory = memory.write(SparseWrite(few[:, :0], few, noise(2, 2)))
    index.reset(memory, torch.tensor([2, 0], device=rows.device))
    rows[[2, 0]] = memory.to_tensor()
    for k in (3, 40):
        _all_best(index, rows, keys, k, "after reset of examples 2 and 0")
    index.reset(RowMemory.filled(rows[0, 0] * 0, 3, 40))
    _all_best(index, rows * 0, keys, 40, "after reset to a memory of zeros")
    _put(index, rows.zero_(), few[:1].expand(3, 2), noise(3, 2))
    _all_best(index, rows, keys, 4, "updated after reset")


def _initial_row(made: Callable[..., Index], noise: Callable[..., Tensor]) -> None:
    index, row = made(2, 40), noise(1)[0]
    memory = RowMemory.filled(row, 2, 40)
    index.reset(memory)
    rows = memory.to_tensor()
    slots = torch.tensor([[0, 3], [1, 2]], device=rows.device)
    _put(index, rows, slots, noise(2, 2))
    for key in (row, -row):
        keys = key.expand(2, 1, WIDTH).contiguous()
        _all_best(index, rows, keys, 4, "a memory whose initial row is not 0")
    one = torch.ones(1, dtype=torch.int64, device=rows.device)
    other = noise(1)[0]
    index.reset(RowMemory.filled(other, 1, 40), one)
    rows[1] = other
    for key in (row, other, -other):
        keys = key.expand(2, 1, WIDTH).contiguous()
        _all_best(index, rows, keys, 4, "after reset of example 1 to another initial row")


def _parts(made: Callable[..., Index], noise: Callable[..., Tensor]) -> None:
    index, rows = made(3, 40), noise(3, 40) * 0
    slots = torch.arange(0, 30, 3, device=rows.device).expand(3, 10)
    _put(index, rows, slots, noise(3, 10))
    some = torch.tensor([2, 0], device=rows.device)
    part = noise(2, 10)
    index.update(slots[:2] + 1, part, some)
    rows[some[:, None], slots[:2] + 1] = part
    keys = noise(3, 2)
    _all_best(index, rows, keys, 6, "examples 2 and 0 updated")
    _all_best(index, rows[some], keys[some], 6, "examples 2 and 0 searched", examples=some)


def _copies(made: Callable[..., Index], noise: Callable[..., Tensor]) -> None:
    index, rows = made(2, 40), noise(2, 40) * 0
    _put(index, rows, torch.arange(40, device=rows.device).expand(2, 40), noise(2, 40))
    other = index.empty(3)
    keys = noise(3, 2)
    zeros = noise(3, 40) * 0
    _all_best(other, zeros, keys, 5, "empty(3)")
    _put(other, zeros, torch.tensor([[1, 2]] * 3, device=rows.device), noise(3, 2))
    _all_best(other, zeros, keys, 5, "empty(3), updated")
    _all_best(index, rows, keys[:2], 5, "what empty was called on")


def _masks(made: Callable[..., Index], noise: Callable[..., Tensor]) -> None:
    index, row = made(3, 40), noise(1)[0]
    if not isinstance(index, MaskedIndex):
        return
    memory = RowMemory.filled(row, 3, 40)
    index.reset(memory)
    rows = memory.to_tensor()
    _put(index, rows, torch.arange(0, 30, 3, device=rows.device).expand(3, 10), noise(3, 10))
    some = torch.tensor([2, 0], device=rows.device)
    keys, masks = noise(3, 2), noise(3, 2).sigmoid()
    masks[:, 1, ::2] = 0
    for k in (1, 5, 40):
        _all_best(index, rows, keys, k, f"masked, k = {k}", masks=masks)
        told = {"masks": masks[some], "examples": some}
        _all_best(index, rows[some], keys[some], k, f"examples 2 and 0 masked, k = {k}", **told)
    # Rows of which a mask shows next to nothing, beside one that it shows.
    masks = masks * 0
    masks[..., 0] = 1
    slots = torch.arange(10, device=rows.device).expand(3, 10)
    values = noise(3, 10)
    values[..., 0] *= 1e-4
    values[:, 7, 0] = 1
    keys = keys * 0
    keys[..., 0] = 1
    _put(index, rows, torch.arange(40, device=rows.device).expand(3, 40), rows * 0)
    _put(index, rows, slots, values)
    found = index.search_masked(keys, masks, 1)
    assert bool((found == 7).all()), "a row that a mask hides came before one that it shows"


def _bad_keys(made: Callable[..., Index], noise: Callable[..., Tensor]) -> None:
    index, rows = made(1, 40), noise(1, 40) * 0
    _put(index, rows, torch.arange(20, device=rows.device)[None], noise(1, 20))
    for value in (float("nan"), float("inf"), 0.0):
        keys = noise(1, 2)
        keys[:, 0] = value
        for k in (3, 40):
            found = index.search(keys, k)
            distinct = all(len(set(own)) == k for own in found[0].tolist())
            assert distinct, f"a key of {value}: expected {k} distinct slots, got {found[0, 0]}"
            in_range = (found >= 0) & (found < 40)
            assert bool(in_range.all()), f"a key of {value}: a slot is not in [0, 40)"
            share = _recall(rows, keys[:, 1:], found[:, 1:])
            assert share == 1, f"a key of {value} changed what was found for another"


def _check_many(
    made: Callable[..., Index],
    noise: Callable[..., Tensor],
    generator: torch.Generator,
    recall: float,
) -> None:
    """Clustered rows loaded at once, and the same index after most were rewritten."""
    slots = MANY + MANY // 4
    indexes = made(2, slots), made(2, slots)
    centres, begin = noise(2, CLUSTERS), noise(2, slots) * 0

    def clustered(count: int) -> Tensor:
        chosen = torch.randint(CLUSTERS, (2, count, 1), generator=generator)
        around = centres.gather(1, chosen.expand(-1, -1, WIDTH).to(centres.device))
        return around + SPREAD * noise(2, count)

    def look(what: str) -> None:
        chosen = torch.randint(MANY, (2, 64, 1), generator=generator).to(rows.device)
        keys = rows.gather(1, chosen.expand(-1, -1, WIDTH)) + NEAR * noise(2, 64)
        first, second = (_search(index, rows, keys, 4, what) for index in indexes)
        assert torch.equal(first, second), f"{what}: the same calls gave other slots"
        share = _recall(rows, keys, first)
        assert share >= recall, f"{what}: expected a recall of {recall}, got {share:.3f}"
        _search(indexes[0], rows, keys[:, :2], slots, f"{what}, k = N")

    rows = begin.clone()
    rows[:, :MANY] = clustered(MANY)
    memory = RowMemory.filled(rows[0, 0] * 0, 2, slots)
    all_slots = torch.arange(MANY, device=rows.device).expand(2, MANY)
    memory = memory.write(SparseWrite(all_slots[:, :0], all_slots, rows[:, :MANY]))
    for index in indexes:
        index.reset(memory)
    look("after reset to many rows")
    centres.copy_(noise(2, CLUSTERS))
    for chosen in torch.randperm(slots, generator=generator).to(rows.device).split(256):
        values = clustered(len(chosen))
        for index in indexes:
            index.update(chosen.expand(2, -1), values)
        rows[:, chosen] = values
    look("all rows rewritten by update")
    chosen = torch.arange(0, slots, 2, device=rows.device)
    for index in indexes:
        index.update(chosen.expand(2, -1), rows[:, chosen] * 0)
    rows[:, chosen] = 0
    look("half of the rows zeroed")
