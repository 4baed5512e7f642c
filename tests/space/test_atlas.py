"""Atlases: a projection of the stored features, with the images and labels of its rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.embeddings.stores import find_store
from medmnist_hf.errors import BuildError, MedMNISTError, ScoreError
from medmnist_hf.space.atlas import draw_atlas, project
from tests.conftest import Phantoms
from tests.fixtures.stores import MODEL, images_of, store
from tests.space.test_pictures import facts_of, tiles_of

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("flag", ["pathmnist", "adrenalmnist3d"])
def test_points_have_their_rows_labels_and_images(flag: str, phantoms: Phantoms, tmp_path: Path) -> None:
    place = images_of(phantoms, tmp_path / "dist", flag)
    store(place, tmp_path / "features")
    folder, manifest = find_store(tmp_path / "features", place.entry, 28, MODEL)
    drawn = draw_atlas(folder, manifest, place, "train", points=8)
    facts = facts_of(drawn)
    assert facts["rows"] == [0, 2, 4, 6, 8, 10, 12, 14] and len(facts["labels"]) == 8
    # The features of the fixture lie on a line in the order of the rows.
    assert np.allclose(np.diff(facts["x"]), facts["x"][1] - facts["x"][0], atol=2e-4) and max(facts["x"]) == 1
    assert facts["shares"] == [1.0, 0.0] and len(tiles_of(drawn)) >= 8 and facts["depth"] == 1
    assert (drawn.record.kind, drawn.record.model, drawn.record.provenance) == ("atlas", MODEL, "synthetic")


def test_a_store_of_other_images_is_refused(phantoms: Phantoms, tmp_path: Path) -> None:
    place = images_of(phantoms, tmp_path / "dist", "pathmnist")
    store(place, tmp_path / "features")
    folder, manifest = find_store(tmp_path / "features", place.entry, 28, MODEL)
    other = images_of(phantoms, tmp_path / "other", "pathmnist", rows=18)
    with pytest.raises(BuildError, match="holds features of other data"):
        draw_atlas(folder, manifest, other, "train")
    with pytest.raises(ScoreError, match="unknown projection 'umap': choose from pca, tsne"):
        draw_atlas(folder, manifest, place, "train", projection="umap")
    with pytest.raises(MedMNISTError):
        draw_atlas(folder, replace(manifest, subset="bloodmnist"), place, "train")


def test_the_main_axes_are_found_whatever_their_sign() -> None:
    plane = RNG.normal(size=(50, 2)) * (3, 1)
    axes = np.linalg.qr(RNG.normal(size=(7, 7)))[0][:2]
    found, shares = project((plane @ axes + 5).astype(np.float32), "pca", "features")
    assert np.abs(found).max() == 1 and sum(shares) == pytest.approx(1)
    distances = np.linalg.norm(plane[:, None] - plane, axis=2) / np.linalg.norm(found[:, None] - found, axis=2).clip(
        1e-9
    )
    assert np.ptp(distances[np.triu_indices(50, 1)]) < 1e-3
    again, _ = project((plane @ axes + 5).astype(np.float32), "pca", "features")
    assert np.array_equal(found, again)


def test_tsne_separates_groups() -> None:
    groups = np.repeat(np.eye(3), 12, axis=0) * 20 + RNG.normal(size=(36, 3))
    found, shares = project(groups, "tsne", "features")
    centers = found.reshape(3, 12, 2).mean(axis=1)
    spread = np.abs(found.reshape(3, 12, 2) - centers[:, None]).max()
    assert shares == [] and min(np.linalg.norm(centers[i] - centers[i - 1]) for i in range(3)) > spread


@pytest.mark.parametrize("features", [np.ones((9, 4)), np.array([[0.0, np.nan]] * 4), np.eye(2)])
def test_features_that_span_no_plane_are_refused(features: np.ndarray) -> None:
    with pytest.raises(BuildError, match="cannot draw an atlas of here: it needs three different rows of finite"):
        project(features, "pca", "here")
