"""`corrupt`: data sets, streams at any number of workers, dictionaries of splits, and arrays."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import medmnist_hf
from medmnist_hf.array_types import UInt8Array
from medmnist_hf.cards.render import write_card
from medmnist_hf.corruptions import corrupt_batch
from medmnist_hf.errors import MedMNISTError
from tests.conftest import Phantoms
from tests.fixtures.builds import build

FLAG, NAME = "breastmnist", "speckle_noise"


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build whose splits have several shards."""
    folder = tmp_path_factory.mktemp("corrupt") / "dist"
    for flag in (FLAG, "pathmnist", "adrenalmnist3d"):
        write_card(build(phantoms, folder, flag, 28, rows=200, rows_per_shard=40))
    return folder


@pytest.fixture(scope="module")
def expected(root: Path) -> UInt8Array:
    images = medmnist_hf.load_arrays(FLAG, 28, "test", root, cache=False).images
    return corrupt_batch(images, FLAG, NAME, 4)


def pixels(rows: Any) -> UInt8Array:
    return np.stack([np.asarray(row["image"]) for row in rows])


def test_arrays(root: Path, expected: UInt8Array) -> None:
    clean = medmnist_hf.load_arrays(FLAG, 28, "test", root, cache=False)
    corrupted = medmnist_hf.corrupt(clean, NAME, 4, subset=FLAG)
    assert (corrupted.images == expected).all() and corrupted.labels is clean.labels


def test_data_sets(root: Path, expected: UInt8Array) -> None:
    clean = medmnist_hf.load(FLAG, 28, root=root)
    corrupted = medmnist_hf.corrupt(clean, NAME, severity=4)
    assert corrupted.num_rows == clean.num_rows and corrupted["test"].features == clean["test"].features
    assert (medmnist_hf.to_arrays(corrupted["test"], cache=False).images == expected).all()
    assert corrupted["test"]["label"][:] == clean["test"]["label"][:]
    alone = medmnist_hf.corrupt(clean["test"].select([5, 2]), NAME, 4, rows=[5, 2])
    assert (pixels(alone) == expected[[5, 2]]).all()
    formatted = medmnist_hf.corrupt(clean["test"].with_format("torch"), NAME, 4)
    assert formatted.format["type"] == "torch" and (formatted[3]["image"].numpy() == expected[3]).all()


@pytest.mark.parametrize("workers", [1, 4])
def test_streams_at_any_number_of_workers(root: Path, expected: UInt8Array, workers: int) -> None:
    clean = medmnist_hf.load(FLAG, 28, "test", root, streaming=True)
    corrupted = medmnist_hf.corrupt(clean, NAME, 4)
    assert corrupted.num_shards == clean.num_shards > 1 and corrupted.features == clean.features
    rows = list(DataLoader(corrupted, batch_size=None, num_workers=workers))
    found = sorted(row.tobytes() for row in pixels(rows))
    assert found == sorted(row.tobytes() for row in expected)
    shuffled = list(corrupted.shuffle(seed=1, buffer_size=3))
    assert sorted(row.tobytes() for row in pixels(shuffled)) == found
    assert corrupted.info.description == clean.info.description != ""
    assert sorted(row["label"] for row in rows) == sorted(row["label"] for row in clean)


def test_what_is_not_a_data_set_of_one_subset(root: Path) -> None:
    arrays = medmnist_hf.load_arrays(FLAG, 28, "test", root, cache=False)
    both = medmnist_hf.load_many(f"{FLAG},pathmnist", 28, "test", root)
    stream = medmnist_hf.load(FLAG, 28, "test", root, streaming=True)
    for data, options, message in (
        (arrays, {}, "arrays do not name their subset: pass subset"),
        (both, {}, "holds rows of breastmnist, pathmnist: load one subset"),
        (stream, {"rows": [1]}, "rows are for one split that is not streamed"),
        (medmnist_hf.load("adrenalmnist3d", 28, "test", root), {}, "the data set holds volumes"),
        (stream.remove_columns("image"), {}, "the data set has no column image"),
        (stream, {"subset": "pathmnist"}, "images of pathmnist are uint8"),
        ([1, 2], {}, "corrupt takes a data set of medmnist_hf.load or arrays of load_arrays, not list"),
    ):
        with pytest.raises(MedMNISTError, match=re.escape(message)):
            medmnist_hf.corrupt(data, "pixelate", **options)
