"""Whether the cells of a benchmark can run, as far as that shows before any is trained: data, models, trackers.

No weights are fetched and no network is built. The checks are those that a run makes before its training.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict

from medmnist_hf.automl.environments import interpreter
from medmnist_hf.catalog import SPLITS
from medmnist_hf.data.arrays import check_split
from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import MedMNISTError, first_line, one_line
from medmnist_hf.hub.client import apply_hub_limits
from medmnist_hf.training.benchmark.matrix import BenchmarkRun, in_matrix_words
from medmnist_hf.training.methods.zero_shot import check_text_tower
from medmnist_hf.training.models.factory import check_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import PIXELS, check_model_name, method
from medmnist_hf.training.tracking import check_tracker


def problems(cells: Sequence[BenchmarkRun]) -> Iterator[str]:
    """Why each cell cannot run, in the words of a matrix; empty where nothing is known to be wrong.

    What several cells have in common is checked once.
    """
    apply_hub_limits()
    known: dict[Hashable, str] = {}

    def problem(check: Callable[[Recipe], None], recipe: Recipe, *reads: Hashable) -> str:
        key = (check.__name__, *reads)
        if key not in known:
            known[key] = _message(check, recipe)
        return known[key]

    for cell in cells:
        one = cell.recipe
        found = (
            problem(_check_data, one, one.source, one.size, one.root, one.revision),
            problem(_check_engine, one, one.method),
            problem(check_tracker, one, one.report_to),
            problem(
                *(_check_model, one, one.model, one.method, one.subset.ndim, one.input_channels),
                *(one.pretrained, one.checkpoint, one.drop_path),
            ),
        )
        yield "; ".join(filter(None, found))


def _message(check: Callable[[Recipe], None], recipe: Recipe) -> str:
    try:
        check(recipe)
    except MedMNISTError as error:
        return in_matrix_words(error, asdict(recipe).values())
    except Exception as error:  # of one cell, whatever a library raises: the others are still to be looked at
        return one_line(f"{type(error).__name__}: {first_line(error)}")
    return ""


def _check_data(recipe: Recipe) -> None:
    config = open_config(recipe.source, recipe.size, recipe.root, revision=recipe.revision)
    for split in SPLITS:
        check_split(config, split)


def _check_engine(recipe: Recipe) -> None:
    engine = method(recipe.method).engine
    if engine is not None:
        interpreter(engine)


def _check_model(recipe: Recipe) -> None:
    check_model_name(recipe.model, recipe.checkpoint)
    if recipe.model == PIXELS:
        return
    if recipe.method == "zero-shot":
        check_text_tower(recipe.model)
    else:
        check_model(recipe)
