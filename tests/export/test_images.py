"""Image files of a config: stored PNG as it is, WebP as PNG, volumes as GIF, in the blocks of the shards."""

from pathlib import Path

import numpy as np
import PIL.Image

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.data.rows import open_rows
from medmnist_hf.export.images import FRAME_MS, gif_files, png_files
from tests.conftest import Phantoms
from tests.fixtures.builds import ROWS_PER_SHARD, build


def test_stored_png_goes_through_as_it_is(phantoms: Phantoms, tmp_path: Path) -> None:
    build(phantoms, tmp_path, "bloodmnist", 28)
    rows = open_rows("bloodmnist", root=tmp_path)
    assert list(png_files(rows, "train")) == list(rows.files("train"))
    assert max(map(len, png_files(rows, "train"))) <= ROWS_PER_SHARD


def test_webp_becomes_png(phantoms: Phantoms, tmp_path: Path) -> None:
    build_config(subset("bloodmnist"), 28, phantoms("bloodmnist"), tmp_path, options=BuildOptions(codec="webp"))
    rows = open_rows("bloodmnist", root=tmp_path)
    files = [image for block in png_files(rows, "test") for image in block]
    images = np.concatenate(list(rows.images("test")))
    assert len(files) == len(images)
    for content, image in zip(files, images, strict=True):
        (tmp_path / "image").write_bytes(content)
        with PIL.Image.open(tmp_path / "image") as picture:
            assert picture.format == "PNG" and np.array_equal(np.asarray(picture), image)


def test_volumes_become_gif(phantoms: Phantoms, tmp_path: Path) -> None:
    build(phantoms, tmp_path, "organmnist3d", 28)
    rows = open_rows("organmnist3d", root=tmp_path)
    files = [volume for block in gif_files(rows, "test") for volume in block]
    assert len(files) == rows.count("test")
    (tmp_path / "volume").write_bytes(files[0])
    first = next(iter(rows.images("test")))[0]
    with PIL.Image.open(tmp_path / "volume") as picture:
        assert picture.format == "GIF" and picture.info["duration"] % FRAME_MS == 0
        assert np.array_equal(np.asarray(picture.convert("L")), first[0])
