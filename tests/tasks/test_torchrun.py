"""What `torchrun` starts, and starts again after a kill, is bit for bit what was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kills import NAME, SCRIPT, assert_same_run, written

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes in /proc"),
]
OPTIONS = (
    "-batch_size 4 -nhid 8 -nhlayer 2 -mem_slot 4 -mem_size 3 -read_heads 1 -dropout 0.2 "
    "-optim adam -lr 0.01 -scheduler cosine -sequence_max_length 1 -curriculum exponential "
    "-curriculum_threshold 0.7 -curriculum_window 30 -curriculum_limit 3 -summarize_freq 25 "
    "-check_freq 3 -iterations 600"
).split()


def begin(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    launcher += ["--max-restarts=3"]
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            [*launcher, str(SCRIPT), *OPTIONS, "-checkpoint_dir", str(folder), "-resume", "auto"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def process_of(rank: int, launcher: int) -> int | None:
    """The process of that rank, if it has been started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            told = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher and f"RANK={rank}".encode() in told:
            return int(folder.name)
    return None


def let_write(folder: Path, launcher: subprocess.Popen[bytes], checkpoints: int) -> None:
    before = written(folder)
    while checkpoints:
        now = written(folder)
        checkpoints -= now != before
        before = now
        assert launcher.poll() is None, (folder / "log").read_text()
        time.sleep(0.001)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchrun") / "whole"
    assert begin(folder).wait(300) == 0, (folder / "log").read_text()
    return folder


@pytest.mark.parametrize("ranks", [(1,), (0,), (0, 1)], ids=str)
def test_a_killed_process_is_started_again(
    tmp_path: Path, left_alone: Path, ranks: tuple[int, ...]
) -> None:
    """Shows from where it went on: `pytest -m slow -s -k started_again`."""
    folder = tmp_path / "killed"
    launcher = begin(folder)
    try:
        for rank in ranks:
            let_write(folder, launcher, 20)
            process = process_of(rank, launcher.pid)
            assert process is not None
            os.kill(process, signal.SIGKILL)
            while process_of(rank, launcher.pid) in (process, None):
                assert launcher.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        assert launcher.wait(300) == 0, (folder / "log").read_text()
    finally:
        launcher.terminate()
        launcher.wait()
    log = (folder / "log").read_text()
    went_on = [line for line in log.splitlines() if line.startswith("going on from")]
    print(f"killed {ranks}: " + "; ".join(line.partition(" of ")[0] for line in went_on))
    assert len(went_on) == len(ranks)
    assert_same_run(left_alone, folder)
    rows = (folder / f"{NAME}.csv").read_bytes().count(b"\n") - 1
    assert rows == 600
