"""The DNC in float64 NumPy, written from the equations with loops, to hold other code against.

With it, what a Neural Turing Machine adds: `interpolated` and `circularly_shifted`.

It knows nothing of the rest of memcore but its options, and is slow on purpose. Everything works
on complex arrays too, so that `complex_step_derivative` differentiates it to the last digit without
a second implementation: for a function of real values continued to complex ones,
``f'(x)·d = Im f(x + i h d) / h`` has no cancellation and h can be 1e-30.

States and interfaces are plain dictionaries of arrays with the field names of
`memcore.dnc.DNCState` and `memcore.dnc.DNCInterface`. Source: Graves et al. 2016.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from memcore.options import PLAIN_DNC, DNCOptions

__all__ = [
    "allocation_weighting",
    "circularly_shifted",
    "complex_step_derivative",
    "content_weighting",
    "dnc_initial_state",
    "dnc_parse_interface",
    "dnc_step",
    "interpolated",
    "oneplus",
    "sharpened",
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


def content_weighting(
    memory: Array,
    key: Array,
    strength: Array | np.generic | float,
    mask: Array | None = None,
) -> Array:
    """``softmax_i(β cos(k∘m, M_i∘m))`` for one key ``[W]`` over a memory ``[N, W]``: ``[N]``."""
    shown = np.ones(len(key)) if mask is None else mask
    cosines = []
    for row in memory:
        own, other = key * shown, row * shown
        norms = np.sqrt((own * own).sum() + 1e-6) * np.sqrt((other * other).sum() + 1e-6)
        cosines.append((own * other).sum() / norms)
    return softmax(strength * np.array(cosines))


def sharpened(weighting: Array, sharpness: Array | np.generic | float) -> Array:
    """``S(d, s)_i = ((d_i + ε) / max(d + ε))^s / Σ_j …`` for a weighting ``[N]``: ``[N]``."""
    shifted = weighting + 1e-6
    powers = (shifted / shifted[np.argmax(np.real(shifted))]) ** sharpness
    return powers / powers.sum()


def interpolated(content: Array, previous: Array, gate: Array | np.inexact | float) -> Array:
    """``g c_i + (1 − g) w'_i`` for weightings ``[N]``: ``[N]``. Graves et al. 2014, eq. 7."""
    pairs = zip(content, previous, strict=True)
    return np.array([gate * by_content + (1 - gate) * stayed for by_content, stayed in pairs])


def circularly_shifted(weighting: Array, shift: Array) -> Array:
    """``Σ_j w_j s(i − j mod N)`` for ``[N]`` and ``[S]``: ``[N]``. Graves et al. 2014, eq. 8."""
    slots, middle = len(weighting), len(shift) // 2
    result = np.zeros_like(weighting + 0 * shift[0])
    for slot in range(slots):
        for place, own in enumerate(shift):
            goal = (slot + place - middle) % slots
            result[goal] = result[goal] + own * weighting[slot]
    return result


def allocation_weighting(usage: Array) -> Array:
    """``a[φ_j] = (1 − u[φ_j]) Π_{i<j} u[φ_i]`` for a usage ``[N]``: ``[N]``."""
    result = np.zeros_like(usage)
    product = 1.0
    for slot in np.argsort(np.real(usage), kind="stable"):
        result[slot] = (1 - usage[slot]) * product
        product = product * usage[slot]
    return result


def dnc_initial_state(
    slots: int, word_size: int, read_heads: int, options: DNCOptions = PLAIN_DNC
) -> Arrays:
    """The state before the first step: all zero."""
    heads = (options.write_heads,) if options.write_heads > 1 else ()
    return {
        "memory": np.zeros((slots, word_size)),
        "usage": np.zeros(slots),
        "precedence": np.zeros((*heads, slots)),
        "link": np.zeros((*heads, slots, slots)),
        "read_weights": np.zeros((read_heads, slots)),
        "write_weights": np.zeros((*heads, slots)),
    }


def dnc_parse_interface(
    vector: Array, word_size: int, read_heads: int, options: DNCOptions = PLAIN_DNC
) -> Arrays:
    """Split the interface vector ``[R·W + 3·W + 5·R + 3]`` and bring each part into range.

    What is told of writing has an axis for the write heads where there are several; masks and
    sharpness are there with their options.
    """
    rest, writes, least = list(vector), options.write_heads, options.mask_minimum

    def take(count: int) -> Array:
        taken = rest[:count]
        del rest[:count]
        return np.array(taken)

    def words(heads: int) -> Array:
        return take(heads * word_size).reshape(heads, word_size)

    def of_write_heads(values: Array) -> Any:
        return values if writes > 1 else values[0]

    interface = {
        "read_keys": words(read_heads),
        "read_strengths": options.temperature * oneplus(take(read_heads)),
        "write_key": of_write_heads(words(writes)),
        "write_strength": of_write_heads(options.temperature * oneplus(take(writes))),
        "erase_vector": of_write_heads(sigmoid(words(writes))),
        "write_vector": of_write_heads(words(writes)),
        "free_gates": sigmoid(take(read_heads)),
        "allocation_gate": of_write_heads(sigmoid(take(writes))),
        "write_gate": of_write_heads(sigmoid(take(writes))),
        "read_modes": np.array([softmax(take(2 * writes + 1)) for _ in range(read_heads)]),
    }
    if options.masking:
        interface["read_masks"] = sigmoid(words(read_heads)) * (1 - least) + least
        interface["write_mask"] = of_write_heads(sigmoid(words(writes)) * (1 - least) + least)
    if options.link_sharpness:
        interface["sharpness"] = oneplus(take(2 * read_heads)).reshape(read_heads, 2)
    if rest:
        raise ValueError(f"{len(rest)} numbers too many in the interface vector")
    return interface


def dnc_step(
    state: Arrays, interface: Arrays, options: DNCOptions = PLAIN_DNC
) -> tuple[Array, Arrays]:
    """One step: ``(read vectors [R, W], new state)``. Nothing given is changed."""
    several = options.write_heads > 1
    memory, slots = state["memory"], state["memory"].shape[0]
    told = {
        name: value if several else value[None]
        for name, value in interface.items()
        if name.startswith(("write_", "erase_", "allocation_"))
    }
    before = {
        name: state[name] if several else state[name][None]
        for name in ("precedence", "link", "write_weights")
    }
    heads, writes = range(len(interface["free_gates"])), range(options.write_heads)

    retention = np.ones_like(state["usage"] + 0 * interface["write_gate"].sum())
    usage = retention.copy()
    for slot in range(slots):
        for head in heads:
            free = interface["free_gates"][head] * state["read_weights"][head, slot]
            retention[slot] = retention[slot] * (1 - free)
        used, written = state["usage"][slot], before["write_weights"][0][slot]
        for write in writes[1:]:
            written = 1 - (1 - written) * (1 - before["write_weights"][write][slot])
        usage[slot] = (used + written - used * written) * retention[slot]

    taken, weights = usage, []
    for write in writes:
        allocation = allocation_weighting(taken)
        mask = told["write_mask"][write] if options.masking else None
        content = content_weighting(
            memory, told["write_key"][write], told["write_strength"][write], mask
        )
        gate, open_ = told["allocation_gate"][write], told["write_gate"][write]
        weights.append(open_ * (gate * allocation + (1 - gate) * content))
        taken = taken + (1 - taken) * gate * open_ * allocation

    new_memory = memory * retention[:, None] if options.deallocation else memory
    for write in writes:
        new_memory = new_memory * (1 - np.outer(weights[write], told["erase_vector"][write]))
    for write in writes:
        new_memory = new_memory + np.outer(weights[write], told["write_vector"][write])

    links, precedences = [], []
    for write in writes:
        own, old, last = weights[write], before["link"][write], before["precedence"][write]
        new = np.zeros_like(old + 0 * own[:1])
        for later in range(slots):
            for earlier in range(slots):
                if later != earlier:
                    kept = (1 - own[later] - own[earlier]) * old[later, earlier]
                    new[later, earlier] = kept + own[later] * last[earlier]
        links.append(new)
        precedences.append((1 - own.sum()) * last + own)

    read_weights = []
    for head in heads:
        last = state["read_weights"][head]
        forth, back = [link @ last for link in links], [link.T @ last for link in links]
        if options.link_sharpness:
            onward, backward = interface["sharpness"][head]
            forth = [sharpened(way, onward) for way in forth]
            back = [sharpened(way, backward) for way in back]
        mask = interface["read_masks"][head] if options.masking else None
        key, strength = interface["read_keys"][head], interface["read_strengths"][head]
        ways = [*back, content_weighting(new_memory, key, strength, mask), *forth]
        modes = interface["read_modes"][head]
        read_weights.append(sum(mode * way for mode, way in zip(modes, ways, strict=True)))
    new_reads = np.array(read_weights)

    def joined(parts: list[Array]) -> Array:
        return np.array(parts) if several else parts[0]

    return new_reads @ new_memory, {
        "memory": new_memory,
        "usage": usage,
        "precedence": joined(precedences),
        "link": joined(links),
        "read_weights": new_reads,
        "write_weights": joined(weights),
    }
