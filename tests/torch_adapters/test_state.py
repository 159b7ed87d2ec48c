"""State is a value: passed twice, copied, saved, selected, shared between threads."""

from __future__ import annotations

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from modules import CLOSE, batch, build, every_model, leaves, same, variants
from torch_adapters import (
    detach_state,
    select_state,
    state_from_dict,
    state_to_dict,
)


@variants
def test_the_same_hx_twice_gives_the_same(options: dict[str, Any]) -> None:
    module = build(**options)
    _, hx = module(batch(module))
    before = copy.deepcopy(detach_state(hx))
    first, second = module(batch(module, seed=2), hx), module(batch(module, seed=2), hx)
    same(first, second)
    same(detach_state(hx), before)


def test_parts_of_hx_may_be_none() -> None:
    module = build()
    _, (hidden, memory, reads) = module(batch(module))
    input = batch(module, seed=2)
    same(module(input, (None, None, None)), module(input))
    zero_reads = module(input, (hidden, memory, torch.zeros_like(reads)))
    same(module(input, (hidden, memory, None)), zero_reads)
    zero_hidden = [tuple(torch.zeros_like(part) for part in hidden[0])]
    same(module(input, (None, memory, reads)), module(input, (zero_hidden, memory, reads)))


@every_model
def test_threads_may_share_a_module(model: Any) -> None:
    module = build(model).eval()
    inputs = [batch(module, seed=seed, steps=6) for seed in range(4)]

    def stream(input: Tensor) -> list[Tensor]:
        outputs, hx = [], None
        for piece in input.split(2, dim=1):
            output, hx = module(piece, hx)
            outputs.append(output)
        return outputs

    serial = [stream(input) for input in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for one, other in zip(pool.map(stream, inputs), serial, strict=True):
                same(one, other, **CLOSE)


@variants
def test_copies_pickles_and_checkpoints(options: dict[str, Any]) -> None:
    module = build(**options)
    input = batch(module)
    expected = module(input)
    same(copy.deepcopy(module)(input), expected)
    same(pickle.loads(pickle.dumps(module))(input), expected)
    fresh = build(**options)
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    fresh.load_state_dict(module.state_dict())
    same(fresh(input), expected)
    hx = detach_state(expected[1])
    same(pickle.loads(pickle.dumps(hx)), hx)
    same(copy.deepcopy(hx), hx)
    file = io.BytesIO()
    saved = state_to_dict(expected[1])
    assert not saved["read_vectors"].requires_grad
    torch.save(saved, file)
    file.seek(0)
    loaded = state_from_dict(torch.load(file, weights_only=True))
    same(loaded, hx)
    same(module(input, loaded), module(input, hx))


@every_model
def test_detached_state_cuts_the_history(model: Any) -> None:
    module = build(model)
    _, hx = module(batch(module))
    assert all(leaf.requires_grad for leaf in leaves(hx[0]))
    assert not any(leaf.requires_grad for leaf in leaves(detach_state(hx)))
    same(detach_state(hx), hx)


@every_model
@pytest.mark.parametrize("chosen", [[2, 0, 0], torch.tensor([2, 0, 0])])
def test_selected_state(chosen: Any, model: Any) -> None:
    module = build(model, num_layers=2, share_memory=False)
    _, hx = module(batch(module))
    input = batch(module, seed=2)
    expected, _ = module(input, hx)
    output, _ = module(input[[2, 0, 0]], select_state(hx, chosen))
    same(output, expected[[2, 0, 0]], **CLOSE)
    mask = torch.tensor([True, False, True])
    same(select_state(hx, mask), select_state(hx, [0, 2]))


@pytest.mark.filterwarnings("ignore:.*barrier.*using the device:UserWarning")
@every_model
def test_distributed_data_parallel(tmp_path: Path, model: Any) -> None:
    module, alone = build(model), build(model)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(module)
        output, hx = parallel(batch(module))
        output, _ = parallel(batch(module, seed=2), hx)
        output.square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    _, hx = alone(batch(alone))
    expected, _ = alone(batch(alone, seed=2), hx)
    expected.square().sum().backward()
    same(output, expected)
    for one, other in zip(module.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, **CLOSE)
