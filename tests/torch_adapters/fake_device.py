"""A training step on a device that is not a CPU, of tensors without numbers.

torch without CUDA cannot differentiate fake tensors on ``cuda``, but on a device that is written
in Python it can. Of each module: where its tensors were, and what would have waited for a device.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modules import H, build
from torch_adapters import DAM, DNC, SAM, SDNC, detach_state

WAITS = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "equal.default")


class Watch(TorchDispatchMode):
    """Where the tensors are that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, list[str]] = {}
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor):
                self.places.setdefault(one.device.type, []).append(str(function))
        if any(wait in str(function) for wait in WAITS):
            self.waits.append(str(function))
        return result


def watched(model: Any, device: str) -> dict[str, Any]:
    with FakeTensorMode():
        module = build(model, device="meta", dtype=torch.float32, backend="auto")
        for part in module.modules():
            for name, parameter in list(part.named_parameters(recurse=False)):
                empty = torch.empty(parameter.shape, device=device)
                part.register_parameter(name, nn.Parameter(empty))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        with Watch() as watch:
            input = torch.empty(3, 4, module.input_size, device=device)
            output, hx = module(input)
            output.square().sum().backward()
            optimizer.step()
            _, after = module(input, detach_state(hx))
            module.step(input[:, 0], after)
        gradients = [parameter.grad is not None for parameter in module.parameters()]
    assert output.device.type == device
    assert hx[0][0][0].shape[-1] == H
    # Shapes of a state are looked up in one on meta.
    elsewhere = {place for place in watch.places if place not in (device, "meta")}
    return {
        "model": model.__name__,
        "on": len(watch.places[device]),
        "elsewhere": sorted(elsewhere),
        "gradients": all(gradients),
        "waits": watch.waits,
    }


if __name__ == "__main__":
    device = "cuda"
    if not torch.cuda.is_available():
        from torch.utils import backend_registration

        begin = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
        if begin is None:
            print(json.dumps({"missing": True}))
            raise SystemExit
        device = "gpu"
        begin(device)
    for model in (DNC, DAM, SAM, SDNC):
        print(json.dumps(watched(model, device)), flush=True)
