"""`load` and `load_arrays` with any name, with NPZ files, and with wrong arguments."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import collection
from medmnist_hf.errors import CatalogError, MedMNISTError, SourceError
from medmnist_hf.places.resolver import ROOT_VARIABLE
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.hub.server import HubServer
from tests.fixtures.on_hub import put_on_hub

FLAG = "breastmnist"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, phantoms: Phantoms) -> Path:
    """A folder with builds in ``dist``."""
    folder = tmp_path_factory.mktemp("built")
    write_card(build(phantoms, folder / "dist", FLAG, 28, 64))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, with an empty cache."""
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


@pytest.mark.parametrize("name", [FLAG, "BreastMNIST", "breastmnist-28", "dist/breastmnist", "dist/breastmnist/28"])
def test_every_name_of_a_build_loads_its_rows(built: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(built)
    expected = medmnist_hf.load(FLAG, 28, "test", root="dist")
    assert medmnist_hf.load(name, split="test")["label"][:] == expected["label"][:]
    images, labels = medmnist_hf.load_arrays(name, split="test")
    assert labels.tolist() == expected["label"][:] and images.shape[1:] == (28, 28)


def test_sizes_in_names_and_as_text(built: Path) -> None:
    for arrays in (
        medmnist_hf.load_arrays("breastmnist-64", split="test", root=built / "dist"),
        medmnist_hf.load_arrays(FLAG, "64", "test", built / "dist" / FLAG),
        medmnist_hf.load_arrays(built / "dist" / FLAG / "64", split="test"),
    ):
        assert arrays.images.shape[1:] == (64, 64)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_version_is_the_version_of_the_data(built: Path, streaming: bool) -> None:
    splits = medmnist_hf.load(FLAG, 28, root=built / "dist", streaming=streaming)
    assert {str(part.info.version) for part in splits.values()} == {collection().version} == {"3.0.0"}


@pytest.mark.parametrize("split", ["val", "validation"])
def test_val_is_validation(built: Path, split: str) -> None:
    rows = medmnist_hf.load(FLAG, 28, split, built / "dist")
    assert str(rows.split) == "validation"
    both = medmnist_hf.load(FLAG, 28, f"test+{split}[:2]", built / "dist")
    assert len(both) == len(medmnist_hf.load(FLAG, 28, "test", built / "dist")) + 2
    assert len(medmnist_hf.load_arrays(FLAG, 28, split, built / "dist").labels) == len(rows)


def test_arrays_of_a_repository_whose_name_is_not_a_flag(built: Path, hub: HubServer, tmp_path: Path) -> None:
    shutil.copytree(built / "dist" / FLAG, tmp_path / "sonography")
    put_on_hub(hub, tmp_path / "sonography")
    expected = medmnist_hf.load_arrays(FLAG, 64, "test", built / "dist").labels.tolist()
    assert medmnist_hf.load_arrays("org/sonography", 64, "test").labels.tolist() == expected
    with pytest.raises(SourceError, match=r"^org/sonography has no 128/manifest\.json of this project"):
        medmnist_hf.load_arrays("org/sonography", 128)


def test_the_error_for_missing_data_names_the_places_and_how_to_build(hub: HubServer, home: Path) -> None:
    for call in (medmnist_hf.load, medmnist_hf.load_arrays):
        with pytest.raises(SourceError) as caught:
            call("pathmnist", 64)
        text = str(caught.value)
        assert "; cannot load medmnist/pathmnist" in text and " either (HTTP 404 " in text and "\n" not in text
        assert f"no build of pathmnist at size 64 in dist or {home / 'medmnist-hf' / 'builds'}: " in text
        assert "medmnist-hf build pathmnist --size 64, or in Python load(..., build=True)" in text


def test_arrays_of_npz_files(phantoms: Phantoms, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for flag in ("chestmnist", "organmnist3d", FLAG):
        name = f"{flag}.npz"
        shutil.copy(phantoms(flag).path, tmp_path / name)
        with np.load(tmp_path / name) as arrays:
            for data, root in ((tmp_path / name, None), (flag, tmp_path)):
                caplog.clear()
                images, labels = medmnist_hf.load_arrays(data, split="val", root=root, cache_dir=tmp_path / "cache")
                assert np.array_equal(images, arrays["val_images"])
                expected = arrays["val_labels"]
                assert np.array_equal(labels, expected if flag == "chestmnist" else expected[:, 0])
                assert labels.dtype == (np.float32 if flag == "chestmnist" else np.int64)
                assert f"{tmp_path / name}: UNVERIFIED" in caplog.text
    with pytest.raises(SourceError, match=r"a build is needed: run medmnist-hf build breastmnist --size 28 --source"):
        medmnist_hf.load(tmp_path / "breastmnist.npz")


def test_an_official_npz_file_is_verified(real_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert medmnist_hf.load_arrays(real_data / "breastmnist.npz", cache=False).images.shape == (546, 28, 28)
    assert not caplog.text


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"spilt": "train"}, r"did you mean split\?"),
        ({"download": True}, "pass build=True to download and convert"),
        ({"as_rgb": True}, "those of datasets.load_dataset"),
        ({"data_files": "x"}, ""),
    ],
)
def test_unknown_arguments_give_a_one_line_error(built: Path, options: dict[str, object], hint: str) -> None:
    with pytest.raises(MedMNISTError, match=rf"^load has no argument '{next(iter(options))}': .*{hint}") as caught:
        medmnist_hf.load(FLAG, 28, root=built / "dist", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_invalid_names() -> None:
    with pytest.raises(CatalogError, match="did you mean 'pathmnist'"):
        medmnist_hf.load("pathmnits")
    with pytest.raises(SourceError, match=r"^typo: no such file or folder"):
        medmnist_hf.load_arrays("./typo")


def test_dir_lists_the_functions_of_the_package() -> None:
    """Tab completion also shows the functions that are imported lazily."""
    assert set(dir(medmnist_hf)) == set(medmnist_hf.__all__) and "load_arrays" in dir(medmnist_hf)
    assert all(getattr(medmnist_hf, name) is not None for name in dir(medmnist_hf))
