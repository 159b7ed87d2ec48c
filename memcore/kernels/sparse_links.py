"""The links of one example of the SDNC: `memcore.persistent.links` in place.

Tables as in `memcore.persistent.link_tables`: slots are named by 1 too high, so that 0 is none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from memcore.kernels.compiling import inlined, kernel
from memcore.kernels.journal import Touched, find, number_of

__all__ = ["Links", "follow", "write"]

NAME_BITS = 40


class Links(NamedTuple):
    """One example's tables, its precedence, and the journal of the rows touched."""

    before: Any  # int32 [N·K]: the slots written before each
    value: Any  # [N·K]: how strong each of these links is
    after: Any  # int32 [N·K]: the slots in whose rows each may stand
    reads: Any  # K, which is K_L
    on: Any  # int64 [K]: the slots of the precedence
    precedence: Any  # [K]
    touched: Touched
    lost_before: Any  # int32 [most, K]: what rows held when they were touched first
    lost_value: Any
    lost_after: Any
    place: Any  # int32 [most]: 0 but within `write`


@inlined
def _touch(links: Links, slot):
    known = links.touched.counts[links.touched.at]
    number = number_of(links.touched, slot)
    if number == known:
        begin, to = slot * links.reads, number * links.reads
        for k in range(links.reads):
            links.lost_before[to + k] = links.before[begin + k]
            links.lost_value[to + k] = links.value[begin + k]
            links.lost_after[to + k] = links.after[begin + k]
    return number


@inlined
def _code(value, name):
    """One number that ranks by value, to 15 binary digits, then by slot: higher is better."""
    bits = np.float32(value).view(np.int32)
    return ((np.int64(bits) >> 8) << NAME_BITS) - name


@kernel
def _largest(names, values, count, reads):
    """Bring the ``reads`` best of ``count`` names and values to the front, best first."""
    for at in range(1, count):
        # Where the best so far stand in order, each further one finds its place among them.
        name, value, place = names[at], values[at], min(at, reads)
        code = _code(value, name)
        if place == reads and code <= _code(values[reads - 1], names[reads - 1]):
            continue
        if place == reads:
            place -= 1
            names[at], values[at] = names[place], values[place]
        while place > 0 and code > _code(values[place - 1], names[place - 1]):
            names[place], values[place] = names[place - 1], values[place - 1]
            place -= 1
        names[place], values[place] = name, value


@inlined
def _held(links: Links, slot, name):
    """What the row of a slot holds of the slot named."""
    begin = slot * links.reads
    value = links.value[begin] * 0
    for k in range(begin, begin + links.reads):
        if links.before[k] == name:
            value = value + links.value[k]
    return value


@kernel
def write(links: Links, slots, weights, number):
    """Take up a write to ``slots[:number]``, whose weights of repeats add up."""
    reads, value, before = links.reads, links.value, links.before
    once, own = np.empty(number, value.dtype), np.empty(number, np.int64)
    wide = reads + max(reads, number)
    names, values = np.empty(wide, np.int64), np.empty(wide, value.dtype)
    distinct, total = 0, weights[0] * 0  # slots, of which each comes once, with its total
    for j in range(number):
        total += weights[j]
        touched = _touch(links, slots[j])
        if links.place[touched] == 0:
            own[distinct], once[distinct] = slots[j], 0
            distinct += 1
            links.place[touched] = distinct
        once[links.place[touched] - 1] += weights[j]
    old_before = np.empty(distinct * reads, np.int64)
    old_value = np.empty(distinct * reads, value.dtype)
    for j in range(distinct):
        for k in range(reads):
            old_before[j * reads + k] = before[own[j] * reads + k]
            old_value[j * reads + k] = value[own[j] * reads + k]
    for m in range(reads):
        _touch(links, links.on[m])

    # L[i, j] loses w_j L[i, j] wherever it stands
    for j in range(distinct):
        for k in range(reads):
            holder = links.after[own[j] * reads + k] - 1
            if holder >= 0:
                _touch(links, holder)
                for at in range(holder * reads, holder * reads + reads):
                    if before[at] == own[j] + 1:
                        value[at] -= once[j] * value[at]

    # the rows of the slots written: (1 − w_i − w_j) L[i, j] + w_i p_j
    for j in range(distinct):
        for k in range(reads):
            name, weight = old_before[j * reads + k], once[j]
            touched = find(links.touched, name - 1) if name > 0 else -1
            if touched >= 0 and links.place[touched] > 0:
                weight += once[links.place[touched] - 1]
            kept = (1 - weight) * old_value[j * reads + k]
            for m in range(reads):
                if links.on[m] + 1 == name:
                    kept += once[j] * links.precedence[m]
            names[k], values[k] = name, kept
        for m in range(reads):
            new = links.on[m] != own[j]
            for k in range(reads):
                if old_before[j * reads + k] == links.on[m] + 1:
                    new = False
            names[reads + m], values[reads + m] = links.on[m] + 1, 0
            if new:
                values[reads + m] = once[j] * links.precedence[m]
        _largest(names, values, 2 * reads, reads)
        for k in range(reads):
            at = own[j] * reads + k
            value[at] = values[k]
            before[at] = 0 if values[k] <= 0 else names[k]

    # the columns of the precedence name the slots written; what one drops goes from its row
    for m in range(reads):
        on, count = links.on[m], reads
        for k in range(reads):
            name = links.after[on * reads + k]
            names[k] = name
            values[k] = _held(links, name - 1 if name > 0 else on, on + 1)
        for j in range(distinct):
            known = False
            for k in range(reads):
                if links.after[on * reads + k] == own[j] + 1:
                    known = True
            if not known:
                names[count], values[count] = own[j] + 1, _held(links, own[j], on + 1)
                count += 1
        _largest(names, values, count, reads)
        for k in range(reads):
            links.after[on * reads + k] = names[k]
        for at in range(reads, count):
            if names[at] > 0:
                slot = names[at] - 1
                _touch(links, slot)
                for k in range(slot * reads, slot * reads + reads):
                    if before[k] == on + 1:
                        value[k] -= value[k]

    for j in range(distinct):
        links.place[find(links.touched, own[j])] = 0
    _write_precedence(links, own, once, distinct, total, names, values)


@kernel
def _write_precedence(links: Links, own, once, distinct, total, names, values):
    """``p = (1 − Σ w) p' + w``, on the slots where it is largest."""
    reads, count = links.reads, links.reads
    remaining = 1 - total
    if remaining < 0:
        remaining = 0.0
    for m in range(reads):
        names[m], values[m] = links.on[m] + 1, remaining * links.precedence[m]
    for j in range(distinct):
        known = False
        for m in range(reads):
            if links.on[m] == own[j]:
                values[m] += once[j]
                known = True
        if not known:
            names[count], values[count] = own[j] + 1, once[j]
            count += 1
    _largest(names, values, count, reads)
    for m in range(reads):
        links.on[m], links.precedence[m] = names[m] - 1, values[m]


@inlined
def _add(names, values, count, name, value):
    """Add a value to that of its name; how many names there are then."""
    at = 0
    while at < count and names[at] != name:
        at += 1
    if at == count:
        names[at], values[at] = name, 0
        count += 1
    values[at] += value
    return count


@kernel
def follow(
    links: Links, slots, weights, weights_at, count, index, index_at, target, target_at, way
):
    """Where a head goes from the ``count`` slots that it read: K slots, and how much to each.

    Backward in time where ``way`` is 0, else forward: ``Σ_j L[j, i] w[j]`` or ``Σ_j L[i, j] w[j]``,
    the largest totals; where a total is 0 the slot is 0.
    """
    reads = links.reads
    names = np.empty((count + 1) * reads + 1, np.int64)
    values = np.empty((count + 1) * reads + 1, target.dtype)
    names[0], values[0], found = 0, 0, 1
    for v in range(count):
        slot, weight = slots[v], weights[weights_at + v]
        for k in range(slot * reads, slot * reads + reads):
            if way == 0:
                found = _add(names, values, found, links.before[k], links.value[k] * weight)
            else:
                name = links.after[k]
                strength = _held(links, name - 1 if name > 0 else slot, slot + 1)
                found = _add(names, values, found, name, strength * weight)
    while found < reads:
        names[found], values[found] = 0, 0
        found += 1
    _largest(names, values, found, reads)
    for k in range(reads):
        index[index_at + k] = names[k] - 1 if values[k] > 0 else 0
        target[target_at + k] = values[k]
