"""The folder of a run: when it can be used or replaced, and its link to the published model."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.errors import TrainingError
from medmnist_hf.training.recipe import Recipe, make_recipe
from medmnist_hf.training.results import RESULTS_NAME, SEED_RESULT_NAME
from medmnist_hf.training.run_folder import RunFolder, default_folder, differences, predictions_name, seed_folder
from tests.fixtures.benchmarks import data_of


def recipe_of(**options: Any) -> Recipe:
    return make_recipe({"dataset": "breastmnist", **options})


def claimed(out: Path, recipe: Recipe) -> RunFolder:
    """The folder of a run that has begun."""
    folder = RunFolder(out, recipe)
    folder.check(data_of(recipe))
    folder.claim(data_of(recipe))
    return folder


def test_the_default_folder_names_the_configuration() -> None:
    options: dict[str, Any] = {"dataset": "breastmnist", "model": "timm/resnet18/", "method": "knn"}
    folder = default_folder(make_recipe(options))
    assert re.fullmatch("runs/breastmnist-28-timm-resnet18-knn-[0-9a-f]{8}", str(folder))
    assert folder == default_folder(make_recipe(options | {"seeds": [1, 2]}))
    trained = {"dataset": "breastmnist"}
    logged = make_recipe(trained | {"report_to": "tensorboard"})
    assert default_folder(make_recipe(trained)) == default_folder(logged), "a tracker does not affect training"
    assert folder != default_folder(make_recipe(options | {"neighbors": 3})), "configurations do not share a folder"


def test_differences_name_both_values() -> None:
    first, second = (
        make_recipe({"dataset": "breastmnist", **changed}) for changed in ({}, {"epochs": 1, "root": "dist"})
    )
    assert differences(first, second) == "root none -> dist, epochs 100 -> 1"
    assert differences(first, make_recipe({"dataset": "breastmnist", "pretrained": False})) == "pretrained yes -> no"
    assert not differences(first, make_recipe({"dataset": "breastmnist", "seeds": [3], "report_to": "wandb"}))


def test_a_folder_without_results_can_be_used_for_another_recipe(tmp_path: Path) -> None:
    out, other = tmp_path / "run", recipe_of(epochs=4)
    claimed(out, recipe_of(epochs=3))
    seed_folder(out, 0).mkdir()
    claimed(out, other)
    assert make_recipe({}, config=out / "recipe.yaml") == other
    (out / "recipe.yaml").write_text("damaged: [")
    claimed(out, other)


@pytest.mark.parametrize("file", [RESULTS_NAME, f"seed-3/{SEED_RESULT_NAME}", "seed-3/checkpoints/checkpoint-1"])
def test_results_of_another_recipe_are_replaced_only_with_force(tmp_path: Path, file: str) -> None:
    out, first, second = tmp_path / "run", recipe_of(), recipe_of(epochs=4, model="timm/resnet18")
    claimed(out, first)
    (out / file).parent.mkdir(parents=True, exist_ok=True)
    (out / file).write_text("a result")
    (out / "mine.txt").write_text("a note")
    (out / "breastmnist_test_[AUC]0.900_[ACC]0.900@resnet18_finetune_ensemble.csv").touch()
    claimed(out, first)
    message = (
        r"run holds a run of another recipe \(model resnet18 -> timm/resnet18, epochs 100 -> 4\): give --force to"
    )
    with pytest.raises(TrainingError, match=message):
        RunFolder(out, second).check(data_of(second))
    assert (out / file).exists()
    forced = RunFolder(out, second, force=True)
    forced.check(data_of(second))
    assert (out / file).exists(), "checks remove nothing"
    forced.claim(data_of(second))
    assert sorted(path.name for path in out.iterdir()) == ["data.json", "mine.txt", "recipe.yaml"]


def test_the_link_to_the_best_model_survives_moving_and_copying(tmp_path: Path) -> None:
    out = tmp_path / "run"
    folder = claimed(out, recipe_of())
    folder.link_best(0)
    assert not (out / "best").exists(), "there is no link to a seed without a model"
    for seed in (0, 1):
        (model := seed_folder(out, seed) / "best").mkdir(parents=True)
        (model / "weights").write_text(str(seed))
        folder.link_best(seed)
        assert (out / "best" / "weights").read_text() == str(seed)
    assert (out / "best").is_symlink()
    for symlinks in (True, False):  # as cp -a does, and as a copy to a file system without links
        copy = shutil.copytree(out, tmp_path / f"copy-{symlinks}", symlinks=symlinks)
        assert (copy / "best" / "weights").read_text() == "1"
        RunFolder(copy, recipe_of()).link_best(0)
        assert (copy / "best" / "weights").read_text() == "0"
    shutil.move(out, tmp_path / "moved")
    assert (tmp_path / "moved" / "best" / "weights").read_text() == "1"


def test_without_support_for_links_best_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = claimed(tmp_path, recipe_of())
    for seed in (0, 1):
        (model := seed_folder(tmp_path, seed) / "best").mkdir(parents=True)
        (model / "weights").write_text(str(seed))
        folder.link_best(seed)
        assert (tmp_path / "best" / "weights").read_text() == str(seed) and not (tmp_path / "best").is_symlink()


def test_run_names_of_prediction_files_contain_no_dot() -> None:
    """The official package reads a run name only up to the first dot."""
    recipe = recipe_of(model="timm/resnet18.a1_in1k", method="knn")
    assert predictions_name(recipe, "seed0") == "timm-resnet18-a1_in1k_knn_seed0"
