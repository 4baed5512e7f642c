"""Combine loaded data sets of several subsets, without decoding or copying their images.

Only the other columns are new: the column ``image`` of each subset stays mapped from the file where `datasets` has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import datasets
import numpy as np
import pyarrow as pa
from datasets.fingerprint import Hasher
from datasets.table import InMemoryTable

from medmnist_hf import catalog
from medmnist_hf.array_types import BoolArray, Int64Array, IntArray
from medmnist_hf.catalog import Subset, Task
from medmnist_hf.data.decode import labels_of, row_errors
from medmnist_hf.data.stored_image import StoredImage
from medmnist_hf.errors import SourceError
from medmnist_hf.features import features_of
from medmnist_hf.joint.labels import JointLabels

Stop = Literal["first_exhausted", "all_exhausted"]

_STREAM_ROWS: Final = 256
"""Rows of a stream that get their new columns at a time."""


@dataclass(frozen=True, slots=True)
class Interleave:
    """Draw the subset of each row at random, all with the same probability.

    Attributes:
        seed: Seed of the draws.
        stop: Stop when the first subset has no more rows, or repeat subsets until each row was drawn.
    """

    seed: int = 0
    stop: Stop = "all_exhausted"


def joint_features(joint: JointLabels, size: int, *, as_rgb: bool = False) -> datasets.Features:
    """The columns of combined subsets.

    Args:
        joint: The subsets.
        size: Edge length in pixels or voxels.
        as_rgb: Decode gray images to RGB; no effect on volumes.

    Returns:
        ``image``: As for `medmnist_hf.features.features_of`; the mode is None if some subsets are gray and others
        RGB. ``label``: `ClassLabel` of global ids, or a `List` of it if a multi-label subset is among them.
        ``subset``: `ClassLabel` of flags. ``task``, ``modality``: strings.
    """
    label = datasets.ClassLabel(names=list(joint.names))
    first = joint.subsets[0]
    image = StoredImage(size, *joint.subsets, as_rgb=as_rgb) if first.ndim == 2 else features_of(first, size)["image"]
    return datasets.Features(
        {
            "image": image,
            "label": datasets.List(label) if joint.multi_label else label,
            "subset": datasets.ClassLabel(names=[entry.flag for entry in joint.subsets]),
            "task": datasets.Value("string"),
            "modality": datasets.Value("string"),
        }
    )


def combine(
    parts: Sequence[Any], joint: JointLabels, size: int, *, as_rgb: bool = False, interleave: Interleave | None = None
) -> Any:
    """Combine one split of several subsets.

    Args:
        parts: A `datasets.Dataset`, or `IterableDataset`, of each subset, with the columns ``image`` and ``label``.
        joint: The subsets.
        size: Edge length in pixels or voxels.
        as_rgb: As for `joint_features`.
        interleave: How to interleave the rows; None to concatenate them.

    Raises:
        SourceError: A label is not one of its subset.
    """
    features = joint_features(joint, size, as_rgb=as_rgb)
    streaming = isinstance(parts[0], datasets.IterableDataset)
    with_columns = _stream_with_columns if streaming else _with_columns
    ready = [with_columns(part, number, joint, features) for number, part in enumerate(parts)]
    info = _info(ready, joint)
    if interleave is None:
        combined = datasets.concatenate_datasets(ready, info=info, split=parts[0].split)
    else:
        combined = datasets.interleave_datasets(
            ready,
            probabilities=[1 / len(ready)] * len(ready),
            seed=interleave.seed,
            info=info,
            split=parts[0].split,
            stopping_strategy=interleave.stop,
        )
    combined.info.features = features  # merging replaces the class of the column image
    return combined


def _info(parts: Sequence[Any], joint: JointLabels) -> datasets.DatasetInfo:
    """Describe the parts together; the BibTeX entries of MedMNIST itself are not repeated."""
    info = datasets.DatasetInfo.from_merge([part.info for part in parts])
    info.citation, info.version = catalog.bibtex(*joint.subsets), datasets.Version(catalog.collection().version)
    return info


def _with_columns(part: datasets.Dataset, number: int, joint: JointLabels, features: datasets.Features) -> Any:
    images = part.select_columns(["image"])
    images.info.features = datasets.Features({"image": features["image"]})
    own = datasets.Features({name: feature for name, feature in features.items() if name != "image"})
    column = part.select_columns(["label"]).with_format("arrow")[:].column("label").combine_chunks()
    table = pa.table(_columns(column, number, joint))
    others = datasets.Dataset(
        InMemoryTable(table),
        info=datasets.DatasetInfo(features=own),
        split=part.split,
        fingerprint=Hasher.hash([part._fingerprint, number, repr(features)]),
    )
    return datasets.concatenate_datasets([images, others], axis=1, info=_of_part(part, features), split=part.split)


def _of_part(part: Any, features: datasets.Features) -> datasets.DatasetInfo:
    info = part.info.copy()
    info.features = features
    return info


def _stream_with_columns(
    part: datasets.IterableDataset, number: int, joint: JointLabels, features: datasets.Features
) -> Any:
    stream = part.with_format("arrow").map(  # in this format, images are not decoded
        partial(_rows_with_columns, number=number, joint=joint), batched=True, batch_size=_STREAM_ROWS
    )
    # If `map` knew the features, later steps such as `skip` would take its rows for decoded ones.
    stream.info.features = features
    return stream.with_format(None)


def _rows_with_columns(rows: pa.Table, number: int, joint: JointLabels) -> pa.Table:
    label = rows.column("label").combine_chunks()
    return pa.table({"image": rows.column("image"), **_columns(label, number, joint)})


def _columns(label: Any, number: int, joint: JointLabels) -> dict[str, Any]:
    """The columns in addition to ``image`` for rows of one subset, from its column ``label``."""
    entry, rows = joint.subsets[number], len(label)
    return {
        "label": _global_ids(label, entry, joint.starts[number], as_lists=joint.multi_label),
        "subset": pa.array(np.full(rows, number, np.int64)),
        "task": pa.repeat(entry.task.value, rows),
        "modality": pa.repeat(entry.modality, rows),
    }


def _global_ids(label: Any, entry: Subset, start: int, *, as_lists: bool) -> Any:
    multi_label = entry.task is Task.MULTI_LABEL
    with row_errors(lambda row, what: SourceError(f"row {row} of {entry.flag} holds {what}: verify the build")):
        ids = labels_of(label, len(entry.labels), multi_label=multi_label)
    if not multi_label:
        values = pa.array(ids + start)
        return (
            pa.ListArray.from_arrays(pa.array(np.arange(len(ids) + 1, dtype=np.int32)), values) if as_lists else values
        )
    rows, findings = np.nonzero(ids)
    ends = np.searchsorted(rows, np.arange(len(ids) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(findings.astype(np.int64) + start))


def joint_columns(dataset: Any, joint: JointLabels) -> tuple[IntArray, BoolArray]:
    """The subset and the classes of each row, for rows in any order.

    Args:
        dataset: A `datasets.Dataset` of `medmnist_hf.load_many`, also selected or shuffled.
        joint: Its subsets.

    Returns:
        The column ``subset``, shape ``(N,)``, and ``label`` as ``(N, C)``.

    Raises:
        SourceError: It is not one split in memory, or the columns cannot be read.
    """
    if not isinstance(dataset, datasets.Dataset):
        hint = "choose a split" if isinstance(dataset, Mapping) else "load it without streaming=True"
        raise SourceError(f"{type(dataset).__name__} is not a datasets.Dataset: {hint}")
    rows = dataset.select_columns(["subset", "label"]).with_format("arrow")[:]
    with row_errors(lambda row, what: SourceError(f"row {row} of the data set holds {what}: load it again")):
        owners = labels_of(rows.column("subset"), len(joint.subsets), multi_label=False)
        labels = labels_of(rows.column("label"), joint.count, multi_label=joint.multi_label)
    if joint.multi_label:
        return owners, labels.astype(np.bool_)
    hot = np.zeros((len(labels), joint.count), np.bool_)
    hot[np.arange(len(labels)), labels] = True
    return owners, hot


def joint_groups(dataset: Any, *, classes: bool = False) -> Int64Array:
    """The groups of rows that `medmnist_hf.training.data.BalancedBatches` draws equally often.

    Args:
        dataset: As for `joint_columns`.
        classes: Balance the classes within each subset too. A row with several findings counts for the one that is
            rarest in the data set, and rows without a finding are a class of their own.

    Returns:
        The subset of each row, int64 of shape ``(N,)``; if `classes`, ``(N, 2)`` with subset and class.

    Raises:
        CatalogError: The data set has no column ``subset``.
        SourceError: As for `joint_columns`.
    """
    owners, hot = joint_columns(dataset, JointLabels.of(dataset))
    if not classes:
        return owners.astype(np.int64)
    counts = hot.sum(axis=0)
    rarest = np.full(len(hot), -1, np.int64)
    for label in np.argsort(-counts, kind="stable"):  # the rarest class of a row is written last
        rarest[hot[:, label]] = label
    return np.stack([owners.astype(np.int64), rarest], axis=1)
