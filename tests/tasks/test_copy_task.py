"""The copy task, as its users run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import training as training_module
from copy_task import CopyTask
from interruption import deferred_interrupt
from options import build_parser
from plots import HEAT_MAPS, HeatMapServer, save_memory_picture
from torch_adapters.dnc import DNCCell
from training import Run, build_optimizer, main

SCRIPT = Path(__file__).parents[2] / "tasks" / "copy_task.py"
SMALL = (
    "-batch_size 4 -nhid 8 -nhlayer 1 -mem_slot 4 -mem_size 3 -read_heads 1 "
    "-sequence_max_length 3 -summarize_freq 5 -check_freq 4"
).split()


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Train in this process; what the checkpoint then holds."""
    main(CopyTask(), "", [*SMALL, "-checkpoint_dir", str(folder), *arguments])
    return torch.load(folder / "copy_dnc.pt", weights_only=True)


def test_what_a_batch_holds() -> None:
    options = build_parser("").parse_args(["-input_size", "4"])
    input, target = CopyTask().batch(options, 3, 2, torch.Generator().manual_seed(0))
    assert input.shape == (2, 7, 4)
    assert target.shape == (2, 3, 3)
    assert torch.equal(input[:, :3, :-1], target)
    assert set(target.unique().tolist()) == {0, 1}
    flags = input[:, :, -1]
    assert flags[:, 3].all()
    assert flags.sum() == 2
    assert not input[:, 4:].any()
    assert not input[:, 3, :-1].any()


def test_error_counts_wrong_bits_of_the_last_steps() -> None:
    task = CopyTask()
    target = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    logits = torch.tensor([[[9.0, 9.0], [-9, 9], [9, 9], [5, -5], [5, 5]]])
    assert task.error(logits, target) == 0
    assert task.error(-logits, target) == 1
    logits[0, -1, 0] *= -1
    assert task.error(logits, target) == 0.25
    assert task.loss(logits, target) > 1


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
        ("-batch_size 0", "argument -batch_size/--batch_size: expected at least 1, got 0"),
        ("-lr fast", "argument -lr/--lr: invalid float value: 'fast'"),
        ("-dropout 1", "argument -dropout/--dropout: expected at least 0 and at most 0.999, got 1"),
        ("-seed 99999999999999999999", "argument -seed/--seed: expected at least 0 and at most"),
        ("-width 3", "unrecognized arguments: -width 3"),
    ],
)
def test_bad_options(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(CopyTask(), "", arguments.split())
    assert message in capsys.readouterr().err


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
    lengths = [training.max_length(iteration) for iteration in (0, 1, 10, 11, 20, 21)]
    assert lengths == [2, 2, 2, 5, 5, 8]
    assert training.longest() == 8


def test_the_script_as_typed(tmp_path: Path) -> None:
    """Summary, checkpoint, generalization and picture, in a process of its own."""
    command = [sys.executable, "-W", "error", str(SCRIPT), *SMALL, "-iterations", "10"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "iteration 10: loss 0." in done.stdout
    assert "bit error by length (trained up to 3):" in done.stdout
    assert "length    6:" in done.stdout
    checkpoint = torch.load(tmp_path / "checkpoints" / "copy_dnc.pt", weights_only=True)
    assert checkpoint["iteration"] == 10
    picture = tmp_path / "checkpoints" / "copy_dnc.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("checkpoints/*.unfinished"))


def test_resuming_continues_bit_for_bit(tmp_path: Path) -> None:
    options = ("-dropout", "0.3", "-nhlayer", "2", "-optim", "adam", "-lr", "0.01")
    whole = run(tmp_path / "whole", *options, "-iterations", "12")
    run(tmp_path / "parts", *options, "-iterations", "7")
    assert whole["options"]["dropout"] == 0.3
    saved = str(tmp_path / "parts" / "copy_dnc.pt")
    parts = run(tmp_path / "parts", *options, "-resume", saved, "-iterations", "12")
    assert parts["iteration"] == whole["iteration"] == 12
    for name, value in whole["model"].items():
        assert torch.equal(parts["model"][name], value), name
    assert torch.equal(parts["data"], whole["data"])
    assert torch.equal(parts["random"], whole["random"])


def test_resuming_takes_the_checkpoints_options(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "3", "-nhid", "5", "-lr", "0.25")
    saved = tmp_path / "copy_dnc.pt"
    main(CopyTask(), "", ["-resume", str(saved), "-iterations", "4"])
    after = torch.load(saved, weights_only=True)
    assert after["iteration"] == 4
    assert (after["options"]["nhid"], after["options"]["lr"]) == (5, 0.25)
    assert after["optimizer"]["param_groups"][0]["lr"] == 0.25
    main(CopyTask(), "", ["-resume", str(saved), "-iterations", "5", "-lr", "0.125"])
    after = torch.load(saved, weights_only=True)
    assert after["optimizer"]["param_groups"][0]["lr"] == 0.125


def test_resuming_stays_in_the_checkpoints_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    main(CopyTask(), "", [*SMALL, "-iterations", "2", "-checkpoint_dir", "runs"])
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(CopyTask(), "", ["-resume", "../runs/copy_dnc.pt", "-iterations", "3"])
    assert not list((tmp_path / "elsewhere").iterdir())
    assert torch.load(tmp_path / "runs" / "copy_dnc.pt", weights_only=True)["iteration"] == 3


def test_resuming_with_another_optimizer_starts_it_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "-iterations", "2", "-optim", "adam")
    saved = str(tmp_path / "copy_dnc.pt")
    for optimizer in ("sgd", "rmsprop", "adamax"):
        run(tmp_path, "-resume", saved, "-iterations", "4", "-optim", optimizer)
        assert f"the optimizer, {optimizer}, starts anew" in capsys.readouterr().out


def test_a_solved_run_goes_on_where_more_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "test", lambda self, length, generator: 0.0)
    assert run(tmp_path, "-iterations", "20")["iteration"] == 5
    saved = str(tmp_path / "copy_dnc.pt")
    assert run(tmp_path, "-resume", saved)["iteration"] == 5
    assert "nothing left to train: solved" in capsys.readouterr().out
    again = run(tmp_path, "-resume", saved, "-sequence_max_length", "6")
    assert again["iteration"] == 10
    assert "nothing left" not in capsys.readouterr().out


def test_an_earlier_run_is_not_replaced_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "-iterations", "1")
    assert "earlier run" not in capsys.readouterr().out
    run(tmp_path, "-iterations", "1")
    assert "copy_dnc.pt is from an earlier run and will be replaced" in capsys.readouterr().out


def test_a_checkpoint_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        with pytest.raises(SystemExit, match=r"-checkpoint_dir .*file.*: (File exists|Not a dir)"):
            run(tmp_path / folder)


def test_every_option_reaches_the_run(tmp_path: Path) -> None:
    options = build_parser("").parse_args(
        (
            "-input_size 4 -rnn_type gru -nhid 7 -dropout 0.25 -nlayer 2 -nhlayer 3 -lr 0.5 "
            "-optim sgd -mem_size 5 -mem_slot 9 -read_heads 2 -seed 3"
        ).split()
    )
    training = Run(CopyTask(), options, torch.device("cpu"))
    model = training.model
    assert (model.input_size, model.output_size, model.hidden_size) == (4, 3, 7)
    assert (model.rnn_type, model.num_layers, model.num_hidden_layers) == ("gru", 2, 3)
    assert model.cell == DNCCell(nr_cells=9, cell_size=5, read_heads=2)
    assert [controller.dropout for controller in model.controllers] == [0.25, 0.25]
    assert isinstance(training.optimizer, torch.optim.SGD)
    assert training.optimizer.defaults["lr"] == 0.5
    options.seed = 4
    other = Run(CopyTask(), options, torch.device("cpu"))
    assert not torch.equal(model.output.weight, other.model.output.weight)
    assert not torch.equal(training.data.get_state(), other.data.get_state())


def train(*arguments: str) -> Run:
    options = build_parser("").parse_args([*SMALL, *arguments])
    return Run(CopyTask(), options, torch.device("cpu"))


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
    monkeypatch.setattr(training, "test", lambda length, _: lengths.append(length) or 0.0)
    training.iteration = 5
    assert training.check_solved()
    assert lengths == [7, 7, 7]


def test_checkpoints_are_written_on_the_way_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterations: list[int] = []
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda self: (iterations.append(self.iteration), save(self)))
    run(tmp_path, "-iterations", "10", "-check_freq", "4")
    assert iterations == [4, 8, 10]
    before = (tmp_path / "copy_dnc.pt").read_bytes()

    def fails(content: Any, file: Any) -> None:
        file.write(b"half of")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="no space left"):
        run(tmp_path, "-iterations", "1")
    assert (tmp_path / "copy_dnc.pt").read_bytes() == before


def test_the_report_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "test", lambda self, length, generator: length / 100)
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        training_module, "save_memory_picture", lambda *a: drawn.update(arguments=a)
    )
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


def test_the_picture_shows_what_it_is_given(tmp_path: Path) -> None:
    """Every panel comes from its own values: changing them changes the picture."""
    rng = np.random.default_rng(0)
    input, output = torch.rand(5, 3), torch.rand(5, 2)
    trace = {"write_weights": rng.random((10, 4)), "read_weights": rng.random((10, 8))}

    def picture(*values: Any) -> bytes:
        save_memory_picture(tmp_path / "a.png", "copy", *values)
        return (tmp_path / "a.png").read_bytes()

    plain = picture(input, output, trace)
    assert picture(input, output, trace) == plain
    assert picture(1 - input, output, trace) != plain
    assert picture(input, 1 - output, trace) != plain
    for name in trace:
        assert picture(input, output, {**trace, name: 1 - trace[name]}) != plain


def test_visdom_gets_the_trace_at_every_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    class Server:
        def send(self, trace: dict[str, Any], iteration: int, loss: float) -> bool:
            assert trace["write_weights"].any()
            sent.append(iteration)
            return len(sent) < 2

    monkeypatch.setattr(HeatMapServer, "connect", classmethod(lambda _: Server()))
    run(tmp_path, "-iterations", "15", "-visdom")
    assert sent == [5, 10]  # the server was gone after the second


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "not a readable checkpoint"),
        (b"hello\n", "not a readable checkpoint"),
        ("truncated", "not a readable checkpoint"),
        ({"model": 1}, "not a checkpoint of these tasks"),
        ("another model", "the options given build another model than the checkpoint's"),
    ],
)
def test_what_cannot_be_resumed(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "copy_dnc.pt"
    extra: list[str] = []
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        torch.save(content, path)
    elif content is not None:
        run(tmp_path, "-iterations", "1")
        if content == "truncated":
            path.write_bytes(path.read_bytes()[:-500])
        else:
            extra = ["-nhid", "9"]
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(SystemExit, match=message):
        main(CopyTask(), "", ["-resume", str(path), *extra])
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"format": "memcore task checkpoint, version 1", "task": Evil()}, path)
    with pytest.raises(SystemExit, match="not a readable checkpoint"):
        main(CopyTask(), "", ["-resume", str(path)])
    assert not (tmp_path / "touched").exists()


def test_interrupting_ends_the_iteration_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of an iteration, then resumed: as if never interrupted."""
    options = ("-optim", "adam", "-lr", "0.01")
    whole = run(tmp_path / "whole", *options, "-iterations", "6")
    loss = CopyTask.loss
    calls: list[int] = []

    def interrupted(self: CopyTask, output: Any, target: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, output, target)

    monkeypatch.setattr(CopyTask, "loss", interrupted)
    with pytest.raises(SystemExit, match="stopped at iteration 3; go on with -resume"):
        run(tmp_path / "parts", *options, "-iterations", "6")
    saved = str(tmp_path / "parts" / "copy_dnc.pt")
    parts = run(tmp_path / "parts", *options, "-resume", saved, "-iterations", "6")
    assert parts["iteration"] == 6
    for name, value in whole["model"].items():
        assert torch.equal(parts["model"][name], value), name


def test_a_second_interrupt_is_not_deferred() -> None:
    before = signal.getsignal(signal.SIGINT)

    def interrupt_twice() -> None:
        with deferred_interrupt() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.is_set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGINT) is before


def test_it_stops_when_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths: list[int] = []

    def test(self: Run, length: int, generator: torch.Generator) -> float:
        lengths.append(length)
        return 0.0 if self.iteration >= 10 else 0.1

    monkeypatch.setattr(Run, "test", test)
    saved = run(tmp_path, "-iterations", "100")
    assert saved["iteration"] == 10
    assert saved["solved"]
    assert "solved at iteration 10" in capsys.readouterr().out
    assert lengths[:4] == [3, 3, 3, 3]  # one batch at 5 was enough to see it is not, three at 10


def test_visdom_without_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "visdom", None)
    assert HeatMapServer.connect() is None
    assert capsys.readouterr().out == (
        "-visdom: visdom is not installed, training goes on without heat maps\n"
    )


def test_visdom_heat_maps_have_the_known_layout(capsys: pytest.CaptureFixture[str]) -> None:
    sent: list[tuple[Any, str, dict[str, Any]]] = []

    class Server:
        def heatmap(self, values: Any, win: str, opts: dict[str, Any]) -> None:
            if len(sent) == len(HEAT_MAPS):
                raise ConnectionError
            sent.append((values, win, opts))

    server = HeatMapServer(Server())
    trace = {name: np.zeros((2, 3)) for name in HEAT_MAPS}
    assert server.send(trace, 7, 0.25)
    assert [win for _, win, _ in sent] == list(HEAT_MAPS)
    assert sent[0][2] == {
        "xtickstep": 10,
        "ytickstep": 2,
        "title": "Memory, t: 7, loss: 0.2500",
        "ylabel": "layer * time",
        "xlabel": "mem_slot * mem_size",
    }
    assert not server.send(trace, 8, 0.25)
    assert "the server is gone" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_copy_is_learned(tmp_path: Path, seed: int) -> None:
    """Lengths 1 to 8 of 5 bits: no wrong bit at length 8 within 5,000 iterations of 32."""
    main(
        CopyTask(),
        "",
        (
            f"-seed {seed} -iterations 5000 -checkpoint_dir {tmp_path} -optim rmsprop -lr 0.0005 "
            "-batch_size 32 -sequence_max_length 8 -nhlayer 1 -read_heads 1 -mem_size 16"
        ).split(),
    )
    saved = torch.load(tmp_path / "copy_dnc.pt", weights_only=True)
    assert saved["solved"]
