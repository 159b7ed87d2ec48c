"""What memories are measured against, and batches that shrink with the length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from baselines import Attention, ControllerAlone
from copy_task import CopyTask
from memcore import MemcoreError
from options import build_parser
from run import Run
from shortest_path_task import ShortestPathTask
from small_runs import SMALL, train
from training import main

BOTH = [
    ControllerAlone(3, 8, 5, rnn_type="gru", num_layers=2),
    Attention(3, 8, 5, heads=2, num_layers=2),
]


@pytest.mark.parametrize("model", BOTH)
def test_outputs_depend_on_all_that_came_before_and_on_nothing_after(model: nn.Module) -> None:
    torch.manual_seed(0)
    input = torch.randn(1, 6, 3, requires_grad=True)
    output = model(input)[0]
    assert output.shape == (1, 6, 5)
    for step in range(6):
        (gradient,) = torch.autograd.grad(output[:, step].sum(), input, retain_graph=True)
        seen = gradient.abs().sum(2)[0]
        assert bool((seen[: step + 1] > 0).all())
        assert not seen[step + 1 :].any()


@pytest.mark.parametrize("model", BOTH)
def test_a_sequence_in_pieces_is_the_whole_sequence(model: nn.Module) -> None:
    """As a test is run in which a model is shown its own answers."""
    torch.manual_seed(0)
    input, state, pieces = torch.randn(2, 6, 3), None, []
    for piece in input.split([3, 1, 2], 1):
        output, state = model(piece, state)
        pieces.append(output)
    torch.testing.assert_close(torch.cat(pieces, 1), model(input)[0])


@pytest.mark.parametrize("kind", ["none", "attention"])
def test_they_find_shortest_paths(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "-nhid 8 -read_heads 2 -sequence_max_length 3 -iterations 2 -test_size 5 -batch_size 4"
    )
    folder = ["-memory_type", kind, "-checkpoint_dir", str(tmp_path)]
    main(ShortestPathTask(), "", [*options.split(), *folder])
    assert "share of wrong answers" in capsys.readouterr().out


def test_attention_tells_positions_apart() -> None:
    torch.manual_seed(0)
    model, step = Attention(3, 8, 5), torch.randn(1, 1, 3)
    output = model(step.expand(1, 7, 3))[0][0]
    assert torch.cdist(output, output).add(torch.eye(7)).min() > 1e-3
    one, other = torch.randn(2, 1, 1, 3)
    ends = [
        model(torch.cat(pair, 1))[0][0, -1] for pair in ([one, other, step], [other, one, step])
    ]
    assert not torch.allclose(*ends)


@pytest.mark.parametrize("kind", ["none", "attention"])
def test_they_are_trained_saved_and_resumed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [*SMALL, "-memory_type", kind, "-checkpoint_dir", str(tmp_path)]
    main(CopyTask(), "", [*own, "-iterations", "4"])
    main(CopyTask(), "", [*own, "-iterations", "8", "-resume", str(tmp_path / f"copy_{kind}.pt")])
    printed = capsys.readouterr().out
    assert "going on from iteration 4" in printed
    assert printed.count(f"no picture of the memory: -memory_type {kind} has none") == 2
    assert len((tmp_path / f"copy_{kind}.csv").read_text().splitlines()) == 9
    assert (tmp_path / f"copy_{kind}_curve.png").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("-memory_type none -masking", "-masking/--masking: expected False with -memory_type none"),
        ("-memory_type attention -backend numba", "-backend/--backend: expected auto with"),
        ("-memory_type none -rnn_type linear", "-rnn_type/--rnn_type: expected lstm, gru or rnn"),
        (
            "-memory_type attention -nhid 9 -read_heads 2",
            "-nhid/--nhid: expected a multiple of -read_heads = 2 with",
        ),
    ],
)
def test_what_has_no_effect_is_refused(
    given: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build_parser("").parse_args(given.split())
    assert message in capsys.readouterr().err


def test_no_memory_to_ask_for() -> None:
    run = train("-memory_type", "none")
    with pytest.raises(MemcoreError, match="-memory_type none has none"):
        _ = run.memory


@pytest.mark.parametrize(("budget", "size"), [(0, 4), (7, 2), (11, 3), (100, 4), (1, 1)])
def test_long_sequences_come_in_smaller_batches(budget: int, size: int) -> None:
    run, seen = train("-batch_budget", str(budget), "-sequence_max_length", "3"), set()

    def watched(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.add((inputs[0].shape[1] // 2, len(inputs[0])))

    run.model.register_forward_pre_hook(watched)
    for _ in range(12):
        run.train_once()
    assert (3, size) in seen
    assert all(own == max(1, min(4, budget // length if budget else 4)) for length, own in seen)


def test_a_test_in_parts_is_the_whole_test() -> None:
    scores: list[tuple[float, ...]] = []
    sizes: list[int] = []
    for budget in ("0", "30", "1"):
        run = train("-test_size", "23", "-batch_budget", budget)
        run.model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        scores.append(run.test(3, torch.Generator().manual_seed(0)))
    assert sizes == [23, 10, 10, 3, *[1] * 23]
    assert scores[1] == pytest.approx(scores[0])
    assert scores[2] == pytest.approx(scores[0])
    assert 0 < scores[0][0] < 1


def test_all_right_is_one_in_parts_too() -> None:
    """A mean of parts that rounds would leave a task that is solved unsolved."""

    class Right(CopyTask):
        def score(self, output: torch.Tensor, target: torch.Tensor) -> tuple[float, ...]:
            return (1.0,)

    options = build_parser("").parse_args([*SMALL, "-test_size", "49", "-batch_budget", "9"])
    run = Run(Right(), options, torch.device("cpu"))
    assert run.test(3, torch.Generator()) == (1.0,)
