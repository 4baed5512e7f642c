"""`medmnist_hf.automl.adapters.job`: the exchange of data between a search and its adapter through files."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from medmnist_hf.automl.adapters.job import BEST_NAME, JOB_NAME, AutoMLJob, all_columns, search_each_finding
from tests.fixtures.paths import ROOT

ADAPTER = ROOT / "medmnist_hf" / "automl" / "adapters" / "job.py"
LABELS = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0]])


def job_in(folder: Path, **changes: Any) -> AutoMLJob:
    job = {
        "task": "multi-label",
        "classes": 4,
        "inputs": "pixels",
        "seconds": 8.0,
        "seed": 3,
        "cores": 1,
        "options": {},
    }
    (folder / JOB_NAME).write_text(json.dumps(job | changes))
    for split, rows in {"train": 4, "validation": 3, "test": 2}.items():
        np.save(folder / f"x_{split}.npy", np.arange(rows * 2, dtype=np.uint8).reshape(rows, 2))
    np.save(folder / "y_train.npy", LABELS)
    np.save(folder / "y_validation.npy", LABELS[:3])
    return AutoMLJob(str(folder))


def test_its_syntax_is_valid_in_python_3_7() -> None:
    ast.parse(ADAPTER.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_a_job_is_read_and_its_budget_runs_down(tmp_path: Path) -> None:
    job = job_in(tmp_path, options={"trials": 4})
    assert (job.task, job.classes, job.inputs, job.seed, job.options["trials"]) == ("multi-label", 4, "pixels", 3, 4)
    assert job.x("test").dtype == np.uint8 and job.x("train").shape == (4, 2) and job.y("train").shape == (4, 4)
    with pytest.raises(FileNotFoundError):
        job.y("test")
    first = job.left()
    time.sleep(0.02)
    assert job.left() < first < 8.0
    assert job.state.is_dir() and job.state.parent == tmp_path


def test_the_last_publication_replaces_earlier_ones(tmp_path: Path) -> None:
    job = job_in(tmp_path)
    assert job.published_facts() is None
    for value in (0.25, 0.75):
        scores = {split: np.full((2, 4), value, np.float32) for split in ("validation", "test")}
        job.publish(scores, {"trials": np.int64(2), "list": np.arange(2), "other": Path("a"), "rate": np.float64(0.5)})
    with np.load(tmp_path / BEST_NAME, allow_pickle=False) as file:
        assert file["test"].dtype == np.float64 and np.all(file["validation"] == 0.75)
    facts = job.published_facts()
    assert facts is not None and facts.pop("best_after_seconds") >= 0
    assert facts == {"trials": 2, "list": [0, 1], "other": "a", "rate": 0.5}
    job.update_facts(trials=9)
    updated = job.published_facts()
    assert updated is not None and (updated["trials"], updated["rate"]) == (9, 0.5)
    assert sorted(path.name for path in tmp_path.glob("*best*")) == [BEST_NAME]


def test_classes_that_train_lacks_score_0() -> None:
    all_scores = all_columns(np.array([[0.3, 0.7]]), np.array([0, 2]), 4)
    assert all_scores.tolist() == [[0.3, 0.0, 0.7, 0.0]]


def recording_fit(job: AutoMLJob, searched: list[str], interrupt_at: str = "") -> Any:
    def fit(
        train: npt.NDArray[Any], validation: npt.NDArray[Any], seconds: float, name: str
    ) -> tuple[Any, dict[str, Any]]:
        if name == interrupt_at:
            raise KeyboardInterrupt
        searched.append(name)
        assert 0 < seconds <= job.left() and len(validation) == 3
        share = train.mean()
        return (lambda inputs: np.tile([1 - share, share], (len(inputs), 1))), {
            "engine": "Tiny 1.0",
            "trials": 2,
            "configuration": {"share": share},
        }

    return fit


def test_each_finding_is_searched_separately_and_constant_ones_are_not(tmp_path: Path) -> None:
    job, searched = job_in(tmp_path), list[str]()
    search_each_finding(job, recording_fit(job, searched))
    assert searched == ["finding-0", "finding-2"]
    facts = job.published_facts()
    assert facts is not None and facts["one_model_per_finding"]
    assert (facts["trials"], facts["engine"]) == (4, "Tiny 1.0")
    assert facts["configuration"] == {
        "0": {"share": 0.5},
        "1": "constant in train",
        "2": {"share": 0.5},
        "3": "constant in train",
    }
    with np.load(tmp_path / BEST_NAME) as file:
        assert file["test"].tolist() == [[0.5, 1.0, 0.5, 0.0]] * 2


def test_an_interrupted_search_keeps_finished_findings_and_resumes_after_them(tmp_path: Path) -> None:
    job, searched = job_in(tmp_path), list[str]()
    with pytest.raises(KeyboardInterrupt):
        search_each_finding(job, recording_fit(job, searched, interrupt_at="finding-2"))
    with np.load(tmp_path / BEST_NAME) as file:
        assert file["validation"].tolist() == [[0.5, 1.0, 0.5, 0.5]] * 3
    search_each_finding(job, recording_fit(job, searched))
    assert searched == ["finding-0", "finding-2"]
    facts = job.published_facts()
    assert facts is not None and facts["trials"] == 4


MAIN = """
import sys; sys.path.insert(0, {folder!r})
from job import SearchError, main
def search(job):
    {body}
def name():
    {name}
main(search, name)
"""


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("pass", 0, ""),
        ("raise SearchError('too\\n small')", 1, "error: too small\n"),
        ("raise KeyboardInterrupt", 130, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 130, ""),
    ],
)
def test_the_exit_code_of_an_adapter(tmp_path: Path, body: str, code: int, message: str) -> None:
    job_in(tmp_path, parent=os.getpid())
    path = tmp_path / "adapter.py"
    path.write_text(MAIN.format(folder=str(ADAPTER.parent), body=body, name="return 'Tiny 1.0'"))
    result = subprocess.run([sys.executable, path, tmp_path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (code, message)


@pytest.mark.parametrize(
    ("name", "code", "output", "message"),
    [
        ("return 'Tiny 1.0'", 0, "Tiny 1.0\n", ""),
        ("raise ImportError('no\\n tiny')", 3, "", "no tiny\n"),
    ],
)
def test_an_adapter_prints_its_name_or_why_the_engine_is_missing(
    tmp_path: Path, name: str, code: int, output: str, message: str
) -> None:
    path = tmp_path / "adapter.py"
    path.write_text(MAIN.format(folder=str(ADAPTER.parent), body="pass", name=name))
    result = subprocess.run([sys.executable, path, "--check"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (code, output, message)
