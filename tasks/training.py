"""The command of a task: train, save on the way, summarize, resume, report."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import torch

from checkpoints import Before, before, checkpoint_path, load_checkpoint
from heat_maps import HeatMapServer
from interruption import deferred_interrupt
from memcore import MemcoreError
from memcore.errors import how_to_install
from metrics import MetricsFile, Sink, TensorBoard
from options import AUTO, build_parser, choose_device, wrong_option
from processes import Processes
from report import describe, report
from run import NotFiniteError, Run
from task import Task
from watching import Watch

__all__ = ["main"]


def main(task: Task, description: str, argv: Sequence[str] | None = None) -> None:
    """Train a task from the command line, test it on longer sequences, draw what it learned.

    Started by ``torchrun``, it is one of several processes, each with its share of the batches.
    """
    processes = Processes.started()
    with processes.one_voice():
        parser = build_parser(description, task.add_options, **task.defaults)
        options = parser.parse_args(argv)
        try:
            with processes.connected():
                _train_and_report(task, parser, argv, options, processes)
        except KeyboardInterrupt:
            raise SystemExit("stopped; what was saved is still there") from None


def _train_and_report(
    task: Task,
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    options: argparse.Namespace,
    processes: Processes,
) -> None:
    # The first process reads for all, so that none is without when it begins to write.
    source, saved = processes.in_first(lambda: _checkpoint(task, options))
    if source is not None:
        wrong = wrong_option(parser, saved["options"])
        if wrong is not None:
            raise SystemExit(f"-resume {source}: not a whole checkpoint, its {wrong}")
        parser.set_defaults(**saved["options"], checkpoint_dir=source.parent)
        options = parser.parse_args(argv)
    if options.batch_size % processes.count:
        parser.error(
            "argument -batch_size/--batch_size: expected a multiple of the number of processes, "
            f"{processes.count}, got {options.batch_size}"
        )
    device = choose_device(options.cuda, processes.rank_here, processes.count_here)
    processes.in_first(lambda: _make(options.checkpoint_dir))
    run = processes.in_all(lambda: _build(task, options, device, processes))
    _begin(run, source, saved)
    try:
        with ExitStack() as stack:
            sinks = processes.in_all(lambda: _sinks(run, source, saved) if processes.first else [])
            for sink in sinks:
                stack.enter_context(closing(sink))
            if run.then is Before.DROP:
                run.save()  # one that goes with the metrics
            interrupted = _train(run, sinks)
            if run.saved_at != run.iteration:
                _save(run, sinks)
    except NotFiniteError as error:
        raise SystemExit(
            f"stopped at iteration {run.iteration}: {error}; go on from iteration {run.saved_at} "
            f"with -resume {run.checkpoint}, and a smaller -lr or -clip"
        ) from None
    except MemcoreError as error:
        if not str(error).startswith("nr_cells:"):  # too many for the memory there is
            raise
        raise SystemExit(str(error).replace("nr_cells:", "-mem_slot:", 1)) from None
    except (MemoryError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rpartition("Allocator: ")[2]
        if not isinstance(error, MemoryError) and not re.search("memory|overflow", reason, re.I):
            raise
        raise SystemExit(
            f"stopped at iteration {run.iteration}: {reason}; fewer examples (-batch_size, "
            "-batch_budget) or shorter sequences need less"
        ) from None
    if interrupted:
        raise SystemExit(
            f"stopped at iteration {run.iteration}; go on with -resume {run.checkpoint}"
        )
    print(f"checkpoint: {run.checkpoint}")
    if not processes.first:
        return
    try:
        report(run)
    except KeyboardInterrupt:
        raise SystemExit("stopped before the report was done") from None
    except OSError as error:
        raise SystemExit(f"no report: {error}") from None


def _checkpoint(task: Task, options: argparse.Namespace) -> tuple[Path | None, dict[str, Any]]:
    """Which checkpoint ``-resume`` means and what it holds, if there is any."""
    path = options.resume
    if path == AUTO:
        path = checkpoint_path(options.checkpoint_dir, task.name, options.memory_type)
        if not path.exists() and not before(path).exists():
            return None, {}
    return (None, {}) if path is None else load_checkpoint(path, task.name)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"-checkpoint_dir {folder}: {error.strerror}") from None


def _build(
    task: Task, options: argparse.Namespace, device: torch.device, processes: Processes
) -> Run:
    try:
        return Run(task, options, device, processes)
    except (MemoryError, MemcoreError, OSError, OverflowError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise SystemExit(f"the options describe no model that can be made: {reason}") from None


def _begin(run: Run, source: Path | None, saved: dict[str, Any]) -> None:
    """Go on from a checkpoint, if there is one, and say what becomes of those that are there."""
    if source is not None:
        run.restore(saved, source)
        print(f"going on from iteration {run.iteration} of {source}")
        if run.solved or run.iteration >= run.options.iterations:
            print("nothing left to train: " + ("solved" if run.solved else "raise -iterations"))
    others = run.others()
    if others and not run.options.overwrite:
        raise SystemExit(
            f"{others[0]} is of another run: go on with it by -resume {others[0]}, replace it by "
            "-overwrite, or give another -checkpoint_dir"
        )
    if others:
        print(f"{others[0]} is of another run and is replaced")


def _sinks(run: Run, source: Path | None, saved: dict[str, Any]) -> list[Sink]:
    path, names = run.checkpoint.with_suffix(".csv"), run.task.metrics
    earlier = None
    if source is not None:
        earlier = source.parent / f"{saved['task']}_{saved['options']['memory_type']}.csv"
    # No checkpoint may be left that does not go with the metrics, whenever the process is killed.
    sinks: list[Sink] = [MetricsFile(path, names, run.iteration, earlier, run.clear)]
    if run.options.tensorboard:
        folder = path.parent / "tensorboard" / path.stem
        board = TensorBoard.open(folder, names, run.iteration)
        sinks += [] if board is None else [board]
    return sinks


def _save(run: Run, sinks: Sequence[Sink]) -> None:
    # A row may be ahead of the checkpoint, where it is cut off, but never behind.
    for sink in sinks:
        sink.flush()
    run.save()


def _train(run: Run, sinks: Sequence[Sink]) -> bool:
    """Train until solved, done or interrupted, and tell whether it was the last."""
    try:
        from tqdm import tqdm
    except ImportError:
        raise SystemExit(f"the tasks need tqdm: {how_to_install('viz')}") from None

    options, processes = run.options, run.processes
    names = ("loss", *run.task.metrics)
    since, begun = time.perf_counter(), run.iteration
    progress = tqdm(
        total=options.iterations,
        initial=run.iteration,
        desc=run.task.name,
        unit="it",
        dynamic_ncols=True,
        disable=None if processes.first else True,
    )
    port, say = options.visdom_port, progress.write
    shown = options.visdom and processes.first
    heat_maps = HeatMapServer.connect(port, say) if shown else None
    board = next((sink for sink in sinks if isinstance(sink, TensorBoard)), None)
    watch = Watch(heat_maps, board, say)
    with progress, deferred_interrupt() as interrupted:
        processes.heed(interrupted)
        while run.iteration < options.iterations and not run.solved and not processes.interrupted():
            row = run.train_once()
            for sink in sinks:
                sink.add(row)
            progress.set_postfix_str(describe(names, (row.loss, *row.scores)), refresh=False)
            progress.update()
            if run.iteration % options.summarize_freq == 0:
                spent = (time.perf_counter() - since) / (run.iteration - begun)
                means = run.averages.take()
                progress.write(
                    f"iteration {run.iteration}: {describe(names, means)}, "
                    f"length up to {row.level}, {spent * 1e3:.1f} ms an iteration"
                )
                watch.show(run, means[0])
                if run.check_solved():
                    progress.write(
                        f"solved at iteration {run.iteration}: three tests of "
                        f"{options.test_size} examples passed at length {run.curriculum.goal()}"
                    )
                since, begun = time.perf_counter(), run.iteration
            if run.iteration % options.check_freq == 0:
                _save(run, sinks)
    return processes.interrupted()
