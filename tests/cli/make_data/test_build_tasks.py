"""Builds as tasks of the local engine: equal to those of one process, resumed, and reported one by one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medmnist_hf.cli.make_data.build_tasks import DOWNLOADS
from medmnist_hf.errors import JobError, SourceError
from medmnist_hf.files import sole_process
from medmnist_hf.jobs.submit import LOCK_NAME
from medmnist_hf.jobs.tasks import Task, TaskFolder
from medmnist_hf.places.configs import expand, find_configs
from tests.conftest import Phantoms
from tests.fixtures.commands import Command, command, invoke
from tests.fixtures.dists import digests_below, lines_of, npz_folder
from tests.fixtures.zenodo import Reply, zenodo_server

SMALL = (("breastmnist", 28), ("breastmnist", 64), ("retinamnist", 28))
FLAGS = ("retinamnist", "breastmnist-64", "breastmnist-28")
LOCAL = ("--engine", "local", "--workers", "4")


@pytest.fixture
def build(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command("build", capsys, monkeypatch)


@pytest.fixture(scope="module")
def npz(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return npz_folder(phantoms, tmp_path_factory.mktemp("npz"), *SMALL)


@pytest.fixture(scope="module")
def serial(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the builds of one process."""
    root = tmp_path_factory.mktemp("serial")
    invoke("build", *reversed(FLAGS), "--source", npz, "--allow-unverified", "--root", root)
    return digests_below(root)


def tasks_of(root: Path) -> tuple[Task, ...]:
    return TaskFolder(root / ".jobs" / "build").read()


def test_tasks_build_the_same_bytes_and_one_failure_does_not_stop_the_others(
    npz: Path, serial: dict[str, str], tmp_path: Path, build: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(npz, "npz")
    arguments = ("pneumoniamnist", *FLAGS, "--source", "npz", "--allow-unverified", "--root", "dist")
    first = build(*arguments, *LOCAL)
    assert first.returncode == 1
    assert digests_below(tmp_path / "dist") == serial, "READMEs of subsets whose sizes are built at once included"
    reason = f"no file pneumoniamnist.npz in {tmp_path / 'npz'}: copy it there, or use --source zenodo to download it"
    log = tmp_path / "dist/.jobs/build/logs/pneumoniamnist-28.txt"
    assert first.stderr.splitlines() == [
        f"error: failed: pneumoniamnist-28: {reason} (output: {log})",
        "error: not done: 1 of 4 tasks; fix what is named above, then run the same command again",
    ]
    assert len(lines_of(first.stdout, "[")) == 4 and "retinamnist-28: 29 rows in 3 shards, 0.0" in first.stdout
    assert reason in log.read_text()
    # The folder of the tasks is not taken for a subset.
    assert [Path(name).name for name in expand(["dist"])] == ["breastmnist", "retinamnist"]
    assert len(find_configs("dist")) == 3

    shutil.copy(npz / "retinamnist.npz", "npz/pneumoniamnist.npz")  # of another shape
    shutil.rmtree("dist/retinamnist/28")
    second = build(*arguments, *LOCAL)
    assert second.returncode == 1 and "2 of 4 are done already" in second.stdout
    assert digests_below(tmp_path / "dist") == serial, "a build that was removed is built again"
    assert len(lines_of(second.stderr, "error: failed: pneumoniamnist-28: ")) == 1


def test_tasks_get_the_options_of_the_command_with_absolute_paths(
    npz: Path, tmp_path: Path, build: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(npz, "npz")
    monkeypatch.setenv("MEDMNIST_SCRATCH", "scratch")

    def commands(*arguments: str) -> list[str]:
        ended = build("breastmnist", "--size", "all", *arguments, "--engine", "local", "--dry-run")
        assert ended.returncode == 0, ended.stderr
        return [line.partition(": ")[2] for line in lines_of(ended.stdout, "waiting ")]

    sizes = [28, 64, 128, 224]
    begin = "python -m medmnist_hf build breastmnist --size"
    options = ("--source", "npz", "--allow-unverified", "--threads", "3", "--max-shard-size", "1MB", "--force")
    assert commands(*options) == [
        f"{begin} {size} --source {tmp_path}/npz --allow-unverified --threads 3 --scratch {tmp_path}/scratch "
        f"--root {tmp_path}/dist --max-shard-size 1MB --force"
        for size in sizes
    ]
    options = ("--scratch", "auto", "--mirror", "https://a.example/m", "--mirror", "https://b.example", "--out", "x")
    assert commands(*options) == [
        f"{begin} {size} --source zenodo --mirror https://a.example/m --mirror https://b.example "
        f"--downloads {DOWNLOADS} --scratch auto --root {tmp_path}/x"
        for size in sizes
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["npz"], "a dry run writes nothing"


def test_a_dry_run_without_an_engine_says_what_exists(
    npz: Path, serial: dict[str, str], tmp_path: Path, build: Command
) -> None:
    root = tmp_path / "dist"
    arguments = (*FLAGS, "--source", npz, "--allow-unverified", "--root", root, "--dry-run")
    process = build(*arguments)
    assert process.returncode == 0 and "3 builds, " in process.stdout and not root.exists()
    invoke("build", "breastmnist", "--source", npz, "--allow-unverified", "--root", root)
    before = digests_below(tmp_path)
    assert lines_of(build(*arguments).stdout, "breastmnist 28: ") == ["breastmnist 28: complete, and would be kept"]
    assert lines_of(build(*arguments, "--force").stdout, "breastmnist 28: ") == [
        "breastmnist 28: exists, and would be replaced"
    ]
    (line,) = lines_of(build(*arguments, "--max-shard-size", "1MB").stdout, "breastmnist 28: ")
    assert line.startswith(f"breastmnist 28: would fail: {root}/breastmnist/28 was built with shard limit 500000000")
    assert digests_below(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (["--workers", "2"], JobError, "--workers needs an engine: add --engine, e.g. --engine local"),
        (["--no-wait"], JobError, "--no-wait needs an engine: "),
        (["--engine", "pbs"], JobError, "unknown engine 'pbs': choose from local, slurm, ray, hf-jobs"),
        (
            ["--source", "phantom", "--downloads", "2"],
            SourceError,
            "--downloads requires --source zenodo, not 'phantom",
        ),
        (["--scratch", "nowhere", "--source", "phantom"], SourceError, "no folder nowhere for --scratch: create it"),
        (
            ["--mirror", "https://me:secret@a.example", "--engine", "local"],
            SourceError,
            r"--mirror https://\S+@a.example has a password or a query, which the files of tasks would hold",
        ),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], error: type[Exception], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=f"^{says}") as caught:
        invoke("build", "breastmnist", *options)
    assert "secret" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_npz_files_that_jobs_do_not_see_are_refused(
    npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("engine.yaml").write_text("hf-jobs: {bucket: me/medmnist}")
    arguments = ("breastmnist", "--root", "/data/dist", "--engine", "hf-jobs", "--engine-config", "engine.yaml")
    with pytest.raises(
        JobError, match=f"^the machines of hf-jobs do not see --source {npz} of this one: use --source zenodo$"
    ):
        invoke("build", *arguments, "--source", npz, "--dry-run")
    invoke("build", *arguments, "--source", "phantom", "--dry-run")
    assert "tasks: 1 waiting" in capsys.readouterr().out


def test_a_second_submission_is_refused(npz: Path, tmp_path: Path, build: Command) -> None:
    folder = tmp_path / ".jobs" / "build"
    folder.mkdir(parents=True)
    with sole_process(folder / LOCK_NAME, "testing"):
        process = build("breastmnist", "--source", npz, "--allow-unverified", "--root", tmp_path, *LOCAL)
    assert process.returncode == 1
    assert (
        process.stderr == f"error: another process is running tasks of {folder}: wait until it ends, then run again\n"
    )


def test_a_scratch_folder_is_used_in_this_process(
    npz: Path, serial: dict[str, str], tmp_path: Path, build: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("MEDMNIST_SCRATCH", str(scratch))
    process = build(*FLAGS, "--source", npz, "--allow-unverified", "--root", tmp_path / "dist")
    assert process.returncode == 0, process.stderr
    assert digests_below(tmp_path / "dist") == serial and list(scratch.iterdir()) == []
    assert (tmp_path / "dist/retinamnist/.build/28.scratch.lock").exists()


def children_of(pid: int) -> list[int]:
    """Processes that any thread of a process started."""
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("victim", ["submitter", "task"])
def test_after_kill_9_the_same_command_completes_the_builds(phantoms: Phantoms, tmp_path: Path, victim: str) -> None:
    npz, root = npz_folder(phantoms, tmp_path / "npz", *SMALL), tmp_path / "dist"
    large = phantoms("pathmnist", 64, 1_000)
    shutil.copy(large.path, npz / "pathmnist_64.npz")
    options = ["--source", str(npz), "--allow-unverified", "--max-shard-size", "1MB"]
    invoke("build", *FLAGS, "pathmnist-64", *options, "--root", tmp_path / "expected")
    arguments = [sys.executable, "-m", "medmnist_hf", "build", *FLAGS, "pathmnist-64", *options, "--root", str(root)]
    arguments += ["--engine", "local", "--workers", "2"]
    submitter = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    stage = root / "pathmnist" / ".build" / "64"
    deadline = time.monotonic() + 120
    while not list(stage.glob("*.parquet.json")):
        assert time.monotonic() < deadline and submitter.poll() is None
        time.sleep(0.005)
    tasks = [pid for pid in children_of(submitter.pid) if "pathmnist" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(tasks) == 1
    os.kill(submitter.pid if victim == "submitter" else tasks[0], signal.SIGKILL)
    _, errors = submitter.communicate(timeout=120)
    if victim == "submitter":
        while Path(f"/proc/{tasks[0]}").exists():  # Linux ends it with its parent
            assert time.monotonic() < deadline
            time.sleep(0.01)
    else:
        assert "failed: pathmnist-64: ended by SIGKILL, possibly because memory ran out" in errors
    assert not (root / "pathmnist" / "64").exists()
    kept = {path.name: path.stat().st_ino for path in (stage / "config").glob("*.parquet") if path.stat().st_size}
    again = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert digests_below(root) == digests_below(tmp_path / "expected")
    built = {path.name: path.stat().st_ino for path in (root / "pathmnist" / "64").glob("*.parquet")}
    assert [name for name, inode in kept.items() if built[name] == inode], "finished shards are kept"


@pytest.mark.slow
def test_downloads_of_tasks_are_limited_and_stay_in_the_scratch_folder(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Command
) -> None:
    flags = ("breastmnist", "retinamnist", "adrenalmnist3d")
    for name in ("scratch", "cache"):
        (tmp_path / name).mkdir()
    shutil.copy(real_data / "retinamnist.npz", tmp_path / "cache")
    with zenodo_server() as server:
        server.then = Reply(pause=3.0)
        for flag in flags:
            server.files[f"{flag}.npz"] = (real_data / f"{flag}.npz").read_bytes()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("MEDMNIST_ENDPOINT", server.url)
        monkeypatch.setenv("MEDMNIST_ROOT", str(tmp_path / "cache"))
        options = ("--root", tmp_path / "dist", "--downloads", "1", "--scratch", tmp_path / "scratch")
        process = build(*flags, *options, *LOCAL)
    assert process.returncode == 0, process.stderr
    assert server.most_at_once == 1 and len(server.seen) == 2
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["retinamnist.npz"]
    assert list((tmp_path / "scratch").iterdir()) == []
    logs = [path.read_text() for path in (tmp_path / "dist/.jobs/build/logs").iterdir()]
    assert any("others are downloading (at most 1 at a time): waiting for one of them" in log for log in logs)
    invoke("build", *flags, "--source", real_data, "--root", tmp_path / "serial")
    shards = {path: digest for path, digest in digests_below(tmp_path / "dist").items() if path.endswith(".parquet")}
    assert shards.items() <= digests_below(tmp_path / "serial").items() and len(shards) == 9
