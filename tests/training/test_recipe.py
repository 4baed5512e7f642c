"""Recipes: precedence of presets, files and options, and errors."""

import copy
import dataclasses
import os
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medmnist_hf.catalog import Task, subsets
from medmnist_hf.errors import CatalogError, MedMNISTError, TrainingError
from medmnist_hf.training.recipe import (
    FIELDS,
    Recipe,
    make_recipe,
    presets,
    type_of,
)
from medmnist_hf.training.registry import LOSSES, PIXELS
from medmnist_hf.training.run_folder import default_folder
from tests.fixtures.yaml_bomb import BOMB


@pytest.mark.parametrize("name", presets())
def test_every_preset_makes_a_recipe_that_survives_yaml(name: str, tmp_path: Path) -> None:
    flag = "organmnist3d" if name.endswith("_3d") else "retinamnist"
    recipe = make_recipe({"dataset": flag}, preset=name)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert make_recipe({}, config=path) == recipe


def test_options_override_a_file_which_overrides_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: breastmnist\nepochs: 7\nlearning_rate: 2e-3\nbatch_size: 16\n", encoding="utf-8")
    recipe = make_recipe({"epochs": 3, "size": None}, preset="medmnist_v2", config=path)
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.size) == (3, 16, "adam", 28)
    assert recipe.learning_rate == 2e-3


def test_the_folder_of_a_run_stands_for_its_recipe_file(tmp_path: Path) -> None:
    recipe = make_recipe({"dataset": "breastmnist", "epochs": 3})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert make_recipe({}, config=tmp_path) == recipe
    with pytest.raises(MedMNISTError, match=r"recipe\.yaml"):
        make_recipe({}, config=tmp_path / "..")


PROTOCOLS: dict[str, dict[str, Any]] = {
    "medmnist_v2": {
        "model": "resnet18",
        "pretrained": False,
        "stem": "auto",
        "image_size": None,
        "resize": "none",
        "input_channels": 1,
        "normalize": "half",
        "epochs": 100,
        "batch_size": 128,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "schedule": "step",
        "warmup_epochs": 0.0,
        "select": "auc",
        "early_stopping": 0,
    },
    "rethinking": {
        "pretrained": True,
        "image_size": 224,
        "resize": "pad",
        "input_channels": 3,
        "normalize": "model",
        "epochs": 100,
        "batch_size": 64,
        "optimizer": "adamw",
        "learning_rate": 1e-4,
        "weight_decay": 1e-2,
        "schedule": "cosine",
        "warmup_epochs": 0.0,
        "select": "loss",
        "early_stopping": 5,
        "neighbors": 11,
        "seeds": (9930641, 115149041, 252139603),
    },
}
PROTOCOLS["medmnist_v2_3d"] = PROTOCOLS["medmnist_v2"] | {"batch_size": 32, "normalize": "none"}

PLAIN = (
    *("label_smoothing", "mixup", "cutmix", "ema", "drop_rate", "drop_path", "flip_horizontal", "flip_vertical"),
    *("crop_padding", "rotation", "rotate90", "color_jitter", "corruptions", "class_weights", "max_grad_norm"),
)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_presets_match_the_published_protocols(name: str) -> None:
    """The values are stated in the papers and their code; other augmentation and regularization is off."""
    recipe = make_recipe({"dataset": "adrenalmnist3d" if name.endswith("_3d") else "breastmnist"}, preset=name)
    assert {key: getattr(recipe, key) for key in PROTOCOLS[name]} == PROTOCOLS[name]
    assert {key for key in PLAIN if getattr(recipe, key)} == set()
    assert (recipe.precision, recipe.accumulation, recipe.layer_decay) == ("fp32", 1, 1.0)
    assert make_recipe({"dataset": "pathmnist"}, preset=name.removesuffix("_3d")).input_channels == 3


def test_a_preset_for_volumes_is_not_for_images_nor_the_other_way_round() -> None:
    with pytest.raises(
        TrainingError, match=r"medmnist_v2_3d is for volumes, but breastmnist has images: use one of .*medm"
    ):
        make_recipe({"dataset": "breastmnist"}, preset="medmnist_v2_3d")
    for name in ("medmnist_v2", "rethinking"):
        with pytest.raises(
            TrainingError, match=f"{name} is for images, but organmnist3d has volumes: .*medmnist_v2_3d"
        ):
            make_recipe({"dataset": "organmnist3d"}, preset=name)


def test_the_preset_strides_along_depth_only_for_2_5d() -> None:
    strided = {
        mode: make_recipe({"dataset": "adrenalmnist3d", "volumetric": mode}, preset="medmnist_v2_3d").depth_stride
        for mode in ("2.5d", "3d", "acs")
    }
    assert strided == {"2.5d": True, "3d": False, "acs": False}, "the others do not read it"


def test_every_field_has_help_and_all_but_dataset_a_default() -> None:
    for name, field in FIELDS.items():
        assert field.metadata["help"].endswith("."), name
        assert (field.default is dataclasses.MISSING) == (name == "dataset")


@settings(deadline=None)
@given(st.data())
def test_options_given_as_text_make_a_recipe_that_survives_yaml(data: st.DataObject) -> None:
    """A command passes all choices as text, even numbers."""
    choices = {name: type_of(name) for name in FIELDS if get_origin(type_of(name)) is Literal and name != "loss"}
    options = {name: str(data.draw(st.sampled_from(get_args(kind)))) for name, kind in choices.items()}
    options["learning_rate"] = str(data.draw(st.floats(1e-9, 10)))
    if options["method"] == "autokeras":
        options["model"] = PIXELS
    recipe = make_recipe({"dataset": "BreastMNIST", **options})
    assert recipe.dataset == "breastmnist"
    assert {name: str(getattr(recipe, name)) for name in options} == options
    assert make_recipe(yaml.safe_load(recipe.to_yaml())) == recipe


def test_each_task_accepts_only_its_own_losses() -> None:
    accepted: dict[Task, set[str]] = {}
    for entry in subsets():
        for loss in ("cross-entropy", "bce", "ordinal"):
            try:
                make_recipe({"dataset": entry.flag, "loss": loss})
            except MedMNISTError as error:
                assert f"loss is {loss} but {entry.flag} is {entry.task}: use auto or " in str(error)
            else:
                accepted.setdefault(entry.task, set()).add(loss)
    assert accepted == {
        Task.BINARY: {"cross-entropy"},
        Task.MULTI_CLASS: {"cross-entropy"},
        Task.ORDINAL: {"cross-entropy", "ordinal"},
        Task.MULTI_LABEL: {"bce"},
    }
    assert {task: set(losses) for task, losses in LOSSES.items()} == accepted


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "no data set given"),
        ({"dataset": "pathmnst"}, "unknown subset"),
        ({"dataset": "organmnist3d", "size": 224}, "has no size 224"),
        ({"epoch": 3}, "did you mean epochs"),
        ({"zzzz": 3}, "choose from dataset, size"),
        ({"epochs": 0}, "epochs is 0: must be 1 or more"),
        ({"image_size": 0}, "image_size is 0: must be 1 or more"),
        ({"epochs": "many"}, "must be int"),
        ({"epochs": 1.5}, "must be int"),
        ({"epochs": True}, "must be int"),
        ({"pretrained": 1}, "must be bool"),
        ({"model": 18}, "must be str"),
        ({"learning_rate": 0.0}, "must be above 0"),
        ({"learning_rate": "fast"}, "must be float"),
        ({"learning_rate": True}, "must be float"),
        ({"learning_rate": float("nan")}, "must be a finite number"),
        ({"warmup_epochs": "inf"}, "must be a finite number"),
        ({"learning_rate": 10**400}, "must be float"),
        ({"weight_decay": -0.1}, "must be 0 or more"),
        ({"layer_decay": 1.1}, "must be in 0..1"),
        ({"layer_decay": 0.0}, "must be above 0"),
        ({"optimizer": "lion"}, "choose from adam, adamw, sgd"),
        ({"optimizer": ["adam"]}, "choose from adam, adamw, sgd"),
        ({"channels": 2}, "choose from images, 1, 3"),
        ({"channels": True}, "choose from images, 1, 3"),
        ({"dataset": "pathmnist", "channels": 1}, "channels is 1 but the images of pathmnist are RGB"),
        ({"report_to": "mlflow"}, "choose from none, trackio, tensorboard, wandb"),
        ({"drop_rate": 1.5}, "must be in 0..1"),
        ({"seeds": [1, 1]}, "distinct seeds"),
        ({"seeds": []}, "give one or more"),
        ({"seeds": [-1]}, "in 0..2"),
        ({"seeds": [2**32]}, "in 0..2"),
        ({"seeds": ["one"]}, "must be int"),
        ({"seeds": 1}, "give a list"),
        ({"dataset": "organmnist3d", "method": "zero-shot"}, "volumes"),
        ({"dataset": "organmnist3d", "method": "lora"}, "volumes"),
        ({"model": "pixels"}, "model pixels is only for the methods flaml, .*: name a network for finetune"),
        ({"model": "resnet18", "method": "autokeras"}, "reads images, not features of resnet18: use model pixels"),
        ({"time_budget": 0}, "time_budget is 0.0: must be above 0"),
        ({"time_budget": "2 days"}, "time_budget is '2 days': must be a duration"),
        ({"time_budget": "-1h"}, "must be a duration"),
        ({"time_budget": True}, "must be a duration"),
        ({"time_budget": 10**400}, "must be a finite number"),
        ({"lr": 0.1}, "did you mean learning_rate"),
        ({"trials": 0}, "trials is 0: must be 1 or more"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, object], expected: str) -> None:
    with pytest.raises(MedMNISTError, match=expected) as caught:
        make_recipe({"dataset": "breastmnist"} | options if options else options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: [", "is not a valid YAML file"),
        (b"a: b: c", "is not a valid YAML file"),
        (b"!!python/object/apply:os.getcwd []", "is not a valid YAML file"),
        (b"- 1", "does not map options to values"),
        (b"", "does not map options to values"),
        (b"1: 2", "unknown option 1"),
        (b"learning_rate: .nan", "must be a finite number"),
        (b"epochs: null", "must be int"),
        (b"\xff\xfe\x00", "not a text file"),
        (None, "No such file"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MedMNISTError, match=expected) as caught:
        make_recipe({"dataset": "breastmnist"}, config=path)
    assert "\n" not in str(caught.value)


def test_the_error_for_an_unknown_preset_lists_all_presets() -> None:
    with pytest.raises(
        MedMNISTError, match="unknown preset 'best': choose from automl_autokeras, automl_autosklearn, "
    ):
        make_recipe({"dataset": "breastmnist"}, preset="best")


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [(90, 90.0), ("90", 90.0), ("90s", 90.0), ("1.5 m", 90.0), ("2h", 7200.0), (" 24h ", 86400.0)],
)
def test_a_time_budget_may_have_a_unit(budget: object, seconds: float) -> None:
    options = {"dataset": "breastmnist", "model": PIXELS, "method": "flaml", "time_budget": budget}
    assert make_recipe(options).time_budget == seconds


@pytest.mark.parametrize(("name", "near"), [("data", "dataset"), ("lr", "learning_rate"), ("epoch", "epochs")])
def test_the_error_for_an_unknown_field_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(TrainingError, match=rf"^Recipe: unknown option '{name}': did you mean {near}\?$"):
        Recipe(dataset="breastmnist", **{name: 1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dataset"):
        Recipe()  # type: ignore[call-arg]
    recipe = Recipe(dataset="breastmnist")
    assert copy.deepcopy(recipe) == dataclasses.replace(recipe, epochs=100) == recipe


def test_yaml_has_only_plain_types() -> None:
    values = yaml.safe_load(Recipe(dataset="breastmnist", seeds=(1, 2)).to_yaml())
    assert values["seeds"] == [1, 2] and list(values) == list(FIELDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + "model: *a19", "is not a valid YAML file of options"),
        ("[" * 9_000, "nested deeper"),
        ("model: 2020-13-45", "is not a valid YAML file of options"),
        ("seeds: [0x" + "f" * 9_000 + "]", "is too large"),
        ("seeds: [" + "9" * 5_000 + "]", "is not a valid YAML file of options"),
        ("model: {" + ", ".join(f"{'k' * 99}{at}: 1" for at in range(999)) + "}", "model is {'kkk"),
        ("? " + "n" * 9_000 + "\n: 1", "unknown option 'nnn"),
        ("? [a, b]\n: 1", "unhashable key"),
        (r'model: "a\nerror: b\x1b[31m"', r"model is 'a\nerror: b\x1b[31m': must be text without control"),
        (r'dataset: "\uD800"', "half of a surrogate pair"),
        ("dataset: " + "p" * 9_000, "unknown subset"),
    ],
)
def test_a_hostile_file_is_refused_in_one_short_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(MedMNISTError, match=re.escape(message)) as caught:
        make_recipe({}, config=path)
    assert len(str(caught.value)) < 2_100 and str(caught.value).isprintable()


def test_pipes_devices_and_large_files_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * (1 << 20))
    for path, message in (
        (tmp_path / "pipe", "it is not a regular file"),
        (Path("/dev/zero"), "it is not a regular file"),
        (tmp_path / "large", "it has more than 262,144 bytes"),
    ):
        with pytest.raises(TrainingError, match=message):
            make_recipe({}, config=path)


def test_a_size_may_be_given_as_text() -> None:
    assert make_recipe({"dataset": "breastmnist", "size": "64"}).size == 64
    with pytest.raises(CatalogError, match="breastmnist has no size large: choose from 28, 64, 128, 224"):
        make_recipe({"dataset": "breastmnist", "size": "large"})


def test_a_size_may_be_the_name_of_a_config() -> None:
    recipe = make_recipe({"dataset": "dermamnist", "size": "28-corrected"})
    assert (recipe.dataset, recipe.size) == ("dermamnist-corrected", 28)
    with pytest.raises(CatalogError, match="breastmnist has no size 28-corrected"):
        make_recipe({"dataset": "breastmnist", "size": "28-corrected"})


def test_the_epoch_is_selected_by_a_measure_of_the_task() -> None:
    for dataset, select in (("retinamnist", "quadratic_kappa"), ("chestmnist", "ece"), ("pathmnist", "loss")):
        assert make_recipe({"dataset": dataset, "select": select}).select == select
    for dataset, select in (("pathmnist", "quadratic_kappa"), ("retinamnist", "f1:1"), ("breastmnist", "kappa")):
        with pytest.raises(TrainingError, match=rf"^select is '{select}': choose a measure of {dataset}, loss, auc, "):
            make_recipe({"dataset": dataset, "select": select})


def test_the_preset_of_the_mayo_study_adapts_to_gray_images() -> None:
    color, gray = (make_recipe({"dataset": name}, preset="mayo_2026") for name in ("pathmnist", "breastmnist"))
    assert (color.color_jitter, gray.color_jitter) == (0.1, 0.0)
    assert (color.epochs, color.early_stopping, color.select, color.seeds) == (500, 20, "auc", tuple(range(40, 50)))
    assert (color.learning_rate, color.weight_decay, color.batch_size, color.flip_horizontal) == (1e-4, 1e-4, 64, 0.5)
    partial = make_recipe({"dataset": "pathmnist", "method": "partial", "unfreeze": 0.4}, preset="mayo_2026")
    assert (partial.unfreeze, partial.schedule) == (0.4, "cosine")


def test_several_subsets_are_one_recipe_with_a_part_for_each(tmp_path: Path) -> None:
    recipe = make_recipe({"dataset": "PathMNIST-64, retinamnist-64,chestmnist-64", "loss": "ordinal", "seeds": [1]})
    assert (recipe.dataset, recipe.size, recipe.is_joint) == ("pathmnist,retinamnist,chestmnist", 64, True)
    assert recipe.heads == (("cross-entropy", 9), ("ordinal", 5), ("bce", 14))
    assert [part.loss for part in recipe.parts] == ["auto", "ordinal", "auto"] and recipe.parts[2].seeds == (1,)
    assert (recipe.ndim, recipe.input_channels) == (2, 3)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert make_recipe({}, config=tmp_path) == recipe
    one = make_recipe({"dataset": "breastmnist"})
    assert one.parts == (one,) and not one.is_joint
    everything = make_recipe({"dataset": "all-2d"}, preset="foundation")
    assert len(everything.parts) == 12 and everything.epochs == 20 and not everything.probe_first
    assert default_folder(everything).name.startswith("12-subsets-28-timm-tf_efficientnet_lite0-finetune-")
    assert make_recipe({"dataset": "all-3d", "channels": "images"}).input_channels == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "pathmnist,organmnist3d"}, "pathmnist has 2D images and organmnist3d has volumes"),
        ({"dataset": "pathmnist,pathmnist"}, "pathmnist is given twice"),
        ({"dataset": "pathmnist,pathmnst"}, "did you mean 'pathmnist'"),
        ({"dataset": "all"}, "choose all-2d or all-3d"),
        ({"dataset": "all-3d", "size": 128}, "organmnist3d has no size 128"),
        ({"dataset": "pathmnist-64,bloodmnist-128"}, "pathmnist at size 64, bloodmnist at size 128"),
        ({"dataset": "pathmnist,bloodmnist@v1"}, "'bloodmnist@v1' cannot be one of several subsets"),
        ({"dataset": "all-2d", "repository": "you/all"}, "repository 'you/all' is for one subset"),
        ({"dataset": "all-2d", "method": "knn"}, "method knn reads one subset: use finetune, partial, lora"),
        ({"dataset": "all-2d", "joint_head": True}, "joint_head is one softmax, but chestmnist is trained with bce"),
        ({"dataset": "pathmnist,bloodmnist", "loss": "bce"}, "loss is bce, which is for no subset of"),
        ({"dataset": "pathmnist,retinamnist", "select": "mae"}, "choose a measure of pathmnist"),
        ({"dataset": "breastmnist,bloodmnist", "channels": 1}, "the images of bloodmnist are RGB"),
    ],
)
def test_several_subsets_that_cannot_be_one_recipe(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MedMNISTError, match=re.escape(message)) as caught:
        make_recipe(options)
    assert "\n" not in str(caught.value)


def test_code_for_one_subset_refuses_several_in_one_line() -> None:
    with pytest.raises(TrainingError, match="'all-2d' names several subsets, which only training reads: name one"):
        _ = Recipe(dataset="all-2d").subset
