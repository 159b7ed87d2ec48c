"""Without numba all works, and asking for it names the extra that brings it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from memcore import MemcoreError, backends, dam, dnc
from memcore.errors import how_to_install
from torch_adapters import DAM, DNC
from torch_adapters import backend as chooser

EXTRA = f"the package numba is not installed: {how_to_install('fast')}"

CODE = """
import sys
sys.modules["numba"] = None  # as if it were not there
import logging
import torch
import memcore, torch_adapters
from memcore import MemcoreError, dnc

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")
for model in (torch_adapters.DNC, torch_adapters.DAM, torch_adapters.SAM, torch_adapters.SDNC):
    module = model(3, 8, nr_cells=6)
    output, hx = module(torch.randn(2, 4, 3))
    output.sum().backward()
    module.step(torch.randn(2, 3), torch_adapters.detach_state(hx))
module = torch_adapters.DNC(3, 8, backend="numba")
try:
    module(torch.randn(2, 4, 3))
except MemcoreError as error:
    print(error)
state = dnc.init_state(5, 4, 2)
state = type(state)(*(field[None] for field in state))
reads, _ = dnc.batched_step(state, torch.zeros(1, dnc.interface_size(4, 2)))
assert reads.shape == (1, 2, 4)
assert not [name for name in sys.modules if name.startswith("memcore.kernels")]
"""


def test_a_process_without_numba() -> None:
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"memcore DNC: backend 'auto' takes the reference, since {EXTRA}",
        f"memcore DAM: backend 'auto' takes the reference, since {EXTRA}",
        f"memcore SAM: backend 'auto' takes the reference, since {EXTRA}",
        f"memcore SDNC: backend 'auto' takes the reference, since {EXTRA}",
        f"backend: expected what the kernels take for 'numba', but {EXTRA}",
    ]


@pytest.mark.parametrize(("model", "functions"), [(DNC, dnc), (DAM, dam)])
def test_the_extra_is_named(model: Any, functions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (backends, chooser):
        monkeypatch.setattr(place, "numba_is_missing", lambda: EXTRA)
    module = model(3, 8, nr_cells=5)
    assert module.backend_of(torch.zeros(1, 1, 3)) == ("reference", EXTRA)
    module.backend = "numba"
    with pytest.raises(MemcoreError, match=r"pip install 'torch-memcore\[fast\]'"):
        module(torch.zeros(1, 1, 3))
    state = functions.init_state(5, 4, 2)
    state = type(state)(*(field[None] for field in state))
    vectors = torch.zeros(1, functions.interface_size(4, 2))
    functions.batched_step(state, vectors)
    with pytest.raises(MemcoreError, match=r"pip install 'torch-memcore\[fast\]'"):
        functions.batched_step(state, vectors, backend="numba")
