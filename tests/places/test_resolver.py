"""Finding the place of a data set: the places searched, their order, and the errors for missing data."""

import logging
import re
import shutil
from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.errors import CatalogError, SourceError
from medmnist_hf.places import resolver
from medmnist_hf.places.resolver import Build, NpzFile, Place, Repository, find
from tests.conftest import Phantoms
from tests.fixtures.builds import build

FLAG = "breastmnist"
ENTRY = subset(FLAG)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, phantoms: Phantoms) -> Path:
    """A folder with ``dist``, which holds builds of two subsets, and ``npz``, which holds a file of each."""
    folder = tmp_path_factory.mktemp("built")
    build(phantoms, folder / "dist", FLAG, 28, 64)
    build(phantoms, folder / "dist", "retinamnist", 28)
    (folder / "npz").mkdir()
    for flag in (FLAG, "retinamnist"):
        shutil.copy(phantoms(flag).path, folder / "npz" / subset(flag).file(28).name)
    return folder


@pytest.fixture
def current_folder(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder `built` as the current one, with an empty cache of builds."""
    monkeypatch.chdir(built)
    monkeypatch.delenv(resolver.ROOT_VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    return built


def folder_of(place: Place) -> str:
    assert isinstance(place, Build)
    assert place.entry == ENTRY
    return str(place.folder)


@pytest.mark.parametrize(
    ("name", "size", "folder"),
    [
        (FLAG, None, "dist/breastmnist/28"),
        ("BreastMNIST-64", None, "dist/breastmnist/64"),
        (FLAG, "64", "dist/breastmnist/64"),
        ("dist/breastmnist", None, "dist/breastmnist/28"),
        ("dist/breastmnist", 64, "dist/breastmnist/64"),
        ("dist/breastmnist/64", None, "dist/breastmnist/64"),
        ("./dist/breastmnist/64/", "64", "dist/breastmnist/64"),
    ],
)
def test_any_name_of_a_build(current_folder: Path, name: str, size: int | str | None, folder: str) -> None:
    assert folder_of(find(name, size)) == folder


@pytest.mark.parametrize("root", ["dist", "dist/breastmnist", "dist/breastmnist/28"])
def test_a_root_may_hold_all_builds_a_subset_or_a_config(current_folder: Path, root: str) -> None:
    """The folder of the subset is accepted as well, and not treated as an empty folder of builds."""
    assert folder_of(find(FLAG, root=root)) == "dist/breastmnist/28"
    assert folder_of(find(FLAG, root=current_folder / root)) == str(current_folder / "dist/breastmnist/28")


def test_the_manifest_identifies_the_subset_of_a_renamed_folder(current_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(current_folder / "dist" / FLAG, tmp_path / "copy")
    assert folder_of(find(tmp_path / "copy", 64)) == str(tmp_path / "copy" / "64")
    shutil.copytree(current_folder / "dist" / FLAG / "28", tmp_path / "alone")
    assert folder_of(find(tmp_path / "alone")) == str(tmp_path / "alone")
    shutil.copytree(current_folder / "dist" / FLAG, tmp_path / "all" / "mine")
    assert folder_of(find(tmp_path / "all")) == str(tmp_path / "all" / "mine" / "28")


def test_the_order_of_the_places_of_a_flag(
    current_folder: Path, phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "home" / "medmnist-hf" / "builds"
    build(phantoms, cache, FLAG, 28, 64, 128)
    build(phantoms, tmp_path / "mine", FLAG, 28)
    monkeypatch.setenv(resolver.ROOT_VARIABLE, str(tmp_path / "mine"))
    assert folder_of(find(FLAG)) == str(tmp_path / "mine" / FLAG / "28")
    assert folder_of(find(FLAG, 64)) == "dist/breastmnist/64"
    assert folder_of(find(FLAG, 128)) == str(cache / FLAG / "128")
    hub = find(FLAG, 224)
    assert hub == Repository(ENTRY, 224, "medmnist/breastmnist", None, (tmp_path / "mine", Path("dist"), cache))


def test_an_unverified_build_found_by_flag_logs_a_warning(
    current_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        find(FLAG, root="dist")
        find("dist/breastmnist")
        assert not caplog.messages
        find(FLAG)
    (line,) = caplog.messages
    assert line.startswith("dist/breastmnist/28: SYNTHETIC: ")


@pytest.mark.parametrize("name", [f"you/{FLAG}@v1", f"{FLAG}@v1"])
def test_a_revision_means_the_hub(current_folder: Path, name: str) -> None:
    owner = name.partition("/")[0] if "/" in name else "medmnist"
    assert find(name, 64) == Repository(ENTRY, 64, f"{owner}/{FLAG}", "v1")
    assert find(FLAG, revision="v1") == Repository(ENTRY, 28, f"medmnist/{FLAG}", "v1")
    assert find("you/histology") == Repository(None, 28, "you/histology")


def test_npz_files_if_accepted(current_folder: Path) -> None:
    file = NpzFile(ENTRY, 28, Path("npz/breastmnist.npz"))
    assert find("npz/breastmnist.npz", npz=True) == file
    assert find(FLAG, root="npz", npz=True) == file
    assert find("npz", expected=ENTRY, npz=True) == file
    shutil.copy("npz/breastmnist.npz", "npz/other.npz")
    assert find("npz/other.npz", expected=ENTRY, npz=True) == NpzFile(ENTRY, 28, Path("npz/other.npz"))


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("dist/typo", {}, r"dist/typo: no such file or folder (dist has breastmnist, retinamnist): give a subset"),
        (
            "dist/breastmnits",
            {},
            "no such file or folder (dist has breastmnist, retinamnist): did you mean dist/breastmnist?",
        ),
        (
            "dist/pathmnist",
            {},
            "no such file or folder (dist has breastmnist, retinamnist): run medmnist-hf build pathm",
        ),
        ("dist", {}, "dist holds breastmnist, retinamnist: name one of them, e.g. dist/breastmnist"),
        (
            "dist/breastmnist",
            {"size": 128},
            "(it has 28, 64): take size 28 or 64, or run medmnist-hf build breastmnist --size 128 --root dist",
        ),
        (
            "breastmnist",
            {"size": 128, "root": "dist"},
            "(it has 28, 64): take size 28 or 64, or run medmnist-hf build breastmnist --size 128",
        ),
        (
            "pathmnist",
            {"root": "dist"},
            "no build of pathmnist at size 28 in dist (it has breastmnist, retinamnist): run medmnist",
        ),
        (
            "pathmnist",
            {"root": "nowhere"},
            "(no such folder): run medmnist-hf build pathmnist --size 28 --root nowhere",
        ),
        ("retinamnist", {"root": "dist/breastmnist"}, "(it is a build of breastmnist)"),
        ("npz/breastmnist.npz", {}, "a build is needed: run medmnist-hf build breastmnist --size 28 --source npz"),
        ("npz", {}, "holds NPZ files but no build: run medmnist-hf build breastmnist"),
        ("npz", {"npz": True}, "name one file, e.g. npz/breastmnist.npz"),
        (
            "breastmnist",
            {"root": "npz"},
            "(it has no builds): run medmnist-hf build breastmnist --size 28 --source npz",
        ),
        ("dist/breastmnist", {"root": "dist"}, "and the root dist are both paths"),
        ("you/pathmnist", {"root": "dist"}, "is on the Hub, but the root dist is not"),
        ("breastmnist", {"root": "dist", "revision": "v1"}, "a build has no revisions"),
        ("breastmnist@v1", {"revision": "v2"}, "another revision"),
        ("breastmnist-28", {"size": 64}, "names size 28, but size is 64"),
        ("breastmnist", {"size": 65}, "has no size 65"),
        ("you/histology", {"size": "big"}, "no subset has size 'big'"),
        ("retinamnist", {"expected": ENTRY}, "is retinamnist, but breastmnist is needed"),
        (
            "dist/breastmnist/28",
            {"size": 64},
            "a build of breastmnist at size 28, but breastmnist at size 64 is needed",
        ),
        ("npz/retinamnist.npz", {"expected": ENTRY, "npz": True}, "is not the required file breastmnist.npz"),
    ],
)
def test_errors_list_existing_builds_and_what_to_do(
    current_folder: Path, name: str, options: dict[str, object], error: str
) -> None:
    with pytest.raises((SourceError, CatalogError), match=re.escape(error)) as caught:
        find(name, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_error_for_a_failing_hub_names_each_place_and_begins_with_the_way_out(
    current_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = find(FLAG, 128)
    assert isinstance(place, Repository)
    text = str(place.unreachable("load it", "no such repository"))
    assert text.startswith("no build of breastmnist at size 128 in dist or ")
    assert ": take size 28 or 64 (dist has them), run medmnist-hf build breastmnist --size 128, or in Python" in text
    assert text.endswith(
        "load(..., build=True); cannot load it either (no such repository): unset HF_HUB_OFFLINE to use the Hub"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    text = str(place.unreachable("load it", "no such repository"))
    assert text.endswith("(no such repository): check the network and your token")
    meant = find("dits/breastmnist")
    assert isinstance(meant, Repository)
    assert str(meant.unreachable("load it", "404")).startswith(
        "cannot load it (404): did you mean dist/breastmnist? Otherwise check the name"
    )
    named = find(f"you/{FLAG}")
    assert isinstance(named, Repository)
    text = str(named.unreachable("load it", "404"))
    assert text == "cannot load it (404): check the name, then check the network and your token"


def test_a_folder_of_npz_files_for_builds_is_a_source(current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds are not written among the original files."""
    with pytest.raises(SourceError) as caught:
        find(FLAG, root="npz")
    assert str(caught.value).endswith("run medmnist-hf build breastmnist --size 28 --source npz")
    monkeypatch.chdir(current_folder.parent)
    monkeypatch.setenv(resolver.ROOT_VARIABLE, str(current_folder / "npz"))
    place = find(FLAG)
    assert isinstance(place, Repository)
    text, folder = str(place.unreachable("load it", "404")), current_folder / "npz"
    assert f"({folder} holds breastmnist.npz, which is not a build): run medmnist-hf build" in text
    assert f"build breastmnist --size 28 --source {folder};" in text


def test_a_build_in_the_cache_is_named_if_a_folder_lacks_it(current_folder: Path, tmp_path: Path) -> None:
    shutil.copytree("dist/breastmnist", resolver.builds_cache() / FLAG)
    with pytest.raises(
        SourceError, match=re.escape("a build is in the cache: leave out --root (in Python root=), or")
    ):
        find(FLAG, root="nowhere")
    with pytest.raises(SourceError, match="a build is in the cache: give only its flag, breastmnist, or run"):
        find(tmp_path, expected=ENTRY)
