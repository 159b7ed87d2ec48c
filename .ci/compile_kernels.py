"""Compile the kernels, once: not in each process of the tests.

One dtype after the other: two processes that write the same index of what is compiled lose entries.
"""

import torch

from torch_adapters import DAM, DNC, SAM, SDNC

for dtype in (torch.float32, torch.float64):
    for model in (DNC, DAM, SAM, SDNC):
        module = model(3, 8, nr_cells=8, dtype=dtype, backend="numba")
        output, _ = module(torch.randn(2, 3, 3, dtype=dtype))
        output.sum().backward()
