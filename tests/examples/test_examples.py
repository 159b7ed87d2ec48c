"""The worked examples: each runs short as it is typed, and the trained ones learn what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from memcore.errors import how_to_install

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def run(
    name: str, *arguments: str, without: str = "", warnings: str = "error"
) -> subprocess.CompletedProcess[str]:
    """An example in a process of its own, ``without`` a package."""
    script = [str(ROOT / "examples" / f"{name}.py"), *arguments]
    if without:
        hide = f"import runpy, sys; sys.modules[{without!r}] = None; "
        script = ["-c", f"{hide}runpy.run_path({script[0]!r}, run_name='__main__')"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-W", warnings, "-W", "ignore:Implicitly", *script],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=900,
    )


def printed(name: str, *arguments: str, warnings: str = "error") -> str:
    done = run(name, *arguments, warnings=warnings)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def share(pattern: str, text: str) -> float:
    """The one number in per cent where a pattern has a group."""
    (found,) = re.findall(pattern, text)
    return float(found) / 100


def test_a_classifier_is_saved_and_loaded() -> None:
    said = printed("sequence_classifier", "--iterations", "2")
    assert "by chance 16.7%" in said
    assert said.endswith("saved and loaded, it says the same: True\n")


def test_a_policy_steps_in_its_environments() -> None:
    said = printed("gym_policy", "--updates", "2").splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "in the end",
        "the same policy, its state emptied at every step",
    ]


def test_a_neural_turing_machine_runs() -> None:
    said = printed("neural_turing_machine", "--iterations", "2")
    assert re.fullmatch(r"(length \d+: \d+\.\d\d% of the bits are wrong\n){2}", said)


def test_an_allocation_is_wrong_and_another_is_right() -> None:
    said = printed("own_allocation", "--examples", "20")
    assert "sorted_only is wrong:\nallocation_weighting: " in said
    assert "\nsmallest counterexample: sorted_only(usage=torch.tensor([" in said
    assert "\nby_comparison keeps every law\n" in said
    assert "agree on 20 usages" in said


@pytest.mark.skipif(torch.__version__ < "2.13", reason="torch.export saves it from 2.13 on")
def test_a_model_is_compiled_and_exported() -> None:
    """The compiler of torch that needs no other; what Inductor makes is a slow test."""
    said = printed("compile_and_export", "--compiler", "eager")
    assert len(re.findall(r": the same \(largest difference", said)) == 4
    assert "batch of 7" in said


@every_example
def test_it_is_short_and_has_a_page(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80
    page = (ROOT / "docs" / "examples" / f"{path.stem}.md").read_text(encoding="utf-8")
    assert f'```python\n--8<-- "examples/{path.name}"\n```' in page
    assert f"python examples/{path.name}" in page


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("gym_policy", "gymnasium", "examples"), ("own_allocation", "hypothesis", "testing")],
)
def test_a_missing_extra_is_named_in_one_line(name: str, package: str, extra: str) -> None:
    done = run(name, without=package)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"this example needs {package}: {how_to_install(extra)}\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_classifier_learns(seed: str) -> None:
    assert share(r"accuracy ([\d.]+)%", printed("sequence_classifier", "--seed", seed)) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_policy_learns(seed: str) -> None:
    """What no policy without memory can: a coin would be right half of the times."""
    said = printed("gym_policy", "--seed", seed)
    assert share(r"in the end: ([\d.]+)%", said) > 0.9
    assert 0.4 < share(r"emptied at every step: ([\d.]+)%", said) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1"])
def test_the_neural_turing_machine_learns(seed: str) -> None:
    assert share(r"length 5: ([\d.]+)%", printed("neural_turing_machine", "--seed", seed)) < 0.02


@pytest.mark.slow
def test_what_the_compiler_makes_is_the_same() -> None:
    """Inductor (torch 2.13) uses what torch itself calls deprecated."""
    said = printed("compile_and_export", warnings="ignore")
    assert len(re.findall(r": the same \(largest", said)) == 4
