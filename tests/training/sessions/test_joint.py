"""`medmnist_hf.training.sessions.joint`: one network on several subsets, scored on each, with their mean."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subsets
from medmnist_hf.errors import TrainingError
from medmnist_hf.evaluation.prediction_files import files_of_split, read_predictions
from medmnist_hf.joint.scores import score_many
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.joint.results import JointResult, read_joint_results, read_joint_seed
from medmnist_hf.training.methods.trainer import RecipeTrainer
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.models.saving import load_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import RESULTS_NAME, read_results
from medmnist_hf.training.running import run, run_joint
from medmnist_hf.training.sessions import session
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all, tiny

NAMES = "breastmnist,bloodmnist,retinamnist"


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_all(phantoms, tmp_path_factory.mktemp("dist"), *NAMES.split(","))
    for flag in NAMES.split(","):
        write_card(folder / flag)
    return folder


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "can_draw", lambda: False)


def joint_logits(recipe: Recipe, folder: Path, dataset: Any) -> Any:
    """The outputs of the saved model for a data set of `load_many`, without the code of the run."""
    built = build_model(recipe)
    transform: BatchTransform = input_transform(recipe, built.mean, built.std, built.image_size)
    images = np.stack([np.asarray(image) for image in dataset["image"]])
    inputs = transform({"images": torch.from_numpy(images), "labels": torch.zeros(len(images))})["pixel_values"]
    with torch.inference_mode():
        return load_model(folder).eval()(pixel_values=inputs).logits.numpy()


@pytest.mark.parametrize(
    "options", [{"loss": "ordinal"}, {"joint_head": True, "balance": True, "class_weights": True}]
)
def test_the_scores_are_those_of_the_saved_model_on_each_subset(
    root: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    recipe = tiny(root, NAMES, seeds=(0, 3) if "joint_head" in options else (0,), **options)
    result = run_joint(recipe, tmp_path, quiet=True)
    assert read_joint_results(tmp_path / RESULTS_NAME).to_json() == result.to_json()
    assert list(result.subsets) == NAMES.split(",")
    for seed in result.seeds:
        aucs = [part.test.auc for part in seed.subsets.values()]
        assert seed.test.auc == pytest.approx(np.mean(aucs)) and seed.facts.epochs == 1
        for flag, part in seed.subsets.items():
            (path,) = files_of_split(tmp_path / f"seed-{seed.seed}" / flag, "test")
            predictions = read_predictions(path)
            assert len(predictions.index) == part.data.rows["test"] and not part.facts.names
    assert list(result.mean.validation) == ["auc", "acc"]
    if "joint_head" not in options:  # one output fewer than classes for the grades
        model: Any = build_model(recipe).model
        names = list(model.config.id2label.values())
        assert len(names) == 2 + 8 + 4 and names[-1] == "retinamnist/above 3" and names[2] == "bloodmnist/basophil"
        return
    assert result.mean.ensemble is not None
    ensemble = result.subsets["bloodmnist"].ensemble
    assert ensemble is not None and len(list((tmp_path / "bloodmnist").glob("*ensemble*.csv"))) == 2
    many = medmnist_hf.load_many(NAMES, split="test", root=root, as_rgb=True)
    score = score_many(joint_logits(recipe, tmp_path / "seed-0" / "best", many), many, from_logits=True)
    first = result.seeds[0]
    assert score.auc == pytest.approx(first.test.auc, abs=1e-6) and score.acc == pytest.approx(first.test.acc)
    assert {flag: one.auc for flag, one in score.scores.items()} == pytest.approx(
        {flag: part.test.auc for flag, part in first.subsets.items()}, abs=1e-6
    )


@pytest.mark.parametrize("method", ["partial", pytest.param("lora", marks=pytest.mark.slow)])
def test_an_interrupted_run_on_few_labels_resumes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    options: dict[str, Any] = {"epochs": 2, "shots": 2, "balance": method == "partial"}
    recipe = tiny(root, "breastmnist,bloodmnist", method=method, test=False, **options)
    whole = run_joint(recipe, tmp_path / "whole", quiet=True)
    save = RecipeTrainer._save_checkpoint

    def save_and_stop(trainer: RecipeTrainer, *args: Any) -> None:
        save(trainer, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RecipeTrainer, "_save_checkpoint", save_and_stop)
        run_joint(recipe, tmp_path / "resumed", quiet=True)
    assert not (tmp_path / "resumed" / RESULTS_NAME).exists()
    resumed = run_joint(recipe, tmp_path / "resumed", quiet=True)
    assert resumed.seeds[0].validation == whole.seeds[0].validation and not resumed.mean.test
    assert {flag: part.data.chosen["train"].count for flag, part in resumed.seeds[0].subsets.items()} == {
        "breastmnist": 4,
        "bloodmnist": 16,
    }
    models = [load_file(tmp_path / name / "best" / "model.safetensors") for name in ("whole", "resumed")]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())
    seed = read_joint_seed(tmp_path / "resumed" / "seed-0")
    assert seed is not None and seed.to_json() == resumed.seeds[0].to_json()
    with pytest.raises(TrainingError, match=r"holds a run of another recipe \(dataset breastmnist,bloodmnist -> "):
        run(tiny(root, "breastmnist"), tmp_path / "resumed", quiet=True)
    with pytest.raises(TrainingError, match="is of a run on several subsets"):
        read_results(tmp_path / "resumed" / RESULTS_NAME)


def test_what_only_one_subset_can_have_is_refused_before_anything_is_written(root: Path, tmp_path: Path) -> None:
    recipe = tiny(root, NAMES)
    with pytest.raises(TrainingError, match="names several subsets: use run_joint"):
        run(recipe, tmp_path / "run")
    with pytest.raises(TrainingError, match="mixup is only for one subset: leave it out"):
        run_joint(tiny(root, NAMES, mixup=0.2), tmp_path / "run")
    with pytest.raises(TrainingError, match="breastmnist is only for one subset: use run"):
        run_joint(tiny(root, "breastmnist"), tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_all_twelve_2d_subsets_train_one_epoch(phantoms: Phantoms, tmp_path: Path) -> None:
    flags = [entry.flag for entry in subsets() if entry.ndim == 2]
    build_all(phantoms, tmp_path / "dist", *flags)
    result: JointResult = run_joint(tiny(tmp_path / "dist", "all-2d"), tmp_path / "run", quiet=True)
    assert list(result.subsets) == flags and len(flags) == 12
    accuracies = [part.test.acc.mean for part in result.subsets.values()]
    assert result.mean.test.acc.mean == pytest.approx(np.mean(accuracies)) and result.seeds[0].facts.epochs == 1
