"""Slurm without a cluster: the options and scripts that it would get, and how its answers are read.

The answers are those of Slurm 22.05. Whole runs on a cluster are slow tests elsewhere.
"""

import os
import stat
from pathlib import Path

import pytest

from medmnist_hf.errors import JobError
from medmnist_hf.jobs.local import LocalEngine
from medmnist_hf.jobs.settings import Settings, SlurmSettings
from medmnist_hf.jobs.slurm import SlurmEngine
from medmnist_hf.jobs.submit import run_tasks, unfinished
from medmnist_hf.jobs.tasks import SLURM_JOBS_NAME, State, Task, TaskFolder
from tests.fixtures.tasks import shell

TASKS = [shell(f"t{number}", "true") for number in range(5)]


class Programs:
    """Programs of Slurm that print an answer; what they are given is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, out: str = "", error: str = "", code: int = 0) -> None:
        path = self.folder / name
        script = f'echo "$@" >> {path}.asked\nfor last; do :; done\n[ -f "$last" ] && cat "$last" > {path}.script\n'
        script += "".join(f"cat >&{to} <<'END'\n{text}\nEND\n" for to, text in ((1, out), (2, error)) if text)
        path.write_text(f"#!/bin/sh\n{script}exit {code}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def asked(self, name: str) -> list[str]:
        path = self.folder / f"{name}.asked"
        return path.read_text().splitlines() if path.exists() else []

    def script(self) -> str:
        return (self.folder / "sbatch.script").read_text()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    programs = Programs(folder)
    programs("sbatch", "Submitted batch job 17")
    programs("squeue", error="slurm_load_jobs error: Invalid job id specified", code=1)
    programs("scontrol", "AuthType                = auth/none\nMaxArraySize            = 4\nMaxDBDMsgs = 20")
    programs("scancel")
    return programs


@pytest.fixture
def folder(tmp_path: Path) -> TaskFolder:
    """The folder of the tasks; its path has a space."""
    return TaskFolder(tmp_path / "my runs" / ".jobs")


def submit(folder: TaskFolder, settings: Settings, tasks: list[Task] = TASKS) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    run_tasks(folder, tasks, SlurmEngine(settings), wait=False)


def directives(script: str) -> set[str]:
    return {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")}


def test_without_sbatch_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match=r"^there is no sbatch here: run this on a machine from which jobs of Slurm"):
        SlurmEngine(Settings()).check()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            "sbatch: error: invalid partition specified: gpu\nallocation failure: Invalid partition name specified",
            "Slurm refuses the job (invalid partition specified: gpu): check the engine's settings",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "Slurm refuses the job (Batch job submission failed: Unable to contact slurm controller (connect failure))"
            ": check the engine's settings",
        ),
        ("", "Slurm refuses the job (exit code 1): check the engine's settings"),
    ],
)
def test_settings_are_tried_before_anything_is_written(
    programs: Programs, folder: TaskFolder, error: str, message: str
) -> None:
    programs("sbatch", error=error, code=1)
    with pytest.raises(JobError) as raised:
        run_tasks(folder, TASKS, SlurmEngine(Settings()))
    assert str(raised.value) == message
    assert programs.asked("sbatch") == ["--test-only"] and not folder.path.exists()


def test_the_options_of_a_job(programs: Programs, folder: TaskFolder) -> None:
    slurm = SlurmSettings(
        "gpu", "lab", "high", setup=("module load cuda", "ulimit -c 0"), options={"--exclude": "n7", "exclusive": ""}
    )
    submit(folder, Settings(cpus_per_task=4, memory_gb=7.5, gpus_per_task=2, time="04:00:00", workers=3, slurm=slurm))
    script = programs.script()
    assert directives(script) == {
        "job-name=medmnist-hf-my_runs",
        f"output='{folder.path}/slurm_logs/%A_%a.out'",
        f"error='{folder.path}/slurm_logs/%A_%a.out'",
        "array=0-3%3",
        "partition=gpu",
        "account=lab",
        "qos=high",
        "time=04:00:00",
        "nodes=1",
        "ntasks=1",
        "cpus-per-task=4",
        "mem=7680M",
        "gpus=2",
        "signal=B:USR1@90",
        "requeue",
        "open-mode=append",
        "exclude=n7",
        "exclusive",
    }
    lines = [line.strip() for line in script.strip().splitlines()]
    assert lines[0] == "#!/bin/bash" and lines.index("module load cuda") + 1 == lines.index("ulimit -c 0")
    last = lines[-1]
    assert last.startswith("exec ") and "-m medmnist_hf.jobs '" in last
    assert last.endswith("$((SLURM_ARRAY_TASK_ID + RUN_OFFSET * 4))")


def test_a_value_with_spaces_is_one_option(programs: Programs, folder: TaskFolder) -> None:
    settings = Settings(slurm=SlurmSettings(options={"comment": "my job"}))
    submit(folder, settings)
    assert "comment='my job'" in directives(programs.script())
    assert SlurmEngine(settings).resources(1, folder)[1].endswith(" --requeue --comment='my job'")


def test_the_output_of_jobs_that_started_no_task_is_named(programs: Programs, folder: TaskFolder) -> None:
    """As when the setup of a job ends it."""
    lines: list[str] = []
    statuses = run_tasks(folder, TASKS[:2], SlurmEngine(Settings()), report=lines.append)
    assert lines == [f"not started: 2 of 2 tasks; what their jobs said is in {folder.path}/slurm_logs"]
    assert (folder.path / "slurm_logs").is_dir()
    assert unfinished(statuses, folder) == ["waiting: t0", "waiting: t1"], "files of an output do not exist"


def test_by_default_the_cluster_decides(programs: Programs, folder: TaskFolder) -> None:
    submit(folder, Settings())
    names = {line.partition("=")[0] for line in directives(programs.script())}
    assert names == {
        *("job-name", "output", "error", "array", "nodes", "ntasks", "cpus-per-task", "signal", "requeue", "open-mode")
    }


def test_tasks_that_share_a_gpu_are_one_job_with_room_for_them(programs: Programs, folder: TaskFolder) -> None:
    submit(folder, Settings(gpus_per_task=0.25, cpus_per_task=2, memory_gb=1))
    assert {"array=0-1", "cpus-per-task=8", "mem=4096M", "gpus=1"} <= directives(programs.script())


def test_more_jobs_than_an_array_may_have_are_several_arrays(programs: Programs, folder: TaskFolder) -> None:
    submit(folder, Settings())
    arrays = [asked.rpartition(" ")[0] for asked in programs.asked("sbatch")[1:]]
    assert arrays == ["--export=ALL,RUN_OFFSET=0", "--export=ALL,RUN_OFFSET=1 --dependency=afterany:17"]
    assert (folder.path / SLURM_JOBS_NAME).read_text() == '["17", "17"]'


def test_nothing_is_pickled(programs: Programs, folder: TaskFolder) -> None:
    submit(folder, Settings())
    names = {path.name for path in folder.path.iterdir() if path.is_file()}
    assert names == {
        *("tasks.json", "settings.json", "ranks_to_run.json", "launch_script.slurm", "submit.lock", SLURM_JOBS_NAME)
    }


@pytest.mark.parametrize("waiting", ["RUNNING\nPENDING", ""])
def test_jobs_that_still_run_keep_a_folder_busy(programs: Programs, folder: TaskFolder, waiting: str) -> None:
    submit(folder, Settings())
    programs("squeue", waiting)
    if not waiting:
        submit(folder, Settings())
        return
    with pytest.raises(JobError, match=r"^Slurm job 17 17 is still running tasks of .*: wait until it ends, or"):
        submit(folder, Settings(), TASKS[:2])
    assert len(folder.read()) == 5
    assert programs.asked("squeue")[-1] == "--noheader --jobs=17,17 --format=%T"


def test_a_refusal_leaves_no_jobs_behind(programs: Programs, folder: TaskFolder) -> None:
    """The first array is accepted and the second, which depends on it, is not."""
    programs("sbatch", "Submitted batch job 17")
    path = programs.folder / "sbatch"
    text = path.read_text().replace("exit 0", 'case "$*" in *dependency*) exit 1;; esac')
    path.write_text(text)
    with pytest.raises(JobError, match=r"^Slurm refuses the jobs, as said above: check the engine's settings$"):
        submit(folder, Settings())
    assert programs.asked("scancel") == ["17"]
    assert not (folder.path / SLURM_JOBS_NAME).exists()


def test_a_list_of_jobs_that_is_damaged_is_named(programs: Programs, folder: TaskFolder) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / SLURM_JOBS_NAME).write_text("{")
    with pytest.raises(JobError, match=rf"^cannot read .*{SLURM_JOBS_NAME} .*: remove it, then run again$"):
        submit(folder, Settings())


def test_the_end_of_all_jobs_ends_the_run(
    programs: Programs, folder: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cluster runs them here, so that all are waiting still, and the next call may submit them again."""
    monkeypatch.setattr("medmnist_hf.jobs.slurm._FIRST_PAUSE", 0.0)
    statuses = run_tasks(folder, TASKS, SlurmEngine(Settings()), report=lambda line: None)
    assert {status.state for status in statuses.values()} == {State.WAITING}
    assert not (folder.path / SLURM_JOBS_NAME).exists()


def test_a_cluster_that_does_not_answer_keeps_its_jobs_in_mind(
    programs: Programs, folder: TaskFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be running: the same call must not start them again."""
    for name, seconds in {"_PATIENCE": 0.0, "_FIRST_PAUSE": 0.0, "_LONGEST_PAUSE": 0.0}.items():
        monkeypatch.setattr(f"medmnist_hf.jobs.slurm.{name}", seconds)
    programs("squeue", error="slurm_load_jobs error: Unable to contact slurm controller (connect failure)", code=1)
    with pytest.raises(JobError, match=r"^Slurm does not answer: see squeue -j 17,17; run again to continue$"):
        run_tasks(folder, TASKS, SlurmEngine(Settings()), report=lambda line: None)
    assert programs.asked("scancel") == ["17 17"] and (folder.path / SLURM_JOBS_NAME).exists()


def test_resources_are_described(programs: Programs) -> None:
    settings = Settings(gpus_per_task=0.5, tasks_per_job=2, workers=8, slurm=SlurmSettings("gpu"))
    assert SlurmEngine(settings).resources(1_001, TaskFolder(Path())) == [
        "slurm: 1,001 tasks in 251 jobs of an array, 8 at a time",
        "options of each job: --partition=gpu --nodes=1 --ntasks=1 --cpus-per-task=2 --gpus=1 --signal=B:USR1@90 "
        "--open-mode=append --requeue",
    ]
    assert SlurmEngine(Settings()).resources(1, TaskFolder(Path()))[0] == "slurm: 1 task in 1 job of an array"


def test_another_engine_does_not_run_what_slurm_still_has(programs: Programs, folder: TaskFolder) -> None:
    submit(folder, Settings())
    programs("squeue", "RUNNING")
    with pytest.raises(JobError, match=r"^Slurm job 17( 17)* is still running tasks of .*: wait until it ends, or"):
        run_tasks(folder, TASKS, LocalEngine(Settings()))
    programs("squeue")
    assert {status.state for status in run_tasks(folder, TASKS, LocalEngine(Settings())).values()} == {State.DONE}
