"""The exported folder matches the source: images, import file and batch prediction inputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, Task, subset
from medmnist_hf.data.rows import open_rows
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.exporting.export import export, official_name
from medmnist_hf.vertex import NO_FINDING, batch_parameters, display_names, image_ref
from tests.conftest import Phantoms
from tests.fixtures.builds import build

CONFIGS = [("breastmnist", 64), ("bloodmnist", 28), ("retinamnist", 28), ("chestmnist", 28), ("organmnist3d", 28)]
GCS = "gs://bucket/some/folder"


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, size in CONFIGS:
        build(phantoms, out, flag, size)
    return out


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("flag", "size"), CONFIGS[:-1])
def test_the_folder_is_complete(root: Path, phantoms: Phantoms, tmp_path: Path, flag: str, size: int) -> None:
    entry, name = subset(flag), official_name(subset(flag), size)
    seen: list[int] = []
    rows = open_rows(flag, size, root=root)
    exported = export(rows, tmp_path, "vertex", gcs=f"{GCS}/", on_progress=seen.append)
    assert exported.paths == (tmp_path / name,) and exported.rows == sum(seen)
    items = read(tmp_path / name / "import.jsonl")
    uris = [item["imageGcsUri"] for item in items]
    assert len(set(uris)) == len(uris) == exported.rows
    names = display_names(entry)
    with np.load(phantoms(flag, size).path, allow_pickle=False) as source:
        for item in items:
            spot = image_ref(item["imageGcsUri"])
            assert spot is not None and (spot.entry, spot.size) == (entry, size)
            label = source[f"{NPZ_SPLITS[spot.split]}_labels"][spot.row]
            path = tmp_path / item["imageGcsUri"].removeprefix(f"{GCS}/")
            with PIL.Image.open(path) as picture:
                assert picture.format == "PNG"
                assert np.array_equal(np.asarray(picture), source[f"{NPZ_SPLITS[spot.split]}_images"][spot.row])
            if entry.task is Task.MULTI_LABEL:
                annotations = [each["displayName"] for each in item["classificationAnnotations"]]
                assert annotations == [names[at] for at in np.flatnonzero(label)] or (
                    annotations == [NO_FINDING] and not label.any()
                )
            else:
                assert item["classificationAnnotation"] == {"displayName": names[label[0]]}
    assert entry.task is not Task.MULTI_LABEL or NO_FINDING in str(items)
    uses = {"train": "training", "validation": "validation", "test": "test"}
    for split in SPLITS:
        own = [item for item in items if f"/{split}/" in item["imageGcsUri"]]
        assert {tuple(item["dataItemResourceLabels"].items()) for item in own} == {
            (("aiplatform.googleapis.com/ml_use", uses[split]),)
        }
        assert len(list((tmp_path / name / split).iterdir())) == len(own) == rows.count(split)
        if split != "train":
            expected = [{"content": item["imageGcsUri"], "mimeType": "image/png"} for item in own]
            assert read(tmp_path / name / f"batch_{split}.jsonl") == expected
    assert read(tmp_path / name / "batch_parameters.json") == [batch_parameters(entry)]
    assert {path.name for path in (tmp_path / name).iterdir()} == {
        *SPLITS,
        "import.jsonl",
        "batch_validation.jsonl",
        "batch_test.jsonl",
        "batch_parameters.json",
    }


def test_some_splits(root: Path, tmp_path: Path) -> None:
    rows = open_rows("retinamnist", root=root)
    (folder,) = export(rows, tmp_path, "vertex", splits=["train"], gcs=GCS).paths
    assert {path.name for path in folder.iterdir()} == {"train", "import.jsonl", "batch_parameters.json"}
    assert len(read(folder / "import.jsonl")) == rows.count("train")


def test_invalid_options(root: Path, tmp_path: Path) -> None:
    images, volumes = open_rows("retinamnist", root=root), open_rows("organmnist3d", root=root)
    for rows, form, gcs, says in (
        (images, "vertex", None, "give --gcs gs://BUCKET/FOLDER"),
        (images, "vertex", "gs://", "is not a valid folder in Cloud Storage"),
        (images, "png", GCS, "does not use Cloud Storage: leave out --gcs"),
        (
            volumes,
            "vertex",
            GCS,
            "organmnist3d holds volumes, which the format vertex does not support: choose gif or npz",
        ),
    ):
        with pytest.raises(MedMNISTError) as caught:
            export(rows, tmp_path / "out", form, gcs=gcs)
        assert says in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
