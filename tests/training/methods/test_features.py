"""Frozen features from a store give the same results as those computed in the run; the ordinal loss is excluded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import BuildError, TrainingError
from medmnist_hf.training.data.few_labels import validation_rows
from medmnist_hf.training.embedding.extractor import Extractor
from medmnist_hf.training.methods.features import COMPUTED, extract, split_features
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.registry import method as find_method
from tests.conftest import Phantoms
from tests.fixtures.methods import CPU, fit, run_of
from tests.fixtures.runs import build_all, tiny

FLAGS = ("breastmnist", "bloodmnist", "retinamnist", "chestmnist", "adrenalmnist3d")


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("features") / "dist", *FLAGS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny network; random ones would differ from seed to seed."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("flag", "method"),
    [
        ("breastmnist", "linear-probe"),
        ("chestmnist", "linear-probe"),
        ("bloodmnist", "knn"),
        ("retinamnist", "knn"),
        ("adrenalmnist3d", "knn"),
    ],
)
def test_a_store_gives_the_live_scores(flag: str, method: str, root: Path, checkpoint: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": method, "checkpoint": str(checkpoint)}
    options["intensity_scale"] = flag == "adrenalmnist3d"
    _, live = fit(root, tmp_path / "live", flag, **options)
    stores = str(tmp_path / "stores")
    _, made = fit(root, tmp_path / "made", flag, **options, features=stores)
    _, read = fit(root, tmp_path / "read", flag, **options, features=stores)
    for split, scores in live.scores.items():
        assert np.array_equal(scores, made.scores[split]) and np.array_equal(scores, read.scores[split])
    folder = f"{stores}/{flag}/28-timm-test_efficientnet, float32"
    origins = [result.facts["features"] for result in (live, made, read)]
    assert origins == [COMPUTED, f"written to {folder}", f"read from {folder}"]


@pytest.mark.parametrize("method", ["finetune", "partial", "lora"])
def test_probe_first_reads_a_store(method: str, root: Path, checkpoint: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": method, "checkpoint": str(checkpoint), "probe_first": True}
    _, live = fit(root, tmp_path / "live", "breastmnist", **options)
    _, read = fit(root, tmp_path / "read", "breastmnist", **options, features=str(tmp_path / "stores"))
    assert np.array_equal(live.scores["test"], read.scores["test"])
    assert (tmp_path / "stores/breastmnist/28-timm-test_efficientnet").is_dir()
    assert read.facts["features"].startswith("written to")


def test_the_features_of_a_store_are_the_live_ones(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    recipe = tiny(root, "bloodmnist", method="knn", checkpoint=str(checkpoint))
    run, built = run_of(recipe), build_model(recipe)
    live = split_features(run, built, ["train", "test"])
    stored_run = run_of(tiny(root, "bloodmnist", method="knn", checkpoint=str(checkpoint), features=str(tmp_path)))
    stored = split_features(stored_run, built, ["train", "test"])
    for split, features in live.items():
        assert features.values.tobytes() == stored[split].values.tobytes()
        assert np.array_equal(features.labels, stored[split].labels)
    extractor = Extractor(recipe, built, CPU)
    assert extract(extractor, run, "test").values.tobytes() == live["test"].values.tobytes()


def test_few_labels_are_rows_of_a_store(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "knn", "checkpoint": str(checkpoint), "shots": 2, "few_validation": True}
    recipes = [tiny(root, "bloodmnist", **options), tiny(root, "bloodmnist", **options, features=str(tmp_path))]
    splits = ("train", "validation", "test")
    found = []
    for recipe in recipes:
        run = run_of(recipe)
        few = replace(run, rows=validation_rows(recipe, run.data)).for_seed(1)
        found.append(split_features(few, build_model(recipe), splits))
        assert all(np.array_equal(found[-1][split].labels, few.labels(split)) for split in splits)
    live, stored = found
    assert all(live[split].values.tobytes() == stored[split].values.tobytes() for split in splits)
    assert len(live["train"].values) == 16 and len(live["validation"].values) < len(live["test"].values)


def test_a_store_of_other_weights_is_refused_before_the_run_is_claimed(
    root: Path, checkpoint: Path, tmp_path: Path
) -> None:
    stores = str(tmp_path / "stores")
    fit(root, tmp_path / "a", "breastmnist", method="knn", checkpoint=str(checkpoint), features=stores)
    with pytest.raises(BuildError, match=r"weights of tiny\.safetensors, not the same weights as random"):
        fit(root, tmp_path / "b", "breastmnist", method="knn", features=stores)
    with pytest.raises(BuildError, match=r"image_size 28, not 32.*: give the options that it was made with, make"):
        fit(
            root,
            tmp_path / "c",
            "breastmnist",
            method="knn",
            checkpoint=str(checkpoint),
            image_size=32,
            features=stores,
        )


def test_random_weights_of_another_seed_are_refused_with_a_remedy(root: Path, tmp_path: Path) -> None:
    run, _ = fit(root, tmp_path / "run", "breastmnist", method="knn", features=str(tmp_path / "stores"))
    with pytest.raises(BuildError, match=r"without weights, .* for each seed: give --checkpoint, or leave out"):
        find_method("knn").fit(run, 1, tmp_path / "run")


def test_a_run_on_other_rows_does_not_read_the_store(root: Path, checkpoint: Path, tmp_path: Path) -> None:
    recipe = tiny(root, "breastmnist", method="knn", checkpoint=str(checkpoint), features=str(tmp_path))
    run = run_of(recipe)
    run.data["train"] = Arrays(run.data["train"].images[:5], run.data["train"].labels[:5])
    with pytest.raises(TrainingError, match="has other rows of train than this run"):
        split_features(run, build_model(recipe), ["train"])


def test_the_ordinal_loss_is_refused_for_frozen_features(root: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss ordinal is not for frozen features: use finetune or partial or "):
        fit(root, tmp_path / "seed", "retinamnist", method="knn", loss="ordinal")
