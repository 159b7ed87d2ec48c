"""Faults of the tasks: what is trained on, how long, and what a run leaves behind."""

from __future__ import annotations

from fault import Fault

__all__ = ["FAULTS"]

TASKS = "tests/tasks"
CURRICULUM = f"{TASKS}/test_curriculum.py"
CHECKPOINTS = f"{TASKS}/test_checkpoints.py"
FILES = f"{TASKS}/test_checkpoint_files.py"
GENERATORS = f"{TASKS}/test_generators.py"
KILLS = f"{TASKS}/test_kills.py"
PROCESSES = f"{TASKS}/test_processes.py"

FAULTS = (
    Fault(
        "the longest sequence grows one iteration too early",
        "tasks/curriculum.py",
        "grown = (iteration - 1) // self._every if iteration else 0",
        "grown = iteration // self._every",
        (f"{CURRICULUM}::test_linear_up_to_the_limit",),
    ),
    Fault(
        "a loss at the threshold doubles the level",
        "tasks/curriculum.py",
        "sum(self._losses) / len(self._losses) < self._threshold:",
        "sum(self._losses) / len(self._losses) <= self._threshold:",
        (f"{CURRICULUM}::test_at_the_threshold_it_does_not_double",),
    ),
    Fault(
        "a run goes on below the length that is now asked for",
        "tasks/curriculum.py",
        'self._level = _capped(max(saved["level"], self._start), self._limit)',
        'self._level = _capped(saved["level"], self._limit)',
        (f"{CURRICULUM}::test_another_start_or_limit_after_resuming",),
    ),
    Fault(
        "going back to the checkpoint before drops it",
        "tasks/checkpoints.py",
        "elif then is Before.DROP:",
        "elif then is not Before.ROTATE:",
        (f"{KILLS}::test_killed_while_going_back_to_the_checkpoint_before",),
    ),
    Fault(
        "the new checkpoint is in place before the old one is kept",
        "tasks/checkpoints.py",
        "            os.replace(path, before(path))\n",
        "            before(path).unlink(missing_ok=True)\n            path.unlink()\n",
        (f"{KILLS}::test_killed_at_each_step_of_writing",),
    ),
    Fault(
        "checkpoints are not read whole before they are trusted",
        "tasks/checkpoints.py",
        "if (part := archive.testzip()) is not None:",
        "if (part := next(iter(archive.namelist()), None)) is None:",
        (f"{FILES}::test_the_checkpoint_before_is_used",),
    ),
    Fault(
        "data begin anew after resuming",
        "tasks/run.py",
        '        self.data.set_state(saved["data"])\n',
        "",
        (f"{CHECKPOINTS}::test_resuming_continues_bit_for_bit",),
    ),
    Fault(
        "tests draw from the training's data",
        "tasks/run.py",
        "generator = torch.Generator().manual_seed(self.options.seed + self.iteration + 1)",
        "generator = self.data",
        ("tests/tasks/test_training.py::test_looking_changes_nothing",),
    ),
    Fault(
        "all processes draw the same examples",
        "tasks/processes.py",
        "generator=shared)) + 2 * self.rank",
        "generator=shared))",
        (f"{PROCESSES}::test_own_streams",),
    ),
    Fault(
        "each process judges the loss of its own examples",
        "tasks/processes.py",
        "        return tuple(means)\n",
        "        return tuple(values)\n",
        (f"{PROCESSES}::test_each_draws_its_own_examples_of_one_shape",),
    ),
    Fault(
        "each process has a whole batch",
        "tasks/processes.py",
        "return max(1, examples // self.count)",
        "return examples",
        (f"{PROCESSES}::test_gradients_are_those_of_the_joined_batch",),
    ),
    Fault(
        "a process that was interrupted stops without the others",
        "tasks/processes.py",
        "return self._asked.is_set() if self.count == 1 else self._all_asked",
        "return self._asked.is_set()",
        (f"{PROCESSES}::test_all_stop_where_one_is_interrupted",),
    ),
    Fault(
        "-resume auto begins anew where only the checkpoint before is left",
        "tasks/training.py",
        "if not path.exists() and not before(path).exists():",
        "if not path.exists():",
        (f"{TASKS}/test_resume_auto.py::test_the_checkpoint_before",),
    ),
    Fault(
        "a clip of 0 leaves no gradient",
        "tasks/run.py",
        "self.options.clip or math.inf",
        "self.options.clip",
        ("tests/tasks/test_training.py::test_the_gradient_is_clipped_unless_clip_is_zero",),
    ),
    Fault(
        "the optimizer's settings come from the checkpoint, not from the program",
        "tasks/run.py",
        'self.optimizer.load_state_dict({"state": states, "param_groups": settings})',
        'self.optimizer.load_state_dict(saved["optimizer"])',
        (f"{FILES}::test_a_wrong_value_anywhere_is_told_in_one_line",),
    ),
    Fault(
        "a checkpoint is written before the metrics that belong to it",
        "tasks/training.py",
        "    for sink in sinks:\n        sink.flush()\n    run.save()\n",
        "    run.save()\n    for sink in sinks:\n        sink.flush()\n",
        (f"{TASKS}/test_metrics.py::test_rows_are_on_the_disk_before_the_checkpoint",),
    ),
    Fault(
        "averages go on over what was already told",
        "tasks/metrics.py",
        "        self.__init__(len(self._sums) - 1)\n",
        "",
        (f"{TASKS}/test_metrics.py::test_averages_are_of_what_came_since",),
    ),
    Fault(
        "a truth value passes for a whole number in a checkpoint",
        "tasks/saved_parts.py",
        "elif type(found) is not type(expected) and",
        "elif not isinstance(found, type(expected)) and",
        (f"{FILES}::test_a_truth_value_is_no_whole_number",),
    ),
    Fault(
        "a limit at the length of the beginning is refused",
        "tasks/options.py",
        "if 0 < limit < start:",
        "if 0 < limit <= start:",
        ("tests/tasks/test_training.py::test_a_limit_at_the_beginning",),
    ),
    Fault(
        "of several largest numbers the first is asked for",
        "tasks/argmax_task.py",
        "position = (numbers * length + torch.arange(length)).argmax(1)",
        "position = numbers.argmax(1)",
        (f"{GENERATORS}::test_argmax",),
    ),
    Fault(
        "each vector is repeated by itself, not the sequence",
        "tasks/repeat_copy_task.py",
        "target[:, :-1, :bits] = vectors.repeat(1, repeats, 1)",
        "target[:, :-1, :bits] = vectors.repeat_interleave(repeats, 1)",
        (f"{GENERATORS}::test_repeat_copy",),
    ),
    Fault(
        "keys that are drawn again may be there already",
        "tasks/associative_recall_task.py",
        "        while (again := _repeated(ranks)).any():\n",
        "        if (again := _repeated(ranks)).any():\n",
        (f"{GENERATORS}::test_many_keys",),
    ),
    Fault(
        "of a key that came again the first value is due",
        "tasks/mqar_task.py",
        "    for at in range(pairs):\n",
        "    for at in reversed(range(pairs)):\n",
        (f"{GENERATORS}::test_mqar",),
    ),
    Fault(
        "torch's functions keep the group when it is left",
        "tasks/processes.py",
        "        import torch.distributed.nn  # noqa: F401\n",
        "",
        (
            "tests/tasks/test_processes.py::"
            "test_no_thread_is_left_that_would_abort_or_hold_the_process_at_its_end",
        ),
    ),
    Fault(
        "torch's reducer keeps the group when it is left",
        "tasks/processes.py",
        "                self._let_go()\n",
        "",
        (
            "tests/tasks/test_processes.py::"
            "test_no_thread_is_left_that_would_abort_or_hold_the_process_at_its_end",
        ),
    ),
    Fault(
        "the first steps see tokens from the end",
        "tasks/mqar_task.py",
        "[pad(tokens, (0, 0, steps, 0))[:, : shape[0]] for",
        "[tokens.roll(steps, 1) for",
        (f"{GENERATORS}::test_a_step_of_mqar_sees_the_tokens_before_it_too",),
    ),
    Fault(
        "a sweep compares only what is given",
        "tasks/script_runs.py",
        "    differ = [\n",
        "    parser.set_defaults(**earlier)\n"
        "    options = parser.parse_args(arguments)\n"
        "    differ = [\n",
        ("tests/tasks/test_sweep.py::test_seeds_of_one_table_have_the_same_options",),
    ),
    Fault(
        "a sweep trains longer with a rate that fell to its end",
        "tasks/sweep.py",
        """more = ("iterations",) if given.scheduler == "none" else ()""",
        """more = ("iterations",)""",
        (
            "tests/tasks/test_sweep.py"
            "::test_more_iterations_are_another_run_where_the_rate_falls_with_them",
        ),
    ),
    Fault(
        "rows of a line as it was stay under its new title",
        "tasks/learning_tables.py",
        """if (row["line"], row["seed"]) not in stale]""",
        """if row]""",
        ("tests/tasks/test_learning.py::test_rows_of_a_line_that_is_trained_otherwise_now_go",),
    ),
    Fault(
        "there are always all steps to plan in",
        "tasks/triples.py",
        "    return half_the_most(most + 1, generator) - 1 if most else 0\n",
        "    return most\n",
        ("tests/tasks/test_family_trees.py::test_there_are_steps_to_plan_in",),
    ),
    Fault(
        "an example with more queries counts for more",
        "tasks/mqar_task.py",
        "return ((wrong.sum(1) / due.sum(1)).mean().item(),)",
        "return ((wrong.sum() / due.sum()).item(),)",
        (f"{GENERATORS}::test_mqar_counts_each_example_alike",),
    ),
    Fault(
        "attention sees what comes after",
        "tasks/baselines.py",
        "self.layers(embedded, mask=mask, is_causal=True)",
        "self.layers(embedded)",
        ("tests/tasks/test_baselines.py",),
    ),
    Fault(
        "a test ignores the batch budget",
        "tasks/run.py",
        "        size = batch_of(length, self.options.test_size, self.options.batch_budget)\n",
        "        size = self.options.test_size\n",
        ("tests/tasks/test_baselines.py",),
    ),
    Fault(
        "moves of other shortest paths are right anywhere",
        "tasks/shortest_path_task.py",
        "return (sources == sources[:, :, :1]).all(3) & (sources[..., 0] >= 0)",
        "return sources[..., 0] >= 0",
        ("tests/tasks/test_graphs.py",),
    ),
    Fault(
        "a shortest path is learned as a mixture of all",
        "tasks/shortest_path_task.py",
        "return losses.masked_fill(~due_moves(target), torch.inf).amin(2).mean()",
        "return losses[due_moves(target)].mean()",
        ("tests/tasks/test_graphs.py",),
    ),
    Fault(
        "a test of shortest paths shows what is right, not what was answered",
        "tasks/shortest_path_task.py",
        "input[:, begin + step, : 10 * width] = one_hot_digits(own[-1], 1).flatten(1)",
        "pass",
        ("tests/tasks/test_graphs.py",),
    ),
    Fault(
        "lines that were not run again are dropped from the tables",
        "tasks/learning_tables.py",
        'kept = [row for row in kept if (row["line"], row["seed"]) not in anew]',
        "kept = []",
        ("tests/tasks/test_learning.py",),
    ),
)
