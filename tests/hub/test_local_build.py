"""Only complete, undamaged and allowed builds are pushed: each test breaks a build in one way."""

import io
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from medmnist_hf.errors import BuildError
from medmnist_hf.hub.local_build import parse_findings, read_local
from medmnist_hf.manifest import MANIFEST_NAME, README_NAME
from tests.fixtures.pushing import FLAG, describe


def assert_refused(folder: Path, match: str, **flags: bool) -> None:
    with pytest.raises(BuildError, match=match) as caught:
        read_local(folder, **flags)
    assert "\n" not in str(caught.value)


@pytest.fixture(name="copy")
def copy_fixture(dists: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(dists["28"], tmp_path / FLAG))


def test_synthetic_and_unverified_builds_need_a_flag(copy: Path) -> None:
    assert_refused(copy, "is synthetic .*--allow-synthetic")
    path = copy / "28" / MANIFEST_NAME
    path.write_text(path.read_text().replace('"kind": "phantom"', '"kind": "folder"'))
    assert_refused(copy, "--allow-unverified", allow_synthetic=True)
    build = read_local(copy, allow_unverified=True)
    assert "**unverified**" in describe(build.subset, build.manifests, {})[README_NAME]


def test_damage(copy: Path) -> None:
    shard = next((copy / "28").glob("test-*.parquet"))
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"x")
    assert_refused(copy, "is not the shard of the manifest", allow_synthetic=True)
    shard.unlink()
    assert_refused(copy, "cannot push .*No such file", allow_synthetic=True)
    shard.write_bytes(good)
    extra = shard.with_name("more.parquet")
    extra.write_bytes(good)
    assert_refused(copy, "more.parquet is not in the manifest", allow_synthetic=True)
    extra.unlink()
    (copy / "64").mkdir()
    assert_refused(copy, "64 is not a complete build", allow_synthetic=True)
    (copy / "64").rmdir()
    (copy / "28").rename(copy / "64")
    assert_refused(copy, "name folders by subset and size", allow_synthetic=True)


def test_nothing_to_push(tmp_path: Path) -> None:
    assert_refused(tmp_path, "no build in")


def test_hidden_files_and_code_are_not_pushed(copy: Path) -> None:
    for name in (".secret", "pathmnist.py", "28/.hidden.json", "28/load.py", ".build/plan.json"):
        (copy / name).write_text("x")
    build = read_local(copy, allow_synthetic=True)
    assert not [path for path in build.files | build.pictures if ".py" in path or "/." in f"/{path}"]


def test_an_audit_goes_with_its_config(copy: Path) -> None:
    path = copy / "28" / "audit.json"
    path.write_text('{"findings": ["one line"]}')
    build = read_local(copy, allow_synthetic=True)
    assert build.files["28/audit.json"].source == build.audits["28"] == path.read_bytes()
    assert parse_findings(build.audits["28"], "it") == ("one line",)
    for findings in ("1", '["two\\nlines"]', '["\\u001b[31m"]', "[1]", '[""]', "[" * 9_000):
        path.write_text(f'{{"findings": {findings}}}')
        assert_refused(copy, "is not a valid audit", allow_synthetic=True)


@pytest.mark.parametrize("name", ["montage.png", "28/manifest.json", "28/audit.json", "28", "28/train"])
def test_links_are_never_pushed(copy: Path, tmp_path: Path, name: str) -> None:
    """Even if the link points to the right content, since nothing outside the folder is pushed."""
    path = copy / name if name != "28/train" else next((copy / "28").glob("train-*.parquet"))
    outside = tmp_path / "outside"
    if path.exists():
        path.rename(outside)
    else:
        outside.write_text('{"findings": []}')
    path.symlink_to(outside)
    assert_refused(
        copy, rf"cannot push .*{name}.* \(it is a link to .*outside, and links are not pushed\)", allow_synthetic=True
    )
    path.unlink()
    path.symlink_to(os.path.relpath(outside, path.parent))
    assert_refused(copy, r"it is a link to \.\./", allow_synthetic=True)


def test_a_fifo_is_refused_at_once(copy: Path) -> None:
    (copy / "montage.png").unlink()
    os.mkfifo(copy / "montage.png")
    assert_refused(copy, r"montage\.png \(it is not a regular file\)", allow_synthetic=True)


def picture(kind: str, size: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (size, size)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [b"hf_" + b"x" * 34, picture("PNG")[:30], picture("GIF"), picture("TIFF"), b"%!PS-Adobe-3.0 EPSF-3.0"]
)
def test_only_a_picture_of_the_right_kind_is_pushed(copy: Path, content: bytes) -> None:
    (copy / "montage.png").write_bytes(content)
    assert_refused(copy, r"montage\.png \(it is not a valid PNG", allow_synthetic=True)


def test_a_picture_of_volumes_is_not_pushed_with_images(copy: Path) -> None:
    (copy / "montage.gif").write_bytes(picture("GIF"))
    assert set(read_local(copy, allow_synthetic=True).pictures) == {"montage.png"}
