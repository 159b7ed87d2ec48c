"""The lines of the dense models: training steps beside the peer's, and memory kept.

A contender that does not compute what our reference does is not timed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from statistics import median

import torch
from torch import Tensor

from contenders import (
    MemoryStep,
    Setting,
    StepLoop,
    compiled_step,
    forward,
    kernel_step,
    plain_step,
    training,
)
from equality import fault_of_kernels, fault_of_step, why_no_kernels
from harness import Step, in_turn
from scaling import kept_for_backward
from table import NOT_EQUAL, Line
from torch_adapters.recurrence import MemoryRNN

__all__ = ["Unfit", "dense_lines", "kept_line", "with_kernels"]

BATCHES = (16, 1, 64)
SIZES = {
    "small": Setting(16, 16, 16, 4, 64),
    "middle": Setting(16, 64, 32, 4, 128),
    "large": Setting(16, 256, 64, 4, 256),
}
TARGETS = {  # of a batch of 16
    "small": (">= 10", ">= 15"),
    "middle": (">= 7", ">= 10"),
    "large": (">= 6", ">= 10"),
}
DAM = Setting(16, 512, 32, 4, 128, memory="dam")
SINGLE = 1e-4  # what results in float32 may differ by


class Unfit(Exception):  # noqa: N818
    """Why a contender takes no part."""


def dense_lines(threads: int, pairs: int, compile: bool) -> Iterator[Line]:
    """Training steps of the DNC in three sizes, of three batches, and of the DAM."""
    for batch in BATCHES:
        for size, setting in SIZES.items():
            for count in sorted({threads, 1}, reverse=True):
                own = setting._replace(batch=batch)
                # XLA's threads are made once, and compiling a step takes half a minute.
                columns = ["peer", "reference", "kernels", "kernel step"]
                columns += ["xla"] * (count == threads) + ["compiled"] * (compile and count > 1)
                line = _timed(f"DNC {size}", own, columns, count, pairs)
                if batch == 16 and count == threads:
                    line.targets = TARGETS[size]
                yield line
    yield _timed("DAM, N 512, W 32", DAM, ["reference", "kernels"], threads, pairs)


def kept_line() -> Line:
    """What a forward pass of the large DNC keeps for backward."""
    setting = SIZES["large"]
    input, module = setting.input(), setting.module("reference")
    line = Line("DNC large, B 16, kept by 20 steps, MB", {}, targets=("<= 58",))
    modules = {
        "peer": lambda: _peer(setting),
        "reference": lambda: module,
        "kernels": lambda: with_kernels(module, input),
    }
    for column, build in modules.items():
        try:
            work = forward(build(), input)
        except Unfit as reason:
            line.faults[column] = str(reason)
        else:
            work()  # what is made once is not kept for backward
            line.values[column] = kept_for_backward(work) / 1e6
    line.value = line.values.get("kernels")
    return line


def with_kernels(module: MemoryRNN, input: Tensor) -> MemoryRNN:
    """A copy that is run by kernels.

    Raises:
        Unfit: there are none for this call, or they are not equal to the reference.
    """
    reason = why_no_kernels(module, input)
    if reason is not None:
        raise Unfit(reason)
    _check(fault_of_kernels(module, input))
    own = copy.deepcopy(module)
    own.backend = "numba"
    return own


def _timed(name: str, setting: Setting, columns: list[str], threads: int, pairs: int) -> Line:
    """One line: whoever computes the same is timed, all in turn."""
    torch.set_num_threads(threads)
    input, module = setting.input(), setting.module("reference")
    builders: dict[str, Callable[[], Step]] = {
        "peer": lambda: training(_peer(setting), input),
        "reference": lambda: training(module, input),
        "kernels": lambda: training(with_kernels(module, input), input),
        "kernel step": lambda: _kernel_step(setting, input),
        "xla": lambda: _xla(module, input, threads),
        "compiled": lambda: _compiled(setting, input),
    }
    what = f"{name}, B {setting.batch}, {threads} thread{'s' if threads > 1 else ''}, ms"
    line = Line(what, {}, over="peer" if "peer" in columns else "reference")
    steps: dict[str, Step] = {}
    for column in columns:
        try:
            steps[column] = builders[column]()
        except Unfit as reason:
            line.faults[column] = str(reason)
    per_step = 1e3 / setting.steps
    times = in_turn(steps, pairs)
    line.values = {column: median(own) * per_step for column, own in times.items()}
    line.details = {"setting": setting._asdict(), "threads": threads}
    line.details["ms"] = {column: [one * per_step for one in own] for column, own in times.items()}
    line.compare(times)
    return line


def _check(fault: str | None) -> None:
    if fault is not None:
        raise Unfit(f"{NOT_EQUAL} {fault}")


def _check_single(found: Tensor, expected: Tensor) -> None:
    difference = float((found - expected).detach().abs().max())
    _check(None if difference <= SINGLE else f"output {difference:.1e}")


def _peer(setting: Setting) -> torch.nn.Module:
    peer = setting.peer()
    if peer is None:
        raise Unfit("not installed: pip install --no-deps dnc==1.1.0")
    return peer


def _with_step(loop: StepLoop, step: MemoryStep) -> StepLoop:
    own = copy.deepcopy(loop)
    own.step = step
    return own


def _kernel_step(setting: Setting, input: Tensor) -> Step:
    reason = why_no_kernels(setting.module("reference"), input)
    if reason is not None:
        raise Unfit(reason)
    loop = StepLoop(setting, plain_step(setting))
    _check(fault_of_step(loop, input))
    return training(_with_step(loop, kernel_step()), input)


def _compiled(setting: Setting, input: Tensor) -> Step:
    """`torch.compile` asks for a C++ compiler."""
    loop = StepLoop(setting, plain_step(setting))
    own = _with_step(loop, compiled_step(setting))
    step = training(own, input)
    try:
        found = own(input)[0]
        step()
    except Exception as error:  # whatever torch's compilers raise
        raise Unfit(f"cannot be compiled: {str(error).strip().splitlines()[0]}") from error
    _check_single(found, loop(input)[0])
    return step


def _xla(module: MemoryRNN, input: Tensor, threads: int) -> Step:
    try:
        from jax_dnc import JaxDNC
    except ImportError as error:
        raise Unfit("jax is not installed") from error
    _start_xla(threads)
    own = JaxDNC(module, input)
    _check_single(own.output(), module(input)[0])
    return own.train


@cache
def _start_xla(threads: int) -> None:
    from jax_dnc import start

    start(threads)
