"""A recurrent controller around an external memory, as a module.

It knows no particular memory; see `torch_adapters.cell.Cell` for what it asks of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence

from memcore import MemcoreError
from memcore.backends import COMPILING, NUMBA, check_backend, log_reference
from memcore.circumstances import (
    check_reverse_mode,
    has_dynamo,
    is_exporting,
    is_transformed,
    without_dynamo,
)
from memcore.errors import check_tensor
from torch_adapters.backend import Backend, choose, has_kernels
from torch_adapters.carried import Carried
from torch_adapters.cell import Cell
from torch_adapters.debug import Trace, check_debug, example_of
from torch_adapters.hx import Door
from torch_adapters.interface import Interface
from torch_adapters.options import RNNOptions, check_clip
from torch_adapters.segment import Weights, is_sparse
from torch_adapters.sequence import Steps, join, split, split_flags
from torch_adapters.time_loop import autocast_is_on, run_segments, run_steps, time_step

__all__ = ["MemoryRNN"]


class MemoryRNN(nn.Module):
    """A recurrent controller around an external memory; the base of `DNC` and the others.

    Args:
        cell: the memory.
        options: everything that is not the memory's.
    """

    compiled_step: Callable[..., tuple[Tensor, Carried]] | None = None  # `time_step`, by `compile`

    def __init__(self, cell: Cell[Any], options: RNNOptions) -> None:
        super().__init__()
        self.cell = cell
        self.input_size = options.input_size
        self.hidden_size = options.hidden_size
        self.output_size = options.output_size or options.input_size
        self.rnn_type = options.rnn_type
        self.num_layers = options.num_layers
        self.num_hidden_layers = options.num_hidden_layers
        self.batch_first = options.batch_first
        self.shared_memory = options.share_memory
        self._debug = options.debug
        self._backend = options.backend
        self._clip = options.clip
        self.bypass_dropout = options.bypass_dropout
        place = {"device": options.device, "dtype": options.dtype}
        widths = [options.input_size + cell.read_size]
        widths += [options.hidden_size + cell.read_size] * (options.num_layers - 1)
        self.controllers = nn.ModuleList(options.controller(width) for width in widths)
        self.interfaces = nn.ModuleList(
            Interface(
                options.hidden_size,
                cell.interface_sizes,
                independent=options.independent_linears,
                layer_norm=options.layer_norm,
                **place,
            )
            for _ in widths
        )
        self.reverse = options.reverse()
        width = options.hidden_size + cell.read_size + options.hidden_size * options.bidirectional
        self.output = nn.Linear(width, self.output_size, **place)
        self.memory_rows = None
        if options.learned_memory:
            memory: Any = cell
            self.memory_rows = _first_rows(options, memory.cell_size)

    @property
    def backend(self) -> str:
        """``'auto'``, ``'reference'`` or ``'numba'``; can be set."""
        return self._backend

    @backend.setter
    def backend(self, backend: str) -> None:
        self._backend = check_backend("backend", backend)

    @property
    def clip(self) -> float:
        """To what the controller's output is clamped, 0: not at all; can be set."""
        return self._clip

    @clip.setter
    def clip(self, clip: float) -> None:
        self._clip = check_clip(clip)

    @property
    def debug(self) -> bool | int:
        """Whether to return the debug dictionary, or of which example; can be set."""
        return self._debug

    @debug.setter
    def debug(self, debug: bool | int) -> None:
        self._debug = check_debug(debug)

    def extra_repr(self) -> str:
        """The memory and the switches, for ``print(module)``."""
        return (
            f"{self.cell}, batch_first={self.batch_first}, share_memory={self.shared_memory}, "
            f"learned_memory={self.memory_rows is not None}, "
            f"bypass_dropout={self.bypass_dropout:g}, clip={self.clip:g}, "
            f"backend={self.backend!r}"
        )

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Any, Any, Any] | None = None,
        reset_experience: bool | Tensor = False,
        pass_through_memory: bool = True,
        episode_start: Tensor | PackedSequence | None = None,
    ) -> tuple[Any, ...]:
        """Run over a batch of sequences.

        Layer 0 receives ``[x_t ; r_{t-1}]`` with the last layer's reads of the step before,
        each further layer ``[h_t ; r_t]`` of the one below; the output is a linear map of
        ``[h_t ; r_t]`` of the last.

        Args:
            input: ``[B, T, input_size]``, ``[T, B, input_size]`` with ``batch_first=False``, or
                a PackedSequence; in the parameters' dtype and on their device.
            hx: None, or a state returned before, any of its three parts None to begin anew;
                never changed, so that it can be passed again.
            reset_experience: True empties the memory and read vectors of ``hx`` first; a bool
                tensor ``[B]`` does so for those examples. The controller's state stays.
            pass_through_memory: False leaves memory and read vectors as they are.
            episode_start: bool, in the layout of the input less its last axis: those examples
                begin anew, controller, memory and reads, before that step.

        Returns:
            ``(output, (controller_hidden, memory, read_vectors))``: the output in the layout of
            the input; with ``debug`` also the debug dictionary of one example, NumPy arrays
            with one row for each time step of this example and layer.

        Raises:
            TypeError: an argument of the wrong type.
            MemcoreError: an argument of the wrong shape, dtype or device, a state of another
                module or batch size, a number in ``debug`` that no example has, or a debug
                trace over 1 GiB.
        """
        given = (input, hx, reset_experience, pass_through_memory, episode_start)
        # Not only while this is traced: a call that Dynamo failed to trace it leaves out from then
        # on, and traces what that calls.
        if has_dynamo() and self._leaves_the_graph():
            return self._outside_of_the_graph(*given)
        return self._forward(*given)

    def _forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Any, Any, Any] | None,
        reset_experience: bool | Tensor,
        pass_through_memory: bool,
        episode_start: Tensor | PackedSequence | None,
    ) -> tuple[Any, ...]:
        """`forward` but for where `torch.compile` traces."""
        door, steps, starts, carried, chosen, weights = self._enter(
            input, hx, reset_experience, pass_through_memory, episode_start
        )
        if chosen.reason not in (None, COMPILING) and self.backend == "auto":
            log_reference(type(self).__name__, chosen.reason)
        trace = self._new_trace(carried, steps)
        if steps.sorted_indices is not None:
            carried = carried.take(self.cell, steps.sorted_indices)
        if weights is None:
            rows, carried = run_steps(self, steps, starts, carried, pass_through_memory, trace)
        else:
            rows, carried = run_segments(self, steps, starts, carried, weights)
        if steps.unsorted_indices is not None:
            carried = carried.take(self.cell, steps.unsorted_indices)
        joined = self._around(torch.cat(rows) if len(rows) > 1 else rows[0], steps)
        result = join(self.output(joined), input, self.batch_first)
        state = door.leave(carried)
        return (result, state) if trace is None else (result, state, trace.to_numpy())

    def _around(self, rows: Tensor, steps: Steps) -> Tensor:
        """What the output layer gets: ``[h_t ; r_t]``, and what was read from the end."""
        if self.bypass_dropout and self.training:
            hidden, reads = rows.split([self.hidden_size, rows.shape[-1] - self.hidden_size], -1)
            rows = torch.cat([dropout(hidden, self.bypass_dropout), reads], -1)
        if self.reverse is not None:
            back = self.reverse(steps.rows, steps.batch_sizes)
            rows = torch.cat([rows, back.to(rows.dtype)], -1)
        return rows

    @without_dynamo
    def _outside_of_the_graph(self, *given: Any) -> tuple[Any, ...]:
        """`forward` where `torch.compile` breaks its graph: it runs as it is."""
        return self._forward(*given)

    def _leaves_the_graph(self) -> bool:
        """Whether a call is nothing for `torch.compile`: edited in place, or run by kernels."""
        if is_exporting():
            return False
        if is_sparse(self.cell):
            return True
        return self.backend != "reference" and NUMBA and has_kernels(self.cell)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the time step by `torch.compile`, where the memory is one of plain tensors.

        The loop over time stays Python's, so that it is compiled once for sequences of any length.
        It holds where the reference runs: kernels, where they apply, are faster still. A call of
        SAM or the SDNC stays as it is.

        Args:
            args: as those of `torch.compile` after the first.
            kwargs: the same.
        """
        if is_sparse(self.cell):
            super().compile(*args, **kwargs)
        else:
            self.compiled_step = torch.compile(time_step, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # As with what torch's own modules compile: copies and pickles are without.
        return {**super().__getstate__(), "compiled_step": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickles of before an example could be chosen have a plain attribute, true or not.
        if "debug" in state:
            state = {**state, "_debug": bool(state["debug"])}
            del state["debug"]
        super().__setstate__(state)

    def resize(self, nr_cells: int, *, temperature: float | None = None) -> None:
        """Give the memory another number of slots; no parameter depends on it.

        States of before no longer fit. A look-up by content spreads over more slots then, which a
        temperature above 1 works against.

        Args:
            nr_cells: N.
            temperature: that of `DNC`; None: as it is.

        Raises:
            TypeError: an argument of the wrong type.
            MemcoreError: an argument out of its range, or another size than that of the index
                which the module was given. Nothing is changed.
        """
        cell: Any = self.cell
        options = cell.options
        index = getattr(cell, "index", "")
        if not isinstance(index, str) and nr_cells != cell.nr_cells:
            raise MemcoreError(
                f"nr_cells: expected {cell.nr_cells}, for which the {type(index).__name__} was "
                f"made that the module was given as index, got {nr_cells}"
            )
        if temperature is not None:
            options = replace(options, temperature=temperature)
        self.cell = replace(cell, nr_cells=nr_cells, options=options)

    def backend_of(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Any, Any, Any] | None = None,
        reset_experience: bool | Tensor = False,
        pass_through_memory: bool = True,
        episode_start: Tensor | PackedSequence | None = None,
    ) -> Backend:
        """Which backend this very call would take, and if it is the reference, why.

        The answer holds for the call made in the same place: under the same autocast, transforms
        and modes.

        Args:
            input: as in `forward`.
            hx: as in `forward`.
            reset_experience: as in `forward`.
            pass_through_memory: as in `forward`.
            episode_start: as in `forward`.

        Returns:
            ``(name, reason)``: ``('numba', None)``, or ``'reference'`` and one sentence.

        Raises:
            TypeError: as `forward`.
            MemcoreError: as `forward`; also where `backend` is ``'numba'`` and the kernels do not
                take the call.
        """
        return self._enter(input, hx, reset_experience, pass_through_memory, episode_start)[4]

    def _enter(
        self,
        input: Any,
        hx: Any,
        reset_experience: Any,
        pass_through_memory: Any,
        episode_start: Any,
    ) -> tuple[Door, Steps, list[Tensor | None], Carried, Backend, Weights | None]:
        """Check a call's arguments, and choose its backend."""
        if is_sparse(self.cell):
            check_reverse_mode(type(self).__name__, "DNC and DAM take part")
            if is_exporting():
                raise MemcoreError(
                    f"{type(self).__name__}: expected to be run, got torch.export, which knows "
                    "nothing of what is edited in place; DNC and DAM can be exported"
                )
        if self.reverse is not None:
            if is_transformed() or torch.compiler.is_compiling():
                raise MemcoreError(
                    "bidirectional: expected False under torch.func transforms, torch.export and "
                    "torch.compile with fullgraph=True, got True; torch's own RNN, which reads "
                    "from the end, takes part in none"
                )
            for name, value in (("hx", hx), ("episode_start", episode_start)):
                if value is not None:
                    raise MemcoreError(
                        f"{name}: expected None with bidirectional=True, which reads whole "
                        f"sequences from their end, got a {type(value).__name__}"
                    )
        if self.debug is not False and (
            is_exporting() or (not torch.compiler.is_compiling() and is_transformed())
        ):
            raise MemcoreError(
                "debug: expected False under torch.func transforms and torch.export, got "
                f"{self.debug}; the debug dictionary is of NumPy, which takes part in neither"
            )
        weight = self.output.weight
        if not isinstance(pass_through_memory, bool):
            raise TypeError(
                f"pass_through_memory: expected a bool, got {type(pass_through_memory).__name__}"
            )
        autocast = autocast_is_on(weight.device.type)
        steps = split(
            input, self.batch_first, self.input_size, weight.dtype, weight.device, autocast
        )
        example_of(self.debug, steps.batch_sizes[0])
        starts = split_flags("episode_start", episode_start, self.batch_first, steps)
        door = self._door(steps.batch_sizes[0])
        carried = door.empty(door.enter(hx), reset_experience)
        chosen, weights = choose(
            self,
            steps.rows,
            carried,
            autocast=autocast,
            pass_through_memory=pass_through_memory,
        )
        return door, steps, starts, carried, chosen, weights

    def step(
        self,
        input: Tensor,
        hx: tuple[Any, Any, Any] | None = None,
        episode_start: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """One time step, for loops of one's own.

        Args:
            input: ``[B, input_size]``.
            hx: as in `forward`.
            episode_start: bool ``[B]``: those examples begin anew, controller, memory and reads,
                before the step.

        Returns:
            What `forward` returns, the output ``[B, output_size]``.

        Raises:
            TypeError: an argument of the wrong type.
            MemcoreError: an argument of the wrong shape, dtype or device.
        """
        if self.reverse is not None:
            raise MemcoreError(
                "step: expected bidirectional=False, got True, which reads whole sequences from "
                "their end; call the module with one"
            )
        if not isinstance(input, Tensor):
            raise TypeError(f"input: expected a torch.Tensor, got {type(input).__name__}")
        if input.dim() != 2 or input.shape[1] != self.input_size or input.numel() == 0:
            raise MemcoreError(
                f"input: expected shape [batch, {self.input_size}], got {list(input.shape)}"
            )
        time_axis = 1 if self.batch_first else 0
        if episode_start is None:
            output, *rest = self(input.unsqueeze(time_axis), hx)
        else:
            device = input.device
            check_tensor("episode_start", episode_start, input.shape[:1], torch.bool, device)
            start = episode_start.unsqueeze(time_axis)
            output, *rest = self(input.unsqueeze(time_axis), hx, episode_start=start)
        return output.squeeze(time_axis), *rest

    def first_rows(self) -> tuple[Tensor, ...]:
        """Of each memory the row ``[W]`` that it begins with, in the memory's dtype, if learned."""
        rows = self.memory_rows
        return (
            ()
            if rows is None
            else rows.to(torch.promote_types(rows.dtype, torch.float32)).unbind(0)
        )

    def _door(self, batch_size: int) -> Door:
        return Door(
            self.cell,
            batch_size,
            (self.num_hidden_layers, self.hidden_size),
            self.num_layers,
            self.rnn_type == "lstm",
            self.shared_memory,
            self.output.weight.dtype,
            self.output.weight.device,
            self.first_rows(),
        )

    def _new_trace(self, carried: Carried, steps: Steps) -> Trace | None:
        example = example_of(self.debug, steps.batch_sizes[0])
        if example is None:
            return None
        rows = steps.length_of(example) * self.num_layers
        return Trace(self.cell.trace(carried.memories[0], example), rows, example)


def _first_rows(options: RNNOptions, width: int) -> nn.Parameter:
    """Of each memory the row that it begins with, small: near zero cosines have steep slopes."""
    count = 1 if options.share_memory else options.num_layers
    rows = torch.empty(count, width, device=options.device, dtype=options.dtype)
    return nn.Parameter(nn.init.uniform_(rows, -(width**-0.5), width**-0.5))
