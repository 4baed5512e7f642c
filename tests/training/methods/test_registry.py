"""`medmnist_hf.training.methods.registry`: every method on tiny phantoms of the tasks it is for, to its scores."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medmnist_hf.catalog import SPLITS
from medmnist_hf.data.arrays import load_arrays
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.methods.registry import METHODS, Fitted, Job
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.recipe import TYPES
from tests.conftest import Phantoms
from tests.fixtures.runs import FLAGS, build_all, tiny


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_all(phantoms, tmp_path_factory.mktemp("dist"))


def fit(root: Path, folder: Path, dataset: str, **options: Any) -> tuple[Job, Fitted]:  # noqa: ANN401
    recipe = tiny(root, dataset, **options)
    data = {split: load_arrays(dataset, 28, split, root) for split in SPLITS}
    job = Job(recipe, data, torch.device("cpu"), quiet=True)
    folder.mkdir(exist_ok=True)
    return job, METHODS[recipe.method](job, 0, folder)


def test_every_method_of_a_recipe_has_its_function() -> None:
    assert set(METHODS) == set(get_args(TYPES["method"]))


@pytest.mark.parametrize("method", ["finetune", "linear-probe", "knn"])
@pytest.mark.parametrize("dataset", FLAGS)
def test_scores_are_probabilities_of_every_row_and_label(
    root: Path, tmp_path: Path, dataset: str, method: str
) -> None:
    job, fitted = fit(root, tmp_path / "seed", dataset, method=method)
    entry = job.recipe.subset
    assert set(fitted.scores) == {"validation", "test"}
    for split, scores in fitted.scores.items():
        assert scores.shape == (len(job.data[split].labels), len(entry.labels)) and scores.dtype == np.float64
        assert (scores >= 0).all() and (scores <= 1).all()
        if dataset != "chestmnist":
            assert np.allclose(scores.sum(1), 1)


def test_lora_trains_few_weights_and_leaves_a_plain_model(root: Path, tmp_path: Path) -> None:
    _, fitted = fit(root, tmp_path, "bloodmnist", method="lora", model="timm/test_vit", image_size=32, lora_rank=2)
    assert 0 < fitted.facts["trained_parameters"] < fitted.facts["parameters"]
    assert fitted.built is not None
    assert not [name for name in fitted.built.model.state_dict() if "lora" in name]


def test_the_frozen_network_stays_as_it_was_but_for_its_classifier(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = build_model(tiny(root, "bloodmnist")).model.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    torch.manual_seed(3)
    _, fitted = fit(root, tmp_path, "bloodmnist", method="linear-probe")
    assert fitted.built is not None
    after = fitted.built.model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"timm_model.classifier.weight", "timm_model.classifier.bias"}


def test_without_test_its_scores_are_not_made(root: Path, tmp_path: Path) -> None:
    for method in ("finetune", "linear-probe", "knn"):
        _, fitted = fit(root, tmp_path / method, "pneumoniamnist", method=method, test=False)
        assert set(fitted.scores) == {"validation"}


def test_a_training_leaves_checkpoints_to_go_on_from(root: Path, tmp_path: Path) -> None:
    fit(root, tmp_path, "pneumoniamnist", epochs=2)
    (last, *_) = sorted(tmp_path.glob("checkpoints/checkpoint-*"), reverse=True)
    assert load_file(last / "model.safetensors")


@pytest.mark.parametrize("method", ["finetune", "lora"])
@pytest.mark.parametrize("dataset", ["chestmnist", "bloodmnist"])
def test_training_can_start_from_a_probe(root: Path, tmp_path: Path, dataset: str, method: str) -> None:
    """At a rate of next to nothing, training leaves the probe as it was."""
    options: dict[str, Any] = {"model": "timm/test_vit", "image_size": 32}
    torch.manual_seed(3)
    _, probe = fit(root, tmp_path / "probe", dataset, method="linear-probe", **options)
    torch.manual_seed(3)
    options |= {"method": method, "probe_first": True, "epochs": 1, "learning_rate": 1e-12}
    _, fitted = fit(root, tmp_path / "trained", dataset, **options)
    for split, scores in probe.scores.items():
        assert np.allclose(fitted.scores[split], scores, atol=1e-4)


def test_the_ordinal_loss_is_not_for_frozen_features(root: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss ordinal is not for frozen features: use finetune or lora"):
        fit(root, tmp_path, "retinamnist", method="knn", loss="ordinal")
