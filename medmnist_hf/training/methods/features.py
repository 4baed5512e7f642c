"""Frozen features, the inputs of a network's classifier, for the methods that work on them.

They are computed in the run, or read from a feature store if the recipe names a folder of stores.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from accelerate import PartialState  # type: ignore[import-untyped]

from medmnist_hf.array_types import Int64Array
from medmnist_hf.data.configs import open_config
from medmnist_hf.embeddings.reading import read_split
from medmnist_hf.errors import TrainingError
from medmnist_hf.files import expand_user
from medmnist_hf.training.embedding.extractor import Extractor
from medmnist_hf.training.embedding.store import FeatureJob
from medmnist_hf.training.methods.base import Run
from medmnist_hf.training.models.saving import Built
from medmnist_hf.training.registry import METHODS

COMPUTED = "computed in this run"
"""Origin of features that are not from a store."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of a split.

    Attributes:
        values: float32 of shape (N, F).
        labels: int64 of shape (N,), or multi-hot of shape (N, L).
        origin: Where they are from, for the results.
    """

    values: npt.NDArray[np.float32]
    labels: Int64Array
    origin: str = COMPUTED


def extract(extractor: Extractor, run: Run, split: str) -> Features:
    """Compute the features of the rows of a split that are used.

    Raises:
        TrainingError: The model has no linear classifier, or its logits are not finite.
    """
    labels = run.labels(split)
    values = np.empty((len(labels), extractor.width), np.float32)
    start = 0
    for part in extractor.extract(run.image_blocks(split), len(values)):
        values[start : start + len(part)] = part
        start += len(part)
    return Features(values, labels.astype(np.int64))


def split_features(run: Run, built: Built, splits: Iterable[str]) -> dict[str, Features]:
    """The features of the given splits: split -> features.

    If the recipe names a folder of stores, they are read from the store of this model and data there, which is made if
    it does not exist. Both ways give the same bits, unless the store has float16 or was made on other hardware.

    Raises:
        TrainingError: The loss is ordinal, for which there is no classifier on frozen features; or as for `extract`.
        BuildError: The store is damaged, or is of another model, another input or other data.
    """
    recipe = run.recipe
    if recipe.resolved_loss == "ordinal":
        methods = " or ".join(name for name, method in METHODS.items() if method.trains)
        raise TrainingError(f"loss ordinal is not for frozen features: use {methods} without probe_first")
    if recipe.features is None:
        run.claim()
        extractor = Extractor(recipe, built, run.device, run.workers)
        return {split: extract(extractor, run, split) for split in splits}
    config = open_config(recipe.source, recipe.config, recipe.root, revision=recipe.revision)
    job = FeatureJob(recipe, built, config, expand_user(recipe.features))
    if job.exists():
        job.find()  # before the run's folder is claimed
    run.claim()
    return _stored(run, job, splits)


def _stored(run: Run, job: FeatureJob, splits: Iterable[str]) -> dict[str, Features]:
    extractor = Extractor(run.recipe, job.built, run.device, run.workers)
    with PartialState().main_process_first():
        made = None if job.exists() else job.make(extractor)
        folder, manifest = job.find()
    origin = f"{'written to' if made is not None and not made.reused else 'read from'} {folder}, {manifest.dtype}"
    run.echo(f"  features {origin}")
    found = {}
    for split in splits:
        features, labels = read_split(Path(folder), manifest, split)
        if not np.array_equal(labels, run.data[split].labels):
            raise TrainingError(f"{folder} has other rows of {split} than this run: leave out features")
        rows = run.rows.get(split, slice(None))
        found[split] = Features(features[rows].astype(np.float32), labels[rows].astype(np.int64), origin)
    return found
