"""Compile the kernels for one dtype: once here, and not by each process of the tests."""

import sys

import torch

from torch_adapters import DAM, DNC, SAM, SDNC

dtype = getattr(torch, sys.argv[1])
for model in (DNC, DAM, SAM, SDNC):
    output, _ = model(3, 8, nr_cells=8, dtype=dtype, backend="numba")(
        torch.randn(2, 3, 3, dtype=dtype)
    )
    output.sum().backward()
