"""Looking up configs, the flat dictionary of results, and labels of models as class ids."""

import warnings

import numpy as np
import pytest

from medmnist_hf.catalog import Task, subsets
from medmnist_hf.errors import CatalogError, ScoreError
from medmnist_hf.evaluate_module.report import (
    OPTIONS,
    configs,
    decision_accuracy,
    label_ids,
    label_table,
    report,
    resolve,
)
from medmnist_hf.scoring.intervals import intervals
from medmnist_hf.scoring.metrics import metrics
from medmnist_hf.scoring.official import ScoreWarning, score
from medmnist_hf.scoring.predictions import check


def test_configs_are_the_subsets_and_the_tasks() -> None:
    assert len(configs()) == 18 + 4
    for entry in subsets():
        config = resolve(entry.flag.upper())
        assert (config.name, config.task, config.labels) == (entry.flag, entry.task, entry.labels)
        assert config.num_classes == len(entry.labels) == resolve(entry.flag, len(entry.labels)).num_classes
    for task in Task:
        assert resolve(task.official_name) == resolve(task) == resolve(task.value)
    assert resolve("multi-class", 5).num_classes == 5


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        (None, None, "the config is missing: pass a subset such as 'pathmnist', or a task"),
        ("multiclass", None, "unknown subset 'multiclass'.*for other data pass a task"),
        ("multi-class", 1, "num_classes=1: the multi-class task has 2 classes or more"),
        ("multi-class", True, "num_classes=True: pass a whole number"),
        ("multi-class", 2.5, "num_classes=2.5: pass a whole number"),
        ("multi-label", 0, "has 1 finding or more"),
        ("binary-class", 3, "has 2 classes"),
        ("pathmnist", 8, "num_classes=8: pathmnist has 9; leave it out"),
    ],
)
def test_invalid_configs(name: str | None, classes: int | None, message: str) -> None:
    with pytest.raises((CatalogError, ScoreError), match=message) as caught:
        resolve(name, classes)
    assert "\n" not in str(caught.value)


def test_measures_and_intervals_equal_those_of_scoring() -> None:
    rng = np.random.default_rng(0)
    references, scores = rng.integers(0, 5, 90), rng.dirichlet(np.ones(5), 90)
    config = resolve("retinamnist")
    names = ["mae", "auc:*", "quadratic_kappa"]
    result = report(references, scores, config, measures=names, ci=0.8, resamples=40, seed=3)
    plain = score(check(references, scores, config.task))
    extra = metrics(check(references, scores, config.task), names)
    assert list(result)[:9] == ["auc", "acc", "mae", *(f"auc:{at}" for at in range(5)), "quadratic_kappa"]
    assert (result["auc"], result["acc"]) == (plain.auc, plain.acc)
    assert {name: result[name] for name in extra} == extra
    spans = intervals(check(references, scores, config.task), ["auc", "acc", *extra], resamples=40, level=0.8, seed=3)
    for name, interval in spans.items():
        assert (result[f"{name}_low"], result[f"{name}_high"]) == (interval.low, interval.high)
    assert len(result) == 9 * 3
    assert list(report(references, scores, config, measures="macro_f1", ci=False)) == ["auc", "acc", "macro_f1"]
    wide = report(references, scores, config, ci=True, resamples=40, seed=3)
    assert wide["auc_low"] < result["auc_low"]
    with pytest.raises(ScoreError, match="pass a confidence level between 0 and 1"):
        report(references, scores, config, ci=95)
    assert OPTIONS == ("from_logits", "measures", "ci", "resamples", "seed", "absent")


def test_an_absent_class_gives_a_warning() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    config = resolve("fracturemnist3d")
    with pytest.warns(ScoreWarning, match="AUC leaves out class 2: no positive or no negative row among 20"):
        result = report(np.arange(20) % 2, scores, config)
    assert result["auc"] == result["auc"]
    with pytest.warns(ScoreWarning, match="AUC is nan"):
        assert np.isnan(report(np.arange(20) % 2, scores, config, absent="nan")["auc"])
    with pytest.raises(ScoreError, match="pass absent='skip'"):
        report(np.arange(20) % 2, scores, config, absent="raise")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report([0, 0], [[0.9, 0.1, 0], [0.8, 0.1, 0.1]], config)
    assert len(caught) == 1  # a nan gives only one warning


def test_decisions() -> None:
    assert decision_accuracy([0, 1, 2], [0, 2, 2], resolve("multi-class")) == {"acc": 2 / 3}
    assert decision_accuracy(np.array([[3], [1]]), ["LABEL_3", "adipose"], resolve("pathmnist")) == {"acc": 0.5}
    for config, predictions, message in (
        ("chestmnist", [0, 1], "not multi-label decisions"),
        ("pathmnist", [0, 9], "class id out of range; ids run from 0 to 8"),
        (
            "breastmnist",
            [0.2, 0.7],
            r"not class ids \(whole numbers\).*call compute\(references=..., prediction_scores=",
        ),
        ("breastmnist", [0.0, 1.0], "not class ids"),
        ("pathmnist", [[0.0, 1.0], [1.0, 0.0]], "not class ids"),
        ("pathmnist", [], "not class ids"),
        ("pathmnist", [0, "tumor"], "unknown label 'tumor': pathmnist has adipose"),
        ("pathmnist", [0], "2 references but 1 row"),
    ):
        with pytest.raises(ScoreError, match=message):
            decision_accuracy([0, 1], predictions, resolve(config))


def test_labels_of_models_become_columns() -> None:
    config = resolve("fracturemnist3d")
    names = config.labels
    rows = [
        [{"label": names[2], "score": 0.7}, {"label": names[0], "score": 0.2}, {"label": names[1], "score": 0.1}],
        [{"label": names[0], "score": 0.5}, {"label": names[1], "score": 0.3}, {"label": names[2], "score": 0.2}],
    ]
    assert label_table(rows, config).tolist() == [[0.2, 0.1, 0.7], [0.5, 0.3, 0.2]]
    swapped = {names[0]: 2, names[1]: 1, names[2]: 0}
    assert label_table(rows, config, swapped).tolist() == [[0.7, 0.1, 0.2], [0.2, 0.3, 0.5]]
    assert label_ids(["LABEL_1", 0], resolve("multi-class")) == [1, 0]
    with pytest.raises(ScoreError, match="do not name each class once"):
        label_table(rows, config, dict.fromkeys(names, 0))
    with pytest.raises(ScoreError, match=r"unknown label 'cat'.*pass label_mapping"):
        label_table([[{"label": "cat", "score": 1.0}]], config)
    with pytest.raises(ScoreError, match="no predictions"):
        label_table([], config)
