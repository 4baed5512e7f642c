"""Paths of local builds: invalid paths, patterns, and escaped paths of shards."""

import glob
import os
from pathlib import Path

import pytest

from medmnist_hf.errors import SourceError
from medmnist_hf.manifest import read_manifest
from medmnist_hf.places.local_paths import check_loadable, check_text, escaped_shards, is_pattern
from tests.conftest import Phantoms
from tests.fixtures.builds import build


@pytest.mark.parametrize("name", ["a b", "ü", "[1]", "a*", "x?", "#", "~", "$", "${", "%41", "a:b", "\\", "'"])
def test_paths_that_can_be_read(tmp_path: Path, name: str) -> None:
    check_text(tmp_path / name)
    check_loadable(tmp_path / name)


def test_links_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "a::b[1]").mkdir()
    (tmp_path / "plain").symlink_to(tmp_path / "a::b[1]")
    assert is_pattern(tmp_path / "plain")
    with pytest.raises(SourceError, match="as a path in an archive"):
        check_loadable(tmp_path / "plain")


def test_every_part_of_a_path_must_be_text(tmp_path: Path) -> None:
    for name, says in ((os.fsdecode(b"\xfe"), "not UTF-8"), ("\0", "NUL")):
        with pytest.raises(SourceError, match=says) as caught:
            check_text(tmp_path / name / "dist")
        str(caught.value).encode()


@pytest.mark.parametrize("name", ["run[12]", "a*b", "wh?t", "[[]", "[!]"])
def test_escaped_shards_match_only_themselves(phantoms: Phantoms, tmp_path: Path, name: str) -> None:
    folder = build(phantoms, tmp_path / name, "breastmnist", 28)
    assert is_pattern(folder)
    assert not is_pattern(tmp_path)
    manifest = read_manifest(folder / "28")
    files = escaped_shards(folder, manifest, ["test", "train"])
    for split, patterns in files.items():
        matches = [Path(path) for pattern in patterns for path in glob.glob(pattern)]  # noqa: PTH207
        assert matches == [folder / "28" / shard.name for shard in manifest.splits[split].shards]
