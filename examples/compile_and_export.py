"""A DNC compiled by torch.compile, and exported by torch.export for batches of any size."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from torch_adapters import DNC


def difference(one: torch.Tensor, other: torch.Tensor) -> str:
    """The largest, and whether that is rounding."""
    largest = (one - other).abs().max().item()
    return f"{'the same' if largest < 1e-5 else 'NOT the same'} (largest difference {largest:.0e})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="inductor", help="a backend of torch.compile")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    # On a CPU the kernels are faster than what a compiler makes of the reference; so this is for
    # where they do not run. The time step is compiled, once for sequences of all lengths.
    model = DNC(6, 16, num_hidden_layers=1, nr_cells=8, cell_size=8, backend="reference")
    plain = {length: torch.randn(4, length, 6) for length in (3, 10)}
    with torch.no_grad():
        expected = {length: model(input)[0] for length, input in plain.items()}
        model.compile(backend=options.compiler)
        for length, input in plain.items():
            print(f"compiled, {length} steps: {difference(model(input)[0], expected[length])}")

    # The length is fixed, the batch is not; the state is a result like the output.
    model = DNC(6, 16, num_hidden_layers=1, nr_cells=8, cell_size=8)
    example, batch = torch.randn(2, 5, 6), torch.export.Dim("batch")
    program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dnc.pt2"
        torch.export.save(program, path)
        # Another process does `import memcore` first, which tells torch of the state's types.
        loaded = torch.export.load(path).module()
    for size in (2, 7):
        input = torch.randn(size, 5, 6)
        output, (_, memory, _) = loaded(input)
        print(f"exported and loaded, batch of {size}: {difference(output, model(input)[0])}")
        print(f"  memory {list(memory.memory.shape)}")
