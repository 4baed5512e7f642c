"""Run tasks on Slurm: as job arrays, which datatrove's executor submits.

A job runs `medmnist_hf.jobs` with the interpreter of this process, so that environment and folder of the tasks must be
on a disk that all nodes share. It is not started by srun, which since Slurm 22.05 would leave it one core. Slurm
repeats jobs of nodes that failed; a job that nears its time limit puts itself into the queue again.
"""

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from datatrove.executor.slurm import SlurmPipelineExecutor
from loguru import logger

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import JobError, cannot_read, counted
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.jobs.engine import Engine
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.tasks import SLURM_JOBS_NAME, Task, TaskFolder
from medmnist_hf.jobs.worker import write_settings

_LOGS: Final = "slurm_logs"
"""Folder in which datatrove keeps the output of jobs."""

_NOT_READ: Final = ("executor.pik", "executor.json")
"""What datatrove leaves for its own worker."""

_WARNING: Final = "B:USR1@90"
"""Signal of Slurm 90 seconds before the time limit, to the batch script."""
_MOST_IN_ARRAY: Final = 1001
_FIRST_PAUSE: Final = 2.0
_LONGEST_PAUSE: Final = 30.0
_PATIENCE: Final = 300.0
"""Seconds without an answer of Slurm after which it counts as lost."""


class _Executor(SlurmPipelineExecutor):  # type: ignore[misc]  # datatrove is not typed
    """Submits arrays in which `medmnist_hf.jobs.worker` runs the tasks; nothing is unpickled."""

    def __init__(
        self, folder: TaskFolder, ranks: Sequence[int], tasks: int, options: dict[str, str], **rest: Any
    ) -> None:
        super().__init__(
            [], tasks, time="", partition="", logging_dir=str(folder.path), mail_type="", requeue=False, qos="", **rest
        )
        self.folder = folder
        self.ranks = list(ranks)
        self.options = options
        self.job_ids: list[str] = []
        self.job_id_retriever = self.note_id

    def note_id(self, answer: str) -> str:
        """Keep the id of a job that was submitted."""
        self.job_ids.append(answer.rsplit(maxsplit=1)[-1])
        return self.job_ids[-1]

    def get_incomplete_ranks(self, ranks: Any = None, skip_completed: Any = None) -> list[int]:
        """The ranks to run."""
        return self.ranks

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, str]:
        """Options of sbatch; an empty value stands for an option without one."""
        given: dict[str, Any] = super().get_sbatch_args(max_array)
        paths = {name: shlex.quote(given[name]) for name in ("output", "error")}
        return {name: given[name] for name in ("job-name", "array")} | paths | self.options

    def get_launch_file_contents(self, sbatch_args: dict[str, str], run_script: str) -> str:
        """The batch script; it becomes the worker, which so receives the signals of Slurm."""
        worker = shlex.join([sys.executable, "-m", "medmnist_hf.jobs", str(self.folder.path)])
        index = f"$((SLURM_ARRAY_TASK_ID + RUN_OFFSET * {self.max_array_size}))"
        script: str = super().get_launch_file_contents(sbatch_args, f"exec {worker} {index}")
        return script

    def launch_merge_stats(self) -> None:
        """Submit nothing: there are no statistics to merge."""


class SlurmEngine(Engine):
    """Job arrays.

    They are known by their ids, in the folder of the tasks, until they have left the queue.
    """

    name = "slurm"
    pause = 1.0
    detaches = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._job_ids: list[str] = []
        self._asked = self._answered = time.monotonic()
        self._wait = _FIRST_PAUSE
        self._may_run = False

    def check(self) -> None:
        """Check that there is a cluster, and that it accepts a job of these settings."""
        if shutil.which("sbatch") is None:
            raise JobError("there is no sbatch here: run this on a machine from which jobs of Slurm are submitted")
        script = f"#!/bin/sh\n{_directives(self._options())}true\n"
        answer = _ask("sbatch", "--test-only", script=script)
        if answer.returncode:
            raise JobError(f"Slurm refuses the job ({_fault(answer)}): check the engine's settings")

    def resources(self, tasks: int, folder: TaskFolder) -> list[str]:
        """See `Engine.resources`."""
        jobs = math.ceil(tasks / self._per_job)
        workers = f", {self.settings.workers} at a time" if self.settings.workers else ""
        options = _directives(self._options()).splitlines()
        return [
            f"slurm: {counted(tasks, 'task')} in {counted(jobs, 'job')} of an array{workers}",
            f"options of each job: {' '.join(line.removeprefix('#SBATCH ') for line in options)}",
        ]

    def job_logs(self, folder: TaskFolder) -> Path:
        """See `Engine.job_logs`."""
        return folder.path / _LOGS

    @property
    def _per_job(self) -> int:
        return self.settings.tasks_per_job * self.settings.tasks_per_gpu

    def _options(self) -> dict[str, str]:
        """Options of sbatch, apart from the array."""
        settings, at_once = self.settings, self.settings.tasks_per_gpu
        given = {
            "partition": settings.slurm.partition,
            "account": settings.slurm.account,
            "qos": settings.slurm.qos,
            "time": settings.time,
            "nodes": "1",
            "ntasks": "1",
            "cpus-per-task": str((settings.cpus_per_task or 1) * at_once),
            "mem": settings.memory_gb and f"{math.ceil(settings.memory_gb * 1024 * at_once)}M",
            "gpus": settings.gpus_per_task and str(math.ceil(settings.gpus_per_task)),
            "signal": _WARNING,
            "open-mode": "append",  # a job that was repeated keeps the output of its first start
        }
        named = {name: value for name, value in given.items() if value} | {"requeue": ""}
        named |= {name.lstrip("-"): value for name, value in settings.slurm.options.items()}
        return {name: value and shlex.quote(value) for name, value in named.items()}  # sbatch reads quotes as a shell

    def still_running(self, folder: TaskFolder) -> str:
        """See `Engine.still_running`."""
        path = folder.path / SLURM_JOBS_NAME
        try:
            job_ids = [str(job_id) for job_id in parse_json(read_document(path))]
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, TypeError) as error:
            raise JobError(cannot_read(path, error, "remove it, then run again")) from None
        return f"Slurm job {' '.join(job_ids)}" if _in_queue(job_ids) else ""

    def start(self, folder: TaskFolder, tasks: Sequence[Task], ranks: Sequence[int]) -> None:
        """See `Engine.start`."""
        write_settings(folder, self.settings)
        logger.disable("datatrove")
        executor = _Executor(
            folder,
            ranks,
            len(tasks),
            self._options(),
            workers=self.settings.workers or -1,
            job_name=re.sub(r"[^\w.-]", "_", f"medmnist-hf-{folder.title}"),
            env_command="\n".join(self.settings.slurm.setup),
            tasks_per_job=self._per_job,
            max_array_size=_largest_array(),
        )
        try:
            executor.launch_job()
        except subprocess.CalledProcessError:
            raise JobError("Slurm refuses the jobs, as said above: check the engine's settings") from None
        finally:
            for name in _NOT_READ:
                (folder.path / name).unlink(missing_ok=True)
            self._job_ids = executor.job_ids
            if self._job_ids:
                write_atomically(folder.path / SLURM_JOBS_NAME, json.dumps(self._job_ids))

    def is_active(self) -> bool:
        """Whether a job is in the queue; Slurm is asked at growing intervals."""
        now = time.monotonic()
        if now - self._asked < self._wait:
            return True
        self._asked, self._wait = now, min(_LONGEST_PAUSE, self._wait * 1.5)
        active = _in_queue(self._job_ids)
        if active is not None:
            self._answered = now
        elif now - self._answered > _PATIENCE:
            raise JobError(f"Slurm does not answer: see squeue -j {','.join(self._job_ids)}; run again to continue")
        return active is not False

    def stop(self) -> None:
        """See `Engine.stop`."""
        if not self._job_ids:
            return
        _ask("scancel", *self._job_ids)
        self._may_run = _in_queue(self._job_ids) is not False
        until = time.monotonic() + _LONGEST_PAUSE
        while self._may_run and time.monotonic() < until:
            time.sleep(self.pause)
            self._may_run = _in_queue(self._job_ids) is not False

    def forget(self, folder: TaskFolder) -> None:
        """See `Engine.forget`; keeps the ids of jobs that may still run."""
        if not self._may_run:
            (folder.path / SLURM_JOBS_NAME).unlink(missing_ok=True)


def _ask(*command: str, script: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, input=script, capture_output=True, text=True, errors="replace", check=False)


def _fault(answer: "subprocess.CompletedProcess[str]") -> str:
    """The last reason that Slurm gives, without the name of its program."""
    lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    return lines[0].removeprefix("sbatch: ").removeprefix("error: ") if lines else f"exit code {answer.returncode}"


def _directives(options: dict[str, str]) -> str:
    return "".join(f"#SBATCH --{name}{f'={value}' if value else ''}\n" for name, value in options.items())


def _in_queue(job_ids: Sequence[str]) -> bool | None:
    """Whether any of the jobs is waiting or running; None if Slurm does not answer."""
    try:
        answer = _ask("squeue", "--noheader", f"--jobs={','.join(job_ids)}", "--format=%T")
    except OSError:
        return None
    if answer.returncode:
        return False if "Invalid job id" in answer.stderr else None
    return bool(answer.stdout.strip())


def _largest_array() -> int:
    """Number of jobs that an array may have here."""
    for line in _ask("scontrol", "show", "config").stdout.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdecimal():
            return max(1, min(_MOST_IN_ARRAY, int(value)))
    return _MOST_IN_ARRAY
