"""Linear probes and neighbours against scikit-learn and by hand, and the model that holds a probe."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from torch import nn
from transformers import AutoModelForImageClassification

from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.scoring.official import score
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.methods import features as features_module
from medmnist_hf.training.methods.features import NEVER, STRENGTHS, Features, extract, linear_probe, nearest_neighbors
from tests.fixtures.tiny_models import IMAGE_MODELS, pixels, timm_model, vit

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
FOUR = RNG.normal(size=(4, 20)).astype(np.float32)


def batches(samples: int, of: int) -> list[dict[str, torch.Tensor]]:
    images, labels = pixels(samples), torch.arange(samples) % 3
    return [{"pixel_values": images[at : at + of], "labels": labels[at : at + of]} for at in range(0, samples, of)]


def blobs(rows: int, classes: int, width: int = 6, seed: int = 0, apart: float = 1.0) -> Features:
    """Overlapping clouds of points, of features with scales and offsets of their own."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    centers = apart * fixed.normal(size=(classes, width))
    labels = rng.integers(0, classes, rows)
    values = (centers[labels] + rng.normal(size=(rows, width))) * fixed.uniform(0.1, 10, width) + 5
    return Features(values.astype(np.float32), labels)


def findings(rows: int, seed: int = 0) -> Features:
    """Four findings: two that go with features, one never seen, one always."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 5))
    hot = np.stack([values[:, 0] + rng.normal(size=rows) > 0, values[:, 1] > 1, np.zeros(rows), np.ones(rows)], 1)
    return Features(values.astype(np.float32), hot.astype(np.int64))


@pytest.mark.parametrize("kind", IMAGE_MODELS)
def test_extraction_leaves_every_weight_and_statistic_as_it_was(kind: str) -> None:
    model = IMAGE_MODELS[kind]().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = extract(model, batches(7, 3), CPU)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items()) and before.keys() == after.keys()
    assert found.values.dtype == np.float32 and found.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    again = extract(model, batches(7, 7), CPU)
    assert np.allclose(found.values, again.values, atol=1e-5)


def test_extraction_turns_dropout_off() -> None:
    model = timm_model("test_resnet", drop_rate=0.9).train()
    assert np.array_equal(extract(model, batches(4, 4), CPU).values, extract(model, batches(4, 4), CPU).values)


def test_progress_is_for_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = vit()
    extract(model, batches(4, 2), CPU, progress="features of train")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take anything for a terminal
    extract(model, batches(4, 2), CPU, progress="features of train")
    shown = capsys.readouterr()
    assert "features of train" in shown.err and not shown.out
    extract(model, batches(4, 2), CPU)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_probe_is_scikit_learns_at_the_strength_that_validation_likes_best(classes: int, balanced: bool) -> None:
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
        aucs[strength] = score(validation.labels, expected[strength], task).auc
    probe = linear_probe(train, validation, task, classes, balanced=balanced)
    assert probe.tried == pytest.approx(aucs, abs=1e-4)
    assert probe.strength == min(s for s in STRENGTHS if probe.tried[s] == max(probe.tried.values()))
    scores = to_scores(probe.logits(validation), "cross-entropy")
    assert np.allclose(scores, expected[probe.strength], atol=1e-3)


def test_findings_are_one_regression_each_and_constant_ones_are_known() -> None:
    train, validation = findings(200), findings(100, seed=1)
    probe = linear_probe(train, validation, Task.MULTI_LABEL, 4)
    scores = to_scores(probe.logits(validation), "bce")
    mean, spread = train.values.mean(0, dtype=float), train.values.std(0, dtype=float)
    for at in (0, 1):
        solver = LogisticRegression(C=probe.strength, tol=1e-8).fit(
            (train.values - mean) / spread, train.labels[:, at]
        )
        assert np.allclose(scores[:, at], solver.predict_proba((validation.values - mean) / spread)[:, 1], atol=1e-3)
    assert (scores[:, 2] < 1e-9).all() and (scores[:, 3] > 1 - 1e-9).all()


@pytest.mark.parametrize("shown", [(0, 2, 3), (1, 3)])
def test_a_class_that_train_never_shows_is_never_predicted(shown: tuple[int, ...]) -> None:
    train, validation = blobs(200, 4), blobs(80, 4, seed=1)
    kept = np.isin(train.labels, shown)
    probe = linear_probe(Features(train.values[kept], train.labels[kept]), validation, Task.ORDINAL, 4)
    scores = to_scores(probe.logits(validation), "cross-entropy")
    absent = [at for at in range(4) if at not in shown]
    assert (scores[:, absent] < 2 * np.exp(-NEVER)).all()
    seen = np.isin(validation.labels, shown)
    assert (scores.argmax(1)[seen] == validation.labels[seen]).mean() > 0.5
    assert np.allclose(scores.sum(1), 1)


def test_balanced_classes_find_the_rare_one() -> None:
    train, validation = blobs(2000, 2, apart=0.4), blobs(500, 2, seed=1, apart=0.4)
    kept = (train.labels == 0) | (np.arange(2000) % 20 == 0)
    rare = Features(train.values[kept], train.labels[kept])
    found = {}
    for balanced in (False, True):
        probe = linear_probe(rare, validation, Task.BINARY, 2, balanced=balanced)
        found[balanced] = (probe.logits(validation)[:, 1] > 0)[validation.labels == 1].mean()
    assert found[True] > found[False] + 0.2


def test_constant_features_have_no_weight_and_tiny_ones_count() -> None:
    train, validation = blobs(200, 3), blobs(60, 3, seed=1)
    plain = linear_probe(train, validation, Task.MULTI_CLASS, 3)

    def widened(features: Features, seed: int) -> Features:
        wavering = 1000 + 1e-4 * np.random.default_rng(seed).normal(size=(len(features.values), 1))
        constant = np.full((len(features.values), 1), 7.5)
        values = np.hstack([features.values[:, :3], wavering, constant, features.values[:, 3:] * 1e-12])
        return Features(values.astype(np.float32), features.labels)

    probe = linear_probe(widened(train, 0), widened(validation, 1), Task.MULTI_CLASS, 3)
    assert (probe.weight[:, 3:5] == 0).all() and probe.tried == pytest.approx(plain.tried, abs=1e-3)
    assert np.allclose(probe.logits(widened(validation, 1)), plain.logits(validation), atol=1e-2)


def test_equal_strengths_go_to_the_stronger_penalty_and_features_that_say_nothing_are_no_error() -> None:
    same = Features(np.ones((30, 4), np.float32), np.arange(30) % 3)
    probe = linear_probe(same, same, Task.MULTI_CLASS, 3)
    assert probe.strength == STRENGTHS[0] and set(probe.tried.values()) == {0.5}


def test_what_cannot_be_probed_is_one_line() -> None:
    train = blobs(40, 3)
    alone = Features(train.values, np.full(40, 2))
    with pytest.raises(TrainingError, match="train has class 2 alone"):
        linear_probe(alone, train, Task.MULTI_CLASS, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TrainingError, match="cannot choose the probe on validation: no class"):
            linear_probe(blobs(40, 2), Features(train.values, np.zeros(40, np.int64)), Task.BINARY, 2)
    with pytest.raises(TrainingError, match="cannot choose the probe on validation: "):
        linear_probe(train, Features(train.values, train.labels + 5), Task.MULTI_CLASS, 3)


def test_a_solver_that_does_not_converge_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = blobs(300, 4), blobs(90, 4, seed=1)
    whole = linear_probe(train, validation, Task.MULTI_CLASS, 4)
    monkeypatch.setattr(features_module, "MOST_STEPS", 15)
    short = linear_probe(train, validation, Task.MULTI_CLASS, 4)
    assert 0 < len(short.tried) < len(STRENGTHS)
    assert short.tried == pytest.approx({s: whole.tried[s] for s in short.tried})
    monkeypatch.setattr(features_module, "MOST_STEPS", 1)
    with pytest.raises(TrainingError, match="did not converge in 1 steps"):
        linear_probe(train, validation, Task.MULTI_CLASS, 4)


@pytest.mark.parametrize("kind", ["timm CNN", "timm, classifier a convolution", "paper", "ViT", "ResNet", "DINOv2"])
def test_the_saved_model_predicts_the_scores_of_the_probe(kind: str, tmp_path: Path) -> None:
    model = IMAGE_MODELS[kind]()
    features = extract(model, batches(30, 10), CPU)
    probe = linear_probe(features, features, Task.MULTI_CLASS, 3)
    saved: Any = features_module.with_classifier(model, probe.weight, probe.bias)
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
    made: nn.Module = model
    return made


@pytest.mark.parametrize("make", [lambda: vit(4), without_bias])
def test_a_classifier_of_another_form_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(TrainingError, match="classifier of ViTForImageClassification cannot hold"):
        features_module.with_classifier(make(), np.zeros((3, 16)), np.zeros(3))


@pytest.mark.parametrize("task", [Task.MULTI_CLASS, Task.MULTI_LABEL])
def test_neighbours_vote_as_scikit_learn_finds_them(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    train, queries = blobs(200, 4), blobs(50, 4, seed=1)
    hot = np.eye(4, dtype=np.int64)[train.labels]
    if task is Task.MULTI_LABEL:
        hot = RNG.integers(0, 2, (200, 4))
        train = Features(train.values, hot)
    distances, places = NearestNeighbors(n_neighbors=9, metric="cosine").fit(train.values).kneighbors(queries.values)
    votes = np.exp((1 - distances) / 0.07)
    expected = np.einsum("nk,nkc->nc", votes, hot[places]) / votes.sum(1, keepdims=True)
    assert np.allclose(nearest_neighbors(train, queries, task, 4, 9), expected, atol=1e-4)
    monkeypatch.setattr(features_module, "BLOCK", 700)  # three queries at once
    assert np.allclose(nearest_neighbors(train, queries, task, 4, 9), expected, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_scores_do_not_depend_on_the_order_of_train_even_with_duplicates(order: list[int], neighbors: int) -> None:
    """Four images, each three times under different labels."""
    values = np.repeat(FOUR, 3, 0)
    labels = np.array([0, 1, 2, 0, 0, 1, 2, 2, 2, 1, 0, 0])
    queries = Features(FOUR, labels[:4])
    plain = nearest_neighbors(Features(values, labels), queries, Task.MULTI_CLASS, 3, neighbors)
    shuffled = nearest_neighbors(Features(values[order], labels[order]), queries, Task.MULTI_CLASS, 3, neighbors)
    assert np.allclose(plain, shuffled, atol=1e-5) and np.allclose(plain.sum(1), 1)
    if neighbors <= 3:
        assert np.allclose(plain[0], 1 / 3, atol=1e-5) and np.allclose(plain[1], [2 / 3, 1 / 3, 0], atol=1e-5)


def test_features_that_are_all_zero_or_alike_give_the_shares_of_train() -> None:
    labels = np.array([0, 0, 0, 1])
    for values in (np.zeros((4, 3), np.float32), np.full((4, 3), 2.0, np.float32)):
        train = Features(values, labels)
        assert np.allclose(nearest_neighbors(train, train, Task.BINARY, 2, 1), [[0.75, 0.25]] * 4)


def test_more_neighbours_than_train_samples_are_refused() -> None:
    with pytest.raises(TrainingError, match="neighbors is 11 but train has 10 samples: take fewer"):
        nearest_neighbors(blobs(10, 2), blobs(3, 2), Task.BINARY, 2, 11)
