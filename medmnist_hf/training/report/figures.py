"""Write the figures of each seed of a run, and the card of the model to publish."""

import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from transformers import CONFIG_NAME

from medmnist_hf.array_types import IntArray
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
    """Whether matplotlib is installed; a warning is logged if not."""
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
    rows: Mapping[str, IntArray] | None = None,
) -> None:
    """Draw a seed's figures to the folder `FIGURES` in its folder: of test, or of validation if test was not scored.

    A figure that cannot be drawn must not end the training: it is skipped with a one-line warning.

    Args:
        recipe: Recipe of the run.
        result: Result of the seed.
        folder: The seed's folder.
        data: Split -> images and labels.
        predictions: Split -> its predictions.
        built: The model, for attribution maps; None if there is no network.
        rows: Split -> numbers of the rows that were predicted; of other splits, all were.

    Raises:
        OSError: A figure cannot be written.
    """
    entry, split = recipe.subset, "test" if "test" in predictions else "validation"
    drawn, images, numbers = predictions[split], data[split].images, (rows or {}).get(split)
    provenance = result.data.provenance
    title = provenance.mark(
        f"{entry.flag} {recipe.size}, {shown_name(recipe.model)} {recipe.method}, seed {result.seed}"
    )
    history, best_epoch = result.facts.history, result.facts.best_epoch
    drawings: dict[str, Callable[[], Figure | None]] = {
        SCORES: lambda: draw(drawn, entry.labels, f"{title}: {split}"),
        CASES: lambda: _cases(recipe, drawn, images, numbers, built, f"{title}: {split} cases"),
    }
    if history and best_epoch is not None:
        drawings[CURVES] = lambda: draw_curves(history, best_epoch, title)
    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)
    for name, drawing in drawings.items():
        try:
            content = _png(drawing(), provenance)
        except Exception as error:  # see the docstring
            _log.warning("cannot draw %s: %s", figures / name, first_line(error))
        else:
            if content:
                write_atomically(figures / name, content)


def write_card(models: Mapping[int, Path], result: RunResult) -> None:
    """Write the model card of a run to the model folder of its `best_seed`; runs without a model have no card.

    Cards in the folders of other seeds, which were the best before more seeds were added, are removed.

    Args:
        models: Seed -> folder of its model.
        result: Results of the run.

    Raises:
        OSError: The card cannot be written.
    """
    for folder in models.values():
        (folder / README_NAME).unlink(missing_ok=True)
    best = models[best_seed(result).seed]
    if (best / CONFIG_NAME).is_file():
        text = model_card(best, result, where=str(best), figures=f"../{FIGURES}")
        write_atomically(best / README_NAME, text)


def _cases(  # noqa: PLR0917
    recipe: Recipe,
    predictions: Predictions,
    images: npt.NDArray[np.uint8],
    rows: IntArray | None,
    built: Built | None,
    title: str,
) -> "Figure | None":
    """Draw the figure of cases, of the images of the given rows; None if there are no cases."""
    wrong, right = choose(predictions, recipe.subset)
    cases = [*wrong, *right]
    if not cases:
        return None
    numbers = [case.row for case in cases]
    case_images, maps = images[numbers if rows is None else rows[numbers]], None
    if built is not None:
        try:
            maps, method = image_maps(recipe, built, case_images, [case.label for case in cases])
        except Exception as error:  # networks differ in structure
            _log.warning("cannot compute attribution maps of %s: %s", recipe.model, first_line(error))
        else:
            title += f"\nBelow each case: support for the predicted label or the finding, by {method}"
    return draw_cases(wrong, right, case_images, maps, title)


def _png(figure: "Figure | None", provenance: Provenance) -> bytes:
    buffer = io.BytesIO()
    if figure is not None:
        stamp(figure, provenance).savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
