"""Faults of the equations, and of the steps that put them together."""

from __future__ import annotations

from fault import Fault

__all__ = ["FAULTS"]

EQUATIONS = "tests/memcore/test_equations.py::test_outputs_equal_the_oracle"
LOCATION = "tests/memcore/test_equations.py::test_addressing_by_location_equals_the_oracle"
GRADIENTS = "tests/memcore/test_gradients.py"
SAM = "tests/memcore/test_sam.py"
SDNC = "tests/memcore/test_sdnc.py::test_outputs_equal_the_oracle"

FAULTS = (
    Fault(
        "what keeps a cumulative product off zero is too small for its second derivative",
        "memcore/numerics.py",
        "offset = torch.finfo(factors.dtype).tiny ** 0.5",
        "offset = torch.finfo(factors.dtype).tiny",
        (f"{GRADIENTS}::test_cumulative_product_second_derivative_is_right_at_two_zeros",),
    ),
    Fault(
        "epsilon is added to the norm, not to its square",
        "memcore/numerics.py",
        "(vectors.square().sum(-1, keepdim=True) + epsilon).sqrt()",
        "vectors.square().sum(-1, keepdim=True).sqrt() + epsilon",
        (f"{GRADIENTS}::test_zero_rows_have_bounded_cosine_gradients",),
    ),
    Fault(
        "a read weight above 1 makes the retention negative",
        "memcore/allocation.py",
        "kept = at_least_zero(1 - free_gates[:, None] * read_weights)",
        "kept = 1 - free_gates[:, None] * read_weights",
        (f"{GRADIENTS}::test_read_weights_a_little_over_one_free_a_slot",),
    ),
    Fault(
        "no gradient passes at a bound of 0, as from torch 2.14 on",
        "memcore/numerics.py",
        "torch.where(values < 0, 0.0, values)",
        "torch.where(values <= 0, 0.0, values)",
        (f"{GRADIENTS}::test_cumulative_product_gradient_is_right_at_zero",),
    ),
    Fault(
        "the allocation of equal usages begins with the highest slot",
        "memcore/allocation.py",
        "ascending, order = usage.sort(dim=-1, stable=True)",
        "ascending, order = usage.flip(-1).sort(dim=-1, stable=True)\n"
        "    order = usage.shape[-1] - 1 - order",
        (
            "tests/memcore/test_equations.py"
            "::test_allocation_takes_equal_usages_from_the_lowest_slot",
        ),
    ),
    Fault(
        "backward and forward in time are exchanged",
        "memcore/linkage.py",
        "return read_weights @ link.mT, read_weights @ link",
        "return read_weights @ link, read_weights @ link.mT",
        (EQUATIONS,),
    ),
    Fault(
        "an open gate takes where the head was, not what the content says",
        "memcore/location.py",
        "return opened * content + (1 - opened) * previous",
        "return (1 - opened) * content + opened * previous",
        (LOCATION,),
    ),
    Fault(
        "a shift goes the other way",
        "memcore/location.py",
        "(place - offsets // 2) % slots",
        "(offsets // 2 - place) % slots",
        (LOCATION,),
    ),
    Fault(
        "what is shifted over the end of the memory is lost",
        "memcore/location.py",
        "own * weighting.roll((place - offsets // 2) % slots, -1)",
        "own * weighting.roll((place - offsets // 2) % slots, -1)\n"
        "        * (weighting.new_ones(slots).cumsum(0) > place - offsets // 2)",
        ("tests/memcore/test_invariants.py::test_shifting_keeps_what_there_is",),
    ),
    Fault(
        "links are made with the precedence after the write",
        "memcore/dnc.py",
        "link.unchecked(state.link, write_weights, state.precedence)",
        "link.unchecked(\n"
        "        state.link, write_weights, precedence.unchecked(state.precedence, write_weights)\n"
        "    )",
        (EQUATIONS,),
    ),
    Fault(
        "the usage of DAM decays with what was just accessed",
        "memcore/dam.py",
        "USAGE_DECAY * state.usage.detach() + accessed",
        "USAGE_DECAY * (state.usage.detach() + accessed)",
        (f"{SAM}::test_dam_equals_the_oracle",),
    ),
    Fault(
        "a gradient flows into the usage of DAM",
        "memcore/dam.py",
        "accessed = write_weights.detach() + read_weights.detach().sum(0)",
        "accessed = write_weights + read_weights.sum(0)",
        (f"{SAM}::test_dam_equals_the_oracle",),
    ),
    Fault(
        "write weights are averaged over the rows read, not over the heads",
        "memcore/sparse_access.py",
        "(to_read / read_weights.shape[-2])",
        "(to_read / read_weights.shape[-1])",
        (f"{SAM}::test_outputs_equal_the_oracle",),
    ),
    Fault(
        "each repeat of a slot must pass the threshold of access by itself",
        "memcore/sparse_step.py",
        "over[order] = (totals > ACCESS_THRESHOLD)[run]",
        "over[order] = weights[order] > ACCESS_THRESHOLD",
        (f"{SAM}::test_outputs_equal_the_oracle",),
    ),
    Fault(
        "the SDNC follows the links as they were before the write",
        "memcore/sdnc.py",
        "directions = links.directional_weightings_unchecked(",
        "directions = state.links.directional_weightings_unchecked(",
        (SDNC,),
    ),
    Fault(
        "a state put together of two batches is taken",
        "memcore/sparse_state.py",
        "if (part.batch, part.slots) != (batch, slots):",
        "if part.slots != slots:",
        (f"{SAM}::test_a_wrong_step",),
    ),
    Fault(
        "a detached state keeps the history of its memory",
        "memcore/sparse_state.py",
        "kinds = (Tensor, RowMemory)",
        "kinds = (Tensor,)",
        ("tests/torch_adapters/test_state.py",),
    ),
    Fault(
        "forward-mode differentiation goes to kernels",
        "memcore/backends.py",
        "if forward_ad._current_level >= 0:",
        "if forward_ad._current_level > 0:",
        ("tests/torch_adapters/test_backend_reasons.py::test_forward_mode",),
        needs="numba",
    ),
)
