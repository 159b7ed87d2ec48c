"""The entries of the dense memories: what the loop over time calls, without knowing which it is.

Each does one thing with one example (`memcore.kernels.plan`): bring its state in, make a step, hand
its state out.
"""

from __future__ import annotations

from typing import Any

from memcore.kernels import dam, dnc, dnc_backward, plan
from memcore.kernels.compiling import entries, joined, kernel
from memcore.kernels.content import inverse_norms
from memcore.kernels.dnc_record import fields as dnc_fields
from memcore.kernels.lanes import floats_at, int32s_at, int64s_at, part
from memcore.kernels.links import links_forward
from memcore.kernels.records import enter_memory, enter_rows, leave_memory, leave_rows
from memcore.kernels.told import ANYTHING, places, sizes_of

__all__ = ["DAM_BACKWARD", "DAM_FORWARD", "DNC_BACKWARD", "DNC_FORWARD"]


@kernel
def _kept_links(told, at, example, step, zero):
    """The links of an example after ``step`` steps, if they are given or kept."""
    square, stride = told[plan.WRITES] * told[plan.PADDED] * told[plan.PADDED], told[plan.STRIDE]
    if step == 0:
        return part(floats_at(told[at + plan.LINKS_IN], ANYTHING, zero), example * square, square)
    marks = floats_at(told[at + plan.LINK_MARKS], ANYTHING, zero)
    number = example * ((told[plan.MEMORY_STEPS] - 1) // stride) + step // stride - 1
    return part(marks, number * square, square)


@kernel
def _enter_dnc(told, at, example, record, sizes, zero):
    enter_memory(record.memory, told[at], example, sizes, zero)
    enter_rows(record.usage, told[at + 1], example, 1, sizes, zero)
    enter_rows(record.precedence, told[at + 2], example, sizes.writes, sizes, zero)
    enter_rows(record.write_weights, told[at + 3], example, sizes.writes, sizes, zero)
    enter_rows(record.read_weights, told[at + 4], example, sizes.heads, sizes, zero)


@kernel
def _leave_dnc(told, at, example, record, sizes, zero):
    leave_memory(record.memory, told[at], example, sizes, zero)
    leave_rows(record.usage, told[at + 1], example, 1, sizes, zero)
    leave_rows(record.precedence, told[at + 2], example, sizes.writes, sizes, zero)
    leave_rows(record.write_weights, told[at + 3], example, sizes.writes, sizes, zero)
    leave_rows(record.read_weights, told[at + 4], example, sizes.heads, sizes, zero)


@joined
def _dnc_forward(told, what, at, example, step, vector, reads, scratch, _, zero):
    sizes, order, stride = sizes_of(told), told[plan.ORDER], told[plan.STRIDE]
    recording, steps = told[plan.RECORDING] != 0, told[plan.MEMORY_STEPS]
    tape = floats_at(told[at + plan.TAPE], ANYTHING, zero)
    orders = int32s_at(told[at + plan.ORDERS], ANYTHING)
    here, there = places(told, example, step)
    before = dnc_fields(tape, here * told[plan.RECORD], sizes)
    if what == plan.BEGIN:
        _enter_dnc(told, at + plan.STATE_IN, example, before, sizes, zero)
        inverse_norms(before.memory, before.inverse_norms, sizes.words, sizes.padded)
        for place in range(order):
            orders[here * order + place] = place % sizes.padded
    elif what == plan.END:
        _leave_dnc(told, at + plan.STATE_OUT, example, before, sizes, zero)
    else:
        square = sizes.writes * sizes.padded * sizes.padded
        running = floats_at(told[at + plan.LINKS], ANYTHING, zero)
        old = new = part(running, example * square, square)
        if step == 0 or (recording and step % stride == 0):
            old = _kept_links(told, at, example, step, zero)
        if recording and (step + 1) % stride == 0 and step + 1 < steps:
            new = _kept_links(told, at, example, step + 1, zero)
        for place in range(order):
            orders[there * order + place] = orders[here * order + place]
        dnc.forward(
            before, dnc_fields(tape, there * told[plan.RECORD], sizes),
            part(orders, there * order, order), old, new,
            floats_at(vector, told[plan.INTERFACE_WIDTH], zero),
            floats_at(reads, sizes.heads * sizes.words, zero),
            floats_at(scratch, ANYTHING, zero), sizes,
        )  # fmt: skip


@kernel
def _links_before(told, at, example, step, tape, target, sizes, zero):
    """The links before a step: kept, or made again in ``target`` from the last that were."""
    last, record = step // told[plan.STRIDE] * told[plan.STRIDE], told[plan.RECORD]
    square = sizes.padded * sizes.padded
    links, nothing = _kept_links(told, at, example, last, zero), part(tape, 0, 0)
    for made in range(last, step):
        here, there = places(told, example, made)
        old, new = dnc_fields(tape, here * record, sizes), dnc_fields(tape, there * record, sizes)
        for write in range(sizes.writes):
            row = write * sizes.padded
            links_forward(
                part(links, row * sizes.padded, square), part(target, row * sizes.padded, square),
                part(new.write_weights, row, sizes.padded),
                part(old.precedence, row, sizes.padded), old.read_weights, nothing, nothing,
                0, sizes.padded,
            )  # fmt: skip
        links = target
    return links


@joined
def _dnc_backward(told, what, at, example, step, d_reads, d_vector, work, d_state, zero):
    sizes, order, record = sizes_of(told), told[plan.ORDER], told[plan.RECORD]
    gradient = dnc_fields(floats_at(d_state, ANYTHING, zero), 0, sizes)
    if what == plan.BEGIN:
        _enter_dnc(told, at + plan.D_STATE_IN, example, gradient, sizes, zero)
    elif what == plan.END:
        _leave_dnc(told, at + plan.D_STATE_OUT, example, gradient, sizes, zero)
    else:
        tape = floats_at(told[at + plan.TAPE], ANYTHING, zero)
        orders = int32s_at(told[at + plan.ORDERS], ANYTHING)
        here, there = places(told, example, step)
        square = sizes.writes * sizes.padded * sizes.padded
        d_links = floats_at(told[at + plan.D_LINKS], ANYTHING, zero)
        space = floats_at(work, told[plan.WORK], zero)
        own = told[plan.WORK] - square
        dnc_backward.backward(
            dnc_fields(tape, here * record, sizes), dnc_fields(tape, there * record, sizes),
            part(orders, there * order, order),
            _links_before(
                told, at, example, step, tape, part(space, own, square), sizes, zero
            ),
            floats_at(d_reads, sizes.heads * sizes.words, zero), gradient,
            part(d_links, example * square, square),
            floats_at(d_vector, sizes.interface, zero), part(space, 0, own), sizes,
        )  # fmt: skip


@kernel
def _enter_dam(told, at, example, record, sizes, zero):
    enter_memory(record.memory, told[at], example, sizes, zero)
    enter_rows(record.usage, told[at + 1], example, 1, sizes, zero)
    enter_rows(record.write_weights, told[at + 3], example, 1, sizes, zero)
    enter_rows(record.read_weights, told[at + 4], example, sizes.heads, sizes, zero)


@kernel
def _leave_dam(told, at, example, record, sizes, zero):
    leave_memory(record.memory, told[at], example, sizes, zero)
    leave_rows(record.usage, told[at + 1], example, 1, sizes, zero)
    leave_rows(record.write_weights, told[at + 3], example, 1, sizes, zero)
    leave_rows(record.read_weights, told[at + 4], example, sizes.heads, sizes, zero)


@joined
def _dam_forward(told, what, at, example, step, vector, reads, scratch, _, zero):
    sizes = sizes_of(told)
    tape = floats_at(told[at + plan.TAPE], ANYTHING, zero)
    chosen = int32s_at(told[at + plan.ORDERS], ANYTHING)
    here, there = places(told, example, step)
    before = dam.fields(tape, here * told[plan.RECORD], sizes)
    if what == plan.BEGIN:
        _enter_dam(told, at + plan.STATE_IN, example, before, sizes, zero)
    elif what == plan.END:
        _leave_dam(told, at + plan.STATE_OUT, example, before, sizes, zero)
    else:
        dam.forward(
            before, dam.fields(tape, there * told[plan.RECORD], sizes), part(chosen, there, 1),
            floats_at(vector, told[plan.INTERFACE_WIDTH], zero),
            floats_at(reads, sizes.heads * sizes.words, zero),
            floats_at(scratch, ANYTHING, zero), sizes,
        )  # fmt: skip


@joined
def _dam_backward(told, what, at, example, step, d_reads, d_vector, work, d_state, zero):
    sizes, record = sizes_of(told), told[plan.RECORD]
    gradient = dam.fields(floats_at(d_state, ANYTHING, zero), 0, sizes)
    if what == plan.BEGIN:
        _enter_dam(told, at + plan.D_STATE_IN, example, gradient, sizes, zero)
    elif what == plan.END:
        _leave_dam(told, at + plan.D_STATE_OUT, example, gradient, sizes, zero)
    else:
        tape = floats_at(told[at + plan.TAPE], ANYTHING, zero)
        here, there = places(told, example, step)
        dam.backward(
            dam.fields(tape, here * record, sizes), dam.fields(tape, there * record, sizes),
            part(int32s_at(told[at + plan.ORDERS], ANYTHING), there, 1),
            floats_at(d_reads, sizes.heads * sizes.words, zero), gradient,
            floats_at(d_vector, sizes.interface, zero), floats_at(work, ANYTHING, zero), sizes,
        )  # fmt: skip


# The factories of entries. What an entry closes over is part of the key by which it is found on the
# disk, so that is a dtype and the digest alone: another digest, other sources. The kernels it calls
# it takes from this module: they have numbers that differ from process to process.


def _dnc_forward_entry(real: Any, digest: str) -> Any:
    def step(told, what, at, example, number, first, second, third, fourth):
        if len(digest) > 0:
            _dnc_forward(
                int64s_at(told, ANYTHING), what, at, example, number, first, second, third, fourth,
                real(0),
            )  # fmt: skip

    return step


def _dnc_backward_entry(real: Any, digest: str) -> Any:
    def step(told, what, at, example, number, first, second, third, fourth):
        if len(digest) > 0:
            _dnc_backward(
                int64s_at(told, ANYTHING), what, at, example, number, first, second, third, fourth,
                real(0),
            )  # fmt: skip

    return step


def _dam_forward_entry(real: Any, digest: str) -> Any:
    def step(told, what, at, example, number, first, second, third, fourth):
        if len(digest) > 0:
            _dam_forward(
                int64s_at(told, ANYTHING), what, at, example, number, first, second, third, fourth,
                real(0),
            )  # fmt: skip

    return step


def _dam_backward_entry(real: Any, digest: str) -> Any:
    def step(told, what, at, example, number, first, second, third, fourth):
        if len(digest) > 0:
            _dam_backward(
                int64s_at(told, ANYTHING), what, at, example, number, first, second, third, fourth,
                real(0),
            )  # fmt: skip

    return step


DNC_FORWARD = entries(_dnc_forward_entry, plan.STEP_ARGUMENTS)
DNC_BACKWARD = entries(_dnc_backward_entry, plan.STEP_ARGUMENTS)
DAM_FORWARD = entries(_dam_forward_entry, plan.STEP_ARGUMENTS)
DAM_BACKWARD = entries(_dam_backward_entry, plan.STEP_ARGUMENTS)
