"""The robustness of a model as typed records: ``robustness.json`` and ``robustness.csv``.

Only what was measured is read back; BE, rBE and what follows from them are computed again and must agree.
"""

import csv
import io
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from medmnist_hf.corruptions.measures import BalancedErrors, balanced_errors
from medmnist_hf.corruptions.registry import PUBLISHED_SIZE
from medmnist_hf.documents import parse_json
from medmnist_hf.errors import MedMNISTError, TrainingError, cannot_read
from medmnist_hf.files import read_document
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.results import PROVENANCE, DataRecord, Hardware
from medmnist_hf.typed_json import Bounds, Count, Name, OneOf, Sentence, Sha256, Share, decode, encode, text_of

RESULT_NAME: Final = "robustness.json"
CSV_NAME: Final = "robustness.csv"
FIGURE_NAME: Final = "robustness.png"

CLEAN: Final = "clean"
"""In place of a corruption, the test split as it is."""

INCOMPLETE: Final = "incomplete"
"""Mark of a report without some of the corruptions."""

_FORMAT: Final = 1
_HEAD: Final = "errors"


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model scored on the test split at one severity.

    Attributes:
        error: One minus the balanced accuracy, see `medmnist_hf.corruptions.measures.balanced_error`.
        auc: Official AUC; nan if it is undefined.
        acc: Official ACC.
    """

    error: Share
    auc: Share
    acc: Share


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured with one corruption.

    Attributes:
        corruption: Its name, or ``clean``.
        scores: By ascending severity; of clean images one.
        seconds: Duration.
        hardware: What it ran on.
        releases: Library -> version with which it ran.
    """

    corruption: Name
    scores: tuple[Scores, ...]
    seconds: Annotated[float, Bounds(0, 1e12)]
    hardware: Hardware
    releases: dict[str, str]

    @property
    def error(self) -> float:
        """Mean error over the severities."""
        return statistics.fmean(each.error for each in self.scores)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a measurement is of: only those of the same model and data belong together.

    Attributes:
        subset: Flag of the subset.
        size: Size of the images.
        weights_sha256: SHA-256 over the weights of the model.
        pixels_sha256: SHA-256 of the pixels of test.
        labels_sha256: SHA-256 of its labels.
        input: What the model reads of an image, and in what precision.
        images: Whether corrupted images were ``generated`` or read from ``files``.
    """

    subset: Name
    size: Count
    weights_sha256: Sha256
    pixels_sha256: Sha256
    labels_sha256: Sha256
    input: Sentence
    images: Annotated[str, OneOf("generated", "files")]


@dataclass(frozen=True, slots=True)
class Robustness:
    """The robustness of a model.

    Attributes:
        model: Public name of the model.
        method: Method of its run; empty if it is not of a run.
        suffix: The seed or ``ensemble``; may be empty.
        identity: Model and data.
        data: The data with its source.
        trained_on: Provenance of the data that the model was trained on; None if unknown.
        augmented: Whether it was trained on images with these corruptions; None if unknown.
        clean: Scores on clean images.
        corruptions: What was measured with each corruption, in the order of MedMNIST-C.
    """

    model: Name
    method: str
    suffix: str
    identity: Identity
    data: DataRecord
    trained_on: Annotated[str, OneOf(*Provenance)] | None
    augmented: bool | None
    clean: Measured
    corruptions: tuple[Measured, ...]

    @property
    def errors(self) -> BalancedErrors:
        """BE and rBE. Raises a `ScoreError` if there are no corruptions, or unknown ones."""
        return balanced_errors(
            self.identity.subset, self.clean.error, {each.corruption: each.error for each in self.corruptions}
        )

    @property
    def provenance(self) -> Provenance:
        """Provenance of the data that was scored or trained on, whichever may be compared less."""
        kinds = {self.data.provenance, Provenance(self.trained_on or self.data.provenance)}
        return max(kinds, key=list(Provenance).index)

    @property
    def marks(self) -> tuple[str, ...]:
        """The same as `caveats`, each in a word for the name of a file."""
        size = self.identity.size
        marks = (
            self.provenance.banner.lower(),
            "" if size == PUBLISHED_SIZE else f"size{size}",
            INCOMPLETE if self.errors.missing else "",
        )
        return tuple(filter(None, marks))

    @property
    def caveats(self) -> tuple[str, ...]:
        """Why the errors are not comparable with those of others; empty if they are."""
        caveats = [self.provenance.warning] if self.provenance.warning else []
        size = self.identity.size
        if size != PUBLISHED_SIZE:
            caveats.append(
                f"Size {size}: MedMNIST-C is defined for size {PUBLISHED_SIZE}; corruptions at other sizes are of "
                "this project."
            )
        if missing := self.errors.missing:
            caveats.append(f"Incomplete: BE and rBE are without {', '.join(missing)}.")
        return tuple(caveats)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know besides `caveats`, which does not keep the errors from being compared."""
        return ("Trained on images with these corruptions.",) if self.augmented else ()

    def to_json(self) -> str:
        """The text of ``robustness.json``, which begins with provenance, caveats, BE and rBE."""
        return text_of(
            {"format": _FORMAT, PROVENANCE: self.provenance, "caveats": self.caveats, _HEAD: self.errors}
            | encode(self)
        )

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Robustness":
        """Read a ``robustness.json``.

        Raises:
            TrainingError: The file is damaged.
        """
        try:
            table: dict[str, Any] = decode(parse_json(text), dict[str, Any])
            head = {name: table.pop(name, None) for name in ("format", PROVENANCE, "caveats", _HEAD)}
            result: Robustness = decode(table, cls)
            given = {"format": _FORMAT, PROVENANCE: result.provenance, "caveats": result.caveats}
            if encode(given | {_HEAD: result.errors}) != head:
                raise ValueError("BE, rBE, provenance or caveats do not follow from what was measured")
        except (ValueError, MedMNISTError) as error:
            raise TrainingError(f"{where} is damaged ({error}): write it again with medmnist-hf robustness") from None
        return result

    def to_csv(self) -> str:
        """Scores by corruption and severity, with a header; clean images have severity 0, undefined values nothing."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["corruption", "severity", "error", "auc", "acc"])
        for measured in (self.clean, *self.corruptions):
            for severity, scores in enumerate(measured.scores, measured.corruption != CLEAN):
                values = ("" if math.isnan(each) else each for each in (scores.error, scores.auc, scores.acc))
                writer.writerow([measured.corruption, severity, *values])
        return text.getvalue()


def read_robustness(path: Path) -> Robustness:
    """Read a ``robustness.json``. Raises a `TrainingError` if it cannot be read or is damaged."""
    try:
        return Robustness.from_json(read_document(path), str(path))
    except OSError as error:
        raise TrainingError(cannot_read(path, error, "run medmnist-hf robustness")) from None
