"""What a job runs: its share of the tasks, and how it ends when it is asked to."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from medmnist_hf.jobs.settings import Settings, SlurmSettings
from medmnist_hf.jobs.tasks import State, Task, TaskFolder
from medmnist_hf.jobs.worker import RANKS_NAME, SETTINGS_NAME, write_settings
from tests.fixtures.paths import ROOT
from tests.fixtures.tasks import shell, wait_for


def submitted(path: Path, tasks: Sequence[Task], ranks: Sequence[int], settings: Settings) -> TaskFolder:
    """A folder as an engine leaves it for its jobs."""
    folder = TaskFolder(path)
    folder.write(tasks, lambda task: None)
    write_settings(folder, settings)
    (path / RANKS_NAME).write_text(json.dumps(list(ranks)))
    return folder


def worker(folder: TaskFolder, index: int, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "medmnist_hf.jobs", str(folder.path), str(index)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stderr=pipe, text=True, cwd=ROOT, env=os.environ | environment)


def states(folder: TaskFolder) -> str:
    """First letters of the states of all tasks."""
    return "".join(status.state[0] for status in folder.statuses().values())


@pytest.mark.parametrize(
    ("index", "settings", "expected"),
    [
        (0, Settings(), "wdwwwww"),
        (2, Settings(), "wwwwwdw"),
        (1, Settings(tasks_per_job=2), "wwwwwdd"),
        (0, Settings(tasks_per_job=2, gpus_per_task=0.5), "wdwdwdd"),
        (9, Settings(), "wwwwwww"),
    ],
)
def test_a_job_takes_its_share_of_the_ranks_that_were_submitted(
    tmp_path: Path, index: int, settings: Settings, expected: str
) -> None:
    folder = submitted(tmp_path, [shell(f"t{rank}", "true") for rank in range(7)], [1, 3, 5, 6], settings)
    job = worker(folder, index)
    assert (job.wait(), states(folder)) == (0, expected)


def test_a_job_whose_task_fails_does_the_others(tmp_path: Path) -> None:
    """It ends well: the engine would repeat it otherwise."""
    folder = submitted(tmp_path, [shell("a", "exit 1"), shell("b", "true")], [0, 1], Settings(tasks_per_job=2))
    assert worker(folder, 0).wait() == 0
    assert states(folder) == "fd"


def test_tasks_that_share_a_gpu_run_at_a_time_on_what_the_engine_assigned(tmp_path: Path) -> None:
    meet = f"touch {tmp_path}/met.$$; while [ $(ls {tmp_path}/met.* | wc -l) -lt 2 ]; do sleep 0.01; done"
    tasks = [shell(name, f"{meet}; echo $CUDA_VISIBLE_DEVICES") for name in "ab"]
    folder = submitted(tmp_path, tasks, [0, 1], Settings(gpus_per_task=0.5))
    assert worker(folder, 0, CUDA_VISIBLE_DEVICES="3").wait(20) == 0
    assert {folder.log_of(task).read_text() for task in tasks} == {"3\n"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_job_that_is_asked_to_end_interrupts_its_task_and_starts_no_other(tmp_path: Path, number: int) -> None:
    """Before its time limit it also puts itself into the queue again, with a program that here notes its arguments."""
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    program.chmod(0o755)
    tasks = [shell(name, f"touch {tmp_path}/{name}; exec sleep 100") for name in "ab"]
    folder = submitted(tmp_path, tasks, [0, 1], Settings(tasks_per_job=2))
    job = worker(folder, 0, PATH=f"{tmp_path}:{os.environ['PATH']}", SLURM_JOB_ID="17")
    wait_for((tmp_path / "a").exists)
    job.send_signal(number)
    job.send_signal(signal.SIGTERM)  # Slurm sends some twice
    assert job.wait(20) == 128 + signal.SIGTERM
    assert folder.statuses()["a"].state is State.INTERRUPTED
    assert folder.statuses()["b"].state is State.WAITING and not (tmp_path / "b").exists()
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert asked == ("requeue 17\n" if number == signal.SIGUSR1 else "")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (SETTINGS_NAME, None, "No such file or directory"),
        (SETTINGS_NAME, '{"workers": 2}', "lacks cpus_per_task"),
        (RANKS_NAME, None, "No such file or directory"),
        (RANKS_NAME, '["a"]', r"must be an integer"),
        (RANKS_NAME, "[0, 7]", "does not match .*tasks.json: start the tasks again"),
    ],
)
def test_files_that_are_missing_or_damaged_are_one_line(
    tmp_path: Path, name: str, content: str | None, reason: str
) -> None:
    folder = submitted(tmp_path, [shell("a", "true")], [0], Settings(tasks_per_job=2))
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    job = worker(folder, 0)
    _, error = job.communicate()
    assert job.returncode == 1 and error.startswith("error: ") and error.count("\n") == 1
    assert str(tmp_path / name) in error
    assert re.search(reason, error)


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    settings = Settings(workers=3, memory_gb=1.5, slurm=SlurmSettings("gpu", options={"exclude": "n7"}))
    folder = submitted(tmp_path, [shell("a", "true")], [0], settings)
    written = json.loads((tmp_path / SETTINGS_NAME).read_text())
    assert written["slurm"]["options"] == {"exclude": "n7"} and "hf-jobs" in written
    assert worker(folder, 0).wait() == 0
