"""``medmnist_hf.cards.croissant``: mlcroissant accepts the description and reads the rows of a build with it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import pytest

from medmnist_hf.cards.croissant import CROISSANT_NAME, croissant, to_json
from medmnist_hf.catalog import NPZ_SPLITS, SPLITS, subset
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.errors import BuildError
from medmnist_hf.manifest import read_build
from tests.fixtures.builds import build

SUBSETS = {"breastmnist": (28, 64), "bloodmnist": (28,), "chestmnist": (28,), "adrenalmnist3d": (28, 64)}


@pytest.fixture(scope="module")
def dist(phantoms: Callable[..., SourceFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag, sizes in SUBSETS.items():
        folder = build(phantoms, out, flag, *sizes)
        text = to_json(croissant(subset(flag), read_build(folder)))
        (folder / CROISSANT_NAME).write_text(text, encoding="utf-8")
    return out


def open_dataset(folder: Path) -> Any:
    return mlcroissant.Dataset(jsonld=folder / CROISSANT_NAME)


def read_split(file: SourceFile, split: str) -> tuple[Any, Any]:
    with np.load(file.path, allow_pickle=False) as arrays:
        return arrays[f"{NPZ_SPLITS[split]}_images"], arrays[f"{NPZ_SPLITS[split]}_labels"]


@pytest.mark.parametrize("flag", SUBSETS)
def test_the_description_is_valid(dist: Path, flag: str) -> None:
    metadata = open_dataset(dist / flag).metadata
    assert metadata.ctx.issues.errors == set()
    # The catalog has no publication date; every other recommended field is present.
    [warning] = metadata.ctx.issues.warnings
    assert "datePublished" in warning
    assert metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.0"


def test_the_validator_detects_a_missing_field(dist: Path, tmp_path: Path) -> None:
    table = json.loads((dist / "breastmnist" / CROISSANT_NAME).read_text(encoding="utf-8"))
    del table["recordSet"][-1]["field"][0]["dataType"], table["distribution"][0]["sha256"]
    (tmp_path / CROISSANT_NAME).write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(mlcroissant.ValidationError, match="sha256"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("flag", SUBSETS)
def test_every_shard_is_listed(dist: Path, flag: str) -> None:
    manifests = read_build(dist / flag)
    nodes = croissant(subset(flag), manifests)["distribution"]
    files = {node["contentUrl"]: node for node in nodes if node["@type"] == "cr:FileObject"}
    shards = {f"{each.config_name}/{shard.name}": shard for each in manifests for shard in each.shards}
    assert {path: node["sha256"] for path, node in files.items()} == {path: s.sha256 for path, s in shards.items()}
    for path, node in files.items():
        assert node["contentSize"] == f"{(dist / flag / path).stat().st_size} B"


@pytest.mark.parametrize("flag", ["breastmnist", "bloodmnist", "chestmnist"])
def test_records_equal_the_rows_of_the_source(dist: Path, phantoms: Callable[..., SourceFile], flag: str) -> None:
    records: dict[str, list[Any]] = {split: [] for split in SPLITS}
    for record in open_dataset(dist / flag).records("config-28"):
        records[record["config-28/split"].decode()].append(record)
    for split in SPLITS:
        images, labels = read_split(phantoms(flag, 28, 16), split)
        assert len(records[split]) == len(images)
        for record, image, label in zip(records[split], images, labels, strict=True):
            assert (np.asarray(record["config-28/image"]) == image).all()
            expected = np.nonzero(label)[0].tolist() if flag == "chestmnist" else int(label[0])
            assert record["config-28/label"] == expected


def test_volumes_are_read_as_nested_lists(dist: Path, phantoms: Callable[..., SourceFile]) -> None:
    # In a separate process: once `datasets` is imported, pandas cannot concatenate columns of its Array3D type.
    code = (
        "import itertools, json, sys, mlcroissant\n"
        "records = mlcroissant.Dataset(jsonld=sys.argv[1]).records('config-28')\n"
        "record = next(r for r in records if r['config-28/split'] == b'train')\n"
        "print(json.dumps([record['config-28/image'], record['config-28/label']]))\n"
    )
    path = str(dist / "adrenalmnist3d" / CROISSANT_NAME)
    process = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    image, label = json.loads(process.stdout)
    images, labels = read_split(phantoms("adrenalmnist3d", 28, 16), "train")
    assert np.array_equal(image, images[0])
    assert label == labels[0, 0]


def test_labels_and_splits_are_enumerated(dist: Path) -> None:
    dataset = open_dataset(dist / "chestmnist")
    names = [record["labels/name"] for record in dataset.records("labels")]
    assert tuple(name.decode() if isinstance(name, bytes) else name for name in names) == subset("chestmnist").labels
    assert len(list(dataset.records("splits"))) == len(SPLITS)


def test_a_phantom_is_not_credited_to_the_authors(dist: Path) -> None:
    table = croissant(subset("breastmnist"), read_build(dist / "breastmnist"))
    assert table["description"].startswith("SYNTHETIC")
    assert "synthetic" in table["keywords"]
    assert [node["name"] for node in table["creator"]] == ["medmnist-hf"]


def test_no_build_is_refused_in_one_line() -> None:
    with pytest.raises(
        BuildError, match=r"^no built config of pathmnist to describe: run medmnist-hf build pathmnist"
    ):
        croissant(subset("pathmnist"), ())
