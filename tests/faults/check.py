"""Plant each fault in a copy of this checkout, and see whether the tests that should notice do."""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from fault import Fault
from planted import FAULTS

ROOT = Path(__file__).resolve().parents[2]
KERNELS = "memcore/kernels"
AGES = count(2_000_000_000)  # seconds
# What is no wrong answer, but no program any more.
BROKEN = re.compile(
    r"\b(ImportError|ModuleNotFoundError|SyntaxError|IndentationError|NameError|UnboundLocalError"
    r"|TypingError|LoweringError|collection failure)\b"
)


class Verdict(NamedTuple):
    """What a run of tests said."""

    kind: str  # 'passed', 'failed', 'broken', 'hung', 'died' or 'empty'
    why: str


def main(argv: Sequence[str] | None = None) -> int:
    """Check the faults asked for; 1 where one was not noticed."""
    options = _parse(argv)
    unknown = set(options.names) - {fault.name for fault in FAULTS}
    chosen = [fault for fault in FAULTS if _is_chosen(fault, options)]
    if unknown or not chosen:
        sys.exit(
            f"there is no such fault{': ' * bool(unknown)}{', '.join(unknown)}; -list shows all"
        )
    for fault in chosen:
        _text_with(fault, ROOT)
    if options.list:
        for fault in chosen:
            print(f"{fault.file}: {fault.name}")
        return 0
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="memcore-faults-") as folder:
        place = Path(folder) / "checkout"
        _copy(place)
        _check_imports(place)
        planted = [fault for fault in chosen if _is_planted(fault)]
        if not options.no_baseline and not _baseline(place, planted):
            return 1
        counts = Counter(_try(place, fault, options.timeout) for fault in planted)
    print(
        f"{len(chosen)} faults: {counts['caught']} caught, {counts['SURVIVED']} survived, "
        f"{counts['BROKEN']} broken, {len(chosen) - len(planted)} not planted; "
        f"{time.perf_counter() - begun:.0f} s"
    )
    return int(counts["caught"] != len(planted))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="names of faults, whole; none: all")
    parser.add_argument("-k", metavar="TEXT", help="those whose name or file holds this")
    parser.add_argument("-list", action="store_true", help="say which there are, and run nothing")
    parser.add_argument(
        "-no-baseline", action="store_true", help="do not run their tests without a fault first"
    )
    parser.add_argument(
        "-timeout", type=float, default=300, help="seconds for the tests of a fault (300)"
    )
    return parser.parse_args(argv)


def _is_chosen(fault: Fault, options: argparse.Namespace) -> bool:
    if options.names and fault.name not in options.names:
        return False
    return options.k is None or options.k in fault.name or options.k in fault.file


def _is_planted(fault: Fault) -> bool:
    """Whether it can be; else a line that says why not."""
    if fault.no_fault:
        print(f"no fault           {fault.name}: {fault.no_fault}")
        return False
    if fault.needs and find_spec(fault.needs) is None:
        print(f"left out           {fault.name}: {fault.needs} is not installed")
        return False
    return True


def _text_with(fault: Fault, place: Path) -> str:
    """The file with the fault in it."""
    path = place / fault.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if (found := text.count(fault.old)) != 1:
        sys.exit(f"{fault.name}: what it changes occurs {found} times in {fault.file}, not once")
    return text.replace(fault.old, fault.new)


def _copy(place: Path) -> None:
    """The files that git knows, as they are at present."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)


def _environment(place: Path, cache: str = "numba") -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(place),
        "PYTHONPYCACHEPREFIX": str(place.parent / "bytecode"),
        "PYTEST_ADDOPTS": "",
        "HYPOTHESIS_PROFILE": "ci",
        "NUMBA_CACHE_DIR": str(place.parent / cache),
    }


def _check_imports(place: Path) -> None:
    """End the program unless it is the copy that is imported."""
    code = "import memcore, torch_adapters; print(memcore.__file__, torch_adapters.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place, env=_environment(place), capture_output=True, text=True,
    )  # fmt: skip
    if found.returncode:
        sys.exit("".join(found.stderr.strip().splitlines()[-1:]))
    for path in found.stdout.split():
        if place.resolve() not in Path(path).resolve().parents:
            sys.exit(f"{path} is imported, not the copy of the checkout in {place}")


def _baseline(place: Path, faults: Iterable[Fault]) -> bool:
    """Whether all tests pass without a fault."""
    tests: dict[str, list[str]] = {}
    for fault in faults:
        tests.setdefault(fault.only, []).extend(fault.tests)
    begun = time.perf_counter()
    for only, own in tests.items():
        verdict = _run(place, list(dict.fromkeys(own)), only, None, _environment(place))
        if verdict.kind != "passed":
            print(f"without a fault: {verdict.kind}, {verdict.why}")
            return False
    print(f"without a fault all pass, {time.perf_counter() - begun:.0f} s", flush=True)
    return True


def _try(place: Path, fault: Fault, timeout: float) -> str:
    """Plant one fault, run its tests, and take it out again."""
    path = place / fault.file
    kept = path.with_name(path.name + ".kept")
    text, begun = _text_with(fault, place), time.perf_counter()
    # Machine code of other kernels must not be found, nor this be left to be found.
    own = _is_compiled(place, fault.file)
    environment = _environment(place, "numba-of-a-fault" if own else "numba")
    shutil.copy2(path, kept)
    try:
        path.write_text(text, encoding="utf-8")
        # Python knows what it compiled by length and age: of no two faults these are the same.
        age = next(AGES)
        os.utime(path, (age, age))
        verdict = _run(place, fault.tests, fault.only, timeout, environment)
    finally:
        os.replace(kept, path)  # as old as it was
        if own:
            shutil.rmtree(environment["NUMBA_CACHE_DIR"], ignore_errors=True)
    expected = "hung" if fault.hangs else "failed"
    answers = {expected: "caught", "passed": "SURVIVED"}
    answer = answers.get(verdict.kind, "BROKEN")
    detail = verdict.why if answer == "caught" else f"{verdict.kind}, {verdict.why}"
    spent = f"{time.perf_counter() - begun:.1f} s"
    print(f"{answer:8} {spent:>8}  {fault.name} ({detail})", flush=True)
    return answer


def _is_compiled(place: Path, file: str) -> bool:
    """Whether numba compiles what stands in a file."""
    path = Path(file)
    if path.parent.as_posix() != KERNELS:
        return False
    source = (place / KERNELS / "compiling.py").read_text(encoding="utf-8")
    plain = next(
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PLAIN_PYTHON"
    )
    return path.stem not in plain


def _run(
    place: Path,
    tests: Sequence[str],
    only: str,
    timeout: float | None,
    environment: dict[str, str],
) -> Verdict:
    """Run tests in the copy until one fails."""
    report = place.parent / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"--junitxml={report}", *tests, *(["-k", only] if only else [])]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout)
        except BaseException as error:
            _kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                return Verdict("hung", f"not done after {timeout:g} s")
            raise
        output.seek(0)
        last = output.read().decode(errors="replace").strip().splitlines()[-1:]
    if code == 4:  # of pytest: it finds no such tests, or cannot import their file
        return Verdict("broken", "".join(last))
    if not report.is_file():
        return Verdict("died", f"pytest ended with {code}: {''.join(last)}")
    return _read(report)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The tests, and what they have started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _read(report: Path) -> Verdict:
    """What a report of pytest says."""
    ran = 0
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        where = f"{case.get('classname', '')}::{case.get('name', '')}"
        ran += case.find("skipped") is None
        for kind in ("failure", "error"):
            if (found := case.find(kind)) is not None:
                # The exception's name comes before its text.
                said = found.get("message", "").partition(":")[0]
                return Verdict("broken" if BROKEN.search(said) else "failed", where)
    return Verdict("passed", f"{ran} tests") if ran else Verdict("empty", "no test was run")


if __name__ == "__main__":
    sys.exit(main())
