"""Vertex AI image classification: names of labels and images, and the lines of its JSONL files.

Written from the documentation of Vertex AI, as of 2026; nothing here has been run against the service:

- "Prepare image training data for classification": the lines of an import file, for one or several labels per image,
  the label ``None_of_the_above``, and the rule that labels in a CSV file "must start with a letter and only contain
  letters, numbers, and underscores".
- "REST Resource: projects.locations.datasets.annotationSpecs": a display name has at most 128 characters.
- "ImageClassificationPredictionInstance" and "ImageClassificationPredictionParams": the lines and parameters of a
  batch prediction, which by default returns only the ten best labels.

Example:
    >>> from medmnist_hf.catalog import subset
    >>> from medmnist_hf.vertex import display_names
    >>> display_names(subset("breastmnist"))
    ('malignant', 'normal_benign')
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from medmnist_hf.catalog import SPLITS, Subset, Task, entries
from medmnist_hf.errors import MedMNISTError

IMPORT_NAME: Final = "import.jsonl"
PARAMETERS_NAME: Final = "batch_parameters.json"
"""File with the ``modelParameters`` of a batch prediction job, ``model_parameters`` in the Python client."""

NO_FINDING: Final = "None_of_the_above"
"""Label of a row without findings. An import file may hold items without labels, but the documentation does not say
that a model learns from them; it advises this label for images that match no other."""

_ML_USE: Final = {"train": "training", "validation": "validation", "test": "test"}
_FOLDER: Final = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/(?!\.{1,2}(?:/|$))[^/\s\x00-\x1f#?*\[\]]+)*")
"""A bucket and folders, named as "About Cloud Storage buckets" and "About Cloud Storage objects" advise."""

_IMAGE: Final = re.compile(rf"gs://.+/(?P<name>\w+)/(?P<split>{'|'.join(SPLITS)})/(?P=split)(?P<row>\d{{1,9}})\.png")


@dataclass(frozen=True, slots=True)
class ImageRef:
    """The row that an exported image belongs to.

    Attributes:
        entry: The subset.
        size: Edge length in pixels.
        split: ``train``, ``validation`` or ``test``.
        row: Row number within the split, from 0.
    """

    entry: Subset
    size: int
    split: str
    row: int


@cache
def display_names(entry: Subset) -> tuple[str, ...]:
    """Return the label names of a subset for Vertex AI, in the order of the catalog.

    They follow the strictest rule in the documentation, that for CSV files: characters other than letters and digits
    become underscores, and a name that starts with a digit gets the prefix ``label_``. The names of a subset stay
    distinct, so each identifies its label.
    """
    names = (re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_") for label in entry.labels)
    return tuple(name if name[0].isalpha() else f"label_{name}" for name in names)


def check_folder(uri: str | None) -> str:
    """Return the Cloud Storage folder that images will be copied to, ``gs://BUCKET/FOLDER`` without a final slash.

    Raises:
        MedMNISTError: The URI is missing or not valid.
    """
    if uri is None:
        raise MedMNISTError(
            "the format vertex needs the Cloud Storage folder of the images: give --gcs gs://BUCKET/FOLDER"
        )
    if not _FOLDER.fullmatch(folder := uri.removesuffix("/")):
        raise MedMNISTError(
            f"--gcs {uri!r} is not a valid folder in Cloud Storage: give gs://BUCKET/FOLDER, with a bucket name of "
            "3 to 63 lower-case characters and no spaces or wildcards"
        )
    return folder


def image_path(name: str, split: str, row: int, rows: int) -> str:
    """Return the path of an image relative to the exported folder and to its copy in Cloud Storage.

    `image_ref` reads it back.

    Args:
        name: Official name of the config, e.g. ``pathmnist_224``.
        split: ``train``, ``validation`` or ``test``.
        row: Row number within the split.
        rows: Number of rows in the split; row numbers are padded to the same width.
    """
    return f"{name}/{split}/{split}{row:0{len(str(rows - 1))}d}.png"


def image_ref(uri: str) -> ImageRef | None:
    """Identify an exported image by its URI; None if the URI does not belong to one."""
    match = _IMAGE.fullmatch(uri)
    config = _configs().get(match["name"]) if match else None
    return ImageRef(*config, match["split"], int(match["row"])) if match and config else None


def import_line(uri: str, split: str, entry: Subset, labels: npt.NDArray[Any]) -> str:
    """Return a line of the import file.

    Args:
        uri: URI of the image in Cloud Storage.
        split: Split of the image, written as its ``ml_use``.
        entry: Subset of the image; its task decides between one label and a list.
        labels: Class id of shape ``(1,)``, or findings of shape ``(L,)`` with 0 and 1 for the multi-label task.
    """
    names = display_names(entry)
    item: dict[str, Any] = {"imageGcsUri": uri}
    if entry.task is Task.MULTI_LABEL:
        findings = [names[label] for label in np.flatnonzero(labels)] or [NO_FINDING]
        item["classificationAnnotations"] = [{"displayName": name} for name in findings]
    else:
        item["classificationAnnotation"] = {"displayName": names[int(labels[0])]}
    item["dataItemResourceLabels"] = {"aiplatform.googleapis.com/ml_use": _ML_USE[split]}
    return json.dumps(item) + "\n"


def batch_name(split: str) -> str:
    """Return the name of the batch prediction input file for a split."""
    return f"batch_{split}.jsonl"


def batch_line(uri: str) -> str:
    """Return a line of the batch prediction input file."""
    return json.dumps({"content": uri, "mimeType": "image/png"}) + "\n"


def batch_parameters(entry: Subset) -> dict[str, float | int]:
    """Return batch prediction parameters that ask for the confidence of every label."""
    labels = len(entry.labels) + (entry.task is Task.MULTI_LABEL)
    return {"confidenceThreshold": 0.0, "maxPredictions": labels}


@cache
def _configs() -> dict[str, tuple[Subset, int]]:
    """Official name of a 2D config -> its subset and size."""
    images = (entry for entry in entries() if entry.ndim == 2)
    return {file.name.removesuffix(".npz"): (entry, file.size) for entry in images for file in entry.files}
