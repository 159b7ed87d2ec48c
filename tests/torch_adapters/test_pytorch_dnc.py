"""Who comes from pytorch-dnc: its constructor calls, by position too, and its debug dictionary."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from torch_adapters import DAM, DNC, SAM, SDNC

FIRST = "input_size hidden_size rnn_type num_layers num_hidden_layers bias batch_first dropout"
LAST = "read_heads cell_size nonlinearity gpu_id independent_linears share_memory debug clip"
ORDER = {  # of version 1.1.0
    DNC: f"{FIRST} bidirectional nr_cells {LAST}".split(),
    SAM: f"{FIRST} bidirectional nr_cells sparse_reads {LAST}".split(),
    SDNC: f"{FIRST} bidirectional nr_cells sparse_reads temporal_reads {LAST}".split(),
}
# Its defaults in that order, but for the two sizes.
DEFAULTS = {
    DNC: ("lstm", 1, 2, True, True, 0, False, 5, 2, 10, "tanh", -1, False, True, False, 20),
    SAM: ("lstm", 1, 2, True, True, 0, False, 5000, 4, 4, 10, "tanh", -1, False, True, False, 20),
    SDNC: (
        "lstm", 1, 2, True, True, 0, False, 5000, 4, 4, 4, 10, "tanh", -1, False, True, False, 20,
    ),
}  # fmt: skip
DEBUG = {
    DNC: "memory link_matrix precedence read_weights write_weights usage_vector",
    SAM: "memory visible_memory read_weights write_weights usage read_positions",
    SDNC: "memory visible_memory link_matrix rev_link_matrix precedence read_weights "
    "write_weights usage read_positions",
}  # without read_vectors and least_used_mem, which pytorch-dnc's sparse ones have too
models = pytest.mark.parametrize("model", ORDER, ids=lambda model: model.__name__)


@models
def test_arguments_stand_in_its_order_with_its_defaults(model: Any) -> None:
    by_position = [
        parameter
        for parameter in list(inspect.signature(model.__init__).parameters.values())[1:]
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    assert [parameter.name for parameter in by_position] == ORDER[model]
    assert tuple(parameter.default for parameter in by_position[2:]) == DEFAULTS[model]


@models
def test_the_order_is_that_of_the_package(model: Any) -> None:
    package = pytest.importorskip("dnc", exc_type=ImportError)
    theirs = inspect.signature(getattr(package, model.__name__).__init__).parameters
    assert list(theirs)[1:] == ORDER[model]
    assert tuple(p.default for p in list(theirs.values())[3:]) == DEFAULTS[model]


@models
def test_all_by_position(model: Any) -> None:
    different = {
        "input_size": 3,
        "hidden_size": 8,
        "rnn_type": "rnn",
        "num_layers": 2,
        "num_hidden_layers": 2,
        "bias": False,
        "batch_first": False,
        "dropout": 0.25,
        "bidirectional": False,
        "nr_cells": 12,
        "sparse_reads": 2,
        "temporal_reads": 1,
        "read_heads": 3,
        "cell_size": 4,
        "nonlinearity": "relu",
        "gpu_id": -1,
        "independent_linears": True,
        "share_memory": False,
        "debug": True,
        "clip": 5,
    }
    given = {name: different[name] for name in ORDER[model]}
    torch.manual_seed(0)
    positional = model(*given.values())
    torch.manual_seed(0)
    named = model(**given)
    assert repr(positional) == repr(named)
    input, states = torch.randn(5, 2, 3), []
    for module in (positional.eval(), named.eval()):
        output, _, debug = module(input, (None, None, None), True, True)
        states.append({"output": output.detach().numpy(), **debug})
    assert states[0].keys() == states[1].keys() == {"output", *DEBUG[model].split()}
    for name, value in states[0].items():
        assert (value == states[1][name]).all(), name
    assert states[0]["memory"].shape == (5 * 2, 12 * 4)


def test_the_dense_control_takes_the_same_order() -> None:
    assert "DAMCell(nr_cells=12, cell_size=4, read_heads=2" in repr(
        DAM(3, 8, "gru", 1, 1, True, True, 0, False, 12, 2, 4).cell
    )


def test_what_came_later_is_by_keyword() -> None:
    with pytest.raises(TypeError, match="positional arguments"):
        DNC(3, 8, *DEFAULTS[DNC], 0.5)  # pyright: ignore[reportCallIssue]
