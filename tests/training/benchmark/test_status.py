"""States of cells from the folder of a benchmark: results, tasks of each matrix, and runs of other commands."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.errors import JobError, TrainingError
from medmnist_hf.files import sole_process
from medmnist_hf.jobs.tasks import JOBS_DIR, RESUME, TASKS_NAME, State, Status, TaskFolder
from medmnist_hf.manifest import Provenance, read_manifest
from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.benchmark.status import (
    CONFIG_NAME,
    cells_in,
    is_done,
    runs_without_results,
    stale_runs,
    statuses_in,
)
from medmnist_hf.training.benchmark.tasks import tasks_of
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.results import RESULTS_NAME, DataRecord
from medmnist_hf.training.run_folder import run_name
from medmnist_hf.typed_json import encode
from tests.conftest import Phantoms
from tests.fixtures.benchmarks import leave_run
from tests.fixtures.runs import build_all

WAITING = Status(State.WAITING)


def cell(**options: object) -> BenchmarkRun:
    recipe = make_recipe({"dataset": "breastmnist", **options})
    return BenchmarkRun(run_name(recipe), recipe)


def submit(cells: Sequence[BenchmarkRun], out: Path, matrix: str = "matrix") -> TaskFolder:
    """List cells as the tasks of a matrix, as a benchmark does before it starts them."""
    folder = TaskFolder(out / JOBS_DIR / matrix)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write(tasks_of(cells, out), lambda task: None)
    for each in cells:
        (out / each.name).mkdir(exist_ok=True)
        (out / each.name / CONFIG_NAME).write_text(each.recipe.to_yaml(), encoding="utf-8")
    return folder


def test_cells_are_listed_without_the_files_of_their_matrices(tmp_path: Path) -> None:
    first, second, third = cells = [cell(epochs=epochs) for epochs in (1, 2, 3)]
    assert cells_in(tmp_path) == () == cells_in(tmp_path / "missing")
    submit(cells[1:], tmp_path, "two")
    submit(cells[:2], tmp_path, "one")
    (tmp_path / "other").mkdir()
    assert cells_in(tmp_path) == (first, second, third)
    assert list(statuses_in(tmp_path).items()) == [(each.name, WAITING) for each in cells]
    shutil.rmtree(tmp_path / first.name)
    assert cells_in(tmp_path) == (second, third)
    assert statuses_in(tmp_path)[first.name] == WAITING, "without its folder, it will run again"


def test_cells_that_a_matrix_no_longer_has_are_not_listed(tmp_path: Path) -> None:
    first, second = cells = [cell(epochs=epochs) for epochs in (1, 2)]
    submit(cells, tmp_path)
    submit([second], tmp_path)
    assert list(statuses_in(tmp_path)) == [second.name]
    assert list(statuses_in(tmp_path, [first])) == [second.name, first.name], "those that were not run come last"


def test_the_state_of_a_cell_is_that_of_its_task_until_it_has_results(tmp_path: Path) -> None:
    one = cell(seeds=[0, 1])

    def status() -> Status:
        assert statuses_in(tmp_path) == statuses_in(tmp_path, [one]), "the recipe is not needed"
        return statuses_in(tmp_path)[one.name]

    assert statuses_in(tmp_path, [one]) == {one.name: WAITING}
    folder = submit([one], tmp_path)
    assert status() == WAITING
    folder.begin(0)
    assert status().state is State.RUNNING
    folder.interrupt(0)
    assert status() == Status(State.INTERRUPTED, RESUME)
    folder.fail(0, "out of memory: lower --batch-size, or give --no-pretrained")
    assert status() == Status(State.FAILED, "out of memory: lower batch_size, or give pretrained: false")
    folder.complete(0)
    assert status() == WAITING, "the mark alone is not a result"
    shutil.rmtree(tmp_path / one.name)
    leave_run(tmp_path / one.name, test=[0.8, 0.9], validation=[0.8, 0.9], dataset="breastmnist")
    (tmp_path / one.name / CONFIG_NAME).write_text(one.recipe.to_yaml(), encoding="utf-8")
    marks: list[Callable[[], None]] = [
        lambda: folder.retry([0]),
        lambda: folder.fail(0, "once"),
        lambda: folder.begin(0),
    ]
    for mark in marks:
        mark()
        assert status() == Status(State.DONE), "results count, whatever the task"


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (("complete", "fail"), State.FAILED),
        (("fail", "begin"), State.RUNNING),
        (("begin", "fail"), State.RUNNING),
        (("interrupt", "retry"), State.INTERRUPTED),
        (("interrupt", "fail"), State.FAILED),
    ],
)
def test_a_cell_of_two_matrices_is_listed_once(tmp_path: Path, marks: tuple[str, str], expected: State) -> None:
    one = cell()
    for matrix, mark in zip("ab", marks, strict=True):
        folder = submit([one], tmp_path, matrix)
        folder.begin(0)
        if mark == "retry":
            folder.retry([0])
        elif mark == "fail":
            folder.fail(0, "no memory")
        elif mark != "begin":
            getattr(folder, mark)(0)
    ((name, status),) = statuses_in(tmp_path).items()
    assert (name, status.state) == (one.name, expected)


@pytest.mark.parametrize("content", ["root:x:0:0:root:/root:/bin/bash", "[" * 9999, '{"format": 1}', "\x80"])
def test_a_damaged_list_is_a_one_line_error_without_its_content(tmp_path: Path, content: str) -> None:
    folder = submit([cell()], tmp_path)
    (folder.path / TASKS_NAME).write_text(content, encoding="latin-1")
    for read in (statuses_in, cells_in):
        with pytest.raises(
            JobError, match=rf"cannot read {folder.path}/tasks\.json .*: remove {folder.path}, "
        ) as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value) and "root:" not in str(caught.value)


def test_a_cell_whose_recipe_is_damaged_is_a_one_line_error(tmp_path: Path) -> None:
    one = cell()
    submit([one], tmp_path)
    (tmp_path / one.name / CONFIG_NAME).write_text("epochs: many", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"cell\.yaml: epochs "):
        statuses_in(tmp_path)
    assert statuses_in(tmp_path, [one]) == {one.name: WAITING}, "the matrix has its recipe"


def test_seeds_that_were_added_to_a_matrix_make_its_cells_wait(tmp_path: Path) -> None:
    one, more = cell(), cell(seeds=[0, 1])
    assert one.name == more.name
    leave_run(tmp_path / one.name, test=[0.8], validation=[0.8], dataset="breastmnist")
    assert statuses_in(tmp_path, [one]) == {one.name: Status(State.DONE)}
    submit([one], tmp_path).complete(0)
    assert statuses_in(tmp_path) == {one.name: Status(State.DONE)}
    assert statuses_in(tmp_path, [more]) == {one.name: WAITING}
    submit([more], tmp_path).retry([0])
    (tmp_path / JOBS_DIR / "matrix" / "completions" / "00000").unlink()
    assert statuses_in(tmp_path) == {one.name: WAITING}


def test_a_cell_that_another_command_has_run_is_done_without_its_recipe(tmp_path: Path) -> None:
    one = cell()
    folder = submit([one], tmp_path)
    shutil.rmtree(tmp_path / one.name)
    leave_run(tmp_path / one.name, test=[0.8], validation=[0.8], dataset="breastmnist")
    assert statuses_in(tmp_path) == {one.name: Status(State.DONE)}
    folder.fail(0, "no memory")
    assert statuses_in(tmp_path) == {one.name: Status(State.DONE)}
    shutil.rmtree(tmp_path / one.name)
    leave_run(tmp_path / one.name, test=[0.8], validation=[0.8], dataset="breastmnist", epochs=3)
    assert statuses_in(tmp_path) == {one.name: Status(State.FAILED, "no memory")}, "it is a run of another recipe"


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


def test_a_cell_is_stale_if_its_build_has_other_data(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "breastmnist")
    out = tmp_path / "run"

    def is_stale() -> bool:
        stale = list(stale_runs(tmp_path, ["run"]))
        assert stale in ([], [("run", str(root))])
        return bool(stale)

    options: dict[str, Any] = {"dataset": "breastmnist", "root": str(root)}
    leave_run(out, test=[0.8], validation=[0.8], provenance=Provenance.UNVERIFIED, **options)
    assert is_stale(), "the run read another file"
    manifest = read_manifest(root / "breastmnist" / "28")
    results = json.loads((out / RESULTS_NAME).read_text())
    record = encode(DataRecord(manifest.source, {name: split.rows for name, split in manifest.splits.items()}))
    results["provenance"], results["runs"][0]["data"] = "synthetic", record
    (out / RESULTS_NAME).write_text(json.dumps(results), encoding="utf-8")
    assert not is_stale()
    for kind, stale in (("folder", True), ("zenodo", True), ("phantom", False)):
        record["source"]["kind"] = kind
        results["provenance"] = "synthetic" if kind == "phantom" else "unverified"
        (out / RESULTS_NAME).write_text(json.dumps(results), encoding="utf-8")
        assert is_stale() is stale, "provenance counts, not the place of the file"
    shutil.rmtree(root)
    assert not is_stale(), "the build no longer exists"


def test_a_run_without_results_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    for name in ("mine", "mine/seed-0/best", "yours"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "recipe.yaml").touch()
    stopped = Status(State.INTERRUPTED, RESUME)
    with sole_process(tmp_path / "mine" / "run.lock", "running"):
        assert runs_without_results(tmp_path) == {"mine": Status(State.RUNNING), "yours": stopped}
    assert runs_without_results(tmp_path) == {"mine": stopped, "yours": stopped}
