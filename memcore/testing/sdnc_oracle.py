"""The SDNC in float64 NumPy, written from the equations with loops, copies and dense links.

As `memcore.testing.sam_oracle`, of which it takes what is the same. Sources: Rae et al. 2016,
arXiv 1610.09027, supplementary D; Graves et al. 2016 for the rule of the links.
"""

from __future__ import annotations

import numpy as np

from memcore.testing import sam_oracle
from memcore.testing.oracle import Array, Arrays, softmax

__all__ = ["links_step", "sdnc_initial_state", "sdnc_parse_interface", "sdnc_step"]


def sdnc_initial_state(
    slots: int, word_size: int, read_heads: int, sparse_reads: int, temporal_reads: int
) -> Arrays:
    """The state before the first step."""
    visible = sparse_reads + 2 * temporal_reads
    return {
        **sam_oracle.sam_initial_state(slots, word_size, read_heads, sparse_reads),
        "read_index": np.zeros((read_heads, visible), dtype=np.int64),
        "read_weights": np.zeros((read_heads, visible)),
        "link": np.zeros((slots, slots)),
        "precedence": np.zeros(slots),
    }


def sdnc_parse_interface(vector: Array, word_size: int, read_heads: int) -> Arrays:
    """Split the interface vector ``[R·W + 4·R + W + 2]`` and bring each part into range."""
    rest, modes = vector[: -3 * read_heads], vector[-3 * read_heads :]
    interface = sam_oracle.sam_parse_interface(rest, word_size, read_heads)
    interface["read_modes"] = np.array([softmax(own) for own in modes.reshape(-1, 3)])
    return interface


def largest(values: Array, count: int) -> list[int]:
    """The ``count`` slots of the largest values, by 15 binary digits, of equal ones the lowest."""
    digits = np.asarray(values, np.float32).view(np.int32) >> 8
    return sorted(range(len(values)), key=lambda slot: (-digits[slot], slot))[:count]


def _only(values: Array, kept: list[int]) -> Array:
    result = np.zeros_like(values)
    result[kept] = values[kept]
    return result


def links_step(
    link: Array, precedence: Array, index: Array, weights: Array, temporal_reads: int
) -> tuple[Array, Array]:
    """Links ``[N, N]`` and precedence ``[N]`` after a write to ``index [J]``; real numbers.

    The rule of the DNC, then the largest of each row written, then of each column that the
    precedence was on, then of the precedence.
    """
    slots = len(precedence)
    written = np.zeros(slots)
    for slot, weight in zip(index, weights, strict=True):
        written[slot] += weight
    new = np.zeros_like(link)
    for i in range(slots):
        for j in range(slots):
            if i != j:
                kept = (1 - written[i] - written[j]) * link[i, j]
                new[i, j] = kept + written[i] * precedence[j]
    for i in set(index):
        new[i] = _only(new[i], largest(new[i], temporal_reads))
    for j in np.flatnonzero(precedence):
        new[:, j] = _only(new[:, j], largest(new[:, j], temporal_reads))
    after = (1 - written.sum()) * precedence + written
    return new, _only(after, largest(after, temporal_reads))


def sdnc_step(
    state: Arrays, interface: Arrays, sparse_reads: int, temporal_reads: int
) -> tuple[Array, Arrays]:
    """One step of the SDNC: ``(read vectors [R, W], new state)``. Nothing given is changed."""
    memory, written_to, weights = sam_oracle.sam_write(state, interface)
    link, precedence = links_step(
        state["link"], state["precedence"], written_to, np.real(weights), temporal_reads
    )
    index, read_weights, vectors = [], [], []
    for head, key in enumerate(interface["read_keys"]):
        before = np.zeros(len(precedence))
        for slot, weight in zip(
            state["read_index"][head], state["read_weights"][head], strict=True
        ):
            before[slot] += np.real(weight)
        backward, forward = link.T @ before, link @ before
        similar, content = sam_oracle.sam_content(
            memory, key, interface["read_strengths"][head], sparse_reads
        )
        modes = interface["read_modes"][head]
        ways = [(slot, modes[0] * backward[slot]) for slot in largest(backward, temporal_reads)]
        ways += [(slot, modes[1] * weight) for slot, weight in zip(similar, content, strict=True)]
        ways += [(slot, modes[2] * forward[slot]) for slot in largest(forward, temporal_reads)]
        index.append([slot for slot, _ in ways])
        read_weights.append([weight for _, weight in ways])
        vectors.append(sum(weight * memory[slot] for slot, weight in ways))
    new = {"read_index": np.array(index), "read_weights": np.array(read_weights)}
    last_access, time = sam_oracle.sam_access(state, (written_to, weights), new)
    return np.array(vectors), {
        **new,
        "memory": memory,
        "last_access": last_access,
        "time": time,
        "link": link,
        "precedence": precedence,
    }
