"""Montages have every pixel in its place and reproducible bytes, and bad input gives a one-line error."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medmnist_hf.catalog import subset
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.data.rows import open_rows
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError
from medmnist_hf.exporting.captions import HEIGHT, caption, class_names
from medmnist_hf.exporting.montage import (
    animation,
    draw_sample,
    export_montage,
    first_slice,
    layout,
    montage,
    sample_images,
    save_gif,
    save_png,
    volume_montage,
)
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.exports import CONFIGS, arrays_of, refused

RNG = np.random.default_rng(0)


def noise(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 9),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    rgb=st.booleans(),
    columns=st.none() | st.integers(1, 12),
    border=st.integers(0, 3),
    scale=st.integers(1, 3),
    background=st.integers(0, 255),
)
def test_tiles_are_at_the_right_places(
    *, count: int, height: int, width: int, rgb: bool, columns: int | None, border: int, scale: int, background: int
) -> None:
    images = noise(count, height, width, *((3,) if rgb else ()))
    picture = montage(images, columns, border=border, scale=scale, background=background)
    pixels = np.asarray(picture)
    assert picture.mode == ("RGB" if rgb else "L")
    across = min(count, columns) if columns else next(n for n in range(1, 10) if n * n >= count)
    seen = np.zeros(pixels.shape[:2], bool)
    for index, image in enumerate(images):
        top = border + (index // across) * (height * scale + border)
        left = border + (index % across) * (width * scale + border)
        area = np.s_[top : top + height * scale, left : left + width * scale]
        assert (pixels[area] == np.kron(image, np.ones((scale, scale, *((1,) if rgb else ())), np.uint8))).all()
        seen[area] = True
    assert (pixels[~seen] == background).all()
    assert picture.width == across * (width * scale + border) + border


def test_frames_are_the_slices_along_the_depth() -> None:
    volumes = noise(3, 4, 5, 6)
    frames = volume_montage(volumes, 2)
    assert len(frames) == 4
    for depth, frame in enumerate(frames):
        assert frame.tobytes() == montage(volumes[:, depth], 2).tobytes()


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 3)),
        np.zeros((3, 3), np.uint8),
        np.zeros((2, 3, 3, 4), np.uint8),
        np.zeros((0, 3, 3), np.uint8),
        np.zeros((1, 2, 3, 3, 3), np.uint8),
    ],
)
def test_an_array_that_is_not_a_stack_of_images(images: NDArray[Any]) -> None:
    with pytest.raises(MedMNISTError, match=r"^cannot draw a montage of an array of .*\(N, H, W, 3\)$"):
        montage(images)


@pytest.mark.parametrize("option", [{"columns": 0}, {"border": -1}, {"scale": 0}, {"background": 256}])
def test_options_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(
        MedMNISTError, match=rf"^cannot draw a montage with .*{next(iter(option))}={next(iter(option.values()))}"
    ):
        montage(noise(1, 2, 2), **option)


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 0, 3, 3)])
def test_an_array_that_is_not_a_stack_of_volumes(shape: tuple[int, ...]) -> None:
    with pytest.raises(MedMNISTError, match=r"^cannot draw an array"):
        volume_montage(np.zeros(shape, np.uint8))


def test_png_keeps_every_pixel_and_repeats_its_bytes(tmp_path: Path) -> None:
    picture = montage(noise(6, 8, 8, 3))
    save_png(picture, tmp_path / "a.png")
    save_png(picture, tmp_path / "b.png")
    with PIL.Image.open(tmp_path / "a.png") as read:
        assert read.tobytes() == picture.tobytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_gif_keeps_every_frame_and_repeats_its_bytes(tmp_path: Path) -> None:
    frames = volume_montage(noise(4, 7, 6, 6))
    save_gif(frames, tmp_path / "a.gif", milliseconds=50)
    save_gif(frames, tmp_path / "b.gif", milliseconds=50)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with PIL.Image.open(tmp_path / "a.gif") as read:
        assert getattr(read, "n_frames") == 7  # noqa: B009
        assert (read.info["duration"], read.info["loop"]) == (50, 0)
        for index, frame in enumerate(frames):
            read.seek(index)
            assert read.convert("L").tobytes() == frame.tobytes()


def test_a_gif_without_frames(tmp_path: Path) -> None:
    with pytest.raises(MedMNISTError, match=r"^cannot write .* without frames"):
        save_gif([], tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("size", [28, 64, 128, 224])
def test_pictures_of_all_sizes_fit_the_width_of_a_card(size: int, ndim: int) -> None:
    plan = layout(size, ndim)
    width = plan.columns * (size * plan.scale + 1) + 1
    assert 450 <= width <= 700
    assert plan.rows == (plan.columns if ndim == 2 else max(1, plan.columns // 3))
    assert plan.tiles == plan.columns * plan.rows


def npz_rows(file: SourceFile, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
    with np.load(file.path, allow_pickle=False) as arrays:
        return np.asarray(arrays["train_images"][rows])


@pytest.mark.parametrize("flag", ["breastmnist", "bloodmnist", "organmnist3d"])
def test_samples_are_rows_of_the_source(phantoms: Callable[..., SourceFile], tmp_path: Path, flag: str) -> None:
    shard = build(phantoms, tmp_path, flag, 28, rows_per_shard=1000) / "28" / "train-00000-of-00001.parquet"
    file = phantoms(flag, 28, 16)
    assert (sample_images(shard, 16, subset(flag), 28, 100) == npz_rows(file, np.arange(16))).all()
    assert (sample_images(shard, 16, subset(flag), 28, 4) == npz_rows(file, np.array([0, 4, 8, 12]))).all()


def test_only_the_first_row_group_is_read(tmp_path: Path) -> None:
    images = [{"bytes": png(level), "path": None} for level in range(10)]
    path = tmp_path / "shard.parquet"
    pq.write_table(pa.table({"image": images}), path, row_group_size=4, compression="none", use_dictionary=False)
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(1).column(0)
        start, stop = column.data_page_offset, column.data_page_offset + column.total_compressed_size
    content = bytearray(path.read_bytes())
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)
    with pytest.raises(OSError):
        pq.read_table(path)
    assert sample_images(path, 10, subset("breastmnist"), 28, 100)[:, 0, 0].tolist() == [0, 1, 2, 3]


def png(level: int, kind: str = "PNG", edge: int = 28) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((edge, edge), level, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\n(hello) print\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    "content",
    [
        b"no parquet",
        pa.table({"label": [1]}),
        pa.table({"image": pa.array([], pa.struct({"bytes": pa.binary()}))}),
        pa.table({"image": [{"bytes": b"no image", "path": None}]}),
        pa.table({"image": [{"bytes": png(3, "JPEG"), "path": None}]}),
        pa.table({"image": [{"bytes": png(3, edge=13_000), "path": None}]}),
        pa.table({"image": [{"bytes": POSTSCRIPT, "path": None}]}),
        pa.table({"image": [{"bytes": png(3), "path": None}] * 2}),
        pa.table({"image": [[1, 2], [3]]}),
        pa.table({"image": ["text"]}),
    ],
)
def test_a_shard_without_images_gives_a_one_line_error(tmp_path: Path, content: bytes | pa.Table) -> None:
    path = tmp_path / "shard.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path, compression="none", use_dictionary=False)
    with pytest.raises(BuildError, match=rf"^cannot read images from {path} \(.+\): build the config again$"):
        sample_images(path, 1, subset("breastmnist"), 28, 3)


def test_a_missing_shard_gives_a_one_line_error_and_no_picture(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^cannot read images from "):
        draw_sample(tmp_path / "none.parquet", 1, subset("breastmnist"), 28, tmp_path / "montage.png")
    assert list(tmp_path.iterdir()) == []


def tiles(images: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    """The square of `skimage.util.montage` without gaps: tile i is at row i // length and column i % length."""
    rows = [np.concatenate(list(images[i * length : (i + 1) * length]), axis=1) for i in range(length)]
    return np.concatenate(rows, axis=0)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_a_montage_equals_the_official_one(
    root: Path, phantoms: Phantoms, tmp_path: Path, flag: str, size: int, *, replace: bool
) -> None:
    rows = open_rows(flag, size, root=root)
    images = arrays_of(phantoms(flag, size).path)["train_images"]
    length = 5 if replace else 4
    np.random.seed(7)
    chosen = images[np.random.choice(len(images), size=length * length, replace=replace)]
    out = tmp_path / "new" / ("m.gif" if images.ndim == 4 and images.shape[-1] != 3 else "m.png")
    assert export_montage(rows, out, length=length, seed=7, replace=replace) == out
    with PIL.Image.open(out) as picture:
        if out.suffix == ".png":
            assert np.array_equal(np.asarray(picture), tiles(chosen, length))
            return
        assert picture.info["duration"] == 200
        slices = []
        slice_count = 0
        for frame in range(getattr(picture, "n_frames")):  # noqa: B009
            picture.seek(frame)
            repeats = int(picture.info["duration"]) // 200
            slices += [np.asarray(picture.convert("L"))] * repeats
            slice_count += repeats
        assert slice_count == size
    first = first_slice(chosen)
    for depth, piece in enumerate(slices):
        assert np.array_equal(piece, tiles(chosen[:, (first + depth) % size], length))


@pytest.mark.parametrize(
    ("contrasts", "first"),
    [
        ([0, 0, 0, 9, 9, 9, 0], 3),
        ([0, 0, 9, 8, 9, 0, 0], 3),
        ([0, 0, 0, 0, 0, 9, 9], 5),
        ([9, 1, 1, 1, 1, 1, 9], 0),
        ([9, 9, 9, 9], 1),
        ([0, 0, 0], 1),
    ],
)
def test_an_animation_starts_with_a_slice_of_good_contrast(contrasts: list[int], first: int) -> None:
    volumes = np.zeros((2, len(contrasts), 4, 4), np.uint8)
    for depth, contrast in enumerate(contrasts):
        volumes[0, depth, ::2] = contrast
    assert first_slice(volumes) == first


def test_a_picture_of_a_card_starts_with_such_a_slice(tmp_path: Path) -> None:
    out = tmp_path / "a.gif"
    volumes = np.zeros((3, 28, 28, 28), np.uint8)
    volumes[:, 18:, 5:9, 5:9] = 200
    frames = volume_montage(volumes, 3)
    save_gif(animation(volumes, frames), out)
    with PIL.Image.open(out) as picture:
        assert np.array_equal(np.asarray(picture.convert("L")), np.asarray(frames[18]))


@pytest.mark.parametrize("rgb", [False, True])
def test_captions_are_below_their_tiles(*, rgb: bool) -> None:
    images = noise(3, 28, 28, *((3,) if rgb else ()))
    names = ["benign", "malignant, with a name that needs two lines", "benign"]
    pixels = np.asarray(montage(images, 3, border=0, labels=names))
    assert pixels.shape[:2] == (112 + HEIGHT, 3 * 112)
    large = images.repeat(4, axis=1).repeat(4, axis=2)
    for at, name in enumerate(names):
        tile = pixels[:, at * 112 : (at + 1) * 112]
        assert np.array_equal(tile[:112], large[at])
        below = tile[112:] if rgb else tile[112:, :, np.newaxis]
        assert all(np.array_equal(below[..., channel], caption(name, 112)) for channel in range(below.shape[-1]))
    with pytest.raises(
        MedMNISTError, match="cannot draw a montage of 3 images with 1 label: give one label per image"
    ):
        montage(images, labels=["one"])


@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_a_montage_can_show_the_class_of_each_tile(
    root: Path, phantoms: Phantoms, tmp_path: Path, flag: str, size: int
) -> None:
    rows, arrays = open_rows(flag, size, root=root), arrays_of(phantoms(flag, size).path)
    out = tmp_path / f"m.{'gif' if rows.entry.ndim == 3 else 'png'}"
    export_montage(rows, out, length=2, seed=3, labels=True)
    chosen = np.random.RandomState(3).choice(len(arrays["train_labels"]), 4, replace=False)
    names = class_names(rows.entry, arrays["train_labels"][chosen])
    with PIL.Image.open(out) as picture:
        picture.seek(
            1 if rows.entry.ndim == 3 else 0
        )  # frames after the first store only differences, and keep the captions
        pixels = np.asarray(picture.convert("L"))
    edge = pixels.shape[1] // 2
    for at, name in enumerate(names):
        top = at // 2 * (edge + HEIGHT) + edge
        below = pixels[top : top + HEIGHT, at % 2 * edge : (at % 2 + 1) * edge]
        assert np.array_equal(below, caption(name, edge)), name


def test_invalid_montages(root: Path, tmp_path: Path) -> None:
    images, volumes = open_rows("breastmnist", root=root), open_rows("organmnist3d", root=root)
    out = tmp_path / "a.png"
    refused(r"it holds images, name a file \*\.png", lambda: export_montage(images, tmp_path / "a.gif", length=2))
    refused(r"it holds volumes, name a file \*\.gif", lambda: export_montage(volumes, out, length=2))
    refused(
        r"has 16 images, but a montage of 5 x 5 needs 25: give a length of at most 4",
        lambda: export_montage(images, out, length=5),
    )
    refused("give a length of 1 to 1170", lambda: export_montage(images, out, length=0))
    refused("give a length of 1 to 1170", lambda: export_montage(images, out, length=1171, replace=True))
    refused(
        "-1 is not a valid seed: give one from 0 to 4294967295", lambda: export_montage(images, out, length=2, seed=-1)
    )
    refused("unknown split", lambda: export_montage(images, out, split="dev"), CatalogError)
    assert list(tmp_path.iterdir()) == []
    out.write_text("mine")
    refused("already exists: choose another name or pass --force", lambda: export_montage(images, out, length=2))
    assert out.read_text() == "mine"
    export_montage(images, out, length=2, force=True)
    with PIL.Image.open(out) as picture:
        assert picture.size == (56, 56)
    (tmp_path / "b.png").mkdir()
    refused("already exists: choose", lambda: export_montage(images, tmp_path / "b.png", length=2, force=True))
