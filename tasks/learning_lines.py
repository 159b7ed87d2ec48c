"""What the memories must learn, how it is trained, and what counts as learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from adding_task import AddingTask
from argmax_task import ArgmaxTask
from associative_recall_task import AssociativeRecallTask
from copy_task import CopyTask
from family_tree_task import FamilyTreeTask
from mqar_task import MQARTask
from priority_sort_task import PrioritySortTask
from repeat_copy_task import RepeatCopyTask
from shortest_path_task import ShortestPathTask
from task import Task
from traversal_task import TraversalTask

__all__ = ["CONTRAST", "LINES", "Line", "Outcome"]


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
    examples: int = 1000  # of each length
    shown: int = 0  # which of the task's metrics the table shows: a share


COPY = "-optim rmsprop -batch_size 32 -nhlayer 1"
TO_8 = f"{COPY} -lr 0.0005 -sequence_max_length 8 -test_size 1000"


MQAR = "-scheduler cosine -iterations 6000 -train_on"
RECALL = "-curriculum_limit 4096 -scheduler cosine -iterations 6000 -train_on"
GRAPHS = "-max_nodes 20 -mem_slot 64 -scheduler cosine -train_on"


def _never_wrong(outcome: Outcome) -> bool:
    return outcome.solved


def _recalls_4096(outcome: Outcome) -> bool:
    return outcome.level == 4096 and outcome.scores.get(4096, (1.0,))[0] <= 0.01


def _mqar(more: str) -> dict[str, Line]:
    """The models beside each other, of about as many parameters."""
    name = "mqar_overwriting" if more else "mqar"
    said = "MQAR with overwriting" if more else "MQAR"
    models = {
        "sam": ("SAM", ""),
        "dnc": ("DNC", " -iterations 3000 -memory_type dnc -mem_slot 64"),
        "lstm": ("LSTM alone", " -memory_type none -rnn_type lstm -nhid 64"),
        "attention": (
            "two layers of attention",
            " -memory_type attention -nlayer 2 -nhid 64 -lr 0.001",
        ),
    }
    return {
        f"{name}_{model}": Line(
            f"{said}, {title}",
            "at least 99 % right at 64 steps",
            MQARTask,
            f"{MQAR}{options}{more}",
            (16, 64, 256),
            lambda outcome: outcome.scores[64][0] <= 0.01,
        )
        for model, (title, options) in models.items()
    }


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
        f"{TO_8} -iterations 10000 -memory_type sam -mem_slot 64 -mem_size 64 -sparse_reads 4",
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
        "at most 1 % wrong bits at length 32",
        CopyTask,
        f"{COPY} -lr 0.0005 -scheduler cosine -iterations 6000 -train_on -read_heads 1 "
        "-mem_size 16 -mem_slot 64 -sequence_max_length 8",
        (8, 16, 32),
        lambda outcome: outcome.level == 8 and outcome.scores[32][0] <= 0.01,
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
        "at least 95 % of the positions exactly right at lengths 15 and 30",
        ArgmaxTask,
        "-lr 0.002 -scheduler cosine -optim adam -batch_size 64 -nhlayer 1 -read_heads 2 "
        "-mem_slot 32 -mem_size 10 -input_size 10 -sequence_max_length 30 -iterations 12000 "
        "-train_on",
        (15, 30),
        lambda outcome: min(outcome.scores[length][1] for length in (15, 30)) >= 0.95,
        shown=1,
    ),
    "recall_sam": Line(
        "associative recall, SAM",
        "at most 1 % wrong bits with 4,096 pairs",
        AssociativeRecallTask,
        RECALL,
        (64, 512, 4096, 8192),
        _recalls_4096,
        examples=64,
    ),
    "recall_dnc": Line(
        "associative recall, DNC with 128 slots",
        "at most 1 % wrong bits with 4,096 pairs",
        AssociativeRecallTask,
        f"{RECALL} -iterations 8000 -memory_type dnc -mem_slot 128 -clip 10",
        (8, 64, 128),
        _recalls_4096,
        examples=64,
    ),
    "recall_lstm": Line(
        "associative recall, LSTM alone",
        "at most 1 % wrong bits with 4,096 pairs",
        AssociativeRecallTask,
        f"{RECALL} -memory_type none -rnn_type lstm -nhid 256",
        (8, 64),
        _recalls_4096,
        examples=64,
    ),
    "repeat_copy": Line(
        "repeat copy, DNC",
        "no wrong bit at length 8, 1 or 2 repeats",
        RepeatCopyTask,
        "-curriculum_limit 8 -iterations 8000 -temperature 2 -test_size 1000",
        (8, 16),
        _never_wrong,
    ),
    "priority_sort": Line(
        "priority sort, DNC",
        "at most 1 % wrong bits with 16 vectors",
        PrioritySortTask,
        "-memory_type dnc -mem_slot 32 -deallocation -batch_size 32 -sequence_max_length 8 "
        "-curriculum_limit 16 -curriculum_threshold 0.1 -clip 10 -scheduler cosine "
        "-iterations 20000 -train_on",
        (8, 16),
        lambda outcome: outcome.level == 16 and outcome.scores[16][0] <= 0.01,
    ),
    **_mqar(""),
    **_mqar(" -overwriting 1"),
    "traversal": Line(
        "traversal, DNC, graphs of up to 20 nodes with 60 edges",
        "at most 10 % wrong answers to walks of 6 edges",
        TraversalTask,
        f"{GRAPHS} -iterations 24000",
        (1, 2, 4, 6, 8),
        lambda outcome: outcome.scores[6][0] <= 0.1,
    ),
    "shortest_path": Line(
        "shortest path, DNC, graphs of up to 10 nodes with 30 edges",
        "at most 50 % wrong answers to paths of 3 edges",
        ShortestPathTask,
        "-scheduler cosine -train_on -iterations 60000",
        (1, 2, 3),
        lambda outcome: outcome.scores[3][0] <= 0.5,
    ),
    "family_tree": Line(
        "family trees, DNC, 20 people",
        "at most 10 % wrong answers to relations of 2 steps",
        FamilyTreeTask,
        "-scheduler cosine -train_on -iterations 24000",
        (1, 2, 3, 4),
        lambda outcome: outcome.scores[2][0] <= 0.1,
    ),
}

# What one figure shows side by side.
CONTRAST = ("recall_sam", "recall_dnc", "recall_lstm")
