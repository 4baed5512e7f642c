"""What a score card costs before it starts: runs, images through the network, and an estimate of the time."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from medmnist_hf.training.benchmark.matrix import BenchmarkRun
from medmnist_hf.training.embedding.tasks import config_of
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import method
from medmnist_hf.training.scorecard.tasks import features_of, readers_of_features

RUN_SECONDS: Final = 10.0
"""Assumed seconds of a process for all but the network: its start, reading data, fitting a probe."""

_FEW: Final = 4
"""Rows of a batch on a CPU, where longer ones are not faster per row."""

TRAINED: Final = 3
"""Passes of an image through the network that a step of training takes, backward included."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of what is not done of a score card.

    Attributes:
        runs: Number of runs.
        seeds: Number of their seeds.
        stores: Number of feature stores to make.
        images: Number of images whose features are computed.
        passes: Number of 2D images or volumes that pass through the network in training and prediction, by kind (2
            or 3 dimensions), those of the stores included; a step of training counts `TRAINED` times.
    """

    runs: int
    seeds: int
    stores: int
    images: int
    passes: dict[int, int]

    def seconds(self, speeds: Mapping[int, float], workers: int) -> float:
        """Estimate the time in seconds.

        Args:
            speeds: Dimensions of the images -> seconds per image.
            workers: Number of tasks at a time.
        """
        network = sum(count * speeds[ndim] for ndim, count in self.passes.items() if count)
        return (network + RUN_SECONDS * (self.runs + self.stores)) / workers


def cost_of(cells: Sequence[BenchmarkRun], waiting: Sequence[BenchmarkRun]) -> Cost:
    """The cost of runs that are not done.

    Args:
        cells: All runs of the card.
        waiting: Those that are not done.

    Raises:
        MedMNISTError: Data was not found.
    """
    rows = {
        cell.recipe.dataset: {name: split.rows for name, split in config_of(cell.recipe).manifest.splits.items()}
        for cell in cells
    }
    passes = {2: 0, 3: 0}
    images = stores = 0
    for flag, recipe in readers_of_features(waiting).items():
        if features_of(recipe) is None:
            stores += 1
            images += sum(rows[flag].values())
            passes[recipe.subset.ndim] += sum(rows[flag].values())
    for cell in waiting:
        recipe, counts = cell.recipe, rows[cell.recipe.dataset]
        chosen, scored = method(recipe.method), counts["validation"] + counts["test"]
        if chosen.trains:
            each = recipe.epochs * (TRAINED * counts["train"] + counts["validation"]) + scored
            passes[recipe.subset.ndim] += each * len(recipe.seeds)
        elif recipe.features is None:
            passes[recipe.subset.ndim] += scored * len(recipe.seeds)
    return Cost(len(waiting), sum(len(cell.recipe.seeds) for cell in waiting), stores, images, passes)


def seconds_per_image(recipe: Recipe) -> tuple[float, str]:
    """Measure how fast a network of random weights computes features on this machine, and name the device.

    Weights do not change the speed, so none are downloaded.

    Raises:
        TrainingError: The network cannot be built, or does not read images of this size.
    """
    from medmnist_hf.training.embedding.extractor import Extractor  # torch takes seconds to import
    from medmnist_hf.training.models.factory import build_model
    from medmnist_hf.training.running import process_state

    device = process_state().device
    few = replace(
        recipe, pretrained=False, checkpoint=None, batch_size=_FEW if device.type == "cpu" else recipe.batch_size
    )
    extractor = Extractor(few, build_model(few), device, 0)
    images = np.zeros((extractor.rows, *recipe.subset.file(recipe.size).image_shape), np.uint8)
    for _ in range(2):  # the first one is slower
        start = time.perf_counter()
        list(extractor.extract([images], len(images)))
        seconds = time.perf_counter() - start
    return seconds / len(images), str(device)
