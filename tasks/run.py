"""One training run: its state, one iteration, and going on where it was."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from checkpoints import Before, before, checkpoint_path, save_checkpoint
from curriculum import build_curriculum
from memcore import MemcoreError
from metrics import Averages, Row
from models import build_model, build_optimizer, build_scheduler
from processes import Processes
from saved_parts import out_of_range, unlike, wrong_optimizer
from task import Batch, Task
from torch_adapters.recurrence import MemoryRNN

__all__ = ["NotFiniteError", "Run", "batch_of"]

# Options of the machine and the moment rather than of the run.
NOT_KEPT = (
    "resume", "overwrite", "checkpoint_dir", "cuda", "tensorboard", "visdom", "visdom_port",
)  # fmt: skip


def batch_of(length: int, most: int, budget: int) -> int:
    """How many examples of that length to run at a time: so many, or as -batch_budget allows."""
    return max(1, min(most, budget // length)) if budget else most


class NotFiniteError(Exception):
    """Something of which training cannot go on: what it is."""


class Run:
    """Everything that a checkpoint must hold."""

    def __init__(
        self,
        task: Task,
        options: argparse.Namespace,
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.task = task
        self.options = options
        self.device = device
        self.processes = Processes() if processes is None else processes
        self.model = build_model(options, task.sizes(options)).to(device)
        self.optimizer = build_optimizer(options.optim, self.model.parameters(), options.lr)
        self.scheduler = build_scheduler(options.scheduler, self.optimizer, options.iterations)
        self.curriculum = build_curriculum(options, task.longest(options))
        self.averages = Averages(len(task.metrics))
        self.data = torch.Generator().manual_seed(options.seed)
        self.iteration = 0
        self.solved = False
        self.saved_at: int | None = None  # the iteration of the checkpoint that is there
        self.checkpoint = checkpoint_path(options.checkpoint_dir, task.name, options.memory_type)
        self.then = Before.DROP  # with what is there: of another run, until shown otherwise

    @property
    def memory(self) -> MemoryRNN:
        """The model, if it has a memory; else a MemcoreError."""
        if isinstance(self.model, MemoryRNN):
            return self.model
        raise MemcoreError(f"-memory_type {self.options.memory_type} has none")

    def level(self) -> int:
        """The longest sequence that may be drawn now."""
        return self.curriculum.level(self.iteration)

    def train_once(self) -> Row:
        """One iteration, in all processes at the same time.

        Raises:
            NotFiniteError: the loss or its gradient is not finite; the model stays as it was.
        """
        self.iteration += 1
        level, rate = self.level(), self.optimizer.param_groups[0]["lr"]
        length = self.task.length(level, self.data)
        batch = self._batch(length, self.data)
        self.model.train()
        self.optimizer.zero_grad()
        output = self._output(batch.input)
        own_loss = self.task.loss(output, batch.target)
        own_scores = self.task.score(output.detach(), batch.target)
        loss, *scores = self.processes.mean((own_loss.item(), *own_scores))
        if not math.isfinite(loss):
            raise NotFiniteError(f"the loss is {loss}")
        own_loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip or math.inf)
        if not math.isfinite(norm):
            raise NotFiniteError(f"the norm of the gradient is {norm:g}")
        self.optimizer.step()
        self.scheduler.step()
        row = Row(self.iteration, length, loss, tuple(scores), rate, level)
        self.curriculum.observe(row.loss)
        self.averages.add(row)
        return row

    def test(self, length: int, generator: torch.Generator) -> tuple[float, ...]:
        """The metrics on as many fresh examples of that length as ``-test_size`` says."""
        batches = self.task.tests(self.options, length, self.options.test_size, generator)
        size = batch_of(length, self.options.test_size, self.options.batch_budget)
        return self.score(batches, size)

    def score(self, batches: Sequence[Batch], size: int | None = None) -> tuple[float, ...]:
        """The metrics on batches, the mean over all examples, of which ``size`` at a time."""
        sums, examples = [0.0] * len(self.task.metrics), 0
        for batch in batches:
            for start in range(0, len(batch.input), size or len(batch.input)):
                part = Batch(*(all[start : start + (size or len(all))] for all in batch))
                score, here = self.task.score(*self.answer(part)), len(part.input)
                sums = [sum + here * value for sum, value in zip(sums, score, strict=True)]
                examples += here
        return tuple(sum / examples for sum in sums)

    def answer(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The output for a batch as in a test, and the target that it is held against."""
        self.model.eval()
        with torch.no_grad():
            own = self.task.answered(self.model, self._moved(batch))
            return self.model(own.input)[0], own.target

    def check_solved(self) -> bool:
        """Whether three tests at the longest length of the run find the task solved."""
        length = None if self.options.train_on else self.curriculum.goal()
        generator = torch.Generator().manual_seed(self.options.seed + self.iteration + 1)

        def tested() -> bool:
            return length is not None and all(
                self.task.solved(self.test(length, generator)) for _ in range(3)
            )

        # The first process alone: its examples are then those of a run of one process.
        self.solved = self.processes.in_first(tested)
        return self.solved

    def example(self, length: int) -> tuple[Batch, Tensor, dict[str, Any]]:
        """One example of that length, the output for it and the debug dictionary.

        It is shorter where else the dictionary would be too large; a MemcoreError says that this
        is so for any length.
        """
        model = self.memory
        batch = self._batch(length, torch.Generator().manual_seed(self.options.seed + 1), 1)
        model.eval()
        with torch.no_grad():
            batch = self.task.answered(model, batch)
        backend, model.debug = model.backend, True
        if backend == "numba":
            model.backend = "auto"  # which shows every step
        try:
            with torch.no_grad():
                output, _, trace = model(batch.input)
        except MemcoreError:
            if length == 1:
                raise
            return self.example(length // 2)
        finally:
            model.debug, model.backend = False, backend
        return batch, self.task.show(output).cpu(), trace

    def _batch(
        self, length: int, generator: torch.Generator, batch_size: int | None = None
    ) -> Batch:
        """That many examples, or this process's share of what all train on."""
        shape = self.task.shape(self.options, length, generator)
        if batch_size is None:
            whole = batch_of(length, self.options.batch_size, self.options.batch_budget)
            batch_size = self.processes.share(whole)
            generator = self.processes.own_stream(generator)
        return self._moved(self.task.batch(self.options, shape, batch_size, generator))

    def _moved(self, batch: Batch) -> Batch:
        return Batch(*(part.to(self.device) for part in batch))

    @cached_property
    def _output(self) -> Callable[[Tensor], Tensor]:
        return self.processes.output_of(self.model, self.device)

    def others(self) -> list[Path]:
        """Checkpoints of another run that this one would replace."""
        if self.then is not Before.DROP:
            return []
        paths = (self.checkpoint, before(self.checkpoint))
        return self.processes.in_first(lambda: [path for path in paths if path.exists()])

    def save(self) -> None:
        """Write the checkpoint, in the first process.

        Raises:
            NotFiniteError: a parameter is not finite; the checkpoint that is there stays.
        """
        self.processes.in_first(self._write)
        self.then = Before.ROTATE
        self.saved_at = self.iteration

    def _write(self) -> None:
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise NotFiniteError(f"{name} is no longer finite")
        content = {
            "task": self.task.name,
            "options": {k: v for k, v in vars(self.options).items() if k not in NOT_KEPT},
            "iteration": self.iteration,
            "solved": self.solved,
            "goal": self.curriculum.goal(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "curriculum": self.curriculum.state_dict(),
            "averages": self.averages.state_dict(),
            "data": self.data.get_state(),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            content["random_cuda"] = torch.cuda.get_rng_state(self.device)
        save_checkpoint(self.checkpoint, content, self.then)

    def clear(self) -> None:
        """Remove the checkpoints that this run does not go on from."""
        if self.then is not Before.ROTATE:
            self.checkpoint.unlink(missing_ok=True)
        if self.then is Before.DROP:
            before(self.checkpoint).unlink(missing_ok=True)

    def restore(self, saved: dict[str, Any], source: Path) -> None:
        """Go on from a checkpoint, read from ``source``, as if never interrupted."""
        try:
            self._restore(saved, source)
        except (
            ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
        ) as error:  # fmt: skip
            raise SystemExit(
                f"-resume {source}: not a whole checkpoint ({type(error).__name__}: {error})"
            ) from None

    def _check(self, saved: dict[str, Any], source: Path) -> None:
        """End the program where a part is not of the kind that this run would have saved."""
        averages, curriculum = saved["averages"], saved["curriculum"]
        wrong = unlike("averages", averages, self.averages.state_dict())
        if wrong is None and len(averages["sums"]) != 1 + len(self.task.metrics):
            wrong = "averages['sums'] has another length"
        wrong = wrong or out_of_range("averages['count']", averages["count"], 0)
        if saved["scheduler"].get("last_epoch") != saved["iteration"]:
            wrong = wrong or "scheduler is at another iteration"
        if saved["options"]["optim"] == self.options.optim:
            wrong = wrong or wrong_optimizer(
                saved["optimizer"], self.options.optim, list(self.model.parameters())
            )
        if curriculum["kind"] == self.curriculum.kind:
            own = self.curriculum.state_dict()
            if "losses" in own:
                own["losses"] = [0.0]
            wrong = wrong or unlike("curriculum", curriculum, own)
            if "level" in own:
                wrong = wrong or out_of_range("curriculum['level']", curriculum["level"], 1)
        if wrong is not None:
            raise SystemExit(f"-resume {source}: not a whole checkpoint, its {wrong}")

    def _restore(self, saved: dict[str, Any], source: Path) -> None:
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError:
            raise SystemExit(
                f"-resume {source}: the options given build another model than the "
                "checkpoint's; leave them out to take the checkpoint's"
            ) from None
        self._check(saved, source)
        if saved["options"]["optim"] == self.options.optim:
            # Its settings are the program's; the rate is restored below.
            settings = self.optimizer.state_dict()["param_groups"]
            states = saved["optimizer"]["state"]
            self.optimizer.load_state_dict({"state": states, "param_groups": settings})
        else:
            print(f"the optimizer, {self.options.optim}, starts anew: it is another than before")
        if saved["curriculum"]["kind"] == self.curriculum.kind:
            self.curriculum.load_state_dict(saved["curriculum"])
        self.averages.load_state_dict(saved["averages"])
        self.data.set_state(saved["data"])
        torch.set_rng_state(saved["random"])
        if self.device.type == "cuda" and "random_cuda" in saved:
            torch.cuda.set_rng_state(saved["random_cuda"], self.device)
        self.iteration = saved["iteration"]
        self._restore_rate()
        same_goal = saved["goal"] == self.curriculum.goal()
        self.solved = saved["solved"] and same_goal and not self.options.train_on
        sources = {self.checkpoint: Before.ROTATE, before(self.checkpoint): Before.KEEP}
        self.then = {path.resolve(): then for path, then in sources.items()}.get(
            source.resolve(), Before.DROP
        )
        if self.then is Before.ROTATE:
            self.saved_at = self.iteration

    def _restore_rate(self) -> None:
        """The rate that -lr and -scheduler, as they are now, give at this iteration."""
        rate = self.options.lr * self.scheduler.lr_lambdas[0](self.iteration)
        own = {"last_epoch": self.iteration, "_step_count": self.iteration + 1, "_last_lr": [rate]}
        self.scheduler.load_state_dict(self.scheduler.state_dict() | own)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
