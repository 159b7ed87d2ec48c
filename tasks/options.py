"""The command line that all tasks share, spelled with one dash as its users type it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from memcore import MemcoreError
from memcore.index import check_choice

__all__ = ["build_parser", "choose_device"]

OPTIMIZERS = ("adadelta", "adagrad", "adam", "adamax", "rmsprop", "sgd")


def _number(kind: Callable[[str], float], low: float, high: float = float("inf")) -> Callable:
    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            upto = "" if high == float("inf") else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(f"expected at least {low:g}{upto}, got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse names it in "invalid int value"
    return parse


def _index(text: str) -> str:
    try:
        check_choice("index", text.lower())
    except (MemcoreError, ImportError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.lower()


def build_parser(description: str, **defaults: object) -> argparse.ArgumentParser:
    """A parser with every option, with one dash or two; ``defaults`` are the task's own."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    positive, natural, anything = _number(int, 1), _number(int, 0), _number(int, -1)

    def add(name: str, kind: Callable, default: object, help: str) -> None:
        parser.add_argument(f"-{name}", f"--{name}", type=kind, default=default, help=help)

    def choose(name: str, choices: Sequence[str], default: str, help: str) -> None:
        parser.add_argument(
            f"-{name}", f"--{name}", choices=choices, default=default, type=str.lower, help=help
        )

    add("input_size", _number(int, 2), 6, "width of the input")
    choose("rnn_type", ("lstm", "gru", "rnn"), "lstm", "controller")
    add("nhid", positive, 64, "width of the controller")
    add("dropout", _number(float, 0, 0.999), 0.0, "between the layers of an RNN")
    choose("memory_type", ("dnc", "sam", "sdnc", "dam"), "dnc", "memory")
    add("nlayer", positive, 1, "controller layers, each of which uses the memory")
    add("nhlayer", positive, 2, "layers of the RNN in each controller layer")
    add("lr", _number(float, 0), 1e-4, "learning rate")
    choose("optim", OPTIMIZERS, "adam", "optimizer")
    add("clip", _number(float, 0), 50.0, "largest norm of the gradient; 0: any")
    add("batch_size", positive, 100, "examples a batch")
    add("mem_size", positive, 20, "width of a slot")
    add("mem_slot", positive, 16, "slots of the memory")
    add("read_heads", positive, 4, "read heads")
    add("sparse_reads", positive, 10, "slots that a head of a sparse memory reads")
    add("temporal_reads", positive, 2, "slots that a head of a sparse memory reads along links")
    add(
        "index", _index, "auto", "what finds the rows of a sparse memory: auto, exact, faiss, flann"
    )
    add("sequence_max_length", positive, 4, "longest sequence, at first")
    add("curriculum_increment", natural, 0, "by how much the longest sequence grows")
    add("curriculum_freq", positive, 1000, "iterations between growths")
    add("cuda", anything, -1, "CUDA device; -1: the CPU")
    add("iterations", natural, 100_000, "iterations at the most")
    add("summarize_freq", positive, 100, "iterations between summaries")
    add("check_freq", positive, 100, "iterations between checkpoints")
    parser.add_argument(
        "-visdom", "--visdom", action="store_true", help="send heat maps to a visdom server"
    )
    add("seed", _number(int, 0, 2**62), 0, "seed of parameters and data")
    add(
        "checkpoint_dir",
        Path,
        Path("checkpoints"),
        "folder for checkpoint and picture",
    )
    add("resume", Path, None, "checkpoint to go on from; its options become the defaults")
    parser.set_defaults(**defaults)
    return parser


def choose_device(cuda: int) -> torch.device:
    """The device of ``-cuda``; ends the program with one line where there is no such."""
    if cuda < 0:
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if cuda >= count:
        raise SystemExit(
            f"-cuda {cuda}: no such device, this machine has {count} for CUDA; "
            "use -cuda -1 for the CPU"
        )
    return torch.device("cuda", cuda)
