"""What training a task takes, whichever the task: model, optimizer, loop, resuming."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from checkpoints import load_checkpoint, save_checkpoint
from interruption import deferred_interrupt
from options import build_parser, choose_device
from plots import HeatMapServer, save_memory_picture
from torch_adapters import DAM, DNC, SAM, SDNC
from torch_adapters.recurrence import MemoryRNN

__all__ = ["Batch", "Task", "build_model", "build_optimizer", "main"]

# Lengths of the test after training, as multiples of the longest trained.
GENERALIZATION = (1, 1.5, 2, 3, 4)


class Batch(NamedTuple):
    """Some examples of one length."""

    input: Tensor  # [B, T, X]
    target: Tensor  # of the task's own shape, batch in front


class Task(Protocol):
    """A generator, a loss and a metric."""

    name: str
    metric: str  # what `error` is called, in words

    def sizes(self, options: argparse.Namespace) -> tuple[int, int]:
        """Width of the input and of the output."""
        ...

    def batch(
        self, options: argparse.Namespace, length: int, batch_size: int, generator: torch.Generator
    ) -> Batch:
        """Examples of that length, on the CPU."""
        ...

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """A scalar to minimize."""
        ...

    def error(self, output: Tensor, target: Tensor) -> float:
        """The metric, 0 when all is right."""
        ...

    def show(self, output: Tensor) -> Tensor:
        """What to draw of the output ``[B, T, Y]``, in [0, 1]."""
        ...


def build_model(options: argparse.Namespace, sizes: tuple[int, int]) -> MemoryRNN:
    """The module that the options describe, on the CPU."""
    kinds = {"dnc": DNC, "sam": SAM, "sdnc": SDNC, "dam": DAM}
    reads = {"sam": ("sparse_reads",), "sdnc": ("sparse_reads", "temporal_reads")}
    sparse: dict[str, Any] = {}
    for name in reads.get(options.memory_type, ()):
        asked = getattr(options, name)
        sparse |= {name: min(asked, options.mem_slot), "index": options.index}
        if sparse[name] < asked:
            print(f"-{name} {asked} is more than there are slots: reduced to {options.mem_slot}")
    return kinds[options.memory_type](
        sizes[0],
        options.nhid,
        output_size=sizes[1],
        rnn_type=options.rnn_type,
        num_layers=options.nlayer,
        num_hidden_layers=options.nhlayer,
        dropout=options.dropout,
        nr_cells=options.mem_slot,
        cell_size=options.mem_size,
        read_heads=options.read_heads,
        **sparse,
    )


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    """The optimizer of ``-optim``, with the settings that its users know."""
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.98), eps=1e-9)
    if name == "adamax":
        return torch.optim.Adamax(parameters, lr=lr, betas=(0.9, 0.98), eps=1e-9)
    if name == "rmsprop":
        return torch.optim.RMSprop(parameters, lr=lr, momentum=0.9, eps=1e-10)
    plain = {
        "sgd": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "adadelta": torch.optim.Adadelta,
    }
    return plain[name](parameters, lr=lr)


class Run:
    """One training run: everything that a checkpoint must hold."""

    def __init__(self, task: Task, options: argparse.Namespace, device: torch.device) -> None:
        torch.manual_seed(options.seed)
        self.task = task
        self.options = options
        self.device = device
        self.model = build_model(options, task.sizes(options)).to(device)
        self.optimizer = build_optimizer(options.optim, self.model.parameters(), options.lr)
        self.data = torch.Generator().manual_seed(options.seed)
        self.iteration = 0
        self.solved = False
        self.checkpoint = options.checkpoint_dir / f"{task.name}_{options.memory_type}.pt"

    def max_length(self, iteration: int) -> int:
        """The longest sequence at that iteration, by the linear curriculum."""
        options = self.options
        grown = (iteration - 1) // options.curriculum_freq if iteration else 0
        return options.sequence_max_length + options.curriculum_increment * grown

    def longest(self) -> int:
        """The longest sequence that this run will ever ask for."""
        return self.max_length(self.options.iterations)

    def train_once(self) -> tuple[float, float]:
        """One iteration: ``(loss, error)``."""
        self.iteration += 1
        high = self.max_length(self.iteration)
        length = int(torch.randint(1, high + 1, (), generator=self.data))
        batch = self._batch(length, self.data)
        self.model.train()
        self.optimizer.zero_grad()
        output = self.model(batch.input)[0]
        loss = self.task.loss(output, batch.target)
        loss.backward()
        if self.options.clip > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        return loss.item(), self.task.error(output.detach(), batch.target)

    def test(self, length: int, generator: torch.Generator) -> float:
        """Error on a fresh batch of that length."""
        batch = self._batch(length, generator)
        self.model.eval()
        with torch.no_grad():
            output = self.model(batch.input)[0]
        return self.task.error(output, batch.target)

    def check_solved(self) -> bool:
        """Whether three fresh batches at the longest length of the run are without error."""
        generator = torch.Generator().manual_seed(self.options.seed + self.iteration + 1)
        self.solved = all(self.test(self.longest(), generator) == 0 for _ in range(3))
        return self.solved

    def example(self, length: int) -> tuple[Batch, Tensor, dict[str, Any]]:
        """One example of that length, the output for it and the debug dictionary."""
        batch = self._batch(length, torch.Generator().manual_seed(self.options.seed + 1), 1)
        self.model.eval()
        self.model.debug = True
        try:
            with torch.no_grad():
                output, _, trace = self.model(batch.input)
        finally:
            self.model.debug = False
        return batch, self.task.show(output).cpu(), trace

    def _batch(
        self, length: int, generator: torch.Generator, batch_size: int | None = None
    ) -> Batch:
        size = self.options.batch_size if batch_size is None else batch_size
        batch = self.task.batch(self.options, length, size, generator)
        return Batch(*(part.to(self.device) for part in batch))

    def save(self) -> None:
        """Write the checkpoint."""
        plain = {
            name: value
            for name, value in vars(self.options).items()
            if name not in ("resume", "visdom", "cuda", "checkpoint_dir")
        }
        content = {
            "task": self.task.name,
            "options": plain,
            "iteration": self.iteration,
            "solved": self.solved,
            "longest": self.longest(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "data": self.data.get_state(),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            content["random_cuda"] = torch.cuda.get_rng_state(self.device)
        save_checkpoint(self.checkpoint, content)

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint as if never interrupted."""
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError:
            raise SystemExit(
                f"-resume {self.options.resume}: the options given build another model than the "
                "checkpoint's; leave them out to take the checkpoint's"
            ) from None
        if saved["options"]["optim"] == self.options.optim:
            self.optimizer.load_state_dict(saved["optimizer"])
            for group in self.optimizer.param_groups:
                group["lr"] = self.options.lr
        else:
            print(f"the optimizer, {self.options.optim}, starts anew: it is another than before")
        self.data.set_state(saved["data"])
        torch.set_rng_state(saved["random"])
        if self.device.type == "cuda" and "random_cuda" in saved:
            torch.cuda.set_rng_state(saved["random_cuda"], self.device)
        self.iteration = saved["iteration"]
        self.solved = saved["solved"] and saved["longest"] == self.longest()


def main(task: Task, description: str, argv: Sequence[str] | None = None, **defaults: Any) -> None:
    """Train a task from the command line, test it on longer sequences, draw what it learned."""
    parser = build_parser(description, **defaults)
    options = parser.parse_args(argv)
    saved = None
    if options.resume is not None:
        saved = load_checkpoint(options.resume, task.name)
        parser.set_defaults(**saved["options"], checkpoint_dir=options.resume.parent)
        options = parser.parse_args(argv)
    device = choose_device(options.cuda)
    try:
        options.checkpoint_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"-checkpoint_dir {options.checkpoint_dir}: {error.strerror}") from None
    run = Run(task, options, device)
    if saved is not None:
        run.restore(saved)
        print(f"going on from iteration {run.iteration} of {options.resume}")
        if run.solved or run.iteration >= options.iterations:
            print("nothing left to train: " + ("solved" if run.solved else "raise -iterations"))
    elif run.checkpoint.exists():
        print(f"{run.checkpoint} is from an earlier run and will be replaced (-resume goes on)")
    interrupted = _train(run)
    run.save()
    if interrupted:
        raise SystemExit(
            f"stopped at iteration {run.iteration}; go on with -resume {run.checkpoint}"
        )
    print(f"checkpoint: {run.checkpoint}")
    try:
        _report(run)
    except KeyboardInterrupt:
        raise SystemExit("stopped before the report was done") from None


def _train(run: Run) -> bool:
    """Train until solved, done or interrupted, and tell whether it was the last."""
    try:
        from tqdm import tqdm
    except ImportError:
        raise SystemExit("the tasks need tqdm: pip install 'memcore[viz]'") from None

    options, task = run.options, run.task
    heat_maps = HeatMapServer.connect() if options.visdom else None
    since, losses, errors = time.perf_counter(), [], []
    progress = tqdm(
        total=options.iterations,
        initial=run.iteration,
        desc=task.name,
        unit="it",
        dynamic_ncols=True,
        disable=None,
    )
    with progress, deferred_interrupt() as interrupted:
        while run.iteration < options.iterations and not run.solved and not interrupted.is_set():
            loss, error = run.train_once()
            losses.append(loss)
            errors.append(error)
            progress.set_postfix_str(f"loss {loss:.4f}, {task.metric} {error:.4f}", refresh=False)
            progress.update()
            if run.iteration % options.summarize_freq == 0:
                now = time.perf_counter()
                progress.write(
                    f"iteration {run.iteration}: loss {_mean(losses):.4f}, "
                    f"{task.metric} {_mean(errors):.4f}, "
                    f"length up to {run.max_length(run.iteration)}, "
                    f"{(now - since) / len(losses) * 1e3:.1f} ms an iteration"
                )
                if heat_maps is not None:
                    _, _, trace = run.example(run.max_length(run.iteration))
                    if not heat_maps.send(trace, run.iteration, _mean(losses)):
                        heat_maps = None
                if run.check_solved():
                    progress.write(f"solved at iteration {run.iteration}")
                since, losses, errors = time.perf_counter(), [], []
            if run.iteration % options.check_freq == 0:
                run.save()
    return interrupted.is_set()


def _report(run: Run) -> None:
    generator = torch.Generator().manual_seed(run.options.seed + 2)
    longest = run.max_length(run.iteration)
    lengths = sorted({round(longest * factor) for factor in GENERALIZATION})
    print(f"{run.task.metric} by length (trained up to {longest}):")
    for length in lengths:
        print(f"  length {length:4d}: {run.test(length, generator):.4f}")
    batch, output, trace = run.example(longest)
    picture = run.checkpoint.with_suffix(".png")
    save_memory_picture(picture, run.task.name, batch.input[0].cpu(), output[0], trace)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
