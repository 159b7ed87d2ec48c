"""A picture of the debug dictionary: what was written where, and what was read, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from memcore import MemcoreError
from memcore.errors import check_size, how_to_install

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_memory"]

FEWEST_SLOTS = 8  # shown, if there are as many: fewer look like stripes
PANELS_A_LINE = 3  # of those at one step
MOST_COLUMNS = 400  # each of at least a pixel; more are averaged


class Panel(NamedTuple):
    """One heat map."""

    title: str
    label: str  # of the axis that goes down
    values: np.ndarray  # [down, across]
    scale: str  # 'unit': 0 to 1; 'signed': about 0; else what the color stands for, from 0
    slots: np.ndarray | None = None  # which slots the rows are
    across: np.ndarray | str = "time step"  # what goes across: slots, or a label


class Trace(NamedTuple):
    """The debug dictionary of one layer, taken apart; N slots, T steps."""

    slots: int
    writes: list[np.ndarray]  # [T, N] of each write head
    reads: list[np.ndarray]  # [T, N] of each read head
    usage: np.ndarray  # [T, N]
    precedence: list[np.ndarray]  # [T, N] of each write head; of SAM and DAM none
    memory: np.ndarray | None  # [T, N, W]
    links: np.ndarray | None  # [T, write heads, c, c]
    visible: np.ndarray | None  # [T, c]: which slots the links are among; None: all N

    @property
    def steps(self) -> int:
        """T."""
        return len(self.usage)


def plot_memory(
    debug: Mapping[str, np.ndarray],
    *,
    layers: int = 1,
    layer: int | None = None,
    step: int | None = None,
    most_slots: int = 64,
    sequences: Mapping[str, np.ndarray | Tensor] | None = None,
    title: str = "",
) -> Figure:
    """Draw what the memory of one example did, from the debug dictionary of any module.

    Over time: the write weighting of each write head, the read weighting of each read head,
    precedence, usage, and how long the row of each slot is. Below, after one step: the memory's
    rows and the temporal links, of the SDNC those among its visible slots. The numbers of slots
    and heads are read off the dictionary. Slots that were neither written nor read are left out,
    and of more than ``most_slots`` those with the least weights.

    Args:
        debug: the debug dictionary, the third value of a call with ``debug``; what it lacks but
            ``write_weights``, ``read_weights`` and ``usage`` or ``usage_vector`` is not drawn.
        layers: ``num_layers`` of the module, which the dictionary does not say.
        layer: after which of these layers, from 0; None: after the last.
        step: after which time step rows and links are shown, from 0; None: after the last.
        most_slots: how many slots are shown at the most.
        sequences: further panels, above all others: name → ``[T, ·]``, as of the example's input.
        title: of the whole.

    Returns:
        A figure that pyplot knows nothing of: ``figure.savefig('memory.png')``.

    Raises:
        TypeError: an argument of the wrong type.
        MemcoreError: an argument out of its range, or entries that do not fit each other.
        ImportError: matplotlib is not installed; the message names the extra.

    Example:
        >>> import torch
        >>> from torch_adapters import DNC, plot_memory
        >>> model = DNC(input_size=4, hidden_size=16, nr_cells=8, debug=1)
        >>> *_, debug = model(torch.randn(2, 10, 4))
        >>> plot_memory(debug, step=5).savefig("memory.png")  # doctest: +SKIP
    """
    most_slots = check_size("most_slots", most_slots)
    trace, layer = _read(debug, layers, layer)
    step = trace.steps - 1 if step is None else check_size("step", step, minimum=0)
    if step >= trace.steps:
        raise MemcoreError(f"step: expected an int below the {trace.steps} steps, got {step}")
    above = _sequences(sequences, trace.steps)
    shown = _slots_that_matter([*trace.writes, *trace.reads], most_slots)
    panels = above + _over_time(trace, shown, "usage_vector" in debug, "read_positions" in debug)
    when = "time step" if layers == 1 else f"time step (after layer {layer} of 0 to {layers - 1})"
    return _draw(title, panels, when, _at_step(trace, shown, step, most_slots))


def _read(debug: object, layers: int, layer: int | None) -> tuple[Trace, int]:
    """Take the dictionary apart; which layer it is then of."""
    if not isinstance(debug, Mapping):
        raise TypeError(f"debug: expected the debug dictionary, got {type(debug).__name__}")
    usage = "usage_vector" if "usage_vector" in debug else "usage"
    missing = [name for name in ("write_weights", "read_weights", usage) if name not in debug]
    if missing:
        raise MemcoreError(
            "debug: expected the debug dictionary, with write_weights, read_weights and usage or "
            f"usage_vector, got one without {' and '.join(missing)}"
        )
    layers = check_size("layers", layers)
    layer = layers - 1 if layer is None else check_size("layer", layer, minimum=0)
    if layer >= layers:
        raise MemcoreError(f"layer: expected an int below layers = {layers}, got {layer}")
    rows = np.shape(debug[usage])[:1]
    entries = {name: _entry(name, value, rows) for name, value in debug.items()}
    if len(entries[usage]) % layers:
        raise MemcoreError(
            f"layers: expected a divisor of the {len(entries[usage])} rows of the debug "
            f"dictionary, one for each time step and layer, got {layers}"
        )
    entries = {name: value[layer::layers] for name, value in entries.items()}
    slots = entries[usage].shape[1]
    writes, reads = (_heads(name, entries, slots) for name in ("write_weights", "read_weights"))
    precedence = _heads("precedence", entries, slots) if "precedence" in entries else []
    memory = links = None
    if "memory" in entries:
        _check_width("memory", entries, f"a multiple of the {slots} slots", slots)
        memory = entries["memory"].reshape(len(entries["memory"]), slots, -1)
    visible = entries.get("read_positions")
    if "link_matrix" in entries:
        heads = len(writes)
        among = slots if visible is None else visible.shape[1]
        size = heads * among * among
        _check_width("link_matrix", entries, f"{heads} · {among}²", size, exactly=True)
        links = entries["link_matrix"].reshape(-1, heads, among, among)
    return Trace(slots, writes, reads, entries[usage], precedence, memory, links, visible), layer


def _entry(name: str, value: object, rows: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 2 or array.shape[:1] != rows or not array.size:
        raise MemcoreError(
            f"debug[{name!r}]: expected shape [rows, numbers], with as many rows as all entries "
            f"have, got {list(array.shape)}"
        )
    return array


def _check_width(
    name: str, entries: Mapping[str, np.ndarray], what: str, of: int, *, exactly: bool = False
) -> None:
    width = entries[name].shape[1]
    if width != of if exactly else width % of:
        raise MemcoreError(f"debug[{name!r}]: expected {what} numbers in a row, got {width}")


def _heads(name: str, entries: Mapping[str, np.ndarray], slots: int) -> list[np.ndarray]:
    """``[T, N]`` of each head."""
    _check_width(name, entries, f"a multiple of the {slots} slots as", slots)
    return np.split(entries[name], entries[name].shape[1] // slots, axis=1)


def _sequences(sequences: object, steps: int) -> list[Panel]:
    if sequences is None:
        return []
    if not isinstance(sequences, Mapping):
        raise TypeError(
            f"sequences: expected a mapping of names to arrays, got {type(sequences).__name__}"
        )
    panels = []
    for name, value in sequences.items():
        array = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else value
        array = np.asarray(array, dtype=float)
        if array.ndim != 2 or len(array) != steps or not array.size:
            raise MemcoreError(
                f"sequences[{name!r}]: expected shape [{steps}, channels], as there are {steps} "
                f"steps, got {list(array.shape)}"
            )
        unit = np.nanmin(array, initial=0) >= 0 and np.nanmax(array, initial=0) <= 1
        panels.append(Panel(name, "channel", array.T, "unit" if unit else "signed"))
    return panels


def _slots_that_matter(weightings: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Which slots to show, in order: those with the largest weights ``[T, N]``, none without."""
    peaks = np.max([np.nan_to_num(np.abs(weights)).max(0) for weights in weightings], axis=0)
    # Of equal ones the first; the untouched ones come last.
    ranked = np.argsort(-peaks, kind="stable")
    count = max(np.count_nonzero(peaks), min(FEWEST_SLOTS, len(peaks)))
    return np.sort(ranked[: min(count, most)])


def _over_time(trace: Trace, shown: np.ndarray, dense_usage: bool, sparse: bool) -> list[Panel]:
    label = "slot" if len(shown) == trace.slots else f"slot (of {trace.slots})"
    panels = []

    def add(title: str, values: np.ndarray, scale: str = "unit") -> None:
        panels.append(Panel(title, label, values[:, shown].T, scale, shown))

    for what, heads in (
        ("write weighting", trace.writes),
        ("read weighting", trace.reads),
        ("precedence", trace.precedence),
    ):
        for number, head in enumerate(heads):
            add(what if len(heads) == 1 else f"{what}, head {number}", head)
    if dense_usage:
        add("usage", trace.usage)
    elif sparse:
        add("usage: the step of the last access, 0 for never", trace.usage, "step")
    else:
        add("usage: the sum of all accesses, earlier ones discounted", trace.usage, "accesses")
    if trace.memory is not None:
        rows = trace.memory[:, shown].astype(float)
        lengths = np.linalg.norm(rows, axis=-1)
        panels.append(Panel("memory: length of each row", label, lengths.T, "length", shown))
    return panels


def _at_step(trace: Trace, shown: np.ndarray, step: int, most: int) -> list[Panel]:
    label = "slot" if len(shown) == trace.slots else f"slot (of {trace.slots})"
    panels = []
    if trace.memory is not None:
        rows, title = trace.memory[step, shown], f"memory after step {step}"
        panels.append(Panel(title, label, rows, "signed", shown, "column"))
    if trace.links is None:
        return panels
    if trace.visible is None:
        which, slots, among = shown, shown, ""
    else:
        # A slot that several heads are on stands there as often.
        slots, which = np.unique(trace.visible[step], return_index=True)
        links = trace.links[step][:, which][..., which]
        linked = _slots_that_matter([*links, *links.transpose(0, 2, 1)], most)
        which, slots, among = which[linked], slots[linked], ", visible slots"
    for number, links in enumerate(trace.links[step]):
        head = f", head {number}" if len(trace.writes) > 1 else ""
        title = f"links after step {step}{among}{head}"
        values = links[which][:, which]
        panels.append(Panel(title, "slot written …", values, "links", slots, slots))
    return panels


def _draw(title: str, panels: Sequence[Panel], when: str, below: Sequence[Panel]) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"plot_memory needs the package matplotlib: {how_to_install('viz')}"
        ) from error
    lines = -(-len(below) // PANELS_A_LINE)
    tall = [1 + len(panel.values) / 50 for panel in panels]  # inches
    heights = [0.5 + sum(tall)] + [3.1 * lines] * bool(lines)
    size = (9, sum(heights) + 0.4 * bool(title))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    axes = parts[0].subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=tall)[:, 0]
    images = [_show(axis, panel, 5) for axis, panel in zip(axes, panels, strict=True)]
    axes[-1].set_xlabel(when)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    begin = 0
    for end in range(1, len(panels) + 1):
        scale = panels[begin].scale
        if end == len(panels) or scale != "unit" or panels[end].scale != "unit":
            own = list(axes[begin:end])  # neighbours of one scale share its legend
            bar = parts[0].colorbar(
                images[begin], ax=own, fraction=0.06, aspect=12 * min(len(own), 3),
                shrink=min(1, 3 / len(own)),
            )  # fmt: skip
            bar.set_label({"unit": "0 to 1", "signed": "value"}.get(scale, scale))
            begin = end
    if lines:
        columns = min(len(below), PANELS_A_LINE)
        grid = parts[1].subplots(lines, columns, squeeze=False).flat
        for axis, panel in zip(grid, below, strict=False):
            parts[1].colorbar(_show(axis, panel, 8), ax=axis, fraction=0.06)
        for axis in list(grid):  # what is left of the last line
            axis.set_axis_off()
    return figure


def _show(axis: Any, panel: Panel, ticks: int) -> Any:
    finite = panel.values[np.isfinite(panel.values)]
    largest = float(np.abs(finite).max(initial=0)) or 1.0
    colors, least, most = {
        "unit": ("viridis", 0.0, 1.0),
        "links": ("viridis", 0.0, largest),
        "signed": ("RdBu_r", -largest, largest),
    }.get(panel.scale, ("cividis", 0.0, largest))
    sharp = "nearest" if panel.values.shape[1] <= MOST_COLUMNS else "auto"
    image = axis.imshow(
        panel.values, aspect="auto", interpolation=sharp, cmap=colors, vmin=least, vmax=most
    )
    axis.set_title(panel.title, fontsize="medium", loc="left")
    axis.set_ylabel(panel.label)
    _number(axis.yaxis, panel.slots, ticks)
    if isinstance(panel.across, str):
        _number(axis.xaxis, None, ticks)
        axis.set_xlabel("" if panel.across == "time step" else panel.across)
    else:
        _number(axis.xaxis, panel.across, ticks)
        axis.set_xlabel("… right after slot")
    return image


def _number(axis: Any, slots: np.ndarray | None, ticks: int) -> None:
    """Ticks at whole numbers, or that name the slots where some are left out."""
    from matplotlib.ticker import MaxNLocator

    if slots is None or np.array_equal(slots, np.arange(len(slots))):
        axis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
    else:
        places = np.unique(np.linspace(0, len(slots) - 1, min(len(slots), ticks)).round())
        axis.set_ticks(places, [str(slots[int(place)]) for place in places])
