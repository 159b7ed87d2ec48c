"""The DNC in float64 NumPy, written from the equations with loops, to hold other code against.

It knows nothing of the rest of memcore and is slow on purpose. Everything works on complex
arrays too, so that `complex_step_derivative` differentiates it to the last digit without a
second implementation: for a function of real values continued to complex ones,
``f'(x)·d = Im f(x + i h d) / h`` has no cancellation and h can be 1e-30.

States and interfaces are plain dictionaries of arrays with the field names of
`memcore.dnc.DNCState` and `memcore.dnc.DNCInterface`. Source: Graves et al. 2016.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = [
    "allocation_weighting",
    "complex_step_derivative",
    "content_weighting",
    "dnc_initial_state",
    "dnc_parse_interface",
    "dnc_step",
    "oneplus",
    "sigmoid",
    "softmax",
]

Array = np.ndarray
Arrays = dict[str, np.ndarray]


def complex_step_derivative(
    function: Callable[[Array], Array], point: Array, direction: Array, step: float = 1e-30
) -> Array:
    """Derivative of ``function`` at ``point`` along ``direction``, exact to rounding.

    Args:
        function: takes an array like ``point``, real or complex, and returns an array.
        point: real.
        direction: real, of the shape of ``point``.
        step: how far into the complex plane.

    Returns:
        An array of the shape that ``function`` returns.
    """
    return np.imag(function(point + 1j * step * direction)) / step


# By the sign of the real part, so that nothing overflows.
def sigmoid(values: Array) -> Array:
    """``1 / (1 + e⁻ˣ)``."""
    small = np.exp(np.where(np.real(values) > 0, -values, values))
    return np.where(np.real(values) > 0, 1 / (1 + small), small / (1 + small))


def oneplus(values: Array) -> Array:
    """``1 + log(1 + eˣ)``."""
    small = np.exp(np.where(np.real(values) > 0, -values, values))
    return 1 + np.where(np.real(values) > 0, values, 0) + np.log(1 + small)


def softmax(values: Array) -> Array:
    """``eˣ / Σ eˣ`` over a vector."""
    powers = np.exp(values - np.max(np.real(values)))
    return powers / powers.sum()


def content_weighting(memory: Array, key: Array, strength: Array | np.generic | float) -> Array:
    """``softmax_i(β cos(k, M_i))`` for one key ``[W]`` over a memory ``[N, W]``: ``[N]``."""
    cosines = []
    for row in memory:
        norms = np.sqrt((key * key).sum() + 1e-6) * np.sqrt((row * row).sum() + 1e-6)
        cosines.append((key * row).sum() / norms)
    return softmax(strength * np.array(cosines))


def allocation_weighting(usage: Array) -> Array:
    """``a[φ_j] = (1 − u[φ_j]) Π_{i<j} u[φ_i]`` for a usage ``[N]``: ``[N]``."""
    result = np.zeros_like(usage)
    product = 1.0
    for slot in np.argsort(np.real(usage), kind="stable"):
        result[slot] = (1 - usage[slot]) * product
        product = product * usage[slot]
    return result


def dnc_initial_state(slots: int, word_size: int, read_heads: int) -> Arrays:
    """The state before the first step: all zero."""
    return {
        "memory": np.zeros((slots, word_size)),
        "usage": np.zeros(slots),
        "precedence": np.zeros(slots),
        "link": np.zeros((slots, slots)),
        "read_weights": np.zeros((read_heads, slots)),
        "write_weights": np.zeros(slots),
    }


def dnc_parse_interface(vector: Array, word_size: int, read_heads: int) -> Arrays:
    """Split the interface vector ``[R·W + 3·W + 5·R + 3]`` and bring each part into range."""
    rest = list(vector)

    def take(count: int) -> Array:
        taken = rest[:count]
        del rest[:count]
        return np.array(taken)

    interface = {
        "read_keys": take(read_heads * word_size).reshape(read_heads, word_size),
        "read_strengths": oneplus(take(read_heads)),
        "write_key": take(word_size),
        "write_strength": oneplus(take(1))[0],
        "erase_vector": sigmoid(take(word_size)),
        "write_vector": take(word_size),
        "free_gates": sigmoid(take(read_heads)),
        "allocation_gate": sigmoid(take(1))[0],
        "write_gate": sigmoid(take(1))[0],
        "read_modes": np.array([softmax(take(3)) for _ in range(read_heads)]),
    }
    if rest:
        raise ValueError(f"{len(rest)} numbers too many in the interface vector")
    return interface


def dnc_step(state: Arrays, interface: Arrays) -> tuple[Array, Arrays]:
    """One step: ``(read vectors [R, W], new state)``. Nothing given is changed."""
    memory, links, precedence = state["memory"], state["link"], state["precedence"]
    slots = memory.shape[0]
    heads = range(len(interface["free_gates"]))

    usage = np.zeros_like(state["usage"] + 0 * interface["write_gate"])
    for slot in range(slots):
        used, written = state["usage"][slot], state["write_weights"][slot]
        kept = 1.0
        for head in heads:
            kept = kept * (1 - interface["free_gates"][head] * state["read_weights"][head, slot])
        usage[slot] = (used + written - used * written) * kept

    allocation = allocation_weighting(usage)
    content = content_weighting(memory, interface["write_key"], interface["write_strength"])
    gate = interface["allocation_gate"]
    write = interface["write_gate"] * (gate * allocation + (1 - gate) * content)

    erased = np.ones_like(memory) - np.outer(write, interface["erase_vector"])
    new_memory = memory * erased + np.outer(write, interface["write_vector"])

    new_links = np.zeros_like(links + 0 * write[:1])
    for later in range(slots):
        for earlier in range(slots):
            if later != earlier:
                old = (1 - write[later] - write[earlier]) * links[later, earlier]
                new_links[later, earlier] = old + write[later] * precedence[earlier]
    new_precedence = (1 - write.sum()) * precedence + write

    read_weights = []
    for head in heads:
        last = state["read_weights"][head]
        ways = (
            new_links.T @ last,
            content_weighting(
                new_memory, interface["read_keys"][head], interface["read_strengths"][head]
            ),
            new_links @ last,
        )
        modes = interface["read_modes"][head]
        read_weights.append(sum(mode * way for mode, way in zip(modes, ways, strict=True)))
    new_reads = np.array(read_weights)
    return new_reads @ new_memory, {
        "memory": new_memory,
        "usage": usage,
        "precedence": new_precedence,
        "link": new_links,
        "read_weights": new_reads,
        "write_weights": write,
    }
