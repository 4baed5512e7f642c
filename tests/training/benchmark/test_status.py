"""A cell on disk: its state at every stage, its lock, and why it failed."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.errors import MedMNISTError, TrainingError
from medmnist_hf.files import sole_process
from medmnist_hf.manifest import Provenance, read_manifest
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.status import (
    CONFIG_NAME,
    FAILED_NAME,
    LOCK_NAME,
    State,
    Status,
    cells_in,
    is_done,
    is_stale,
    lock_of,
    note_cells,
    pending_in,
    reason_of,
    runs_without_results,
    status_of,
)
from medmnist_hf.training.recipe import make_recipe, run_name
from medmnist_hf.training.registry import METHODS
from medmnist_hf.training.results import RESULTS_NAME, DataRecord
from medmnist_hf.typed_json import encode
from tests.conftest import Phantoms
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.runs import build_all


def cell(**options: object) -> BenchmarkRun:
    recipe = make_recipe({"dataset": "breastmnist", **options})
    return BenchmarkRun(run_name(recipe), recipe)


def test_started_cells_are_listed_from_their_folders(tmp_path: Path) -> None:
    cells = [cell(epochs=epochs) for epochs in (1, 2)]
    for each in cells:
        (tmp_path / each.name).mkdir()
        (tmp_path / each.name / CONFIG_NAME).write_text(each.recipe.to_yaml(), encoding="utf-8")
    (tmp_path / "other").mkdir()
    assert cells_in(tmp_path) == tuple(sorted(cells, key=lambda each: each.name))
    assert cells_in(tmp_path / "missing") == ()


def test_pending_cells_are_listed_from_the_plan_of_their_matrix(tmp_path: Path) -> None:
    out = tmp_path / "bench"
    first, second, other = cells = [cell(epochs=epochs) for epochs in (1, 2, 3)]
    assert pending_in(out) == ()
    note_cells(cells[:2], Path("folder/one.yaml"), out)
    note_cells(cells[1:], Path("other.yaml"), out)
    assert pending_in(out) == (first.name, second.name, other.name)
    (out / second.name).mkdir()
    (out / second.name / CONFIG_NAME).write_text(second.recipe.to_yaml(), encoding="utf-8")
    assert pending_in(out) == (first.name, other.name), "a started cell is listed by cells_in"
    leave_run(out / first.name, test=[0.8], validation=[0.8], dataset="breastmnist", epochs=1)
    assert pending_in(out) == (other.name,), "it has results"
    note_cells([], Path("other.yaml"), out)
    assert pending_in(out) == (), "the matrix no longer has it"


def test_a_plan_that_cannot_be_read_gives_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "one.cells.txt").mkdir()
    with pytest.raises(TrainingError, match=r"cannot read .*one\.cells\.txt .*: remove it, or name the matrix"):
        pending_in(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 5000, "has lines that are not names of cells"),
        (b"breastmnist-28-" + b"x" * 5000 + b"-knn-1f5329c2", "has lines that are not names of cells"),
        (b"../../../etc", "has lines that are not names of cells"),
        (b"root:x:0:0:root:/root:/bin/bash", "has lines that are not names of cells"),
        (b"\x80\xff\x00", "it is not text"),
        (b"pathmnist-28-timm-resnet18-finetune-1f5329c2\n" * 10_001, "has more than 10,000 cells"),
        (b" " * 3_000_000, "it has more than 2,560,000 bytes"),
    ],
)
def test_an_invalid_plan_gives_a_one_line_error_without_its_content(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "elsewhere").write_bytes(content)
    (tmp_path / "one.cells.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        TrainingError, match=rf"one\.cells\.txt .*{message}.*: remove it, or name the matrix"
    ) as caught:
        pending_in(tmp_path)
    assert not any(word in str(caught.value) for word in ("root:", "xxx", "etc"))


@pytest.mark.parametrize("model", ["m" * 500, "timm/a.b_c", "\u00e4", "../../etc/passwd", "google/Vit-b_16"])
def test_a_plan_can_have_any_cell(tmp_path: Path, model: str) -> None:
    cells = [cell(dataset="organmnist3d", model=model, image_size=224)]
    cells += [cell(model="pixels" if one.engine else model, method=name) for name, one in METHODS.items()]
    note_cells(cells, Path("one.yaml"), tmp_path)
    assert pending_in(tmp_path) == tuple(each.name for each in cells)


def test_states_from_pending_to_done(tmp_path: Path) -> None:
    one = cell(seeds=[0, 1])
    folder = tmp_path / one.name
    assert status_of(one, tmp_path) == Status(State.PENDING)
    folder.mkdir()
    lock = lock_of(folder)
    assert lock is not None
    assert status_of(one, tmp_path) == Status(State.RUNNING)
    os.close(lock)
    assert status_of(one, tmp_path) == Status(State.INTERRUPTED, "run the same command again to resume it")
    (folder / FAILED_NAME).write_text("no memory: use a smaller batch\n", encoding="utf-8")
    assert status_of(one, tmp_path) == Status(State.FAILED, "no memory: use a smaller batch")
    (folder / FAILED_NAME).unlink()
    (folder / LOCK_NAME).unlink()
    folder.rmdir()
    leave_run(folder, test=[0.8, 0.9], validation=[0.8, 0.9], dataset="breastmnist")
    assert status_of(one, tmp_path) == Status(State.DONE)


def test_done_requires_the_same_recipe_and_all_seeds(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert not is_done(cell(), folder)
    leave_run(folder, test=[0.8, 0.9], validation=[0.8, 0.9], dataset="breastmnist", epochs=3)
    assert is_done(cell(epochs=3), folder) and is_done(cell(epochs=3, seeds=[1]), folder)
    assert not is_done(cell(epochs=3, seeds=[0, 1, 2]), folder)
    assert not is_done(cell(epochs=4), folder)
    assert is_done(cell(epochs=3, report_to="tensorboard"), folder), "a tracker does not change the training"
    (folder / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"results\.json is damaged"):
        is_done(cell(epochs=3), folder)


def test_an_interrupted_search_is_not_done(tmp_path: Path) -> None:
    whole, partial = tmp_path / "whole", tmp_path / "partial"
    options: dict[str, Any] = {"dataset": "breastmnist", "model": "pixels", "method": "flaml"}
    leave_run(whole, test=[0.8], validation=[0.8], **options)
    leave_run(partial, test=[0.8], validation=[0.8], facts={"partial": "stopped after 3 s"}, **options)
    assert is_done(cell(**options), whole) and not is_done(cell(**options), partial)


def test_a_lock_is_held_until_all_processes_that_inherited_it_end(tmp_path: Path) -> None:
    lock = lock_of(tmp_path)
    assert lock is not None
    attempt = "import sys; from pathlib import Path; from medmnist_hf.training.benchmark.status import lock_of;"
    attempt += "sys.exit(lock_of(Path(sys.argv[1])) is not None)"
    process = subprocess.run([sys.executable, "-c", attempt, tmp_path], check=False)
    assert process.returncode == 0
    child = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
    os.close(lock)
    assert lock_of(tmp_path) is None
    child.kill()
    child.wait()
    free = lock_of(tmp_path)
    assert free is not None
    os.close(free)


def test_a_file_system_without_locks_gives_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(MedMNISTError, match=r"cannot lock .*cell\.lock \(Function not implemented\)"):
        lock_of(tmp_path)


@pytest.mark.parametrize(
    ("output", "code", "reason"),
    [
        ("epoch 1\nerror: unknown model a: use b\n", 1, "unknown model a: use b"),
        ("error: first\nerror: last\nbye\n", 1, "last"),
        (
            "error: it has no weights: give --no-pretrained or --checkpoint\n",
            1,
            "it has no weights: give pretrained: false or checkpoint",
        ),
        (
            "Traceback\n  x\nValueError: odd\n",
            1,
            "ended with exit code 1 and no results (ValueError: odd): see log.txt",
        ),
        ("", 3, "ended with exit code 3 and no results: see log.txt"),
        ("", 0, "ended with exit code 0 and no results: see log.txt"),
        ("working\n", -9, "ended by SIGKILL, possibly because memory ran out: see log.txt"),
        ("", -11, "ended by SIGSEGV: see log.txt"),
        ("error: " + "x" * 1000, 1, "x" * 400),
    ],
)
def test_the_reason_of_a_failure_is_one_line(tmp_path: Path, output: str, code: int, reason: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text(output, encoding="utf-8")
    assert reason_of(log, code) == reason


def test_a_binary_log_still_gives_a_reason(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"\xff\xfe\nerror: at last\n")
    assert reason_of(log, 1) == "at last"


def test_a_cell_is_stale_if_its_build_has_other_data(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "breastmnist")
    one, out = cell(root=str(root)), tmp_path / "run"
    options: dict[str, Any] = {"dataset": "breastmnist", "root": str(root)}
    leave_run(out, test=[0.8], validation=[0.8], provenance=Provenance.UNVERIFIED, **options)
    assert is_stale(one, out), "the run read another file"
    manifest = read_manifest(root / "breastmnist" / "28")
    results = json.loads((out / RESULTS_NAME).read_text())
    record = encode(DataRecord(manifest.source, {name: split.rows for name, split in manifest.splits.items()}))
    results["provenance"], results["runs"][0]["data"] = "synthetic", record
    (out / RESULTS_NAME).write_text(json.dumps(results), encoding="utf-8")
    assert not is_stale(one, out)
    for kind, stale in (("folder", True), ("zenodo", True), ("phantom", False)):
        record["source"]["kind"] = kind
        results["provenance"] = "synthetic" if kind == "phantom" else "unverified"
        (out / RESULTS_NAME).write_text(json.dumps(results), encoding="utf-8")
        assert is_stale(one, out) is stale, "provenance counts, not the place of the file"
    shutil.rmtree(root)
    assert not is_stale(one, out), "the build no longer exists"


def test_a_run_without_results_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    for name in ("mine", "mine/seed-0/best", "yours"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "recipe.yaml").touch()
    stopped = Status(State.INTERRUPTED, "run the same command again to resume it")
    with sole_process(tmp_path / "mine" / "run.lock", "running"):
        assert runs_without_results(tmp_path) == {"mine": Status(State.RUNNING), "yours": stopped}
    assert runs_without_results(tmp_path) == {"mine": stopped, "yours": stopped}
