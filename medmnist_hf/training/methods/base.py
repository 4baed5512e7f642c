"""What every method is given and gives back: a run, of which it does one seed, and what it made of that."""

from dataclasses import dataclass
from typing import Any, Final

import torch

from medmnist_hf.array_types import FloatArray
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.loader import ArrayLoader
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import DataRecord

CHECKPOINTS: Final = "checkpoints"
"""Folder, in that of a seed, from which an interrupted method resumes."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What a method made of one seed.

    Attributes:
        scores: Split -> scores, float64 of shape (N, K): ``validation`` and, if the recipe says so, ``test``.
        facts: What the method has to report, for JSON: the best epoch, the strength chosen, what was tried.
        built: The model as it is to be published; None for methods whose model cannot score by itself.
        stopped: Ctrl-C ended it, and this is the best it had.
        earlier_seconds: Seconds that earlier processes took for what this one resumed.
    """

    scores: dict[str, FloatArray]
    facts: dict[str, Any]
    built: Built | None = None
    stopped: bool = False
    earlier_seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What all seeds of a run share.

    Attributes:
        recipe: What to do.
        data: Split -> images and labels.
        record: What the data was built from, and its rows.
        device: Where to compute.
        quiet: No progress on the terminal.
    """

    recipe: Recipe
    data: dict[str, Arrays]
    record: DataRecord
    device: torch.device
    quiet: bool

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits to score: validation, and test unless configurations are still being compared."""
        return ("validation", "test") if self.recipe.test else ("validation",)

    def batches(self, split: str, transform: BatchTransform) -> ArrayLoader:
        """A split in its order, as inputs of a model."""
        size = 2 * self.recipe.batch_size
        return ArrayLoader(ArrayDataset(*self.data[split]), size, transform=transform, device=self.device)
