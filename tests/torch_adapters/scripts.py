"""Scripts beside the tests, for what needs a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["script"]

HERE = Path(__file__).parent


def script(name: str, *arguments: str) -> list[dict[str, Any]]:
    """What each line of its output says, as JSON."""
    command = [sys.executable, str(HERE / name), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
