"""Corrupted test splits from files: those of this project give the pixels that are generated, others are refused."""

from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.corruptions.npz import corrupted_path, write_corrupted
from medmnist_hf.corruptions.registry import find_corruption
from medmnist_hf.data.rows import Rows, open_rows
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.robustness.corrupted_files import read_corrupted
from tests.conftest import Phantoms
from tests.fixtures.runs import build_all

PIXELATE = find_corruption("breastmnist", "pixelate")


@pytest.fixture(scope="module")
def rows(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return open_rows("breastmnist", 28, root=build_all(phantoms, tmp_path_factory.mktemp("dist"), "breastmnist"))


def read(folder: Path, rows: Rows, *counts: int) -> list[tuple[tuple[int, ...], int]]:
    return [(images.shape, severity) for images, severity in read_corrupted(folder, rows, PIXELATE, counts)]


def test_a_file_of_this_project_is_read_by_severity(rows: Rows, tmp_path: Path) -> None:
    write_corrupted(rows, PIXELATE, tmp_path)
    count = rows.count("test")
    expected = [((size, 28, 28), severity) for severity in range(1, 6) for size in (10, count - 10)]
    assert read(tmp_path, rows, 10, count - 10) == expected


def test_files_of_others_are_read_whatever_the_type_of_their_labels(rows: Rows, tmp_path: Path) -> None:
    count, labels = rows.count("test"), rows.labels("test")
    path = corrupted_path(rows, PIXELATE, tmp_path)
    path.parent.mkdir()
    images, fives = np.zeros((5 * count, 28, 28), np.uint8), np.tile(labels, (5, 1)).astype(np.int64)
    np.savez(path, test_images=images, test_labels=fives)
    assert len(read(tmp_path, rows, count)) == 5
    for wrong, message in (
        ({"test_images": images[1:], "test_labels": fives}, "not uint8 "),
        ({"test_images": images, "test_labels": fives[1:]}, "not integers "),
        ({"test_images": images, "test_labels": 1 - fives}, "holds other labels than the clean images: name files"),
        ({"test_images": images}, "test_labels"),
    ):
        np.savez(path, **wrong)
        with pytest.raises(MedMNISTError, match=message):
            read(tmp_path, rows, count)


def test_a_missing_file_is_named(rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(MedMNISTError, match=r"pixelate\.npz is missing: make it with medmnist-hf corrupt"):
        read(tmp_path, rows, 1)
