"""What scaling.py answers where there is nothing to measure; measuring is for a quiet machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import scaling


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-most 3", "-most 3: expected at least -least, 6"),
        ("-most 99", "argument -most/--most: expected at least 1 and at most 40, got 99"),
        ("-least 1", "argument -least/--least: expected at least 2 and at most 40, got 1"),
        ("-stride 0", "argument -stride/--stride: expected at least 1, got 0"),
        ("-repeats 0", "argument -repeats/--repeats: expected at least 1, got 0"),
    ],
)
def test_a_sweep_over_nothing_is_refused(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        scaling.main([*arguments.split(), "-out", str(tmp_path / "new")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
