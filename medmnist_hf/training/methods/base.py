"""The input and output of every method: a run, of which it fits one seed, and the result of the fit."""

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


def _do_nothing(*_: str) -> None:
    """The default of callbacks."""


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """The result of a method for one seed.

    Attributes:
        scores: Split -> scores, float64 of shape (N, K): ``validation`` and, if the recipe scores it, ``test``.
        facts: Further values to report, as JSON: for example the best epoch or the selected penalty.
        built: The model to publish; None for methods whose model cannot predict on its own.
        stopped: Whether Ctrl-C ended the fit, so that this is the best model so far.
        earlier_seconds: Seconds that earlier processes spent on the work that was resumed.
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
        recipe: The recipe to run.
        data: Split -> images and labels.
        record: Description of the data.
        device: Device to compute on.
        quiet: Show no progress on the terminal.
        workers: Number of threads that make batches; None chooses.
        claim: Must be called after all checks and before anything is written. It makes the seed's folder and removes a
            run to be replaced. Further calls do nothing.
        echo: Called with each line of progress.
        is_first: Whether this is the first seed.
    """

    recipe: Recipe
    data: dict[str, Arrays]
    record: DataRecord
    device: torch.device
    quiet: bool
    workers: int | None = None
    claim: Callable[[], None] = _do_nothing
    echo: Callable[[str], None] = _do_nothing
    is_first: bool = True

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits to score: validation and, if the recipe says so, test."""
        return ("validation", "test") if self.recipe.test else ("validation",)

    def batches(self, split: str, transform: BatchTransform) -> ArrayLoader:
        """Load the inputs of a split in order."""
        size = 2 * self.recipe.batch_size
        return ArrayLoader(
            ArrayDataset(*self.data[split]), size, transform=transform, device=self.device, prefetch=self.workers
        )

    def describe(self, built: Built, model: nn.Module | None = None, *, trained: int | None = None) -> None:
        """Report size, origin and input of a network, and warn if images are much smaller than in its pretraining.

        Args:
            built: The network.
            model: The network as it is trained; by default that of `built`.
            trained: Number of trained parameters; None counts those of the network that require gradients.
        """
        model = model or built.model
        total, trainable = parameter_counts(model)
        self.echo(
            f"  model    {total:,} parameters, {trainable if trained is None else trained:,} trained; {built.origin}; "
            f"reads {built.image_size} pixels"
        )
        if self.is_first:
            warn_if_small(self.recipe, model)
