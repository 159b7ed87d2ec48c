"""A Neural Turing Machine of memcore's functions, trained to copy sequences of bits."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn

import memcore

BITS, SLOTS, WORDS, HIDDEN, OFFSETS = 4, 12, 8, 64, 3
HEADS = 2  # the first one reads, the second one writes
SIZES = [HEADS * WORDS, HEADS, HEADS, HEADS * OFFSETS, HEADS, WORDS, WORDS]


def memory_step(memory: Tensor, weights: Tensor, interface: Tensor) -> tuple[Tensor, ...]:
    """One example: address with both heads, write, then read. [N, W], [2, N], [interface]."""
    keys, strengths, gates, shifts, powers, erase, add = interface.split(SIZES)
    found = memcore.content_weighting(memory, keys.view(HEADS, WORDS), memcore.oneplus(strengths))
    gated = memcore.interpolate(found, weights, gates.sigmoid())
    moved = memcore.circular_shift(gated, shifts.view(HEADS, OFFSETS).softmax(-1))
    weights = memcore.sharpen(moved, memcore.oneplus(powers))
    memory = memcore.erase_and_add(memory, weights[1], erase.sigmoid(), add.tanh())
    return memcore.read(memory, weights[:1])[0], memory, weights


class NeuralTuringMachine(nn.Module):
    """An LSTM that is the controller of such a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.controller = nn.LSTMCell(BITS + 1 + WORDS, HIDDEN)
        self.interface = nn.Linear(HIDDEN, sum(SIZES))
        self.output = nn.Linear(HIDDEN + WORDS, BITS)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs [B, T, BITS + 1], outputs [B, T, BITS]."""
        batch, outputs, hidden = len(inputs), [], None
        memory, reads = inputs.new_full((batch, SLOTS, WORDS), 0.1), inputs.new_zeros(batch, WORDS)
        weights = torch.eye(SLOTS)[0].expand(batch, HEADS, SLOTS)  # both begin at slot 0
        for input in inputs.unbind(1):
            hidden = self.controller(torch.cat([input, reads], -1), hidden)
            told = memory, weights, self.interface(hidden[0])
            reads, memory, weights = torch.func.vmap(memory_step)(*told)
            outputs.append(self.output(torch.cat([hidden[0], reads], -1)))
        return torch.stack(outputs, 1)


def copy_batch(batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Bits, a flag, and as many blank steps, in which the bits are due."""
    bits = torch.randint(0, 2, (batch, length, BITS)).float()
    inputs = torch.zeros(batch, 2 * length + 1, BITS + 1)
    inputs[:, :length, :BITS], inputs[:, length, BITS] = bits, 1
    return inputs, bits


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model = NeuralTuringMachine()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for iteration in range(1, options.iterations + 1):
        length = int(torch.randint(1, 6, ()))
        inputs, bits = copy_batch(64, length)
        loss = nn.functional.binary_cross_entropy_with_logits(model(inputs)[:, -length:], bits)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        if iteration % 200 == 0:
            print(f"iteration {iteration}: loss {loss.item():.4f} at length {length}")
    for length in (5, 8):
        inputs, bits = copy_batch(200, length)
        wrong = (model(inputs)[:, -length:] > 0) != bits.bool()
        print(f"length {length}: {wrong.float().mean():.2%} of the bits are wrong")
