"""Run tasks on a Ray cluster: datatrove's executor asks it for an actor per task and repeats those whose node is lost.

All nodes need the same environment and share the disk with the folder of the tasks.
"""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import ray
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.utils.stats import PipelineStats
from loguru import logger
from ray._private.services import canonicalize_bootstrap_address

from medmnist_hf.errors import JobError, counted, first_line
from medmnist_hf.jobs.engine import Engine
from medmnist_hf.jobs.local import THREADS
from medmnist_hf.jobs.process import run_task
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.tasks import Task, TaskFolder

_MEMORY_GB: Final = 1.0
"""Memory that a task reserves by default; Ray wants to be given a number."""

_PATIENCE: Final = 5.0
"""Seconds for a cluster to accept a connection."""


class _Executor(RayPipelineExecutor):  # type: ignore[misc]  # datatrove is not typed
    """Runs shares of tasks in actors; what datatrove calls a rank is the index of a share."""

    def __init__(self, folder: TaskFolder, shares: Sequence[Mapping[int, Task]], **rest: Any) -> None:
        super().__init__([], len(shares), logging_dir=str(folder.path), **rest)
        self.folder = folder
        self.shares = list(shares)

    def get_incomplete_ranks(self, ranks: Any = None, skip_completed: Any = None) -> list[int]:
        """The indices of all shares, since `run_task` skips tasks that are done."""
        return list(range(len(self.shares)))

    @property
    def world_size(self) -> int:
        """Number of ranks whose statistics are merged at the end: there are none."""
        return 0

    def save_executor_as_json(self, indent: int = 4) -> None:
        """Write nothing: the tasks are described already."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        logger.disable("datatrove")
        environment = {THREADS: str(self.cpus_per_task)} | os.environ
        for task_rank, task in self.shares[rank].items():
            run_task(self.folder, task_rank, task, environment, threading.Event())
        return PipelineStats()


class RayEngine(Engine):
    """Actors on the nodes of a cluster."""

    name = "ray"
    pause = 0.5

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None

    def check(self) -> None:
        """Connect to the cluster."""
        if ray.is_initialized():
            return
        address = self.settings.ray.address
        try:
            _knock(canonicalize_bootstrap_address(address) or address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise JobError(
                f"no Ray cluster at {address} ({first_line(error)}): start one with ray start, and give its address "
                "in the engine's settings"
            ) from None

    def resources(self, tasks: int, folder: TaskFolder) -> list[str]:
        """See `Engine.resources`."""
        found = ray.cluster_resources()  # type: ignore[no-untyped-call]
        nodes = len(ray.nodes())  # type: ignore[no-untyped-call]
        workers = self.settings.workers or tasks
        return [
            f"ray: {counted(tasks, 'task')}, at most {workers:,} at a time, each with {counted(self._cpus, 'core')}, "
            f"{self._memory:g} GB and {self.settings.gpus_per_task:g} GPUs",
            f"cluster: {counted(nodes, 'node')}, {found.get('CPU', 0):g} cores, {found.get('GPU', 0):g} GPUs",
        ]

    @property
    def _cpus(self) -> int:
        return self.settings.cpus_per_task or 1

    @property
    def _memory(self) -> float:
        return self.settings.memory_gb or _MEMORY_GB

    def start(self, folder: TaskFolder, tasks: Sequence[Task], ranks: Sequence[int]) -> None:
        """See `Engine.start`."""
        logger.disable("datatrove")
        share = self.settings.tasks_per_job
        executor = _Executor(
            folder,
            [{rank: tasks[rank] for rank in ranks[start : start + share]} for start in range(0, len(ranks), share)],
            workers=self.settings.workers or -1,
            cpus_per_task=self._cpus,
            mem_per_cpu_gb=self._memory / self._cpus,
            gpus_per_task=self.settings.gpus_per_task,
        )
        self._thread = threading.Thread(target=self._run, args=[executor], daemon=True)
        self._thread.start()

    def _run(self, executor: _Executor) -> None:
        try:
            executor.run()
        except BaseException as error:
            self._fault = error

    def is_active(self) -> bool:
        """See `Engine.is_active`."""
        if self._fault is not None:
            raise JobError(f"Ray failed ({first_line(self._fault)}): run the same command again to continue")
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """See `Engine.stop`."""
        with contextlib.suppress(Exception):
            ray.shutdown()


def _knock(address: str) -> None:
    """Check that something listens at an address, if it has a port: Ray itself waits for minutes, deaf to Ctrl-C.

    Raises:
        OSError: Nothing does.
        OverflowError: The port does not exist.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
