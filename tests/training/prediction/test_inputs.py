"""Images to predict: which are found, and one-line errors for those that a model cannot read."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medmnist_hf.catalog import subset
from medmnist_hf.errors import MedMNISTError
from medmnist_hf.training.prediction.inputs import open_inputs

BLOOD = subset("bloodmnist")


def save(folder: Path, name: str, size: tuple[int, int] = (28, 28), mode: str = "RGB") -> Path:
    folder.mkdir(exist_ok=True)
    Image.new(mode, size, color=7).save(folder / name)
    return folder


def test_images_of_a_folder_are_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.tif"):
        save(tmp_path, name)
    inputs = open_inputs(str(tmp_path), BLOOD, 28)
    assert inputs.names == ("a.jpg", "b.PNG", "c.tif") and inputs.count == 3
    assert [block.shape for block in inputs.blocks(2)] == [(2, 28, 28, 3), (1, 28, 28, 3)]
    gray = open_inputs(str(save(tmp_path / "gray", "a.png", mode="L")), subset("breastmnist"), 28)
    assert [block.shape for block in gray.blocks(2)] == [(1, 28, 28)]


def test_exported_images_are_in_the_order_of_their_rows(tmp_path: Path) -> None:
    names = tuple(f"test{row}_{row % 2}.png" for row in range(12))
    for name in sorted(names):
        save(tmp_path, name)
    assert open_inputs(str(tmp_path), BLOOD, 28).names == names


@pytest.mark.parametrize(
    ("size", "mode", "message"),
    [
        ((64, 28), "RGB", r"a.png has 64 x 28 pixels in mode RGB, but the model was trained on 28 x 28 in mode RGB"),
        ((28, 28), "L", r"a.png has 28 x 28 pixels in mode L, but the model was trained on 28 x 28 in mode RGB"),
    ],
)
def test_an_image_of_another_shape_is_named(size: tuple[int, int], mode: str, message: str, tmp_path: Path) -> None:
    inputs = open_inputs(str(save(tmp_path, "a.png", size, mode)), BLOOD, 28)
    with pytest.raises(MedMNISTError, match=message):
        list(inputs.blocks(2))


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    for name, content in (("text.png", b"text"), ("cut.png", (save(tmp_path, "a.png") / "a.png").read_bytes()[:60])):
        (tmp_path / "only").mkdir(exist_ok=True)
        (tmp_path / "only" / name).write_bytes(content)
        with pytest.raises(MedMNISTError, match=rf"^cannot read .*{name} \(.*\): fix or remove it$"):
            list(open_inputs(str(tmp_path / "only"), BLOOD, 28).blocks(2))
        (tmp_path / "only" / name).unlink()


def test_other_inputs_are_one_line_errors(tmp_path: Path) -> None:
    folder = str(save(tmp_path / "folder", "a.png"))
    with pytest.raises(MedMNISTError, match="is a folder of images, which has no splits: leave out --split"):
        open_inputs(folder, BLOOD, 28, split="test")
    with pytest.raises(MedMNISTError, match="but the model reads volumes: give an NPZ file"):
        open_inputs(folder, subset("adrenalmnist3d"), 28)
    small, none = np.zeros((2, 14, 14, 3), np.uint8), np.zeros((0, 28, 28, 3), np.uint8)
    np.savez(tmp_path / "x.npz", test_images=small, val_images=none, train_images=small.astype(np.float32))
    for split, message in (
        ("test", r"test_images.npy has images of 14 x 14 x 3, but the model was trained on 28 x 28 x 3"),
        ("validation", r"val_images.npy has no images: give at least one"),
        ("train", r"train_images.npy is float32: give uint8 images"),
    ):
        with pytest.raises(MedMNISTError, match=message):
            open_inputs(str(tmp_path / "x.npz"), BLOOD, 28, split=split)
    with pytest.raises(MedMNISTError, match="nowhere"):
        open_inputs("nowhere/at/all", BLOOD, 28, root=tmp_path)
