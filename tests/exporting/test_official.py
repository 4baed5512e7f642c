"""Exported files and CSV equal those of the official package's `save`."""

import importlib.metadata
import importlib.util
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from medmnist_hf.catalog import NPZ_SPLITS, subset
from medmnist_hf.data.rows import open_rows
from medmnist_hf.exporting.export import export, official_name
from tests.conftest import Phantoms
from tests.fixtures.exports import CONFIGS, arrays_of, contents


@pytest.fixture(scope="module")
def official() -> Any:
    """`medmnist.utils`, loaded by path; `save2d` and `save3d` do not need scikit-image, so an empty stub imports."""
    path = importlib.metadata.distribution("medmnist").locate_file("medmnist/utils.py")
    spec = importlib.util.spec_from_file_location("official_utils", str(path))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    absent = {name: types.ModuleType(name) for name in ("skimage", "skimage.util") if name not in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in absent.items():
            stub.__dict__["montage"] = None
            patch.setitem(sys.modules, name, stub)
        spec.loader.exec_module(module)
    return module


def save_officially(official: Any, path: Path, folder: Path) -> None:
    arrays, name = arrays_of(path), path.stem
    save, postfix = (
        (official.save3d, "gif") if arrays["train_images"].shape[1:] == (28,) * 3 else (official.save2d, "png")
    )
    folder.mkdir()
    for split in NPZ_SPLITS.values():
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        save(images, labels, str(folder / name), split, postfix, str(folder / f"{name}.csv"))


def same_as_official(exported: Path, official: Path) -> None:
    files, expected = contents(exported), contents(official)
    assert sorted(files) == sorted(expected)
    for name, content in expected.items():
        if name.endswith(".png"):
            with PIL.Image.open(exported / name) as a, PIL.Image.open(official / name) as b:
                assert (a.mode, a.size, a.tobytes()) == (b.mode, b.size, b.tobytes())
        else:
            assert files[name] == content, name


@pytest.mark.parametrize(("flag", "size"), CONFIGS)
def test_files_and_csv_equal_the_official_save(
    official: Any,
    root: Path,
    phantoms: Phantoms,
    tmp_path: Path,
    *,
    flag: str,
    size: int,
) -> None:
    source = phantoms(flag, size).path
    name = official_name(subset(flag), size)
    renamed = shutil.copy(source, tmp_path / f"{name}.npz")
    save_officially(official, Path(renamed), tmp_path / "official")
    seen: list[int] = []
    result = export(open_rows(flag, size, root=root), tmp_path / "exported", on_progress=seen.append)
    same_as_official(tmp_path / "exported", tmp_path / "official")
    assert result.paths == (tmp_path / "exported" / name, tmp_path / "exported" / f"{name}.csv")
    assert result.rows == sum(seen) == len((tmp_path / "exported" / f"{name}.csv").read_text().splitlines())


def test_official_data_is_saved_as_officially(
    official: Any,
    real_builds: Path,
    real_data: Path,
    tmp_path: Path,
) -> None:
    save_officially(official, real_data / "breastmnist.npz", tmp_path / "official")
    export(open_rows("breastmnist", root=real_builds), tmp_path / "exported")
    same_as_official(tmp_path / "exported", tmp_path / "official")
