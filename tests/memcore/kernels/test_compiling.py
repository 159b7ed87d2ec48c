"""What was compiled is kept on the disk, and where it cannot be kept kernels work all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

ROOT = Path(__file__).parents[3]
COMPILE = """
from memcore.kernels import memories
entry = memories.DAM_BACKWARD[4]
assert entry.address
print(entry._compiled.cache_hits)
"""


def python(code: str, **environment: str) -> str:
    """What a new process prints."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    where = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert python(COMPILE, **where).strip() == "0"
    assert python(COMPILE, **where).strip() == "1"


STEP = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
import torch
from memcore import dam
state = dam.init_state(5, 4, 2)
state = type(state)(*(field[None] for field in state))
vectors = torch.ones(1, dam.interface_size(4, 2))
reads, _ = dam.batched_step(state, vectors, backend="numba")
expected, _ = dam.batched_step(state, vectors, backend="reference")
torch.testing.assert_close(reads, expected)
print("equal")
"""


# As on a system where nothing can be written: to root, who runs this in a container, nothing is.
NOWHERE = """
import tempfile
def refuse(*arguments, **options):
    raise PermissionError(13, "Permission denied")
tempfile.TemporaryFile = refuse  # by which numba tries whether a place will do
"""
FULL = """
import numba.core.caching
def refuse(*arguments, **options):
    raise OSError(28, "No space left on device")
numba.core.caching.IndexDataCacheFile._open_for_write = refuse
"""


@pytest.mark.slow
@pytest.mark.parametrize("obstacle", [NOWHERE, FULL], ids=["nowhere", "full"])
def test_kernels_work_where_nothing_can_be_kept(tmp_path: Path, obstacle: str) -> None:
    *told, last = python(obstacle + STEP, NUMBA_CACHE_DIR=str(tmp_path / "cache")).splitlines()
    assert last == "equal"
    assert told
    assert all(line.startswith("kernels are compiled for this process alone") for line in told)


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "content"), [("nbi", b""), ("nbc", b""), ("nbc", b"damaged")])
def test_damaged_files_are_compiled_again(tmp_path: Path, ending: str, content: bytes) -> None:
    """As a machine leaves them that lost its power."""
    where = {"NUMBA_CACHE_DIR": str(tmp_path)}
    assert python(STEP, **where).splitlines() == ["equal"]
    files = list(tmp_path.rglob(f"*.{ending}"))
    assert files
    for file in files:
        file.write_bytes(content)
    assert python(STEP, **where).splitlines()[-1] == "equal"


def test_every_file_that_is_compiled_is_part_of_the_digest() -> None:
    """A kernel of older sources would go on being taken from the disk."""
    from memcore.kernels import compiling

    folder = Path(compiling.__file__).parent
    known = {path.stem for path in folder.glob("*.py")}
    assert known > compiling.PLAIN_PYTHON
    for name in compiling.PLAIN_PYTHON:
        source = (folder / f"{name}.py").read_text(encoding="utf-8")
        assert "@kernel" not in source, name
        assert "@inlined" not in source, name
        assert "numba" not in source, name
    # What kernels are compiled from imports no file that is left out.
    for name in known - compiling.PLAIN_PYTHON - {"__init__"}:
        source = (folder / f"{name}.py").read_text(encoding="utf-8")
        for other in compiling.PLAIN_PYTHON:
            assert f"from memcore.kernels.{other} " not in source, (name, other)
            assert f"kernels import {other}" not in source, (name, other)


def test_entries_have_files_of_their_own() -> None:
    """numba numbers files by an index: two processes could give one number to two kernels."""
    from memcore.kernels import memories, sequence

    functions = [
        kind[size]._function
        for kind in (
            memories.DNC_FORWARD, memories.DNC_BACKWARD, memories.DAM_FORWARD,
            memories.DAM_BACKWARD, sequence.FORWARD, sequence.BACKWARD,
        )
        for size in (4, 8)
    ]  # fmt: skip
    places = {(own.__module__, own.__qualname__, own.__code__.co_firstlineno) for own in functions}
    assert len(places) == 6
