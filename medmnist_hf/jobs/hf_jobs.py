"""Run tasks on Hugging Face Jobs, over a bucket that every job mounts.

Paths of tasks are those inside a job, below the folder where the bucket is mounted. A job runs `medmnist_hf.jobs`, as
on Slurm. This machine keeps a mirror of the tasks and of their states in its cache; results stay in the bucket.

This needs `huggingface_hub` only. `JobsPipelineExecutor` of datatrove would pickle itself into the bucket and end at
the first request that fails, and `run_uv_job` replaces arguments of a job that happen to be names of files here.
"""

import contextlib
import difflib
import hashlib
import inspect
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

import platformdirs
from huggingface_hub import HfApi, JobHardware, Volume, constants, get_token
from huggingface_hub._jobs_api import DEFAULT_UV_IMAGE, TERMINAL_JOB_STAGES, JobStage, _create_job_spec
from huggingface_hub.errors import HfHubHTTPError

from medmnist_hf.errors import JobError, counted, first_line
from medmnist_hf.files import write_atomically
from medmnist_hf.jobs.bucket import Bucket
from medmnist_hf.jobs.engine import Engine
from medmnist_hf.jobs.settings import HfJobsSettings, Settings
from medmnist_hf.jobs.tasks import COMPLETIONS, FAILURES, JOBS_DIR, RUNNING, TASKS_NAME, Task, TaskFolder
from medmnist_hf.jobs.worker import RANKS_NAME, SETTINGS_NAME, write_settings
from medmnist_hf.network import httpx, is_transient_status

LABEL: Final = "medmnist-hf"
"""Label of all jobs of a folder of tasks: a digest of bucket and path."""
INDEX_LABEL: Final = "index"
HIDDEN: Final = "***"
"""Shown in place of a secret."""

_ACTIVE: Final = (JobStage.SCHEDULING, JobStage.RUNNING)
_AT_A_TIME: Final = 20
_ATTEMPTS: Final = 2
"""Hugging Face starts a job that failed, such as for its machine, once more."""
_PATIENCE: Final = 300.0
"""Seconds without an answer after which Hugging Face counts as lost."""
_LONGEST_END: Final = 30.0
_CLIENT_ERRORS: Final = (OSError, ValueError, RuntimeError, httpx.HTTPError)
_SECONDS: Final = (1, 60, 3600, 86400)

_Result = TypeVar("_Result")


class HfJobsEngine(Engine):
    """Jobs of Hugging Face.

    Attributes:
        poll: Seconds between two looks at jobs and bucket.
    """

    name = "hf-jobs"
    pause = 1.0
    sees_results = False
    poll: float = 15.0

    def __init__(self, settings: Settings) -> None:
        if "attempts" not in inspect.signature(HfApi.run_job).parameters:
            raise JobError(
                "Hugging Face Jobs need huggingface_hub 2.4 or newer: python -m pip install --upgrade huggingface_hub"
            )
        super().__init__(settings)
        self._waiting: deque[int] = deque()
        self._running: dict[int, str] = {}
        self._placed = Path()
        self._folder = TaskFolder(Path())
        self._asked = self._answered = time.monotonic()

    @property
    def _own(self) -> HfJobsSettings:
        return self.settings.hf_jobs

    @property
    def _bucket_name(self) -> str:
        if self._own.bucket is None:
            raise JobError("hf-jobs needs a bucket for its results: give hf-jobs: {bucket: you/medmnist}")
        return self._own.bucket

    @property
    def _mirror(self) -> Path:
        """Where this machine keeps the files of the bucket's root."""
        digest = hashlib.sha256(f"{constants.ENDPOINT} {self._bucket_name}".encode()).hexdigest()[:16]
        return Path(platformdirs.user_cache_dir("medmnist-hf")) / "hf-jobs" / digest

    def place(self, path: Path) -> Path:
        """Where this machine keeps a folder that jobs see at a path.

        Raises:
            JobError: The path is not where the bucket is mounted, or there is no bucket.
        """
        mount, inside = PurePosixPath(self._own.mount), PurePosixPath(path)
        if ".." in inside.parts or not inside.is_relative_to(mount):
            raise JobError(
                f"{path} is not below {mount}, where jobs of Hugging Face have the bucket {self._bucket_name}: give a "
                f"path such as {mount / inside.name}"
            )
        self._placed = self._mirror / inside.relative_to(mount)
        return self._placed

    def _remote(self, path: Path) -> PurePosixPath:
        """Path in the bucket of a file in the mirror."""
        return PurePosixPath(path.relative_to(self._mirror))

    def check(self) -> None:
        """Check the settings; nothing is sent."""
        own, wanted = self._own, self.settings.gpus_per_task
        _ = self._bucket_name
        known = [flavor.value for flavor in JobHardware]
        if own.flavor not in known:
            close = difflib.get_close_matches(own.flavor, known, 3) or known
            raise JobError(f"unknown flavor {own.flavor!r} of hf-jobs: choose from {', '.join(close)}")
        gpus = _gpus_of(own.flavor)
        if gpus is not None and wanted > gpus:
            raise JobError(f"gpus_per_task is {wanted:g}, but GPUs of the flavor {own.flavor}: {gpus}; choose another")
        if "HF_TOKEN" in own.env:
            raise JobError("hf-jobs.env holds HF_TOKEN: leave it out, jobs get the token of this machine as a secret")

    def resources(self, tasks: int, folder: TaskFolder) -> list[str]:
        """See `Engine.resources`; the last lines are the first job as it would be sent, without the token."""
        own, jobs = self._own, -(-tasks // self._share)
        where = f"each on a machine of flavor {own.flavor}, which decides on cores and memory"
        lines = [
            f"hf-jobs: {counted(tasks, 'task')} in {counted(jobs, 'job')}, {self._workers} at a time, {where}",
            f"bucket: {self._bucket_name}, mounted at {own.mount}; results stay there",
        ]
        if not self.settings.time:
            lines.append("time: the default of Hugging Face; a task that is cut short resumes")
        if jobs:
            lines.append(f"the first of {jobs:,} jobs, which differ in their index:" if jobs > 1 else "the job:")
            lines += json.dumps(_create_job_spec(**self._job(folder, 0, HIDDEN)), indent=2).splitlines()
        return lines

    @property
    def _share(self) -> int:
        return self.settings.tasks_per_job * self.settings.tasks_per_gpu

    @property
    def _workers(self) -> int:
        return self.settings.workers or _AT_A_TIME

    def _key(self, folder: TaskFolder) -> str:
        return hashlib.sha256(f"{self._bucket_name}/{self._remote(folder.path)}".encode()).hexdigest()[:16]

    def _job(self, folder: TaskFolder, index: int, token: str) -> dict[str, Any]:
        """Arguments of `HfApi.run_job`, apart from the namespace."""
        own, inside = self._own, PurePosixPath(self._own.mount) / self._remote(folder.path)
        worker = ["python", "-m", "medmnist_hf.jobs", str(inside), str(index)]
        return {
            "image": own.image or DEFAULT_UV_IMAGE,
            "command": ["uv", "run", "--with", own.package, *worker],
            "env": {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"} | own.env,
            "secrets": {"HF_TOKEN": token},
            "flavor": own.flavor,
            "timeout": self.settings.time and _seconds(self.settings.time),
            "attempts": _ATTEMPTS,
            "labels": {
                "name": re.sub(r"[^\w.-]", "-", f"{LABEL}-{folder.title}-{index}"),
                LABEL: self._key(folder),
                INDEX_LABEL: str(index),
            },
            "volumes": [Volume(type="bucket", source=self._bucket_name, mount_path=own.mount)],
        }

    def still_running(self, folder: TaskFolder) -> str:
        """See `Engine.still_running`; what has ended meanwhile is marked in the folder.

        Raises:
            JobError: There is no token, or Hugging Face cannot be asked.
        """
        self._connect()
        if active := self._reach("list jobs", lambda: self._active(folder)):
            return f"Hugging Face job {', '.join(sorted(active))}"
        self._reach(f"read the bucket {self._bucket_name}", lambda: self._load(folder))
        return ""

    def _connect(self) -> None:
        self._token = get_token() or ""
        if not self._token:
            raise JobError("there is no token of Hugging Face: log in with `hf auth login`, or set HF_TOKEN")
        self._api = HfApi(token=self._token)
        self._bucket = self._open_bucket()
        self._namespace = self._own.namespace or self._reach("log in", lambda: self._api.whoami()["name"])

    def _open_bucket(self) -> Bucket:
        return Bucket(self._bucket_name, self._api)

    def _reach(self, what: str, call: Callable[[], _Result]) -> _Result:
        """Call Hugging Face.

        Raises:
            JobError: It fails.
        """
        try:
            return call()
        except _CLIENT_ERRORS as error:
            raise JobError(f"cannot {what} ({_reason(error)}): run the same command again to continue") from None

    def _active(self, folder: TaskFolder) -> set[str]:
        """Ids of the jobs of a folder that wait or run, whoever submitted them."""
        labels = {LABEL: self._key(folder)}
        return {job.id for job in self._api.list_jobs(status=list(_ACTIVE), labels=labels, namespace=self._namespace)}

    def _load(self, folder: TaskFolder) -> None:
        """Take list and states of the tasks from the bucket, if it has some: another machine may have written them."""
        self._bucket.create()
        if TASKS_NAME not in self._bucket.names(self._remote(folder.path)):
            return
        folder.make_folders()
        ours, theirs = folder.path / TASKS_NAME, folder.path / f".{TASKS_NAME}.fetched"
        self._bucket.fetch({self._remote(ours): theirs})
        if not ours.exists() or ours.read_bytes() != theirs.read_bytes():
            for kind in (COMPLETIONS, FAILURES, RUNNING):
                for marker in (folder.path / kind).glob("*"):
                    marker.unlink()
            theirs.replace(ours)
        theirs.unlink(missing_ok=True)
        self._fetch(folder, folder.read())

    def start(self, folder: TaskFolder, tasks: Sequence[Task], ranks: Sequence[int]) -> None:
        """See `Engine.start`."""
        self._folder, self._tasks = folder, tuple(tasks)
        write_settings(folder, self.settings)
        write_atomically(folder.path / RANKS_NAME, json.dumps(list(ranks)))
        self._reach(f"write to the bucket {self._bucket_name}", self._upload)
        self._waiting.extend(range(-(-len(ranks) // self._share)))
        self._asked = self._answered = time.monotonic()
        self._fill()

    def _upload(self) -> None:
        """Write the list of the tasks, and what they read, into the bucket, without states of earlier runs."""
        folder = self._folder.path
        sources = [folder / name for name in (TASKS_NAME, SETTINGS_NAME, RANKS_NAME)]
        sources += [
            path
            for path in self._placed.rglob("*")
            if path.is_file() and JOBS_DIR not in path.relative_to(self._placed).parts and folder not in path.parents
        ]
        states = [self._remote(folder / kind) for kind in (COMPLETIONS, FAILURES, RUNNING)]
        self._bucket.write(
            {self._remote(path): path.read_bytes() for path in sources},
            remove=[state / name for state in states for name in self._bucket.names(state)],
        )

    def _fill(self) -> None:
        """Submit jobs that wait while there is room; those that are refused for the moment wait on."""
        while self._waiting and len(self._running) < self._workers:
            index = self._waiting[0]
            try:
                job = self._api.run_job(**self._job(self._folder, index, self._token), namespace=self._namespace)
            except _CLIENT_ERRORS as error:
                if _is_transient(error):
                    return
                raise JobError(
                    f"Hugging Face refuses the job ({_reason(error)}): check the engine's settings"
                ) from None
            self._running[self._waiting.popleft()] = job.id

    def is_active(self) -> bool:
        """See `Engine.is_active`; jobs and bucket are looked at every `poll` seconds."""
        if time.monotonic() - self._asked >= self.poll:
            self._asked = time.monotonic()
            try:
                self._look()
            except _CLIENT_ERRORS as error:
                if not _is_transient(error) or time.monotonic() - self._answered > _PATIENCE:
                    raise JobError(
                        f"Hugging Face does not answer ({_reason(error)}): run the same command again to continue"
                    ) from None
            else:
                self._answered = time.monotonic()
        return bool(self._running or self._waiting)

    def _look(self) -> None:
        """Take note of jobs that ended and of states of tasks, and submit further jobs."""
        labels = {LABEL: self._key(self._folder)}
        active = {
            job.id: int((job.labels or {}).get(INDEX_LABEL, -1))
            for job in self._api.list_jobs(status=list(_ACTIVE), labels=labels, namespace=self._namespace)
        }
        for job_id, index in active.items():
            if index in self._waiting:  # it was submitted, but the answer was lost
                self._waiting.remove(index)
                self._running[index] = job_id
        for index, job_id in list(self._running.items()):
            if job_id not in active and self._has_ended(job_id):
                del self._running[index]
        self._fetch(self._folder, self._tasks)
        self._fill()

    def _has_ended(self, job_id: str) -> bool:
        job = self._api.inspect_job(job_id=job_id, namespace=self._namespace)
        return job.status.stage in TERMINAL_JOB_STAGES

    def _fetch(self, folder: TaskFolder, tasks: Sequence[Task]) -> None:
        """Mark in the mirror which tasks are done (with result), failed (with reason and log) or running."""
        path = folder.path
        done, failed, running = (self._ranks(path / kind) for kind in (COMPLETIONS, FAILURES, RUNNING))
        known_done, known_failed = folder.ended()
        ended = [rank for rank in sorted(done - known_done) if rank < len(tasks)]
        new = [rank for rank in sorted(failed - done - known_failed) if rank < len(tasks)]
        results = [folder.result_of(tasks[rank]) for rank in ended]
        files = [result for result in results if result] + [folder.log_of(tasks[rank]) for rank in new]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        self._bucket.fetch({self._remote(file): file for file in files})
        for rank in ended:
            folder.complete(rank)
        self._bucket.fetch(self._markers(path / FAILURES, new))
        for rank in new:
            (path / RUNNING / f"{rank:05d}").unlink(missing_ok=True)
        alive = running - done - failed - known_done
        self._bucket.fetch(
            self._markers(path / RUNNING, (rank for rank in alive if not (path / RUNNING / f"{rank:05d}").exists()))
        )
        for rank in alive:
            folder.touch(rank)

    def _markers(self, folder: Path, ranks: Iterable[int]) -> dict[PurePosixPath, Path]:
        markers = [folder / f"{rank:05d}" for rank in ranks]
        return {self._remote(marker): marker for marker in markers}

    def _ranks(self, folder: Path) -> set[int]:
        return {int(name) for name in self._bucket.names(self._remote(folder)) if name.isdecimal()}

    def stop(self) -> None:
        """See `Engine.stop`; what cannot be cancelled is said by the next call."""
        self._waiting.clear()
        with contextlib.suppress(*_CLIENT_ERRORS):
            for job_id in self._running.values():
                self._api.cancel_job(job_id=job_id, namespace=self._namespace)

    def forget(self, folder: TaskFolder) -> None:
        """Wait until the jobs have ended, for a while: they run for some seconds after their last task."""
        until = time.monotonic() + _LONGEST_END
        with contextlib.suppress(*_CLIENT_ERRORS):
            while self._running and time.monotonic() < until:
                self._look()
                time.sleep(self.pause)


def _is_transient(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, HfHubHTTPError):
        return error.response is not None and is_transient_status(error.response.status_code)
    return isinstance(error, (httpx.TransportError, ConnectionError, TimeoutError))


def _reason(error: Exception) -> str:
    """Why a call failed: the status and the message of the server if there are any."""
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else 0
    message = getattr(error, "server_message", None)
    if not status:
        return first_line(error)
    return f"HTTP {status}, {first_line(message)}" if message else f"HTTP {status}"


def _seconds(duration: str) -> int:
    """Seconds of a duration such as ``1-04:00:00``."""
    parts = [int(part) for part in re.split("[-:]", duration)]
    return sum(part * unit for part, unit in zip(reversed(parts), _SECONDS, strict=False))


def _gpus_of(flavor: str) -> int | None:
    """Number of GPUs that the name of a flavor states; None if it states none."""
    if flavor.startswith("cpu-"):
        return 0
    count = re.search(r"x(\d+)$", flavor)
    return int(count[1]) if count else None
