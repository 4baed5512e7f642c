"""auto-sklearn's adapter: what of it needs no engine, and searches in the engine's environment where that is made."""

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
from medmnist_hf.automl.search import Found, Problem, search
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
    """The interpreter with the engine: ``make test-slow`` makes it where there is a Python of its releases."""
    try:
        return interpreter(ENGINE)
    except TrainingError as error:
        pytest.skip(str(error))


def pixels(labels: dict[str, Labels], noise: float = 80) -> dict[str, npt.NDArray[np.uint8]]:
    """Flattened images of 6 × 6 pixels, that tell of class ids or findings by how bright columns are."""
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


def test_the_adapter_is_of_a_syntax_that_old_interpreters_read() -> None:
    for path in (ENGINE.adapter, ADAPTERS / "auc.py", ADAPTERS / "job.py"):
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 7))
    with pytest.raises(SyntaxError):
        ast.parse("(a := 1)", feature_version=(3, 7))


def test_an_interpreter_without_the_engine_says_so_in_one_line() -> None:
    done = subprocess.run([sys.executable, ENGINE.adapter, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == NOT_INSTALLED and done.stdout == ""
    assert done.stderr == "No module named 'autosklearn'\n"
    with pytest.raises(TrainingError, match=r"auto-sklearn is not installed in .* \(No module named 'autosklearn'\)"):
        check(ENGINE, Path(sys.executable))


@pytest.mark.parametrize(("task", "classes"), [("multi-class", 4), ("multi-label", 3)])
def test_what_a_search_maximizes_is_the_auc_of_the_results(adapter: Any, task: str, classes: int) -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, (50, classes)) if task == "multi-label" else rng.integers(0, classes - 1, 50)
    if task == "multi-label":
        truth[:, 1] = 0  # a finding, as the last class of the other task, that has no AUC
    scores = rng.random((50, classes)).round(1)
    assert adapter.mean_auc(truth, scores) == pytest.approx(
        score(predictions.check(truth, scores, task, from_logits=False)).auc
    )
    if task == "multi-class":
        assert adapter.mean_auc(truth[:, None], scores) == adapter.mean_auc(truth, scores)


def job_of(
    folder: Path, task: str, classes: int, labels: dict[str, Labels], *, seconds: float = 300, cores: int = 2
) -> AutoMLJob:
    told = {"task": task, "classes": classes, "inputs": "pixels", "seconds": seconds, "seed": 0, "cores": cores}
    (folder / "job.json").write_text(json.dumps(told | {"options": {}}))
    for split, x in pixels(labels).items():
        np.save(folder / f"x_{split}.npy", x)
        if split != "test":
            np.save(folder / f"y_{split}.npy", labels[split])
    return AutoMLJob(str(folder))


def test_a_class_that_train_never_shows_scores_0(adapter: Any, tmp_path: Path) -> None:
    labels = ids(3)
    labels["train"] = 2 * (labels["train"] > 0)
    targets = adapter._Targets(job_of(tmp_path, "multi-class", 3, labels))
    assert targets.rows_of_train == 90 and targets.y.shape == (135,) and not targets.binary
    assert np.array_equal(targets.of_all(np.array([[0.25, 0.75]])), [[0.25, 0, 0.75]])


def test_findings_that_are_constant_in_train_are_not_searched_for(adapter: Any, tmp_path: Path) -> None:
    labels = findings(4)
    labels["train"][:, 1], labels["train"][:, 2] = 1, 0
    targets = adapter._Targets(job_of(tmp_path, "multi-label", 4, labels))
    assert targets.y.shape == (135, 2) and not targets.binary
    assert np.array_equal(targets.of_all(np.array([[0.25, 0.75]])), [[0.25, 1, 0, 0.75]])
    labels["train"][:, 3] = 0
    targets = adapter._Targets(job_of(tmp_path, "multi-label", 4, labels))
    assert targets.y.shape == (135,) and targets.binary
    assert np.array_equal(targets.of_all(np.array([[0.25, 0.75]])), [[0.75, 1, 0, 0]])


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize(("task", "labels"), [("binary-class", ids(2)), ("multi-label", findings(2))])
def test_labels_without_an_auc(
    adapter: Any,
    tmp_path: Path,
    task: str,
    labels: dict[str, Labels],
    split: str,
) -> None:
    same = labels | {split: np.zeros_like(labels[split])}
    with pytest.raises(adapter.SearchError, match=f"all labels of {split} are the same"):
        adapter._Targets(job_of(tmp_path, task, 2, same))


def looked_at(found: Found, task: str, labels: dict[str, Labels]) -> None:
    """The scores are probabilities that rank validation and test, and what is told is complete."""
    assert found.facts["engine"] == "auto-sklearn 0.15.0"
    assert found.facts["trials"] == sum(found.facts["outcomes"].values()) > 0
    assert sum(one["weight"] for one in found.facts["configuration"]) == pytest.approx(1)
    assert all("classifier:__choice__" in one for one in found.facts["configuration"])
    for split in ("validation", "test"):
        scores = found.scores[split]
        if task != "multi-label":
            assert scores.sum(1) == pytest.approx(1, abs=1e-4)
        assert (
            score(predictions.check(labels[split], scores, task, from_logits=False)).auc > 0.65
        )  # what train never shows has 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("task", "classes"), [("binary-class", 2), ("ordinal-regression", 4), ("multi-label", 3)])
def test_a_search(python: Path, tmp_path: Path, task: str, classes: int) -> None:
    labels = findings(classes) if task == "multi-label" else ids(classes)
    if task == "ordinal-regression":
        labels["train"][labels["train"] == 2] = 3
    if task == "multi-label":
        labels["train"][:, 1] = 1
    lines: list[str] = []
    found = search(ENGINE, python, tmp_path / "job", problem(task, classes, labels, 60), lines.append)
    assert not found.partial and found.facts["search_seconds"] < 75
    assert lines[0].startswith("trial 1: ") and all(line.startswith("trial ") for line in lines)
    assert not (tmp_path / "job" / "state").exists()
    if task == "ordinal-regression":
        assert (found.scores["test"][:, 2] == 0).all()
    if task == "multi-label":
        assert (found.scores["test"][:, 1] == 1).all()
    looked_at(found, task, labels)


def vanishes(group: int) -> bool:
    """Whether no process of a group is left, at once or a little later."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "cores"), [(signal.SIGINT, 2), (signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGKILL, 2)]
)
def test_a_search_that_is_ended_leaves_its_best(python: Path, tmp_path: Path, by: signal.Signals, cores: int) -> None:
    labels = ids(2)
    job_of(tmp_path, "binary-class", 2, labels, cores=cores)
    with subprocess.Popen(
        [python, ENGINE.adapter, tmp_path], env=environment(python), start_new_session=True
    ) as child:
        until = time.monotonic() + 200
        while not (tmp_path / BEST_NAME).exists() and child.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        child.send_signal(by)
        assert child.wait(60) == (-by if by == signal.SIGKILL else STOPPED)
    if by == signal.SIGKILL:
        os.killpg(child.pid, by)  # as `search` does
    assert vanishes(child.pid)
    best = AutoMLJob(str(tmp_path)).found()
    assert best is not None
    assert best["trials"] >= 1 and best["best_after_seconds"] < 260
    with np.load(tmp_path / BEST_NAME) as left:
        assert score(predictions.check(labels["test"], left["test"], "binary-class", from_logits=False)).auc > 0.7


@pytest.mark.slow
def test_what_cannot_be_searched_is_one_line(python: Path, tmp_path: Path) -> None:
    job_of(tmp_path, "binary-class", 2, ids(2), seconds=20)
    done = subprocess.run([python, ENGINE.adapter, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == FAULT
    assert re.fullmatch("error: a time budget of 20 s leaves .* needs 30 s: give more\n", done.stderr)
    with pytest.raises(TrainingError, match="it gave up, with 50 MB of memory for a trial: Dummy prediction failed"):
        search(ENGINE, python, tmp_path / "job", problem("binary-class", 2, ids(2), 60, memory=50))


RACE = """
import itertools, sys, threading, types
from autosklearn_search import let_threads_import
if sys.argv[1] == "mended":
    let_threads_import()
from autosklearn.util.parallel import preload_modules
done = threading.Event()

def imports():
    for at in itertools.count():
        if done.is_set():
            return
        sys.modules["made_%d" % (at % 5000)] = types.ModuleType("made")
        sys.modules.pop("made_%d" % ((at + 1) % 5000), None)

thread = threading.Thread(target=imports)
sys.setswitchinterval(1e-6)
thread.start()
try:
    for _ in range(300):
        preload_modules(types.SimpleNamespace(set_forkserver_preload=list))
finally:
    done.set()
"""


@pytest.mark.slow
def test_a_thread_that_imports_ends_no_search(python: Path) -> None:
    env = environment(python) | {"PYTHONPATH": str(ADAPTERS)}

    def run(how: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, "-c", RACE, how], env=env, capture_output=True, text=True, check=False)

    assert "dictionary changed size" in run("as it is").stderr  # else this test proves nothing
    assert run("mended").returncode == 0
