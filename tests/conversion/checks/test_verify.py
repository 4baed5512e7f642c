"""Verification detects damage: each test damages a build in one way that a quicker check would miss."""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import subset
from medmnist_hf.conversion.build import build_config
from medmnist_hf.conversion.checks.verify import verify_config
from medmnist_hf.conversion.sources.source import Folder, SourceFile
from medmnist_hf.errors import BuildError, MedMNISTError, VerificationError
from medmnist_hf.manifest import MANIFEST_NAME, README_NAME, read_manifest
from tests.conftest import Phantoms


@pytest.fixture(scope="module")
def built(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    for flag in ("breastmnist", "pathmnist", "chestmnist", "organmnist3d"):
        write_card(build_config(subset(flag), 28, phantoms(flag), out).config_dir.parent)
    return out


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Callable[[str], Path]:
    def make(flag: str) -> Path:
        shutil.copytree(built / flag, tmp_path / flag)
        return tmp_path / flag / "28"

    return make


@pytest.mark.parametrize("flag", ["breastmnist", "pathmnist", "chestmnist", "organmnist3d"])
def test_an_intact_build_equals_its_source_and_its_manifest(built: Path, phantoms: Phantoms, flag: str) -> None:
    file = phantoms(flag)
    seen: list[int] = []
    verified = verify_config(built / flag / "28", file, on_progress=seen.append)
    assert file.counts is not None
    assert (verified.rows, verified.shards, verified.against) == (file.counts.total, 3, file.path.name)
    assert sum(seen) == file.counts.total
    assert verify_config(built / flag / "28").against == "manifest"


@pytest.mark.parametrize("flag", ["breastmnist", "retinamnist", "adrenalmnist3d"])
def test_official_files_pass(real_data: Path, tmp_path: Path, flag: str) -> None:
    file = Folder(real_data).fetch(subset(flag), 28)
    config = build_config(subset(flag), 28, file, tmp_path).config_dir
    write_card(config.parent)
    assert verify_config(config, file).rows == subset(flag).counts.total


def refused(config: Path, file: SourceFile | None, match: str, error: type[MedMNISTError] = VerificationError) -> None:
    """Check that verification fails with one line that matches."""
    with pytest.raises(error, match=match) as caught:
        verify_config(config, file)
    assert "\n" not in str(caught.value)


def forge(config: Path, change: Callable[[pa.Table], pa.Table], split: str = "train") -> None:
    """Rewrite a shard and record the new file in the manifest, as a faulty builder would."""
    path = next(config.glob(f"{split}-*.parquet"))
    pq.write_table(change(pq.read_table(path)), path, compression="none", use_dictionary=False)
    record(config, path, split)


def record(config: Path, path: Path, split: str = "train") -> None:
    """Record the current content of a shard in the manifest and on the card."""
    before = read_manifest(config).content_id
    manifest = json.loads((config / MANIFEST_NAME).read_text())
    content = path.read_bytes()
    shard = manifest["splits"][split]["shards"][0]
    shard.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (config / MANIFEST_NAME).write_text(json.dumps(manifest))
    card = config.parent / README_NAME
    card.write_text(card.read_text().replace(before, read_manifest(config).content_id))


def other_label(table: pa.Table) -> pa.Table:
    labels = table["label"].to_pylist()
    labels[3] = (labels[3] + 1) % 2 if isinstance(labels[3], int) else [0, 1, 2] if labels[3] != [0, 1, 2] else []
    return table.set_column(1, table.schema.field("label"), pa.array(labels, table.schema.field("label").type))


def swapped(table: pa.Table) -> pa.Table:
    order = [1, 0, *range(2, len(table))]
    return table.take(order)


def changed_voxel(table: pa.Table) -> pa.Table:
    column = table["image"].combine_chunks()
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    values = np.array(storage.flatten().flatten().flatten())
    values[5] ^= 1
    shape = (len(table), 28, 28, 28)
    nested = pa.array(values.reshape(shape).tolist(), storage.type)
    if isinstance(column, pa.ExtensionArray):
        nested = pa.ExtensionArray.from_storage(column.type, nested)
    return table.set_column(0, table.schema.field("image"), nested)


@pytest.mark.parametrize("against_source", [True, False])
@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("breastmnist", other_label),
        ("chestmnist", other_label),
        ("pathmnist", swapped),
        ("organmnist3d", changed_voxel),
    ],
)
def test_one_changed_value_is_detected(
    copy: Callable[[str], Path],
    phantoms: Phantoms,
    flag: str,
    change: Callable[[pa.Table], pa.Table],
    *,
    against_source: bool,
) -> None:
    config = copy(flag)
    forge(config, change)
    if against_source:
        refused(config, phantoms(flag), r"28 train row \d+: the (pixels|labels) differ from the NPZ file")
    else:
        refused(config, None, "has pixels or labels that differ from its manifest")


def test_missing_and_surplus_rows_are_detected(copy: Callable[[str], Path], phantoms: Phantoms) -> None:
    config = copy("breastmnist")
    forge(config, lambda table: table.slice(0, len(table) - 1))
    refused(config, phantoms("breastmnist"), "it has 15 rows where the manifest has 16")
    forge(config, lambda table: pa.concat_tables([table, table]))
    refused(config, phantoms("breastmnist"), "it has [23][0-9] rows where the manifest has 16")


def test_pixel_statistics_of_the_manifest_are_checked(copy: Callable[[str], Path]) -> None:
    path = copy("pathmnist") / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["splits"]["validation"]["pixels"]["squares"][1] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(VerificationError, match="28 validation has pixel statistics that differ from its manifest"):
        verify_config(path.parent)
    for record in manifest["splits"].values():
        del record["pixels"]  # a build made before they were recorded
    path.write_text(json.dumps(manifest))
    assert verify_config(path.parent).against == "manifest"


def test_a_shard_with_other_bytes_is_detected(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    shard = next(config.glob("test-*.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    refused(config, None, "is not the shard of the manifest")
    shard.unlink()
    refused(config, None, "is missing")


def test_a_surplus_shard_is_detected(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    shutil.copy(next(config.glob("test-*.parquet")), config / "test-00001-of-00001.parquet")
    refused(config, None, "is not in the manifest")


def test_another_source_is_refused(built: Path, phantoms: Phantoms) -> None:
    file = phantoms("breastmnist", rows=24)
    refused(built / "breastmnist" / "28", file, "was built from a file with MD5")


def test_a_config_can_be_a_relative_path(copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy("breastmnist").parent)
    assert verify_config(Path("28")).shards == 3


def test_a_missing_card_is_reported(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    (config.parent / "README.md").unlink()
    refused(config, None, r"no README\.md")


def test_a_card_with_other_features_is_detected(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    card = config.parent / "README.md"
    card.write_text(card.read_text().replace("'0': malignant", "'0': benign"))
    refused(config, None, "has features")


def test_a_folder_without_a_build_is_reported(tmp_path: Path) -> None:
    refused(tmp_path, None, "is it a build", BuildError)


def test_the_manifest_of_another_size_does_not_pass(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    manifest = read_manifest(config)
    splits = {split: dataclasses.replace(record, pixels=None) for split, record in manifest.splits.items()}
    manifest = dataclasses.replace(manifest, size=64, splits=splits)
    (config / MANIFEST_NAME).write_text(manifest.to_json())
    refused(config, None, "is the manifest of breastmnist at size 64")


def encoded(shape: tuple[int, ...], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.zeros(shape, np.uint8)).save(buffer, form)
    return buffer.getvalue()


def bomb() -> bytes:
    """A small PNG whose header claims four hundred million pixels."""
    header = b"IHDR" + struct.pack(">2I5B", 20000, 20000, 8, 0, 0, 0, 0)
    data = encoded((28, 28))
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def text_labels(table: pa.Table) -> pa.Table:
    return table.set_column(1, "label", pa.array(["a word"] * len(table)))


def set_row_3(name: str, value: object) -> Callable[[pa.Table], pa.Table]:
    """Replace the value in row 3 of a column, and store the column with plain Arrow types."""

    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[3] = value(values[3]) if callable(value) else value
        return pa.table({each: pa.array(values) if each == name else table[each] for each in table.column_names})

    return change


def image(data: bytes | None) -> Callable[[pa.Table], pa.Table]:
    return set_row_3("image", {"bytes": data, "path": None})


def cut(stored: dict[str, bytes]) -> dict[str, object]:
    return {"bytes": stored["bytes"][:-30], "path": None}


@pytest.mark.parametrize(
    ("flag", "change", "says"),
    [
        ("breastmnist", set_row_3("image", cut), "row 3 holds an unreadable image"),
        ("breastmnist", image(b"no image"), "row 3 holds a file that is not a PNG or WebP image"),
        ("breastmnist", image(encoded((28, 28), "GIF")), "row 3 holds a file that is not a PNG or WebP image"),
        (
            "breastmnist",
            image(encoded((28, 27))),
            "row 3 holds an image of mode L and size (27, 28), not L and (28, 28)",
        ),
        ("pathmnist", image(encoded((28, 28))), "row 3 holds an image of mode L and size (28, 28), not RGB"),
        ("breastmnist", image(bomb()), "row 3 holds an unreadable image"),
        ("breastmnist", image(None), "row 3 holds no image"),
        ("breastmnist", set_row_3("image", None), "row 3 holds no image"),
        ("breastmnist", set_row_3("label", None), "row 3 holds no label"),
        ("breastmnist", set_row_3("label", -1), "row 3 holds a label that is not 0 to 1"),
        ("breastmnist", set_row_3("label", 2), "row 3 holds a label that is not 0 to 1"),
        ("chestmnist", set_row_3("label", [0, -1]), "row 3 holds a label that is not 0 to 13"),
        ("chestmnist", set_row_3("label", [13, 14]), "row 3 holds a label that is not 0 to 13"),
        ("chestmnist", set_row_3("label", [None]), "row 3 holds a label that is not 0 to 13"),
        ("chestmnist", set_row_3("label", None), "row 3 holds no label"),
        ("organmnist3d", set_row_3("image", None), "row 3 holds a volume"),
        ("organmnist3d", set_row_3("image", [[[1]]]), "row 3 holds a volume that is not (28, 28, 28)"),
        (
            "organmnist3d",
            set_row_3("image", lambda volume: [[[None] * 28] * 28] * 28),
            "row 3 holds a volume with empty",
        ),
        ("breastmnist", lambda table: table.drop_columns(["label"]), "row 0 holds no label"),
        ("breastmnist", lambda table: table.drop_columns(["image"]), "row 0 holds "),
        ("breastmnist", text_labels, "cannot be read from row 0 on ("),
    ],
)
def test_an_invalid_row_is_refused_in_one_line(
    copy: Callable[[str], Path], phantoms: Phantoms, flag: str, change: Callable[[pa.Table], pa.Table], says: str
) -> None:
    config = copy(flag)
    forge(config, change)
    for file in (phantoms(flag), None):
        refused(config, file, f"^{re.escape(f'{config} train {says}')}")


def test_a_shard_that_is_not_parquet_is_refused(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    forge(config, lambda table: table)
    path = next(config.glob("train-*.parquet"))
    kept = path.read_bytes()
    for content, says in (
        (b"no Parquet at all", rf"^{path} is not a shard of this build \("),
        (
            b"PAR1" + b"\xff" * (len(kept) // 2 - 4) + kept[len(kept) // 2 :],
            f"^{config} train cannot be read from row 0",
        ),
    ):
        path.write_bytes(content)
        record(config, path)
        refused(config, None, says)


def test_a_script_next_to_the_card_is_detected(copy: Callable[[str], Path]) -> None:
    config = copy("breastmnist")
    (config.parent / "breastmnist.py").write_text("raise SystemExit\n")
    refused(config, None, r"breastmnist\.py prevents loading, since load_dataset refuses scripts: remove it")


def test_an_image_that_datasets_would_rotate_is_detected(copy: Callable[[str], Path], phantoms: Phantoms) -> None:
    """`datasets` rotates an image by its EXIF data, although the stored pixels equal those of the source."""
    config = copy("breastmnist")
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 3

    def with_exif(stored: dict[str, bytes]) -> dict[str, object]:
        buffer = io.BytesIO()
        PIL.Image.open(io.BytesIO(stored["bytes"])).save(buffer, "PNG", exif=exif)
        return {"bytes": buffer.getvalue(), "path": None}

    forge(config, set_row_3("image", with_exif))
    refused(config, phantoms("breastmnist"), "row 3 holds an image with EXIF data, which datasets uses to rotate it")


def test_an_unwritable_home_is_named(copy: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = {"HF_HOME": str(tmp_path / "file" / "home")}
    other = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    for call in (
        f"from medmnist_hf.conversion.checks.verify import verify_config as f; f(Path({str(copy('breastmnist'))!r}))",
        f"from medmnist_hf import load as f; f('breastmnist', root={str(tmp_path)!r})",
    ):
        code = f"from pathlib import Path\n{call}"
        process = subprocess.run(
            [sys.executable, "-c", code], env=other | home, capture_output=True, text=True, check=False
        )
        assert "SourceError: cannot write " in process.stderr.splitlines()[-1]
        assert process.stderr.splitlines()[-1].endswith("set HF_HOME to a writable folder")
