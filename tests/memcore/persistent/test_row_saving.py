"""Rows saved and loaded, copied, pickled, in another dtype and on another device."""

from __future__ import annotations

import copy
import io
import pickle
import re

import pytest
import torch

from memcore import MemcoreError, RowMemory
from row_programs import CLOSE, dense_write, draw_write, some_write, zeros


@pytest.mark.parametrize("row", [0.0, 2.0])
@pytest.mark.parametrize("part", [None, [1]])
def test_copies(row: float, part: list[int] | None) -> None:
    learned = torch.full((3,), row, dtype=torch.float64, requires_grad=True)
    memory = RowMemory.filled(learned, 2, 6).write(some_write(0))
    if part is not None:
        memory = memory.select(torch.tensor(part))
    values = memory.to_tensor().detach()
    file = io.BytesIO()
    torch.save(memory.to_dict(), file)
    file.seek(0)
    copies = [
        copy.deepcopy(memory),
        pickle.loads(pickle.dumps(memory)),
        RowMemory.from_dict(torch.load(file, weights_only=True)),
        memory.clone(),
    ]
    write = draw_write(tuple(memory.shape), torch.Generator().manual_seed(5))  # pyright: ignore
    for one in copies:
        torch.testing.assert_close(one.to_tensor().detach(), values, **CLOSE)
        changed = one.write(write)
        torch.testing.assert_close(memory.to_tensor().detach(), values, **CLOSE)
        torch.testing.assert_close(
            changed.to_tensor().detach(), dense_write(values, write), **CLOSE
        )
    assert [one.requires_grad for one in copies] == [False, False, False, True]
    (gradient,) = torch.autograd.grad(copies[-1].to_tensor().sum(), learned)
    erased = some_write(0).erase if part is None else some_write(0).erase[part]
    rows = sum(6 - len(set(example)) for example in erased.tolist())
    torch.testing.assert_close(gradient, torch.full((3,), float(rows), dtype=torch.float64))


def test_to_dict_holds_the_rows_written_only() -> None:
    memory = zeros((2, 10_000, 3))
    memory = memory.write(draw_write((2, 10_000, 3), torch.Generator().manual_seed(0)))
    saved = memory.to_dict()
    assert len(saved["written"]) == len(saved["values"]) <= 10
    assert torch.equal(RowMemory.from_dict(saved).to_tensor(), memory.to_tensor())


@pytest.mark.parametrize("recorded", [False, True])
def test_dtype_and_device(recorded: bool, device: torch.device) -> None:
    row = torch.ones(3, dtype=torch.float64, requires_grad=recorded)
    memory = RowMemory.filled(row, 2, 6).write(some_write())
    moved = memory.to(device, torch.float32)
    assert (moved.dtype, moved.device.type) == (torch.float32, device.type)
    torch.testing.assert_close(moved.to_tensor().cpu(), memory.to_tensor().float())
    assert memory.to(torch.float64) is memory
    if recorded:
        moved.to_tensor().sum().backward()
        assert row.grad is not None
        assert row.grad.any()


def test_a_wrong_dictionary() -> None:
    saved = zeros().write(some_write()).to_dict()
    with pytest.raises(MemcoreError, match="saved: expected a dict of tensors shape, row, written"):
        RowMemory.from_dict({"row": saved["row"]})
    with pytest.raises(
        MemcoreError, match=re.escape("saved: expected row [W] or [B, W], written [n] and")
    ):
        RowMemory.from_dict({**saved, "row": torch.zeros(4)})
    with pytest.raises(MemcoreError, match=re.escape("saved['written']: expected rows in [0, 12)")):
        RowMemory.from_dict({**saved, "written": saved["written"] + 9})
    with pytest.raises(MemcoreError, match=re.escape("saved['written']: expected dtype int64")):
        RowMemory.from_dict({**saved, "written": saved["written"].float()})
    with pytest.raises(MemcoreError, match=re.escape("saved['values']: expected dtype float32 or")):
        RowMemory.from_dict({**saved, "values": saved["values"].long()})


def test_a_dictionary_in_another_order() -> None:
    memory = zeros().write(some_write())
    saved = memory.to_dict()
    order = torch.arange(len(saved["written"])).flip(0)
    turned = {**saved, "written": saved["written"][order], "values": saved["values"][order]}
    other = RowMemory.from_dict(turned)
    assert torch.equal(other.to_tensor(), memory.to_tensor())
    assert torch.equal(other.written(), RowMemory.from_dict(saved).written())
