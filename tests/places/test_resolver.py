"""One answer to where the data is: what is looked at, in which order, and what is said where nothing is there."""

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
    """A folder with ``dist``, which holds two subsets, and ``npz`` with a file of each."""
    folder = tmp_path_factory.mktemp("built")
    build(phantoms, folder / "dist", FLAG, 28, 64)
    build(phantoms, folder / "dist", "retinamnist", 28)
    (folder / "npz").mkdir()
    for flag in (FLAG, "retinamnist"):
        shutil.copy(phantoms(flag).path, folder / "npz" / subset(flag).file(28).name)
    return folder


@pytest.fixture
def there(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """That folder as the current one, with a cache of builds that is empty."""
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
def test_a_build_by_any_of_its_names(there: Path, name: str, size: int | str | None, folder: str) -> None:
    assert folder_of(find(name, size)) == folder


@pytest.mark.parametrize("root", ["dist", "dist/breastmnist", "dist/breastmnist/28"])
def test_a_root_may_be_the_folder_of_all_builds_or_of_the_one(there: Path, root: str) -> None:
    """`load(FLAG, root="dist/breastmnist")` once told people to nest builds."""
    assert folder_of(find(FLAG, root=root)) == "dist/breastmnist/28"
    assert folder_of(find(FLAG, root=there / root)) == str(there / "dist/breastmnist/28")


def test_a_folder_with_another_name_is_the_subset_of_its_manifest(there: Path, tmp_path: Path) -> None:
    shutil.copytree(there / "dist" / FLAG, tmp_path / "copy")
    assert folder_of(find(tmp_path / "copy", 64)) == str(tmp_path / "copy" / "64")
    shutil.copytree(there / "dist" / FLAG / "28", tmp_path / "alone")
    assert folder_of(find(tmp_path / "alone")) == str(tmp_path / "alone")
    shutil.copytree(there / "dist" / FLAG, tmp_path / "all" / "mine")
    assert folder_of(find(tmp_path / "all")) == str(tmp_path / "all" / "mine" / "28")


def test_the_places_of_a_flag_in_their_order(
    there: Path, phantoms: Phantoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_what_is_found_without_being_named_and_is_not_verified_is_logged(
    there: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        find(FLAG, root="dist")
        find("dist/breastmnist")
        assert not caplog.messages
        find(FLAG)
    (line,) = caplog.messages
    assert line.startswith("dist/breastmnist/28: SYNTHETIC: ")


@pytest.mark.parametrize("name", [f"you/{FLAG}@v1", f"{FLAG}@v1"])
def test_a_revision_is_that_of_the_hub(there: Path, name: str) -> None:
    owner = name.partition("/")[0] if "/" in name else "medmnist"
    assert find(name, 64) == Repository(ENTRY, 64, f"{owner}/{FLAG}", "v1")
    assert find(FLAG, revision="v1") == Repository(ENTRY, 28, f"medmnist/{FLAG}", "v1")
    assert find("you/histology") == Repository(None, 28, "you/histology")


def test_npz_files_where_they_will_do(there: Path) -> None:
    file = NpzFile(ENTRY, 28, Path("npz/breastmnist.npz"))
    assert find("npz/breastmnist.npz", npz=True) == file
    assert find(FLAG, root="npz", npz=True) == file
    assert find("npz", expected=ENTRY, npz=True) == file
    shutil.copy("npz/breastmnist.npz", "npz/other.npz")
    assert find("npz/other.npz", expected=ENTRY, npz=True) == NpzFile(ENTRY, 28, Path("npz/other.npz"))


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("dist/typo", {}, r"dist/typo: no such file or folder (dist has breastmnist, retinamnist): give a flag"),
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
        ("npz", {}, "holds NPZ files and no build: run medmnist-hf build breastmnist"),
        ("npz", {"npz": True}, "name one file, e.g. npz/breastmnist.npz"),
        ("breastmnist", {"root": "npz"}, "--source npz"),
        ("dist/breastmnist", {"root": "dist"}, "is a path, and so is the root dist"),
        ("you/pathmnist", {"root": "dist"}, "is on the Hub, and the root dist is not"),
        ("breastmnist", {"root": "dist", "revision": "v1"}, "a build has no revisions"),
        ("breastmnist@v1", {"revision": "v2"}, "another revision"),
        ("breastmnist-28", {"size": 64}, "names size 28, and size 64 is given"),
        ("breastmnist", {"size": 65}, "has no size 65"),
        ("you/histology", {"size": "big"}, "no subset has size 'big'"),
        ("retinamnist", {"expected": ENTRY}, "is retinamnist, and breastmnist is needed"),
        (
            "dist/breastmnist/28",
            {"size": 64},
            "a build of breastmnist at size 28, and breastmnist at size 64 is needed",
        ),
        ("npz/retinamnist.npz", {"expected": ENTRY, "npz": True}, "is not breastmnist.npz, which is needed"),
    ],
)
def test_errors_say_what_is_there_and_what_to_do(
    there: Path, name: str, options: dict[str, object], error: str
) -> None:
    with pytest.raises((SourceError, CatalogError), match=re.escape(error)) as caught:
        find(name, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_hub_failing_names_each_place(there: Path) -> None:
    place = find(FLAG, 128)
    assert isinstance(place, Repository)
    text = str(place.unreachable("load it", "no such repository"))
    assert text.startswith("cannot load it (no such repository), and no build of it was found in dist or ")
    assert text.endswith("run medmnist-hf build breastmnist --size 128, or in Python load(..., build=True)")
    assert ": take size 28 or 64 (dist has them), check the network" in text
    meant = find("dits/breastmnist")
    assert isinstance(meant, Repository)
    assert str(meant.unreachable("load it", "404")).startswith(
        "cannot load it (404): did you mean dist/breastmnist? Else check the name"
    )
    named = find(f"you/{FLAG}")
    assert isinstance(named, Repository)
    assert (
        str(named.unreachable("load it", "404")) == "cannot load it (404): check the name, the network and your token"
    )
