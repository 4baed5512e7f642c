"""Make a feature store of a build by the model of a recipe, or read an existing one, and verify it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medmnist_hf.conversion.sharding import RowRange
from medmnist_hf.data.configs import BuiltConfig
from medmnist_hf.data.rows import BuiltRows
from medmnist_hf.embeddings.manifest import ComputeRecord, StoreManifest, different_model
from medmnist_hf.embeddings.reading import StoredFeatures, read_split
from medmnist_hf.embeddings.stores import check_data, find_store, store_folder
from medmnist_hf.embeddings.writing import Written, plan_splits, write_store
from medmnist_hf.errors import BuildError, VerificationError
from medmnist_hf.manifest import MANIFEST_NAME
from medmnist_hf.training.embedding.extractor import Extractor
from medmnist_hf.training.embedding.identity import input_record, model_record, releases
from medmnist_hf.training.models.from_transformers import RANDOM
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.recipe import Recipe

TOLERANCE: Final = {"float32": 1e-4, "float16": 2e-3}
"""Type of a store -> largest difference of a feature from its live value, relative to the largest feature of the row.

On the machine that made the store, the difference is zero; other hardware rounds otherwise.
"""


@dataclass(frozen=True, slots=True)
class FeatureJob:
    """The features of a build by the model of a recipe, stored or to be stored in a folder.

    Attributes:
        recipe: The recipe that describes the model and its input.
        built: The model.
        config: The build.
        root: Folder of feature stores.
        dtype: Type of the features of a new store.
    """

    recipe: Recipe
    built: Built
    config: BuiltConfig
    root: Path
    dtype: str = "float32"

    def make(
        self,
        extractor: Extractor,
        *,
        force: bool = False,
        on_progress: Callable[[int], object] = lambda rows: None,
    ) -> Written:
        """Write the store, resume an interrupted one, or reuse a complete one.

        Rows are read, decoded and stored in blocks, so a split may be larger than the memory.

        Raises:
            BuildError: The folder holds another store, or is not writable; or a shard of the images is damaged.
            TrainingError: The model has no features.
        """
        images, rows = self.config.manifest, BuiltRows(self.config)
        planned = StoreManifest(
            subset=images.subset,
            size=images.size,
            model=model_record(self.recipe, self.built),
            input=input_record(self.recipe, self.built),
            compute=ComputeRecord(extractor.rows, extractor.device.type),
            dtype=self.dtype,
            width=extractor.width,
            source=images.source,
            images_id=images.content_id,
            splits=plan_splits(images),
            releases=releases(),
        )

        def extract(split: str, ranges: Sequence[RowRange]) -> Iterator[NDArray[Any]]:
            return features_between(rows, extractor, split, ranges)

        return write_store(self.root, planned, images, rows.targets, extract, force=force, on_progress=on_progress)

    def find(self) -> tuple[Path, StoreManifest]:
        """The existing store, after checking that it is of this model, input and data; any type of features will do.

        Raises:
            SourceError: There is none.
            BuildError: It is of another model, another input or other data.
        """
        images = self.config.manifest
        folder, manifest = find_store(self.root, self.config.entry, images.size, self.recipe.model)
        model = model_record(self.recipe, self.built)
        difference = different_model(manifest, model, input_record(self.recipe, self.built))
        unlike = manifest.model.weights_sha256 != model.weights_sha256
        if unlike and manifest.model.id == model.id and manifest.model.origin == model.origin == RANDOM:
            raise BuildError(
                f"{folder} holds features of a network without weights, which has others for each seed: give "
                "--checkpoint, or leave out --features"
            )
        if difference:
            raise BuildError(
                f"{folder} holds features of another model or input ({difference}): give the options that it was made "
                "with, make it again with medmnist-hf embed --force, or name another folder"
            )
        check_data(folder, manifest, images, self.config.where)
        return folder, manifest

    def exists(self) -> bool:
        """Whether there is a complete store under the name of this one."""
        folder = store_folder(self.root, self.config.entry, self.config.size, self.recipe.model)
        return (folder / MANIFEST_NAME).exists()


def features_between(
    rows: BuiltRows, extractor: Extractor, split: str, ranges: Sequence[RowRange]
) -> Iterator[NDArray[np.float32]]:
    """Compute the features of some rows of a split; whole batches are computed, so that all rows keep their bits.

    Args:
        rows: The images.
        extractor: The model.
        split: Name of the split.
        ranges: The rows, ascending and disjoint.

    Yields:
        float32 (n, D): the features of the ranges, one after the other.
    """
    for span in _whole_batches(ranges, extractor.rows, rows.count(split)):
        start = span.start
        for values in extractor.extract(rows.between(split, span.start, span.stop), len(span)):
            stop = start + len(values)
            for wanted in ranges:
                low, high = max(start, wanted.start), min(stop, wanted.stop)
                if low < high:
                    yield values[low - start : high - start]
            start = stop


def _whole_batches(ranges: Sequence[RowRange], length: int, count: int) -> list[RowRange]:
    """The smallest ranges of whole batches that cover some ranges."""
    spans: list[RowRange] = []
    for wanted in ranges:
        start, stop = wanted.start // length * length, min(count, -(-wanted.stop // length) * length)
        if spans and start <= spans[-1].stop:
            start = spans.pop().start
        spans.append(RowRange(start, stop))
    return spans


def verify_store(
    job: FeatureJob,
    extractor: Extractor,
    *,
    rows: int | None = None,
    on_progress: Callable[[int], object] = lambda rows: None,
) -> tuple[int, float]:
    """Check every file of a store against its digest, and its features and labels against the images.

    Args:
        job: The store.
        extractor: The model.
        rows: Number of rows per split to compute again, in whole batches spread over the split; None for all.
        on_progress: Called with the number of rows just compared.

    Returns:
        Number of rows compared, and the largest difference of a feature relative to the largest feature of its row.

    Raises:
        VerificationError: A feature or label differs.
        BuildError: The store is missing or damaged, or is of another model, another input or other data.
    """
    folder, manifest = job.find()
    images = BuiltRows(job.config)
    compared, largest = 0, 0.0
    for split in manifest.splits:
        stored: StoredFeatures = read_split(folder, manifest, split)
        if not np.array_equal(stored.labels, images.targets(split)):
            raise VerificationError(f"{folder}: the labels of {split} are not those of {job.config.where}")
        ranges = _sample(len(stored.labels), extractor.rows, rows)
        position = iter([row for part in ranges for row in range(part.start, part.stop)])
        for live in features_between(images, extractor, split, ranges):
            at = np.fromiter(position, np.int64, len(live))
            scale = np.maximum(np.abs(live).max(1), 1e-12)
            differences = np.abs(stored.features[at].astype(np.float32) - live).max(1) / scale
            worst = int(differences.argmax())
            if not differences[worst] <= TOLERANCE[manifest.dtype]:
                raise VerificationError(
                    f"{folder}: row {at[worst]} of {split} differs from its image by {differences[worst]:.2g} of its "
                    "largest feature: make the features again with medmnist-hf embed --force"
                )
            largest = max(largest, float(differences[worst]))
            compared += len(live)
            on_progress(len(live))
    return compared, largest


def _sample(count: int, length: int, rows: int | None) -> list[RowRange]:
    """Whole batches with `rows` rows or a little more, spread evenly over a split."""
    batches = -(-count // length)
    chosen = batches if rows is None else min(batches, -(-rows // length))
    starts = sorted({at * batches // chosen * length for at in range(chosen)})
    return [RowRange(start, min(start + length, count)) for start in starts]
