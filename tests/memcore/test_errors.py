"""What a wrong call says: the argument, what it must be, what it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jaxtyping
import pytest
import torch

import memcore
from memcore import MemcoreError, dnc
from memcore.errors import allocated

MEMORY, KEYS, STRENGTHS = torch.zeros(5, 3), torch.zeros(2, 3), torch.ones(2)
weighting: Callable[..., Any] = memcore.content_weighting


@pytest.fixture(autouse=True)
def _as_installed() -> Any:
    """Without the run-time type checker that the rest of the suite has."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (torch.zeros(2, 5, 3), KEYS, STRENGTHS),
            r"memory: expected shape \[N, W\], got \[2, 5, 3\] "
            r"\(one example at a time: batch with torch.func.vmap\)",
        ),
        ((torch.zeros(5), KEYS, STRENGTHS), r"memory: expected shape \[N, W\], got \[5\]$"),
        (
            (MEMORY, torch.zeros(2, 4), STRENGTHS),
            r"keys: expected shape \[R, W\] with W = 3 as in the others, got \[2, 4\]",
        ),
        (
            (MEMORY, KEYS, torch.ones(3)),
            r"strengths: expected shape \[R\] with R = 2 as in the others, got \[3\]",
        ),
        (
            (torch.zeros(0, 3), KEYS, STRENGTHS),
            r"memory: expected shape \[N, W\] with N of at least 1, got \[0, 3\]",
        ),
        (
            (MEMORY.half(), KEYS, STRENGTHS),
            r"memory: expected dtype float32 or float64, got torch.float16",
        ),
        (
            (MEMORY.long(), KEYS, STRENGTHS),
            r"memory: expected dtype float32 or float64, got torch.int64",
        ),
        (
            (MEMORY, KEYS.double(), STRENGTHS),
            r"keys: expected dtype torch.float32 as the others, got torch.float64",
        ),
        (
            (MEMORY, KEYS, STRENGTHS.to("meta")),
            r"strengths: expected device cpu as the others, got meta",
        ),
    ],
)
def test_wrong_tensors(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(MemcoreError, match=message):
        weighting(*arguments)


def test_arguments_by_name_are_checked_too() -> None:
    with pytest.raises(MemcoreError, match="strengths: expected shape"):
        weighting(MEMORY, strengths=torch.ones(3), keys=KEYS)


@pytest.mark.parametrize("value", [None, [1.0], 3, "memory"])
def test_what_is_no_tensor(value: Any) -> None:
    expected = f"keys: expected a torch.Tensor, got {type(value).__name__}"
    with pytest.raises(TypeError, match=expected):
        weighting(MEMORY, value, STRENGTHS)


def test_a_missing_or_superfluous_argument_is_said_by_python() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'strengths'"):
        weighting(MEMORY, KEYS)
    with pytest.raises(TypeError, match="unexpected keyword argument 'sharpness'"):
        weighting(MEMORY, KEYS, STRENGTHS, sharpness=1)
    step: Any = dnc.step
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'interface'"):
        step(dnc.init_state(4, 3, 2))


def test_a_fixed_axis_is_named_by_its_size() -> None:
    rows = torch.zeros(2, 5)
    with pytest.raises(MemcoreError, match=r"read_modes: expected shape \[R, 3\], got \[2, 4\]"):
        memcore.read_weighting(rows, rows, rows, torch.zeros(2, 4))


@pytest.mark.parametrize("offsets", [2, 4])
def test_a_shift_has_a_middle(offsets: int) -> None:
    with pytest.raises(
        MemcoreError,
        match=f"shift: expected an odd number of offsets, with 0 in the middle, got {offsets}",
    ):
        memcore.circular_shift(torch.zeros(2, 5), torch.zeros(2, offsets))


def test_addressing_by_location_names_the_argument() -> None:
    rows = torch.zeros(2, 5)
    with pytest.raises(
        MemcoreError, match=r"shift: expected shape \[R, S\] with R = 2 as in the others, got"
    ):
        memcore.circular_shift(rows, torch.zeros(1, 3))
    with pytest.raises(
        MemcoreError, match=r"previous: expected shape \[R, N\] with N = 5 as in the others, got"
    ):
        memcore.interpolate(rows, torch.zeros(2, 4), torch.zeros(2))
    with pytest.raises(MemcoreError, match=r"gate: expected shape \[R\], got \[2, 1\]"):
        memcore.interpolate(rows, rows, torch.zeros(2, 1))


@pytest.mark.parametrize("name", ["slots", "word_size", "read_heads"])
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_below_one(name: str, value: int) -> None:
    sizes: dict[str, Any] = {"slots": 4, "word_size": 3, "read_heads": 2, name: value}
    with pytest.raises(MemcoreError, match=f"{name}: expected an int of at least 1, got {value}"):
        dnc.init_state(**sizes)


@pytest.mark.parametrize("value", [2.0, True, "3"])
def test_sizes_of_another_type(value: Any) -> None:
    with pytest.raises(TypeError, match=f"word_size: expected an int, got {type(value).__name__}"):
        dnc.interface_size(value, 2)


def test_dtype_of_the_state() -> None:
    with pytest.raises(MemcoreError, match="dtype: expected torch.float32 or torch.float64, got"):
        dnc.init_state(4, 3, 2, dtype=torch.float16)
    wrong: Any = "float32"
    with pytest.raises(TypeError, match="dtype: expected a torch.dtype, got str"):
        dnc.init_state(4, 3, 2, dtype=wrong)


def test_length_of_the_interface_vector() -> None:
    with pytest.raises(
        MemcoreError,
        match="vector: expected 28 elements for word_size 3 and read_heads 2, got 27",
    ):
        dnc.parse_interface(torch.zeros(27), 3, 2)


def test_a_step_names_the_field() -> None:
    state = dnc.init_state(4, 3, 2)
    interface = dnc.parse_interface(torch.zeros(dnc.interface_size(3, 2)), 3, 2)
    with pytest.raises(MemcoreError, match=r"state.link: expected shape \[N, N\] with N = 4"):
        dnc.step(state._replace(link=torch.zeros(4, 5)), interface)
    with pytest.raises(MemcoreError, match=r"interface.read_keys: expected shape \[R, W\]"):
        dnc.step(state, interface._replace(read_keys=torch.zeros(2, 4)))
    wrong: Any = tuple(state)
    with pytest.raises(TypeError, match="state: expected a DNCState, got tuple"):
        dnc.step(wrong, interface)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (memcore.safe_norm, "vectors"),
        (memcore.oneplus, "values"),
        (memcore.exclusive_cumulative_product, "factors"),
    ],
)
def test_primitives(function: Any, name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}: expected a torch.Tensor, got list"):
        function([1.0])
    for dtype in (torch.int64, torch.float16):
        with pytest.raises(MemcoreError, match=f"{name}: expected dtype float32 or float64, got"):
            function(torch.ones(3, dtype=dtype))
    if function is not memcore.oneplus:
        with pytest.raises(MemcoreError, match=f"{name}: expected at least one axis, got shape"):
            function(torch.ones(()))


def test_device_of_the_state() -> None:
    with pytest.raises(MemcoreError, match="device: expected a device that torch knows, got 'gpu'"):
        dnc.init_state(4, 3, 2, device="gpu")
    with pytest.raises(MemcoreError, match="device: expected one of the .* CUDA devices of this"):
        dnc.init_state(4, 3, 2, device="cuda:99")


def test_errors_are_value_errors() -> None:
    assert issubclass(MemcoreError, ValueError)


def test_nan_goes_through() -> None:
    """As in PyTorch's own layers: no check on values, no hidden repair."""
    weights = memcore.content_weighting(MEMORY * torch.nan, KEYS, STRENGTHS)
    assert weights.isnan().all()


def test_slots_under_transforms() -> None:
    """Also under functionalize, which gives tensors without memory to those that look into it."""
    memory = memcore.RowMemory.from_tensor(torch.randn(2, 5, 3))
    index = torch.tensor([[0, 1], [2, 3]])
    for call in (
        lambda: torch.func.functionalize(memory.read)(index),
        lambda: torch.func.vmap(memory.read)(index[None]),
    ):
        with pytest.raises(MemcoreError, match="index: expected to be used outside of torch.func"):
            call()
    with pytest.raises(MemcoreError, match=r"index: expected slots in \[0, 5\), got 5"):
        memory.read(index + 2)


def test_only_want_of_memory_is_told_as_such() -> None:
    """What else fails where much is asked for keeps its own words."""

    def fails() -> None:
        raise RuntimeError("CUDA error: invalid device ordinal")

    with pytest.raises(RuntimeError, match="invalid device"):
        allocated(fails, (2**40,), torch.float32, "")
