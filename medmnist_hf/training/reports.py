"""What a run leaves for people to look at: figures of each seed, and the card of the model that is to be published."""

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from transformers import CONFIG_NAME

from medmnist_hf.arrays import Arrays
from medmnist_hf.files import write_atomically
from medmnist_hf.hub_files import README_NAME
from medmnist_hf.plots import save_plot
from medmnist_hf.predictions import check
from medmnist_hf.training.attribution import image_maps
from medmnist_hf.training.cases import choose, draw_cases
from medmnist_hf.training.checkpoints import one_line
from medmnist_hf.training.curves import draw_curves
from medmnist_hf.training.model_card import CASES, CURVES, FIGURES, SCORES, model_card
from medmnist_hf.training.models import Built
from medmnist_hf.training.outcomes import Outcome
from medmnist_hf.training.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)


def leave_figures(
    recipe: Recipe,
    outcome: Outcome,
    folder: Path,
    *,
    data: Mapping[str, Arrays],
    scores: Mapping[str, npt.NDArray[np.float64]],
    built: Built | None,
) -> None:
    """Draw a seed's figures into `FIGURES` in its folder: of test, or of validation where test was not scored.

    Without matplotlib nothing is drawn. That, and a network that gives no map of what it looked at, is logged.

    Args:
        recipe: What was done.
        outcome: What the seed came to.
        folder: The seed's folder.
        data: Split -> images and labels.
        scores: Split -> scores, float64 (N, K).
        built: The model that gave them; None where there is none to ask for gradients.

    Raises:
        OSError: A figure cannot be written.
    """
    try:
        import matplotlib as mpl  # noqa: F401, PLC0415
    except ImportError:
        _log.warning("no figures without matplotlib: pip install 'medmnist-hf[plot]'")
        return
    entry, split = recipe.subset, "test" if "test" in scores else "validation"
    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)
    title = f"{entry.flag} {recipe.size}, {recipe.model} {recipe.method}, seed {outcome.seed}"
    if outcome.facts.get("history"):
        _save(draw_curves(outcome.facts["history"], outcome.facts["best_epoch"], title), figures / CURVES)
    images, labels = data[split]
    predictions = check(labels, scores[split], entry.task, from_logits=False, num_classes=len(entry.labels))
    save_plot(figures / SCORES, predictions, entry.labels, f"{title}: {split}")
    wrong, right = choose(predictions, entry)
    if wrong or right:
        shown = images[[case.row for case in (*wrong, *right)]]
        maps = None if built is None else _maps(recipe, built, shown, [case.label for case in (*wrong, *right)])
        told = "" if maps is None else ", with the Grad-CAM of what was predicted"
        _save(draw_cases(wrong, right, shown, maps, f"{title}: {split} cases{told}"), figures / CASES)


def leave_card(folder: Path, results: Mapping[str, Any], references: Sequence[str] = ()) -> Path | None:
    """Write the card of a run's model beside its weights.

    Args:
        folder: Folder of the model of the seed that `best_run` names.
        results: What ``results.json`` holds.
        references: BibTeX entries to cite.

    Returns:
        Where the card is; None where the run left no model.

    Raises:
        OSError: It cannot be written.
        MedMNISTError: What the data was built from cannot be read.
    """
    if not (folder / CONFIG_NAME).is_file():
        return None
    path = folder / README_NAME
    write_atomically(
        path, model_card(folder, results, where=str(folder), figures=f"../{FIGURES}", references=references)
    )
    return path


def _maps(
    recipe: Recipe, built: Built, images: npt.NDArray[np.uint8], labels: Sequence[int]
) -> npt.NDArray[np.float32] | None:
    try:
        return image_maps(recipe, built, images, labels)
    except Exception as error:  # networks are built in many ways, and a training must not be lost over a picture
        _log.warning("no Grad-CAM of %s: %s", recipe.model, one_line(error))
        return None


def _save(figure: "Figure", path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, buffer.getvalue())
