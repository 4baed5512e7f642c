"""AutoKeras's adapter: what of it needs no engine, and searches in the environment that ``make test-slow`` makes."""

import importlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from medmnist_hf.automl.adapters.job import BEST_NAME, JOB_NAME, NOT_INSTALLED, STATE_NAME, STOPPED, AutoMLJob
from medmnist_hf.automl.engines import engine
from medmnist_hf.automl.environments import check, interpreter
from medmnist_hf.automl.search import Found, Problem, search
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring import predictions
from medmnist_hf.scoring.official import score
from tests.fixtures.engines import problem

ENGINE = engine("autokeras")


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ENGINE.adapter.parent))
    return importlib.import_module(ENGINE.adapter.stem)


@pytest.fixture(scope="module")
def python() -> Path:
    return interpreter(ENGINE)


def job_of(folder: Path, task: str, classes: int, labels: list[Any], seconds: float = 100.0) -> AutoMLJob:
    told = {"task": task, "classes": classes, "inputs": "images", "seconds": seconds, "seed": 0, "cores": 1}
    (folder / JOB_NAME).write_text(json.dumps({**told, "options": {}}))
    np.save(folder / "y_train.npy", np.array(labels))
    return AutoMLJob(str(folder))


def test_an_interpreter_without_the_engine_says_so_in_one_line() -> None:
    done = subprocess.run([sys.executable, ENGINE.adapter, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (NOT_INSTALLED, "") and done.stderr.count("\n") == 1
    assert done.stderr.startswith("No module named ")
    with pytest.raises(TrainingError, match=r"AutoKeras is not installed in .* \(No module named "):
        check(ENGINE, Path(sys.executable))


@pytest.mark.parametrize(
    ("task", "classes", "labels", "targets"),
    [
        ("binary-class", 2, [0, 1], [[0], [1]]),
        ("multi-class", 3, [0, 2], [[1, 0, 0], [0, 0, 1]]),
        ("multi-label", 2, [[1, 0], [1, 1]], [[1, 0], [1, 1]]),
    ],
)
def test_labels_are_told_whatever_classes_a_split_shows(
    adapter: Any,
    tmp_path: Path,
    *,
    task: str,
    classes: int,
    labels: list[Any],
    targets: list[list[int]],
) -> None:
    told = adapter._targets(job_of(tmp_path, task, classes, labels), "train")
    assert told.dtype == np.float32 and told.tolist() == targets


def test_outputs_are_scores_of_all_classes(adapter: Any) -> None:
    assert adapter._scores(np.array([[0.25], [1.0]])).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    several = np.array([[0.2, 0.3, 0.5]])
    assert adapter._scores(several) is several


ENDING = """
import sys, time
sys.path.insert(0, {adapters!r})
import numpy as np
from autokeras_search import _end_in_time
from job import AutoMLJob
job = AutoMLJob({folder!r})
_end_in_time(job)
print("begun", flush=True)
time.sleep(1.5 if {publish} else 60)  # the budget has ended by now
job.publish({{"validation": np.zeros((2, 2)), "test": np.zeros((2, 2))}}, {{}})
time.sleep(60)
"""


@pytest.mark.parametrize(("publish", "by", "code"), [(True, None, 0), (False, signal.SIGTERM, STOPPED)])
def test_a_process_ends_with_its_budget_once_there_is_something_to_keep_or_by_a_signal(
    tmp_path: Path, *, publish: bool, by: signal.Signals | None, code: int
) -> None:
    job_of(tmp_path, "binary-class", 2, [0, 1], seconds=0.1)
    body = ENDING.format(adapters=str(ENGINE.adapter.parent), folder=str(tmp_path), publish=publish)
    with subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "begun\n"
        if by:
            time.sleep(1.5)
            assert child.poll() is None, "nothing is there to keep"
            child.send_signal(by)
        assert child.wait(30) == code
    assert (tmp_path / BEST_NAME).exists() == publish


def wanted(task: str, classes: int, *, trials: int = 1, seconds: float = 900.0) -> Problem:
    some = problem(task, classes, rows=180, seconds=seconds)
    x = {split: values.reshape(-1, 6, 6) for split, values in some.x.items()}
    return replace(some, inputs="images", x=x, options={"trials": trials, "epochs": 12})


def auc(found: Found, some: Problem) -> float:
    return score(
        predictions.check(some.y["validation"], found.scores["validation"], Task(some.task), from_logits=False)
    ).auc


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "classes"), [("binary-class", 2), ("multi-class", 3), ("ordinal-regression", 5), ("multi-label", 2)]
)
def test_each_task_is_learned_and_selected_by_auc(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    some, told = wanted(task, classes), list[str]()
    found = search(ENGINE, python, tmp_path, some, told.append)
    assert found.scores["test"].shape == (60, classes) and not found.partial
    assert auc(found, some) > 0.75
    assert found.facts["engine"].startswith("AutoKeras 3.") and "inputs" not in found.facts
    assert (found.facts["trials"], found.facts["failed_trials"]) == (1, 0) and 1 <= found.facts["best_epoch"] <= 12
    # Keras counts the AUC at 200 thresholds; that of the weights which were scored is the one that was compared.
    assert found.facts["validation_auc"] == pytest.approx(auc(found, some), abs=0.02)
    assert found.facts["configuration"]["image_block_1/block_type"] == "vanilla"
    assert any(line.startswith("trial 1: vanilla, 0.") for line in told)
    if task != "multi-label":
        assert np.allclose(found.scores["test"].sum(1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6, 6, 3), (6, 6, 6)])
def test_a_volume_is_an_image_of_many_channels(python: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    some = wanted("binary-class", 2)
    x = {split: np.repeat(values[..., None], shape[-1], -1) for split, values in some.x.items()}
    found = search(ENGINE, python, tmp_path, replace(some, x=x))
    assert auc(found, some) > 0.75
    assert ("channels are the last axis" in found.facts.get("inputs", "")) == (shape[-1] != 3)


@pytest.mark.slow
def test_a_search_goes_on_from_what_it_left(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2)
    first = search(ENGINE, python, tmp_path, some)
    told: list[str] = []
    second = search(ENGINE, python, tmp_path, some, told.append)
    assert any("Reloading" in line for line in told) and not any(line.startswith("trial ") for line in told)
    assert second.facts["trials"] == 1 and np.allclose(second.scores["test"], first.scores["test"], atol=1e-5)
    (tmp_path / STATE_NAME / "autokeras" / "oracle.json").write_text('{"ongoing_tr')  # as a kill may leave it
    told.clear()
    third = search(ENGINE, python, tmp_path, some, told.append)
    assert any("damaged: it starts anew" in line for line in told)
    assert any(line.startswith("trial 1: ") for line in told) and auc(third, some) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
def test_a_search_that_is_ended_leaves_its_best(python: Path, tmp_path: Path, by: signal.Signals) -> None:
    ended: list[float] = []

    def end() -> None:
        for child in psutil.Process().children():
            if ENGINE.adapter.name in " ".join(child.cmdline()):
                child.send_signal(by)
                ended.append(time.monotonic())

    def tell(line: str) -> None:
        # The first trial is published while this waits; the second, a network of 224 x 224 pixels, takes longer.
        if line.startswith("trial 1: "):
            while not (tmp_path / BEST_NAME).exists():
                time.sleep(0.1)
            end()

    found = search(ENGINE, python, tmp_path, wanted("binary-class", 2, trials=20), tell)
    assert len(ended) == 1 and time.monotonic() - ended[0] < 60
    how = "killed by SIGKILL" if by == signal.SIGKILL else "ended with exit code 130"
    assert found.partial.startswith(how) and found.facts["trials"] == 1


@pytest.mark.slow
def test_the_budget_is_kept(python: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    found = search(ENGINE, python, tmp_path, wanted("binary-class", 2, trials=20, seconds=60.0))
    assert not found.partial and 50 < time.monotonic() - begun < 110


@pytest.mark.slow
def test_one_class_alone_is_one_line(python: Path, tmp_path: Path) -> None:
    some = wanted("binary-class", 2)
    alone = replace(some, y={**some.y, "train": np.ones_like(some.y["train"])})
    with pytest.raises(TrainingError, match=r"^AutoKeras: train has one class alone: a search needs two or more$"):
        search(ENGINE, python, tmp_path, alone)


@pytest.mark.slow
def test_too_little_time_is_one_line(python: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"^AutoKeras: a time budget of 0.5 s is too small for one trial: give more$"
    ):
        search(ENGINE, python, tmp_path, wanted("binary-class", 2, seconds=0.5))
