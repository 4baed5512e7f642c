"""Tasks on this machine: as many at a time as asked for, each with its cores and its GPUs."""

import os
import time
from pathlib import Path

import pytest

from medmnist_hf.errors import JobError
from medmnist_hf.jobs.local import LocalEngine, gpus
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.submit import run_tasks
from medmnist_hf.jobs.tasks import State, Task, TaskFolder
from tests.fixtures.tasks import shell


def run(path: Path, tasks: list[Task], settings: Settings) -> dict[str, str]:
    """Output of each task; all must succeed."""
    folder = TaskFolder(path)
    statuses = run_tasks(folder, tasks, LocalEngine(settings), report=lambda line: None)
    assert {status.state for status in statuses.values()} == {State.DONE}
    return {task.name: folder.log_of(task).read_text().strip() for task in tasks}


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    """A program of that name on the PATH that prints lines."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize("workers", [None, 3])
def test_as_many_tasks_run_at_a_time_as_asked_for(tmp_path: Path, workers: int | None) -> None:
    """Each task counts the marks of running tasks, its own among them."""
    tasks = [shell(f"t{number}", f"sleep 0.2; ls {tmp_path}/running | wc -l") for number in range(4)]
    counts = {int(text) for text in run(tmp_path, tasks, Settings(workers=workers)).values()}
    assert max(counts) == (workers or 1)


def test_cores_are_shared_by_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    task = shell("a", "echo $OMP_NUM_THREADS")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert run(tmp_path / "1", [task], Settings(workers=2)) == {"a": str(max(1, cores // 2))}
    assert run(tmp_path / "2", [task], Settings(workers=1_000)) == {"a": "1"}
    assert run(tmp_path / "3", [task], Settings(cpus_per_task=7)) == {"a": "7"}
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert run(tmp_path / "4", [task], Settings(cpus_per_task=7)) == {"a": "5"}


@pytest.mark.parametrize(
    ("per_task", "workers", "expected"),
    [
        (1, None, [["A"], ["B"], ["C"], ["D"]]),
        (2, None, [["A", "B"], ["C", "D"]]),
        (3, None, [["A", "B", "C"]]),
        (2, 1, [["A", "B"]]),
        (0.5, None, [["A"], ["A"], ["B"], ["B"], ["C"], ["C"], ["D"], ["D"]]),
        (0.5, 5, [["A"], ["A"], ["B"], ["C"], ["D"]]),
    ],
)
def test_each_task_sees_its_share_of_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_task: float, workers: int | None, expected: list[list[str]]
) -> None:
    """Tasks wait for each other, so that all of a round run at a time."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "A,B,C,D")
    engine = LocalEngine(Settings(gpus_per_task=per_task, workers=workers))
    count = len(expected)
    assert engine.workers == count
    started = f"touch {tmp_path}/$$; while [ $(ls {tmp_path} | wc -l) -lt {count + 1} ]; do sleep 0.01; done"
    script = f"echo $CUDA_VISIBLE_DEVICES; {started}"
    seen = run(tmp_path / "tasks", [shell(f"t{number}", script) for number in range(count)], engine.settings)
    assert sorted(text.split(",") for text in seen.values()) == expected


def test_a_fraction_that_is_not_exact_leaves_no_room_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert LocalEngine(Settings(gpus_per_task=0.334)).workers == 6


def test_tasks_without_gpus_see_what_their_caller_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "A,B")
    assert run(tmp_path, [shell("a", "echo $CUDA_VISIBLE_DEVICES")], Settings()) == {"a": "A,B"}


def test_gpus_are_those_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(
        tmp_path, monkeypatch, "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-2)\nGPU 1: NVIDIA"
    )
    assert gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-1")
    assert gpus() == ("3", "GPU-1")
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert gpus() == ()


def test_a_driver_that_fails_has_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, monkeypatch, "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.")
    assert gpus() == ()


def test_the_driver_is_asked_once_and_only_for_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second on a machine with many."""
    nvidia_smi(tmp_path, monkeypatch, "GPU 0: a")
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho >> {tmp_path}/asked\necho 'GPU 0: a'\n")
    run(tmp_path / "1", [shell("a", "true"), shell("b", "true")], Settings())
    assert not (tmp_path / "asked").exists()
    run(tmp_path / "2", [shell("a", "true"), shell("b", "true")], Settings(gpus_per_task=1))
    assert (tmp_path / "asked").read_text() == "\n"


@pytest.mark.parametrize("wanted", [0.25, 2])
def test_gpus_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, wanted: float) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "" if wanted < 1 else "0")
    with pytest.raises(JobError, match=f"gpus_per_task is {wanted}, but GPUs of this machine: [01]; lower it"):
        LocalEngine(Settings(gpus_per_task=wanted)).check()


def test_resources_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    engine = LocalEngine(Settings(gpus_per_task=0.5, cpus_per_task=3))
    (line,) = engine.resources(1_000, TaskFolder(Path()))
    assert line == "local: 1,000 tasks, 4 at a time, each with 3 cores and 0.5 GPUs"


def test_thousands_of_tasks_are_watched_quickly(tmp_path: Path) -> None:
    """At short intervals, while the tasks need the cores."""
    tasks = [shell(f"t{number}", "exec sleep 100" if not number else "true") for number in range(3_000)]
    folder, engine = TaskFolder(tmp_path), LocalEngine(Settings())
    folder.write(tasks, lambda task: None)
    engine.start(folder, tasks, range(len(tasks)))
    begun = time.process_time()
    for _ in range(20):
        assert engine.is_active()
    assert time.process_time() - begun < 0.05
    engine.stop()
    assert not engine.is_active()


def test_a_folder_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    tasks = [shell("a", f"rm -r {tmp_path}/completions; touch {tmp_path}/completions"), shell("b", "exec sleep 100")]
    with pytest.raises(OSError, match="completions"):
        run_tasks(TaskFolder(tmp_path), tasks, LocalEngine(Settings(workers=2)), report=lambda line: None)
