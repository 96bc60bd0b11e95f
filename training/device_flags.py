"""The flags that say on how many devices, and in how many processes, a run trains."""

import dataclasses
from typing import Annotated

import tyro

from . import processes
from .flag_types import OptionalInt, OptionalStr


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceFlags:
    """Several devices and machines; see docs/many_devices.md."""

    devices: Annotated[str | None, tyro.conf.arg(metavar="N|all", help_behavior_hint="")] = None
    """Devices that share every step. Default: 1, or all when there are several processes."""
    coordinator: OptionalStr = None
    """HOST:PORT at which the first of several processes waits for the others, or auto on SLURM,
    Open MPI, Kubernetes and TPU pods. Default: the environment's JAX_COORDINATOR_ADDRESS."""
    num_processes: OptionalInt = None
    """How many processes there are. Default: JAX_NUM_PROCESSES."""
    process_id: OptionalInt = None
    """Which one this is, from 0; only process 0 prints and writes. Default: JAX_PROCESS_ID."""

    def joining(self) -> processes.Joining | None:
        """The processes these flags and the environment name.

        Raises:
          ValueError: when they say half of it.
        """
        return processes.joining(self.coordinator, self.num_processes, self.process_id)
