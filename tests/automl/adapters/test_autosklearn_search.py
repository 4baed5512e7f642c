"""auto-sklearn's adapter: tests without the engine, and searches in the engine's environment if it exists."""

import ast
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from medmnist_hf.automl.adapters.job import BEST_NAME, FAULT, NOT_INSTALLED, STOPPED, AutoMLJob
from medmnist_hf.automl.engines import engine
from medmnist_hf.automl.environments import check, environment, interpreter
from medmnist_hf.automl.search import Problem, SearchResult, search
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring import predictions
from medmnist_hf.scoring.official import score

ENGINE = engine("auto-sklearn")
ADAPTERS = ENGINE.adapter.parent
ROWS = {"train": 90, "validation": 45, "test": 30}
Labels = npt.NDArray[np.int64]


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ADAPTERS))
    return importlib.import_module(ENGINE.adapter.stem)


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter with the engine; ``make test-slow`` creates the environment if a suitable Python exists."""
    try:
        return interpreter(ENGINE)
    except TrainingError as error:
        pytest.skip(str(error))


def pixels(labels: dict[str, Labels], noise: float = 80) -> dict[str, npt.NDArray[np.uint8]]:
    """Return flattened images of 6 × 6 pixels whose bright columns indicate class ids or findings."""
    rng = np.random.default_rng(0)
    x = {}
    for split, y in labels.items():
        hot = y if y.ndim == 2 else y[:, None] == np.arange(6)
        bright = 80 + 60 * np.pad(hot, ((0, 0), (0, 6 - hot.shape[1])))
        images = bright[:, None, :] + rng.normal(0, noise, (len(y), 6, 6))
        x[split] = images.clip(0, 255).astype(np.uint8).reshape(len(y), -1)
    return x


def problem(task: str, classes: int, labels: dict[str, Labels], seconds: float, **options: float) -> Problem:
    return Problem(
        task=task,
        classes=classes,
        inputs="pixels",
        x=pixels(labels),
        y={split: labels[split] for split in ("train", "validation")},
        seconds=seconds,
        seed=0,
        options=options,
    )


def ids(classes: int) -> dict[str, Labels]:
    return {split: np.arange(rows) % classes for split, rows in ROWS.items()}


def findings(count: int) -> dict[str, Labels]:
    rng = np.random.default_rng(1)
    return {split: rng.integers(0, 2, (rows, count)) for split, rows in ROWS.items()}


def test_the_syntax_of_the_adapter_is_valid_in_python_3_7() -> None:
    for path in (ENGINE.adapter, ADAPTERS / "auc.py", ADAPTERS / "job.py"):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 7))
    with pytest.raises(SyntaxError):
        ast.parse("(a := 1)", feature_version=(3, 7))


def test_an_interpreter_without_the_engine_is_reported_in_one_line() -> None:
    process = subprocess.run([sys.executable, ENGINE.adapter, "--check"], capture_output=True, text=True, check=False)
    assert process.returncode == NOT_INSTALLED and process.stdout == ""
    assert process.stderr == "No module named 'autosklearn'\n"
    with pytest.raises(TrainingError, match=r"auto-sklearn is not installed in .* \(No module named 'autosklearn'\)"):
        check(ENGINE, Path(sys.executable))


@pytest.mark.parametrize(("task", "classes"), [("multi-class", 4), ("multi-label", 3)])
def test_the_objective_of_a_search_is_the_official_auc(adapter: Any, task: str, classes: int) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, (50, classes)) if task == "multi-label" else rng.integers(0, classes - 1, 50)
    if task == "multi-label":
        truth[:, 1] = 0  # a finding without an AUC, like the last class of the other task
    scores = rng.random((50, classes)).round(1)
    assert adapter.mean_auc(truth, scores) == pytest.approx(
        score(predictions.check(truth, scores, task, from_logits=False)).auc
    )
    if task == "multi-class":
        assert adapter.mean_auc(truth[:, None], scores) == adapter.mean_auc(truth, scores)


def job_of(
    folder: Path, task: str, classes: int, labels: dict[str, Labels], *, seconds: float = 300, cores: int = 2
) -> AutoMLJob:
    job = {"task": task, "classes": classes, "inputs": "pixels", "seconds": seconds, "seed": 0, "cores": cores}
    (folder / "job.json").write_text(json.dumps(job | {"options": {}}))
    for split, x in pixels(labels).items():
        np.save(folder / f"x_{split}.npy", x)
        if split != "test":
            np.save(folder / f"y_{split}.npy", labels[split])
    return AutoMLJob(str(folder))


def test_a_class_that_train_lacks_scores_0(adapter: Any, tmp_path: Path) -> None:
    labels = ids(3)
    labels["train"] = 2 * (labels["train"] > 0)
    targets = adapter._Targets(job_of(tmp_path, "multi-class", 3, labels))
    assert targets.train_rows == 90 and targets.y.shape == (135,) and not targets.binary
    assert np.array_equal(targets.all_scores(np.array([[0.25, 0.75]])), [[0.25, 0, 0.75]])


def test_findings_that_are_constant_in_train_are_not_searched(adapter: Any, tmp_path: Path) -> None:
    labels = findings(4)
    labels["train"][:, 1], labels["train"][:, 2] = 1, 0
    targets = adapter._Targets(job_of(tmp_path, "multi-label", 4, labels))
    assert targets.y.shape == (135, 2) and not targets.binary
    assert np.array_equal(targets.all_scores(np.array([[0.25, 0.75]])), [[0.25, 1, 0, 0.75]])
    labels["train"][:, 3] = 0
    targets = adapter._Targets(job_of(tmp_path, "multi-label", 4, labels))
    assert targets.y.shape == (135,) and targets.binary
    assert np.array_equal(targets.all_scores(np.array([[0.25, 0.75]])), [[0.75, 1, 0, 0]])


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(("task", "labels"), [("binary-class", ids(2)), ("multi-label", findings(2))])
def test_labels_without_an_auc(
    adapter: Any,
    tmp_path: Path,
    task: str,
    labels: dict[str, Labels],
    split: str,
) -> None:
    constant = labels | {split: np.zeros_like(labels[split])}
    with pytest.raises(adapter.SearchError, match=f"all labels of {split} are the same"):
        adapter._Targets(job_of(tmp_path, task, 2, constant))


def check_result(result: SearchResult, task: str, labels: dict[str, Labels]) -> None:
    """Check that the scores are probabilities that rank validation and test, and that the facts are complete."""
    assert result.facts["engine"] == "auto-sklearn 0.15.0"
    assert result.facts["trials"] == sum(result.facts["outcomes"].values()) > 0
    assert sum(member["weight"] for member in result.facts["configuration"]) == pytest.approx(1)
    assert all("classifier:__choice__" in member for member in result.facts["configuration"])
    for split in ("validation", "test"):
        scores = result.scores[split]
        if task != "multi-label":
            assert scores.sum(1) == pytest.approx(1, abs=1e-4)
        # A class that train lacks contributes an AUC of 0.5.
        assert score(predictions.check(labels[split], scores, task, from_logits=False)).auc > 0.65


@pytest.mark.slow
@pytest.mark.parametrize(("task", "classes"), [("binary-class", 2), ("ordinal-regression", 4), ("multi-label", 3)])
def test_a_search(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    labels = findings(classes) if task == "multi-label" else ids(classes)
    if task == "ordinal-regression":
        labels["train"][labels["train"] == 2] = 3
    if task == "multi-label":
        labels["train"][:, 1] = 1
    lines: list[str] = []
    result = search(ENGINE, python, tmp_path / "job", problem(task, classes, labels, 60), lines.append)
    assert not result.partial and result.facts["search_seconds"] < 75
    assert lines[0].startswith("trial 1: ") and all(line.startswith("trial ") for line in lines)
    assert not (tmp_path / "job" / "state").exists()
    if task == "ordinal-regression":
        assert (result.scores["test"][:, 2] == 0).all()
    if task == "multi-label":
        assert (result.scores["test"][:, 1] == 1).all()
    check_result(result, task, labels)


def vanishes(group: int) -> bool:
    """Return whether all processes of a group end, at once or within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signal_number", "cores"), [(signal.SIGINT, 2), (signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGKILL, 2)]
)
def test_a_signal_keeps_the_best_model(
    python: Path, tmp_path: Path, signal_number: signal.Signals, cores: int
) -> None:
    labels = ids(2)
    job_of(tmp_path, "binary-class", 2, labels, cores=cores)
    with subprocess.Popen(
        [python, ENGINE.adapter, tmp_path], env=environment(python), start_new_session=True
    ) as child:
        deadline = time.monotonic() + 200
        while not (tmp_path / BEST_NAME).exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        child.send_signal(signal_number)
        assert child.wait(60) == (-signal_number if signal_number == signal.SIGKILL else STOPPED)
    if signal_number == signal.SIGKILL:
        os.killpg(child.pid, signal_number)  # as `search` does
    assert vanishes(child.pid)
    facts = AutoMLJob(str(tmp_path)).published_facts()
    assert facts is not None
    assert facts["trials"] >= 1 and facts["best_after_seconds"] < 260
    with np.load(tmp_path / BEST_NAME) as best:
        assert score(predictions.check(labels["test"], best["test"], "binary-class", from_logits=False)).auc > 0.7


@pytest.mark.slow
def test_an_impossible_search_is_reported_in_one_line(python: Path, tmp_path: Path) -> None:
    job_of(tmp_path, "binary-class", 2, ids(2), seconds=20)
    process = subprocess.run([python, ENGINE.adapter, tmp_path], capture_output=True, text=True, check=False)
    assert process.returncode == FAULT
    assert re.fullmatch("error: a time budget of 20 s leaves .* needs 30 s: give more\n", process.stderr)
    with pytest.raises(
        TrainingError, match="auto-sklearn failed with 50 MB of memory per trial: Dummy prediction failed"
    ):
        search(ENGINE, python, tmp_path / "job", problem("binary-class", 2, ids(2), 60, memory=50))


RACE = """
import itertools, sys, threading, types
from autosklearn_search import fix_import_race
if sys.argv[1] == "fixed":
    fix_import_race()
from autosklearn.util.parallel import preload_modules
finished = threading.Event()

def imports():
    for index in itertools.count():
        if finished.is_set():
            return
        sys.modules["made_%d" % (index % 5000)] = types.ModuleType("made")
        sys.modules.pop("made_%d" % ((index + 1) % 5000), None)

thread = threading.Thread(target=imports)
sys.setswitchinterval(1e-6)
thread.start()
try:
    for _ in range(300):
        preload_modules(types.SimpleNamespace(set_forkserver_preload=list))
finally:
    finished.set()
"""


@pytest.mark.slow
def test_an_import_in_a_thread_does_not_end_the_search(python: Path) -> None:
    env = environment(python) | {"PYTHONPATH": str(ADAPTERS)}

    def run(variant: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, "-c", RACE, variant], env=env, capture_output=True, text=True, check=False)

    assert "dictionary changed size" in run("original").stderr  # otherwise this test proves nothing
    assert run("fixed").returncode == 0
