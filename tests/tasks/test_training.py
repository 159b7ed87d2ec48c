"""Options, optimizers, curriculum, and when a run stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import report as report_module
from copy_task import CopyTask
from memcore.options import DNCOptions, SAMOptions
from models import build_optimizer
from options import build_parser
from run import Run
from small_runs import run, train
from torch_adapters.dnc import DNCCell
from training import main


def test_defaults_are_the_documented_ones() -> None:
    options = vars(build_parser("").parse_args([]))
    expected = {
        "input_size": 6, "rnn_type": "lstm", "nhid": 64, "dropout": 0, "memory_type": "dnc",
        "nlayer": 1, "nhlayer": 2, "lr": 1e-4, "optim": "adam", "clip": 50, "batch_size": 100,
        "mem_size": 20, "mem_slot": 16, "read_heads": 4, "sparse_reads": 10, "temporal_reads": 2,
        "sequence_max_length": 4, "curriculum_increment": 0, "curriculum_freq": 1000, "cuda": -1,
        "iterations": 100_000, "summarize_freq": 100, "check_freq": 100, "visdom": False,
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected


def test_one_dash_or_two() -> None:
    parser = build_parser("")
    one = parser.parse_args("-lr 0.5 -cuda -1 -optim rmsprop -nhlayer 3 -visdom".split())
    two = parser.parse_args("--lr 0.5 --cuda -1 --optim rmsprop --nhlayer 3 --visdom".split())
    assert one == two
    assert (one.lr, one.cuda, one.optim, one.nhlayer, one.visdom) == (0.5, -1, "rmsprop", 3, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-optim adamw", "argument -optim/--optim: invalid choice: 'adamw'"),
        (
            "-batch_size 0",
            "argument -batch_size/--batch_size: expected at least 1 and at most 2147483647, got 0",
        ),
        ("-lr fast", "argument -lr/--lr: invalid float value: 'fast'"),
        ("-dropout 1", "argument -dropout/--dropout: expected at least 0 and at most 0.999, got 1"),
        ("-seed 99999999999999999999", "argument -seed/--seed: expected at least 0 and at most"),
        ("-width 3", "unrecognized arguments: -width"),
        ("-it 3", "unrecognized arguments: -it; there are -iterations"),
        ("-iteration 3", "unrecognized arguments: -iteration; there are -iterations"),
        ("--iter=3", "unrecognized arguments: --iter=3; there are --iterations"),
        ("-lr inf", "argument -lr/--lr: expected a finite number of at least 0, got inf"),
        ("-lr nan", "argument -lr/--lr: expected a finite number of at least 0, got nan"),
        ("-lr -1", "argument -lr/--lr: expected at least 0, got -1"),
        ("-checkpoint_dir=", "-checkpoint_dir: expected a path, got an empty one"),
        ("-curriculum_limit 3", "expected 0 or at least -sequence_max_length = 4, got 3"),
        (
            "-memory_type sam -write_heads 2",
            "argument -write_heads/--write_heads: expected 1 with -memory_type sam, which has none",
        ),
        ("-memory_type dam -link_sharpness", "-link_sharpness: expected False with -memory_type"),
        ("-mask_minimum 0.1", "-mask_minimum: expected 0 without -masking, got 0.1"),
        ("-temperature 0", "argument -temperature/--temperature: expected at least 1e-06, got 0"),
        ("-bidirectional -rnn_type linear", "-bidirectional: expected it off with -rnn_type"),
    ],
)
def test_bad_options(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(CopyTask(), "", arguments.split())
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1


def test_an_index_without_masks(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss")
    test_bad_options(
        "-memory_type sam -masking -index faiss",
        "argument -index/--index: expected auto or exact with -masking, got faiss",
        capsys,
    )


@pytest.mark.parametrize("memory", ["dnc", "sam"])
def test_more_slots_than_there_is_memory_for(tmp_path: Path, memory: str) -> None:
    options = ("-mem_slot", "2000000000", "-memory_type", memory, "-sparse_reads", "2")
    with pytest.raises(SystemExit, match=r"^-mem_slot: expected what there is memory for, got \d+"):
        run(tmp_path, *options)


def test_no_such_cuda_device() -> None:
    missing = torch.cuda.device_count()
    with pytest.raises(SystemExit, match=f"-cuda {missing}: no such device, this machine has"):
        main(CopyTask(), "", ["-cuda", str(missing)])


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.9, 0.98), "eps": 1e-9}),
        ("adamax", torch.optim.Adamax, {"betas": (0.9, 0.98), "eps": 1e-9}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.9, "eps": 1e-10}),
        ("sgd", torch.optim.SGD, {}),
        ("adagrad", torch.optim.Adagrad, {}),
        ("adadelta", torch.optim.Adadelta, {}),
    ],
)
def test_optimizers(name: str, kind: type, settings: dict[str, Any]) -> None:
    optimizer = build_optimizer(name, [torch.nn.Parameter(torch.zeros(1))], 0.5)
    assert type(optimizer) is kind
    assert {key: optimizer.defaults[key] for key in settings} == settings
    assert optimizer.defaults["lr"] == 0.5


def test_the_curriculum_grows(tmp_path: Path) -> None:
    options = build_parser("").parse_args(
        [
            "-sequence_max_length",
            "2",
            "-curriculum_increment",
            "3",
            "-curriculum_freq",
            "10",
            "-iterations",
            "25",
        ]
    )
    training = Run(CopyTask(), options, torch.device("cpu"))
    lengths = [training.curriculum.level(iteration) for iteration in (0, 1, 10, 11, 20, 21)]
    assert lengths == [2, 2, 2, 5, 5, 8]
    assert training.curriculum.goal() == 8


def test_options_of_later_papers_reach_the_model() -> None:
    given = (
        "-masking -mask_minimum 0.25 -temperature 2 -write_heads 3 -deallocation -link_sharpness "
        "-layer_norm -bypass_dropout 0.1 -bidirectional -learned_memory"
    )
    model = Run(CopyTask(), build_parser("").parse_args(given.split()), torch.device("cpu")).memory
    cell: Any = model.cell
    assert cell.options == DNCOptions(True, 0.25, 2, True, True, 3)
    assert model.interfaces[0].norm is not None
    assert (model.bypass_dropout, model.reverse is None, model.memory_rows is None) == (
        0.1, False, False,
    )  # fmt: skip
    for kind in ("sam", "sdnc", "dam"):
        given = f"-memory_type {kind} -masking -temperature 2 -layer_norm -rnn_type linear"
        options = build_parser("").parse_args(given.split())
        model = Run(CopyTask(), options, torch.device("cpu")).memory
        cell = model.cell
        assert cell.options == SAMOptions(masking=True, temperature=2)
        assert model.rnn_type == "linear"


def test_every_option_reaches_the_run(tmp_path: Path) -> None:
    options = build_parser("").parse_args(
        (
            "-input_size 4 -rnn_type gru -nhid 7 -dropout 0.25 -nlayer 2 -nhlayer 3 -lr 0.5 "
            "-optim sgd -mem_size 5 -mem_slot 9 -read_heads 2 -seed 3"
        ).split()
    )
    training = Run(CopyTask(), options, torch.device("cpu"))
    model = training.memory
    assert (model.input_size, model.output_size, model.hidden_size) == (4, 3, 7)
    assert (model.rnn_type, model.num_layers, model.num_hidden_layers) == ("gru", 2, 3)
    assert model.cell == DNCCell(nr_cells=9, cell_size=5, read_heads=2)
    assert [controller.dropout for controller in model.controllers] == [0.25, 0.25]
    assert isinstance(training.optimizer, torch.optim.SGD)
    assert training.optimizer.defaults["lr"] == 0.5
    options.seed = 4
    other = Run(CopyTask(), options, torch.device("cpu"))
    assert not torch.equal(model.output.weight, other.memory.output.weight)
    assert not torch.equal(training.data.get_state(), other.data.get_state())


def test_the_options_of_sparse_memories_reach_the_run() -> None:
    options = "-memory_type sdnc -mem_slot 9 -sparse_reads 3 -temporal_reads 2 -index exact"
    cell: Any = train(*options.split()).memory.cell
    assert (cell.sparse_reads, cell.temporal_reads, cell.index) == (3, 2, "exact")


def test_a_test_is_the_mean_over_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    training = train()
    scores = iter([(0.5,), (0.0,), (0.25,)])
    batch = training.task.batch(training.options, (1,), 2, torch.Generator())
    monkeypatch.setattr(training.task, "tests", lambda *_: [batch] * 3, raising=False)
    monkeypatch.setattr(training.task, "score", lambda *_: next(scores))
    assert training.test(1, torch.Generator()) == (0.25,)


def test_lengths_are_drawn_from_one_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    training, lengths = train("-sequence_max_length", "3"), []
    batch = training._batch
    monkeypatch.setattr(
        training, "_batch", lambda length, *rest: lengths.append(length) or batch(length, *rest)
    )
    for _ in range(40):
        training.train_once()
    assert set(lengths) == {1, 2, 3}


def test_the_gradient_is_clipped_unless_clip_is_zero() -> None:
    norms = []
    for clip in ("0.001", "0"):
        training = train("-clip", clip, "-optim", "sgd")
        training.train_once()
        gradients = [p.grad for p in training.model.parameters() if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
    assert norms[0] == pytest.approx(0.001, rel=1e-3)
    assert norms[1] > 0.002


def test_solved_is_judged_at_the_longest_length_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = train("-curriculum_increment", "2", "-curriculum_freq", "5", "-iterations", "11")
    lengths: list[int] = []
    monkeypatch.setattr(training, "test", lambda length, _: lengths.append(length) or (0.0,))
    training.iteration = 5
    assert training.check_solved()
    assert lengths == [7, 7, 7]


def test_a_test_takes_as_many_examples_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three batches of one would be found right by luck."""
    training, sizes = train("-batch_size", "1"), []
    score = CopyTask.score
    monkeypatch.setattr(CopyTask, "score", lambda *a: sizes.append(len(a[2])) or score(*a))
    training.train_once()
    training.test(2, torch.Generator())
    training.options.test_size = 7
    training.test(2, torch.Generator())
    assert sizes == [1, 100, 7]


def test_it_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "test", lambda self, length, generator: (0.0,))
    solved = run(tmp_path, "-iterations", "15")
    assert (solved["iteration"], solved["solved"]) == (5, True)
    saved = str(tmp_path / "copy_dnc.pt")
    further = run(tmp_path, "-resume", saved, "-iterations", "15", "-train_on")
    assert (further["iteration"], further["solved"]) == (15, False)


def test_the_report_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "test", lambda self, length, generator: (length / 100,))
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(report_module, "save_memory_picture", lambda *a: drawn.update(arguments=a))
    run(tmp_path, "-iterations", "1")
    printed = capsys.readouterr().out
    for length in (3, 4, 6, 9, 12):
        assert f"length {length:4d}: {length / 100:.4f}" in printed
    path, name, input, output, trace = drawn["arguments"]
    assert path == tmp_path / "copy_dnc.png"
    assert name == "copy"
    assert input.shape == (7, 6)
    assert output.shape == (7, 5)
    assert ((output > 0) & (output < 1)).all()
    assert trace["write_weights"].shape == (7, 4)


def test_it_stops_when_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths: list[int] = []

    def test(self: Run, length: int, generator: torch.Generator) -> tuple[float]:
        lengths.append(length)
        return (0.0,) if self.iteration >= 10 else (0.1,)

    monkeypatch.setattr(Run, "test", test)
    saved = run(tmp_path, "-iterations", "100")
    assert saved["iteration"] == 10
    assert saved["solved"]
    said = f"solved at iteration 10: three tests of {saved['options']['test_size']} examples passed"
    assert said in capsys.readouterr().out
    assert lengths[:4] == [3, 3, 3, 3]  # one batch at 5 was enough to see it is not, three at 10


@pytest.mark.usefixtures("no_pictures")
def test_looking_changes_nothing(tmp_path: Path) -> None:
    """Tests and summaries draw from generators of their own."""
    often = run(
        tmp_path / "often", "-iterations", "6", "-summarize_freq", "1", "-curriculum_limit", "3"
    )
    never = run(
        tmp_path / "never", "-iterations", "6", "-summarize_freq", "7", "-curriculum_limit", "3"
    )
    assert torch.equal(often["data"], never["data"])
    assert torch.equal(often["random"], never["random"])
    for name, value in often["model"].items():
        assert torch.equal(value, never["model"][name]), name


def test_a_limit_at_the_beginning() -> None:
    options = build_parser("").parse_args(["-sequence_max_length", "4", "-curriculum_limit", "4"])
    assert (options.sequence_max_length, options.curriculum_limit) == (4, 4)
