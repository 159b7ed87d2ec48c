"""What the memories must learn, how it is trained, and what counts as learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from adding_task import AddingTask
from argmax_task import ArgmaxTask
from associative_recall_task import AssociativeRecallTask
from copy_task import CopyTask
from priority_sort_task import PrioritySortTask
from repeat_copy_task import RepeatCopyTask
from task import Task

__all__ = ["LINES", "Line", "Outcome"]


class Outcome(NamedTuple):
    """What a run came to."""

    iterations: int
    solved: bool
    level: int
    scores: dict[int, tuple[float, ...]]  # by length
    minutes: float = 0.0  # of training, on one thread
    parameters: int = 0  # of the model


class Line(NamedTuple):
    """Something to learn, and how it is trained."""

    title: str
    target: str
    task: type[Task]
    options: str
    lengths: tuple[int, ...]  # tested afterwards
    reached: Callable[[Outcome], bool]


COPY = "-optim rmsprop -batch_size 32 -nhlayer 1"
TO_8 = f"{COPY} -lr 0.0005 -sequence_max_length 8 -test_size 1000"


def _never_wrong(outcome: Outcome) -> bool:
    return outcome.solved


LINES = {
    "copy_dnc": Line(
        "copy, DNC",
        "no wrong bit at length 8 within 5,000 iterations",
        CopyTask,
        f"{TO_8} -iterations 5000 -read_heads 1 -mem_size 16",
        (8,),
        _never_wrong,
    ),
    "copy_sam": Line(
        "copy, SAM",
        "no wrong bit at length 8 within 10,000 iterations",
        CopyTask,
        f"{TO_8} -iterations 10000 -memory_type sam -mem_slot 64 -sparse_reads 4",
        (8,),
        _never_wrong,
    ),
    "copy_sdnc": Line(
        "copy, SDNC",
        "no wrong bit at length 8 within 10,000 iterations",
        CopyTask,
        f"{TO_8} -iterations 10000 -memory_type sdnc -mem_slot 64 -sparse_reads 4",
        (8,),
        _never_wrong,
    ),
    "copy_generalization": Line(
        "copy, DNC, trained up to length 8",
        "at most 1 % wrong bits at length 16",
        CopyTask,
        f"{COPY} -lr 0.0005 -scheduler cosine -iterations 8000 -train_on -read_heads 1 "
        "-mem_size 16 -mem_slot 64 -sequence_max_length 4 -curriculum exponential "
        "-curriculum_threshold 0.02 -curriculum_limit 8",
        (8, 16, 24, 32),
        lambda outcome: outcome.level == 8 and outcome.scores[16][0] <= 0.01,
    ),
    "adding": Line(
        "adding, SAM, trained at about 100 numbers",
        "relative error at most 5 % at 100 and at 1,000",
        AddingTask,
        "-lr 0.0001 -memory_type sam -nhlayer 1 -nhid 100 -mem_slot 1000 -mem_size 32 "
        "-read_heads 1 -sparse_reads 4 -batch_size 20 -optim rmsprop -input_size 3 "
        "-sequence_max_length 100 -iterations 800",
        (100, 1000),
        lambda outcome: max(score[0] for score in outcome.scores.values()) <= 0.05,
    ),
    "argmax": Line(
        "argmax, DNC",
        "at least 95 % of the positions exactly right at length 15",
        ArgmaxTask,
        "-lr 0.002 -scheduler cosine -optim adam -batch_size 64 -nhlayer 1 -read_heads 2 "
        "-mem_slot 16 -mem_size 10 -input_size 10 -sequence_max_length 15 -iterations 8000",
        (15, 30),
        lambda outcome: outcome.scores[15][1] >= 0.95,
    ),
    "associative_recall": Line(
        "associative recall, SAM",
        "the curriculum passes 32 pairs",
        AssociativeRecallTask,
        "-curriculum_limit 128 -iterations 8000",
        (32, 64, 128),
        lambda outcome: outcome.level > 32,
    ),
    "repeat_copy": Line(
        "repeat copy, DNC",
        "no wrong bit at length 8, 1 or 2 repeats",
        RepeatCopyTask,
        "-curriculum_limit 8 -iterations 8000",
        (8, 16),
        _never_wrong,
    ),
    "priority_sort": Line(
        "priority sort, SAM",
        "the curriculum passes 4 vectors",
        PrioritySortTask,
        "-iterations 8000",
        (4, 8),
        lambda outcome: outcome.level > 4,
    ),
}
