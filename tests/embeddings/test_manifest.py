"""The manifest of a store is read back as written, and contradictions in it are found."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medmnist_hf.embeddings.manifest import (
    config_name,
    different_data,
    different_model,
    model_slug,
    parse_store,
    read_store,
)
from medmnist_hf.errors import BuildError
from medmnist_hf.manifest import MANIFEST_NAME, read_manifest
from tests.conftest import Phantoms
from tests.fixtures.stores import images_of, store


@pytest.fixture(scope="module")
def folder(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stores")
    return store(images_of(phantoms, home / "dist", "breastmnist"), home / "features").folder


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("timm/vit_small_patch16_224.augreg_in21k", "timm-vit_small_patch16_224.augreg_in21k"),
        ("../x [1] ü", "..-x-1"),
        ("a/" + "b" * 100, "b" * 60),
    ],
)
def test_slugs_are_file_names(model: str, slug: str) -> None:
    assert model_slug(model) == slug
    assert config_name(28, model) == f"28-{slug}"


def test_it_is_read_back_as_written(folder: Path) -> None:
    manifest, text = read_store(folder), (folder / MANIFEST_NAME).read_text()
    assert manifest.to_json() == text
    assert folder.name == manifest.config_name == "28-timm-test_vit.r160_in1k"
    assert len(manifest.shards) == sum(len(record.shards) for record in manifest.splits.values())
    assert manifest.rows == sum(record.rows for record in manifest.splits.values())


def changed(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda table: table.__setitem__(name, value)


def _more_rows(table: dict[str, Any]) -> None:
    table["splits"]["test"]["rows"] += 1


def _other_name(table: dict[str, Any]) -> None:
    table["splits"]["test"]["shards"][0]["name"] = "test-00001-of-00009.parquet"


def _no_shard(table: dict[str, Any]) -> None:
    table["splits"]["test"]["shards"] = []


def _verified(table: dict[str, Any]) -> None:
    table["source"]["verified"] = True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("format", 2), "another format version"),
        (changed("dtype", "float64"), "dtype is 'float64', must be one of float32, float16"),
        (changed("width", 0), "width is 0"),
        (changed("width", 1 << 20), "too small for"),
        (changed("size", 30), "30"),
        (changed("subset", "BreastMNIST"), "must be breastmnist"),
        (changed("splits", {}), "splits are missing"),
        (_more_rows, "do not add up"),
        (_other_name, "shard names of test"),
        (_no_shard, "shard names of test"),
        (_verified, "called verified"),
    ],
)
def test_contradictions_are_found(folder: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    table = json.loads((folder / MANIFEST_NAME).read_text())
    change(table)
    with pytest.raises(BuildError, match=message) as error:
        parse_store(json.dumps(table), "x.json")
    assert str(error.value).startswith("x.json is not a valid manifest of features")


def test_the_manifest_of_a_build_is_not_one_of_features(phantoms: Phantoms, tmp_path: Path) -> None:
    images = images_of(phantoms, tmp_path, "breastmnist")
    with pytest.raises(BuildError, match="not a valid manifest of features"):
        read_store(images.folder)
    with pytest.raises(BuildError, match="cannot read"):
        read_store(tmp_path)


def test_differences_are_named(folder: Path, phantoms: Phantoms, tmp_path: Path) -> None:
    manifest = read_store(folder)
    assert different_model(manifest, manifest.model, manifest.input) == ""
    assert "model timm/test_vit.r160_in1k, not b" in different_model(
        manifest, replace(manifest.model, id="b"), manifest.input
    )
    assert "not the same weights" in different_model(
        manifest, replace(manifest.model, weights_sha256="1" * 64), manifest.input
    )
    other = replace(manifest.input, image_size=64, mean=())
    assert different_model(manifest, manifest.model, other) == "image_size 32, not 64, mean 0.5/0.5/0.5, not none"
    same = read_manifest(images_of(phantoms, tmp_path / "a", "breastmnist", rows_per_shard=100).folder)
    assert different_data(manifest, same) == ""
    fewer = read_manifest(images_of(phantoms, tmp_path / "b", "breastmnist", rows=12).folder)
    assert different_data(manifest, fewer) == "16 train rows, not 12"
    records = same.splits | {"test": replace(same.splits["test"], labels_sha256="1" * 64)}
    assert different_data(manifest, replace(same, splits=records)) == "other labels in test"
