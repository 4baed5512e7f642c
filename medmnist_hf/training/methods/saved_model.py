"""Whether a model that was saved gives the scores of the run, before the run counts as done."""

from pathlib import Path
from typing import Final

import numpy as np
import torch

from medmnist_hf.array_types import FloatArray
from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.losses import to_scores
from medmnist_hf.training.methods.base import Run
from medmnist_hf.training.models.saving import Built, load_model

ROWS: Final = 8
"""Images of validation that a saved model is asked about."""

TOLERANCE: Final = {"fp32": 2e-3, "bf16": 0.1, "fp16": 0.05}
"""By how much its scores may be off, by precision: GPUs choose their kernels, and so their rounding, by the batch."""


def check_saved(run: Run, built: Built, scores: FloatArray, folder: Path) -> None:
    """Load a model as whoever uses it does, and compare its scores of a few images with those of the run.

    Args:
        run: What was done.
        built: The model that was saved.
        scores: Those of the run on validation, float64 of shape (N, K).
        folder: Where it was saved.

    Raises:
        TrainingError: It cannot be loaded, or gives other scores.
    """
    recipe = run.recipe
    transform = input_transform(recipe, built.mean, built.std, built.image_size)
    rows = range(min(ROWS, len(scores)))
    pixels = transform(ArrayDataset(*run.data["validation"]).gather(rows))["pixel_values"].to(run.device)
    if pixels.ndim == 4 and pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)  # as pipelines read gray images
    half = torch.float16 if recipe.precision == "fp16" else torch.bfloat16
    try:
        model = load_model(folder).to(run.device)
        with torch.inference_mode(), torch.autocast(run.device.type, half, enabled=recipe.precision != "fp32"):
            logits = model(pixel_values=pixels).logits.float().cpu().numpy()
    except Exception as error:  # networks are built in many ways
        raise TrainingError(f"the saved {recipe.model} cannot be loaded ({first_line(error)}): {_ADVICE}") from None
    found = to_scores(logits, recipe.resolved_loss)
    off = float(np.abs(found - scores[: len(found)]).max())
    if not off <= TOLERANCE[recipe.precision]:
        raise TrainingError(
            f"the saved {recipe.model} gives scores that are {off:.2g} off those of the run: {_ADVICE}"
        )


_ADVICE: Final = "this network cannot be saved as it was trained: name another one"
