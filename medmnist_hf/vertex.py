"""Vertex AI image classification: how labels and images are called there, and the lines of its JSON files.

From the documentation of Vertex AI, as read in 2026; nothing here has been run against the service:

- "Prepare image training data for classification": the lines of an import file, single and multi label, the label
  ``None_of_the_above``, and that labels in a CSV file "must start with a letter and only contain letters, numbers, and
  underscores".
- "REST Resource: projects.locations.datasets.annotationSpecs": a display name has at most 128 characters.
- "ImageClassificationPredictionInstance" and "ImageClassificationPredictionParams": the lines and the parameters of a
  batch prediction, which by default returns the ten best labels alone.

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

from medmnist_hf.catalog import SPLITS, Subset, Task, subsets
from medmnist_hf.errors import MedMNISTError

IMPORT_NAME: Final = "import.jsonl"
PARAMETERS_NAME: Final = "batch_parameters.json"
"""What to give as ``modelParameters`` of a batch prediction job, ``model_parameters`` in the Python client."""

NO_FINDING: Final = "None_of_the_above"
"""Label of a row without a finding. The import file takes items without labels, but nothing says that a model learns
from them; the documentation advises this label for images that match no other."""

_ML_USE: Final = {"train": "training", "validation": "validation", "test": "test"}
_FOLDER: Final = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](?:/(?!\.{1,2}(?:/|$))[^/\s\x00-\x1f#?*\[\]]+)*")
"""A bucket and folders in it, as "About Cloud Storage buckets" and "About Cloud Storage objects" advise names."""

_IMAGE: Final = re.compile(rf"gs://.+/(?P<name>\w+)/(?P<split>{'|'.join(SPLITS)})/(?P=split)(?P<row>\d{{1,9}})\.png")


@dataclass(frozen=True, slots=True)
class ImageRef:
    """What the URI of an exported image tells.

    Attributes:
        entry: The subset.
        size: Edge length in pixels.
        split: ``train``, ``validation`` or ``test``.
        row: Row of the split, counted from 0.
    """

    entry: Subset
    size: int
    split: str
    row: int


@cache
def display_names(entry: Subset) -> tuple[str, ...]:
    """The labels of a subset as Vertex AI is told them, in the order of the catalogue.

    They keep the strictest rule of the documentation, that of CSV files: other characters than letters and digits
    become underscores, and a name that begins with a digit follows ``label_``. No two labels of a subset become one,
    so a name leads back to its label.
    """
    names = (re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_") for label in entry.labels)
    return tuple(name if name[0].isalpha() else f"label_{name}" for name in names)


def check_folder(uri: str | None) -> str:
    """The folder in Cloud Storage that images will be copied to, ``gs://BUCKET/FOLDER``, without a slash at its end.

    Raises:
        MedMNISTError: None is given, or it is no such URI.
    """
    if uri is None:
        raise MedMNISTError(
            "the format vertex names images by where they will lie in Cloud Storage: give --gcs gs://BUCKET/FOLDER"
        )
    if not _FOLDER.fullmatch(folder := uri.removesuffix("/")):
        raise MedMNISTError(
            f"--gcs {uri!r} is not a valid folder in Cloud Storage: give gs://BUCKET/FOLDER, the bucket with 3 to 63 "
            "characters in lower case, without spaces and wildcards"
        )
    return folder


def image_path(name: str, split: str, row: int, rows: int) -> str:
    """Where an image lies below the exported folder and below that in Cloud Storage alike; `image_ref` reads it back.

    Args:
        name: Official name of the config, e.g. ``pathmnist_224``.
        split: ``train``, ``validation`` or ``test``.
        row: Row of the split.
        rows: Number of rows of the split, for numbers of one width.
    """
    return f"{name}/{split}/{split}{row:0{len(str(rows - 1))}d}.png"


def image_ref(uri: str) -> ImageRef | None:
    """Subset, size, split and row of an exported image; None if the URI is that of another."""
    match = _IMAGE.fullmatch(uri)
    config = _configs().get(match["name"]) if match else None
    return ImageRef(*config, match["split"], int(match["row"])) if match and config else None


def import_line(uri: str, split: str, entry: Subset, labels: npt.NDArray[Any]) -> str:
    """A line of the import file.

    Args:
        uri: Where the image will lie.
        split: Its split, which becomes its ``ml_use``.
        entry: Its subset, whose task decides between one label and a list.
        labels: Class id of shape ``(1,)``, or findings of shape ``(L,)`` with 0 and 1 for the multi-label task.
    """
    names = display_names(entry)
    item: dict[str, Any] = {"imageGcsUri": uri}
    if entry.task is Task.MULTI_LABEL:
        found = [names[label] for label in np.flatnonzero(labels)] or [NO_FINDING]
        item["classificationAnnotations"] = [{"displayName": name} for name in found]
    else:
        item["classificationAnnotation"] = {"displayName": names[int(labels[0])]}
    item["dataItemResourceLabels"] = {"aiplatform.googleapis.com/ml_use": _ML_USE[split]}
    return json.dumps(item) + "\n"


def batch_name(split: str) -> str:
    """Name of the input file of a batch prediction of a split."""
    return f"batch_{split}.jsonl"


def batch_line(uri: str) -> str:
    """A line of the input file of a batch prediction."""
    return json.dumps({"content": uri, "mimeType": "image/png"}) + "\n"


def batch_parameters(entry: Subset) -> dict[str, float | int]:
    """Parameters of a batch prediction that make it return the confidence of every label."""
    labels = len(entry.labels) + (entry.task is Task.MULTI_LABEL)
    return {"confidenceThreshold": 0.0, "maxPredictions": labels}


@cache
def _configs() -> dict[str, tuple[Subset, int]]:
    """Official name of each 2D config -> its subset and size."""
    images = (entry for entry in subsets() if entry.ndim == 2)
    return {file.name.removesuffix(".npz"): (entry, file.size) for entry in images for file in entry.files}
