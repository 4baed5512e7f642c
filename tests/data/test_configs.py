"""Configs in a folder of builds or on the Hub: files are fetched by split, and other content is rejected."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from medmnist_hf.cards.render import write_card
from medmnist_hf.data.configs import BuiltConfig, open_config
from medmnist_hf.errors import BuildError, CatalogError, SourceError
from medmnist_hf.files import sha256_of
from medmnist_hf.manifest import MANIFEST_NAME, read_manifest
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import Fault, HubServer
from tests.fixtures.on_hub import fetched, put_on_hub

FLAG = "breastmnist"


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    write_card(build(phantoms, out, FLAG, 28, 64))
    return out


@pytest.fixture
def pushed(hub: HubServer, root: Path) -> HubServer:
    """A Hub with the builds as ``org/breastmnist``."""
    put_on_hub(hub, root / FLAG)
    return hub


def on_hub(size: int = 28, revision: str | None = None) -> BuiltConfig:
    return open_config(f"org/{FLAG}", size, revision=revision)


@pytest.mark.parametrize("hub_side", [False, True])
def test_shards_are_those_of_the_manifest(pushed: HubServer, root: Path, hub_side: bool) -> None:
    config = on_hub() if hub_side else open_config(FLAG, 28, root)
    manifest = read_manifest(root / FLAG / "28")
    assert config.manifest == manifest
    for split, record in manifest.splits.items():
        assert config.split(split) == record
        shards = config.shards(split)
        assert [shard for _, shard in shards] == list(record.shards)
        assert all(sha256_of(path) == shard.sha256 for path, shard in shards)


def test_only_the_requested_files_are_downloaded(pushed: HubServer) -> None:
    config = on_hub()
    assert fetched(pushed) == {f"28/{MANIFEST_NAME}"}
    config.shards("test")
    assert fetched(pushed) == {f"28/{MANIFEST_NAME}"} | {f"28/{shard.name}" for shard in config.split("test").shards}


def test_offline_after_a_first_download(pushed: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = on_hub().shards("test")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pushed.log.clear()
    config = on_hub()
    assert config.shards("test") == first and not pushed.log.find()
    with pytest.raises(SourceError, match=r"^cannot load org/breastmnist at size 28 \(.*\): check the name") as caught:
        config.shards("train")
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="cannot load org/breastmnist at size 64"):
        on_hub(64)


def test_shards_come_from_the_commit_of_the_manifest(pushed: HubServer) -> None:
    """A push between reading the manifest and the shards is not mixed in; a revision still gives the old files."""
    config = on_hub()
    (name,) = {shard.name for shard in config.split("test").shards[:1]}
    pushed.store.write("dataset", f"org/{FLAG}", {f"28/{name}": b"another", f"28/{MANIFEST_NAME}": None})
    path, shard = config.shards("test")[0]
    assert sha256_of(path) == shard.sha256
    with pytest.raises(SourceError, match=r"has no 28/manifest.json of this project"):
        on_hub()
    commit = path.parents[1]  # the cache keeps blobs next to the snapshots
    (before,) = [each.name for each in (commit / "snapshots").iterdir() if (each / "28" / MANIFEST_NAME).exists()]
    assert on_hub(revision=before).manifest == config.manifest


@pytest.mark.parametrize("content", [None, b"{}", b"\xff"])
def test_a_repository_of_others(pushed: HubServer, content: bytes | None) -> None:
    pushed.store.write("dataset", f"org/{FLAG}", {f"28/{MANIFEST_NAME}": content})
    why = (
        "has no 28/manifest.json of this project"
        if content is None
        else "/28/manifest.json is not a valid build manifest"
    )
    with pytest.raises(SourceError, match=rf"^org/breastmnist ?{why}") as caught:
        on_hub()
    assert "to_arrays(datasets.load_dataset('org/breastmnist', split=...))" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "revision", "match"),
    [
        ("nobody/breastmnist", None, r"^cannot load nobody/breastmnist at size 28 \(.*not found.*\): check the name"),
        ("org/breastmnist", "v9", r"^cannot load org/breastmnist@v9 at size 28 \(.*v9.*\): check the name"),
        ("org/breast", None, r"^cannot load org/breast at size 28 \(.*not found.*\): check the name"),
    ],
)
def test_a_missing_repository_or_revision(pushed: HubServer, name: str, revision: str | None, match: str) -> None:
    with pytest.raises(SourceError, match=match) as caught:
        open_config(name, 28, revision=revision)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_hub_that_refuses(pushed: HubServer, status: int) -> None:
    config = on_hub()
    pushed.faults.add(Fault(path="28/", status=status, times=-1))
    with pytest.raises(SourceError, match=r"^cannot load org/breastmnist at size 28 \(.*\): check the name") as caught:
        config.shards("test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hub_side", [False, True])
def test_the_manifest_of_another_config(pushed: HubServer, root: Path, tmp_path: Path, hub_side: bool) -> None:
    manifest = read_manifest(root / FLAG / "28")
    splits = {name: dataclasses.replace(record, pixels=None) for name, record in manifest.splits.items()}
    text = dataclasses.replace(manifest, size=64, splits=splits).to_json()
    match = r"holds breastmnist at size 64: "
    if hub_side:
        pushed.store.write("dataset", f"org/{FLAG}", {f"28/{MANIFEST_NAME}": text.encode()})
        with pytest.raises(BuildError, match=f"org/breastmnist/28 {match}remove the cached file and run again"):
            on_hub()
    else:
        shutil.copytree(root, tmp_path / "dist")
        (tmp_path / "dist" / FLAG / "28" / MANIFEST_NAME).write_text(text)
        with pytest.raises(BuildError, match=f"{match}build the config again with --force"):
            open_config(FLAG, 28, tmp_path / "dist")


def test_splits(root: Path) -> None:
    config = open_config(FLAG, 28, root)
    assert config.split("val") is config.split("validation")
    with pytest.raises(CatalogError, match="unknown split 'dev': choose from train, validation, test"):
        config.split("dev")


def test_a_missing_build(root: Path) -> None:
    with pytest.raises(SourceError, match=r"no build of breastmnist at size 224 .*\(it has 28, 64\).*--size 224"):
        open_config(FLAG, 224, root)
    with pytest.raises(SourceError, match=r"no build of pathmnist at size 28 in .*\(it has "):
        open_config("pathmnist", 28, root)
    with pytest.raises(CatalogError, match="no size 224"):
        open_config("organmnist3d", 224, root)


def test_a_repository_whose_name_is_not_a_flag(hub: HubServer, root: Path, tmp_path: Path) -> None:
    """The manifest says which subset it holds."""
    shutil.copytree(root / FLAG, tmp_path / "sonography")
    put_on_hub(hub, tmp_path / "sonography")
    config = open_config("org/sonography", 64)
    assert (config.entry.flag, config.size, config.where) == (FLAG, 64, "org/sonography/64")
    assert config.manifest == read_manifest(root / FLAG / "64")


def test_an_npz_file_is_not_a_build(phantoms: Phantoms) -> None:
    with pytest.raises(SourceError, match=r"a build is needed: (run medmnist-hf build|give a subset)"):
        open_config(phantoms(FLAG).path)


def test_a_folder_that_cannot_be_inspected_gives_a_one_line_error(tmp_path: Path) -> None:
    """The name is too long for the system, which fails like a missing permission, but for root as well."""
    with pytest.raises(SourceError, match=r"File name too long.*check the path"):
        open_config("pathmnist", 28, tmp_path / ("x" * 300))


def test_a_wrong_answer_of_the_hub_is_not_cached(pushed: HubServer) -> None:
    """The client itself would cache any answer for a manifest, and an empty listing of a commit, for good."""
    pushed.faults.add(Fault(method="GET", path=MANIFEST_NAME, garble=lambda body: b" " * len(body)))
    with pytest.raises(SourceError, match=rf"the received content of 28/{MANIFEST_NAME} does not match its digest"):
        on_hub()
    assert on_hub().manifest.subset == FLAG
    pushed.faults.add(Fault(path="/tree/", garble=lambda body: b"[]"))
    shards = on_hub().shards("test")
    assert all(path.is_file() for path, _ in shards)


def test_local_files_are_checked_by_size_and_files_on_the_hub_only_when_fetched(
    pushed: HubServer, root: Path, tmp_path: Path
) -> None:
    on_hub().check_files("test")
    assert fetched(pushed) == {f"28/{MANIFEST_NAME}"}
    local = open_config(FLAG, 28, shutil.copytree(root, tmp_path / "dist"))
    local.check_files("test")
    for config in (on_hub(), local):
        with pytest.raises(CatalogError):
            config.check_files("none")
    path, _ = local.shards("test")[0]
    with path.open("ab") as file:
        file.write(b"x")
    with pytest.raises(
        BuildError, match=r"it is not the shard of the manifest\): build the config again with --force"
    ):
        local.check_files("test")
