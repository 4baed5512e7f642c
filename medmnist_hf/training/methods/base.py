"""What every method is given and gives back: a run, of which it does one seed, and what it made of that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medmnist_hf.array_types import FloatArray
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.loader import ArrayLoader
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.models.factory import parameter_counts
from medmnist_hf.training.models.input_check import warn_if_small
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import DataRecord


def _nothing(*_: str) -> None:
    """What a run that is not followed does."""


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
        workers: Threads that make batches; None chooses.
        claim: To be called once all that may be refused was checked and before anything is written: it makes the
            seed's folder, and removes a run that is to be replaced. Further calls do nothing.
        echo: Called with each line of progress.
        is_first: Whether this is the first seed.
    """

    recipe: Recipe
    data: dict[str, Arrays]
    record: DataRecord
    device: torch.device
    quiet: bool
    workers: int | None = None
    claim: Callable[[], None] = _nothing
    echo: Callable[[str], None] = _nothing
    is_first: bool = True

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits to score: validation, and test unless configurations are still being compared."""
        return ("validation", "test") if self.recipe.test else ("validation",)

    def batches(self, split: str, transform: BatchTransform) -> ArrayLoader:
        """A split in its order, as inputs of a model."""
        size = 2 * self.recipe.batch_size
        return ArrayLoader(
            ArrayDataset(*self.data[split]), size, transform=transform, device=self.device, prefetch=self.workers
        )

    def describe(self, model: nn.Module, origin: str, *, trained: int | None = None) -> None:
        """Tell how large a network is and what it starts from, and warn of images far below its pretraining size.

        Args:
            model: The network.
            origin: What it starts from, in words.
            trained: Parameters that are trained; None for those of the network that can be.
        """
        total, trainable = parameter_counts(model)
        self.echo(f"  model    {total:,} parameters, {trainable if trained is None else trained:,} trained; {origin}")
        if self.is_first:
            warn_if_small(self.recipe, model)
