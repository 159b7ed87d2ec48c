"""How the longest sequence grows, and the learning rate falls."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from curriculum import (
    AdaptiveCurriculum,
    ExponentialCurriculum,
    LinearCurriculum,
    LossCurriculum,
    build_curriculum,
)
from kills import assert_same_run
from options import build_parser
from run import Run
from small_runs import run, run_killed, train

pytestmark = pytest.mark.usefixtures("no_pictures")


def grown(curriculum: LossCurriculum, losses: list[float]) -> list[int]:
    levels = []
    for iteration, loss in enumerate(losses, 1):
        curriculum.observe(loss)
        levels.append(curriculum.level(iteration))
    return levels


def test_linear_up_to_the_limit() -> None:
    curriculum = LinearCurriculum(2, 6, increment=3, every=10, iterations=100)
    assert [curriculum.level(n) for n in (0, 1, 10, 11, 20, 21)] == [2, 2, 2, 5, 5, 6]
    assert curriculum.goal() == 6
    curriculum.observe(0.0)
    assert curriculum.level(10) == 2


def test_it_doubles_once_the_average_stays_under_the_threshold() -> None:
    curriculum = ExponentialCurriculum(3, 0, threshold=0.1, window=3)
    # the mean of three: 0.3, 0.2, 0.1 (not under it), 0.05; then three anew
    assert grown(curriculum, [0.7, 0.2, 0.0, 0.4]) == [3, 3, 3, 3]
    assert grown(curriculum, [-0.1, 0.0]) == [3, 3]
    assert grown(curriculum, [0.1]) == [6]
    assert grown(curriculum, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]) == [6, 6, 12, 12, 12, 24]
    assert curriculum.goal() is None


def test_at_the_threshold_it_does_not_double() -> None:
    curriculum = ExponentialCurriculum(3, 0, threshold=0.5, window=2)
    assert grown(curriculum, [1.0, 0.0, 1.0, 0.0, 0.75, 0.0]) == [3, 3, 3, 3, 6, 6]


def test_a_loss_that_is_not_a_number_does_not_double_it() -> None:
    curriculum = ExponentialCurriculum(3, 0, threshold=0.1, window=2)
    assert grown(curriculum, [math.nan, 0.0, 0.0]) == [3, 3, 6]


def test_it_doubles_up_to_the_limit() -> None:
    curriculum = ExponentialCurriculum(3, 10, threshold=0.1, window=1)
    assert curriculum.goal() is None
    assert grown(curriculum, [0.0, 0.0]) == [6, 10]
    assert curriculum.goal() == 10
    assert grown(curriculum, [0.0]) == [10]
    assert ExponentialCurriculum(30, 10, threshold=0.1, window=1).level(0) == 10


def test_the_adaptive_curriculum_grows_by_as_much_each_time() -> None:
    curriculum = AdaptiveCurriculum(3, 8, threshold=0.1, window=2, increment=2)
    assert grown(curriculum, [0.0, 0.0, 0.3, 0.0, 0.1, 0.0]) == [3, 5, 5, 5, 7, 7]
    assert curriculum.goal() is None
    assert grown(curriculum, [0.0, 0.0, 0.0, 0.0]) == [8, 8, 8, 8]
    assert curriculum.goal() == 8


@pytest.mark.parametrize(("asked", "level"), [(0, 5), (1, 5), (3, 7)])
def test_the_adaptive_curriculum_grows_by_one_at_least(asked: int, level: int) -> None:
    options = f"-curriculum adaptive -curriculum_increment {asked} -curriculum_window 1"
    curriculum = build_curriculum(build_parser("").parse_args(options.split()))
    curriculum.observe(0.0)
    assert curriculum.level(1) == level


@pytest.mark.parametrize("kind", ["linear", "exponential", "adaptive"])
@pytest.mark.parametrize(("asked", "longest", "limit"), [(0, 9, 9), (5, 9, 5), (12, 9, 9)])
def test_never_longer_than_there_can_be(kind: str, asked: int, longest: int, limit: int) -> None:
    options = f"-curriculum {kind} -curriculum_increment 9 -curriculum_freq 1 -iterations 9"
    options += f" -curriculum_threshold 1 -curriculum_window 1 -curriculum_limit {asked}"
    curriculum = build_curriculum(build_parser("").parse_args(options.split()), longest)
    for _ in range(5):
        curriculum.observe(0.0)
    assert curriculum.level(9) == curriculum.goal() == limit


def test_the_window_goes_on_after_resuming() -> None:
    losses = [0.0, 0.3, 0.1, 0.0, 0.1, 0.0, 0.0]
    whole = ExponentialCurriculum(3, 0, threshold=0.1, window=3)
    parts = ExponentialCurriculum(3, 0, threshold=0.1, window=3)
    levels = []
    for loss in losses:
        levels += grown(parts, [loss])
        saved = parts.state_dict()
        parts = ExponentialCurriculum(3, 0, threshold=0.1, window=3)
        parts.load_state_dict(saved)
    assert levels == grown(whole, losses) == [3, 3, 3, 3, 6, 6, 6]


def test_another_start_or_limit_after_resuming() -> None:
    saved = {"kind": "exponential", "level": 8, "losses": [0.0]}
    for start, limit, level in ((4, 0, 8), (16, 0, 16), (4, 6, 6), (4, 8, 8)):
        curriculum = ExponentialCurriculum(start, limit, threshold=0.1, window=2)
        curriculum.load_state_dict(saved)
        assert curriculum.level(1) == level
        curriculum.observe(0.0)  # the loss seen at another level does not count
        assert curriculum.level(2) == (16 if (start, limit) == (4, 0) else level)


EXPONENTIAL = "-curriculum exponential -curriculum_threshold 9 -curriculum_window 2".split()


def test_an_exponential_run(tmp_path: Path) -> None:
    saved = run(tmp_path, *EXPONENTIAL, "-iterations", "5", "-sequence_max_length", "1")
    rows = [line.split(",") for line in (tmp_path / "copy_dnc.csv").read_text().splitlines()]
    assert rows[0][-1] == "level"
    assert [row[-1] for row in rows[1:]] == ["1", "1", "2", "2", "4"]
    assert all(int(row[1]) <= int(row[-1]) for row in rows[1:])
    assert saved["curriculum"]["level"] == 4
    assert len(saved["curriculum"]["losses"]) == 1


def test_solved_with_the_exponential_curriculum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only at the limit: however well it does at a shorter length, it can grow."""
    lengths: list[int] = []

    def perfect(_self: Run, length: int, _generator: object) -> tuple[float]:
        lengths.append(length)
        return (0.0,)

    monkeypatch.setattr(Run, "test", perfect)
    unlimited = train(*EXPONENTIAL)
    assert not unlimited.check_solved()
    limited = train(*EXPONENTIAL, "-curriculum_limit", "5")
    limited.train_once()
    assert not limited.check_solved()
    assert not lengths
    limited.train_once()
    assert limited.check_solved()
    assert lengths == [5, 5, 5]


def test_another_curriculum_after_resuming(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "4")
    saved = ["-resume", str(tmp_path / "copy_dnc.pt"), "-iterations"]
    after = run(tmp_path, *saved, "6", *EXPONENTIAL)
    assert after["curriculum"] == {"kind": "exponential", "level": 6, "losses": []}
    after = run(tmp_path, *saved, "7", "-curriculum", "adaptive", "-curriculum_increment", "2")
    assert (after["curriculum"]["kind"], after["curriculum"]["level"]) == ("adaptive", 3)
    assert len(after["curriculum"]["losses"]) == 1  # those of another curriculum do not count
    after = run(tmp_path, *saved, "8", "-curriculum", "linear")
    assert after["curriculum"] == {"kind": "linear"}


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("none", [8, 8, 8, 8]),
        ("linear", [8, 6, 4, 2]),
        ("cosine", [8, 4 + 4 * math.sqrt(0.5), 4, 4 - 4 * math.sqrt(0.5)]),
    ],
)
def test_the_learning_rate(name: str, rates: list[float]) -> None:
    options = ("-lr", "8", "-optim", "sgd", "-scheduler", name, "-iterations", "4")
    training = train(*options)
    assert [training.train_once().learning_rate for _ in range(4)] == pytest.approx(rates)


@pytest.mark.parametrize("kind", ["exponential", "adaptive"])
def test_scheduler_and_curriculum_continue_bit_for_bit(kind: str, tmp_path: Path) -> None:
    options = (*EXPONENTIAL, "-curriculum", kind, "-curriculum_limit", "5", "-scheduler", "cosine")
    options = (*options, "-iterations", "12", "-lr", "0.1")
    run(tmp_path / "whole", *options)
    interrupted = tmp_path / "parts"
    run_killed(interrupted, 9, *options)
    run(interrupted, "-resume", str(interrupted / "copy_dnc.pt"))  # from iteration 8
    assert_same_run(tmp_path / "whole", interrupted)


def test_another_rate_after_resuming_is_as_if_it_had_been_from_the_start(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "2", "-lr", "1", "-scheduler", "linear")
    saved = str(tmp_path / "copy_dnc.pt")
    run(tmp_path, "-resume", saved, "-iterations", "8", "-lr", "4")
    rates = [line.split(",")[-2] for line in (tmp_path / "copy_dnc.csv").read_text().splitlines()]
    assert [float(rate) for rate in rates[1:]] == [1, 0.5, 3, 2.5, 2, 1.5, 1, 0.5]
