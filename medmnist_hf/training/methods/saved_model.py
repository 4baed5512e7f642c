"""Check that a saved model reproduces the scores of the run, before the run counts as finished."""

from pathlib import Path
from typing import Final

import numpy as np
import torch

from medmnist_hf.array_types import FloatArray
from medmnist_hf.errors import TrainingError, first_line
from medmnist_hf.own_code.names import is_code
from medmnist_hf.training.data.recipe_transforms import input_transform
from medmnist_hf.training.losses import to_joint_scores
from medmnist_hf.training.methods.base import TrainingRun
from medmnist_hf.training.models.saving import Built, load_model

ROWS: Final = 8
"""Number of validation images on which a saved model is checked."""

TOLERANCE: Final = {"fp32": 2e-3, "bf16": 0.1, "fp16": 0.05}
"""Precision -> largest difference of scores: GPU kernels, and with them rounding, depend on the batch size."""


def check_saved(run: TrainingRun, built: Built, scores: FloatArray, folder: Path) -> None:
    """Load a saved model as users do, and compare its scores on a few images with those of the run.

    Args:
        run: The run.
        built: The model that was saved.
        scores: Validation scores of the run, float64 of shape (N, K).
        folder: Folder of the saved model.

    Raises:
        TrainingError: The model cannot be loaded, or gives other scores.
    """
    recipe = run.recipe
    transform = input_transform(recipe, built.mean, built.std, built.image_size)
    rows = range(min(ROWS, len(scores)))
    pixels = transform(run.dataset("validation").gather(rows))["pixel_values"].to(run.device)
    if pixels.ndim == 4 and pixels.shape[1] == 1:
        pixels = pixels.expand(-1, 3, -1, -1)  # pipelines read gray images as RGB
    half = torch.float16 if recipe.precision == "fp16" else torch.bfloat16
    try:
        model = load_model(folder, recipe.model if is_code(recipe.model) else None).to(run.device)
        with torch.inference_mode(), torch.autocast(run.device.type, half, enabled=recipe.precision != "fp32"):
            logits = model(pixel_values=pixels).logits.float().cpu().numpy()
    except Exception as error:  # networks are built in many ways
        raise TrainingError(f"the saved {recipe.model} cannot be loaded ({first_line(error)}): {_ADVICE}") from None
    saved_scores = to_joint_scores(logits, recipe.heads)
    difference = float(np.abs(saved_scores - scores[: len(saved_scores)]).max())
    if not difference <= TOLERANCE[recipe.precision]:
        raise TrainingError(
            f"scores of the saved {recipe.model} differ by {difference:.2g} from those of the run: {_ADVICE}"
        )


_ADVICE: Final = "this network cannot be saved as it was trained: name another model"
