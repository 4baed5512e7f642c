"""Run cells in real processes: results, failures, Ctrl-C, and sharing the folder with other runners."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.runner import Command, run_cells
from medmnist_hf.training.benchmark.status import FAILED_NAME, LOG_NAME, State, lock_of, status_of
from medmnist_hf.training.recipe import make_recipe, run_name
from tests.fixtures.benchmarks import leave_run


def cells(count: int) -> list[BenchmarkRun]:
    recipes = [make_recipe({"dataset": "breastmnist", "epochs": 1 + at}) for at in range(count)]
    return [BenchmarkRun(run_name(recipe), recipe) for recipe in recipes]


def scripted(folder: Path, scripts: dict[int, str]) -> Command:
    """Run each cell with a shell script, chosen by its number of epochs; ``$leave``, the default, writes results.

    Each run appends a line to the file ``ran``.
    """

    def command(cell: BenchmarkRun, out: Path) -> list[str]:
        epochs = cell.recipe.epochs
        ready = folder / f"ready-{epochs}"
        if not ready.exists():
            test = [0.9] if cell.recipe.test else []
            leave_run(ready, test=test, validation=[0.8], dataset="breastmnist", epochs=epochs)
        leave = f"cp {ready}/results.json {out}/results.json"
        script = scripts.get(epochs, "$leave").replace("$leave", leave)
        return ["sh", "-c", f"echo {epochs} >> {folder}/ran; {script}"]

    return command


def ran(folder: Path) -> list[int]:
    path = folder / "ran"
    return sorted(int(line) for line in path.read_text().splitlines()) if path.exists() else []


def states(some: list[BenchmarkRun], out: Path) -> list[State]:
    return [status_of(cell, out).state for cell in some]


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_failure_does_not_stop_other_cells_and_finished_cells_are_not_repeated(tmp_path: Path, jobs: int) -> None:
    some, out, lines = cells(4), tmp_path / "bench", list[str]()
    broken = {2: "echo 'error: no such model: choose another'; exit 1"}
    run_cells(some, out, scripted(tmp_path, broken), jobs=jobs, report=lines.append)
    assert states(some, out) == [State.DONE, State.FAILED, State.DONE, State.DONE]
    assert status_of(some[1], out).note == "no such model: choose another"
    assert any(re.search(f"{some[1].name}: failed: no such model: choose another", line) for line in lines)
    assert any(
        re.fullmatch(rf"\[\d/4\] {some[0].name}: test AUC 0.900 and ACC 0.800 in 0 s.*", line) for line in lines
    )
    assert any("s left" in line for line in lines)
    for cell in some:
        assert yaml.safe_load((out / cell.name / "cell.yaml").read_text())["epochs"] == cell.recipe.epochs

    lines.clear()
    run_cells(some, out, scripted(tmp_path, {}), jobs=jobs, report=lines.append)
    assert ran(tmp_path) == [1, 2, 2, 3, 4] and set(states(some, out)) == {State.DONE}
    assert lines[0] == "3 of 4 cells are done already" and not (out / some[1].name / FAILED_NAME).exists()


def test_a_run_without_test_scores_reports_validation(tmp_path: Path) -> None:
    recipe = make_recipe({"dataset": "breastmnist", "epochs": 1, "test": False})
    lines: list[str] = []
    run_cells([BenchmarkRun("one", recipe)], tmp_path, scripted(tmp_path, {}), report=lines.append)
    assert lines[-1] == "[1/1] one: validation AUC 0.800 and ACC 0.700 in 0 s"


def test_no_cell_is_started_after_a_failure_unless_keep_going(tmp_path: Path) -> None:
    some = cells(3)
    run_cells(some, tmp_path / "out", scripted(tmp_path, {1: "exit 3"}), keep_going=False, report=lambda _: None)
    assert states(some, tmp_path / "out") == [State.FAILED, State.PENDING, State.PENDING]
    assert status_of(some[0], tmp_path / "out").note.startswith("ended with exit code 3 and no results")


def test_processes_without_results_and_killed_processes_have_failed(tmp_path: Path) -> None:
    some = cells(2)
    run_cells(some, tmp_path / "out", scripted(tmp_path, {1: "true", 2: "kill -9 $$"}), report=lambda _: None)
    notes = [status_of(cell, tmp_path / "out").note for cell in some]
    assert notes[0].startswith("ended with exit code 0 and no results") and notes[1].startswith("ended by SIGKILL")


def test_the_output_of_a_cell_is_in_its_log(tmp_path: Path) -> None:
    (cell,) = cells(1)
    run_cells(
        [cell], tmp_path / "out", scripted(tmp_path, {1: "echo out; echo err >&2; $leave"}), report=lambda _: None
    )
    assert (tmp_path / "out" / cell.name / LOG_NAME).read_text() == "out\nerr\n"


def test_parallel_cells_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    # Each waits for the other and fails if it runs alone.
    meet = "touch {0}/at-{1}; for i in $(seq 200); do [ -e {0}/at-{2} ] && break; sleep 0.05; done;"
    meet += "[ -e {0}/at-{2} ] && echo threads $OMP_NUM_THREADS && $leave"
    scripts = {1: meet.format(tmp_path, 1, 2), 2: meet.format(tmp_path, 2, 1)}
    some = cells(2)
    run_cells(some, tmp_path / "out", scripted(tmp_path, scripts), jobs=2, report=lambda _: None)
    assert set(states(some, tmp_path / "out")) == {State.DONE}
    share = max(1, (os.cpu_count() or 1) // 2)
    assert (tmp_path / "out" / some[0].name / LOG_NAME).read_text() == f"threads {share}\n"


def test_a_cell_of_another_process_is_left_to_it(tmp_path: Path) -> None:
    some, lines = cells(2), list[str]()
    (tmp_path / some[0].name).mkdir()
    lock = lock_of(tmp_path / some[0].name)
    assert lock is not None
    run_cells(some, tmp_path, scripted(tmp_path, {}), report=lines.append)
    assert ran(tmp_path) == [2] and lines[-1] == f"{some[0].name}: left to another process"
    assert states(some, tmp_path) == [State.RUNNING, State.DONE]
    os.close(lock)


def test_two_benchmarks_in_the_same_folder_run_each_cell_once(tmp_path: Path) -> None:
    some, out = cells(6), tmp_path / "out"
    command = scripted(tmp_path, dict.fromkeys(range(1, 7), "sleep 0.1; $leave"))
    for cell in some:
        command(cell, out)  # prepare the results before both start
    threads = [
        threading.Thread(target=run_cells, args=(some, out, command), kwargs={"report": lambda _: None}) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ran(tmp_path) == [1, 2, 3, 4, 5, 6] and set(states(some, out)) == {State.DONE}


def test_a_cell_that_just_failed_elsewhere_is_not_tried_again(tmp_path: Path) -> None:
    some, lines = cells(2), list[str]()
    out = tmp_path / "out"
    other = out / some[1].name
    script = f"mkdir -p {other}; echo 'failed there' > {other}/{FAILED_NAME}; touch {other}/cell.lock; $leave"
    run_cells(some, out, scripted(tmp_path, {1: script}), report=lines.append)
    assert ran(tmp_path) == [1] and lines[-1].endswith(f"{some[1].name}: another process ran it")
    assert status_of(some[1], out).note == "failed there"


BENCHMARK = """
import sys
from pathlib import Path
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.runner import run_cells
from medmnist_hf.training.recipe import make_recipe, run_name
cells = [BenchmarkRun(str(epochs), make_recipe({"dataset": "breastmnist", "epochs": epochs})) for epochs in (1, 2, 3)]
script = "echo $$ > pid; exec sleep 60"
command = lambda cell, folder: ["sh", "-c", f"cd {folder}; {script}"]
try:
    run_cells(cells, Path(sys.argv[1]), command, jobs=2)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_ends_all_processes_and_the_same_call_resumes(tmp_path: Path) -> None:
    def living() -> list[int]:
        files = [tmp_path / name / "pid" for name in "123"]
        return [int(file.read_text()) for file in files if file.exists() and file.read_text().strip()]

    program = subprocess.Popen([sys.executable, "-c", BENCHMARK, tmp_path], stdout=subprocess.DEVNULL)
    wait_until(lambda: len(living()) == 2)
    program.send_signal(signal.SIGINT)
    assert program.wait(20) == 130
    for pid in living():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    some = [BenchmarkRun(str(cell.recipe.epochs), cell.recipe) for cell in cells(3)]
    assert states(some, tmp_path) == [State.INTERRUPTED, State.INTERRUPTED, State.PENDING]
    run_cells(some, tmp_path, scripted(tmp_path, {}), report=lambda _: None)
    assert set(states(some, tmp_path)) == {State.DONE}


def test_a_running_cell_stays_locked_if_its_benchmark_is_killed(
    tmp_path: Path,
) -> None:
    program = subprocess.Popen([sys.executable, "-c", BENCHMARK, tmp_path], stdout=subprocess.DEVNULL)
    files = [tmp_path / name / "pid" for name in "12"]
    wait_until(lambda: all(file.exists() and file.read_text().strip() for file in files))
    pids = [int(file.read_text()) for file in files]
    program.kill()
    program.wait()
    some = [BenchmarkRun(str(cell.recipe.epochs), cell.recipe) for cell in cells(2)]
    try:
        run_cells(some, tmp_path, scripted(tmp_path, {}), report=lambda _: None)
        assert ran(tmp_path) == [] and set(states(some, tmp_path)) == {State.RUNNING}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: set(states(some, tmp_path)) == {State.INTERRUPTED})
