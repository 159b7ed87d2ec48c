"""Faults of the values that are edited in place."""

from __future__ import annotations

from fault import Fault

__all__ = ["FAULTS"]

PERSISTENT = "tests/memcore/persistent"
PROGRAMS = f"{PERSISTENT}/test_rows.py::test_a_program_equals_plain_tensors"
SCALE = "tests/memcore/test_scale.py"
LARGEST = f"{PERSISTENT}/test_links.py::test_the_largest_are_kept"

FAULTS = (
    Fault(
        "a version takes the buffers over in two halves, between which an interrupt may come",
        "memcore/persistent/versions.py",
        "        self.store, self.newer, self.rows, self.lost = store, None, None, ()\n"
        "        store.superseded(newer)\n",
        "        self.keep(store)\n        store.superseded(newer)\n",
        (f"{PERSISTENT}/test_versions.py::test_an_interrupt_where_any_function_begins",),
    ),
    Fault(
        "to begin anew changes all rows ever written",
        "memcore/persistent/rows.py",
        "rows = ever[self._version.look(lambda buffers: buffers[1].index_select(0, ever))]",
        "rows = ever",
        ("tests/memcore/test_scale.py::test_to_begin_anew_again_changes_what_was_written_since",),
    ),
    Fault(
        "what became of another memory is widened by this one",
        "memcore/sparse_checks.py",
        "if before._version.origin is not value._version.origin:",
        "if False:",
        (
            f"{PERSISTENT}/test_rows.py::test_what_was_not_narrowed_is_not_widened",
            f"{PERSISTENT}/test_recency.py::test_what_was_not_narrowed_is_not_widened",
        ),
    ),
    Fault(
        "a copy of a version forgets what it began as",
        "memcore/persistent/versions.py",
        "_own(copied, threading.RLock(), self.rows, self.origin)",
        "_own(copied, threading.RLock(), self.rows, object())",
        (
            f"{PERSISTENT}/test_rows.py"
            "::test_a_part_is_widened_though_the_buffers_were_copied_on_the_way",
        ),
    ),
    Fault(
        "buffers copied in inference mode cannot be edited outside it",
        "memcore/persistent/versions.py",
        "with torch.inference_mode(False), torch.no_grad():",
        "with torch.no_grad():",
        (f"{PERSISTENT}/test_rows.py::test_a_copy_made_in_inference_mode_goes_on_outside",),
    ),
    Fault(
        "the rows of the edit just before are not among those that changed",
        "memcore/persistent/versions.py",
        "rows = [node.rows for node in path[:-1] if node.rows is not None]",
        "rows = [node.rows for node in path[:-2] if node.rows is not None]",
        (f"{PERSISTENT}/test_row_views.py::test_written_and_changed",),
    ),
    Fault(
        "two versions of one history are edited together in the same buffers",
        "memcore/persistent/versions.py",
        "own.append(version.copy() if shared else version)",
        "own.append(version)",
        (f"{PERSISTENT}/test_versions.py::test_two_of_one_history_get_buffers_each",),
    ),
    Fault(
        "an edit that fails is left half made",
        "memcore/persistent/versions.py",
        "                _undo([self], edited)\n",
        "",
        (f"{PERSISTENT}/test_rows.py::test_an_edit_that_fails_is_undone",),
    ),
    Fault(
        "a version that leaves the journal undoes the edits oldest first",
        "memcore/persistent/versions.py",
        "for node in reversed(path[:-1]):",
        "for node in path[:-1]:",
        (f"{SCALE}::test_a_held_old_version_costs_no_more_than_a_copy",),
    ),
    Fault(
        "an erased row is cleared before what was added to it gets its gradient",
        "memcore/persistent/row_gradients.py",
        """        add = None
        if ctx.needs_input_grad[1]:
            add = rows.index_select(0, held.places.at(ctx.added)).view(ctx.shape)
        if ctx.needs_input_grad[0] and ctx.erased.rows.numel():
            rows.index_fill_(0, held.places.at(ctx.erased), 0)
""",
        """        add = None
        if ctx.needs_input_grad[0] and ctx.erased.rows.numel():
            rows.index_fill_(0, held.places.at(ctx.erased), 0)
        if ctx.needs_input_grad[1]:
            add = rows.index_select(0, held.places.at(ctx.added)).view(ctx.shape)
""",
        (PROGRAMS,),
    ),
    Fault(
        "what a recomputation logs in the middle of a pass moves the rows of its other branches",
        "memcore/persistent/row_gradients.py",
        "places = self._in_pass.get(task)",
        "places = None",
        (
            f"{PERSISTENT}/test_row_gradients.py"
            "::test_what_is_logged_in_the_middle_of_a_pass_moves_no_rows",
        ),
    ),
    Fault(
        "a line forks at every write after a branch",
        "memcore/persistent/rows.py",
        "            line.extend(0)\n",
        "",
        (f"{SCALE}::test_a_branch_is_one_line_however_long_it_is",),
    ),
    Fault(
        "examples that begin anew keep the row of before",
        "memcore/persistent/rows.py",
        "own = self._row.index_copy(0, view._examples, row.expand(view.shape[0], len(row)))",
        "own = self._row.clone()",
        (PROGRAMS,),
    ),
    Fault(
        "the gradient of rows that began anew goes on to those of before",
        "memcore/persistent/row_gradients.py",
        "        rows.masked_fill_(~others, 0)\n",
        "",
        (PROGRAMS,),
    ),
    Fault(
        "an index keeps the rows of before of examples that began anew",
        "memcore/index/mirror.py",
        "            if anew.numel():\n",
        "            if anew.numel() < 0:\n",
        ("tests/memcore/test_index.py::test_exactly_the_best",),
    ),
    Fault(
        "a learned initial row that is 0 at first is not kept apart",
        "memcore/persistent/rows.py",
        "constant = row.clone() if learned or row.any() else None",
        "constant = row.clone() if row.any() else None",
        (
            f"{PERSISTENT}/test_row_gradients.py"
            "::test_no_gradient_reaches_a_learned_row_through_cleared_rows",
        ),
    ),
    Fault(
        "a selection with repeats loses the initial row",
        "memcore/persistent/rows.py",
        "if self._row is not None or self._version.edited() is None:",
        "if self._version.edited() is None:",
        (
            f"{PERSISTENT}/test_row_views.py"
            "::test_a_repeated_selection_keeps_the_initial_row_and_its_gradient",
        ),
    ),
    Fault(
        "a selection with repeats has no gradient",
        "memcore/persistent/rows.py",
        "        if not (self.requires_grad and torch.is_grad_enabled()):\n"
        "            return RowMemory.from_dict(self.to_dict())\n",
        "        if self._version.edited() is not None:\n"
        "            return RowMemory.from_dict(self.to_dict())\n",
        (f"{PERSISTENT}/test_row_views.py", f"{PERSISTENT}/test_row_gradients.py"),
    ),
    Fault(
        "the last slot of an example does not count as written",
        "memcore/persistent/buffers.py",
        "end = torch.searchsorted(rows, offsets + count)",
        "end = torch.searchsorted(rows, offsets + count - 1)",
        (f"{PERSISTENT}/test_row_saving.py",),
    ),
    Fault(
        "examples that were selected twice share their recency and their links",
        "memcore/persistent/slot_state.py",
        "return view if len(set(chosen)) == len(chosen) else self.from_dict(view.to_dict())",
        "return view",
        ("tests/torch_adapters/test_state.py::test_a_state_selected_twice_goes_two_ways",),
    ),
    Fault(
        "clearing leaves the clock and the precedence where they were",
        "memcore/persistent/slot_state.py",
        "_version=self._version.edit(rows, change), _carried=carried)",
        "_version=self._version.edit(rows, change))",
        (f"{PERSISTENT}/test_slot_state.py",),
    ),
    Fault(
        "a cleared precedence is on one slot many times",
        "memcore/persistent/links.py",
        "torch.arange(self.temporal_reads, device=on.device)[None],",
        "on.new_zeros(1, self.temporal_reads),",
        (f"{PERSISTENT}/test_slot_state.py",),
    ),
    Fault(
        "clearing leaves the blocks of the recency as they were",
        "memcore/persistent/slot_state.py",
        "                buffer.index_fill_(0, rows, 0)\n",
        "                buffer.index_fill_(0, rows[rows % self._stretch < self.slots], 0)\n",
        (f"{PERSISTENT}/test_slot_state.py",),
    ),
    Fault(
        "loaded links share their precedence with the dictionary",
        "memcore/persistent/links.py",
        'carried = (saved["on"].clone(), saved["weights"].to(value.dtype, copy=True))',
        'carried = (saved["on"], saved["weights"].to(value.dtype))',
        (f"{PERSISTENT}/test_slot_state.py",),
    ),
    Fault(
        "a loaded recency shares its clock with the dictionary",
        "memcore/persistent/recency.py",
        "time = time.to(torch.int32, copy=True).unsqueeze(1)",
        "time = time.to(torch.int32).unsqueeze(1)",
        (f"{PERSISTENT}/test_slot_state.py",),
    ),
    Fault(
        "a dictionary shares its precedence with the links",
        "memcore/persistent/links.py",
        '            "on": on.clone(),\n            "weights": weights.clone(),\n',
        '            "on": on,\n            "weights": weights,\n',
        (f"{PERSISTENT}/test_slot_state.py",),
    ),
    Fault(
        "of equal links the highest slot is kept",
        "memcore/persistent/link_tables.py",
        "ranks = ranks.bitwise_left_shift_(SLOT_BITS).sub_(slots)",
        "ranks = ranks.bitwise_left_shift_(SLOT_BITS).add_(slots)",
        (f"{PERSISTENT}/test_links.py::test_of_equal_weights_the_lowest_slots_are_kept",),
    ),
    Fault(
        "links decay as often as a slot is repeated in a write",
        "memcore/persistent/link_tables.py",
        "lost = entries.mul_(self._once.neg()[..., None, None])",
        "lost = entries.mul_(self._total.neg()[..., None, None])",
        (LARGEST,),
    ),
    Fault(
        "a write of a little more than 1 makes the precedence negative",
        "memcore/persistent/link_tables.py",
        "(1 - self._weights.sum(-1, keepdim=True)).clamp_(min=0)",
        "(1 - self._weights.sum(-1, keepdim=True))",
        (f"{PERSISTENT}/test_links.py::test_invariants",),
    ),
    Fault(
        "only the first level of the recency's tree is kept up to date",
        "memcore/persistent/recency.py",
        "for below, above in pairwise(entries):",
        "for below, above in pairwise(entries[:2]):",
        (f"{PERSISTENT}/test_recency.py::test_the_least_of_many_blocks",),
    ),
)
