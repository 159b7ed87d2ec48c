"""The picture of the debug dictionary, read back from the figure."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from memcore import MemcoreError
from memcore.errors import how_to_install
from modules import batch, build, every_model
from torch_adapters import DAM, DNC, SAM, SDNC, plot_memory

N, W, R, T = 5, 4, 2, 6


def traced(model: Any = DNC, steps: int = T, **options: Any) -> dict[str, np.ndarray]:
    """The debug dictionary of an example that is not the first."""
    module = build(model, debug=1, **options)
    return module(3 * batch(module, steps=steps))[2]


def panels(figure: Any) -> dict[str, Any]:
    """Axes by title, in the order in which they are drawn."""
    return {title: axis for axis in figure.axes if (title := axis.get_title(loc="left"))}


def values(axis: Any) -> np.ndarray:
    (image,) = axis.images
    return np.asarray(image.get_array())


def over_time(trace: dict[str, np.ndarray], name: str, slots: int = N) -> np.ndarray:
    """``[heads, N, T]``."""
    return trace[name].reshape(len(trace[name]), -1, slots).transpose(1, 2, 0)


READS = ["read weighting, head 0", "read weighting, head 1"]
LAST = ["memory: length of each row", f"memory after step {T - 1}"]
TITLES = {
    DNC: ["write weighting", *READS, "precedence", "usage", *LAST, f"links after step {T - 1}"],
    SAM: ["write weighting", *READS, "usage: the step of the last access, 0 for never", *LAST],
    SDNC: [
        "write weighting",
        *READS,
        "precedence",
        "usage: the step of the last access, 0 for never",
        *LAST,
        f"links after step {T - 1}, visible slots",
    ],
    DAM: [
        "write weighting",
        *READS,
        "usage: the sum of all accesses, earlier ones discounted",
        *LAST,
    ],
}


@every_model
def test_every_panel_shows_its_own_entry(model: Any) -> None:
    trace = traced(model)
    axes = panels(plot_memory(trace))
    assert list(axes) == TITLES[model]
    usage = trace["usage_vector" if model is DNC else "usage"]
    memory = trace["memory"].reshape(T, N, W)
    expected = {
        "write weighting": trace["write_weights"].T,
        READS[0]: trace["read_weights"][:, :N].T,
        READS[1]: trace["read_weights"][:, N:].T,
        LAST[0]: np.linalg.norm(memory, axis=-1).T,
        LAST[1]: memory[-1],
        next(title for title in axes if title.startswith("usage")): usage.T,
    }
    if "precedence" in axes:
        expected["precedence"] = trace["precedence"].T
    for title, shown in expected.items():
        np.testing.assert_allclose(values(axes[title]), shown, err_msg=title)
    weights = values(axes["write weighting"])
    assert weights.any()
    assert not np.allclose(values(axes[READS[0]]), values(axes[READS[1]]))


def test_the_links_of_the_dnc_are_those_after_the_step() -> None:
    trace = traced()
    for step in (0, 2, T - 1):
        axes = panels(plot_memory(trace, step=step))
        links = trace["link_matrix"][step].reshape(N, N)
        np.testing.assert_array_equal(values(axes[f"links after step {step}"]), links)
        rows = trace["memory"][step].reshape(N, W)
        np.testing.assert_array_equal(values(axes[f"memory after step {step}"]), rows)
    assert links.any()
    assert not np.allclose(links, links.T)


def test_write_heads_stand_apart() -> None:
    trace = traced(write_heads=2)
    axes = panels(plot_memory(trace))
    for head in range(2):
        for name, title in (("write_weights", "write weighting"), ("precedence", "precedence")):
            shown = values(axes[f"{title}, head {head}"])
            np.testing.assert_array_equal(shown, over_time(trace, name)[head])
        links = trace["link_matrix"][-1].reshape(2, N, N)[head]
        title = f"links after step {T - 1}, head {head}"
        np.testing.assert_array_equal(values(axes[title]), links)
    assert len(axes) == 2 + R + 2 + 1 + 1 + 1 + 2


def test_the_links_of_the_sdnc_are_among_its_visible_slots() -> None:
    """Each once, with its number at the ticks."""
    trace = traced(SDNC, nr_cells=40)
    axes = panels(plot_memory(trace))
    axis = axes[f"links after step {T - 1}, visible slots"]
    positions = trace["read_positions"][-1]
    size = len(positions)
    links = trace["link_matrix"][-1].reshape(size, size)
    shown = values(axis)
    count = len(np.unique(positions))
    assert len(shown) <= count < size
    assert shown.max() == links.max() > 0
    assert sorted(shown[shown > 0]) == sorted(
        {(a, b): links[i, j] for i, a in enumerate(positions) for j, b in enumerate(positions)
         if links[i, j] > 0}.values()
    )  # fmt: skip
    labels = [int(label.get_text()) for label in axis.get_yticklabels()]
    places = axis.get_yticks().astype(int)
    for place, slot in zip(places, labels, strict=True):
        (first, *_) = np.flatnonzero(positions == slot)
        assert set(shown[place]) <= {*links[first], 0.0}
        assert shown[place].max() == links[first].max()


@every_model
def test_of_several_layers_the_one_asked_for_is_shown(model: Any) -> None:
    trace = traced(model, num_layers=2)
    last = panels(plot_memory(trace, layers=2))
    for layer, axes in (
        (0, panels(plot_memory(trace, layers=2, layer=0))),
        (1, panels(plot_memory(trace, layers=2, layer=1))),
        (1, last),
    ):
        own = {name: rows[layer::2] for name, rows in trace.items()}
        for title, axis in panels(plot_memory(own)).items():
            np.testing.assert_array_equal(values(axes[title]), values(axis))
    assert last["memory: length of each row"].get_xlabel() == (
        "time step (after layer 1 of 0 to 1)"
    )


def test_what_the_dictionary_lacks_is_not_drawn() -> None:
    trace = traced()
    for name in ("memory", "link_matrix", "precedence"):
        del trace[name]
    assert list(panels(plot_memory(trace))) == ["write weighting", *READS, "usage"]


def test_sequences_stand_above() -> None:
    input, output = torch.randn(T, 3), torch.rand(T, 2, requires_grad=True)
    figure = plot_memory(traced(), sequences={"input": input, "output": output}, title="copy")
    axes = panels(figure)
    assert list(axes)[:3] == ["input", "output", "write weighting"]
    np.testing.assert_allclose(values(axes["input"]), input.numpy().T)
    np.testing.assert_allclose(values(axes["output"]), output.detach().numpy().T)
    assert figure.get_suptitle() == "copy"


def test_only_slots_that_were_touched_are_shown() -> None:
    """Of a million, with their numbers."""
    slots = 10**6
    writes, reads = np.zeros((2, 3, slots), dtype=np.float32)
    writes[0, 999_999] = writes[2, 500_000] = 0.5
    reads[1, 17] = 0.25
    trace = {"write_weights": writes, "read_weights": reads, "usage": writes > 0}
    axes = panels(plot_memory(trace))
    axis = axes["write weighting"]
    assert values(axis).shape == (8, 3)
    assert axis.get_ylabel() == "slot (of 1000000)"
    np.testing.assert_array_equal(values(axis)[-1], [0.5, 0, 0])
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[0] == "0"
    assert labels[-1] == "999999"
    few = panels(plot_memory(trace, most_slots=2))  # those with the most weight
    np.testing.assert_array_equal(values(few["write weighting"]), [[0, 0, 0.5], [0.5, 0, 0]])
    assert not values(few["read weighting"]).any()


def test_a_dense_memory_shows_no_more_than_asked_for() -> None:
    trace = traced(nr_cells=100)
    axes = panels(plot_memory(trace))
    assert {len(values(axis)) for title, axis in axes.items()} == {64}
    axes = panels(plot_memory(trace, most_slots=10))
    assert values(axes[f"links after step {T - 1}"]).shape == (10, 10)


@pytest.mark.parametrize("model", [SAM, SDNC])
def test_a_large_sparse_memory(model: Any) -> None:
    trace = traced(model, nr_cells=1000)
    axes = panels(plot_memory(trace))
    shown = values(axes["write weighting"])
    assert 8 <= len(shown) <= 64
    np.testing.assert_allclose(shown.sum(0), trace["write_weights"].sum(1))


def test_what_is_not_finite_is_drawn_all_the_same() -> None:
    trace = {name: np.full_like(rows, np.nan) for name, rows in traced().items()}
    figure: Any = plot_memory(trace)
    figure.canvas.draw()


def test_a_single_step() -> None:
    module = build(debug=True)
    *_, trace = module.step(batch(module)[:, 0])
    figure: Any = plot_memory(trace)
    figure.canvas.draw()
    assert values(panels(figure)["usage"]).shape == (N, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": 4}, MemcoreError, r"layers: expected a divisor of the 6 rows .*, got 4"),
        ({"layers": 0}, MemcoreError, "layers: expected an int of at least 1, got 0"),
        ({"layers": True}, TypeError, "layers: expected an int, got bool"),
        ({"layer": 1}, MemcoreError, "layer: expected an int below layers = 1, got 1"),
        ({"layer": -1}, MemcoreError, "layer: expected an int of at least 0, got -1"),
        ({"step": 6}, MemcoreError, "step: expected an int below the 6 steps, got 6"),
        ({"step": -1}, MemcoreError, "step: expected an int of at least 0, got -1"),
        ({"step": 3, "layers": 2}, MemcoreError, "step: expected an int below the 3 steps, got 3"),
        ({"step": "last"}, TypeError, "step: expected an int, got str"),
        ({"most_slots": 0}, MemcoreError, "most_slots: expected an int of at least 1, got 0"),
        ({"sequences": torch.ones(6, 2)}, TypeError, "sequences: expected a mapping"),
        (
            {"sequences": {"input": torch.ones(5, 2)}},
            MemcoreError,
            r"sequences\['input'\]: expected shape \[6, channels\].*got \[5, 2\]",
        ),
    ],
)
def test_wrong_arguments(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        plot_memory(traced(), **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"usage_vector": None}, "got one without usage"),
        ({"write_weights": None, "read_weights": None}, "write_weights and read_weights"),
        ({"memory": np.ones((T, 21))}, r"debug\['memory'\]: expected a multiple of the 5 slots"),
        ({"memory": np.ones((T - 1, 20))}, r"debug\['memory'\]: expected shape \[rows, numbers\]"),
        ({"memory": np.ones(20)}, r"debug\['memory'\]: expected shape .*, got \[20\]"),
        ({"link_matrix": np.ones((T, 50))}, r"debug\['link_matrix'\]: expected 1 · 5² numbers"),
        ({"read_weights": np.ones((T, 6))}, r"debug\['read_weights'\]: expected a multiple of"),
    ],
)
def test_a_dictionary_that_does_not_fit_itself(changes: Any, message: str) -> None:
    trace = {**traced(), **changes}
    trace = {name: value for name, value in trace.items() if value is not None}
    with pytest.raises(MemcoreError, match=message):
        plot_memory(trace)


def test_what_is_no_dictionary() -> None:
    with pytest.raises(TypeError, match="debug: expected the debug dictionary, got Tensor"):
        plot_memory(torch.ones(3))  # pyright: ignore[reportArgumentType]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError) as caught:
        plot_memory(traced())
    assert str(caught.value) == (
        f"plot_memory needs the package matplotlib: {how_to_install('viz')}"
    )


def test_nothing_is_imported_before_it_is_needed_and_pyplot_never() -> None:
    code = (
        "import sys, torch\n"
        "from torch_adapters import DNC, plot_memory\n"
        "assert 'matplotlib' not in sys.modules\n"
        "*_, debug = DNC(2, 4, debug=True)(torch.zeros(1, 2, 2))\n"
        "plot_memory(debug)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
