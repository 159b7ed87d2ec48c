"""All faults, by area."""

from __future__ import annotations

import adapter_faults
import dense_kernel_faults
import index_faults
import operation_faults
import persistent_faults
import sparse_kernel_faults
import task_faults
from fault import Fault

__all__ = ["FAULTS"]

FAULTS: tuple[Fault, ...] = (
    *operation_faults.FAULTS,
    *persistent_faults.FAULTS,
    *index_faults.FAULTS,
    *dense_kernel_faults.FAULTS,
    *sparse_kernel_faults.FAULTS,
    *adapter_faults.FAULTS,
    *task_faults.FAULTS,
)
