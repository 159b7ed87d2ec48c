"""The metrics of each iteration: as CSV, for TensorBoard, and as a picture."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import plots
from copy_task import CopyTask
from memcore.errors import how_to_install
from metrics import Averages, MetricsFile, Row, TensorBoard, read_metrics
from plots import save_curve_picture
from run import Run
from small_runs import SMALL, run, run_killed
from training import main

HEADER = "iteration,length,loss,bit error,learning rate,level\n"
LINES = ["1,2,0.5,0.25,0.1,3\n", "2,3,0.1,0.2,1e-05,3\n", "3,1,0.30000000000000004,0.0,0.1,3\n"]


def row(iteration: int) -> Row:
    rows = ((2, 0.5, (0.25,), 0.1), (3, 0.1, (0.2,), 1e-5), (1, 0.1 + 0.2, (0.0,), 0.1))
    return Row(iteration, *rows[iteration - 1], 3)


def write(path: Path, *iterations: int, after: int = 0) -> str:
    file = MetricsFile(path, ("bit error",), after)
    for iteration in iterations:
        file.add(row(iteration))
    file.close()
    return path.read_text()


def test_a_row_for_each_iteration(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert write(path, 1, 2, 3) == HEADER + "".join(LINES)
    columns = read_metrics(path)
    assert list(columns) == HEADER.strip().split(",")
    assert columns["loss"].tolist() == [0.5, 0.1, 0.1 + 0.2]
    assert write(path, 1) == HEADER + LINES[0]  # another run


@pytest.mark.parametrize("rest", ["", "".join(LINES[1:]), LINES[1] + "3,1,0.3", "2,3,0."])
def test_rows_after_the_checkpoint_are_cut_off(
    tmp_path: Path, rest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + LINES[0] + rest)
    assert write(path, 2, 3, after=1) == HEADER + "".join(LINES)
    assert not capsys.readouterr().out


def test_lost_rows_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    assert write(path, 3, after=2) == HEADER + LINES[2]
    assert capsys.readouterr().out == f"{path}: has 0 of the 2 rows so far; the others are lost\n"
    path.write_text(HEADER + LINES[0])
    assert write(path, 3, after=2) == HEADER + LINES[0] + LINES[2]
    assert capsys.readouterr().out == f"{path}: has 1 of the 2 rows so far; the others are lost\n"


@pytest.mark.parametrize("second", ["2,oops\n", "2,3,0.1,0.2,1e-05,x\n", "1,3,0.1,0.2,1e-05,3\n"])
def test_an_edited_row_ends_what_is_kept(
    tmp_path: Path, second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + LINES[0] + second)
    assert write(path, 3, after=2) == HEADER + LINES[0] + LINES[2]
    assert "has 1 of the 2 rows" in capsys.readouterr().out


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("mine\n")
    with pytest.raises(SystemExit, match="a.csv: not the metrics of this task; move it away"):
        write(path, 3, after=2)
    assert path.read_text() == "mine\n"


@pytest.mark.usefixtures("no_pictures")
def test_rows_are_on_the_disk_before_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[tuple[int, int]] = []
    save = Run.save

    def watched(self: Run) -> None:
        path = tmp_path / "copy_dnc.csv"
        rows.append((self.iteration, path.read_bytes().count(b"\n") - 1 if path.exists() else 0))
        save(self)

    monkeypatch.setattr(Run, "save", watched)
    run(tmp_path, "-iterations", "6")
    assert rows == [(0, 0), (4, 4), (6, 6)]


@pytest.mark.usefixtures("no_pictures")
def test_resuming_in_another_folder_takes_the_rows_along(tmp_path: Path) -> None:
    run(tmp_path / "whole", "-iterations", "6")
    run(tmp_path / "one", "-iterations", "4")
    before = (tmp_path / "one" / "copy_dnc.csv").read_bytes()
    run(tmp_path / "two", "-resume", str(tmp_path / "one" / "copy_dnc.pt"), "-iterations", "6")
    whole = (tmp_path / "whole" / "copy_dnc.csv").read_bytes()
    assert (tmp_path / "two" / "copy_dnc.csv").read_bytes() == whole
    assert (tmp_path / "one" / "copy_dnc.csv").read_bytes() == before


def test_averages_go_on() -> None:
    averages = Averages(1)
    averages.add(row(1))
    other = Averages(1)
    other.load_state_dict(averages.state_dict())
    other.add(row(2))
    assert other.take() == ((0.5 + 0.1) / 2, (0.25 + 0.2) / 2)
    other.add(row(1))
    assert other.take() == (0.5, 0.25)


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        read = module.EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


@pytest.mark.usefixtures("no_pictures")
def test_tensorboard_holds_the_same(tmp_path: Path) -> None:
    """Of a run that was killed after its checkpoint, resumed: each iteration once."""
    pytest.importorskip("tensorboard")
    run_killed(tmp_path, 6, "-iterations", "9", "-tensorboard")
    run(tmp_path, "-resume", str(tmp_path / "copy_dnc.pt"), "-tensorboard")
    columns = read_metrics(tmp_path / "copy_dnc.csv")
    scalars = events(tmp_path / "tensorboard" / "copy_dnc")
    assert scalars.keys() == {"loss", "bit_error", "learning_rate", "level"}
    for name, values in scalars.items():
        assert [step for step, _ in values] == list(range(1, 10))
        expected = columns[name.replace("_", " ")]
        np.testing.assert_allclose([value for _, value in values], expected, rtol=1e-6)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("memory", ["dnc", "sdnc"])
def test_tensorboard_holds_pictures_of_the_memory(
    tmp_path: Path, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the summaries; of a run that goes on, none twice."""
    pytest.importorskip("tensorboard")
    drawn: list[np.ndarray] = []
    monkeypatch.setattr(
        "watching.pixels", lambda figure: drawn.append(plots.pixels(figure)) or drawn[-1]
    )
    options = ["-memory_type", memory, "-sparse_reads", "2", "-tensorboard"]
    main(CopyTask(), "", [*SMALL, "-checkpoint_dir", str(tmp_path), *options, "-iterations", "6"])
    saved = str(tmp_path / f"copy_{memory}.pt")
    main(CopyTask(), "", [*SMALL, "-resume", saved, "-iterations", "10", "-tensorboard"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        folder = tmp_path / "tensorboard" / f"copy_{memory}"
        read = module.EventAccumulator(str(folder)).Reload()
    images = read.Images("memory")
    assert [image.step for image in images] == [5, 10]
    for image, expected in zip(images, drawn, strict=True):
        assert (image.height, image.width) == expected.shape[:2]
        with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), expected)


@pytest.mark.usefixtures("no_pictures")
def test_tensorboard_of_what_has_no_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    options = ["-memory_type", "none", "-tensorboard", "-iterations", "10"]
    main(CopyTask(), "", [*SMALL, "-checkpoint_dir", str(tmp_path), *options])
    printed = capsys.readouterr().out
    assert printed.count("-tensorboard: -memory_type none has none, training goes on without") == 1


def test_tensorboard_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert TensorBoard.open(tmp_path, (), 0) is None
    assert capsys.readouterr().out == (
        f"-tensorboard: tensorboard is not installed ({how_to_install('viz')}), "
        "training goes on without it\n"
    )


def test_the_curve_shows_what_it_is_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ("iteration", "loss", "bit error", "level")
    columns: dict[str, Any] = dict(zip(names, rng.random((4, 120)), strict=True))
    columns["iteration"] = np.arange(1, 121)
    columns["level"] = np.full(120, 4.0)

    def picture(**changed: Any) -> bytes:
        path = tmp_path / "curve.png"
        save_curve_picture(path, "copy", {**columns, **changed}, ("bit error",))
        return path.read_bytes()

    plain = picture()
    assert picture() == plain
    assert picture(level=np.full(120, 8.0)) == plain  # shown only if it changes
    assert picture(level=np.arange(120) // 60) != plain
    for name in ("loss", "bit error"):
        assert picture(**{name: 1 - columns[name]}) != plain


def test_the_curve_shows_every_metric(tmp_path: Path) -> None:
    names = ("iteration", "loss", "one", "two", "level")
    columns = {name: np.arange(1.0, 9.0) for name in names}
    path = tmp_path / "curve.png"
    pictures = set()
    for metrics in (("one",), ("one", "two")):
        save_curve_picture(path, "copy", columns, metrics)
        pictures.add(path.read_bytes())
    columns["two"] = columns["two"][::-1]
    save_curve_picture(path, "copy", columns, ("one", "two"))
    assert len(pictures | {path.read_bytes()}) == 3


def test_no_curve_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(CopyTask(), "", [*SMALL, "-checkpoint_dir", str(tmp_path), "-iterations", "0"])
    assert "no learning curve: nothing was trained\n" in capsys.readouterr().out
    assert not list(tmp_path.glob("*curve*"))


def test_averages_are_of_what_came_since() -> None:
    averages = Averages(1)
    averages.add(row(1))
    assert averages.take() == (0.5, 0.25)
    averages.add(row(2))
    averages.add(row(3))
    assert averages.take() == ((0.1 + 0.1 + 0.2) / 2, 0.1)
