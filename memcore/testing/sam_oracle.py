"""SAM and DAM in float64 NumPy, written from the equations with loops and copies.

As `memcore.testing.oracle` it knows nothing of the rest of memcore, is slow on purpose, works on
complex arrays (choices go by the real part), and takes and gives plain dictionaries of one
example. Source: Rae et al. 2016, arXiv 1610.09027.
"""

from __future__ import annotations

import numpy as np

from memcore.testing.oracle import Array, Arrays, content_weighting, oneplus, sigmoid, softmax

__all__ = [
    "dam_initial_state",
    "dam_step",
    "sam_access",
    "sam_content",
    "sam_initial_state",
    "sam_parse_interface",
    "sam_step",
    "sam_write",
]

THRESHOLD = 0.005
DECAY = 0.99


def sam_initial_state(slots: int, word_size: int, read_heads: int, sparse_reads: int) -> Arrays:
    """The state before the first step."""
    return {
        "memory": np.zeros((slots, word_size)),
        "read_index": np.tile(np.arange(sparse_reads), (read_heads, 1)),
        "read_weights": np.zeros((read_heads, sparse_reads)),
        "last_access": np.zeros(slots, dtype=np.int64),
        "time": np.zeros((), dtype=np.int64),
    }


def dam_initial_state(slots: int, word_size: int, read_heads: int) -> Arrays:
    """The state before the first step: all zero."""
    return {
        "memory": np.zeros((slots, word_size)),
        "usage": np.zeros(slots),
        "read_weights": np.zeros((read_heads, slots)),
        "write_weights": np.zeros(slots),
    }


def sam_parse_interface(vector: Array, word_size: int, read_heads: int) -> Arrays:
    """Split the interface vector ``[R·W + R + W + 2]`` and bring each part into range."""
    rest = list(vector)

    def take(count: int) -> Array:
        taken = rest[:count]
        del rest[:count]
        return np.array(taken)

    interface = {
        "read_keys": take(read_heads * word_size).reshape(read_heads, word_size),
        "read_strengths": oneplus(take(read_heads)),
        "write_vector": take(word_size),
        "write_gate": sigmoid(take(1))[0],
        "interpolation_gate": sigmoid(take(1))[0],
    }
    if rest:
        raise ValueError(f"{len(rest)} numbers too many in the interface vector")
    return interface


def sam_write(state: Arrays, interface: Arrays) -> tuple[Array, Array, Array]:
    """The memory after a step's write, the slots ``[J]`` it went to, and the weights ``[J]``."""
    slots, heads = len(state["last_access"]), len(state["read_weights"])
    alpha, gamma = interface["write_gate"], interface["interpolation_gate"]
    least = min(range(slots), key=lambda slot: (state["last_access"][slot], slot))
    index = np.array([*state["read_index"].flatten(), least])
    weights = np.array([*(alpha * gamma * state["read_weights"].flatten() / heads), 0 * alpha])
    weights[-1] = alpha * (1 - gamma)
    memory = state["memory"] + 0 * interface["write_vector"]
    memory[least] = 0
    for slot, weight in zip(index, weights, strict=True):
        memory[slot] = memory[slot] + weight * interface["write_vector"]
    return memory, index, weights


def sam_content(
    memory: Array, key: Array, strength: np.generic, reads: int
) -> tuple[list[int], Array]:
    """The slots that a head reads by content, best first, and their weights."""
    cosines = [_cosine(key, row) for row in memory]
    rounded = [round(float(np.real(cosine)) * 10_000) for cosine in cosines]
    best = sorted(range(len(memory)), key=lambda slot: (-rounded[slot], slot))[:reads]
    return best, softmax(strength * np.array([cosines[slot] for slot in best]))


def sam_access(state: Arrays, written: tuple[Array, Array], read: Arrays) -> tuple[Array, Array]:
    """When each slot was last accessed, and the time, after a step's write and reads."""
    accessed = np.zeros(len(state["last_access"]))
    for index, weights in (written, (read["read_index"], read["read_weights"])):
        np.add.at(accessed, index, np.real(weights))
    time = np.array(state["time"] + 1)
    return np.where(accessed > THRESHOLD, time, state["last_access"]), time


def sam_step(state: Arrays, interface: Arrays) -> tuple[Array, Arrays]:
    """One step of SAM: ``(read vectors [R, W], new state)``. Nothing given is changed."""
    memory, index, weights = sam_write(state, interface)
    reads = state["read_weights"].shape[1]
    found = [
        sam_content(memory, key, strength, reads)
        for key, strength in zip(interface["read_keys"], interface["read_strengths"], strict=True)
    ]
    new = {
        "read_index": np.array([best for best, _ in found]),
        "read_weights": np.array([own for _, own in found]),
    }
    last_access, time = sam_access(state, (index, weights), new)
    vectors = [
        sum(weight * memory[slot] for slot, weight in zip(best, own, strict=True))
        for best, own in found
    ]
    return np.array(vectors), {**new, "memory": memory, "last_access": last_access, "time": time}


def dam_step(state: Arrays, interface: Arrays) -> tuple[Array, Arrays]:
    """One step of DAM: ``(read vectors [R, W], new state)``. Nothing given is changed."""
    slots, heads = len(state["usage"]), len(state["read_weights"])
    alpha, gamma = interface["write_gate"], interface["interpolation_gate"]
    least = min(range(slots), key=lambda slot: (state["usage"][slot], slot))
    written = alpha * gamma * state["read_weights"].sum(0) / heads
    written[least] += alpha * (1 - gamma)
    memory = state["memory"] + 0 * interface["write_vector"]
    memory[least] = 0
    memory = memory + np.outer(written, interface["write_vector"])
    weights = np.array(
        [
            content_weighting(memory, key, strength)
            for key, strength in zip(
                interface["read_keys"], interface["read_strengths"], strict=True
            )
        ]
    )
    return weights @ memory, {
        "memory": memory,
        "usage": DECAY * state["usage"] + np.real(written) + np.real(weights).sum(0),
        "read_weights": weights,
        "write_weights": written,
    }


def _cosine(key: Array, row: Array) -> np.generic:
    norms = np.sqrt((key * key).sum() + 1e-6) * np.sqrt((row * row).sum() + 1e-6)
    return (key * row).sum() / norms
