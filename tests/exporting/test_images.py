"""Image files of a config: stored PNG unchanged, WebP as PNG, volumes as GIF, in the blocks of the shards."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.data.configs import BuiltConfig, open_config
from medmnist_hf.data.rows import BuiltRows, open_rows
from medmnist_hf.errors import SourceError
from medmnist_hf.exporting.images import FRAME_MS, gif_files, png_files
from tests.conftest import Phantoms
from tests.fixtures.builds import ROWS_PER_SHARD, build


def test_stored_png_is_unchanged(phantoms: Phantoms, tmp_path: Path) -> None:
    build(phantoms, tmp_path, "bloodmnist", 28)
    rows = BuiltRows(open_config("bloodmnist", root=tmp_path))
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


class Stored(BuiltRows):
    """Rows with other stored files, which are decoded like those of any build."""

    def __init__(self, config: BuiltConfig, files: list[bytes]) -> None:
        super().__init__(config)
        self._files = files

    def files(self, split: str) -> Iterator[list[bytes]]:
        yield self._files


def test_stored_png_is_checked_by_decoding(phantoms: Phantoms, tmp_path: Path) -> None:
    """A PNG may have a valid header and a damaged rest, or bytes after its end."""
    build(phantoms, tmp_path, "bloodmnist", 28)
    config = open_config("bloodmnist", root=tmp_path)
    rows = BuiltRows(config)
    valid = next(rows.files("train"))[0]
    flipped = bytearray(valid)
    flipped[len(valid) // 2] ^= 0xFF
    for bad in (valid[:40] + bytes(len(valid) - 40), valid[: len(valid) // 2], bytes(flipped)):
        with pytest.raises(SourceError, match="a row holds an unreadable image"):
            list(png_files(Stored(config, [bad]), "train"))
    (block,) = png_files(Stored(config, [valid, valid + b"<script>"]), "train")
    assert block[0] == valid
    assert b"<script>" not in block[1]
    assert np.array_equal(rows.decoded(block[1], "train"), rows.decoded(valid, "train"))
