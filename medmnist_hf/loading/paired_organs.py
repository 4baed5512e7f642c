"""Pair the views of organs: rows of OrganAMNIST, OrganCMNIST, OrganSMNIST and OrganMNIST3D of one organ of one CT."""

from collections import defaultdict
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from medmnist_hf.catalog import SPLITS, subset
from medmnist_hf.data.configs import config_at
from medmnist_hf.errors import BuildError, SourceError
from medmnist_hf.loading.load import load
from medmnist_hf.manifest import GROUP, SOURCE_ID
from medmnist_hf.places.resolver import find

_VIEWS: Final = {"axial": "organamnist", "coronal": "organcmnist", "sagittal": "organsmnist"}
_VOLUMES: Final = "organmnist3d"
_VOLUME: Final = "volume"

_Key = tuple[str, str]
"""Group and name of the organ."""


def paired_organs(
    size: int | str = 28,
    *,
    root: str | Path | None = None,
    slices: Literal["middle", "all"] = "middle",
    volumes: bool | None = None,
) -> Any:
    """Pair the axial, coronal and sagittal images of each organ of each CT, and its volume.

    The builds must have source IDs, see ``medmnist-hf build --source-ids``. Rows are paired by split, CT and organ; an
    organ of a CT that a view lacks is left out. Labels are matched by name, since OrganMNIST3D numbers organs in
    another order.

    Args:
        size: Edge length in pixels, and in voxels for volumes: 28 or 64, or 128 or 224 without volumes.
        root: Folder of builds; by default, the usual places, see `medmnist_hf.load`.
        slices: ``middle`` for one image per view, the middle one of the slices of the organ in the CT; ``all`` for a
            list of images per view, in the order of the slices.
        volumes: Whether to add the column ``volume`` of OrganMNIST3D, of which rows without one are left out; if None,
            if a local build of it has source IDs.

    Returns:
        A `datasets.DatasetDict` with the columns ``axial``, ``coronal``, ``sagittal``, ``label`` (as in OrganAMNIST),
        ``group`` (the CT) and, with volumes, ``volume``.

    Raises:
        CatalogError: A subset has no such size.
        SourceError: A build is missing or has no source IDs.
        BuildError: A build is damaged.
    """
    import datasets

    if slices not in {"middle", "all"}:
        raise SourceError(f"slices is {slices!r}: choose middle or all")
    flags = dict(_VIEWS)
    if volumes or (volumes is None and _has_volumes(size, root)):
        flags[_VOLUME] = _VOLUMES
    loaded = {view: _load(flag, size, root) for view, flag in flags.items()}
    return datasets.DatasetDict(
        {split: _pair({view: data[split] for view, data in loaded.items()}, split, slices) for split in SPLITS}
    )


def _load(flag: str, size: int | str, root: str | Path | None) -> Any:
    data = load(flag, size, root=root)
    if not {SOURCE_ID, GROUP} <= set(data[SPLITS[0]].column_names):
        raise SourceError(f"the build of {flag} at size {size} has no source IDs: {_how(flag, size)}")
    return data


def _how(flag: str, size: int | str) -> str:
    return f"run medmnist-hf build {flag} --size {size} --source-ids FOLDER --force"


def _has_volumes(size: int | str, root: str | Path | None) -> bool:
    """Whether a local build of the volumes has source IDs."""
    entry = subset(_VOLUMES)
    if str(size) not in entry.config_names:
        return False
    try:
        config = config_at(find(_VOLUMES, size, root=root))
    except (SourceError, BuildError):
        return False
    return GROUP in config.manifest.added_names


def _pair(views: dict[str, Any], split: str, slices: str) -> Any:
    """Pair the rows of one split."""
    import datasets

    rows = {view: _rows_by_key(data, ordered=view != _VOLUME) for view, data in views.items()}
    keys = sorted(set.intersection(*(set(found) for found in rows.values())))
    names = views["axial"].features["label"]
    columns: dict[str, Any] = {}
    for view, data in views.items():
        image = data.select_columns(["image"])
        found = [rows[view][key] for key in keys]
        if view == _VOLUME or slices == "middle":
            chosen = [each[len(each) // 2] for each in found]
            columns[view] = image.select(chosen).rename_column("image", view)
        else:
            columns[view] = _lists(image, found, view)
    features = datasets.Features({"label": names, GROUP: datasets.Value("string")})
    described = {"label": [names.str2int(organ) for _, organ in keys], GROUP: [group for group, _ in keys]}
    keys_of_rows = datasets.Dataset.from_dict(described, features=features)
    joined = datasets.concatenate_datasets([*columns.values(), keys_of_rows], axis=1)
    return datasets.Dataset(joined.data, info=joined.info, split=datasets.NamedSplit(split))


def _lists(image: Any, rows: list[list[int]], name: str) -> Any:
    """A column with a list of images per row."""
    import datasets
    import pyarrow as pa

    flat = image.select(np.concatenate(rows).astype(np.int64) if rows else []).flatten_indices()
    values = flat.data.table.column("image").combine_chunks()
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    column = pa.ListArray.from_arrays(pa.array(offsets), values)
    features = datasets.Features({name: datasets.List(image.features["image"])})
    return datasets.Dataset(
        pa.table({name: column}).cast(features.arrow_schema), info=datasets.DatasetInfo(features=features)
    )


def _rows_by_key(data: Any, *, ordered: bool) -> dict[_Key, list[int]]:
    """The rows of each organ of each CT, in the order of the slices, which is that of their names."""
    ids, groups = list(data[SOURCE_ID]), list(data[GROUP])
    labels = data.features["label"].int2str(list(data["label"]))
    rows: dict[_Key, list[int]] = defaultdict(list)
    for row in sorted(range(len(ids)), key=lambda row: _slice_of(ids[row]) if ordered else row):
        if groups[row] is not None:
            rows[groups[row], labels[row]].append(row)
    return rows


def _slice_of(name: str) -> int:
    """Number of a slice: the last part of its name, which the build has checked."""
    return int(name.rpartition("-")[2])
