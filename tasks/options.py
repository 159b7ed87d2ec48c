"""The command line that all tasks share, spelled with one dash as its users type it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from memcore import MemcoreError
from memcore.backends import check_backend, numba_is_missing
from memcore.index import check_choice
from task import AddOption, number

__all__ = ["AUTO", "build_parser", "choose_device", "wrong_option"]

AUTO = "auto"  # in place of the checkpoint to go on from

# What only a memory has.
OF_MEMORIES = (
    "backend", "masking", "mask_minimum", "temperature", "layer_norm", "bypass_dropout",
    "bidirectional", "learned_memory",
)  # fmt: skip
OPTIMIZERS = ("adadelta", "adagrad", "adam", "adamax", "rmsprop", "sgd")


def _index(text: str) -> str:
    try:
        check_choice("index", text.lower())
    except (MemcoreError, ImportError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text.lower()


def _backend(text: str) -> str:
    try:
        check_backend("backend", text.lower())
    except MemcoreError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    missing = numba_is_missing() if text.lower() == "numba" else None
    if missing is not None:
        raise argparse.ArgumentTypeError(missing)
    return text.lower()


def _path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a path, got an empty one")
    return Path(text)


def _resume(text: str) -> Path | str:
    return AUTO if text == AUTO else _path(text)


class _Parser(argparse.ArgumentParser):
    """Names are written out, and a wrong option is answered by one line."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore
        """As always, but ``-it`` is not ``-iterations``, which one dash would make of it."""
        given = sys.argv[1:] if args is None else list(args)
        for text in given:
            name = text.partition("=")[0]
            if name.startswith("-") and name not in self._names and not _is_number(name):
                near = sorted(n for n in self._names if n.startswith(name))
                also = f"; there are {', '.join(near)}" if near and name.strip("-") else ""
                self.error(f"unrecognized arguments: {text}{also}")
        options = super().parse_args(given, namespace)
        self._check_model(options)
        start, limit = options.sequence_max_length, options.curriculum_limit
        if 0 < limit < start:
            self.error(
                "argument -curriculum_limit/--curriculum_limit: expected 0 or at least "
                f"-sequence_max_length = {start}, got {limit}"
            )
        return options

    def _check_model(self, options: argparse.Namespace) -> None:
        """Answer options that the model does not have, or that exclude each other."""
        self._check_baseline(options)
        for name in ("write_heads", "deallocation", "link_sharpness"):
            value, off = getattr(options, name), 1 if name == "write_heads" else False
            if options.memory_type != "dnc" and value != off:
                self.error(
                    f"argument -{name}/--{name}: expected {off} with -memory_type "
                    f"{options.memory_type}, which has none, got {value}"
                )
        if options.masking and options.index in ("faiss", "flann"):
            self.error(
                "argument -index/--index: expected auto or exact with -masking, got "
                f"{options.index}"
            )
        if options.mask_minimum and not options.masking:
            self.error(
                "argument -mask_minimum/--mask_minimum: expected 0 without -masking, got "
                f"{options.mask_minimum:g}"
            )
        if options.bidirectional and options.rnn_type == "linear":
            self.error(
                "argument -bidirectional/--bidirectional: expected it off with -rnn_type linear, "
                "which carries nothing from step to step"
            )

    def _check_baseline(self, options: argparse.Namespace) -> None:
        """Answer what is asked of a memory where there is none."""
        kind = options.memory_type
        if kind not in ("none", "attention"):
            return
        off = {name: self.get_default(name) for name in OF_MEMORIES}
        for name, value in off.items():
            if getattr(options, name) != value:
                self.error(
                    f"argument -{name}/--{name}: expected {value} with -memory_type {kind}, "
                    f"which has no memory, got {getattr(options, name)}"
                )
        if kind == "none" and options.rnn_type == "linear":
            self.error(
                "argument -rnn_type/--rnn_type: expected lstm, gru or rnn with -memory_type none, "
                "got linear, which carries nothing from step to step"
            )
        if kind == "attention" and options.nhid % options.read_heads:
            self.error(
                f"argument -nhid/--nhid: expected a multiple of -read_heads = {options.read_heads} "
                f"with -memory_type attention, got {options.nhid}"
            )

    @property
    def _names(self) -> set[str]:
        return {name for action in self._actions for name in action.option_strings}

    def error(self, message: str) -> NoReturn:
        """One line, and the way to more."""
        self.exit(2, f"{self.prog}: error: {message} (-h shows all options)\n")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def build_parser(
    description: str, add_options: Callable[[AddOption], None] | None = None, **defaults: object
) -> argparse.ArgumentParser:
    """A parser with every option, with one dash or two.

    ``add_options`` adds those of the task alone, ``defaults`` are the task's own.
    """
    parser = _Parser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    positive, natural, anything = (number(int, low, 2**31 - 1) for low in (1, 0, -1))

    def add(name: str, kind: Callable, default: object, help: str) -> None:
        parser.add_argument(f"-{name}", f"--{name}", type=kind, default=default, help=help)

    def choose(name: str, choices: Sequence[str], default: str, help: str) -> None:
        parser.add_argument(
            f"-{name}", f"--{name}", choices=choices, default=default, type=str.lower, help=help
        )

    def switch(name: str, help: str) -> None:
        parser.add_argument(f"-{name}", f"--{name}", action="store_true", help=help)

    add("input_size", number(int, 2, 2**31 - 1), 6, "width of the input")
    choose("rnn_type", ("lstm", "gru", "rnn", "linear"), "lstm", "controller")
    add("nhid", positive, 64, "width of the controller")
    add("dropout", number(float, 0, 0.999), 0.0, "between the layers of an RNN")
    choose(
        "memory_type",
        ("dnc", "sam", "sdnc", "dam", "none", "attention"),
        "dnc",
        "memory; none: the controller alone, attention: -nlayer layers of -read_heads heads",
    )
    add("nlayer", positive, 1, "controller layers, each of which uses the memory")
    add("nhlayer", positive, 2, "layers of the RNN in each controller layer")
    add("lr", number(float, 0), 1e-4, "learning rate")
    choose("scheduler", ("none", "cosine", "linear"), "none", "learning rate over the iterations")
    choose("optim", OPTIMIZERS, "adam", "optimizer")
    add("clip", number(float, 0), 50.0, "largest norm of the gradient; 0: any")
    add("batch_size", positive, 100, "examples a batch")
    add(
        "batch_budget",
        natural,
        0,
        "examples times their length a batch: long ones come in smaller batches; 0: any",
    )
    add("mem_size", positive, 20, "width of a slot")
    add("mem_slot", positive, 16, "slots of the memory")
    add("read_heads", positive, 4, "read heads")
    add("sparse_reads", positive, 10, "slots that a head of a sparse memory reads")
    add("temporal_reads", positive, 2, "slots that a head of a sparse memory reads along links")
    add(
        "index", _index, "auto", "what finds the rows of a sparse memory: auto, exact, faiss, flann"
    )
    add("backend", _backend, "auto", "what runs the model: auto, reference, numba")
    add("write_heads", positive, 1, "write heads; DNC")
    switch("masking", "keys say which parts of a slot they look for")
    add("mask_minimum", number(float, 0, 0.999), 0.0, "masking: what a mask shows at the least")
    switch("deallocation", "what the free gates release is faded; DNC")
    switch("link_sharpness", "where links lead is concentrated; DNC")
    add("temperature", number(float, 1e-6), 1.0, "what strengths are multiplied by")
    switch("layer_norm", "normalize what the controller tells the memory")
    add("bypass_dropout", number(float, 0, 0.999), 0.0, "from the controller to the output")
    switch("bidirectional", "a second controller reads from the end")
    switch("learned_memory", "what an empty slot holds is learned")
    add("sequence_max_length", positive, 4, "longest sequence, at first")
    curricula = ("linear", "exponential", "adaptive")
    choose("curriculum", curricula, "linear", "how the longest sequence grows")
    add(
        "curriculum_increment",
        natural,
        0,
        "linear, adaptive: by how much it grows; adaptive: by 1 at the least",
    )
    add("curriculum_freq", positive, 1000, "linear: iterations between growths")
    add(
        "curriculum_threshold",
        number(float, 0),
        0.01,
        "exponential: it doubles below this loss; adaptive: it grows",
    )
    add(
        "curriculum_window",
        positive,
        100,
        "exponential, adaptive: iterations that the loss is averaged over",
    )
    add("curriculum_limit", natural, 0, "where it stops growing; 0: nowhere")
    add("cuda", anything, -1, "CUDA device; -1: the CPU")
    add("iterations", natural, 100_000, "iterations at the most")
    switch("train_on", "do not stop when solved, but at -iterations")
    add("test_size", positive, 100, "examples of a test, at each length")
    add("summarize_freq", positive, 100, "iterations between summaries")
    add("check_freq", positive, 100, "iterations between checkpoints")
    switch("tensorboard", "write metrics and pictures of the memory for TensorBoard")
    switch("visdom", "send heat maps and pictures of the memory to a visdom server")
    add("visdom_port", number(int, 1, 65535), 8097, "port of the visdom server on this machine")
    add("seed", number(int, 0, 2**62), 0, "seed of parameters and data")
    add(
        "checkpoint_dir",
        _path,
        Path("checkpoints"),
        "folder for checkpoints, metrics and pictures",
    )
    add(
        "resume",
        _resume,
        None,
        "checkpoint to go on from; its options become the defaults. auto: the one in "
        "-checkpoint_dir, if there is one",
    )
    switch("overwrite", "replace what another run left in -checkpoint_dir")
    if add_options is not None:
        add_options(add)
    parser.set_defaults(**defaults)
    return parser


def wrong_option(parser: argparse.ArgumentParser, saved: dict[Any, Any]) -> str | None:
    """What is wrong with options that a checkpoint holds, if anything is."""
    actions = {action.dest: action for action in parser._actions}
    for name, value in saved.items():
        action = actions.get(name)
        if action is None:
            return f"option {name!r} is none of this task"
        text = str(value)
        try:
            if action.nargs == 0:  # a switch
                right = isinstance(value, bool)
            elif action.choices is not None:
                right = value in action.choices
            elif isinstance(action.default, str):  # the parser's to judge, if it is not overruled
                right = isinstance(value, str)
            else:
                right = callable(action.type) and action.type(text) == value
                right = right and not isinstance(value, bool)
        except (argparse.ArgumentTypeError, ValueError, TypeError):
            right = False
        if not right:
            return f"option {name} is {value!r}"
    return None


def choose_device(cuda: int, rank: int = 0, count: int = 1) -> torch.device:
    """The device of ``-cuda``; ends the program with one line where there is no such.

    Args:
        cuda: the device of the first process on this machine; -1: the CPU, for all.
        rank: which process of this machine it is for.
        count: how many processes this machine has; all must have a device.
    """
    if cuda < 0:
        return torch.device("cpu")
    there = torch.cuda.device_count()
    last = cuda + count - 1
    if last >= there:
        upto = f" to {last}, one for each process" if count > 1 else ""
        raise SystemExit(
            f"-cuda {cuda}: no such device{upto}, this machine has {there} for CUDA; "
            "use -cuda -1 for the CPU"
        )
    return torch.device("cuda", cuda + rank)
