"""Fields of a recipe as options: which ones a command has, in which order, and the recipe built from them."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import typer
from typer.testing import CliRunner

from medmnist_hf.cli.main import app as command_line
from medmnist_hf.cli.options.recipe import PANELS, read_recipe, recipe_options
from medmnist_hf.console.program import Panel, Program
from medmnist_hf.errors import MedMNISTError, TrainingError
from medmnist_hf.own_code.names import AUGMENTATION_FILE, MODEL_FILE, pin_code
from medmnist_hf.training.recipe import FIELDS, Recipe, type_of
from medmnist_hf.training.registry import COMMON, METHODS

RUNNER = CliRunner()


def app_of(made: list[Recipe]) -> typer.Typer:
    """A command with all fields, and an option of its own that replaces one of them."""
    app = Program(add_completion=False)

    @app.command()
    @recipe_options(*(name for name in FIELDS if name != "seeds"))
    def main(
        first: Annotated[str | None, typer.Option(help="Comes first.")] = None,
        *,
        epochs: Annotated[int | None, typer.Option(help="Its own.")] = None,
        **options: Any,
    ) -> None:
        made.append(read_recipe(options | {"epochs": epochs}))

    return app


def recipe_of(*words: str) -> Recipe:
    made: list[Recipe] = []
    app_of(made)([*words], standalone_mode=False)
    return made[0]


def test_options_override_the_file_which_overrides_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 7\nbatch_size: 16\n", encoding="utf-8")
    words = ["breastmnist", "--preset", "medmnist_v2", "--config", str(path)]
    recipe = recipe_of(*words, "--batch-size", "8", "--channels", "3", "--no-test", "--method", "lora")
    assert (recipe.optimizer, recipe.epochs, recipe.batch_size, recipe.channels) == ("adam", 7, 8, 3)
    assert (recipe.test, recipe.method, recipe.pretrained) == (False, "lora", False)
    assert recipe_of(*words, "--epochs", "3").epochs == 3


def test_the_image_size_is_a_number_or_auto(tmp_path: Path) -> None:
    for value, expected in (("112", 112), ("auto", "auto")):
        recipe = recipe_of("breastmnist", "--image-size", value)
        assert recipe.image_size == expected
        (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
        assert recipe_of("--config", str(tmp_path)) == recipe
    for value in ("big", "1.5", "-3", "99999"):
        with pytest.raises(TrainingError, match=r"image_size is .*: must be int or auto"):
            recipe_of("breastmnist", "--image-size", value)
    with pytest.raises(TrainingError, match="image_size is 0: must be 1 or more"):
        recipe_of("breastmnist", "--image-size", "0")


def test_seeds_are_a_number_or_a_list() -> None:
    assert recipe_of("breastmnist").seeds == (0,)
    assert recipe_of("breastmnist", "--seeds", "3").seeds == (0, 1, 2)
    assert recipe_of("breastmnist", "--seed", "5", "--seed", "2").seeds == (5, 2)
    with pytest.raises(MedMNISTError, match="seeds are"):
        recipe_of("breastmnist", "--seeds", "0")
    with pytest.raises(MedMNISTError, match="--seeds is a number of seeds and --seed is a seed"):
        recipe_of("breastmnist", "--seeds", "2", "--seed", "5")


def test_durations_aliases_and_letter_case() -> None:
    searched = ["breastmnist", "--model", "pixels", "--method", "flaml", "--time-budget"]
    assert recipe_of(*searched, "10m").time_budget == recipe_of(*searched, "600").time_budget == 600
    with pytest.raises(MedMNISTError, match="time_budget is 'soon': must be a duration such as 90s, 10m or 2h"):
        recipe_of(*searched, "soon")
    assert recipe_of("--lr", "0.5", "BreastMNIST", "--size", "64").learning_rate == 0.5
    with pytest.raises(MedMNISTError, match="no data set given: name it first"):
        recipe_of("--lr", "0.5")


def test_the_data_set_can_be_an_option() -> None:
    assert recipe_of("--dataset", "breastmnist", "--epochs", "3") == recipe_of("breastmnist", "--epochs", "3")
    with pytest.raises(
        MedMNISTError, match="two data sets are given, pathmnist and --dataset breastmnist: leave one out"
    ):
        recipe_of("pathmnist", "--dataset", "breastmnist")


def test_help_has_each_option_once_with_default_and_choices() -> None:
    shown = " ".join(RUNNER.invoke(app_of([]), ["--help"], env={"COLUMNS": "500"}).stdout.split())
    assert "Optimizer; sgd uses Nesterov momentum of 0.9. One of adam, adamw, sgd. [default: adamw]" in shown
    assert "--pretrained / Start" in shown and "--no-pretrained if" in shown and "[default: on]" in shown
    unwrapped = shown.replace("- ", "-")  # long lines break after hyphens
    assert all(f"{method.name}: {method.about}" in unwrapped for method in METHODS.values())
    assert shown.count("--epochs ") == 1 and "Its own." in shown and "Passes over the train split" not in shown
    assert "--dataset" not in shown and "[OPTIONS] [DATA]" in shown and "--learning-rate" in shown and "--lr" in shown
    assert "[default: 2h]" in shown and "[default: 'a medical image of {}.']" in shown
    assert shown.index("--preset") < shown.index("--size ") < shown.index("--model ") < shown.index("--first")


SINGLE = {"dataset", "seeds", "method", "loss"}
OF_OTHER_OPTIONS = {
    *("volumetric", "depth_stride", "slice_pooling", "color_jitter", "few_validation", "label_seed"),
    *("joint_head", "balance"),
}
"""Options that change nothing for images, gray images, one subset, or without `fraction` or `shots`."""

WITHOUT: dict[str, Any] = {
    "size": 64,
    "root": "dist",
    "repository": "me/breastmnist",
    "revision": "v1",
    "model": "resnet50",
    "checkpoint": "a.safetensors",
    "features": "features",
    "augmentation_file": pin_code(f"{__file__}:another_value", AUGMENTATION_FILE),
    "image_size": 64,
    "select": "acc",
    "prompt": "{}",
    "time_budget": 60.0,
    "trials": 3,
    "fraction": 0.01,
    "shots": 5,
    "label_seed": 3,
}
"""A value other than the default, for options whose type and bounds do not suggest one."""

SETTINGS: dict[str, dict[str, Any]] = {
    "finetune": {},
    "partial": {},
    "lora": {},
    "linear-probe": {},
    "knn": {},
    "zero-shot": {"model": "some/clip"},
    "flaml": {"model": "pixels"},
    "autokeras": {"model": "pixels"},
    "auto-sklearn": {"model": "resnet50"},
}


def another_value(name: str) -> Any:
    """A value of an option that is not its default."""
    default, kind = FIELDS[name].default, type_of(name)
    if name in WITHOUT:
        return WITHOUT[name]
    if isinstance(default, bool):
        return not default
    if get_origin(kind) is Literal:
        return next(choice for choice in reversed(get_args(kind)) if choice != default)
    low, above, high = FIELDS[name].metadata["bounds"]
    return next(kind(value) for value in (2, 0.5) if low <= value <= high and value > above and value != default)


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in {*SINGLE, "model"}])
@pytest.mark.parametrize("chosen", SETTINGS)
def test_an_option_that_the_method_does_not_read_is_an_error(name: str, chosen: str) -> None:
    """So no option is silently ignored."""
    setting = dict.fromkeys(("preset", "config", "seeds", "seed")) | {"dataset": "breastmnist", "method": chosen}
    options = setting | SETTINGS[chosen] | {name: another_value(name)}
    no_effect = name in OF_OTHER_OPTIONS or (name == "features" and METHODS[chosen].trains)  # without probe_first
    if METHODS[chosen].reads_option(name, pixels="pixels" in SETTINGS[chosen].values()) and not no_effect:
        assert getattr(read_recipe(options), name) == options[name]
    else:
        with pytest.raises(TrainingError, match=f"^--{name.replace('_', '-')} would change nothing"):
            read_recipe(options)


def test_every_option_is_read_by_some_method() -> None:
    read = {name for name in FIELDS for method in METHODS.values() if method.reads_option(name)}
    assert read == FIELDS.keys()
    named = {
        name
        for method in METHODS.values()
        for name in (*method.reads, *(method.engine.options if method.engine else ()))
    }
    assert named <= FIELDS.keys() and set(COMMON) <= FIELDS.keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--root dist --revision v1", "a build has no revisions: leave out the path, or revision .v1."),
        ("--model timm/resnet18 --stem cifar", "--stem would change nothing .it is only for resnet18 and resnet50."),
        ("--volumetric 3d", "--volumetric would change nothing .pathmnist has images."),
        ("organmnist3d --depth-stride", "--depth-stride would change nothing .it is only for volumes with volu"),
        ("--few-validation", "--few-validation would change nothing .there is neither fraction nor shots."),
        ("--label-seed 3 --fraction 1", "--label-seed would change nothing .there is neither fraction nor shots."),
        ("--method zero-shot --model a/b --shots 5", "--shots would change nothing .method zero-shot does not read"),
        ("--shots 5 --fraction 0.1", "fraction is 0.1 and shots is 5: give only one of them"),
        ("--fraction 0", "fraction is 0.0: must be above 0"),
        ("--fraction 10", "fraction is 10.0: must be in 0..1"),
        ("--shots 0", "shots is 0: must be 1 or more"),
        ("--early-stopping 5 --epochs 5", "--early-stopping would change nothing .epochs is 5."),
        ("--method knn --mixup 0.8", "--mixup would change nothing .method knn does not read it.: leave it out"),
        ("--mixup 0.8 --batch-size 1", "mixup and cutmix mix images within a batch"),
        ("--warmup-epochs 6 --epochs 5", "warmup_epochs is 6 but epochs is 5"),
        ("--ema 1", "ema is 1, which never updates the average"),
    ],
)
def test_options_that_would_change_nothing_are_errors(words: str, message: str) -> None:
    with pytest.raises(MedMNISTError, match=f"^{message}"):
        recipe_of(*([] if words.startswith("organmnist3d") else ["pathmnist"]), *words.split())


def test_options_of_a_preset_for_other_methods_are_ignored() -> None:
    recipe = recipe_of("breastmnist", "--preset", "foundation", "--method", "knn")
    assert (recipe.ema, recipe.neighbors, recipe.image_size) == (0.0, 11, 112)
    assert recipe_of("breastmnist", "--mixup", "0", "--method", "knn").mixup == 0


def test_options_of_a_file_must_be_read_but_not_those_of_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 7\nmixup: 0.8\nneighbors: 3\n", encoding="utf-8")
    words = ["breastmnist", "--method", "knn"]
    reason = r"epochs \(method knn does not read it\), mixup \(.*\): remove them"
    message = rf"mine\.yaml has options that would change nothing: {reason}"
    with pytest.raises(TrainingError, match=message):
        recipe_of(*words, "--config", str(path))
    recipe = recipe_of(*words, "--preset", "foundation")
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert recipe_of("--config", str(path)) == recipe


def test_every_field_has_a_panel_in_the_help() -> None:
    listed = [name for names in PANELS.values() for name in names]
    assert sorted(listed) == sorted({*FIELDS, MODEL_FILE, "preset", "config", "seed"} - {"dataset"})
    shown = RUNNER.invoke(command_line, ["finetune", "--help"]).stdout
    panels = [panel for panel in Panel if panel != Panel.SOURCE]
    places = [shown.index(f"\n{panel}:\n") for panel in panels]
    assert places == sorted(places)
