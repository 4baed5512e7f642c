"""`medmnist_hf.training.methods.base`: the scores that methods return, on tiny phantoms of every task."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Phantoms
from tests.fixtures.methods import fit
from tests.fixtures.runs import FLAGS, build_all


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"))


@pytest.mark.parametrize("method", ["finetune", "linear-probe", "knn"])
@pytest.mark.parametrize("dataset", FLAGS)
def test_scores_are_probabilities_for_every_row_and_label(
    root: Path, tmp_path: Path, dataset: str, method: str
) -> None:
    run, fitted = fit(root, tmp_path / "seed", dataset, method=method)
    entry = run.recipe.subset
    assert set(fitted.scores) == {"validation", "test"}
    for split, scores in fitted.scores.items():
        assert scores.shape == (len(run.data[split].labels), len(entry.labels)) and scores.dtype == np.float64
        assert (scores >= 0).all() and (scores <= 1).all()
        if dataset != "chestmnist":
            assert np.allclose(scores.sum(1), 1)


def test_the_test_split_is_not_scored_if_the_recipe_says_so(root: Path, tmp_path: Path) -> None:
    for method in ("finetune", "linear-probe", "knn"):
        _, fitted = fit(root, tmp_path / method, "pneumoniamnist", method=method, test=False)
        assert set(fitted.scores) == {"validation"}
