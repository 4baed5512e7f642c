"""``medmnist-hf benchmark`` as a user runs it: a matrix of tiny models, a broken cell, and a resume."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medmnist_hf.errors import MedMNISTError, TrainingError
from medmnist_hf.jobs.tasks import TaskFolder
from medmnist_hf.training.benchmark.matrix import EXAMPLE_FILE, BenchmarkRun, read_matrix
from medmnist_hf.training.benchmark.tasks import tasks_of
from medmnist_hf.training.recipe import make_recipe
from tests.conftest import Phantoms
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.commands import invoke
from tests.fixtures.paths import ROOT
from tests.fixtures.runs import build_all

SCRIPT = ROOT / "scripts" / "benchmark.py"
MATRIX = """
defaults: {{root: "{root}", pretrained: false, image_size: 28, epochs: 1, batch_size: 16}}
matrix:
  dataset: breastmnist
  model: [timm/test_resnet, no_such_model]
"""


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist")


@pytest.fixture
def matrix(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "matrix.yaml"
    path.write_text(MATRIX.format(root=root), encoding="utf-8")
    return path


def command(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)


def test_a_matrix_with_a_broken_cell_is_run_and_reported(
    matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench"
    process = command(matrix, "--out", out, "--workers", "2")
    assert process.returncode == 1 and "Traceback" not in process.stderr, process.stderr
    assert process.stderr.splitlines()[-1].startswith("error: some cells are not complete: run the same")
    folders = sorted(path.parent.name for path in out.glob("*/cell.yaml"))
    assert [name.rpartition("-")[0] for name in folders] == [
        "breastmnist-28-no_such_model-finetune",
        "breastmnist-28-timm-test_resnet-finetune",
    ]
    assert f"failed: {folders[0]}: " in process.stdout
    assert "no_such_model" in (out / folders[0] / "log.txt").read_text()
    assert json.loads((out / ".jobs" / "matrix" / "tasks.json").read_text())["tasks"][1]["name"] == folders[0]

    assert all(row["own"] == "0" for row in csv.DictReader((out / "report.csv").open())), "a phantom is not ranked"
    (row,) = csv.DictReader((out / "report-synthetic.csv").open())
    assert row["folder"] == folders[1] and row["method"] == "finetune"
    results = json.loads((out / folders[1] / "results.json").read_text())
    assert float(row["auc"]) == results["test"]["auc"]["mean"]
    assert float(row["validation_auc"]) == results["validation"]["auc"]["mean"]
    for name in ("report.md", "report.html"):
        text = (out / name).read_text(encoding="utf-8")
        assert "SYNTHETIC" in text and "ResNet-18 (28)" not in text and folders[0] in text

    kept = (out / folders[1] / "results.json").stat().st_mtime_ns
    invoke("benchmark", matrix, "--out", out, "--only", "*-test_resnet-*")
    again = capsys.readouterr().out
    assert "1 of 1 are done already" in again
    assert (out / folders[1] / "results.json").stat().st_mtime_ns == kept
    assert "has changed since" not in again


def test_a_dry_run_shows_cells_and_writes_nothing(
    matrix: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    invoke("benchmark", matrix, "--out", tmp_path / "bench", "--dry-run", "--only", "*-test_resnet-*")
    line, summary, uses = capsys.readouterr().out.splitlines()
    assert line.startswith("waiting     breastmnist-28-timm-test_resnet-") and "cannot" not in line
    assert summary == "cells: 1 can run, 0 done, 0 cannot run"
    assert uses == f"local: 1 task, 1 at a time, each with {len(os.sched_getaffinity(0))} cores"
    shown = line.rpartition(": ")[2]
    with pytest.raises(MedMNISTError, match="1 of 2 cells cannot run"):
        invoke("benchmark", matrix, "--out", tmp_path / "bench", "--dry-run", "--only", f"*{shown[1:]}")
    assert line in capsys.readouterr().out, "what the list shows is what --only matches"
    assert not (tmp_path / "bench").exists()


def test_a_dry_run_names_cells_that_cannot_run(
    matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix.write_text(matrix.read_text() + "include: [{dataset: retinamnist, model: timm/test_resnet}]\n")
    with pytest.raises(MedMNISTError, match="2 of 3 cells cannot run: fix the problems above"):
        invoke("benchmark", matrix, "--out", tmp_path / "bench", "--dry-run")
    fine, model, data, last, _ = capsys.readouterr().out.splitlines()
    assert last == "cells: 1 can run, 0 done, 2 cannot run"
    assert "cannot run" not in fine
    assert "no_such_model-finetune" in model and ": cannot run: unknown model 'no_such_model'" in model
    assert "waiting     retinamnist-28-" in data and ": cannot run: no build of retinamnist at size 28 in " in data
    assert not (tmp_path / "bench").exists()


def test_report_only_runs_nothing_and_succeeds(
    matrix: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "bench"
    invoke("benchmark", str(matrix), "--out", str(out), "--report-only")
    assert capsys.readouterr().out.count("waiting: breastmnist-28-") == 2
    assert sorted(path.name for path in out.iterdir()) == ["report.csv", "report.html", "report.md"]


def test_a_report_needs_no_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells of all matrices are listed, and other runs are reported with their results."""
    out = tmp_path / "runs"
    leave_run(out / "mine", test=[0.9], validation=[0.8], dataset="breastmnist")
    for name, reason in (("breastmnist-28-broken", "no memory"), ("breastmnist-28-odd", "give --image-size")):
        cell = BenchmarkRun(name, make_recipe({"dataset": "breastmnist"}))
        tasks = TaskFolder(out / ".jobs" / f"matrix-{name}")
        tasks.path.mkdir(parents=True)
        tasks.write(tasks_of([cell], out), lambda task: False)
        tasks.fail(0, reason)
        (out / name).mkdir()
        (out / name / "cell.yaml").write_text(cell.recipe.to_yaml())
    (out / "stopped").mkdir()
    (out / "stopped" / "recipe.yaml").write_text(make_recipe({"dataset": "breastmnist"}).to_yaml())
    invoke("benchmark", "--report-only", "--out", out)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"1 run with results in {out}",
        *(f"wrote {out / name}" for name in ("report.md", "report.html", "report.csv")),
        "failed: breastmnist-28-broken: no memory",
        "failed: breastmnist-28-odd: give image_size",
        "interrupted: stopped: run the same command again to resume it",
    ]
    assert [row["folder"] for row in csv.DictReader((out / "report.csv").open()) if row["own"] == "1"] == ["mine"]


def test_a_report_without_the_matrix_keeps_the_cells_that_were_not_started(
    matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench"
    completed, waiting = read_matrix(matrix)
    options = dataclasses.asdict(completed.recipe)
    del options["test"]
    leave_run(out / completed.name, test=[0.9], validation=[0.8], **options)
    invoke("benchmark", matrix, "--out", out, "--only", completed.name)
    capsys.readouterr()
    invoke("benchmark", "--report-only", "--out", out)
    assert capsys.readouterr().out.splitlines()[-1] == f"waiting: {waiting.name}"
    assert f"| {waiting.name} | waiting |" in (out / "report.md").read_text()


def test_a_matrix_is_required(tmp_path: Path) -> None:
    with pytest.raises(MedMNISTError, match=r"--example prints one; --report-only reports"):
        invoke("benchmark", "--out", tmp_path)
    with pytest.raises(MedMNISTError, match=r"is a folder: give a YAML file; --report-only --out .* reports its runs"):
        invoke("benchmark", tmp_path)
    with pytest.raises(MedMNISTError, match="missing: no such folder of runs: give it with --out"):
        invoke("benchmark", "--report-only", "--out", tmp_path / "missing")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_reports_the_completed_cells(matrix: Path, tmp_path: Path) -> None:
    """The signal goes to the command alone: its cells are not in the group of the terminal."""
    out = tmp_path / "bench"
    leave_run(out / "earlier", test=[0.9], validation=[0.8], dataset="breastmnist")
    running = subprocess.Popen(
        [sys.executable, "-u", SCRIPT, matrix, "--out", out, "--only", "*-test_resnet-*"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    marks, deadline = out / ".jobs" / "matrix" / "running", time.monotonic() + 60
    while not list(marks.glob("[0-9]*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert f"wrote {out / 'report.html'}" in output and "interrupted: breastmnist-28-timm-test_resnet" in output
    assert errors.splitlines()[-1] == "stopped: run the same command again to resume"
    assert [row["folder"] for row in csv.DictReader((out / "report.csv").open()) if row["own"] == "1"] == ["earlier"]
    for name in ("report.md", "report.html"):
        assert "test_resnet" in (out / name).read_text(encoding="utf-8"), "listed as not finished"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "pathmnist-*"], "no cell of .* matches --only pathmnist-"),
        (["--report-only", "--only", "nothing"], "matches --only nothing: --dry-run shows"),
    ],
)
def test_every_mistake_is_one_line(
    matrix: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    with pytest.raises(MedMNISTError, match=message) as caught:
        invoke("benchmark", str(matrix), "--out", str(tmp_path / "bench"), *options)
    assert "\n" not in str(caught.value) and not (tmp_path / "bench").exists()


def test_a_broken_matrix_runs_nothing(matrix: Path, tmp_path: Path) -> None:
    matrix.write_text(matrix.read_text() + "include: [{dataset: breastmnist, size: 99}]\n")
    with pytest.raises(MedMNISTError, match="cell dataset breastmnist, size 99: "):
        invoke("benchmark", str(matrix), "--out", str(tmp_path / "bench"))
    assert not (tmp_path / "bench").exists()


@pytest.mark.slow
def test_an_engine_is_a_method_of_a_matrix(root: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "matrix.yaml", tmp_path / "bench"
    path.write_text(
        f'''defaults: {{root: "{root}", dataset: breastmnist, trials: 2}}
include:
  - {{method: flaml, model: pixels, time_budget: 2m}}
  - {{method: flaml, model: pixels, time_budget: 0.01}}
'''
    )
    process = command(path, "--out", out)
    (failure,) = (line for line in process.stdout.splitlines() if line.startswith("failed: breastmnist-28-pixels-"))
    assert failure.endswith(": FLAML: a time budget of 0.01 s is too small for one trial: give more")
    (row,) = csv.DictReader((out / "report-synthetic.csv").open())
    assert process.returncode == 1 and (row["model"], row["method"]) == ("pixels", "flaml")
    assert json.loads((out / row["folder"] / "results.json").read_text())["runs"][0]["facts"]["trials"] == 2


@pytest.mark.slow
def test_a_search_that_ctrl_c_stops_leaves_its_best_model(root: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "matrix.yaml", tmp_path / "bench"
    path.write_text(
        f'include: [{{root: "{root}", dataset: breastmnist, method: flaml, model: pixels, time_budget: 1h}}]'
    )
    running = subprocess.Popen(
        [sys.executable, SCRIPT, path, "--out", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 180
    while not list(out.rglob("best.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    (cell,) = (path.parent.name for path in out.glob("*/cell.yaml"))
    (run,) = json.loads((out / cell / "results.json").read_text())["runs"]
    assert run["facts"]["partial"].startswith("stopped after")
    assert output.splitlines()[-1] == f"interrupted: {cell}: run the same command again to resume it"
    (row,) = csv.DictReader((out / "report-synthetic.csv").open())
    assert (row["folder"], row["chosen"]) == (cell, "0")


def test_help_has_an_example() -> None:
    process = command("--help")
    assert process.returncode == 0 and "Example: medmnist-hf benchmark" in process.stdout


def test_the_example_is_a_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invoke("benchmark", "--example")
    path = tmp_path / "benchmark.yaml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    assert path.read_bytes() == EXAMPLE_FILE.read_bytes()
    with pytest.raises(TrainingError, match="11 of 11 cells cannot run"):
        invoke("benchmark", path, "--dry-run", "--out", tmp_path / "bench")
    *lines, summary, _ = capsys.readouterr().out.splitlines()
    assert len(lines) == len(read_matrix(EXAMPLE_FILE)) and all("no build of " in line for line in lines)
    assert summary == "cells: 0 can run, 0 done, 11 cannot run"
    with pytest.raises(TrainingError, match="benchmark --example"):
        invoke("benchmark")


def test_a_dry_run_for_hugging_face_prints_the_job_and_expects_no_data_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "engine.yaml").write_text("hf-jobs: {bucket: you/medmnist}\n")
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(MATRIX.format(root="/data/dist"), encoding="utf-8")
    options = ("--out", "/data/bench", "--engine", "hf-jobs", "--engine-config", tmp_path / "engine.yaml", "--dry-run")
    invoke("benchmark", matrix, *options)
    lines = capsys.readouterr().out.splitlines()
    assert "cells: 2 can run, 0 done, 0 cannot run" in lines
    job = json.loads("\n".join(lines[lines.index("{") :]))
    assert job["command"][-5:] == ["python", "-m", "medmnist_hf.jobs", "/data/bench/.jobs/matrix", "0"]
    assert job["secrets"] == {"HF_TOKEN": "***"}
