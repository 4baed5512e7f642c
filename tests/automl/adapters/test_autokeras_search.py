"""AutoKeras's adapter: tests without the engine, and searches in the environment that ``make test-slow`` creates."""

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
from medmnist_hf.automl.search import Problem, SearchResult, search
from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring import predictions
from medmnist_hf.scoring.official import score
from tests.fixtures.automl_engine import problem as base_problem

ENGINE = engine("autokeras")


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ENGINE.adapter.parent))
    return importlib.import_module(ENGINE.adapter.stem)


@pytest.fixture(scope="module")
def python() -> Path:
    return interpreter(ENGINE)


def job_of(folder: Path, task: str, classes: int, labels: list[Any], seconds: float = 100.0) -> AutoMLJob:
    job = {"task": task, "classes": classes, "inputs": "images", "seconds": seconds, "seed": 0, "cores": 1}
    (folder / JOB_NAME).write_text(json.dumps({**job, "options": {}}))
    np.save(folder / "y_train.npy", np.array(labels))
    return AutoMLJob(str(folder))


def test_an_interpreter_without_the_engine_is_reported_in_one_line() -> None:
    process = subprocess.run([sys.executable, ENGINE.adapter, "--check"], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (NOT_INSTALLED, "") and process.stderr.count("\n") == 1
    assert process.stderr.startswith("No module named ")
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
def test_labels_are_encoded_whatever_classes_occur(
    adapter: Any,
    tmp_path: Path,
    *,
    task: str,
    classes: int,
    labels: list[Any],
    targets: list[list[int]],
) -> None:
    encoded = adapter._targets(job_of(tmp_path, task, classes, labels), "train")
    assert encoded.dtype == np.float32 and encoded.tolist() == targets


def test_outputs_are_expanded_to_all_classes(adapter: Any) -> None:
    assert adapter._scores(np.array([[0.25], [1.0]])).tolist() == [[0.75, 0.25], [0.0, 1.0]]
    three_classes = np.array([[0.2, 0.3, 0.5]])
    assert adapter._scores(three_classes) is three_classes


ENDING = """
import sys, time
sys.path.insert(0, {adapters!r})
import numpy as np
from autokeras_search import _watch_budget_and_signals
from job import AutoMLJob
job = AutoMLJob({folder!r})
_watch_budget_and_signals(job)
print("started", flush=True)
time.sleep(1.5 if {publish} else 60)  # longer than the budget
job.publish({{"validation": np.zeros((2, 2)), "test": np.zeros((2, 2))}}, {{}})
time.sleep(60)
"""


@pytest.mark.parametrize(("publish", "signal_number", "code"), [(True, None, 0), (False, signal.SIGTERM, STOPPED)])
def test_a_process_ends_with_its_budget_after_publishing_or_by_a_signal(
    tmp_path: Path, *, publish: bool, signal_number: signal.Signals | None, code: int
) -> None:
    job_of(tmp_path, "binary-class", 2, [0, 1], seconds=0.1)
    body = ENDING.format(adapters=str(ENGINE.adapter.parent), folder=str(tmp_path), publish=publish)
    with subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "started\n"
        if signal_number:
            time.sleep(1.5)
            assert child.poll() is None, "nothing was published yet"
            child.send_signal(signal_number)
        assert child.wait(30) == code
    assert (tmp_path / BEST_NAME).exists() == publish


def problem_with(task: str, classes: int, *, trials: int = 1, seconds: float = 900.0) -> Problem:
    flat = base_problem(task, classes, rows=180, seconds=seconds)
    x = {split: values.reshape(-1, 6, 6) for split, values in flat.x.items()}
    return replace(flat, inputs="images", x=x, options={"trials": trials, "epochs": 12})


def auc(result: SearchResult, problem: Problem) -> float:
    scores = result.scores["validation"]
    return score(predictions.check(problem.y["validation"], scores, Task(problem.task), from_logits=False)).auc


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "classes"), [("binary-class", 2), ("multi-class", 3), ("ordinal-regression", 5), ("multi-label", 2)]
)
def test_each_task_is_learned_and_selected_by_auc(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    problem, lines = problem_with(task, classes), list[str]()
    result = search(ENGINE, python, tmp_path, problem, lines.append)
    assert result.scores["test"].shape == (60, classes) and not result.partial
    assert auc(result, problem) > 0.75
    assert result.facts["engine"].startswith("AutoKeras 3.") and "inputs" not in result.facts
    assert (result.facts["trials"], result.facts["failed_trials"]) == (1, 0) and 1 <= result.facts["best_epoch"] <= 12
    # Keras approximates the AUC with 200 thresholds; it must be the AUC of the weights that were scored.
    assert result.facts["validation_auc"] == pytest.approx(auc(result, problem), abs=0.02)
    assert result.facts["configuration"]["image_block_1/block_type"] == "vanilla"
    assert any(line.startswith("trial 1: vanilla, 0.") for line in lines)
    if task != "multi-label":
        assert np.allclose(result.scores["test"].sum(1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6, 6, 3), (6, 6, 6)])
def test_a_volume_is_an_image_with_many_channels(python: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    problem = problem_with("binary-class", 2)
    x = {split: np.repeat(values[..., None], shape[-1], -1) for split, values in problem.x.items()}
    result = search(ENGINE, python, tmp_path, replace(problem, x=x))
    assert auc(result, problem) > 0.75
    assert ("channels are the last axis" in result.facts.get("inputs", "")) == (shape[-1] != 3)


@pytest.mark.slow
def test_a_search_resumes_from_its_records(python: Path, tmp_path: Path) -> None:
    problem = problem_with("binary-class", 2)
    first = search(ENGINE, python, tmp_path, problem)
    lines: list[str] = []
    second = search(ENGINE, python, tmp_path, problem, lines.append)
    assert any("Reloading" in line for line in lines) and not any(line.startswith("trial ") for line in lines)
    assert second.facts["trials"] == 1 and np.allclose(second.scores["test"], first.scores["test"], atol=1e-5)
    (tmp_path / STATE_NAME / "autokeras" / "oracle.json").write_text('{"ongoing_tr')  # incomplete, as after a kill
    lines.clear()
    third = search(ENGINE, python, tmp_path, problem, lines.append)
    assert any("damaged: it starts anew" in line for line in lines)
    assert any(line.startswith("trial 1: ") for line in lines) and auc(third, problem) > 0.75


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_keeps_the_best_model(python: Path, tmp_path: Path, signal_number: signal.Signals) -> None:
    ended: list[float] = []

    def end() -> None:
        for child in psutil.Process().children():
            if ENGINE.adapter.name in " ".join(child.cmdline()):
                child.send_signal(signal_number)
                ended.append(time.monotonic())

    def end_after_first_trial(line: str) -> None:
        # The first trial is published while this waits; the second, a network for 224 x 224 pixels, takes longer.
        if line.startswith("trial 1: "):
            while not (tmp_path / BEST_NAME).exists():
                time.sleep(0.1)
            end()

    result = search(ENGINE, python, tmp_path, problem_with("binary-class", 2, trials=20), end_after_first_trial)
    assert len(ended) == 1 and time.monotonic() - ended[0] < 60
    how = "killed by SIGKILL" if signal_number == signal.SIGKILL else "ended with exit code 130"
    assert result.partial.startswith(how) and result.facts["trials"] == 1


@pytest.mark.slow
def test_the_budget_is_kept(python: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    result = search(ENGINE, python, tmp_path, problem_with("binary-class", 2, trials=20, seconds=60.0))
    assert not result.partial and 50 < time.monotonic() - start < 110


@pytest.mark.slow
def test_a_single_class_is_reported_in_one_line(python: Path, tmp_path: Path) -> None:
    problem = problem_with("binary-class", 2)
    one_class = replace(problem, y={**problem.y, "train": np.ones_like(problem.y["train"])})
    with pytest.raises(TrainingError, match=r"^AutoKeras: train has only one class: a search needs two or more$"):
        search(ENGINE, python, tmp_path, one_class)


@pytest.mark.slow
def test_too_little_time_is_reported_in_one_line(python: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"^AutoKeras: a time budget of 0.5 s is too small for one trial: give more$"
    ):
        search(ENGINE, python, tmp_path, problem_with("binary-class", 2, seconds=0.5))
