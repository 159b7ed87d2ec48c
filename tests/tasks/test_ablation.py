"""What options do to learning: the commands that show it, on runs of a few iterations."""

from __future__ import annotations

import csv
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

import ablation
import larger_memory
import script_runs
import training
from copy_task import CopyTask
from learning_lines import Line, Outcome
from options import build_parser
from small_runs import SMALL

SHORT = " ".join(SMALL) + " -iterations 3"


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process of its own would do; tests/tasks/test_learning.py has those."""

    def run(command: list[str], **_: Any) -> CompletedProcess[bytes]:
        training.main(CopyTask(), "", command[2:])
        return CompletedProcess(command, 0)

    monkeypatch.setattr(script_runs.subprocess, "run", run)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_ablation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables and figure of real runs; the SDNC without what only the DNC has; nothing twice."""
    dnc = Line("copy, DNC", "nothing", CopyTask, SHORT, (2, 4), lambda found: found.solved)
    sdnc = dnc._replace(title="copy, SDNC", options=f"{SHORT} -memory_type sdnc")
    monkeypatch.setattr(ablation, "STUDIES", {"dnc": dnc, "sdnc": sdnc})
    where = [
        "-runs",
        str(tmp_path / "runs"),
        "-out",
        str(tmp_path / "out"),
        "-seeds",
        "3",
        "-jobs",
        "1",
    ]
    chosen = ["-studies", "dnc", "sdnc", "-variants", "none", "two write heads"]
    ablation.main([*where, *chosen])
    printed = capsys.readouterr().out
    assert printed.count("not solved; bit error 0.") == 3
    rows = rows_of(tmp_path / "out" / "ablation.csv")
    options = {(row["study"], row["option"]) for row in rows}
    assert options == {("dnc", "none"), ("dnc", "two write heads"), ("sdnc", "none")}
    assert {row["length"] for row in rows} == {"2", "4"}
    assert len({row["bit error"] for row in rows}) > 2
    table = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8").splitlines()
    assert table[0] == "| Option | copy, DNC | copy, SDNC |"
    assert table[-1].startswith("| two write heads | not solved (0 of 1); ")
    assert table[-1].endswith("| – |")
    figure = (tmp_path / "out" / "ablation.png").read_bytes()
    assert figure.startswith(b"\x89PNG")

    monkeypatch.setattr(script_runs.subprocess, "run", None)
    ablation.main([*where, *chosen])
    monkeypatch.setitem(ablation.VARIANTS, "none", "-masking")
    with pytest.raises(SystemExit, match=r"dnc_none_3 .* -masking False \(here True\): "):
        ablation.main([*where, *chosen])
    assert (tmp_path / "out" / "ablation.png").read_bytes() == figure


@pytest.mark.parametrize(
    ("iterations", "cell"),
    [
        ((300, 100, 200), "200; 1.2 %"),
        ((300, None, 200), "300 (2 of 3); 1.2 %"),
        ((None, None, 200), "not solved (1 of 3); 1.2 %"),
    ],
)
def test_what_stands_in_the_table(iterations: tuple[int | None, ...], cell: str) -> None:
    """Medians, one that was not solved counting as longer than any."""
    line = ablation.STUDIES["copy"]
    errors = (0.5, 0.0119, 0.001)
    runs = [
        Outcome(own or 4000, own is not None, 8, {8: (0.0,), 16: (error,)})
        for own, error in zip(iterations, errors, strict=True)
    ]
    assert ablation._cell(line, runs) == cell


def test_all_options_are_options() -> None:
    for name, line in ablation.STUDIES.items():
        task = line.task()
        parser = build_parser("", task.add_options, **task.defaults)
        for variant, options in ablation.VARIANTS.items():
            if "sdnc" not in name or variant not in ablation.OF_THE_DNC:
                parser.parse_args(f"{line.options} {options}".split())


def test_a_larger_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(larger_memory, "LINE", larger_memory.LINE._replace(options=SHORT))
    where: list[Any] = ["-runs", str(tmp_path / "runs"), "-out", str(tmp_path / "out")]
    points = "-slots 4 9 -temperatures 1 2 -lengths 2 5 -seeds 0 -jobs 1 -variants none".split()
    larger_memory.main([*where, *points])
    rows = rows_of(tmp_path / "out" / "larger_memory.csv")
    assert len(rows) == 2 * 2 * 2
    errors = {(row["slots"], row["temperature"], row["length"]): row["bit error"] for row in rows}
    assert len(set(errors.values())) > 1
    table = (tmp_path / "out" / "larger_memory.md").read_text(encoding="utf-8").splitlines()
    assert table[0] == "| Option | Slots | Temperature | 2 | 5 |"
    assert table[2].startswith("| none | 4 | 1 | ")
    monkeypatch.setitem(larger_memory.VARIANTS, "none", "-clip 7")
    with pytest.raises(SystemExit, match=r"none_0 .* -clip 50.0 \(here 7.0\): "):
        larger_memory.main([*where, *points])
