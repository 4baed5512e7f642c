"""Check before a benchmark whether its cells can run: data, models, engines and trackers.

The checks are those that a run makes before training. No weights are downloaded and no network is built.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict

from medmnist_hf.automl.environments import interpreter
from medmnist_hf.catalog import SPLITS
from medmnist_hf.data.arrays import check_split
from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import MedMNISTError, first_line, one_line
from medmnist_hf.hub.client import apply_hub_limits
from medmnist_hf.own_code.names import AUGMENTATION_FILE, pin_code
from medmnist_hf.training.benchmark.matrix import BenchmarkRun, replace_options
from medmnist_hf.training.methods.zero_shot import check_text_tower
from medmnist_hf.training.models.factory import check_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import PIXELS, check_model_name, method
from medmnist_hf.training.tracking import check_tracker


def problems(cells: Sequence[BenchmarkRun]) -> Iterator[str]:
    """Yield for each cell why it cannot run, with options named as in a matrix; empty if no problem was found.

    Checks with equal inputs run once for all cells.
    """
    apply_hub_limits()
    messages: dict[Hashable, str] = {}

    def problem(check: Callable[[Recipe], None], recipe: Recipe, *inputs: Hashable) -> str:
        key = (check.__name__, *inputs)
        if key not in messages:
            messages[key] = _message(check, recipe)
        return messages[key]

    for cell in cells:
        recipe = cell.recipe
        reasons = (
            problem(_check_data, recipe, recipe.source, recipe.config, recipe.root, recipe.revision),
            problem(_check_engine, recipe, recipe.method),
            problem(_check_augmentation, recipe, recipe.augmentation_file),
            problem(check_tracker, recipe, recipe.report_to),
            problem(
                *(_check_model, recipe, recipe.model, recipe.method, recipe.subset.ndim, recipe.input_channels),
                *(recipe.pretrained, recipe.checkpoint, recipe.drop_path),
            ),
        )
        yield "; ".join(filter(None, reasons))


def _message(check: Callable[[Recipe], None], recipe: Recipe) -> str:
    try:
        check(recipe)
    except MedMNISTError as error:
        return replace_options(error, asdict(recipe).values())
    except Exception as error:  # whatever a library raises for one cell, the other cells are still checked
        return one_line(f"{type(error).__name__}: {first_line(error)}")
    return ""


def _check_data(recipe: Recipe) -> None:
    config = open_config(recipe.source, recipe.config, recipe.root, revision=recipe.revision)
    for split in SPLITS:
        check_split(config, split)


def _check_engine(recipe: Recipe) -> None:
    engine = method(recipe.method).engine
    if engine is not None:
        interpreter(engine)


def _check_augmentation(recipe: Recipe) -> None:
    if recipe.augmentation_file is not None:
        pin_code(recipe.augmentation_file, AUGMENTATION_FILE)


def _check_model(recipe: Recipe) -> None:
    check_model_name(recipe.model, recipe.checkpoint)
    if recipe.model == PIXELS:
        return
    if recipe.method == "zero-shot":
        check_text_tower(recipe.model)
    else:
        check_model(recipe)
