"""`medmnist_hf.training.methods.base`: the scores that methods return, on tiny phantoms of every task."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medmnist_hf.sampling.rows import ChosenRows, choose_rows
from medmnist_hf.training.registry import method as find_method
from tests.conftest import Phantoms
from tests.fixtures.methods import fit, run_of
from tests.fixtures.runs import FLAGS, build_all, tiny


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


def test_a_seed_has_its_train_rows_and_a_record_of_them(root: Path) -> None:
    whole = run_of(tiny(root, "bloodmnist"))
    assert whole.for_seed(3).rows == {} and whole.for_seed(3).record == whole.record
    run = run_of(tiny(root, "bloodmnist", shots=2)).for_seed(3)
    rows = choose_rows(run.data["train"].labels, shots=2, seed=3)
    assert run.record.chosen == {"train": ChosenRows.of(rows)}
    assert np.array_equal(run.labels("train"), run.data["train"].labels[rows])
    assert np.array_equal(run.images("train"), run.data["train"].images[rows])
    assert run.dataset("train").labels.tolist() == run.labels("train").tolist()
    assert len(run.dataset("test")) == len(run.labels("test")) == len(run.images("test")) == run.record.rows["test"]


@pytest.mark.parametrize("method", ["finetune", "partial", "linear-probe", "knn"])
@pytest.mark.parametrize("dataset", FLAGS)
def test_methods_learn_from_few_labels_alone(root: Path, tmp_path: Path, dataset: str, method: str) -> None:
    """Images of other rows and their labels can be anything: blanking them changes no score."""
    options = {"neighbors": 3} if method == "knn" else {}
    recipe = tiny(root, dataset, method=method, fraction=0.34, **options)
    whole = run_of(recipe)
    run = whole.for_seed(0)
    chosen = run.rows["train"]
    assert 0 < len(chosen) < 30
    arrays = whole.data["train"]
    blanked = arrays._replace(images=np.zeros_like(arrays.images), labels=np.zeros_like(arrays.labels))
    blanked.images[chosen], blanked.labels[chosen] = arrays.images[chosen], arrays.labels[chosen]
    scores = []
    for name, data in (("a", whole.data), ("b", whole.data | {"train": blanked})):
        (tmp_path / name).mkdir()
        torch.manual_seed(0)
        few = replace(run, data=data)
        scores.append(find_method(method).fit(few, 0, tmp_path / name).scores)
    for split in ("validation", "test"):
        assert np.array_equal(scores[0][split], scores[1][split])
        assert len(scores[0][split]) == run.record.rows[split]
