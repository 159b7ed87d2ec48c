"""Faults of the search indexes, and of what keeps them in step with a memory."""

from __future__ import annotations

from fault import Fault

__all__ = ["FAULTS"]

INDEX = "tests/memcore/test_index.py"
BEST = f"{INDEX}::test_exactly_the_best"
APPROXIMATE = "tests/memcore/test_index_approximate.py"

FAULTS = (
    Fault(
        "a row that is not a number spoils the ranking of the others",
        "memcore/index/unwritten.py",
        "np.rint(np.fmax(cosines, -RESOLUTION, out=cosines), out=cosines)",
        "np.rint(np.maximum(cosines, -RESOLUTION, out=cosines), out=cosines)",
        (f"{INDEX}::test_it_keeps_the_contract", f"{APPROXIMATE}::test_auto_keeps_the_contract"),
    ),
    Fault(
        "the lowest slots never written are looked for from the last of them on",
        "memcore/index/unwritten.py",
        "self._first_free[example] = free[0] if len(free) else slots",
        "self._first_free[example] = free[-1] if len(free) else slots",
        (BEST,),
    ),
    Fault(
        "an example that was written to before the last write keeps its list of free slots",
        "memcore/index/unwritten.py",
        "np.union1d(self._stale, examples)",
        "np.unique(examples)",
        (BEST, f"{INDEX}::test_two_writes_to_other_examples_before_a_search"),
    ),
    Fault(
        "rows of an example that was reset are still found",
        "memcore/index/row_table.py",
        "        self._names[examples] = NOTHING\n",
        "",
        (f"{INDEX}::test_some_examples_can_be_reset",),
    ),
    Fault(
        "an update of rows that differ is taken for done when it is interrupted",
        "memcore/index/mirror.py",
        "                rows = whole.peek(changed)\n                self._seen = None\n",
        "                rows = whole.peek(changed)\n",
        (f"{INDEX}::test_an_update_that_is_interrupted_is_forgotten",),
    ),
    Fault(
        "an update by a step is taken for undone when it is interrupted",
        "memcore/index/mirror.py",
        "            self._seen = None  # an interrupt must not leave what is known half way\n",
        "",
        (f"{INDEX}::test_an_update_that_is_interrupted_is_forgotten",),
    ),
    Fault(
        "the index is told of a step that was made from another version",
        "memcore/index/mirror.py",
        "elif before is not None and touched is not None and before.same_version(seen):",
        "elif before is not None and touched is not None:",
        (BEST,),
    ),
    Fault(
        "the copy of an index is for as many examples as the first part asked about",
        "memcore/index/mirror.py",
        "self._index.empty(whole.shape[0])\n            self._rebuild(whole)",
        "self._index.empty(memory.shape[0])\n            self._rebuild(memory)",
        ("tests/memcore/test_sparse_state.py::test_a_copy_is_asked_about_a_part_first",),
    ),
    Fault(
        "auto hands over without the initial row",
        "memcore/index/auto.py",
        "after.unwritten.initial = None if initial is None else finite(initial)",
        "after.unwritten.initial = None",
        (f"{INDEX}::test_auto_hands_over_the_initial_row_too",),
    ),
    Fault(
        "auto stays exact where kernels write",
        "memcore/index/auto.py",
        "            self._index.changed()\n        self._hand_over()\n",
        "            self._index.changed()\n",
        (f"{INDEX}::test_auto_hands_over_what_kernels_wrote",),
        needs="numba",
    ),
    Fault(
        "a row that is written again stands in two of FAISS's lists",
        "memcore/index/faiss.py",
        "self._lists.remove(names[known])",
        "self._lists.remove(names[~known])",
        (f"{APPROXIMATE}::test_it_keeps_the_contract",),
        only="faiss",
        needs="faiss",
    ),
    Fault(
        "FLANN's tree answers with rows as they were before",
        "memcore/index/flann.py",
        "right = self._unwritten.place[found + begin] == IN_TREE\n            if",
        "right = self._unwritten.place[found + begin] != 0\n            if",
        (f"{APPROXIMATE}::test_a_row_that_is_written_again_is_found_as_it_is",),
        only="flann",
        needs="pyflann",
    ),
)
