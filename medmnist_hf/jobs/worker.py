"""What a job of an engine runs: its share of the tasks of a folder, on the machine where it was started."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from medmnist_hf.documents import parse_json
from medmnist_hf.errors import JobError, cannot_read
from medmnist_hf.files import DOCUMENT_BYTES, read_document, write_atomically
from medmnist_hf.jobs.local import LocalEngine
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.tasks import TASKS_NAME, TaskFolder
from medmnist_hf.typed_json import decode, encode

SETTINGS_NAME: Final = "settings.json"
RANKS_NAME: Final = "ranks_to_run.json"
"""Written by datatrove's executors: the ranks that were submitted, of which each job takes its share."""

_ENDED: Final = 128 + signal.SIGTERM


def write_settings(folder: TaskFolder, settings: Settings) -> None:
    """Write what jobs need to know into the folder of their tasks."""
    write_atomically(folder.path / SETTINGS_NAME, json.dumps(encode(settings), indent=1) + "\n")


class _Asked(BaseException):
    """The engine asked this process to end."""


def run_share(path: Path, index: int) -> int:
    """Run the tasks of this job, some at a time if they share a GPU, and return the exit code.

    Args:
        path: Folder of the tasks.
        index: Index of this job among those of its submission.

    Raises:
        JobError: A file of the folder is missing or damaged.
    """
    folder = TaskFolder(path)
    settings: Settings = _read(path / SETTINGS_NAME, Settings)
    listed: tuple[int, ...] = _read(path / RANKS_NAME, tuple[int, ...])
    share = settings.tasks_per_job * settings.tasks_per_gpu
    first = index * share
    signals: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) == 1:
            raise _Asked

    # The engine has assigned the GPUs.
    engine = LocalEngine(replace(settings, workers=settings.tasks_per_gpu, gpus_per_task=0.0))
    tasks, ranks = folder.read(), listed[first : first + share]
    if not all(0 <= rank < len(tasks) for rank in ranks):
        raise JobError(f"{path / RANKS_NAME} does not match {path / TASKS_NAME}: start the tasks again")
    folder.make_folders()
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, end)
        engine.start(folder, tasks, ranks)
        while engine.is_active():
            time.sleep(engine.pause)
    except _Asked:
        engine.stop()
        if signals[0] == signal.SIGUSR1:
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
        return _ENDED
    return 0


def _read(path: Path, kind: Any) -> Any:
    try:
        return decode(parse_json(read_document(path, DOCUMENT_BYTES)), kind)
    except (OSError, ValueError) as error:
        raise JobError(cannot_read(path, error, "the disk must be shared by all machines of the engine")) from None
