"""Compute features in batches of one fixed shape, so that a row has the same bits however the work is divided.

Batches start at multiples of their length in the split, and the last one is padded. On the CPU, each batch is computed
on one core, and several batches at the same time: the bits of a depthwise convolution depend on the number of cores
that share it. So the features do not depend on shards, on interruptions, or on the number of threads.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import repeat
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.data.rows import regroup
from medmnist_hf.errors import TrainingError
from medmnist_hf.training.data.dataset import ArrayBatch
from medmnist_hf.training.data.loader import run_in_threads, run_serially
from medmnist_hf.training.data.recipe_transforms import input_transform, memory_format
from medmnist_hf.training.models.heads import classifier_of, pooled_features
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe

CPU_ROWS: Final = 32
"""Most rows of a batch on a CPU, where each core computes a batch: longer ones need more memory and are not faster."""

FloatFeatures = npt.NDArray[np.float32]


class Extractor:
    """A model in evaluation mode with its input transform: there is no dropout, and batch norms keep their statistics.

    Args:
        recipe: The recipe, which defines the input and, with the device, the length of a batch.
        built: The model; it is moved to the device. Weights and statistics do not change.
        device: Device to compute on.
        workers: On a CPU, number of batches that are computed at the same time; 0 computes them in the caller's
            thread. None takes the number of threads of torch.

    Attributes:
        rows: Number of rows of a batch.
        width: Number of features of a row.

    Raises:
        TrainingError: The model has no linear classifier, or its input transform does not suit the images.
    """

    def __init__(self, recipe: Recipe, built: Built, device: torch.device, workers: int | None = None) -> None:
        model: Any = built.model  # torch's stubs lack the memory format of modules
        classifier: Any = classifier_of(model)[1]
        self.width = int(classifier.weight.flatten(1).shape[1])
        self.device = device
        self.rows = min(recipe.batch_size, CPU_ROWS) if device.type == "cpu" else recipe.batch_size
        self._model = model.eval().to(device=device, memory_format=memory_format(recipe))
        self._transform = input_transform(recipe, built.mean, built.std, built.image_size)
        threads = torch.get_num_threads()
        self._workers = (threads if threads > 1 else 0) if workers is None else workers

    def extract(self, blocks: Iterable[UInt8Array], count: int) -> Iterator[FloatFeatures]:
        """Compute the features of consecutive rows of a split.

        Args:
            blocks: Images or volumes as stored, in blocks of any length. The first row must be at a multiple of `rows`
                in the split.
            count: Number of rows: up to the end of the split, or to another multiple of `rows`.

        Yields:
            float32 of shape (n, `width`), one array per batch.

        Raises:
            TrainingError: The logits are not the outputs of a single linear layer, or not finite.
        """
        lengths = [min(self.rows, count - start) for start in range(0, count, self.rows)]
        batches = regroup(blocks, lengths)
        if self.device.type != "cpu":
            with closing(run_in_threads(lambda _: next(batches), repeat(None, len(lengths)), 1)) as ahead:
                for batch in ahead:
                    yield self._compute(batch)
            return
        computed = (
            run_in_threads(self._compute, batches, self._workers)
            if self._workers
            else run_serially(self._compute, batches)
        )
        with closing(computed):
            yield from computed

    @torch.inference_mode()
    def _compute(self, images: UInt8Array) -> FloatFeatures:
        count = len(images)
        padded = torch.empty((self.rows, *images.shape[1:]), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        array = padded.numpy()
        array[:count], array[count:] = images, images[-1:]
        none = torch.zeros(self.rows, dtype=torch.int64)
        batch = ArrayBatch(padded, none, none)
        if self.device.type != "cpu":
            batch = batch.to(self.device)
        features = pooled_features(self._model, self._transform(batch)["pixel_values"]).float()
        if features.shape != (self.rows, self.width):
            raise TrainingError(
                f"{type(self._model).__name__} gives features of shape {tuple(features.shape)} for {self.rows} "
                f"images, not ({self.rows}, {self.width}): name another model"
            )
        return features[:count].cpu().numpy()
