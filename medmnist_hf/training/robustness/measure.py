"""Measure the robustness of a model: score the test split clean and with each corruption at each severity.

Images are read, corrupted and scored batch by batch, so memory does not grow with the data. What was measured with a
corruption is written to a folder at once, and is not measured again::

    measured/clean.json          scores on clean images
    measured/motion_blur.json    scores by severity
    robustness.json, ...         the report of what was measured
"""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

from medmnist_hf.array_types import Array, UInt8Array
from medmnist_hf.corruptions.apply import releases as image_releases
from medmnist_hf.corruptions.arrays import corrupt_batch
from medmnist_hf.corruptions.measures import balanced_error
from medmnist_hf.corruptions.registry import SEVERITIES, corruptions, find_corruption
from medmnist_hf.data.configs import BuiltConfig, open_config
from medmnist_hf.data.rows import BuiltRows, regroup
from medmnist_hf.errors import DivergenceError, TrainingError, cannot_read
from medmnist_hf.files import read_document, write_atomically
from medmnist_hf.places.names import parse_name
from medmnist_hf.scoring.metrics import metrics
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import check
from medmnist_hf.training.data.loader import run_in_threads
from medmnist_hf.training.prediction.predict import LoadedModel
from medmnist_hf.training.results import HEADLINE, DataRecord
from medmnist_hf.training.robustness.corrupted_files import read_corrupted
from medmnist_hf.training.robustness.results import CLEAN, Identity, Measured, Robustness, Scores
from medmnist_hf.training.robustness.subject import Subject
from medmnist_hf.training.scoring import hardware, releases
from medmnist_hf.typed_json import decode_versioned, encode, text_of

MEASURED: Final = "measured"
"""Folder of what was measured, within that of the report."""

TEST: Final = "test"

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class _Stored:
    identity: Identity
    measured: Measured


@dataclass(frozen=True, slots=True)
class Bench:
    """A model, the data it is tested on, and the folder of what is measured.

    Attributes:
        subject: The model.
        config: The data: a build of the subset and size that the model reads.
        out: Folder of the report.
        corrupted: Folder of corrupted test splits in the layout of MedMNIST-C; None to corrupt images here.
    """

    subject: Subject
    config: BuiltConfig
    out: Path
    corrupted: Path | None = None

    @classmethod
    def open(
        cls,
        subject: Subject,
        out: Path,
        name: str | None = None,
        *,
        root: str | Path | None = None,
        revision: str | None = None,
        corrupted: Path | None = None,
    ) -> "Bench":
        """Find the data for a model.

        Args:
            subject: The model.
            out: Folder of the report.
            name: Name of the data set; None for that of the recipe.
            root: Folder of builds in which to find it.
            revision: Branch, tag or commit on the Hub.
            corrupted: As the attribute.

        Raises:
            CatalogError: MedMNIST-C has no corruptions for the subset of the model.
            TrainingError: The data is of another subset or size.
            MedMNISTError: The data was not found.
        """
        recipe = subject.recipe
        corruptions(recipe.dataset)
        if name is None:
            name, root, revision = recipe.source, root or recipe.root, revision or recipe.revision
        named = parse_name(name)
        flag, size = named.entry and named.entry.flag, named.size
        if flag in {None, recipe.dataset} and size in {None, recipe.size}:
            config = open_config(name, recipe.size, root, revision=revision)
            flag, size = config.entry.flag, config.size
            if flag == recipe.dataset:
                return cls(subject, config, out, corrupted)
        raise TrainingError(
            f"{subject.title} was trained on {recipe.dataset} at size {recipe.size}, not on {flag or recipe.dataset} "
            f"at size {size or recipe.size}: name the data that it was trained on"
        )

    @property
    def rows(self) -> int:
        """Number of test rows."""
        return self.config.split(TEST).rows

    def identity(self) -> Identity:
        """What measurements are of. Raises a `TrainingError` if the model has no weights."""
        record = self.config.split(TEST)
        return Identity(
            self.config.entry.flag,
            self.config.size,
            self.subject.digest,
            record.pixels_sha256,
            record.labels_sha256,
            self.subject.input,
            "generated" if self.corrupted is None else "files",
        )

    def stored(self, name: str, identity: Identity) -> Measured | None:
        """What was measured with a corruption, or on clean images; None if nothing was.

        Raises:
            TrainingError: The file is damaged, or is of another model or of other data.
        """
        path = self.path(name)
        try:
            stored: _Stored = decode_versioned(read_document(path), _Stored, _FORMAT)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise TrainingError(cannot_read(path, error, "remove it and run again")) from None
        if stored.identity != identity or stored.measured.corruption != name:
            raise TrainingError(
                f"{path} is of another model or of other data: name another --out, or measure again with --force"
            )
        return stored.measured

    def path(self, name: str) -> Path:
        """The file of what was measured with a corruption."""
        return self.out / MEASURED / f"{name}.json"

    def discard(self, names: Sequence[str], identity: Identity) -> None:
        """Remove what was measured with some corruptions, and what is damaged, of another model or of other data."""
        for name in (CLEAN, *(each.name for each in corruptions(identity.subset))):
            try:
                unwanted = name in names or self.stored(name, identity) is None
            except TrainingError:
                unwanted = True
            if unwanted:
                self.path(name).unlink(missing_ok=True)

    def report(self, identity: Identity) -> Robustness | None:
        """The robustness by all that was measured; None without clean images or any corruption.

        Raises:
            TrainingError: As for `stored`.
        """
        clean = self.stored(CLEAN, identity)
        names = [each.name for each in corruptions(self.config.entry.flag)]
        found = tuple(measured for name in names if (measured := self.stored(name, identity)))
        if clean is None or not found:
            return None
        subject = self.subject
        data, trained = DataRecord.of(self.config), subject.trained_on
        augmented = subject.recipe.corruptions if subject.method else None
        about = (subject.title, subject.method, subject.suffix, identity, data, trained and str(trained), augmented)
        return Robustness(*about, clean, found)


def choose_corruptions(flag: str, names: Sequence[str]) -> tuple[str, ...]:
    """Clean images and the named corruptions of a subset, or all of them, in the order of MedMNIST-C.

    Raises:
        CatalogError: The subset has no corruptions, or not one of those named.
    """
    wanted = {name if name == CLEAN else find_corruption(flag, name).name for name in names}
    listed = (CLEAN, *(each.name for each in corruptions(flag)))
    return tuple(name for name in listed if name in wanted or not names)


def passes(names: Sequence[str]) -> int:
    """How many times the test split is scored."""
    return sum(1 if name == CLEAN else len(SEVERITIES) for name in names)


def measure(
    bench: Bench,
    names: Sequence[str],
    device: torch.device,
    *,
    batch_size: int | None = None,
    threads: int = 1,
    force: bool = False,
    on_start: Callable[[str], object] = lambda name: None,
    on_progress: Callable[[int], object] = lambda count: None,
) -> Identity:
    """Measure what is not measured yet, and store each corruption once it is complete.

    Args:
        bench: Model and data.
        names: Corruptions, or ``clean``.
        device: Device to compute on.
        batch_size: Images per batch; None for that of the run's evaluation.
        threads: Threads that corrupt images ahead of the model; pixels do not depend on it.
        force: Measure these corruptions again, and remove what is of another model or of other data.
        on_start: Called with each name.
        on_progress: Called with the number of images just scored, also for those that were measured before.

    Returns:
        What the measurements are of.

    Raises:
        TrainingError: The model cannot be loaded, or the folder holds measurements of another model or other data.
        DivergenceError: Scores are not finite.
        MedMNISTError: The data cannot be read.
        OSError: The folder cannot be written.
    """
    identity = bench.identity()
    disable_progress_bar()  # type: ignore[no-untyped-call]  # one bar per model
    models: list[LoadedModel] = []
    if force:
        models = bench.subject.load(device)
        bench.discard(names, identity)
    (bench.out / MEASURED).mkdir(parents=True, exist_ok=True)
    for name in names:
        on_start(name)
        levels: tuple[int, ...] = (0,) if name == CLEAN else SEVERITIES
        if bench.stored(name, identity) is not None:
            on_progress(len(levels) * bench.rows)
            continue
        models = models or bench.subject.load(device)
        measured = _measure(bench, name, levels, models, batch_size, threads, on_progress)
        text = text_of({"format": _FORMAT} | encode(_Stored(identity, measured)))
        write_atomically(bench.path(name), text)
    return identity


def _measure(  # noqa: PLR0917
    bench: Bench,
    name: str,
    levels: Sequence[int],
    models: Sequence[LoadedModel],
    batch_size: int | None,
    threads: int,
    on_progress: Callable[[int], object],
) -> Measured:
    begun, rows = time.monotonic(), BuiltRows(bench.config)
    step = batch_size or 2 * bench.subject.recipe.batch_size
    counts = [min(step, bench.rows - at) for at in range(0, bench.rows, step)]
    logits: dict[int, list[list[Array]]] = {level: [[] for _ in models] for level in levels}
    for images, level in _images(bench, rows, name, levels, counts, threads):
        for model, batches in zip(models, logits[level], strict=True):
            batches.append(model.logits(images))
        on_progress(len(images))
    labels = rows.targets(TEST)
    scores = [_score(bench, name, level, each, labels, models) for level, each in logits.items()]
    return Measured(name, tuple(scores), time.monotonic() - begun, hardware(), releases() | image_releases())


def _images(  # noqa: PLR0917
    bench: Bench, rows: BuiltRows, name: str, levels: Sequence[int], counts: Sequence[int], threads: int
) -> Iterator[tuple[UInt8Array, int]]:
    """Batches of the test split, each with its severity; 0 for clean images."""
    if name == CLEAN:
        yield from ((images, 0) for images in regroup(rows.images(TEST), counts))
        return
    flag = bench.config.entry.flag
    if bench.corrupted is not None:
        yield from read_corrupted(bench.corrupted, rows, find_corruption(flag, name), counts)
        return

    def items() -> Iterator[tuple[UInt8Array, int, int]]:
        start = 0
        for images in regroup(rows.images(TEST), counts):
            yield from ((images, level, start) for level in levels)
            start += len(images)

    def corrupted(item: tuple[UInt8Array, int, int]) -> tuple[UInt8Array, int]:
        images, level, start = item
        return corrupt_batch(images, flag, name, level, rows=range(start, start + len(images))), level

    yield from run_in_threads(corrupted, items(), threads)


def _score(  # noqa: PLR0917
    bench: Bench, name: str, severity: int, logits: Sequence[list[Array]], labels: Any, models: Sequence[LoadedModel]
) -> Scores:
    table = np.mean([model.scores(np.concatenate(each)) for model, each in zip(models, logits, strict=True)], axis=0)
    if not np.isfinite(table).all():
        what = "clean images" if name == CLEAN else f"{name} at severity {severity}"
        raise DivergenceError(f"{bench.subject.title} gave scores that are not finite for {what}: train it again")
    entry = bench.config.entry
    predictions = check(labels, table, entry.task, num_classes=len(entry.labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        found = metrics(predictions, HEADLINE)
    return Scores(balanced_error(predictions), found["auc"], found["acc"])
