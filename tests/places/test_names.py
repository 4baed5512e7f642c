"""Parsing names of data sets."""

from pathlib import Path

import pytest

from medmnist_hf.errors import CatalogError, SourceError
from medmnist_hf.places.names import parse_name


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder that contains a folder of builds."""
    (tmp_path / "dist" / "pathmnist").mkdir(parents=True)
    (tmp_path / "mine.npz").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "flag", "size"),
    [
        ("pathmnist", "pathmnist", None),
        ("PathMNIST", "pathmnist", None),
        ("pathmnist-64", "pathmnist", 64),
        ("PathMNIST_224", "pathmnist", 224),
        ("OrganMNIST3D", "organmnist3d", None),
        ("organmnist3d-64", "organmnist3d", 64),
    ],
)
def test_flags(text: str, flag: str, size: int | None) -> None:
    named = parse_name(text)
    assert named.entry and (named.entry.flag, named.size) == (flag, size)
    assert (named.path, named.repository) == (None, None)


@pytest.mark.parametrize(
    ("text", "repository", "revision", "flag"),
    [
        ("medmnist/pathmnist", "medmnist/pathmnist", None, "pathmnist"),
        ("you/PathMNIST@v1", "you/PathMNIST", "v1", "pathmnist"),
        ("you/histology@refs/pr/1", "you/histology", "refs/pr/1", None),
        ("pathmnist@v1", "medmnist/pathmnist", "v1", "pathmnist"),
    ],
)
def test_repositories(text: str, repository: str, revision: str | None, flag: str | None) -> None:
    named = parse_name(text)
    assert (named.repository, named.revision, named.path) == (repository, revision, None)
    assert (named.entry and named.entry.flag) == flag


@pytest.mark.parametrize(
    "text",
    [
        "dist",
        "dist/typo",
        "dist/pathmnist/28",
        "./pathmnist",
        "../x/y",
        "/x/y",
        "mine.npz",
        "none.npz",
        "a/b/c",
        "me/x@",
    ],
)
def test_paths(text: str) -> None:
    named = parse_name(text)
    assert (named.path, named.repository, named.entry) == (Path(text), None, None)


def test_home_folders_and_path_objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_name("~/x").path == tmp_path / "x"
    assert parse_name(Path("pathmnist")).path == Path("pathmnist")
    with pytest.raises(SourceError, match="cannot find the home folder"):
        parse_name("~nobody-of-that-name/x")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("pathmnits", r"^unknown subset 'pathmnits', and no such file or folder: did you mean 'pathmnist'\?$"),
        ("zzz", "give a subset .* `medmnist-hf list`"),
        ("pathmnist-65", "pathmnist has no size 65"),
        ("", "is empty"),
        ("x" * 300, "unknown subset"),
    ],
)
def test_invalid_names(text: str, error: str) -> None:
    with pytest.raises(CatalogError, match=error):
        parse_name(text)


def test_a_folder_of_a_similar_name_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dist" / "breastmnist").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CatalogError, match=r"^unknown subset 'distt', .*: did you mean 'dist'\?$"):
        parse_name("distt")


def test_an_impossible_path() -> None:
    with pytest.raises(SourceError, match="NUL"):
        parse_name("a\0b")


def test_a_similar_flag_is_suggested_before_a_similar_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breastmnist_old").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CatalogError, match=r"did you mean 'breastmnist'\?$"):
        parse_name("breastmnis")
