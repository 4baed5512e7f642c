"""Cells as tasks of an engine, in real processes: results, failures, Ctrl-C, and one benchmark per folder."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from accelerate.commands.launch import launch_command_parser  # type: ignore[import-untyped]

from medmnist_hf.data.array_cache import VARIABLE, cache_info
from medmnist_hf.errors import JobError, MedMNISTError
from medmnist_hf.files import sole_process
from medmnist_hf.jobs.local import LocalEngine
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.jobs.submit import run_tasks
from medmnist_hf.jobs.tasks import JOBS_DIR, State, TaskFolder
from medmnist_hf.training.benchmark import tasks as module
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.status import CONFIG_NAME, LOG_NAME, statuses_in
from medmnist_hf.training.benchmark.tasks import LOCK_NAME, run_cells, tasks_of
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.registry import METHODS
from medmnist_hf.training.run_folder import run_name
from tests.conftest import Phantoms
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.commands import invoke
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import build_all, tiny

MATRIX = Path("matrix.yaml")


def cells(count: int, **options: object) -> list[BenchmarkRun]:
    recipes = [make_recipe({"dataset": "breastmnist", "epochs": 1 + at, **options}) for at in range(count)]
    return [BenchmarkRun(run_name(recipe), recipe) for recipe in recipes]


Program = Callable[[Mapping[int, str]], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run a shell script in place of ``medmnist-hf finetune``.

    The script is chosen by the epochs of the cell; ``$leave``, the default, writes its results. Each start of a cell
    appends a line to the file ``ran``.
    """

    def use(scripts: Mapping[int, str]) -> None:
        branches = "".join(f"  {epochs}) {script} ;;\n" for epochs, script in scripts.items())
        start = (
            f'out=$4; epochs=$(sed -n "s/^epochs: //p" "$2"); leave="cp {tmp_path}/ready-$epochs $out/results.json"\n'
        )
        start += f"echo $epochs >> {tmp_path}/ran\n"
        path = tmp_path / "program"
        path.write_text(f"{start}case $epochs in\n{branches}  *) $leave ;;\nesac\n")
        monkeypatch.setattr(module, "_PROGRAM", ("sh", str(path)))

    use({})
    return use


def prepare(folder: Path, some: Sequence[BenchmarkRun]) -> None:
    """Leave the results that the program copies."""
    for cell in some:
        run = folder / f"run-{cell.recipe.epochs}"
        test = [0.9] if cell.recipe.test else []
        leave_run(run, test=test, validation=[0.8], dataset="breastmnist", epochs=cell.recipe.epochs)
        (run / "results.json").rename(folder / f"ready-{cell.recipe.epochs}")


def run_all(some: Sequence[BenchmarkRun], out: Path, **options: Any) -> list[str]:
    """Run cells on this machine, and return the lines that were reported."""
    lines: list[str] = []
    workers = options.pop("workers", 1)
    run_cells(some, MATRIX, out, LocalEngine(Settings(workers=workers)), report=lines.append, **options)
    return lines


def ran(folder: Path) -> list[int]:
    path = folder / "ran"
    return sorted(int(line) for line in path.read_text().splitlines()) if path.exists() else []


def states(some: Sequence[BenchmarkRun], out: Path) -> list[State]:
    statuses = statuses_in(out, some)
    return [statuses[cell.name].state for cell in some]


def note(cell: BenchmarkRun, out: Path) -> str:
    return statuses_in(out, [cell])[cell.name].note


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_failure_does_not_stop_other_cells_and_finished_cells_are_not_repeated(
    tmp_path: Path, program: Program, workers: int
) -> None:
    some, out = cells(4), tmp_path / "bench"
    prepare(tmp_path, some)
    program({2: "echo 'error: it has no weights: give --no-pretrained'; exit 1"})
    lines = run_all(some, out, workers=workers)
    assert states(some, out) == [State.DONE, State.FAILED, State.DONE, State.DONE]
    assert note(some[1], out) == "it has no weights: give pretrained: false", "a key of the matrix, not an option"
    failed = re.escape(f"{some[1].name}: failed: it has no weights: give pretrained: false")
    assert any(re.fullmatch(rf"\[\d/4\] {failed}(; about \d+ s left)?", line) for line in lines)
    done = f"{some[0].name}: test AUC 0.900 and ACC 0.800 in 10 s"
    assert any(re.fullmatch(rf"\[\d/4\] {done}; about \d+ s left", line) for line in lines)
    for cell in some:
        assert yaml.safe_load((out / cell.name / "cell.yaml").read_text())["epochs"] == cell.recipe.epochs

    program({})
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/cell.yaml")}
    lines = run_all(some, out, workers=workers)
    assert ran(tmp_path) == [1, 2, 2, 3, 4] and set(states(some, out)) == {State.DONE}
    assert lines[0] == "3 of 4 are done already" and len(lines) == 2
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/cell.yaml")} == kept


def test_the_report_is_the_same_however_the_cells_were_run(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, or one after the other with failures in between, as on a cluster whose machines are lost."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    some, fails = cells(3), {3: "exit 3"}
    prepare(tmp_path, some)
    reports = []
    for name, scripts, workers in (
        ("once", [fails], 3),
        ("often", [fails | {1: "kill -9 $$", 2: "kill $$"}, fails], 1),
    ):
        out = tmp_path / name
        for script in scripts:
            program(script)
            run_all(some, out, workers=workers)
        invoke("benchmark", "--report-only", "--out", out)
        reports.append({path.name: path.read_bytes() for path in out.glob("report*")})
    assert reports[0] == reports[1] and len(reports[0]) == 3
    assert f"| {some[2].name} | failed | ended with exit code 3: see log.txt |".encode() in reports[0]["report.md"]


def test_a_cell_that_another_command_has_run_is_done(tmp_path: Path, program: Program) -> None:
    some, out = cells(2), tmp_path / "bench"
    prepare(tmp_path, some)
    leave_run(out / some[0].name, test=[0.9], validation=[0.8], dataset="breastmnist", epochs=1)
    lines = run_all(some, out)
    assert ran(tmp_path) == [2] and lines[0] == "1 of 2 are done already"
    (out / some[0].name / "results.json").unlink()
    assert states(some, out) == [State.WAITING, State.DONE]
    run_all(some, out)
    assert ran(tmp_path) == [1, 2] and set(states(some, out)) == {State.DONE}


def test_a_run_without_test_scores_reports_validation(tmp_path: Path, program: Program) -> None:
    some = cells(1, test=False)
    prepare(tmp_path, some)
    lines = run_all(some, tmp_path / "bench")
    assert lines == [f"[1/1] {some[0].name}: validation AUC 0.800 and ACC 0.700 in 10 s"]


def test_only_selected_cells_are_run_and_the_others_are_listed(tmp_path: Path, program: Program) -> None:
    some, out = cells(3), tmp_path / "bench"
    prepare(tmp_path, some)
    lines = run_all(some, out, is_selected=lambda name: name == some[1].name)
    assert lines == [f"[1/1] {some[1].name}: test AUC 0.900 and ACC 0.800 in 10 s"], "no others are counted"
    assert ran(tmp_path) == [2] and states(some, out) == [State.WAITING, State.DONE, State.WAITING]


def test_no_cell_is_started_after_a_failure_unless_keep_going(tmp_path: Path, program: Program) -> None:
    some = cells(3)
    program({1: "exit 3", 2: "sleep 1; exit 1"})
    run_all(some, tmp_path / "out", keep_going=False)
    assert note(some[0], tmp_path / "out") == "ended with exit code 3: see log.txt"
    assert states(some, tmp_path / "out")[2] is State.WAITING and 3 not in ran(tmp_path)


def test_processes_without_results_are_not_done_and_killed_processes_have_failed(
    tmp_path: Path, program: Program
) -> None:
    some = cells(2)
    program({1: "true", 2: "kill -9 $$"})
    lines = run_all(some, tmp_path / "out")
    assert f"[1/2] {some[0].name}: ended without results: see log.txt" in lines[0]
    assert states(some, tmp_path / "out") == [State.WAITING, State.FAILED]
    assert note(some[1], tmp_path / "out").startswith("ended by SIGKILL")


def test_the_output_of_a_cell_is_in_its_log(tmp_path: Path, program: Program) -> None:
    (cell,) = cells(1)
    prepare(tmp_path, [cell])
    program({1: "echo out; echo err >&2; $leave"})
    run_all([cell], tmp_path / "out")
    assert (tmp_path / "out" / cell.name / LOG_NAME).read_text() == "out\nerr\n"


def test_a_cell_runs_where_its_matrix_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe may name folders relative to it, and the processes of an engine may have been started elsewhere."""
    monkeypatch.setattr(module, "_PROGRAM", ("sh", "-c", "pwd"))
    monkeypatch.chdir(tmp_path)
    (task,) = tasks_of(cells(1), tmp_path / "out")
    (tmp_path / "out" / task.name).mkdir(parents=True)
    monkeypatch.chdir("/")
    folder = TaskFolder(tmp_path / "out" / JOBS_DIR / "matrix")
    run_tasks(folder, [task], LocalEngine(Settings()), report=lambda _: None)
    assert folder.log_of(task).read_text() == f"{tmp_path}\n"
    folder = TaskFolder(tmp_path / "out" / JOBS_DIR / "other")
    run_tasks(folder, [replace(task, cwd="/no/such/folder")], LocalEngine(Settings()), report=lambda _: None)
    assert folder.log_of(task).read_text() == "/\n"


def test_parallel_cells_share_the_cores(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    # Each waits for the other and fails if it runs alone.
    meet = "touch {0}/at-{1}; for i in $(seq 200); do [ -e {0}/at-{2} ] && break; sleep 0.05; done;"
    meet += "[ -e {0}/at-{2} ] && echo threads $OMP_NUM_THREADS && $leave"
    some = cells(2)
    prepare(tmp_path, some)
    program({1: meet.format(tmp_path, 1, 2), 2: meet.format(tmp_path, 2, 1)})
    run_all(some, tmp_path / "out", workers=2)
    assert set(states(some, tmp_path / "out")) == {State.DONE}
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert (tmp_path / "out" / some[0].name / LOG_NAME).read_text() == f"threads {share}\n"


def test_one_benchmark_at_a_time_runs_cells_in_a_folder(tmp_path: Path, program: Program) -> None:
    """Another matrix may have the same cells."""
    some, out = cells(2), tmp_path / "bench"
    (out / JOBS_DIR).mkdir(parents=True)
    with (
        sole_process(out / JOBS_DIR / LOCK_NAME, "running"),
        pytest.raises(JobError, match=f"another process is running a benchmark in {out}: wait until it ends"),
    ):
        run_all(some, out)
    assert ran(tmp_path) == [] and not list(out.glob("*/cell.yaml"))


def test_cells_that_an_engine_still_runs_are_not_submitted_again(tmp_path: Path, program: Program) -> None:
    class Detached(LocalEngine):
        def still_running(self, folder: TaskFolder) -> str:
            return "job 7" if folder.path.name == "other" else ""

    some, out = cells(2), tmp_path / "bench"
    prepare(tmp_path, some)
    run_cells(some[:1], Path("other.yaml"), out, LocalEngine(Settings()), report=lambda _: None)
    with pytest.raises(JobError, match=f"job 7 is still running cells in {out}: wait until it ends, or cancel it"):
        run_cells(some, MATRIX, out, Detached(Settings()), report=lambda _: None)
    assert ran(tmp_path) == [1]


def test_nothing_is_written_if_the_engine_cannot_run_the_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(JobError, match="gpus_per_task is 2, but GPUs of this machine: 0"):
        run_cells(cells(1), MATRIX, tmp_path / "bench", LocalEngine(Settings(gpus_per_task=2)))
    with pytest.raises(JobError, match="tasks of local end with this command: leave out --no-wait"):
        run_all(cells(1), tmp_path / "bench", wait=False)
    assert not (tmp_path / "bench").exists()


def test_a_file_system_without_locks_gives_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(MedMNISTError, match=r"cannot lock .*benchmark\.lock \(.*\): use a folder on a file system"):
        run_all(cells(1), tmp_path / "bench")


@pytest.mark.parametrize("gpus", [0.0, 0.25, 1.0])
def test_a_cell_is_a_command_with_absolute_paths(tmp_path: Path, gpus: float) -> None:
    (cell,) = cells(1)
    (task,) = tasks_of([cell], tmp_path, gpus)
    folder = str(tmp_path / cell.name)
    program = ("python", "-m", "medmnist_hf", "finetune")
    assert task.command == (*program, "--config", f"{folder}/cell.yaml", "--out", folder, "--quiet")
    assert TaskFolder(tmp_path / JOBS_DIR / "matrix").log_of(task) == tmp_path / cell.name / LOG_NAME


def test_a_cell_with_several_gpus_is_launched_in_as_many_processes(tmp_path: Path) -> None:
    (cell,) = cells(1)
    (alone,), (task,) = tasks_of([cell], tmp_path), tasks_of([cell], tmp_path, 4)
    assert task.command[:3] == ("python", "-m", "accelerate.commands.launch")
    parsed = launch_command_parser().parse_args(task.command[3:])
    assert (parsed.multi_gpu, parsed.num_processes, parsed.num_machines, parsed.module) == (True, 4, 1, True)
    assert parsed.main_process_port == 0, "any free port, since another cell may run on the same machine"
    assert ("python", "-m", parsed.training_script, *parsed.training_script_args) == alone.command
    recipe = make_recipe({"dataset": "breastmnist", "model": "pixels", "method": "autogluon"})
    search = BenchmarkRun(run_name(recipe), recipe)
    assert tasks_of([search], tmp_path) == tasks_of([search], tmp_path, 4), "a search uses all GPUs in one process"


@pytest.mark.parametrize("model", ["m" * 500, "timm/a.b_c", "\u00e4", "../../etc/passwd", "google/Vit-b_16"])
def test_any_cell_can_be_a_task(tmp_path: Path, model: str) -> None:
    recipes = [make_recipe({"dataset": "organmnist3d", "model": model, "image_size": 224})]
    recipes += [
        make_recipe({"dataset": "breastmnist", "model": "pixels" if one.engine else model, "method": name})
        for name, one in METHODS.items()
    ]
    tasks = tasks_of([BenchmarkRun(run_name(recipe), recipe) for recipe in recipes], tmp_path)
    TaskFolder(tmp_path).write(tasks, lambda task: False)
    assert TaskFolder(tmp_path).read() == tuple(tasks)


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist")


def tiny_cell(root: Path, **options: object) -> BenchmarkRun:
    recipe = tiny(root, "breastmnist", **options)
    return BenchmarkRun(run_name(recipe), recipe)


HOOK = """
import os, re, sys
out, kept = os.open({log!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), re.compile({pattern!r})
def note(event, arguments):
    if event in ("os.rename", "os.mkdir"):
        path = os.fspath(arguments[event == "os.rename"])
        if isinstance(path, str) and kept.search(path):
            os.write(out, (path + "\\n").encode())
sys.addaudithook(note)
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Callable[[], list[str]]]:
    """Note the folders that the processes of cells make or rename, if their paths match a pattern."""

    def start(pattern: str) -> Callable[[], list[str]]:
        log = tmp_path / "made"
        (tmp_path / "hook").mkdir()
        (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK.format(log=str(log), pattern=pattern))
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'hook'}:{ROOT}")
        return lambda: log.read_text().splitlines()

    return start


Made = Callable[[str], Callable[[], list[str]]]


@pytest.mark.slow
def test_two_tasks_of_a_cell_started_at_once_train_it_once(root: Path, tmp_path: Path, made: Made) -> None:
    """An engine may start a cell again while it believes that the machine of the first process is lost."""
    cell, models = tiny_cell(root, epochs=15), made("/seed-0/best$")
    (task,) = tasks_of([cell], tmp_path)
    (tmp_path / cell.name).mkdir()
    (tmp_path / cell.name / CONFIG_NAME).write_text(cell.recipe.to_yaml())
    folder = TaskFolder(tmp_path / JOBS_DIR / "matrix")
    twice = [replace(task, name=name, log=f"logs/{name}") for name in ("first", "second")]
    statuses = run_tasks(folder, twice, LocalEngine(Settings(workers=2)), report=lambda _: None)
    assert {status.state for status in statuses.values()} == {State.DONE}
    waited = [f"another process is running in {tmp_path / cell.name}" in path.read_text() for path in _logs(folder)]
    assert sorted(waited) == [False, True]
    assert models() == [f"{tmp_path / cell.name}/seed-0/best"]
    assert states([cell], tmp_path) == [State.DONE]


def _logs(folder: TaskFolder) -> list[Path]:
    return [folder.log_of(task) for task in folder.read()]


@pytest.mark.slow
def test_two_cells_on_a_machine_decode_each_split_once(
    root: Path, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable names a folder on a disk of the machine."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "scratch"))
    decoded = made("/scratch/[0-9a-f]{64}$")
    some = [tiny_cell(root, method="knn", epochs=100, neighbors=neighbors) for neighbors in (1, 3)]
    run_all(some, tmp_path / "bench", workers=2)
    assert states(some, tmp_path / "bench") == [State.DONE] * 2
    entries = cache_info(tmp_path / "scratch")
    assert sorted(decoded()) == sorted(str(entry.path) for entry in entries)
    assert [entry.split for entry in entries] == ["test", "train", "validation"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_cell_killed_in_its_second_epoch_resumes_from_its_checkpoint(
    root: Path, tmp_path: Path, made: Made, number: signal.Signals
) -> None:
    cell, out, checkpoints = tiny_cell(root, epochs=8), tmp_path / "bench", made("/checkpoint-[0-9]+/[^.][^/]*$")
    running = threading.Thread(target=run_all, args=[[cell], out])
    running.start()
    folder = out / cell.name / "seed-0" / "checkpoints"
    wait_until(lambda: bool(list(folder.glob("checkpoint-*/trainer_state.json"))), 60)
    (process,) = (child for child in psutil.Process().children() if cell.name in " ".join(child.cmdline()))
    process.send_signal(number)
    running.join(60)
    first = len(checkpoints())
    assert 0 < first < 8 and states([cell], out) == [State.FAILED if number is signal.SIGKILL else State.INTERRUPTED]
    run_all([cell], out)
    assert states([cell], out) == [State.DONE]
    assert len(set(checkpoints())) == len(checkpoints()) == 8, "no epoch was repeated"


@pytest.mark.slow
def test_a_cell_is_trained_by_several_processes(
    root: Path, tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes on the CPU stand for two GPUs, which the engine is made to see."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    cell, out, checkpoints = tiny_cell(root, epochs=2), tmp_path / "bench", made("/checkpoint-[0-9]+$")
    run_cells([cell], MATRIX, out, LocalEngine(Settings(gpus_per_task=2)), report=lambda _: None)
    assert states([cell], out) == [State.DONE], (out / cell.name / LOG_NAME).read_text()
    steps = {Path(path).name for path in checkpoints()}
    assert steps == {"checkpoint-2", "checkpoint-4"}, "48 rows are 3 batches of 16, or 2 of twice 16"


BENCHMARK = """
import sys
from pathlib import Path
from medmnist_hf.jobs.local import LocalEngine
from medmnist_hf.jobs.settings import Settings
from medmnist_hf.training.benchmark import tasks
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.recipe import make_recipe
cells = [BenchmarkRun(str(epochs), make_recipe({"dataset": "breastmnist", "epochs": epochs})) for epochs in (1, 2, 3)]
tasks._PROGRAM = ("sh", "-c", 'echo $$ > "$4/pid"; exec sleep 60', "sh")
try:
    tasks.run_cells(cells, Path("matrix.yaml"), Path(sys.argv[1]), LocalEngine(Settings(workers=2)))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_cells_end_with_their_benchmark_and_the_same_call_resumes(
    tmp_path: Path, program: Program, number: signal.Signals
) -> None:
    """After SIGKILL, Linux ends the processes; elsewhere, they end on their own and hold the lock of their folders."""
    some = [BenchmarkRun(str(cell.recipe.epochs), cell.recipe) for cell in cells(3)]
    prepare(tmp_path, some)
    out = tmp_path / "bench"

    def living() -> list[int]:
        files = [out / cell.name / "pid" for cell in some]
        return [int(file.read_text()) for file in files if file.exists() and file.read_text().strip()]

    running = subprocess.Popen([sys.executable, "-c", BENCHMARK, out], stdout=subprocess.DEVNULL, cwd=ROOT)
    wait_until(lambda: len(living()) == 2)
    running.send_signal(number)
    assert running.wait(20) == (130 if number is signal.SIGINT else -signal.SIGKILL)
    for pid in living():
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]
    marked = State.INTERRUPTED if number is signal.SIGINT else State.RUNNING  # until its mark is a minute old
    assert states(some, out) == [marked, marked, State.WAITING]
    run_all(some, out)
    assert set(states(some, out)) == {State.DONE}
