"""The linear probe against scikit-learn, and the model in which it is set."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import nn
from transformers import AutoModelForImageClassification

from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring.metrics import metrics
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.methods import linear_probe
from medmnist_hf.training.methods.features import Features
from medmnist_hf.training.methods.linear_probe import NEVER, STRENGTHS, fit_probe, set_classifier
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.heads import pooled_features
from tests.conftest import Phantoms
from tests.fixtures.features import blobs
from tests.fixtures.methods import fit
from tests.fixtures.runs import build_all, tiny
from tests.fixtures.tiny_models import IMAGE_MODELS, pixels, vit


def findings(rows: int, seed: int = 0) -> Features:
    """Features with four findings: two depend on features, one is always absent, one always present."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 5))
    hot = np.stack([values[:, 0] + rng.normal(size=rows) > 0, values[:, 1] > 1, np.zeros(rows), np.ones(rows)], 1)
    return Features(values.astype(np.float32), hot.astype(np.int64))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_equals_scikit_learn_at_the_best_strength_on_validation(classes: int, balanced: bool) -> None:
    train, validation = blobs(300, classes), blobs(90, classes, seed=1)
    task = Task.BINARY if classes == 2 else Task.MULTI_CLASS
    mean, spread = train.values.mean(0, dtype=float), train.values.std(0, dtype=float)
    inputs, others = (train.values - mean) / spread, (validation.values - mean) / spread
    aucs, expected = {}, {}
    for strength in STRENGTHS:
        solver = LogisticRegression(
            C=strength, max_iter=5000, tol=1e-8, class_weight="balanced" if balanced else None
        ).fit(inputs, train.labels)
        expected[strength] = solver.predict_proba(others)
        aucs[strength] = score(check(validation.labels, expected[strength], task)).auc
    probe = fit_probe(train, validation, task, classes, balanced=balanced)
    assert probe.tried == pytest.approx(aucs, abs=1e-4)
    assert probe.strength == min(s for s in STRENGTHS if probe.tried[s] == max(probe.tried.values()))
    scores = to_scores(probe.logits(validation), "cross-entropy")
    assert np.allclose(scores, expected[probe.strength], atol=1e-3)


def test_findings_have_separate_regressions_and_constant_ones_none() -> None:
    train, validation = findings(200), findings(100, seed=1)
    probe = fit_probe(train, validation, Task.MULTI_LABEL, 4)
    scores = to_scores(probe.logits(validation), "bce")
    mean, spread = train.values.mean(0, dtype=float), train.values.std(0, dtype=float)
    for at in (0, 1):
        solver = LogisticRegression(C=probe.strength, tol=1e-8).fit(
            (train.values - mean) / spread, train.labels[:, at]
        )
        assert np.allclose(scores[:, at], solver.predict_proba((validation.values - mean) / spread)[:, 1], atol=1e-3)
    assert (scores[:, 2] < 1e-9).all() and (scores[:, 3] > 1 - 1e-9).all()


@pytest.mark.parametrize("present", [(0, 2, 3), (1, 3)])
def test_a_class_missing_from_train_is_never_predicted(present: tuple[int, ...]) -> None:
    train, validation = blobs(200, 4), blobs(80, 4, seed=1)
    rows = np.isin(train.labels, present)
    probe = fit_probe(Features(train.values[rows], train.labels[rows]), validation, Task.ORDINAL, 4)
    scores = to_scores(probe.logits(validation), "cross-entropy")
    absent = [at for at in range(4) if at not in present]
    assert (scores[:, absent] < 2 * np.exp(-NEVER)).all()
    rows = np.isin(validation.labels, present)
    assert (scores.argmax(1)[rows] == validation.labels[rows]).mean() > 0.5
    assert np.allclose(scores.sum(1), 1)


def test_balancing_improves_the_recall_of_a_rare_class() -> None:
    train, validation = blobs(2000, 2, apart=0.4), blobs(500, 2, seed=1, apart=0.4)
    rows = (train.labels == 0) | (np.arange(2000) % 20 == 0)
    imbalanced = Features(train.values[rows], train.labels[rows])
    recall = {}
    for balanced in (False, True):
        probe = fit_probe(imbalanced, validation, Task.BINARY, 2, balanced=balanced)
        recall[balanced] = (probe.logits(validation)[:, 1] > 0)[validation.labels == 1].mean()
    assert recall[True] > recall[False] + 0.2


def test_constant_features_get_no_weight_and_tiny_ones_are_used() -> None:
    train, validation = blobs(200, 3), blobs(60, 3, seed=1)
    plain = fit_probe(train, validation, Task.MULTI_CLASS, 3)

    def widened(features: Features, seed: int) -> Features:
        nearly_constant = 1000 + 1e-4 * np.random.default_rng(seed).normal(size=(len(features.values), 1))
        constant = np.full((len(features.values), 1), 7.5)
        values = np.hstack([features.values[:, :3], nearly_constant, constant, features.values[:, 3:] * 1e-12])
        return Features(values.astype(np.float32), features.labels)

    probe = fit_probe(widened(train, 0), widened(validation, 1), Task.MULTI_CLASS, 3)
    assert (probe.weight[:, 3:5] == 0).all() and probe.tried == pytest.approx(plain.tried, abs=1e-3)
    assert np.allclose(probe.logits(widened(validation, 1)), plain.logits(validation), atol=1e-2)


@pytest.mark.parametrize(("task", "select"), [(Task.MULTI_CLASS, "loss"), (Task.ORDINAL, "mae"), (Task.BINARY, "f1")])
def test_the_strength_is_selected_by_any_measure(task: Task, select: str) -> None:
    classes = 2 if task is Task.BINARY else 4
    train, validation = blobs(200, classes), blobs(90, classes, seed=1)
    probe, best = fit_probe(train, validation, task, classes, select), min if select != "f1" else max
    assert probe.tried[probe.strength] == best(probe.tried.values())
    scores = to_scores(probe.logits(validation), "cross-entropy")
    expected = (
        log_loss(validation.labels, scores)
        if select == "loss"
        else metrics(check(validation.labels, scores, task), [select])[select]
    )
    assert probe.tried[probe.strength] == pytest.approx(expected, abs=1e-6)


def test_uninformative_features_give_the_strongest_penalty() -> None:
    same = Features(np.ones((30, 4), np.float32), np.arange(30) % 3)
    probe = fit_probe(same, same, Task.MULTI_CLASS, 3)
    assert probe.strength == STRENGTHS[0] and set(probe.tried.values()) == {0.5}


def test_impossible_probes_are_one_line_errors() -> None:
    train = blobs(40, 3)
    one_class = Features(train.values, np.full(40, 2))
    with pytest.raises(TrainingError, match="train has only class 2"):
        fit_probe(one_class, train, Task.MULTI_CLASS, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TrainingError, match="cannot select the probe on validation: auc is undefined"):
            fit_probe(blobs(40, 2), Features(train.values, np.zeros(40, np.int64)), Task.BINARY, 2)
    with pytest.raises(TrainingError, match="cannot select the probe on validation: "):
        fit_probe(train, Features(train.values, train.labels + 5), Task.MULTI_CLASS, 3)


def test_fits_that_do_not_converge_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = blobs(300, 4), blobs(90, 4, seed=1)
    complete = fit_probe(train, validation, Task.MULTI_CLASS, 4)
    monkeypatch.setattr(linear_probe, "MOST_STEPS", 15)
    limited = fit_probe(train, validation, Task.MULTI_CLASS, 4)
    assert 0 < len(limited.tried) < len(STRENGTHS)
    assert limited.tried == pytest.approx({s: complete.tried[s] for s in limited.tried})
    monkeypatch.setattr(linear_probe, "MOST_STEPS", 1)
    with pytest.raises(TrainingError, match="did not converge in 1 steps"):
        fit_probe(train, validation, Task.MULTI_CLASS, 4)


@pytest.mark.parametrize("kind", ["timm CNN", "timm, classifier a convolution", "paper", "ViT", "ResNet", "DINOv2"])
def test_the_saved_model_predicts_the_scores_of_the_probe(kind: str, tmp_path: Path) -> None:
    model = IMAGE_MODELS[kind]()
    with torch.inference_mode():
        inputs = pooled_features(model.eval(), pixels(30)).numpy()
    features = Features(inputs, np.arange(30) % 3)
    probe = fit_probe(features, features, Task.MULTI_CLASS, 3)
    saved: Any = set_classifier(model, probe.weight, probe.bias)
    saved.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        logits = loaded(pixel_values=pixels(30)).logits.numpy()
    assert np.allclose(
        to_scores(logits, "cross-entropy"), to_scores(probe.logits(features), "cross-entropy"), atol=1e-4
    )


def without_bias() -> nn.Module:
    model: Any = vit(3)
    model.classifier.bias = None
    network: nn.Module = model
    return network


@pytest.mark.parametrize("make", [lambda: vit(4), without_bias])
def test_a_classifier_without_bias_or_of_another_shape_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(TrainingError, match="classifier of ViTForImageClassification cannot hold"):
        set_classifier(make(), np.zeros((3, 16)), np.zeros(3))


def test_only_the_classifier_of_the_network_changes(phantoms: Phantoms, tmp_path: Path) -> None:
    root = build_all(phantoms, tmp_path / "dist", "bloodmnist")
    torch.manual_seed(3)
    before = build_model(tiny(root, "bloodmnist")).model.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    torch.manual_seed(3)
    _, fitted = fit(root, tmp_path / "seed", "bloodmnist", method="linear-probe")
    assert fitted.built is not None
    after = fitted.built.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"timm_model.classifier.weight", "timm_model.classifier.bias"}
