"""`medmnist_hf.automl.adapters.auc`: what a search maximizes is the AUC of this package."""

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
    """The module as an engine's process imports it: from its file."""
    path = Path(medmnist_hf.automl.__file__).parent / "adapters" / "auc.py"
    spec = importlib.util.spec_from_file_location("auc", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores_of(columns: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(0).random((60, columns))


def test_it_is_the_auc_of_every_task(auc: Any) -> None:
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


def test_classes_that_are_not_there_do_not_count(auc: Any) -> None:
    scores = scores_of(3)
    truth = np.arange(60) % 2
    first, second = (
        score(check((truth == at).astype(int), scores[:, at], Task.BINARY, from_logits=False)).auc for at in (0, 1)
    )
    assert auc.mean_auc(truth, scores) == pytest.approx((first + second) / 2)
