"""The processes that train one model together, as `torchrun` starts them; or one alone.

Each process has a copy of the model and a share of each batch. Whatever decides how training goes
on is the same in all: the mean of what they measured, or what the first one found.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Processes"]

Given = TypeVar("Given")


class Processes:
    """What a process must know of the others; without others, all of it does nothing."""

    def __init__(
        self, rank: int = 0, count: int = 1, rank_here: int = 0, count_here: int = 1
    ) -> None:
        """What `torchrun` calls rank and world size, of all machines and of this one."""
        self.rank, self.count = rank, count
        self.rank_here, self.count_here = rank_here, count_here
        self._wrapped: list[Any] = []  # DistributedDataParallel
        self._asked = threading.Event()
        self._all_asked = False

    @classmethod
    def started(cls) -> Processes:
        """As the environment says that `torchrun` started them."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if any(name not in os.environ for name in names):
            return cls()
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    @contextmanager
    def one_voice(self) -> Iterator[None]:
        """Within it the first one prints, and says why the program ends; the others end alike."""
        if self.first:
            yield
            return
        with (
            open(os.devnull, "w", encoding="utf-8") as nothing,
            redirect_stdout(nothing),
            redirect_stderr(nothing),
        ):
            try:
                yield
            except SystemExit as end:
                raise SystemExit(1 if isinstance(end.code, str) else end.code) from None

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Within it they can talk; where one is lost, the program ends with one line."""
        if self.count == 1:
            yield
            return
        import torch.distributed as distributed

        if not distributed.is_available():
            raise SystemExit("torchrun: this torch was built without torch.distributed")
        try:
            self._connect()
            yield
        except RuntimeError as error:
            if "gloo" not in str(error).lower():
                raise
            raise SystemExit("another process ended: go on with -resume auto") from None
        finally:
            if distributed.is_initialized():
                self._let_go()
                distributed.destroy_process_group()

    def _let_go(self) -> None:
        """Have no model hold the group any more, not even one that an exception keeps.

        Where torch's reducer is the last to hold it, the main thread waits for gloo's without
        giving up the interpreter, for which that one may wait, to let go of a tensor: for ever.
        """
        for wrapped in self._wrapped:
            wrapped.reducer = wrapped.logger = wrapped.process_group = None
        self._wrapped.clear()

    def _connect(self) -> None:
        import torch.distributed as distributed

        # Its functions have the group of the moment as a default: where DistributedDataParallel is
        # the first to import it, gloo's threads are still there when the process ends, and abort
        # one in several.
        import torch.distributed.nn  # noqa: F401
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, _, _ = next(rendezvous("env://", self.rank, self.count))
        # torchrun's store outlives the processes that it starts again: under the same names these
        # would find where those listened that are no more, and wait for them.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"attempt {attempt}", store)
        distributed.init_process_group("gloo", store=store, rank=self.rank, world_size=self.count)

    def share(self, examples: int) -> int:
        """How many of a batch's examples are this process's."""
        return max(1, examples // self.count)

    def own_stream(self, shared: torch.Generator) -> torch.Generator:
        """What this process draws its share of a batch from; alone, what it was given.

        It begins with a number that is drawn from the generator that all share, of which the states
        stay the same. torch's own generator, of dropout, begins anew likewise.
        """
        if self.count == 1:
            return shared
        seed = int(torch.randint(2**62, (), generator=shared)) + 2 * self.rank
        torch.manual_seed(seed + 1)
        return torch.Generator().manual_seed(seed)

    def output_of(self, model: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
        """The function that gives a model's output; all make it at the same time.

        Its gradients are means over the processes.
        """
        if self.count == 1:
            return lambda input: model(input)[0]
        import torch.distributed as distributed
        from torch.nn.parallel import DistributedDataParallel

        group = None
        if device.type == "cuda":
            torch.cuda.set_device(device)
            group = distributed.new_group(backend="nccl")
        # Where torch looks for parameters that are not in use, it does not sort the gradients anew
        # after the first iteration: the order of its sums, from three processes on, is then that
        # of a run that was never interrupted.
        wrapped = DistributedDataParallel(
            _Output(model).to(device), process_group=group, find_unused_parameters=True
        )
        self._wrapped.append(wrapped)
        return wrapped

    def mean(self, values: Sequence[float]) -> tuple[float, ...]:
        """The means over the processes; and they learn whether one was interrupted."""
        if self.count == 1:
            return tuple(values)
        import torch.distributed as distributed

        sums = torch.tensor([*values, float(self._asked.is_set())], dtype=torch.float64)
        distributed.all_reduce(sums)
        *means, asked = (sums / self.count).tolist()
        self._all_asked = asked > 0
        return tuple(means)

    def heed(self, asked: threading.Event) -> None:
        """Take the event that is set where this process is asked to stop."""
        self._asked = asked

    def interrupted(self) -> bool:
        """Whether one of them was asked to stop, as of the last `mean`; alone, as of now."""
        return self._asked.is_set() if self.count == 1 else self._all_asked

    def in_all(self, function: Callable[[], Given]) -> Given:
        """What a function gives here; an exception in one process is one in all."""
        if self.count == 1:
            return function()
        import torch.distributed as distributed

        given: Any = None
        error: Exception | SystemExit | None = None
        try:
            given = function()
        except (Exception, SystemExit) as caught:
            error = caught
        errors: list[Any] = [None] * self.count
        distributed.all_gather_object(errors, error)
        for found in (error, *errors):
            if found is not None:
                raise found
        return given

    def in_first(self, function: Callable[[], Given]) -> Given:
        """What a function gives in the first process, which alone calls it."""
        given: Any = self.in_all(lambda: function() if self.first else None)
        if self.count == 1:
            return given
        import torch.distributed as distributed

        box = [given]
        distributed.broadcast_object_list(box)
        return box[0]


class _Output(nn.Module):
    """A model of which the output alone is given, not the state, which is not to be looked into."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.spare = nn.Parameter(torch.zeros(()))  # torch warns where all are in use

    def forward(self, input: Tensor) -> Tensor:
        return self.model(input)[0]
