"""Images of loaded data sets behave like those of `datasets`, but only PNG and lossless WebP are decoded."""

import copy
import hashlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.data.stored_image import StoredImage, decode_safely
from medmnist_hf.errors import SourceError
from medmnist_hf.manifest import MANIFEST_NAME, README_NAME, read_manifest
from tests.conftest import Phantoms
from tests.fixtures.builds import build

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\n(hello) print\nshowpage\n%%EOF\n"


def picture(edge: int, form: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new(mode, (edge, edge), 7 if mode == "L" else (7, 8, 9)).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in ("retinamnist", "breastmnist"):
        write_card(build(phantoms, out, flag, 28))
    return out


def test_it_equals_the_feature_of_datasets_except_for_decoding() -> None:
    for flag, mode in (("retinamnist", "RGB"), ("breastmnist", "L")):
        feature = StoredImage(28, subset(flag))
        plain = datasets.Image(mode=mode)
        assert feature == plain and plain == feature
        assert feature != datasets.Image(mode="CMYK") and feature != datasets.Value("binary")
        assert repr(feature) == repr(plain)
        features = datasets.Features({"image": feature})
        assert features.to_dict() == datasets.Features({"image": plain}).to_dict()
        for again in (copy.deepcopy(feature), pickle.loads(pickle.dumps(feature))):  # noqa: S301
            assert again == feature
            assert np.asarray(again.decode_example({"bytes": picture(28, "PNG", mode), "path": None})).min() == 7


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_hold_the_right_pixels(root: Path, *, streaming: bool) -> None:
    for flag in ("retinamnist", "breastmnist"):
        images = medmnist_hf.load_arrays(flag, 28, "test", root).images
        rows = medmnist_hf.load(flag, 28, "test", root, streaming=streaming)
        for image, row in zip(images, rows, strict=True):
            assert isinstance(row["image"], PIL.Image.Image)
            assert np.array_equal(np.asarray(row["image"]), image)
    changed = medmnist_hf.load("breastmnist", 28, "train", root).shuffle(1).filter(lambda row: row["label"] == 1)
    assert isinstance(changed.features["image"], StoredImage)
    stored = changed.cast_column("image", datasets.Image(decode=False))[0]["image"]["bytes"]
    assert stored.startswith(b"\x89PNG")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (POSTSCRIPT, "neither PNG nor lossless WebP"),
        (picture(28, "JPEG"), "neither PNG nor lossless WebP"),
        (picture(28, "WEBP", lossless=False), "neither PNG nor lossless WebP"),
        (picture(28, "TIFF"), "neither PNG nor lossless WebP"),
        (picture(27, "PNG"), r"an image of shape \(27, 27, 3\), not \(28, 28, 3\)"),
        (picture(28, "PNG", "L"), r"an image of shape \(28, 28\)"),
        (picture(28, "PNG")[:60], "an unreadable image"),
        (b"", "no image"),
    ],
    ids=["PostScript", "JPEG", "lossy", "TIFF", "another size", "gray", "cut", "empty"],
)
def test_other_formats_are_not_decoded(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str, *, streaming: bool
) -> None:
    """A stand-in for Ghostscript, which Pillow would run for PostScript, records that it ran."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    out = tmp_path / "dist"
    shutil.copytree(root / "retinamnist", out / "retinamnist")
    config = out / "retinamnist" / "28"
    before = read_manifest(config).content_id
    manifest = json.loads((config / MANIFEST_NAME).read_text())
    shard = manifest["splits"]["test"]["shards"][0]
    table = pq.read_table(config / shard["name"])
    images = pa.array([{"bytes": content, "path": None}] * len(table), table.schema.field("image").type)
    pq.write_table(
        table.set_column(0, table.schema.field("image"), images),
        config / shard["name"],
        compression="none",
        use_dictionary=False,
    )
    stored = (config / shard["name"]).read_bytes()
    shard |= {"bytes": len(stored), "sha256": hashlib.sha256(stored).hexdigest()}
    (config / MANIFEST_NAME).write_text(json.dumps(manifest))
    card = config.parent / README_NAME
    card.write_text(card.read_text().replace(before, read_manifest(config).content_id))
    rows = medmnist_hf.load("retinamnist", 28, "test", out, streaming=streaming, verification_mode="no_checks")
    with pytest.raises(SourceError, match=f"^a row of retinamnist at size 28 holds .*{says}"):
        next(iter(rows))
    assert not (tmp_path / "ran").exists()


def test_columns_in_another_form_are_unchanged(root: Path) -> None:
    labels = medmnist_hf.load("breastmnist", 28, "test", root, columns=["label"])
    assert list(labels.features) == ["label"]
    plain = datasets.Dataset.from_dict({"image": [1, 2]})
    assert decode_safely(plain, subset("breastmnist"), 28).features == plain.features
