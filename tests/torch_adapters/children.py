"""Modules and states that go on in two children, and in the parent afterwards.

``python children.py fork``, or another way of starting them that this system has. A process of
its own, so that nothing that ran before is in what the children inherit; one that dies is an error.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch import Tensor

from load_cases import BACKENDS
from modules import batch, build, gradients
from torch_adapters import DAM, DNC, SAM, SDNC, detach_state


def run(module: Any, hx: Any, input: Tensor) -> list[Tensor]:
    output, _ = module(input, hx)
    return [output.detach(), *gradients(module, output)]


def check(which: int, module: Any, hx: Any, input: Tensor, wanted: list[Tensor]) -> None:
    """A child; what it finds is what the parent did."""
    # After the parent has used OpenMP, a product of a forked child waits for its threads for ever.
    torch.set_num_threads(1)
    found = run(module, hx, input)
    assert all(map(torch.equal, found, wanted)), f"child {which}"


if __name__ == "__main__":
    # Else a spawned child is handed the file of a storage once for each of its views, and refuses.
    torch.multiprocessing.set_sharing_strategy("file_system")
    for model in (DNC, DAM, SAM, SDNC):
        for backend in BACKENDS:
            module = build(model, backend=backend)
            _, hx = module(batch(module))
            hx, input = detach_state(hx), batch(module, seed=7)
            wanted = run(module, hx, input)
            given = (module, hx, input, wanted)
            torch.multiprocessing.start_processes(  # pyright: ignore
                check, given, nprocs=2, start_method=sys.argv[1]
            )
            again = run(module, hx, input)
            goes_on = all(map(torch.equal, again, wanted))
            print(json.dumps({"case": [model.__name__, backend], "goes on": goes_on}), flush=True)
