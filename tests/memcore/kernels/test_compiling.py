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
entry = memories.DAM.backward[4]
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
