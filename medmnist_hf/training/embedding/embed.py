"""Make or verify the feature stores of several data sets, one after the other; one that fails does not stop others."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import set_seed

from medmnist_hf.embeddings.writing import Written
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.embedding.extractor import Extractor
from medmnist_hf.training.embedding.store import FeatureJob, verify_store
from medmnist_hf.training.embedding.tasks import config_of
from medmnist_hf.training.models.factory import build_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.run_folder import pin_files


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How features are computed and stored.

    Attributes:
        root: Folder of feature stores.
        dtype: ``float32`` or ``float16``.
        device: Device to compute on.
        workers: Number of batches that a CPU computes at the same time, see `Extractor`.
        force: Replace a store of another model or of other data.
    """

    root: Path
    dtype: str
    device: torch.device
    workers: int | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one data set.

    Attributes:
        recipe: The recipe that names data and model.
        written: The store; None if it failed.
        error: Why it failed; None if it succeeded.
        seconds: Duration, in which the model was loaded too.
        speed: Images per second while features were computed; 0 if none were.
    """

    recipe: Recipe
    written: Written | None
    error: MedMNISTError | None
    seconds: float
    speed: float


def load_job(recipe: Recipe, options: EmbedOptions) -> tuple[FeatureJob, Extractor]:
    """Load the model of a recipe, with random weights of seed 0 if it has no others, and find the data.

    Raises:
        MedMNISTError: The data was not found, or the model cannot be built.
    """
    config, recipe = config_of(recipe), pin_files(recipe)
    set_seed(0)
    built = build_model(recipe)
    job = FeatureJob(recipe, built, config, options.root, options.dtype)
    return job, Extractor(recipe, built, options.device, options.workers)


def embed(recipe: Recipe, options: EmbedOptions, on_progress: Callable[[int], object] = lambda rows: None) -> Outcome:
    """Make one store.

    Args:
        recipe: The recipe that names data and model.
        options: How features are computed and stored.
        on_progress: Called with the number of rows just stored.
    """
    start = time.monotonic()
    try:
        job, extractor = load_job(recipe, options)
        loaded = time.monotonic()
        written = job.make(extractor, force=options.force, on_progress=on_progress)
    except MedMNISTError as error:
        return Outcome(recipe, None, error, time.monotonic() - start, 0.0)
    end = time.monotonic()
    return Outcome(recipe, written, None, end - start, written.extracted / max(end - loaded, 1e-9))


def embed_all(
    recipes: Iterable[Recipe],
    options: EmbedOptions,
    *,
    on_start: Callable[[Recipe], object] = lambda recipe: None,
    on_progress: Callable[[int], object] = lambda rows: None,
) -> Iterator[Outcome]:
    """Make the stores of several recipes; yields an outcome for each, in order."""
    for recipe in recipes:
        on_start(recipe)
        yield embed(recipe, options, on_progress)


def verify(
    recipe: Recipe,
    options: EmbedOptions,
    rows: int | None,
    on_progress: Callable[[int], object] = lambda rows: None,
) -> str:
    """Verify one store, see `verify_store`; returns a line that says what was compared.

    Raises:
        MedMNISTError: The store is missing or damaged, is of another model or of other data, or differs.
    """
    job, extractor = load_job(recipe, options)
    compared, difference = verify_store(job, extractor, rows=rows, on_progress=on_progress)
    folder, manifest = job.find()
    exact = "equal to" if difference == 0 else f"within {difference:.1g} of"
    return (
        f"ok: {folder}: {len(manifest.shards)} files match the manifest, {compared:,} of {manifest.rows:,} rows are "
        f"{exact} live features"
    )
