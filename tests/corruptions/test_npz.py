"""Corrupted test splits as NPZ files: the published layout, resuming, and what stays behind after an error."""

from pathlib import Path

import numpy as np
import pytest

from medmnist_hf.corruptions import arrays, corrupt_batch
from medmnist_hf.corruptions import npz as module
from medmnist_hf.corruptions.npz import corrupted_path, write_corrupted
from medmnist_hf.corruptions.registry import SEVERITIES, find_corruption
from medmnist_hf.data.rows import Rows, open_rows
from medmnist_hf.errors import MedMNISTError, SourceError
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.dists import npz_folder


@pytest.mark.parametrize("flag", ["dermamnist", "chestmnist"])
def test_the_published_layout(phantoms: Phantoms, tmp_path: Path, flag: str) -> None:
    source = npz_folder(phantoms, tmp_path / "npz", (flag, 28)) / f"{flag}.npz"
    for number, rows in enumerate((open_rows(build(phantoms, tmp_path / "dist", flag, 28)), open_rows(source))):
        counts: list[int] = []
        corruption = find_corruption(flag, "impulse_noise")
        assert write_corrupted(rows, corruption, tmp_path / str(number), on_progress=counts.append)
        path = tmp_path / str(number) / f"{flag}_28" / "impulse_noise.npz"
        assert path == corrupted_path(rows, corruption, tmp_path / str(number))
        with np.load(path) as written, np.load(source) as clean:
            images, labels = clean["test_images"], clean["test_labels"]
            assert set(written.files) == {"test_images", "test_labels"} and sum(counts) == 5 * len(images)
            expected = [corrupt_batch(images, flag, "impulse_noise", severity) for severity in SEVERITIES]
            assert (written["test_images"] == np.concatenate(expected)).all()
            assert (written["test_labels"] == np.tile(labels, (5, 1))).all()
            assert written["test_labels"].dtype == written["test_images"].dtype == np.uint8


@pytest.fixture
def rows(phantoms: Phantoms, tmp_path: Path) -> Rows:
    return open_rows(npz_folder(phantoms, tmp_path / "npz", ("breastmnist", 28)) / "breastmnist.npz")


def test_complete_files_are_kept_and_others_only_replaced_by_force(
    rows: Rows, phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corruption = find_corruption("breastmnist", "pixelate")
    target = corrupted_path(rows, corruption, tmp_path)
    assert write_corrupted(rows, corruption, tmp_path)
    content = target.read_bytes()
    assert not write_corrupted(rows, corruption, tmp_path)
    monkeypatch.setattr(module, "releases", lambda: {"numpy": "1"})
    with pytest.raises(MedMNISTError, match=r"pixelate\.npz is of other rows or releases: pass --force"):
        write_corrupted(rows, corruption, tmp_path)
    target.write_bytes(content[:1000])  # as another program would leave it
    with pytest.raises(MedMNISTError, match="pass --force to replace it"):
        write_corrupted(rows, corruption, tmp_path)
    monkeypatch.undo()
    other = open_rows(npz_folder(phantoms, tmp_path / "other", ("breastmnist", 28)) / "breastmnist.npz")
    monkeypatch.setattr(other, "images", lambda split: (255 - block for block in rows.images(split)))
    with pytest.raises(MedMNISTError, match="is of other rows or releases"):
        write_corrupted(other, corruption, tmp_path)
    assert write_corrupted(rows, corruption, tmp_path, force=True) and target.read_bytes() == content


def test_nothing_is_left_after_an_error(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise SourceError("row 3 is damaged")

    monkeypatch.setattr(arrays, "corrupt_rows", broken)
    with pytest.raises(SourceError, match="row 3 is damaged"):
        write_corrupted(rows, find_corruption("breastmnist", "pixelate"), tmp_path)
    assert [path.name for path in (tmp_path / "breastmnist_28").iterdir()] == [".lock"]
    (tmp_path / "file").touch()
    with pytest.raises(MedMNISTError, match="cannot write"):
        write_corrupted(rows, find_corruption("breastmnist", "pixelate"), tmp_path / "file")
