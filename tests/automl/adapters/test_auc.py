"""`medmnist_hf.automl.adapters.auc`: the objective of a search equals the package's official AUC."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medmnist_hf.automl
from medmnist_hf.catalog import Task
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check


@pytest.fixture(scope="module")
def auc() -> Any:
    """The module imported from its file, as in an engine's process."""
    path = Path(medmnist_hf.automl.__file__).parent / "adapters" / "auc.py"
    spec = importlib.util.spec_from_file_location("auc", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores_of(columns: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(0).random((60, columns))


def test_it_equals_the_official_auc_for_every_task(auc: Any) -> None:
    rng = np.random.default_rng(1)
    for task, columns in ((Task.BINARY, 2), (Task.MULTI_CLASS, 4), (Task.ORDINAL, 5), (Task.MULTI_LABEL, 3)):
        scores = scores_of(columns)
        if task is Task.BINARY:
            scores[:, 0] = 1 - scores[:, 1]
        truth = rng.integers(0, 2, (60, columns)) if task is Task.MULTI_LABEL else rng.integers(0, columns, 60)
        expected = score(check(truth, scores, task, from_logits=False)).auc
        assert auc.mean_auc(truth, scores) == pytest.approx(expected, abs=1e-12)
        if task is not Task.MULTI_LABEL:
            assert auc.mean_auc(truth[:, None], scores) == auc.mean_auc(truth, scores)


def test_missing_classes_are_ignored(auc: Any) -> None:
    scores = scores_of(3)
    truth = np.arange(60) % 2
    first, second = (
        score(check((truth == label).astype(int), scores[:, label], Task.BINARY, from_logits=False)).auc
        for label in (0, 1)
    )
    assert auc.mean_auc(truth, scores) == pytest.approx((first + second) / 2)
