"""JAX and TensorFlow read a build: values equal the NPZ, dtypes are as documented (extra ``frameworks``)."""

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.sources.source import Folder
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.pages import blocks
from tests.fixtures.paths import ROOT

pytestmark = pytest.mark.slow

FLAGS = ("breastmnist", "bloodmnist", "chestmnist", "organmnist3d")
ONE_CLASS = [flag for flag in FLAGS if flag != "chestmnist"]

Source = Callable[[str], tuple[Any, Any]]
"""Returns images and labels of the NPZ file's train split for a flag."""

PAGE = ROOT / "docs" / "training" / "frameworks.md"


@pytest.fixture(scope="module")
def source(phantoms: Phantoms) -> Source:
    def read(flag: str) -> tuple[Any, Any]:
        with np.load(phantoms(flag).path, allow_pickle=False) as arrays:
            return arrays["train_images"], arrays["train_labels"]

    return read


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in FLAGS:
        write_card(build(phantoms, out, flag, 28))
    return out


@pytest.fixture(scope="module")
def jnp() -> Any:
    import jax.numpy

    return jax.numpy


@pytest.fixture(scope="module")
def tf() -> Any:
    import tensorflow

    return tensorflow


@pytest.mark.parametrize("flag", ONE_CLASS)
def test_jax(jnp: Any, root: Path, source: Source, flag: str) -> None:
    """Images stay uint8 with channels last; volumes only on request, which applies to the labels as well."""
    images, labels = source(flag)
    train = medmnist_hf.load(flag, 28, "train", root)
    plain = train.with_format("jax")[:]
    assert isinstance(plain["image"], jnp.ndarray) and isinstance(plain["label"], jnp.ndarray)
    assert plain["image"].dtype == (jnp.int32 if flag == "organmnist3d" else jnp.uint8)
    assert plain["label"].dtype == jnp.int32
    narrow = train.with_format("jax", dtype=jnp.uint8)[:]
    assert narrow["image"].dtype == narrow["label"].dtype == jnp.uint8
    for batch in (plain, narrow):
        assert np.array_equal(batch["image"], images) and np.array_equal(batch["label"], labels[:, 0])

    streamed = list(medmnist_hf.load(flag, 28, "train", root, streaming=True).with_format("jax"))
    assert streamed[0]["image"].dtype == plain["image"].dtype
    assert np.array_equal(jnp.stack([row["image"] for row in streamed]), images)
    assert [int(row["label"]) for row in streamed] == labels[:, 0].tolist()


@pytest.mark.parametrize("flag", ONE_CLASS)
def test_tensorflow(tf: Any, root: Path, source: Source, flag: str) -> None:
    images, labels = source(flag)
    train = medmnist_hf.load(flag, 28, "train", root)
    plain = train.with_format("tensorflow")[:]
    assert tf.is_tensor(plain["image"]) and tf.is_tensor(plain["label"])
    assert plain["image"].dtype == (tf.int64 if flag == "organmnist3d" else tf.uint8)
    assert plain["label"].dtype == tf.int64
    narrow = train.with_format("tensorflow", dtype=tf.uint8)[:]
    assert narrow["image"].dtype == narrow["label"].dtype == tf.uint8
    for batch in (plain, narrow):
        assert np.array_equal(batch["image"], images) and np.array_equal(batch["label"], labels[:, 0])

    streamed = list(medmnist_hf.load(flag, 28, "train", root, streaming=True).with_format("tensorflow"))
    assert streamed[0]["image"].dtype == plain["image"].dtype
    assert np.array_equal(tf.stack([row["image"] for row in streamed]), images)
    assert [int(row["label"]) for row in streamed] == labels[:, 0].tolist()


@pytest.mark.parametrize("flag", ONE_CLASS)
def test_to_tf_dataset_widens_pixels(tf: Any, root: Path, source: Source, flag: str) -> None:
    images, labels = source(flag)
    train = medmnist_hf.load(flag, 28, "train", root)
    batches = list(train.to_tf_dataset(batch_size=5, columns="image", label_cols="label"))
    assert {(pixels.dtype, ids.dtype) for pixels, ids in batches} == {(tf.int64, tf.int64)}
    assert np.array_equal(np.concatenate([pixels for pixels, _ in batches]), images)
    assert np.array_equal(np.concatenate([ids for _, ids in batches]), labels[:, 0])


def test_findings(jnp: Any, tf: Any, root: Path, source: Source) -> None:
    """Lists of different lengths are a list of arrays in JAX and a ragged tensor in TensorFlow."""
    images, labels = source("chestmnist")
    expected = [np.flatnonzero(row).tolist() for row in labels]
    train = medmnist_hf.load("chestmnist", 28, "train", root)
    for form, dtype in (("jax", jnp.uint8), ("tensorflow", tf.uint8)):
        batch = train.with_format(form)[:]
        assert batch["image"].dtype == dtype and np.array_equal(batch["image"], images)
        ids = batch["label"].to_list() if form == "tensorflow" else [each.tolist() for each in batch["label"]]
        assert ids == expected


@pytest.mark.parametrize("flag", FLAGS)
def test_arrays_suit_both(jnp: Any, tf: Any, root: Path, source: Source, flag: str) -> None:
    """Arrays keep uint8 pixels, and give multi-hot findings."""
    images, labels = source(flag)
    arrays = medmnist_hf.load_arrays(flag, 28, "train", root, cache=False)
    batch = jnp.asarray(arrays.images)
    assert batch.dtype == jnp.uint8 and np.array_equal(batch, images)
    batches = list(tf.data.Dataset.from_tensor_slices(tuple(arrays)).batch(5))
    assert {pixels.dtype for pixels, _ in batches} == {tf.uint8}
    assert {targets.dtype for _, targets in batches} == {tf.float32 if flag == "chestmnist" else tf.int64}
    assert np.array_equal(np.concatenate([pixels for pixels, _ in batches]), images)
    targets = np.concatenate([targets for _, targets in batches])
    assert np.array_equal(targets, labels if flag == "chestmnist" else labels[:, 0])


@pytest.mark.parametrize("framework", ["jax", "tensorflow"])
def test_the_example_of_the_page_runs(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framework: str
) -> None:
    entry = subset("breastmnist")
    file = Folder(real_data).fetch(entry, 28)
    write_card(build_config(entry, 28, file, tmp_path / "dist").config_dir.parent)
    monkeypatch.chdir(tmp_path)
    (code,) = (block.text for block in blocks(PAGE) if f"import {framework}\n" in block.text)
    example = doctest.DocTestParser().get_doctest(code, {}, framework, str(PAGE), 0)
    assert example.examples and doctest.DocTestRunner().run(example).failed == 0
