"""Run tasks on this machine, several at a time; those that need a GPU each get their share."""

import os
import queue
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Final

from medmnist_hf.errors import JobError, counted
from medmnist_hf.jobs.engine import Engine
from medmnist_hf.jobs.process import run_task
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.tasks import Task, TaskFolder

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
THREADS: Final = "OMP_NUM_THREADS"


class LocalEngine(Engine):
    """Threads that each wait for the process of a task."""

    name = "local"
    pause = 0.05

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._stop = threading.Event()
        self._futures: deque[Future[None]] = deque()
        self._faults: list[BaseException] = []
        self._gpus: queue.SimpleQueue[tuple[str, ...]] = queue.SimpleQueue()

    def check(self) -> None:
        """Check that the machine has the GPUs that a task needs."""
        wanted, found = self.settings.gpus_per_task, len(self._devices)
        if wanted > found:
            raise JobError(f"gpus_per_task is {wanted:g}, but GPUs of this machine: {found}; lower it")

    @cached_property
    def _devices(self) -> tuple[str, ...]:
        return gpus() if self.settings.gpus_per_task else ()

    @property
    def workers(self) -> int:
        """Tasks at a time: one, or as many as the GPUs have room for."""
        if not self.settings.gpus_per_task:
            return self.settings.workers or 1
        whole = max(1, int(self.settings.gpus_per_task))
        room = max(1, len(self._devices) // whole * self.settings.tasks_per_gpu)
        return min(self.settings.workers or room, room)

    def resources(self, tasks: int, folder: TaskFolder) -> list[str]:
        """See `Engine.resources`."""
        gpu = f" and {self.settings.gpus_per_task:g} GPUs" if self.settings.gpus_per_task else ""
        cores = counted(self._threads(), "core")
        return [f"local: {counted(tasks, 'task')}, {self.workers} at a time, each with {cores}{gpu}"]

    def start(self, folder: TaskFolder, tasks: Sequence[Task], ranks: Sequence[int]) -> None:
        """See `Engine.start`."""
        for share in _shares(self._devices, self.settings.gpus_per_task, self.workers):
            self._gpus.put(share)
        pool = ThreadPoolExecutor(self.workers)
        self._futures = deque(pool.submit(self._run, folder, rank, tasks[rank]) for rank in ranks)
        pool.shutdown(wait=False)

    def _run(self, folder: TaskFolder, rank: int, task: Task) -> None:
        if self._stop.is_set():
            return
        devices = self._gpus.get()
        try:
            environment = {THREADS: str(self._threads())} | os.environ
            if devices:
                environment[VISIBLE] = ",".join(devices)
            run_task(folder, rank, task, environment, self._stop)
        except BaseException as error:
            self._faults.append(error)
        finally:
            self._gpus.put(devices)

    def _threads(self) -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.settings.cpus_per_task or max(1, cores // self.workers)

    def is_active(self) -> bool:
        """See `Engine.is_active`."""
        if self._faults:
            raise self._faults[0]
        while self._futures and self._futures[0].done():
            self._futures.popleft()
        return bool(self._futures)

    def stop(self) -> None:
        """See `Engine.stop`."""
        self._stop.set()
        for future in self._futures:
            future.exception()


def gpus() -> tuple[str, ...]:
    """Names of the GPUs that this process may use, as in ``CUDA_VISIBLE_DEVICES``."""
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        return tuple(name for name in visible.split(",") if name.strip() and name != "-1")
    if shutil.which("nvidia-smi") is None:
        return ()
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return tuple(str(index) for index, _ in enumerate(re.findall(r"^GPU ", listed, re.MULTILINE)))


def _shares(devices: Sequence[str], per_task: float, workers: int) -> list[tuple[str, ...]]:
    """GPUs of each worker; with a fraction, workers in turn use the same one."""
    if not per_task:
        return [()] * workers
    if per_task < 1:
        return [(devices[worker % len(devices)],) for worker in range(workers)]
    width = int(per_task)
    return [tuple(devices[worker * width : (worker + 1) * width]) for worker in range(workers)]
