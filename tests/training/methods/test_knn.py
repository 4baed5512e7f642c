"""kNN scores against scikit-learn and manual examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from medmnist_hf.catalog import Task
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods import knn
from medmnist_hf.training.methods.features import Features
from medmnist_hf.training.methods.knn import nearest_neighbors
from tests.fixtures.features import blobs

RNG = np.random.default_rng(0)
FOUR = RNG.normal(size=(4, 20)).astype(np.float32)


@pytest.mark.parametrize("task", [Task.MULTI_CLASS, Task.MULTI_LABEL])
def test_votes_match_the_neighbors_of_scikit_learn(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    train, queries = blobs(200, 4), blobs(50, 4, seed=1)
    hot = np.eye(4, dtype=np.int64)[train.labels]
    if task is Task.MULTI_LABEL:
        hot = RNG.integers(0, 2, (200, 4))
        train = Features(train.values, hot)
    distances, indices = NearestNeighbors(n_neighbors=9, metric="cosine").fit(train.values).kneighbors(queries.values)
    votes = np.exp((1 - distances) / 0.07)
    expected = np.einsum("nk,nkc->nc", votes, hot[indices]) / votes.sum(1, keepdims=True)
    assert np.allclose(nearest_neighbors(train, queries, task, 4, 9), expected, atol=1e-4)
    monkeypatch.setattr(knn, "BLOCK", 700)  # three queries at a time
    assert np.allclose(nearest_neighbors(train, queries, task, 4, 9), expected, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_scores_do_not_depend_on_the_order_of_train_even_with_duplicates(order: list[int], neighbors: int) -> None:
    """Four images, each repeated three times with different labels."""
    values = np.repeat(FOUR, 3, 0)
    labels = np.array([0, 1, 2, 0, 0, 1, 2, 2, 2, 1, 0, 0])
    queries = Features(FOUR, labels[:4])
    plain = nearest_neighbors(Features(values, labels), queries, Task.MULTI_CLASS, 3, neighbors)
    shuffled = nearest_neighbors(Features(values[order], labels[order]), queries, Task.MULTI_CLASS, 3, neighbors)
    assert np.allclose(plain, shuffled, atol=1e-5) and np.allclose(plain.sum(1), 1)
    if neighbors <= 3:
        assert np.allclose(plain[0], 1 / 3, atol=1e-5) and np.allclose(plain[1], [2 / 3, 1 / 3, 0], atol=1e-5)


def test_constant_features_give_the_class_frequencies_of_train() -> None:
    labels = np.array([0, 0, 0, 1])
    for values in (np.zeros((4, 3), np.float32), np.full((4, 3), 2.0, np.float32)):
        train = Features(values, labels)
        assert np.allclose(nearest_neighbors(train, train, Task.BINARY, 2, 1), [[0.75, 0.25]] * 4)


def test_more_neighbors_than_train_samples_are_refused() -> None:
    with pytest.raises(TrainingError, match="neighbors is 11 but train has 10 samples: use fewer"):
        nearest_neighbors(blobs(10, 2), blobs(3, 2), Task.BINARY, 2, 11)
