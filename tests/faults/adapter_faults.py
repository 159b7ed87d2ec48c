"""Faults of the modules: the loop over time, the choice of a backend, states at the door."""

from __future__ import annotations

from fault import Fault

__all__ = ["FAULTS"]

ADAPTERS = "tests/torch_adapters"
SEQUENCES = f"{ADAPTERS}/test_sequences.py"
REASONS = f"{ADAPTERS}/test_backend_reasons.py"
STATE = f"{ADAPTERS}/test_state.py"
CONTRACT = f"{ADAPTERS}/test_backend_contract.py"

FAULTS = (
    Fault(
        "a module stays out of the graph only while it is traced",
        "torch_adapters/recurrence.py",
        "if has_dynamo() and self._leaves_the_graph():",
        "if torch.compiler.is_compiling() and self._leaves_the_graph():",
        ("tests/torch_adapters/test_torch_tools.py::test_compiling_and_exporting",),
    ),
    Fault(
        "the controller's output is clamped from above only",
        "torch_adapters/time_loop.py",
        "hidden = bounded(hidden, module.clip)",
        "hidden = hidden.clamp(max=module.clip)",
        (f"{ADAPTERS}/test_dnc.py::test_clip_bounds_the_controllers_output",),
    ),
    Fault(
        "examples that end are put back from where they were cut, not from before",
        "torch_adapters/time_loop.py",
        "        ended.append(carried)\n        carried = carried.narrow(module.cell, size)\n",
        "        carried = carried.narrow(module.cell, size)\n        ended.append(carried)\n",
        (f"{SEQUENCES}::test_packed_input_equals_each_example_alone",),
    ),
    Fault(
        "a segment goes on where an episode begins",
        "torch_adapters/time_loop.py",
        "sizes[step] != sizes[begin] or starts[step] is not None:",
        "sizes[step] != sizes[begin]:",
        (f"{SEQUENCES}::test_episode_start_in_the_middle_is_two_sequences[lstm]",),
        needs="numba",
    ),
    Fault(
        "the trace is of the longest example, not of the first",
        "torch_adapters/time_loop.py",
        "traced = 0 if trace is None else steps.place_of(trace.example)",
        "traced = 0",
        (f"{ADAPTERS}/test_debug.py::test_packed_input_shows_the_first_examples_own_steps",),
    ),
    Fault(
        "the example that was asked for is looked up in the order of the lengths",
        "torch_adapters/time_loop.py",
        "traced = 0 if trace is None else steps.place_of(trace.example)",
        "traced = 0 if trace is None else trace.example",
        (f"{ADAPTERS}/test_debug.py::test_packed_examples_are_counted_as_given",),
        only="plain and DNC",
    ),
    Fault(
        "example 0 is taken for none",
        "torch_adapters/debug.py",
        "    if isinstance(debug, bool):\n        return 0 if debug else None\n",
        "    if not debug or debug is True:\n        return 0 if debug else None\n",
        (f"{ADAPTERS}/test_debug.py::test_zero_is_an_example_and_false_is_none",),
    ),
    Fault(
        "the picture shows the heads in the other order",
        "torch_adapters/plot.py",
        "        for number, head in enumerate(heads):\n",
        "        for number, head in enumerate(heads[::-1]):\n",
        (f"{ADAPTERS}/test_plot.py::test_every_panel_shows_its_own_entry",),
    ),
    Fault(
        "the picture shows the first layer, not the last",
        "torch_adapters/plot.py",
        "layer = layers - 1 if layer is None else",
        "layer = 0 if layer is None else",
        (f"{ADAPTERS}/test_plot.py::test_of_several_layers_the_one_asked_for_is_shown",),
    ),
    Fault(
        "the picture shows links of the slots' places, not of the slots",
        "torch_adapters/plot.py",
        "which, slots, among = which[linked], slots[linked]",
        "which, slots, among = linked, slots[linked]",
        (f"{ADAPTERS}/test_plot.py::test_the_links_of_the_sdnc_are_among_its_visible_slots",),
    ),
    Fault(
        "dropout is drawn layer by layer, not step by step",
        "torch_adapters/segment.py",
        "    for step in range(steps):\n        for layer, rate in enumerate(rates):\n",
        "    for layer, rate in enumerate(rates):\n        for step in range(steps):\n",
        (f"{ADAPTERS}/test_backends.py::test_backends_agree[3]",),
        needs="numba",
    ),
    Fault(
        "hooks before backward are passed by",
        "torch_adapters/backend.py",
        '"_backward_hooks", "_backward_pre_hooks")',
        '"_backward_hooks")',
        (f"{REASONS}::test_hooks",),
        needs="numba",
    ),
    Fault(
        "cells of a nonlinearity of their own are taken for the others",
        "torch_adapters/backend.py",
        "if own and cell.nonlinearity != first.nonlinearity:",
        "if own and cell.nonlinearity != cells[0].nonlinearity:",
        (f"{REASONS}::test_a_layer_of_another_nonlinearity",),
        needs="numba",
    ),
    Fault(
        "emptying the memory leaves what was read from it",
        "torch_adapters/hx.py",
        "return Carried(carried.hidden, self.new_memories(), self.new_reads())",
        "return Carried(carried.hidden, self.new_memories(), carried.reads)",
        (f"{SEQUENCES}::test_reset_experience[lstm]",),
    ),
    Fault(
        "under autocast the controller's state comes out in half precision",
        "torch_adapters/hx.py",
        "stacked = [torch.stack(part).to(self.dtype) for part in zip(*layer, strict=True)]",
        "stacked = [torch.stack(part) for part in zip(*layer, strict=True)]",
        (f"{ADAPTERS}/test_dnc.py::test_memory_stays_in_single_precision_under_autocast",),
    ),
    Fault(
        "an episode begins with the controller's state of the one before",
        "torch_adapters/carried.py",
        "return self._replace(hidden=hidden).empty(cell, examples, rows)",
        "return self.empty(cell, examples, rows)",
        (f"{SEQUENCES}::test_episode_start_in_the_middle_is_two_sequences[lstm]",),
    ),
    Fault(
        "a memory that is reset keeps the slots that it was read at",
        "torch_adapters/sparse_cell.py",
        "read_index=torch.where(flags, first, state.read_index),",
        "read_index=state.read_index,",
        (f"{STATE}::test_a_memory_that_is_reset_is_a_new_one_field_by_field",),
    ),
    Fault(
        "a memory that is reset keeps the slots that it was written at",
        "torch_adapters/sparse_cell.py",
        "write_index=state.write_index.masked_fill(examples[:, None], 0),",
        "write_index=state.write_index,",
        (f"{STATE}::test_a_memory_that_is_reset_is_a_new_one_field_by_field",),
    ),
    Fault(
        "a detached state keeps the history of what was read",
        "torch_adapters/state.py",
        "_map_memory(Tensor.detach, sparse_state.detach, memory),\n        reads.detach(),",
        "_map_memory(Tensor.detach, sparse_state.detach, memory),\n        reads,",
        (f"{STATE}::test_detached_state_cuts_the_history",),
    ),
    Fault(
        "examples are counted from the end where their numbers are negative",
        "torch_adapters/state.py",
        "not ((chosen >= 0) & (chosen < batch_size)).all():",
        "not (chosen < batch_size).all():",
        (f"{ADAPTERS}/test_bad_input.py::test_selecting",),
    ),
    Fault(
        "flags with time in front are read as if the batch were",
        "torch_adapters/sequence.py",
        "by_example = data if batch_first else data.t()",
        "by_example = data",
        (f"{SEQUENCES}::test_episode_start_in_the_middle_is_two_sequences[time first]",),
    ),
    Fault(
        "a clip that is not a number is taken",
        "torch_adapters/options.py",
        "if not number >= 0:",
        "if number < 0:",
        (f"{ADAPTERS}/test_bad_input.py",),
        only="clip or constructor",
    ),
    Fault(
        "a trace is measured in numbers, not in bytes",
        "torch_adapters/debug.py",
        "value.numel() * value.element_size() for value in sample.values()",
        "value.numel() for value in sample.values()",
        (f"{ADAPTERS}/test_debug.py::test_a_trace_is_measured_in_bytes",),
    ),
)
