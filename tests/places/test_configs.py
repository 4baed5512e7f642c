"""Finding all configs of a name, locally and on the Hub."""

import re
import shutil
from pathlib import Path

import pytest

from medmnist_hf.errors import CatalogError, HubError, MedMNISTError, SourceError, VerificationError
from medmnist_hf.hub.dataset_plan import PushOptions
from medmnist_hf.manifest import read_manifest
from medmnist_hf.places import configs
from medmnist_hf.places.configs import expand, find_configs
from medmnist_hf.places.resolver import ROOT_VARIABLE
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.pushing import ID, KIND, Pusher

FLAG = "breastmnist"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, phantoms: Phantoms) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build(phantoms, folder / "dist", FLAG, 28, 64)
    build(phantoms, folder / "dist", "retinamnist", 28)
    return folder


@pytest.fixture(autouse=True)
def current_folder(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(built)
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize(
    ("name", "sizes", "folders"),
    [
        (FLAG, (), ["dist/breastmnist/28", "dist/breastmnist/64"]),
        ("BreastMNIST-64", (), ["dist/breastmnist/64"]),
        ("dist/breastmnist", (), ["dist/breastmnist/28", "dist/breastmnist/64"]),
        ("dist/breastmnist", ("64", 128), ["dist/breastmnist/64"]),
        ("dist/breastmnist/64", ("all",), ["dist/breastmnist/64"]),
        ("dist", (), ["dist/breastmnist/28", "dist/breastmnist/64", "dist/retinamnist/28"]),
        ("dist", (28,), ["dist/breastmnist/28", "dist/retinamnist/28"]),
    ],
)
def test_local_builds(name: str, sizes: tuple[int | str, ...], folders: list[str]) -> None:
    matches = find_configs(name, sizes)
    assert [str(config.local) for config in matches] == folders
    assert [str(config.fetch()) for config in matches] == folders
    assert [config.manifest for config in matches] == [read_manifest(Path(folder)) for folder in folders]


@pytest.mark.parametrize("root", ["dist", "dist/breastmnist", "dist/breastmnist/28"])
def test_a_flag_in_a_root(root: str) -> None:
    sizes = [config.manifest.size for config in find_configs(FLAG, root=root)]
    assert sizes == ([28] if root.endswith("28") else [28, 64])


def test_a_repository_is_checked_first_and_downloaded_on_fetch(
    pusher: Pusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "hub_api", lambda: pusher.api)
    pusher.push("28", PushOptions(ID, tag="v1"))
    pusher.push("64")
    pusher.hub.log.clear()
    assert [config.manifest.size for config in find_configs(ID)] == [28, 64]
    for matches in (find_configs(f"{ID}@v1"), find_configs(ID, revision="v1")):
        (config,) = matches
        assert config.local is None
    assert not pusher.hub.log.find(path="parquet")
    assert read_manifest(config.fetch()) == config.manifest and pusher.hub.log.find(path="parquet")
    with pytest.raises(SourceError, match=f"no build of size 128 in {ID} on the Hub"):
        find_configs(ID, [128])
    pusher.hub.store.write(KIND, ID, {"load.py": b"1"})
    with pytest.raises(VerificationError, match="refuses code"):
        find_configs(ID)


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("dist/typo", {}, "dist/typo: no such file or folder (dist has breastmnist, retinamnist): give a subset"),
        (
            "dist/breastmnist",
            {"sizes": [128]},
            "no build of size 128 in dist/breastmnist (it has 28, 64): take size 28 or 64, or",
        ),
        (
            "breastmnist",
            {"sizes": [128], "root": "dist"},
            "in dist: take size 28 or 64 (dist has them), run medmnist",
        ),
        ("dist/breastmnits", {}, "did you mean dist/breastmnist?"),
        (
            "pathmnist",
            {"root": "dist"},
            "no build of pathmnist in dist: run medmnist-hf build pathmnist --size 28 --root",
        ),
        ("pathmnist", {"local": True}, "no build of pathmnist in dist or "),
        ("you/pathmnist", {"local": True}, "is on the Hub, but a local build is needed"),
        ("dist/breastmnist", {"root": "dist"}, "and the root dist are both paths"),
        ("dist", {"sizes": ["65"]}, "no subset has size '65': choose from 28, 64, 128, 224, all"),
        ("me/x@", {}, "no such file or folder"),
    ],
)
def test_missing_configs(name: str, options: dict[str, object], error: str) -> None:
    with pytest.raises((SourceError, CatalogError), match=re.escape(error)) as caught:
        find_configs(name, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_npz_file_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "breastmnist_64.npz").touch()
    with pytest.raises(SourceError, match=r"a build is needed: run medmnist-hf build breastmnist --size 64 --source"):
        find_configs(tmp_path / "breastmnist_64.npz")
    with pytest.raises(SourceError, match=r"^no build in .*: run medmnist-hf build$"):
        find_configs(tmp_path)


def test_the_error_for_a_failing_hub_names_each_place(pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "hub_api", lambda: pusher.api)
    with pytest.raises(
        MedMNISTError, match=r"medmnist/pathmnist.*; no build of it was found in dist or .*builds either: run med"
    ):
        find_configs("pathmnist")


def test_a_name_found_neither_locally_nor_on_the_hub(pusher: Pusher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "hub_api", lambda: pusher.api)
    with pytest.raises(HubError, match=r"; there is no local folder made/typo either$"):
        find_configs("made/typo")
    with pytest.raises(
        HubError, match=r"; there is no local folder dits/breastmnist either: did you mean dist/breastmnist\?$"
    ):
        find_configs("dits/breastmnist")


def test_folders_of_builds_are_expanded_to_subsets() -> None:
    """A damaged subset must not hide the others."""
    names = ["dist", "dist/breastmnist", "pathmnist", "you/x", "dist/typo", "nonsense"]
    assert expand(names) == ["dist/breastmnist", "dist/retinamnist", *names[1:]]


def test_nested_folders_of_builds_are_reported(built: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(built / "dist", tmp_path / "dist")
    shutil.copytree(built / "dist", tmp_path / "dist" / "phantom")
    names = expand([str(tmp_path / "dist")])
    assert all("phantom" not in name for name in names)
    nested = tmp_path / "dist" / "phantom"
    assert caplog.messages == [f"{nested} also holds builds, which are left out: name it to include them"]
