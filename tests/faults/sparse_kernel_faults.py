"""Faults of the kernels of SAM and the SDNC, and of what notes the rows that they touched."""

from __future__ import annotations

from fault import Fault

__all__ = ["FAULTS"]

AGREE = "tests/torch_adapters/test_sparse_backends.py::test_backends_agree"
CONTRACT = "tests/torch_adapters/test_sparse_contract.py"

FAULTS = (
    Fault(
        "arrays of notes overlap where they fill no whole line of the cache",
        "memcore/kernels/room.py",
        "ends[own] += -(-size // ALIGNMENT) * ALIGNMENT",
        "ends[own] += size // ALIGNMENT * ALIGNMENT",
        (f"{CONTRACT}::test_old_states_stay_what_they_were",),
        needs="numba",
    ),
    Fault(
        "all examples' notes are joined as the first one's",
        "memcore/kernels/joining.py",
        "source[example * most + row] + offsets[example]",
        "source[example * most + row] + offsets[0]",
        (f"{CONTRACT}::test_old_states_stay_what_they_were",),
        needs="numba",
    ),
    Fault(
        "whether a row was marked is not noted",
        "memcore/kernels/sparse_rows.py",
        "            rows.marks_before[number] = rows.marks[slot]\n",
        "            rows.marks_before[number] = 1\n",
        (f"{CONTRACT}::test_an_old_state_of_an_initial_row_stays_what_it_was",),
        needs="numba",
    ),
    Fault(
        "a row as good as the worst that was found is not looked at",
        "memcore/kernels/sparse_rows.py",
        "return (-(best[first + reads - 1] >> SLOT_BITS)) - 0.5",
        "return (-(best[first + reads - 1] >> SLOT_BITS)) + 0.5",
        (f"{AGREE}[8]",),
        needs="numba",
    ),
    Fault(
        "the softmax over the rows read has no mean in its gradient",
        "memcore/kernels/sparse.py",
        "d_score = after.content[at] * (d_content[k] - mean)",
        "d_score = after.content[at] * d_content[k]",
        (f"{CONTRACT}::test_a_step_with_a_controller_of_ones_own",),
        needs="numba",
    ),
    Fault(
        "what was written to the slots read before does not count as accessed",
        "memcore/kernels/sparse.py",
        "    for j in range(2 * count + 1):\n",
        "    for j in range(count + 1):\n",
        (f"{AGREE}[1]",),
        needs="numba",
    ),
    Fault(
        "in kernels of equal links the highest slot is kept",
        "memcore/kernels/sparse_links.py",
        "return ((np.int64(bits) >> 8) << NAME_BITS) - name",
        "return ((np.int64(bits) >> 8) << NAME_BITS) + name",
        (f"{AGREE}[11]",),
        needs="numba",
    ),
    Fault(
        "columns of the precedence are not noted before they are changed",
        "memcore/kernels/sparse_links.py",
        "    for m in range(reads):\n        _touch(links, links.on[m])\n",
        "",
        (f"{CONTRACT}::test_an_old_state_goes_on_as_its_copy_does",),
        only="SDNC",
        needs="numba",
    ),
    Fault(
        "a slot accessed in the last step before a segment is not noted",
        "memcore/kernels/recency.py",
        "    if old <= times.begun:\n",
        "    if old < times.begun:\n",
        (f"{CONTRACT}::test_old_states_stay_what_they_were",),
        needs="numba",
    ),
    Fault(
        "the least of a block of slots is looked for up to its last but one",
        "memcore/kernels/recency.py",
        "            least = min(least, tree[at])\n",
        "            least = min(least, tree[at - 1])\n",
        (f"{CONTRACT}::test_the_least_recent_slot_of_many_blocks",),
        needs="numba",
    ),
    Fault(
        "a segment sets the clock of the state that it began from",
        "memcore/kernels/sparse_states.py",
        "self.now = state.recency.carried[0].flatten().clone()",
        "self.now = state.recency.carried[0].flatten()",
        (f"{CONTRACT}::test_an_old_state_goes_on_as_its_copy_does",),
        needs="numba",
    ),
    Fault(
        "a segment moves the precedence of the state that it began from",
        "memcore/kernels/sparse_states.py",
        "self.linked = tuple(value.clone() for value in state.links.carried)",
        "self.linked = tuple(value for value in state.links.carried)",
        (f"{CONTRACT}::test_old_states_stay_what_they_were",),
        needs="numba",
    ),
    Fault(
        "an index of one's own is given the keys that the next step overwrites",
        "memcore/kernels/sparse_states.py",
        "self.write_index.clone(), keys.clone()",
        "self.write_index.clone(), keys",
        (f"{CONTRACT}::test_an_index_may_keep_what_it_is_given",),
        needs="numba",
    ),
    Fault(
        "an index of one's own is asked by the keys of the step before",
        "memcore/kernels/sparse_states.py",
        "after = step + 1 if layout.recording else (step + 1) % 2",
        "after = step + 1 if layout.recording else step % 2",
        (f"{CONTRACT}::test_an_index_of_ones_own_finds_the_same_without_a_graph",),
        needs="numba",
    ),
    Fault(
        "a segment that fails leaves the rows as far as it came",
        "memcore/kernels/sparse_segment.py",
        "                put(own, rows, before)\n",
        "                pass\n",
        (f"{CONTRACT}::test_a_failed_call_changes_nothing",),
        needs="numba",
    ),
    Fault(
        "an index is taken to know what a segment that failed wrote",
        "memcore/index/mirror.py",
        "            own[place]._seen = None\n",
        "",
        (f"{CONTRACT}::test_a_failed_call_changes_nothing",),
        needs="numba",
    ),
    Fault(
        "a segment from a learned beginning has no gradient where nothing else needs one",
        "memcore/kernels/sparse_segment.py",
        "        any(x is not None and x.requires_grad for x in flat)\n"
        "        or any(state.memory.requires_grad for state in states)\n",
        "        any(x is not None and x.requires_grad for x in flat)\n",
        (f"{CONTRACT}::test_a_learned_beginning_of_a_frozen_module",),
        needs="numba",
    ),
)
