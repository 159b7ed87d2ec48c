"""All numbers to reach on a CPU, in one table: what, beside whom, and whether it is reached.

``pip install --no-deps dnc==1.1.0`` (the peer) and ``pip install jax`` (XLA) for all columns, then
``python tests/benchmarks/targets.py`` on a machine that does nothing else. Columns:

- peer: the package `dnc`;
- reference, kernels: our modules with ``backend='reference'`` and ``'numba'``;
- kernel step: a loop of one's own around `memcore.dnc.batched_step`;
- xla: the same equations in JAX, ``lax.scan``, jitted (`jax_dnc.py`);
- compiled: a loop of one's own around ``torch.compile(vmap(dnc.step))``, with ``--compile``.

Times are those of a training step, divided by its time steps, the making of the state included:
medians of interleaved runs; ratios are medians of the pairs' ratios. Kernels that are not equal
to the reference, in float64, have no time and no ratio, but a line that says what differs.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

import sam
import sdnc
from contenders import forward
from dense_lines import Unfit, dense_lines, kept_line, with_kernels
from harness import BUSY, in_turn, machine, train, version_of
from table import NOT_EQUAL, Line, header
from torch_adapters.recurrence import MemoryRNN

BACKENDS = {"reference": "reference", "kernels": "numba"}
STEPS = 100  # of the sparse models' sequences


def sparse_lines(
    name: str,
    build: Callable[[str], MemoryRNN],
    measures: Sequence[Callable[..., list[dict[str, Any]]]],
    target: str,
    pairs: int,
) -> Iterator[Line]:
    """Kernels beside the reference in a training step, then what the model's own file measures."""
    input = torch.randn(1, STEPS, sam.INPUT)
    module, faults = build("reference"), {}
    modules = {"reference": module}
    try:
        modules["kernels"] = with_kernels(module, input)
    except Unfit as reason:
        faults["kernels"] = str(reason)
    steps = {column: partial(train, forward(own, input)) for column, own in modules.items()}
    times = in_turn(steps, pairs)
    values = {column: median(own) / STEPS * 1e3 for column, own in times.items()}
    line = Line(f"{name}, N = 2^20, T = {STEPS}, ms", values, faults, over="reference")
    line.compare(times)
    line.targets = (target,) if target else ()
    yield line
    # Where kernels compute something else, what is reached must not be said either.
    judged = None if faults.get("kernels", "").startswith(NOT_EQUAL) else list(modules)[-1]
    for measure in measures:
        gc.collect()
        columns = {column: measure(BACKENDS[column], pairs) for column in modules}
        for rows in zip(*columns.values(), strict=True):
            own = dict(zip(columns, rows, strict=True))
            yield _judged(own, judged)


def _judged(rows: dict[str, dict[str, Any]], judged: str | None) -> Line:
    """A line from the rows that a measure gave for each column."""
    first = rows["reference"]
    values = {name: row["reached"] for name, row in rows.items() if row["reached"] is not None}
    line = Line(first["what"], values, details=rows)
    line.targets = (first["target"],) if first["target"] else ()
    line.value = None if judged is None else values.get(judged)
    if "reason" in first:
        line.faults["peer"] = first["reason"]
    return line


def groups(options: argparse.Namespace) -> dict[str, Callable[[], Iterator[Line]]]:
    """What can be asked for with ``--only``, in order."""

    def sparse(name: str, build: Callable[[str], MemoryRNN], measures: Any, target: str) -> Any:
        torch.set_num_threads(options.threads)
        return sparse_lines(name, build, measures, target, options.pairs)

    def memory() -> Iterator[Line]:
        torch.set_num_threads(options.threads)
        yield kept_line()

    return {
        "dnc": lambda: dense_lines(options.threads, options.pairs, options.compile),
        "memory": memory,
        "sam": lambda: sparse("SAM", partial(sam.sam, sam.LARGE), sam.MEASURES, ">= 15"),
        "sdnc": lambda: sparse("SDNC", partial(sdnc.sdnc, sdnc.LARGE), sdnc.MEASURES, ""),
    }


def main() -> None:
    """Measure, print each line when it is there, and write all as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("dnc", "memory", "sam", "sdnc")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these groups")
    parser.add_argument("--pairs", type=int, default=7, help="interleaved runs; at least 5 count")
    parser.add_argument("--quick", action="store_true", help="two pairs, to look at the command")
    parser.add_argument("--threads", type=int, default=2, help="of torch; the DNC also with one")
    parser.add_argument("--compile", action="store_true", help="also torch.compile's step")
    parser.add_argument("--json", type=Path, default=Path("benchmark_targets.json"))
    options = parser.parse_args()
    if options.quick:
        options.pairs = 2
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    where = {**machine(), "pairs": options.pairs}
    where |= {"peer": version_of("dnc"), "jax": version_of("jax")}
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    if (where["load"] or 0) > BUSY:
        print(f"The machine is busy (load {where['load']}): none of these ratios is to be kept.")
    print(header())
    lines, told = [], set()
    for name, group in groups(options).items():
        for line in group() if name in options.only else ():
            print(line)
            for column, fault in line.faults.items():
                if fault not in told:
                    print(f"    {column}: {fault}")
                    told.add(fault)
            sys.stdout.flush()
            lines.append(line.to_json())
            text = json.dumps({"machine": where, "lines": lines}, indent=1)
            options.json.write_text(text + "\n", encoding="utf-8")
    print(f"written: {options.json}")


if __name__ == "__main__":
    main()
