"""The steps of ``docs/contributing/add-a-metric.md``: a function and a line add the metric to every interface."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef
from typer.testing import CliRunner

import medmnist_hf
from medmnist_hf.array_types import BoolArray, FloatArray, IntArray
from medmnist_hf.catalog import Task, subset
from medmnist_hf.cli.main import app
from medmnist_hf.evaluation.prediction_files import write_predictions
from medmnist_hf.loading.load import load_arrays
from medmnist_hf.scoring import metrics as metrics_module
from medmnist_hf.scoring.auc import ratio
from medmnist_hf.scoring.intervals import compare, intervals
from medmnist_hf.scoring.metrics import CLASSWISE, WHOLE, Weighted, metrics
from medmnist_hf.scoring.predictions import check
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.pages import blocks
from tests.fixtures.paths import ROOT

PAGE = ROOT / "docs/contributing/add-a-metric.md"


def mcc(weighted: Weighted) -> FloatArray:
    """Matthews' correlation coefficient per class, ``(B, L)`` (Biochimica et Biophysica Acta 405:442, 1975).

    ``(TP * TN - FP * FN) / sqrt((TP + FP) * (TP + FN) * (TN + FP) * (TN + FN))``.
    """
    right, true, flagged = weighted.counts
    total = weighted.total[:, None]
    product = flagged * true * (total - flagged) * (total - true)
    return ratio(total * right - true * flagged, np.sqrt(product))


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSWISE, "mcc", mcc)


def draw(task: Task, classes: int, seed: int = 0) -> tuple[IntArray, FloatArray]:
    """Random labels, and scores that are correlated with them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (120, classes)) if task is Task.MULTI_LABEL else rng.integers(0, classes, 120)
    hot = labels if task is Task.MULTI_LABEL else np.eye(classes)[labels]
    scores = rng.random(hot.shape) + hot / 2
    return labels, scores / (1.5 if task is Task.MULTI_LABEL else scores.sum(axis=1, keepdims=True))


def decide(task: Task, scores: FloatArray) -> Callable[[int], BoolArray]:
    """A function from a class to the rows predicted as it, for scikit-learn."""
    return lambda label: scores[:, label] > 0.5 if task is Task.MULTI_LABEL else scores.argmax(axis=1) == label


def test_the_function_on_the_page_is_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = (block for block in blocks(PAGE) if block.language == "python")
    names = dict(vars(metrics_module))
    exec(block.text, names)
    monkeypatch.setitem(WHOLE, "balanced_error", names["balanced_error"])
    labels, scores = draw(Task.MULTI_CLASS, 4)
    values = metrics(check(labels, scores, Task.MULTI_CLASS), ["balanced_error", "balanced_accuracy"])
    assert values["balanced_error"] == 1 - values["balanced_accuracy"] > 0


@pytest.mark.parametrize(("task", "classes"), [(Task.MULTI_CLASS, 4), (Task.ORDINAL, 5), (Task.MULTI_LABEL, 3)])
def test_values_intervals_and_comparison(task: Task, classes: int) -> None:
    labels, scores = draw(task, classes)
    predictions = check(labels, scores, task)
    values = metrics(predictions, ["mcc", "mcc:*"])
    true = [labels[:, label] if task is Task.MULTI_LABEL else labels == label for label in range(classes)]
    expected = [matthews_corrcoef(true[label], decide(task, scores)(label)) for label in range(classes)]
    assert [values[f"mcc:{label}"] for label in range(classes)] == pytest.approx(expected)
    assert values["mcc"] == pytest.approx(np.mean(expected))
    interval = intervals(predictions, ["mcc"], resamples=200)["mcc"]
    assert interval.low < interval.estimate == values["mcc"] < interval.high and interval.method == "bootstrap"
    other = check(labels, draw(task, classes, seed=1)[1], task)
    assert compare(predictions, other, ["mcc"], resamples=200)["mcc"].difference.low > 0


def test_the_evaluate_metric_has_it() -> None:
    labels, scores = draw(Task.ORDINAL, 5)
    result = medmnist_hf.metric("retinamnist").compute(
        references=labels, prediction_scores=scores, measures=["mcc"], ci=True, resamples=50
    )
    assert result["mcc"] == metrics(check(labels, scores, Task.ORDINAL), ["mcc"])["mcc"]
    assert result["mcc_low"] < result["mcc"] < result["mcc_high"]


def test_the_command_line_has_it(phantoms: Phantoms, tmp_path: Path) -> None:
    flag = "bloodmnist"
    build(phantoms, tmp_path / "dist", flag, 28)
    labels = load_arrays(flag, 28, "test", tmp_path / "dist", cache=False).labels
    scores = np.random.default_rng(0).dirichlet(np.ones(len(subset(flag).labels)), len(labels))
    file = write_predictions(tmp_path, flag, 28, "test", scores, labels, run="model")
    command = ["evaluate", str(file), "--data", str(tmp_path / "dist"), "--measure", "mcc", "--per-class", "--json"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    (facts,) = json.loads(result.stdout)
    assert facts["measures"]["mcc"] == metrics(check(labels, scores.round(6), Task.MULTI_CLASS), ["mcc"])["mcc"]
    assert {f"mcc:{label}" for label in range(8)} <= set(facts["measures"])
