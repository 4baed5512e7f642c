"""Names and lines for Vertex AI follow the documented forms, and image URIs identify their rows."""

import json
import re

import numpy as np
import pytest

from medmnist_hf.catalog import SPLITS, Subset, Task, subset, subsets
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.exporting.export import official_name
from medmnist_hf.vertex import (
    NO_FINDING,
    ImageRef,
    batch_line,
    batch_parameters,
    check_folder,
    display_names,
    image_path,
    image_ref,
    import_line,
)

IMAGES = [entry for entry in subsets() if entry.ndim == 2]


@pytest.mark.parametrize("entry", subsets(), ids=lambda entry: entry.flag)
def test_label_names_follow_the_documented_rules_and_are_distinct(entry: Subset) -> None:
    names = display_names(entry)
    assert len(set(names)) == len(names) == len(entry.labels)
    assert NO_FINDING not in names
    for name in (*names, NO_FINDING):
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and len(name) <= 128


def test_label_names_are_readable() -> None:
    assert display_names(subset("retinamnist")) == tuple(f"label_{grade}" for grade in range(5))
    assert display_names(subset("organamnist"))[1] == "femur_left"
    assert display_names(subset("pneumoniamnist")) == ("normal", "pneumonia")


@pytest.mark.parametrize("entry", IMAGES, ids=lambda entry: entry.flag)
@pytest.mark.parametrize("folder", ["gs://abc", "gs://my-bucket/a/test/b", "gs://b.c_d-1/pathmnist/train/train0.png"])
def test_an_image_uri_identifies_its_row(entry: Subset, folder: str) -> None:
    for size in entry.sizes:
        name = official_name(entry, size)
        for split in SPLITS:
            for row in (0, 7, 99):
                uri = f"{check_folder(folder)}/{image_path(name, split, row, 100)}"
                assert image_ref(uri) == ImageRef(entry, size, split, row)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "gs://bucket/test/test0.png",
        "gs://bucket/breastmnist/test/train0.png",
        "gs://bucket/breastmnist/val/val0.png",
        "gs://bucket/breastmnist/test/test.png",
        "gs://bucket/breastmnist/test/test-1.png",
        "gs://bucket/breastmnist/test/test0.jpg",
        "gs://bucket/breastmnist/test/test0.png/",
        "gs://bucket/brestmnist/test/test0.png",
        "gs://bucket/breastmnist_32/test/test0.png",
        "gs://bucket/adrenalmnist3d/test/test0.png",
        "/bucket/breastmnist/test/test0.png",
    ],
)
def test_other_uris_identify_no_row(uri: str) -> None:
    assert image_ref(uri) is None


def test_file_names_have_the_same_width_and_sort_like_the_rows() -> None:
    paths = [image_path("octmnist", "test", row, 1000) for row in range(1000)]
    assert paths == sorted(paths) and paths[-1] == "octmnist/test/test999.png"
    assert image_path("octmnist_64", "validation", 0, 1) == "octmnist_64/validation/validation0.png"


@pytest.mark.parametrize("folder", ["gs://bucket", "gs://my-bucket/medmnist/2026", "gs://a_b.c9/x"])
def test_folders_in_cloud_storage(folder: str) -> None:
    assert check_folder(folder) == check_folder(f"{folder}/") == folder


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "bucket",
        "gs://",
        "gs://b",
        "s3://bucket",
        "https://storage.googleapis.com/bucket",
        "gs://Bucket/folder",
        "gs://bucket-/folder",
        "gs://bucket//folder",
        "gs://bucket/a b",
        "gs://bucket/*",
        "gs://bucket/../other",
        "gs://bucket/.",
        "gs://bucket/a\n",
    ],
)
def test_an_invalid_folder_in_cloud_storage(folder: str) -> None:
    with pytest.raises(
        MedMNISTError, match="is not a valid folder in Cloud Storage: give gs://BUCKET/FOLDER, with a bucket name of"
    ) as caught:
        check_folder(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_is_needed() -> None:
    with pytest.raises(MedMNISTError, match="give --gcs gs://BUCKET/FOLDER"):
        check_folder(None)


def test_an_import_line_with_one_label() -> None:
    """The line of `image_classification_single_label.jsonl` in the documentation."""
    line = import_line("gs://b/c.png", "train", subset("breastmnist"), np.array([1], np.uint8))
    assert line.endswith("}\n") and line.count("\n") == 1
    assert json.loads(line) == {
        "imageGcsUri": "gs://b/c.png",
        "classificationAnnotation": {"displayName": "normal_benign"},
        "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"},
    }


@pytest.mark.parametrize(("split", "use"), [("train", "training"), ("validation", "validation"), ("test", "test")])
def test_an_import_line_with_findings(split: str, use: str) -> None:
    """The line of `image_classification_multi_label.jsonl` in the documentation."""
    labels = np.zeros(14, np.uint8)
    for findings, names in (((), [NO_FINDING]), ((0, 13), ["atelectasis", "hernia"])):
        labels[list(findings)] = 1
        assert json.loads(import_line("gs://b/c.png", split, subset("chestmnist"), labels)) == {
            "imageGcsUri": "gs://b/c.png",
            "classificationAnnotations": [{"displayName": name} for name in names],
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": use},
        }


def test_a_batch_line() -> None:
    assert json.loads(batch_line("gs://b/c.png")) == {"content": "gs://b/c.png", "mimeType": "image/png"}


@pytest.mark.parametrize("entry", IMAGES, ids=lambda entry: entry.flag)
def test_a_batch_prediction_returns_every_label(entry: Subset) -> None:
    names = [*display_names(entry), *([NO_FINDING] if entry.task is Task.MULTI_LABEL else [])]
    assert batch_parameters(entry) == {"confidenceThreshold": 0.0, "maxPredictions": len(names)}
