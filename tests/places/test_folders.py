"""Finding configs and NPZ files in folders, and folders that cannot be read."""

import shutil
from pathlib import Path

import pytest

from medmnist_hf.catalog import subset
from medmnist_hf.errors import SourceError
from medmnist_hf.places.folders import configs_in, nearest, npz_files, subset_folders
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.closed import closed_folder


def test_configs_subsets_and_files(phantoms: Phantoms, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    for flag, sizes in (("breastmnist", (28, 128, 64)), ("retinamnist", (28,))):
        build(phantoms, dist, flag, *sizes)
    (dist / "notes").mkdir()
    own = [dist / "breastmnist" / size for size in ("28", "64", "128")]
    assert configs_in(dist) == [*own, dist / "retinamnist" / "28"]
    assert configs_in(dist / "breastmnist") == own
    assert configs_in(own[1]) == own[1:2]
    assert configs_in(dist / "notes") == configs_in(tmp_path / "nowhere") == []
    assert subset_folders(dist) == [dist / "breastmnist", dist / "retinamnist"]
    assert subset_folders(dist / "breastmnist") == [dist / "breastmnist"]
    for other in (own[0], dist / "notes"):
        assert subset_folders(other) == [other]
    shutil.copy(phantoms("breastmnist").path, tmp_path / "breastmnist_64.npz")
    shutil.copy(phantoms("breastmnist").path, tmp_path / "mine.npz")
    assert list(npz_files(tmp_path)) == [(subset("breastmnist"), 64)]


@pytest.mark.parametrize(
    ("missing", "near"),
    [
        ("distt", "dist"),
        ("dist/breastmnits", "dist/breastmnist"),
        ("dits/breastmnist", "dist/breastmnist"),
        ("dist/breastmnist/29", None),
        ("dist/octmnist", None),
        ("distt/retinamnist", None),
        ("elsewhere/x", None),
        ("..", None),
        ("x" * 300, None),
    ],
)
def test_nearest_suggests_an_existing_path(
    missing: str, near: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dist" / "breastmnist" / "28").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert nearest(Path(missing)) == (near and Path(near))


def test_a_folder_without_permission() -> None:
    with closed_folder(0o000, {"28/manifest.json": ""}) as folder:
        for look in (configs_in, subset_folders, lambda path: list(npz_files(path))):
            with pytest.raises(SourceError, match=r"^cannot read .* \(Permission denied\): check its permissions"):
                look(folder)
