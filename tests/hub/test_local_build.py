"""What leaves this machine is complete, undamaged and allowed: each test breaks a build in one way."""

import shutil
from pathlib import Path

import pytest

from medmnist_hf.errors import BuildError
from medmnist_hf.hub.local_build import parse_findings, read_local
from medmnist_hf.manifest import MANIFEST_NAME, README_NAME
from tests.fixtures.pushing import FLAG, describe


def refused(folder: Path, match: str, **flags: bool) -> None:
    with pytest.raises(BuildError, match=match) as caught:
        read_local(folder, **flags)
    assert "\n" not in str(caught.value)


@pytest.fixture(name="copy")
def copy_fixture(dists: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(dists["28"], tmp_path / FLAG))


def test_what_needs_a_flag(copy: Path) -> None:
    refused(copy, "is synthetic .*--allow-synthetic")
    path = copy / "28" / MANIFEST_NAME
    path.write_text(path.read_text().replace('"kind": "phantom"', '"kind": "folder"'))
    refused(copy, "--allow-unverified", allow_synthetic=True)
    build = read_local(copy, allow_unverified=True)
    assert "**unverified**" in describe(build.subset, build.manifests, {})[README_NAME]


def test_damage(copy: Path) -> None:
    shard = next((copy / "28").glob("test-*.parquet"))
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + b"x")
    refused(copy, "is not the shard of the manifest", allow_synthetic=True)
    shard.unlink()
    refused(copy, "cannot read", allow_synthetic=True)
    shard.write_bytes(good)
    extra = shard.with_name("more.parquet")
    extra.write_bytes(good)
    refused(copy, "more.parquet is not in the manifest", allow_synthetic=True)
    extra.unlink()
    (copy / "64").mkdir()
    refused(copy, "64 is no complete build", allow_synthetic=True)
    (copy / "64").rmdir()
    (copy / "28").rename(copy / "64")
    refused(copy, "keep a folder for each", allow_synthetic=True)


def test_nothing_to_push(tmp_path: Path) -> None:
    refused(tmp_path, "no build in")


def test_hidden_files_and_code_stay_here(copy: Path) -> None:
    for name in (".secret", "pathmnist.py", "28/.hidden.json", "28/load.py", ".build/plan.json"):
        (copy / name).write_text("x")
    build = read_local(copy, allow_synthetic=True)
    assert not [path for path in build.files | build.pictures if ".py" in path or "/." in f"/{path}"]


def test_an_audit_goes_with_its_config(copy: Path) -> None:
    path = copy / "28" / "audit.json"
    path.write_text('{"findings": ["two\\nlines"]}')
    build = read_local(copy, allow_synthetic=True)
    assert build.files["28/audit.json"].source == build.audits["28"] == path.read_bytes()
    assert parse_findings(build.audits["28"], "it") == ("two lines",)
    path.write_text('{"findings": 1}')
    refused(copy, "is no audit", allow_synthetic=True)
