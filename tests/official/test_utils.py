"""Pictures and files equal those of the official functions."""

from pathlib import Path

import numpy as np
import pytest
from medmnist import utils as official

from medmnist_hf.errors import MedMNISTError
from medmnist_hf.official import utils as ours
from medmnist_hf.official.errors import ArgumentError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 11])
@pytest.mark.parametrize("channels", [1, 3])
def test_montages_are_the_official_ones(count: int, channels: int) -> None:
    """Also where places are left, which have the mean of the tiles."""
    images = RNG.integers(0, 256, (20, 5, 7, *(channels,) * (channels == 3)), np.uint8)
    chosen = RNG.choice(20, count)
    mine, theirs = (each.montage2d(images, channels, chosen) for each in (ours, official))
    assert (mine.mode, mine.size, mine.tobytes()) == (theirs.mode, theirs.size, theirs.tobytes())


def test_frames_are_the_official_ones(tmp_path: Path) -> None:
    volumes, chosen = RNG.integers(0, 256, (6, 4, 5, 7), np.uint8), np.array([5, 1, 1, 0])
    for mine, theirs in (
        [each.montage3d(volumes, 1, chosen) for each in (ours, official)],
        [each.load_frames(volumes[0]) for each in (ours, official)],
    ):
        assert [frame.tobytes() for frame in mine] == [frame.tobytes() for frame in theirs]
        for name, save in (("mine", ours.save_frames_as_gif), ("theirs", official.save_frames_as_gif)):
            save(mine, str(tmp_path / f"{name}.gif"), duration=70)
        assert (tmp_path / "mine.gif").read_bytes() == (tmp_path / "theirs.gif").read_bytes()
    with pytest.raises(ArgumentError, match=r"a\.png does not end in \.gif"):
        ours.save_frames_as_gif(mine, tmp_path / "a.png")


@pytest.mark.parametrize("postfix", ["png", "JPG", "bmp", "small.png", ".tiff"])
def test_files_are_the_official_ones(postfix: str, tmp_path: Path) -> None:
    images, labels = RNG.integers(0, 256, (7, 9, 9, 3), np.uint8), RNG.integers(0, 2, (7, 3), np.uint8)
    for module in (ours, official):
        out = tmp_path / module.__name__
        for split in ("train", "val"):
            module.save2d(images, labels, str(out / "images"), split, postfix, str(out / "all.csv"))
        module.save2d(images, labels, str(out / "more"), "test", postfix, None)
        module.save2d(images[:2], labels[:2], str(out / "others"), "train", postfix, str(out / "all.csv"))
    mine, theirs = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / ours.__name__, tmp_path / official.__name__)
    )
    assert mine == theirs and len(mine) == 24
    with pytest.raises(ArgumentError, match="images cannot be saved as None"):
        ours.save2d(images, labels, tmp_path / "none", "train", None, None)  # type: ignore[arg-type]
    assert ours.SPLIT_DICT == official.SPLIT_DICT


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    images, labels = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 1), np.uint8)
    ours.save2d(images, labels, tmp_path / "images", "train", "png", tmp_path / "all.csv")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    def fail(_picture: object, path: str) -> None:
        Path(path).write_text("begun")
        if Path(path).name.startswith("train1_"):
            raise OSError(28, "No space left on device")

    with pytest.raises(MedMNISTError, match=r"^no space left for .*images"):
        ours.save_fn(images, labels, tmp_path / "images", "train", "png", tmp_path / "all.csv", np.asarray, fail)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(ArgumentError, match="3 images but 2 labels"):
        ours.save3d(images, labels[:2], tmp_path / "images", "train", "gif", None)
    (tmp_path / "file").touch()
    with pytest.raises(MedMNISTError, match=r"^cannot write "):
        ours.save2d(images, labels, tmp_path / "file" / "images", "train", "png", None)
    with pytest.raises(MedMNISTError, match=r"^cannot write "):
        ours.write_file(tmp_path / "file" / "all.csv", "")
