"""Stores as tasks: the command of each makes its store, and a store of other images counts as not done."""

from dataclasses import replace
from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.jobs.tasks import Task
from medmnist_hf.places.resolver import Build
from medmnist_hf.training.embedding.tasks import store_tasks, stored, tasks_path
from medmnist_hf.training.recipe import Recipe, make_recipe
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all
from tests.fixtures.stores import MODEL, store


@pytest.fixture
def dist(phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return build_all(phantoms, Path("dist"), "breastmnist", rows=20)


def knn(**fields: object) -> Recipe:
    return make_recipe({"dataset": "breastmnist", "model": MODEL, "method": "knn", **fields})


def test_the_command_has_all_that_defines_features(dist: Path, tmp_path: Path) -> None:
    recipe = knn(root="dist", pretrained=False, image_size=56, resize="bicubic", batch_size=16)
    task, again = store_tasks([recipe, recipe], tmp_path / "features", "--dtype", "float16")
    assert task == Task(
        "breastmnist-28",
        (
            *("python", "-m", "medmnist_hf", "embed", "breastmnist", "--size", "28", "--model", MODEL),
            *("--root", "dist", "--no-pretrained", "--image-size", "56", "--resize", "bicubic", "--batch-size", "16"),
            *("--out", f"{tmp_path}/features", "--dtype", "float16"),
        ),
        "logs/breastmnist-28.txt",
        cwd=str(tmp_path),
    )
    assert again.name == "breastmnist-28.2"
    on_hub = knn(repository="you/breastmnist", revision="v1")
    assert store_tasks([on_hub], tmp_path)[0].command[4:] == (
        *("you/breastmnist", "--size", "28", "--model", MODEL, "--revision", "v1", "--out", str(tmp_path)),
    )
    assert tasks_path(tmp_path, MODEL) == tmp_path / ".jobs" / "embed-timm-test_vit.r160_in1k"


def test_only_a_complete_store_of_these_images_is_stored(dist: Path, phantoms: Phantoms) -> None:
    recipe, images, root = (
        knn(root="dist"),
        Build(subset("breastmnist"), 28, dist / "breastmnist/28"),
        Path("features"),
    )
    assert stored(recipe, root) is None
    written = store(images, root)
    assert stored(recipe, root) == written.manifest
    assert stored(replace(recipe, model="timm/test_resnet"), root) is None
    build_all(phantoms, Path("other"), "breastmnist", rows=24)
    assert stored(replace(recipe, root="other"), root) is None
    shard = written.folder / written.manifest.shards[0].name
    shard.write_bytes(shard.read_bytes()[:-1])
    assert stored(recipe, root) is None
