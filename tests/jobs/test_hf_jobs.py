"""Hugging Face Jobs: the jobs that would be sent, those that are, and whole runs with a server on 127.0.0.1."""

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import platformdirs
import pytest
from huggingface_hub import HfApi, constants

from medmnist_hf.cli.options.engine import show_tasks
from medmnist_hf.errors import JobError
from medmnist_hf.jobs import hf_jobs
from medmnist_hf.jobs.bucket import Bucket
from medmnist_hf.jobs.hf_jobs import HIDDEN, HfJobsEngine
from medmnist_hf.jobs.settings import HfJobsSettings, Settings
from medmnist_hf.jobs.submit import run_tasks
from medmnist_hf.jobs.tasks import State, Status, Task, TaskFolder, count
from tests.fixtures.hub.faults import Fault
from tests.fixtures.hub.jobs import JobsServer
from tests.fixtures.tasks import shell, wait_for

OWN = HfJobsSettings(bucket="you/medmnist")


class FolderBucket(Bucket):
    """A folder in place of a bucket, in which jobs read and write as if it were mounted."""

    def __init__(self, path: Path) -> None:
        super().__init__("you/medmnist", HfApi())
        self.path = path

    def create(self) -> None:
        self.path.mkdir(exist_ok=True)

    def names(self, folder: PurePosixPath) -> set[str]:
        path = self.path / folder
        return {each.name for each in path.iterdir() if each.is_file()} if path.is_dir() else set()

    def write(self, files: Mapping[PurePosixPath, bytes], remove: Iterable[PurePosixPath] = ()) -> None:
        for removed in remove:
            (self.path / removed).unlink()
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(content)

    def fetch(self, files: Mapping[PurePosixPath, Path]) -> None:
        for name, local in files.items():
            if (self.path / name).exists():
                shutil.copyfile(self.path / name, local)


class Engine(HfJobsEngine):
    """The engine, with a folder in place of its bucket and without long pauses."""

    pause = 0.02
    poll = 0.05

    def __init__(self, path: Path, workers: int | None = 2, **settings: Any) -> None:
        own = HfJobsSettings(bucket="you/medmnist", mount=str(path))
        super().__init__(Settings(workers=workers, hf_jobs=own, **settings))
        self.path = path

    def _open_bucket(self) -> Bucket:
        return FolderBucket(self.path)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(path / name))
    return path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsServer]:
    """A server that the client of this process uses, with its token."""
    with JobsServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


def run(engine: HfJobsEngine, path: Path, tasks: list[Task], **options: Any) -> tuple[dict[str, Status], list[str]]:
    lines: list[str] = []
    folder = TaskFolder(engine.place(path))
    return run_tasks(folder, tasks, engine, report=lines.append, **options), lines


def counting(path: Path, name: str, end: str = "true") -> Task:
    """A task that notes that it ran, in the bucket."""
    return shell(name, f"echo {name} >> {path}/ran; {end}")


def ran(path: Path) -> list[str]:
    return sorted((path / "ran").read_text().split())


def test_a_dry_run_prints_the_exact_job_and_sends_nothing(
    server: JobsServer, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = HfJobsSettings("l4x1", "you/medmnist", env={"DEBUG": "1"}, package="medmnist-hf[train]==0.2.0")
    engine = HfJobsEngine(Settings(workers=3, gpus_per_task=0.5, time="1-02:30:00", hf_jobs=own))
    tasks = [shell(f"t{number}", "true") for number in range(5)]
    show_tasks(Path("/data/bench/.jobs"), tasks, engine, lambda task: True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[5:9] == [
        "tasks: 5 waiting",
        "hf-jobs: 5 tasks in 3 jobs, 3 at a time, each on a machine of flavor l4x1, which decides on cores and memory",
        "bucket: you/medmnist, mounted at /data; results stay there",
        "the first of 3 jobs, which differ in their index:",
    ]
    job = json.loads("\n".join(lines[9:]))
    key = job["labels"].pop("medmnist-hf")
    assert len(key) == 16
    assert job == {
        "command": [
            *("uv", "run", "--with", "medmnist-hf[train]==0.2.0"),
            *("python", "-m", "medmnist_hf.jobs", "/data/bench/.jobs", "0"),
        ],
        "arguments": [],
        "environment": {"PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "DEBUG": "1"},
        "flavor": "l4x1",
        "secrets": {"HF_TOKEN": "***"},
        "timeoutSeconds": 95_400,
        "attempts": 2,
        "labels": {"name": "medmnist-hf-bench-0", "index": "0"},
        "volumes": [{"type": "bucket", "source": "you/medmnist", "mountPath": "/data"}],
        "dockerImage": "ghcr.io/astral-sh/uv:python3.12-bookworm",
    }
    assert not server.log.find() and not cache.exists()


def test_where_all_is_done_no_job_is_shown() -> None:
    engine = HfJobsEngine(Settings(time="01:00:00", hf_jobs=OWN))
    assert len(engine.resources(0, TaskFolder(engine.place(Path("/data/dist"))))) == 2


def test_a_dry_run_needs_no_token(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    show_tasks(Path("/data/bench"), [shell("a", "true")], HfJobsEngine(Settings(hf_jobs=OWN)), lambda task: None)
    assert '"HF_TOKEN": "***"' in capsys.readouterr().out


def test_what_is_sent_is_what_a_dry_run_prints(server: JobsServer, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    engine = Engine(bucket, time="01:00:00")
    folder = TaskFolder(engine.place(bucket / "dist" / ".jobs"))
    printed = json.loads("\n".join(engine.resources(2, folder)[3:]))
    run(engine, bucket / "dist" / ".jobs", [shell("a", "true"), shell("b", "true")])
    first, second = (job.body for job in server.jobs.values())
    assert first.pop("secrets") == {"HF_TOKEN": server.token} and printed.pop("secrets") == {"HF_TOKEN": HIDDEN}
    assert first == printed
    assert second["labels"] == printed["labels"] | {"index": "1", "name": "medmnist-hf-dist-1"}
    assert second["command"] == [*printed["command"][:-1], "1"]


def test_tasks_run_and_those_that_failed_run_again(
    server: JobsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = tmp_path / "bucket"
    tasks = [counting(bucket, name, f"test {name} != c || test -e {bucket}/luck || exit 3") for name in "abcd"]
    statuses, lines = run(Engine(bucket, tasks_per_job=2), bucket / "dist", tasks)
    assert count(statuses.values()) == "3 done, 1 failed" and ran(bucket) == list("abcd")
    assert statuses["c"] == Status(State.FAILED, "ended with exit code 3: see c.txt")
    assert any("c: failed: ended with exit code 3: see c.txt" in line for line in lines)
    engine = Engine(bucket)
    folder = TaskFolder(engine.place(bucket / "dist"))
    assert folder.log_of(tasks[2]).exists() and not folder.log_of(tasks[0]).exists()

    (bucket / "luck").touch()
    statuses, lines = run(Engine(bucket), bucket / "dist", tasks, is_done=lambda task: False)
    assert count(statuses.values()) == "4 done" and ran(bucket) == list("abccd")
    assert lines == ["3 of 4 are done already", "[4/4] c: done"]
    assert len(server.jobs) == 3
    text = "".join(path.read_text() for path in bucket.rglob("*") if path.is_file())
    assert server.token not in text + capsys.readouterr().out
    assert not list(bucket.rglob("*.pik"))


def test_what_tasks_read_is_in_the_bucket(server: JobsServer, tmp_path: Path) -> None:
    """As the recipes of a benchmark's cells, which are written next to the folder of the tasks."""
    bucket, engine = tmp_path / "bucket", Engine(tmp_path / "bucket")
    out = engine.place(bucket / "bench")
    (out / "cell").mkdir(parents=True)
    (out / "cell" / "recipe.yaml").write_text("epochs: 3\n")
    task = Task("cell", ("/bin/sh", "-c", f"cat {bucket}/bench/cell/recipe.yaml; exit 1"), "../../cell/log.txt")
    run_tasks(TaskFolder(out / ".jobs" / "matrix"), [task], engine, report=lambda line: None)
    assert (out / "cell" / "log.txt").read_text() == "epochs: 3\n"


def test_results_are_fetched_before_a_task_counts_as_done(server: JobsServer, tmp_path: Path) -> None:
    bucket, engine = tmp_path / "bucket", Engine(tmp_path / "bucket", tasks_per_job=2)
    tasks = [Task.with_result("a", "/bin/echo", "fine"), shell("b", "true")]
    folder = TaskFolder(engine.place(bucket / "dist"))

    def describe(task: Task) -> str:
        path = folder.result_of(task)
        return path.read_text().strip() if path else "nothing to see"

    _, lines = run(engine, bucket / "dist", tasks, describe=describe)
    assert "a: fine" in lines[0] and "b: done" in lines[1]


def test_no_more_jobs_than_workers_run_at_a_time(server: JobsServer, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    script = f"sleep 0.2; ls {bucket}/dist/running | wc -l >> {bucket}/counts"
    statuses, _ = run(Engine(bucket, workers=1), bucket / "dist", [shell(name, script) for name in "ab"])
    assert count(statuses.values()) == "2 done" and (bucket / "counts").read_text().split() == ["1", "1"]


def test_jobs_of_a_process_that_was_killed_are_found_by_the_next_one(server: JobsServer, tmp_path: Path) -> None:
    """They run on, and what they did counts."""
    bucket = tmp_path / "bucket"
    task = counting(bucket, "a", f"while ! test -e {bucket}/go; do sleep 0.02; done")
    killed = Engine(bucket)
    folder = TaskFolder(killed.place(bucket / "dist"))
    folder.write([task], lambda task: None)
    assert killed.still_running(folder) == ""
    killed.start(folder, [task], [0])
    wait_for((bucket / "ran").exists)
    with pytest.raises(JobError, match=r"^Hugging Face job alice-0 is still running tasks of .*: wait until it ends"):
        run(Engine(bucket), bucket / "dist", [task])
    (bucket / "go").touch()
    wait_for(lambda: server.jobs["alice-0"].stage == "COMPLETED")
    shutil.rmtree(folder.path)  # as on another machine
    statuses, lines = run(Engine(bucket), bucket / "dist", [task])
    assert count(statuses.values()) == "1 done" and lines == ["1 of 1 are done already"] and ran(bucket) == ["a"]


def test_a_run_that_is_stopped_cancels_its_jobs(server: JobsServer, tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    script = f"while ! test -e {bucket}/dist/running/00000; do sleep 0.02; done; exit 1"
    tasks = [shell("a", "exec sleep 100"), shell("b", script), shell("c", "exec sleep 100")]
    statuses, _ = run(Engine(bucket), bucket / "dist", tasks, keep_going=False)
    assert statuses["b"].state is State.FAILED and statuses["a"].state is State.INTERRUPTED
    assert server.jobs["alice-0"].stage == "CANCELED"


@pytest.mark.parametrize(("method", "path"), [("POST", r"/jobs/alice$"), ("GET", r"/jobs/alice/alice-0$")])
@pytest.mark.parametrize("lost", [False, True])
def test_requests_that_fail_for_a_moment_do_not_end_a_run(
    server: JobsServer, tmp_path: Path, method: str, path: str, lost: bool
) -> None:
    """If the answer to a submission is lost, its job is found; none is submitted twice."""
    bucket = tmp_path / "bucket"
    fault = Fault(method, path, after=lost, lose_answer=lost, status=None if lost else 503)
    server.faults.add(fault)
    tasks = [counting(bucket, name) for name in "ab"]
    statuses, _ = run(Engine(bucket, workers=1), bucket / "dist", tasks)
    assert fault.hits == 1
    assert count(statuses.values()) == "2 done" and ran(bucket) == list("ab") and len(server.jobs) == 2


@pytest.mark.parametrize(
    ("status", "path", "message"),
    [
        (401, "whoami", "cannot log in (HTTP 401"),
        (
            402,
            r"jobs/alice$",
            "Hugging Face refuses the job (HTTP 402, an injected fault): check the engine's",
        ),
        (
            403,
            r"jobs/alice$",
            "Hugging Face refuses the job (HTTP 403, an injected fault): check the engine's",
        ),
    ],
)
def test_a_refusal_is_one_line(server: JobsServer, tmp_path: Path, status: int, path: str, message: str) -> None:
    server.faults.add(Fault("GET|POST", path, status=status, times=-1))
    with pytest.raises(JobError) as error:
        run(Engine(tmp_path / "bucket"), tmp_path / "bucket" / "dist", [shell("a", "true")])
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert server.token not in str(error.value)


def test_a_server_that_stays_silent_ends_the_run(
    server: JobsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_jobs, "_PATIENCE", 0.1)
    server.faults.add(Fault("GET", r"/api/jobs/alice/", times=-1, status=503))
    begun = time.monotonic()
    with pytest.raises(JobError, match=r"^Hugging Face does not answer \(HTTP 503.*\): run the same command again to"):
        run(Engine(tmp_path / "bucket"), tmp_path / "bucket" / "dist", [shell("a", "kill -9 $PPID; sleep 1")])
    assert time.monotonic() - begun < 10


def test_without_a_token_nothing_is_sent(server: JobsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with pytest.raises(JobError, match=r"^there is no token of Hugging Face: log in with `hf auth login`"):
        run(Engine(tmp_path / "bucket"), tmp_path / "bucket" / "dist", [shell("a", "true")])
    assert not server.log.find()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(), "hf-jobs needs a bucket for its results: give hf-jobs: {bucket: you/medmnist}"),
        (
            Settings(hf_jobs=HfJobsSettings("l4", "you/medmnist")),
            "unknown flavor 'l4' of hf-jobs: choose from l4x4, l4x1",
        ),
        (
            Settings(gpus_per_task=1, hf_jobs=OWN),
            "gpus_per_task is 1, but GPUs of the flavor cpu-basic: 0; choose another",
        ),
        (
            Settings(gpus_per_task=2, hf_jobs=HfJobsSettings("l4x1", "you/medmnist")),
            "gpus_per_task is 2, but GPUs of the flavor l4x1: 1; choose another",
        ),
        (
            Settings(hf_jobs=HfJobsSettings(bucket="you/medmnist", env={"HF_TOKEN": "hf_secret"})),
            "hf-jobs.env holds HF_TOKEN: leave it out, jobs get the token of this machine as a secret",
        ),
    ],
)
def test_settings_are_checked_before_anything_is_sent(settings: Settings, message: str) -> None:
    with pytest.raises(JobError) as error:
        HfJobsEngine(settings).check()
    assert str(error.value) == message


@pytest.mark.parametrize(("flavor", "wanted"), [("l4x4", 4), ("a10g-large", 1), ("cpu-upgrade", 0), ("l4x1", 0.25)])
def test_flavors_with_the_gpus_of_a_task_are_accepted(flavor: str, wanted: float) -> None:
    HfJobsEngine(Settings(gpus_per_task=wanted, hf_jobs=HfJobsSettings(flavor, "you/medmnist"))).check()


@pytest.mark.parametrize("path", ["/home/me/dist", "dist", "/data/../etc", "/database/dist"])
def test_paths_outside_the_bucket_are_refused(path: str) -> None:
    with pytest.raises(JobError, match=f"^{path} is not below /data, where jobs of Hugging Face have the bucket"):
        HfJobsEngine(Settings(hf_jobs=OWN)).place(Path(path))


def test_buckets_and_folders_have_mirrors_of_their_own(cache: Path) -> None:
    engine = HfJobsEngine(Settings(hf_jobs=OWN))
    first, second = engine.place(Path("/data/a")), engine.place(Path("/data/b/c"))
    assert first.is_relative_to(cache) and second == first.parent / "b" / "c"
    other = HfJobsEngine(Settings(hf_jobs=HfJobsSettings(bucket="me/medmnist")))
    assert other.place(Path("/data/a")) != first
