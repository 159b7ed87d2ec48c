"""What a fault is: a change of one place in one file, and the tests that must notice it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Fault"]


@dataclass(frozen=True)
class Fault:
    """A mistake of the kind that somebody who maintains this makes."""

    name: str  # what is wrong, in words
    file: str  # from the root
    old: str  # occurs once there
    new: str
    tests: tuple[str, ...]  # files or node ids of pytest, from the root
    only: str = ""  # pytest's -k
    needs: str = ""  # a package without which it is left out
    hangs: bool = False  # it is noticed by a run that does not end
    no_fault: str = ""  # why it changes nothing, where that was proved; then it is not planted
