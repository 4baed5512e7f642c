"""The input and output of every method: a run, of which it fits one seed, and the result of the fit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import torch
from torch import nn

from medmnist_hf.array_types import Array, FloatArray, IntArray, UInt8Array
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.sampling.rows import ChosenRows
from medmnist_hf.training.data.dataset import ArrayDataset
from medmnist_hf.training.data.few_labels import train_rows
from medmnist_hf.training.data.joint_dataset import JointDataset
from medmnist_hf.training.data.loader import ArrayLoader
from medmnist_hf.training.data.transforms import BatchTransform
from medmnist_hf.training.losses import LossFunction, make_joint_loss, make_loss
from medmnist_hf.training.models.factory import parameter_counts
from medmnist_hf.training.models.input_check import warn_if_small
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.results import DataRecord

_BLOCK_ROWS: Final = 64


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


class TrainingRun(ABC):
    """What training needs of a run, on one subset or on several; the attributes are those of `Run`."""

    __slots__ = ()
    recipe: Recipe
    device: torch.device
    quiet: bool
    workers: int | None
    claim: Callable[[], None]
    echo: Callable[[str], None]
    is_first: bool

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits to score: validation and, if the recipe says so, test."""
        return ("validation", "test") if self.recipe.test else ("validation",)

    def having(self, **values: Any) -> Self:
        """A copy with other values of some attributes."""
        return replace(self, **values)  # type: ignore[type-var]  # both kinds are dataclasses

    @property
    @abstractmethod
    def each(self) -> tuple["Run", ...]:
        """The run of each subset."""

    @abstractmethod
    def for_seed(self, seed: int) -> Self:
        """The run with the train rows of a seed, if the recipe trains on few, and a record of all rows used."""

    @abstractmethod
    def separate(self, scores: FloatArray, split: str) -> list[FloatArray]:
        """The scores of each subset among those of a split."""

    @abstractmethod
    def dataset(self, split: str) -> ArrayDataset:
        """The rows of a split that are used; memory-mapped images stay mapped."""

    @abstractmethod
    def loss(self) -> LossFunction:
        """The loss of the recipe, with weights from the labels of the train rows that are used."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Run(TrainingRun):
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
        rows: Split -> numbers of the rows to use; of other splits, all rows are used.
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
    rows: Mapping[str, IntArray] = field(default_factory=dict)

    @property
    def each(self) -> tuple["Run", ...]:
        """This run alone."""
        return (self,)

    def separate(self, scores: FloatArray, split: str) -> list[FloatArray]:
        """The scores, which are of one subset."""
        return [scores]

    def for_seed(self, seed: int) -> Self:
        """The run with the train rows of a seed, if the recipe trains on few, and a record of all rows used."""
        rows = {**self.rows, **train_rows(self.recipe, self.data, seed, warn=self.is_first)}
        chosen = {split: ChosenRows.of(part) for split, part in rows.items()}
        return replace(self, rows=rows, record=replace(self.record, chosen=chosen))

    def labels(self, split: str) -> Array:
        """The labels of the rows of a split that are used: class ids, or zeros and ones."""
        labels = self.data[split].labels
        return labels[self.rows[split]] if split in self.rows else labels

    def images(self, split: str) -> UInt8Array:
        """The images of the rows of a split that are used; of few rows, a copy in memory."""
        images = self.data[split].images
        return images[self.rows[split]] if split in self.rows else images

    def image_blocks(self, split: str) -> Iterator[UInt8Array]:
        """The images of the rows of a split that are used, in blocks; of few rows, copied block by block."""
        images, rows = self.data[split].images, self.rows.get(split)
        if rows is None:
            yield images
            return
        for start in range(0, len(rows), _BLOCK_ROWS):
            yield images[rows[start : start + _BLOCK_ROWS]]

    def dataset(self, split: str) -> ArrayDataset:
        """The rows of a split that are used; memory-mapped images stay mapped."""
        return ArrayDataset(*self.data[split], self.rows.get(split))

    def loss(self) -> LossFunction:
        """The loss of the recipe, with weights from the labels of the train rows that are used."""
        recipe = self.recipe
        return make_loss(
            recipe.resolved_loss,
            self.labels("train"),
            len(recipe.subset.labels),
            weighted=recipe.class_weights,
            smoothing=recipe.label_smoothing,
        )

    def batches(self, split: str, transform: BatchTransform) -> ArrayLoader:
        """Load the inputs of a split in order."""
        size = 2 * self.recipe.batch_size
        return ArrayLoader(self.dataset(split), size, transform=transform, device=self.device, prefetch=self.workers)


@dataclass(frozen=True, slots=True, eq=False)
class JointRun(TrainingRun):
    """What all seeds of a run on several subsets share.

    Attributes:
        recipe: The recipe to run.
        parts: The run of each subset.
        device: As for `Run`, as are the others.
        quiet: Show no progress on the terminal.
        workers: Number of threads that make batches; None chooses.
        claim: See `Run`.
        echo: Called with each line of progress.
        is_first: Whether this is the first seed.
    """

    recipe: Recipe
    parts: tuple[Run, ...]
    device: torch.device
    quiet: bool
    workers: int | None = None
    claim: Callable[[], None] = _do_nothing
    echo: Callable[[str], None] = _do_nothing
    is_first: bool = True

    @property
    def each(self) -> tuple[Run, ...]:
        """The run of each subset."""
        return self.parts

    def for_seed(self, seed: int) -> Self:
        """The run with the train rows of a seed; see `Run.for_seed`."""
        return replace(self, parts=tuple(replace(part, is_first=self.is_first).for_seed(seed) for part in self.parts))

    def separate(self, scores: FloatArray, split: str) -> list[FloatArray]:
        """The scores of each subset's rows for its own classes."""
        separated, row, column = [], 0, 0
        for part, (_, classes) in zip(self.parts, self.recipe.heads, strict=True):
            rows = len(part.labels(split))
            separated.append(scores[row : row + rows, column : column + classes])
            row, column = row + rows, column + classes
        return separated

    def dataset(self, split: str) -> ArrayDataset:
        """The rows of a split that are used, subset by subset."""
        return JointDataset([part.dataset(split) for part in self.parts], balance=self.recipe.balance)

    def loss(self) -> LossFunction:
        """The loss of each row by its subset, or one over the classes of all subsets."""
        recipe = self.recipe
        return make_joint_loss(
            recipe.heads,
            [part.labels("train") for part in self.parts],
            joint_head=recipe.joint_head,
            weighted=recipe.class_weights,
            smoothing=recipe.label_smoothing,
        )
