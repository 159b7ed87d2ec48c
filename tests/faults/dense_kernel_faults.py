"""Faults of the kernels that all memories share, and of those of the dense ones."""

from __future__ import annotations

from fault import Fault

__all__ = ["FAULTS"]

KERNELS = "tests/memcore/kernels"
PIECES = f"{KERNELS}/test_pieces.py"
STEP = f"{KERNELS}/test_batched_step.py"
AGREE = "tests/torch_adapters/test_backends.py::test_backends_agree"
CONTRACT = "tests/torch_adapters/test_backend_contract.py"

FAULTS = (
    Fault(
        "the gradient of normed interface vectors keeps its mean",
        "memcore/kernels/cells.py",
        "slope = d_normed[j] * gain[j - begin] - mean - normed[j] * along",
        "slope = d_normed[j] * gain[j - begin] - normed[j] * along",
        (f"{AGREE}[5]",),
        needs="numba",
    ),
    Fault(
        "all layers' normed vectors are noted in one place",
        "memcore/kernels/cells.py",
        "row += (layer * told[plan.STEPS] + time) * told[plan.EXAMPLES]\n        scales",
        "row += time * told[plan.EXAMPLES]\n        scales",
        (f"{AGREE}[6]",),
        needs="numba",
    ),
    Fault(
        "a feed-forward controller's last output has a gradient",
        "memcore/kernels/segment.py",
        "tuple(own[cell, :, :hidden] if cells.recurrent else None for own in d_hidden)",
        "tuple(own[cell, :, :hidden] for own in d_hidden)",
        ("tests/torch_adapters/test_options.py::test_a_feed_forward_controller",),
        needs="numba",
    ),
    Fault(
        "in kernels the allocation of equal usages begins with the highest slot",
        "memcore/kernels/allocation.py",
        "return one < other",
        "return one > other",
        (f"{KERNELS}/test_allocation.py::test_of_equal_usages_the_lowest_slot_is_written",),
        needs="numba",
    ),
    Fault(
        "a gradient flows where the retention was clamped",
        "memcore/kernels/allocation.py",
        "slope = within(one - gate * weight, 0.0, math.inf, d_kept * others)",
        "slope = d_kept * others",
        (f"{PIECES}::test_usage",),
        needs="numba",
    ),
    Fault(
        "of several heads the last one's share shrinks the memory's gradient",
        "memcore/kernels/content.py",
        "store(shrink, n, fma(d_product * norm, cosine, load(shrink, n)))",
        "store(shrink, n, d_product * norm * cosine)",
        (f"{PIECES}::test_content",),
        needs="numba",
    ),
    Fault(
        "the diagonal of the links passes a gradient on",
        "memcore/kernels/links.py",
        "                    d_links[at0 + i * padded + first + i] = 0\n",
        "                    pass\n",
        (f"{PIECES}::test_links",),
        needs="numba",
    ),
    Fault(
        "what a GRU's update gate lets pass has no gradient",
        "memcore/kernels/controllers.py",
        "            direct = gradient * update\n",
        "",
        (f"{PIECES}::test_cells",),
        needs="numba",
    ),
    Fault(
        "the second half of a block of rows is taken to be as high as the first",
        "memcore/kernels/products.py",
        "high, left, left_at + term, right, above + term, right_row, own - lanes\n",
        "high, left, left_at + term, right, above + term, right_row, own\n",
        (f"{KERNELS}/test_products.py::test_rows_as_they_are_give_what_panels_give",),
        needs="numba",
    ),
    Fault(
        "an odd last column is left out of a product",
        "memcore/kernels/products.py",
        "        if column < columns:\n            for i in range(row, row + 4):",
        "        if column + 1 < columns:\n            for i in range(row, row + 4):",
        (f"{KERNELS}/test_products.py::test_multiply_transposed",),
        needs="numba",
    ),
    Fault(
        "a GRU's two biases of the new gate change places",
        "memcore/kernels/packing.py",
        "            turn(from_input[rest, None], result, 1, self._at(2))\n"
        "            turn(from_state[rest, None], result, 1, self._at(self._last_from_state))\n",
        "            turn(from_state[rest, None], result, 1, self._at(2))\n"
        "            turn(from_input[rest, None], result, 1, self._at(self._last_from_state))\n",
        (f"{KERNELS}/test_products.py::test_panels_of_gates_are_those_of_the_matrix",),
        needs="numba",
    ),
    Fault(
        "the sum of what was written has no gradient through the precedence",
        "memcore/kernels/dnc_backward.py",
        "store(d_weights, n, load(d_weights, n) + slope - loss)",
        "store(d_weights, n, load(d_weights, n) + slope)",
        (f"{STEP}::test_a_step_and_its_gradients",),
        only="DNC",
        needs="numba",
    ),
    Fault(
        "links that were not kept are made again from one step too late",
        "memcore/kernels/memories.py",
        "for made in range(last, step):",
        "for made in range(last + 1, step):",
        ("tests/torch_adapters/test_backends.py::test_links_that_were_not_kept_are_made_again",),
        needs="numba",
    ),
    Fault(
        "what was clamped from below passes a gradient on",
        "memcore/kernels/cells.py",
        "if not bounded or (value >= -clip and value <= clip):",
        "if not bounded or value <= clip:",
        (f"{AGREE}[2]",),
        needs="numba",
    ),
    Fault(
        "gradients of the lower layers' rows pile up from step to step",
        "memcore/kernels/sequence.py",
        "        for i in range(top):\n            d_rows[i] = 0\n",
        "",
        (f"{AGREE}[3]",),
        needs="numba",
    ),
    Fault(
        "in backward the first cell saw the reads of the first layer, not of the last",
        "memcore/kernels/weight_gradients.py",
        "outputs[-1, :-1, :, hidden:]",
        "outputs[0, :-1, :, hidden:]",
        (f"{AGREE}[0]",),
        needs="numba",
    ),
    Fault(
        "the gradient of weights forgets the dropout below them",
        "memcore/kernels/weight_gradients.py",
        "            inputs = [inputs[0] * parts.masks[layer, :, depth - 1]]\n",
        "            pass\n",
        (f"{AGREE}[3]",),
        needs="numba",
    ),
    Fault(
        "what a step returns is what its backward pass reads",
        "memcore/kernels/segment.py",
        "return Result(rows.clone(), None, done.hidden, done.states)",
        "return Result(rows, None, done.hidden, done.states)",
        (f"{STEP}::test_reads_may_be_changed_in_place",),
        needs="numba",
    ),
    Fault(
        "second derivatives count what an earlier segment owes to the same tensor",
        "memcore/kernels/segment.py",
        "own: list[Any] = [x if x is None else x.view_as(x) for x in flat]",
        "own: list[Any] = list(flat)",
        (
            f"{CONTRACT}::test_second_derivatives_of_several_segments",
            f"{CONTRACT}::test_second_derivatives_of_what_is_in_two_places",
        ),
        needs="numba",
    ),
    Fault(
        "backward changes the gradient of the links that it was given",
        "memcore/kernels/dense_states.py",
        "                d_links[..., :slots, :slots] = slope[own]\n",
        "                d_links = _squared(layout, slope[own])\n",
        (f"{STEP}::test_gradients_that_are_given_are_not_changed",),
        needs="numba",
    ),
    Fault(
        "what one call was told is there in the next one of the same sizes",
        "memcore/kernels/layout.py",
        "self._told = own.told.copy()",
        "self._told = own.told",
        (f"{CONTRACT}::test_calls_of_the_same_sizes_know_nothing_of_each_other",),
        needs="numba",
    ),
    Fault(
        "memory of a tape is lent twice",
        "memcore/kernels/pages.py",
        "memory = np.empty(count, np.uint8) if best is None else _free.pop(best)",
        "memory = np.empty(count, np.uint8) if best is None else _free[best]",
        (f"{KERNELS}/test_pages.py::test_memory_is_used_again_and_by_one_at_a_time",),
        needs="numba",
    ),
    Fault(
        "a thread of Python does the first chunk again",
        "memcore/kernels/pool.py",
        "        own[plan.CHUNK] = chunk\n",
        "        own[plan.CHUNK] = max(0, chunk - 1)\n",
        (f"{KERNELS}/test_pool.py::test_threads_of_python_in_place_of_torchs",),
        needs="numba",
    ),
    Fault(
        "machine code of older cells is taken from the disk",
        "memcore/kernels/compiling.py",
        "PLAIN_PYTHON = {\n",
        'PLAIN_PYTHON = {\n    "cells",\n',
        (f"{KERNELS}/test_compiling.py::test_every_file_that_is_compiled_is_part_of_the_digest",),
        needs="numba",
    ),
)
