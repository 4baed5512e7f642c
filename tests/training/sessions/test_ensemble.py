"""`medmnist_hf.training.sessions.ensemble`: the mean of the seeds' prediction files, scored by the official metric."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import TrainingError
from medmnist_hf.evaluation.prediction_files import read_predictions
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.methods.base import Run
from medmnist_hf.training.recipe import make_recipe
from medmnist_hf.training.sessions.ensemble import ensemble, write_scores
from tests.fixtures.benchmarks import data_of

RNG = np.random.default_rng(0)
ROWS = {"train": 4, "validation": 30, "test": 50}


def run_of(**options: bool) -> Run:
    """A run on random images of five classes."""
    data = {split: Arrays(np.zeros((rows, 28, 28, 3), np.uint8), np.arange(rows) % 5) for split, rows in ROWS.items()}
    recipe = make_recipe({"dataset": "retinamnist", **options})
    return Run(recipe, data, data_of(recipe, rows=ROWS), torch.device("cpu"), quiet=True)


def write_random_scores(run: Run, folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Write random scores as the prediction files of a seed."""
    folder.mkdir(exist_ok=True)
    scores = {split: RNG.dirichlet(np.ones(5), ROWS[split]) for split in run.scored}
    for split, values in scores.items():
        write_scores(run, folder, split, values, f"seed{seed}")
    return scores


def test_the_ensemble_averages_the_scores_of_the_seeds(tmp_path: Path) -> None:
    run, folders = run_of(), {seed: tmp_path / f"seed-{seed}" for seed in (0, 3)}
    first, second = (write_random_scores(run, folder, seed) for seed, folder in folders.items())
    result = ensemble(run, folders, tmp_path)
    assert result is not None
    for split in ("validation", "test"):
        mean = (first[split] + second[split]) / 2
        exact = score(check(run.data[split].labels, mean, run.recipe.subset.task, from_logits=False))
        measures = result.test if split == "test" else result.validation
        assert (measures.auc, measures.acc) == (exact.auc, exact.acc)
        (path,) = tmp_path.glob(f"retinamnist_{split.removesuffix('idation')}_*@resnet18_finetune_ensemble.csv")
        assert np.array_equal(read_predictions(path).scores, mean)
    assert result.test["auc_low"] < result.test.auc < result.test["auc_high"]
    assert list(result.per_class) == list(run.recipe.subset.labels)


def test_a_single_seed_gives_no_ensemble(tmp_path: Path) -> None:
    assert ensemble(run_of(), {0: tmp_path}, tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_without_the_test_split_only_validation_is_scored(tmp_path: Path) -> None:
    run, folders = run_of(test=False), {seed: tmp_path / f"seed-{seed}" for seed in (0, 1)}
    for seed, folder in folders.items():
        write_random_scores(run, folder, seed)
    result = ensemble(run, folders, tmp_path)
    assert result is not None and result.test == {} and result.validation.auc > 0


def test_new_scores_replace_earlier_ones(tmp_path: Path) -> None:
    run = run_of()
    (tmp_path / "notes.csv").write_text("kept")
    write_random_scores(run, tmp_path, 0)
    later = write_random_scores(run, tmp_path, 0)
    files = sorted(path for path in tmp_path.glob("retinamnist_*.csv"))
    assert len(files) == 2 and (tmp_path / "notes.csv").exists()
    assert np.array_equal(read_predictions(files[0]).scores, later["test"])


def test_missing_predictions_of_a_seed_are_a_one_line_error(tmp_path: Path) -> None:
    run, folders = run_of(), {seed: tmp_path / f"seed-{seed}" for seed in (0, 1)}
    write_random_scores(run, folders[0], 0)
    folders[1].mkdir()
    with pytest.raises(TrainingError, match="seed-1 has 0 prediction files of validation instead of one: remove"):
        ensemble(run, folders, tmp_path)


@pytest.mark.parametrize("provenance", Provenance)
def test_the_name_of_a_prediction_file_ends_in_the_provenance(tmp_path: Path, provenance: Provenance) -> None:
    run = run_of()
    run = replace(run, record=data_of(run.recipe, provenance, ROWS))
    write_random_scores(run, tmp_path / "one", 0)
    expected = "resnet18_finetune_seed0" + ("" if provenance.comparable else f"-{provenance.value}")
    assert {read_predictions(path).run for path in (tmp_path / "one").iterdir()} == {expected}
