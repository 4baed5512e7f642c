"""Views of organs paired by CT and organ, on phantoms with IDs in the documented form."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import medmnist_hf
from medmnist_hf.cards.render import write_card
from medmnist_hf.catalog import SPLITS, subset
from medmnist_hf.conversion.added_columns import AddedFiles
from medmnist_hf.conversion.build import BuildOptions, build_config
from medmnist_hf.errors import SourceError
from tests.conftest import Phantoms
from tests.fixtures.builds import build
from tests.fixtures.source_ids import IDS, VIEWS, organ_ids, write_csv

ROWS = 44


@pytest.fixture(scope="module")
def root(phantoms: Phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds of the organ subsets with source IDs."""
    folder = tmp_path_factory.mktemp("organs")
    for flag in (*VIEWS, "organmnist3d"):
        file = phantoms(flag, 28, ROWS)
        write_csv(folder / "ids" / f"{flag}.csv", IDS, organ_ids(subset(flag), file))
        options = BuildOptions(added=AddedFiles(folder / "ids"))
        result = build_config(subset(flag), 28, file, folder / "dist", options=options)
        write_card(result.config_dir.parent)
    return folder / "dist"


@pytest.mark.parametrize("slices", ["middle", "all"])
def test_each_row_holds_the_same_organ_of_the_same_ct(root: Path, slices: Literal["middle", "all"]) -> None:
    paired = medmnist_hf.paired_organs("28", root=root, slices=slices)
    assert paired["train"].column_names == ["axial", "coronal", "sagittal", "volume", "label", "group"]
    loaded = {flag: medmnist_hf.load(flag, 28, root=root) for flag in (*VIEWS, "organmnist3d")}
    for split in SPLITS:
        rows = paired[split]
        assert len(rows) > 0 and rows.split == split
        organs = rows.features["label"].int2str(rows["label"])
        for row, organ in zip(rows, organs, strict=True):
            for flag, data in loaded.items():
                names = data[split].features["label"].int2str(data[split]["label"])
                candidates = [
                    at for at, group in enumerate(data[split]["group"]) if (group, names[at]) == (row["group"], organ)
                ]
                images = [np.asarray(data[split][at]["image"]) for at in candidates]
                if flag == "organmnist3d":
                    assert any(np.array_equal(np.asarray(row["volume"]), image) for image in images)
                elif slices == "all":
                    assert all(map(np.array_equal, map(np.asarray, row[VIEWS[flag]]), images))
                    assert len(row[VIEWS[flag]]) == len(images)
                else:
                    assert np.array_equal(np.asarray(row[VIEWS[flag]]), images[len(images) // 2])


def test_pairs_are_complete_and_volumes_optional(root: Path) -> None:
    flat = medmnist_hf.paired_organs(28, root=root, volumes=False)
    assert flat["test"].column_names == ["axial", "coronal", "sagittal", "label", "group"]
    keys = [
        set(zip(data["group"], data["label"], strict=True))
        for data in (medmnist_hf.load(flag, 28, "test", root) for flag in VIEWS)
    ]
    assert set(zip(flat["test"]["group"], flat["test"]["label"], strict=True)) == set.intersection(*keys)


def test_builds_without_ids_are_refused(phantoms: Phantoms, tmp_path: Path) -> None:
    for flag in VIEWS:
        write_card(build(phantoms, tmp_path, flag, 28))
    with pytest.raises(
        SourceError, match="organamnist at size 28 has no source IDs: run medmnist-hf build organamnist"
    ):
        medmnist_hf.paired_organs("28", root=tmp_path)
    with pytest.raises(SourceError, match="slices is 'some': choose middle or all"):
        medmnist_hf.paired_organs("28", root=tmp_path, slices="some")  # type: ignore[arg-type]
