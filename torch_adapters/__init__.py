"""Thin ``nn.Module`` wrappers that thread memcore's state through a recurrent controller."""

from torch_adapters.backend import Backend
from torch_adapters.dam import DAM
from torch_adapters.dnc import DNC
from torch_adapters.plot import plot_memory
from torch_adapters.sam import SAM
from torch_adapters.sdnc import SDNC
from torch_adapters.state import detach_state, select_state, state_from_dict, state_to_dict

__all__ = [
    "DAM",
    "DNC",
    "SAM",
    "SDNC",
    "Backend",
    "detach_state",
    "plot_memory",
    "select_state",
    "state_from_dict",
    "state_to_dict",
]
