"""A classifier of sequences of many lengths: which symbol stood where the mark was?"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from torch_adapters import DNC

CLASSES, SHORTEST, LONGEST = 6, 5, 25


class Classifier(nn.Module):
    """What a DNC says at the last step of each sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = DNC(
            CLASSES + 1, 32, num_hidden_layers=1, nr_cells=8, cell_size=8, output_size=CLASSES
        )

    def forward(self, sequences: PackedSequence) -> Tensor:
        """Scores ``[B, CLASSES]``, in the order in which the sequences were packed."""
        output, _ = self.memory(sequences)
        steps, lengths = pad_packed_sequence(output, batch_first=True)
        return steps[torch.arange(len(lengths)), lengths - 1]


def draw(batch: int, generator: torch.Generator) -> tuple[PackedSequence, Tensor]:
    """Symbols drawn at random, one of them marked, and what the marked ones are."""
    sequences, marked = [], []
    for length in torch.randint(SHORTEST, LONGEST + 1, (batch,), generator=generator).tolist():
        symbols = torch.randint(CLASSES, (length,), generator=generator)
        where = torch.randint(length, (), generator=generator)
        mark = torch.zeros(length, 1)
        mark[where] = 1
        sequences.append(torch.cat([nn.functional.one_hot(symbols, CLASSES), mark], 1))
        marked.append(symbols[where])
    return pack_sequence(sequences, enforce_sorted=False), torch.stack(marked)


def accuracy(scores: Tensor, marked: Tensor) -> float:
    """The share that is right."""
    return (scores.argmax(1) == marked).float().mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for iteration in range(1, options.iterations + 1):
        sequences, marked = draw(64, generator)
        loss = nn.functional.cross_entropy(model(sequences), marked)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        optimizer.step()
        if iteration % 50 == 0:
            print(f"iteration {iteration}: loss {loss.item():.3f}")
    sequences, marked = draw(500, generator)
    with torch.no_grad():
        scores = model(sequences)
        print(f"accuracy {accuracy(scores, marked):.1%}, by chance {1 / CLASSES:.1%}")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "classifier.pt"
            torch.save(model.state_dict(), path)
            loaded = Classifier()
            loaded.load_state_dict(torch.load(path, weights_only=True))
        print(f"saved and loaded, it says the same: {torch.equal(loaded(sequences), scores)}")
