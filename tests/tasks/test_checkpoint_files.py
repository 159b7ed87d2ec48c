"""Which checkpoint a run goes on from, and which are refused or replaced."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import FORMAT, before
from copy_task import CopyTask
from kills import assert_same_run
from options import build_parser, wrong_option
from repeat_copy_task import RepeatCopyTask
from run import Run
from saved_parts import unlike
from small_runs import SMALL, run
from training import main

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or directory"),
        (b"", "not a readable checkpoint"),
        (b"hello\n", "not a readable checkpoint"),
        ("truncated", "not a readable checkpoint"),
        ({"model": 1}, "not a checkpoint of these tasks"),
        (
            {"format": "memcore task checkpoint, version 1"},
            "version 1, of which this program reads",
        ),
        ({"format": FORMAT, "task": "argmax"}, "a checkpoint of the argmax task, not copy"),
        ({"format": FORMAT, "task": "copy"}, "not a whole checkpoint, its options is missing"),
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
            _truncate(path)
            before(path).unlink()
        else:
            extra = ["-nhid", "9"]
    found = path.read_bytes() if path.exists() else None
    with pytest.raises(SystemExit, match=message):
        main(CopyTask(), "", ["-resume", str(path), *extra])
    assert (path.read_bytes() if path.exists() else None) == found


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def _flip_a_bit(path: Path) -> None:
    """Of the parameters."""
    content = bytearray(path.read_bytes())
    largest = max(zipfile.ZipFile(path).infolist(), key=lambda part: part.file_size)
    content[largest.header_offset + largest.file_size // 2 + 100] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_flip_a_bit, "not a readable checkpoint (BadZipFile)"),
        (_truncate, "not a readable checkpoint"),
        (Path.unlink, "no such file or directory"),
        (lambda path: path.write_text("foreign"), "not a readable checkpoint"),
        (lambda path: torch.save({"format": FORMAT, "task": "argmax"}, path), "of the argmax task"),
    ],
)
def test_the_checkpoint_before_is_used(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], Any],
    reason: str,
) -> None:
    run(tmp_path / "whole", "-iterations", "10")
    run(tmp_path / "parts", "-iterations", "10")
    path = tmp_path / "parts" / "copy_dnc.pt"
    spoil(path)
    capsys.readouterr()
    whole = before(path).read_bytes()
    main(CopyTask(), "", ["-resume", str(path)])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"-resume {path}: ")
    assert reason in printed[0]
    assert printed[0].endswith(f"; taking the one before it, {before(path)}")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert before(path).read_bytes() == whole  # not replaced by what was spoiled


PARTS = "options iteration solved goal model optimizer scheduler curriculum averages".split()
PARTS += ["data", "random"]


@pytest.mark.parametrize("part", PARTS)
def test_a_damaged_part_is_told(tmp_path: Path, part: str) -> None:
    """Missing, of another kind, or of the right kind with nothing right in it."""
    saved = run(tmp_path, "-iterations", "4")
    path = tmp_path / "copy_dnc.pt"
    before(path).unlink()
    metrics = (tmp_path / "copy_dnc.csv").read_bytes()
    without = {name: value for name, value in saved.items() if name != part}
    damaged = [without, {**without, part: "x"}]
    if isinstance(saved[part], dict) and part != "options":  # of those the defaults are left
        damaged.append({**without, part: {}})
    if isinstance(saved[part], torch.Tensor):
        damaged.append({**without, part: torch.zeros(3)})
    for content in damaged:
        torch.save(content, path)
        with pytest.raises(SystemExit, match=r"-resume .*copy_dnc.pt: (not a whole|the options)"):
            main(CopyTask(), "", ["-resume", str(path), *SMALL])
    assert (tmp_path / "copy_dnc.csv").read_bytes() == metrics


def test_what_is_no_name_of_a_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "4")
    assert before(tmp_path / "copy_dnc.pt").exists()
    mistyped = tmp_path / "copy_dnc.csv"
    with pytest.raises(SystemExit, match=r"-resume .*copy_dnc.csv: not a readable checkpoint"):
        main(CopyTask(), "", ["-resume", str(mistyped)])
    with pytest.raises(SystemExit, match=r"-resume .*: is a directory"):
        main(CopyTask(), "", ["-resume", str(tmp_path)])


def test_neither_checkpoint_can_be_used(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "4")
    path = tmp_path / "copy_dnc.pt"
    _truncate(path)
    before(path).write_text("foreign")
    message = "copy_dnc.pt: not a readable .*; the one before it, copy_dnc.previous.pt: not a read"
    with pytest.raises(SystemExit, match=message):
        main(CopyTask(), "", ["-resume", str(path)])


def test_a_run_leaves_no_checkpoint_of_an_earlier_one(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "4", "-seed", "1")
    run(tmp_path, "-iterations", "0", "-overwrite")
    assert not before(tmp_path / "copy_dnc.pt").exists()
    run(tmp_path, "-iterations", "4", "-overwrite")
    saved = torch.load(before(tmp_path / "copy_dnc.pt"), weights_only=True)
    assert (saved["iteration"], saved["options"]["seed"]) == (0, 0)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"format": FORMAT, "task": Evil()}, path)
    with pytest.raises(SystemExit, match="not a readable checkpoint"):
        main(CopyTask(), "", ["-resume", str(path)])
    assert not (tmp_path / "touched").exists()


def test_resuming_a_run_that_is_done_leaves_its_checkpoints(tmp_path: Path) -> None:
    run(tmp_path, "-iterations", "4")
    path = tmp_path / "copy_dnc.pt"
    found = [file.read_bytes() for file in (path, before(path))]
    run(tmp_path, "-resume", str(path), "-iterations", "4")
    assert [file.read_bytes() for file in (path, before(path))] == found


def test_resuming_into_the_folder_of_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "one", "-iterations", "4")
    run(tmp_path / "two", "-iterations", "4", "-seed", "1")
    saved = str(tmp_path / "one" / "copy_dnc.pt")
    capsys.readouterr()
    path = tmp_path / "two" / "copy_dnc.pt"
    with pytest.raises(SystemExit, match="two/copy_dnc.pt is of another run"):
        run(tmp_path / "two", "-resume", saved, "-seed", "0")
    after = run(tmp_path / "two", "-resume", saved, "-seed", "0", "-overwrite")
    assert f"{path} is of another run and is replaced" in capsys.readouterr().out
    assert (after["iteration"], after["options"]["seed"]) == (4, 0)
    assert not before(path).exists()


def test_an_index_that_is_not_here_can_be_overruled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint of another machine is whole."""
    path = tmp_path / "copy_dnc.pt"
    saved = run(tmp_path, "-iterations", "4")
    torch.save(saved | {"options": saved["options"] | {"index": "faiss"}}, path)

    def missing(name: str, choice: str) -> None:
        if choice == "faiss":
            raise ImportError("index 'faiss' needs the package faiss")

    monkeypatch.setattr("options.check_choice", missing)
    with pytest.raises(SystemExit):
        main(CopyTask(), "", ["-resume", str(path), "-iterations", "5"])
    assert "argument -index/--index: index 'faiss' needs" in capsys.readouterr().err
    resumed = run(tmp_path, "-resume", str(path), "-iterations", "5", "-index", "exact")
    assert (resumed["iteration"], resumed["options"]["index"]) == (5, "exact")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a checkpoint, what holds it included."""
    found = [path] if path else []
    if isinstance(value, dict):
        return found + [way for key, own in value.items() for way in _leaves(own, (*path, key))]
    if isinstance(value, list):
        return found + [way for at, own in enumerate(value) for way in _leaves(own, (*path, at))]
    return found


def _with(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy in which something else stands at the end of a way."""
    if not path:
        return value
    copied = dict(content) if isinstance(content, dict) else list(content)
    copied[path[0]] = _with(content[path[0]], path[1:], value)
    return copied


@pytest.mark.parametrize(
    ("optimizer", "curriculum"),
    [("adam", "exponential"), pytest.param("rmsprop", "linear", marks=pytest.mark.slow)],
)
def test_a_wrong_value_anywhere_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    optimizer: str,
    curriculum: str,
) -> None:
    """Or it does no harm: an iteration can be trained from there."""
    saved = run(
        tmp_path, "-iterations", "3", "-optim", optimizer, "-curriculum", curriculum, "-nhid", "3"
    )
    before(tmp_path / "copy_dnc.pt").unlink()
    path, refused, taken = tmp_path / "copy_dnc.pt", 0, []
    monkeypatch.setattr("training.report", lambda run: None)
    monkeypatch.setattr("training._sinks", lambda *arguments: [])
    monkeypatch.setattr(Run, "save", lambda self: None)
    others = ["x", None, -1, {}, torch.ones(2), 10**30]
    for way in _leaves(saved):
        for value in others:
            content = _with(saved, way, value)
            monkeypatch.setattr(torch, "load", lambda *_, content=content, **__: content)
            before_it = torch.get_rng_state()
            told = _refusal(["-resume", str(path), "-iterations", "4"])
            torch.set_rng_state(before_it)
            if told is None:
                taken.append((way, value))
            else:
                assert len(told.splitlines()) == 1, (way, value, told)
                refused += 1
    # What is taken is right, or is worked out anew: the schedule, the optimizer's settings.
    assert refused > 400
    capsys.readouterr()


@pytest.mark.parametrize("value", [0, -1, 2**31, 10**30, 2.5, "x", None, True, {}])
def test_a_wrong_value_of_an_option_of_a_task_alone(value: Any) -> None:
    parser = build_parser("", RepeatCopyTask().add_options)
    assert wrong_option(parser, {"max_repeats": 3}) is None
    assert wrong_option(parser, {"max_repeats": value}) == f"option max_repeats is {value!r}"


def _refusal(arguments: list[str]) -> str | None:
    """The line with which the program ends, if it does not train."""
    try:
        main(CopyTask(), "", arguments)
    except SystemExit as error:
        return str(error)
    return None


def test_a_truth_value_is_no_whole_number() -> None:
    """Though Python takes it for one."""
    assert unlike("count", True, 1) == "count is True"
    assert unlike("solved", 1, True) == "solved is 1"
    assert unlike("parts", {"level": [True]}, {"level": [1]}) == "parts['level'][0] is True"
    assert unlike("sum", 1, 0.5) is None
