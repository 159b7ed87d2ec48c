"""Two processes, each with half of a batch, under DDP or FSDP, beside one with all of it."""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from modules import batch, build
from torch_adapters import DAM, DNC, SAM, SDNC, detach_state

PROCESSES = 2


def run(rank: int, how: str, meeting: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=PROCESSES
    )
    # Of FSDP, about outputs that are views, as those of torch's own recurrent modules are.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    for model in (DNC, DAM, SAM, SDNC):
        line = compare(model, rank, how)
        if rank == 0:
            print(json.dumps(line), flush=True)
    # One that is left to DDP alone ends under Python's lock, and waits for threads that want it.
    gc.collect()
    distributed.destroy_process_group()


def compare(model: Any, rank: int, how: str) -> dict[str, Any]:
    alone, together = build(model), build(model)
    if how == "ddp":
        shared: Any = nn.parallel.DistributedDataParallel(together)
    else:
        shared = fully_shard(together, mesh=init_device_mesh("cpu", (PROCESSES,)))
    chosen: list[str] = []
    together.register_forward_pre_hook(partial(note_backend, chosen))
    input = batch(alone, 2 * PROCESSES)
    train(alone, input)
    train(shared, input[2 * rank : 2 * rank + 2])
    wanted = [whole(parameter.grad) for parameter in alone.parameters()]
    found = [whole(parameter.grad) for parameter in together.parameters()]
    differences = [
        float((one - other).abs().max()) for one, other in zip(found, wanted, strict=True)
    ]
    return {
        "model": model.__name__,
        "backend": chosen[-1],
        "difference": max(differences),
        "largest": max(float(gradient.abs().max()) for gradient in wanted),
    }


def note_backend(chosen: list[str], module: Any, given: tuple[Any, ...]) -> None:
    chosen.append(module.backend_of(*given).name)


def train(module: Any, input: Tensor) -> None:
    """Two stretches of truncated backpropagation."""
    hx = None
    for _ in range(2):
        output, hx = module(input, hx)
        output.square().mean().backward()
        hx = detach_state(hx)


def whole(gradient: Any) -> Tensor:
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        given = (sys.argv[1], str(Path(folder) / "meeting"))
        torch.multiprocessing.spawn(run, given, nprocs=PROCESSES)  # pyright: ignore
