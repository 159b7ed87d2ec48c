"""An edit of several buffers at once that says afterwards what it touched."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from memcore.persistent import versions as versions_module
from memcore.persistent.buffers import Buffers
from memcore.persistent.versions import Edited, Version, edit_together, under


def content(version: Version) -> list[int]:
    return version.look(lambda buffers: buffers[0].flatten().tolist())


def set_to(rows: list[int], value: int, buffers: Buffers) -> Edited:
    index = torch.tensor(rows)
    lost = tuple(buffer[index].clone() for buffer in buffers)
    for buffer in buffers:
        buffer[index] = value
    return index, lost


def all_to(rows: list[int], value: int) -> Any:
    def change(buffers: list[Buffers], edited: list[Edited]) -> None:
        edited += [set_to(rows, value, own) for own in buffers]

    return change


@pytest.fixture
def _patience() -> Iterator[None]:
    """What goes round for ever is stopped."""
    if not hasattr(signal, "SIGALRM"):
        pytest.skip("no alarms here")

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_patience")
@pytest.mark.parametrize("oldest", [True, False])
def test_an_interrupt_where_any_function_begins(oldest: bool) -> None:
    """That is where Python looks for them: all versions stay what they are."""
    which = 0
    for which in itertools.count():
        held, seen = [Version((torch.zeros(3), torch.zeros(3)))], 0
        for value in (1, 2, 3):
            (newer,) = edit_together(held[-1:], all_to([0, value - 1], value))
            held.append(newer)

        def interrupt(frame: Any, event: str, _: Any, which: int = which) -> None:
            nonlocal seen
            seen += "persistent" in frame.f_code.co_filename
            if seen > which:
                sys.settrace(None)
                raise KeyboardInterrupt

        sys.settrace(interrupt)
        try:
            content(held[0 if oldest else 2])
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        for _ in range(2):
            assert [content(one) for one in held] == [[0, 0, 0], [1, 0, 0], [2, 2, 0], [3, 2, 3]]
        if seen <= which:
            break
    assert which > 5


def test_all_are_edited_and_the_old_stay() -> None:
    versions = [Version((torch.zeros(4),)), Version((torch.zeros(3), torch.ones(3)))]
    newer = edit_together(
        versions,
        lambda buffers, edited: edited.extend(
            [set_to([1, 3], 7, buffers[0]), set_to([2], 8, buffers[1])]
        ),
    )
    assert [content(one) for one in newer] == [[0, 7, 0, 7], [0, 0, 8]]
    assert [content(one) for one in versions] == [[0, 0, 0, 0], [0, 0, 0]]
    assert [content(one) for one in newer] == [[0, 7, 0, 7], [0, 0, 8]]
    changed = newer[0].changed_since(versions[0])
    assert changed is not None
    assert sorted(changed.tolist()) == [1, 3]


def test_two_of_one_history_get_buffers_each() -> None:
    first = Version((torch.zeros(3),))

    def first_is_five(buffers: Buffers, lost: Buffers) -> None:
        buffers[0][0] = 5

    second = first.edit(torch.tensor([0]), first_is_five)
    seen: list[Tensor] = []

    def change(buffers: list[Buffers], edited: list[Edited]) -> None:
        seen.extend(own[0] for own in buffers)
        edited += [set_to([1], value, own) for value, own in zip((1, 2, 3), buffers, strict=True)]

    newer = edit_together([first, second, first], change)
    assert len({one.data_ptr() for one in seen}) == 3
    assert [content(one)[1] for one in newer] == [1, 2, 3]
    assert content(first) == [0, 0, 0]


def test_nothing_is_noted_of_an_edit_that_fails() -> None:
    versions = [Version((torch.zeros(2),)), Version((torch.zeros(2),))]

    def change(_: list[Buffers], __: list[Edited]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        edit_together(versions, change)
    assert [content(one) for one in versions] == [[0, 0], [0, 0]]
    (newer,) = edit_together(versions[:1], all_to([0], 1))
    assert content(newer) == [1, 0]


@pytest.mark.parametrize("where", ["note", "superseded", "shorten", "sweep"])
@pytest.mark.parametrize("which", [0, 1])
def test_an_edit_is_noted_whole_or_undone(
    where: str, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails after the buffers were edited, as where memory runs out."""
    versions = [Version((torch.zeros(3),), lambda: (torch.zeros(3),)) for _ in range(2)]
    noting, calls = getattr(versions_module._Store, where), []

    def fail(self: Any, *given: Any) -> Any:
        calls.append(self)
        if len(calls) == which + 1:
            raise MemoryError(where)
        return noting(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(versions_module._Store, where, fail)
        with pytest.raises(MemoryError, match=where):
            edit_together(versions, all_to([0, 2], 4))
    assert [content(one) for one in versions] == [[0, 0, 0], [0, 0, 0]]
    newer = edit_together(versions, all_to([1], 5))
    assert [content(one) for one in newer] == [[0, 5, 0], [0, 5, 0]]
    assert [content(one) for one in versions] == [[0, 0, 0], [0, 0, 0]]
    assert [content(one.copy()) for one in newer] == [[0, 5, 0], [0, 5, 0]]


def test_one_order_of_locks() -> None:
    """Taken by two threads in any order they are given, and let go of whatever happens."""
    locks, order = [threading.Lock() for _ in range(3)], []

    def work(own: list[Any]) -> None:
        for _ in range(200):
            under(own, lambda: order.append(all(lock.locked() for lock in locks)))

    threads = [
        threading.Thread(target=work, args=(own,), daemon=True) for own in (locks, locks[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(order) == 400
    assert all(order)
    with pytest.raises(ZeroDivisionError):
        under(locks, lambda: 1 / 0)
    assert not any(lock.locked() for lock in locks)
