"""The DNC's equations as a user of JAX would write them: ``lax.scan`` over time, jitted.

A second yardstick beside the peer, where jax is installed (``pip install jax``); the project does
not depend on it. One example, batched by ``vmap``; the weights are those of a `torch_adapters.DNC`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax  # pyright: ignore
import jax.numpy as jnp  # pyright: ignore
import numpy as np
import torch
from torch import Tensor

from memcore import dnc
from memcore.numerics import NORM_EPSILON
from torch_adapters.recurrence import MemoryRNN

__all__ = ["JaxDNC", "start"]

TINY = 1e-19  # keeps the logarithm of an unused slot's usage finite
Array = Any


def start(threads: int) -> None:
    """Make XLA's threads, so many: it makes one for each core that it may use at that moment."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        jax.devices("cpu")
    finally:
        os.sched_setaffinity(0, cores)


class State(NamedTuple):
    """The memory of one example, fields as in `memcore.dnc.DNCState`."""

    memory: Array
    usage: Array
    precedence: Array
    link: Array
    read_weights: Array
    write_weights: Array


class Weights(NamedTuple):
    """All parameters, matrices as ``[inputs, outputs]``."""

    input: Array  # of the LSTM, for [x; r]
    recurrent: Array
    gate_bias: Array
    interface: Array
    interface_bias: Array
    output: Array
    output_bias: Array


def content_weighting(memory: Array, keys: Array, strengths: Array) -> Array:
    """``[K, N]``."""
    row_norms = jnp.sqrt((memory * memory).sum(-1) + NORM_EPSILON)
    directions = keys / jnp.sqrt((keys * keys).sum(-1, keepdims=True) + NORM_EPSILON)
    return jax.nn.softmax(strengths[:, None] * (directions @ memory.T) / row_norms)


def allocation_weighting(usage: Array) -> Array:
    """``[N]``."""
    order = jnp.argsort(usage)
    ordered = usage[order]
    products = jnp.exp(jnp.cumsum(jnp.log(ordered + TINY)))
    before = jnp.concatenate([jnp.ones(1), products[:-1]])
    return jnp.zeros_like(usage).at[order].set((1 - ordered) * before)


def step(state: State, vector: Array, word_size: int, read_heads: int) -> tuple[State, Array]:
    """One step of one example, from its interface vector to its reads ``[R·W]``."""
    sizes = dnc.interface_sizes(word_size, read_heads)
    borders = np.cumsum(list(sizes.values()))[:-1]
    parts: Any = dnc.DNCInterface._make(jnp.split(vector, borders))
    read_keys = parts.read_keys.reshape(read_heads, word_size)
    read_modes = jax.nn.softmax(parts.read_modes.reshape(read_heads, 3))
    free, erase = jax.nn.sigmoid(parts.free_gates), jax.nn.sigmoid(parts.erase_vector)
    allocate, write = jax.nn.sigmoid(parts.allocation_gate), jax.nn.sigmoid(parts.write_gate)
    strength = 1 + jax.nn.softplus(parts.write_strength)

    retention = jnp.clip(jnp.prod(1 - free[:, None] * state.read_weights, 0), 0)
    usage = (state.usage + state.write_weights - state.usage * state.write_weights) * retention
    content = content_weighting(state.memory, parts.write_key[None], strength)[0]
    write_weights = write * (allocate * allocation_weighting(usage) + (1 - allocate) * content)
    column = write_weights[:, None]
    memory = state.memory * (1 - column * erase) + column * parts.write_vector
    link = (1 - column - write_weights) * state.link + column * state.precedence
    link = link * (1 - jnp.eye(len(write_weights)))
    read_content = content_weighting(memory, read_keys, 1 + jax.nn.softplus(parts.read_strengths))
    read_weights = (
        read_modes[:, :1] * (state.read_weights @ link)
        + read_modes[:, 1:2] * read_content
        + read_modes[:, 2:] * (state.read_weights @ link.T)
    )
    precedence = (1 - write_weights.sum()) * state.precedence + write_weights
    after = State(memory, usage, precedence, link, read_weights, write_weights)
    return after, (read_weights @ memory).reshape(-1)


def lstm_cell(weights: Weights, input: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """One step of the controller for a batch."""
    sums = input @ weights.input + hidden @ weights.recurrent + weights.gate_bias
    let_in, forget, new, let_out = jnp.split(sums, 4, -1)
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(let_in) * jnp.tanh(new)
    return jax.nn.sigmoid(let_out) * jnp.tanh(cell), cell


def outputs(weights: Weights, input: Array, slots: int, word_size: int, read_heads: int) -> Array:
    """From ``[T, B, input_size]`` to ``[T, B, output_size]``, beginning with an empty memory."""
    batch, reads = input.shape[1], read_heads * word_size
    hidden_size = weights.recurrent.shape[0]
    shapes = [(slots, word_size), (slots,), (slots,), (slots, slots), (read_heads, slots), (slots,)]
    state = State(*(jnp.zeros((batch, *shape)) for shape in shapes))
    controller = jnp.zeros((batch, hidden_size))

    def one(carried: Any, now: Array) -> tuple[Any, Array]:
        hidden, cell, state, last_reads = carried
        together = jnp.concatenate([now, last_reads], -1)
        hidden, cell = lstm_cell(weights, together, hidden, cell)
        clipped = jnp.clip(hidden, -20, 20)
        vectors = clipped @ weights.interface + weights.interface_bias
        stepped = jax.vmap(partial(step, word_size=word_size, read_heads=read_heads))
        state, last_reads = stepped(state, vectors)
        row = jnp.concatenate([clipped, last_reads], -1)
        return (hidden, cell, state, last_reads), row @ weights.output + weights.output_bias

    first = (controller, controller, state, jnp.zeros((batch, reads)))
    return jax.lax.scan(one, first, input)[1]


class JaxDNC:
    """A module's weights and input in JAX, and its training step.

    Args:
        module: a `torch_adapters.DNC` with one layer and an LSTM.
        input: ``[B, T, input_size]``.
    """

    def __init__(self, module: MemoryRNN, input: Tensor) -> None:
        of = {name: jnp.asarray(own.detach().numpy()) for name, own in module.named_parameters()}
        cell, interface = "controllers.0.cells.0", "interfaces.0.parts.all"
        self.weights = Weights(
            of[f"{cell}.weight_ih"].T.copy(),
            of[f"{cell}.weight_hh"].T.copy(),
            of[f"{cell}.bias_ih"] + of[f"{cell}.bias_hh"],
            of[f"{interface}.weight"].T.copy(),
            of[f"{interface}.bias"],
            of["output.weight"].T.copy(),
            of["output.bias"],
        )
        self.input = jnp.asarray(input.transpose(0, 1).numpy())
        sizes: Any = module.cell
        self.outputs: Callable[..., Array] = partial(
            outputs, slots=sizes.nr_cells, word_size=sizes.cell_size, read_heads=sizes.read_heads
        )
        self.gradient = jax.jit(jax.value_and_grad(lambda *own: self.outputs(*own).sum()))

    def train(self) -> None:
        """One training step: forward and backward."""
        jax.block_until_ready(self.gradient(self.weights, self.input))

    def output(self) -> Tensor:
        """``[B, T, output_size]``."""
        found = np.asarray(jax.jit(self.outputs)(self.weights, self.input))
        return torch.tensor(found).transpose(0, 1)
