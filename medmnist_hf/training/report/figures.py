"""What a run leaves for people to look at: figures of each seed, and the card of the model that is to be published."""

import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from transformers import CONFIG_NAME

from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import first_line
from medmnist_hf.evaluation.plots import draw, stamp
from medmnist_hf.extras import install_command
from medmnist_hf.files import write_atomically
from medmnist_hf.manifest import README_NAME, Provenance
from medmnist_hf.scoring.predictions import Predictions
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.report.attribution import image_maps
from medmnist_hf.training.report.cases import choose, draw_cases
from medmnist_hf.training.report.curves import draw_curves
from medmnist_hf.training.report.model_card import CASES, CURVES, SCORES, model_card
from medmnist_hf.training.report.publishable import FIGURES, best_seed, shown_name
from medmnist_hf.training.results import RunResult, SeedResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)


def can_draw() -> bool:
    """Whether matplotlib is there; that it is not is logged."""
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError:
        _log.warning("no figures without matplotlib: %s", install_command("plot"))
        return False
    return True


def write_figures(
    recipe: Recipe,
    result: SeedResult,
    folder: Path,
    *,
    data: Mapping[str, Arrays],
    predictions: Mapping[str, Predictions],
    built: Built | None,
) -> None:
    """Draw a seed's figures into `FIGURES` in its folder: of test, or of validation where test was not scored.

    A training must not be lost over a picture: one that cannot be drawn is left out, which is logged in one line.

    Args:
        recipe: What was done.
        result: What the seed scored.
        folder: The seed's folder.
        data: Split -> images and labels.
        predictions: Split -> its predictions.
        built: The model that gave them; None where there is none to ask what it looked at.

    Raises:
        OSError: A figure cannot be written.
    """
    entry, split = recipe.subset, "test" if "test" in predictions else "validation"
    shown, images = predictions[split], data[split].images
    provenance = result.data.provenance
    title = provenance.mark(
        f"{entry.flag} {recipe.size}, {shown_name(recipe.model)} {recipe.method}, seed {result.seed}"
    )
    history, best_epoch = result.facts.history, result.facts.best_epoch
    drawings: dict[str, Callable[[], Figure | None]] = {
        SCORES: lambda: draw(shown, entry.labels, f"{title}: {split}"),
        CASES: lambda: _cases(recipe, shown, images, built, f"{title}: {split} cases"),
    }
    if history and best_epoch is not None:
        drawings[CURVES] = lambda: draw_curves(history, best_epoch, title)
    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)
    for name, drawing in drawings.items():
        try:
            content = _png(drawing(), provenance)
        except Exception as error:  # see above
            _log.warning("no %s: %s", figures / name, first_line(error))
        else:
            if content:
                write_atomically(figures / name, content)


def write_card(models: Mapping[int, Path], result: RunResult) -> None:
    """Write the card of a run's model beside its weights, those of the seed that `best_seed` names.

    A run that has left no model gets none; a card beside the weights of another seed, the best one before more seeds
    were added, is removed.

    Args:
        models: Seed -> folder of its model.
        result: What the run scored.

    Raises:
        OSError: It cannot be written.
    """
    for folder in models.values():
        (folder / README_NAME).unlink(missing_ok=True)
    best = models[best_seed(result).seed]
    if (best / CONFIG_NAME).is_file():
        text = model_card(best, result, where=str(best), figures=f"../{FIGURES}")
        write_atomically(best / README_NAME, text)


def _cases(
    recipe: Recipe, predictions: Predictions, images: npt.NDArray[np.uint8], built: Built | None, title: str
) -> "Figure | None":
    """The figure of cases; None where there is none to show."""
    wrong, right = choose(predictions, recipe.subset)
    cases = [*wrong, *right]
    if not cases:
        return None
    shown, maps = images[[case.row for case in cases]], None
    if built is not None:
        try:
            maps, method = image_maps(recipe, built, shown, [case.label for case in cases])
        except Exception as error:  # networks are built in many ways
            _log.warning("no map of what %s looked at: %s", recipe.model, first_line(error))
        else:
            title += f"\nBelow each of them what speaks for the label predicted, or the finding, by {method}"
    return draw_cases(wrong, right, shown, maps, title)


def _png(figure: "Figure | None", provenance: Provenance) -> bytes:
    buffer = io.BytesIO()
    if figure is not None:
        stamp(figure, provenance).savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
