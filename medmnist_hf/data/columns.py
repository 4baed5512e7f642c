"""Read the columns ``image`` and ``label`` of a `datasets.Dataset` in any format."""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from math import prod
from typing import Any, Final

import datasets
import numpy as np
from numpy.typing import NDArray

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.data.decode import Part, decoded, labels_of, row_errors, row_shape
from medmnist_hf.data.stored_image import StoredImage
from medmnist_hf.errors import SourceError

_NAMES: Final = ("image", "label")
_MODES: Final = {2: "L", 3: "RGB"}
_BLOCK_BYTES: Final = 4 << 20
"""Bytes of raw pixels that are read at a time."""

_LABEL_ROWS: Final = 1 << 16


class Columns:
    """The columns of one data set, in its row order and independent of its format.

    Attributes:
        name: Name of the data set; ``dataset`` if it has none.
        split: Its split, e.g. ``train`` or ``train+test``; empty if it has none.
        features: Its features, as JSON.
        shape: Shape of all images: ``(N, H, W)``, ``(N, H, W, 3)`` or ``(N, D, H, W)``.
        label_shape: Shape of all labels: ``(N,)``, or ``(N, L)`` if a row has a list of classes.
    """

    def __init__(self, dataset: Any) -> None:
        """Inspect the features and the first row.

        Raises:
            SourceError: It is not a data set with such columns, or has no rows.
        """
        _check(dataset, _NAMES, "to_arrays")
        self._dataset = dataset
        self.name = dataset.info.dataset_name or "dataset"
        self.split = str(dataset.split or "")
        self.fingerprint: str = dataset._fingerprint
        self.features = json.dumps(dataset.features.to_dict())
        names, multi_label = _classes_of(dataset.features["label"])
        self.shape = (len(dataset), *self._row_shape())
        self.label_shape = (len(dataset), len(names)) if multi_label else (len(dataset),)

    def decode(self) -> tuple[Iterator[UInt8Array], NDArray[Any]]:
        """Return the images in blocks of bounded size, and the labels.

        Raises:
            SourceError: A row holds something else; for an image, raised while the blocks are read.
        """
        return self._images(), _labels(self._dataset)

    def _row_shape(self) -> tuple[int, ...]:
        feature = self._dataset.features["image"]
        if isinstance(feature, datasets.Array3D) and None not in feature.shape:
            return tuple(feature.shape)
        if not isinstance(feature, datasets.Image):
            raise SourceError(
                f"the column image holds {feature}, neither Image nor Array3D of a fixed shape: use cast_column"
            )
        if isinstance(feature, StoredImage) and feature.as_rgb:
            return (*feature.shapes[0][:2], 3)
        if isinstance(feature, StoredImage) and len(feature.shapes) > 1:
            raise SourceError("the data set mixes gray and RGB images: load it with as_rgb=True")
        with row_errors(_fault):
            shape = row_shape(self._read("image", 0, 1))
        mode = _MODES.get(len(shape)) if shape[2:] in {(), (3,)} else None
        if mode is None or feature.mode not in {None, mode}:
            expected = f", but the mode of its feature is {feature.mode}" if feature.mode else ""
            raise SourceError(f"row 0 of the data set holds an image of shape {shape}{expected}: convert it with map")
        return shape

    def _read(self, name: str, start: int, stop: int) -> Any:
        return _read(self._dataset, name, start, stop)

    def _images(self) -> Iterator[UInt8Array]:
        step = max(1, _BLOCK_BYTES // prod(self.shape[1:]))
        parts: Iterator[Part] = (
            (stop - start, partial(self._read, "image", start, stop)) for start, stop in self._ranges(step)
        )
        with row_errors(_fault):
            as_rgb: bool = getattr(self._dataset.features["image"], "as_rgb", False)
            yield from decoded(parts, self.shape[1:], as_rgb=as_rgb)

    def _ranges(self, step: int) -> Iterator[tuple[int, int]]:
        return _ranges(self.shape[0], step)


def read_labels(dataset: Any, function: str) -> tuple[NDArray[Any], list[str]]:
    """Read the column ``label`` of a data set that needs no other column.

    Args:
        dataset: A `datasets.Dataset` in any format.
        function: The public function it was passed to, for error messages.

    Returns:
        Class ids, int64 of shape ``(N,)``, or zeros and ones, uint8 of shape ``(N, L)``; and the names of the classes.

    Raises:
        SourceError: It is not a data set with such a column, or has no rows.
    """
    _check(dataset, ("label",), function)
    return _labels(dataset), _classes_of(dataset.features["label"])[0]


def _check(dataset: Any, columns: Iterable[str], function: str) -> None:
    if not isinstance(dataset, datasets.Dataset):
        hint = {datasets.DatasetDict: "choose a split", datasets.IterableDataset: "load it without streaming=True"}
        raise SourceError(
            f"{function} takes a datasets.Dataset, not {type(dataset).__name__}: "
            f"{hint.get(type(dataset), 'load it with datasets.load_dataset')}"
        )
    missing = [name for name in columns if name not in dataset.column_names]
    if missing:
        raise SourceError(
            f"the data set has no column {missing[0]}, only {', '.join(dataset.column_names)}: use rename_column"
        )
    if not len(dataset):
        raise SourceError("the data set has no rows: select other rows")


def _read(dataset: Any, name: str, start: int, stop: int) -> Any:
    return dataset.select_columns([name]).with_format("arrow")[start:stop].column(name)


def _labels(dataset: Any) -> NDArray[Any]:
    names, multi_label = _classes_of(dataset.features["label"])
    blocks = []
    for start, stop in _ranges(len(dataset), _LABEL_ROWS):
        with row_errors(_fault, start):
            blocks.append(labels_of(_read(dataset, "label", start, stop), len(names), multi_label=multi_label))
    return np.concatenate(blocks)


def _ranges(rows: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


def _classes_of(feature: Any) -> tuple[list[str], bool]:
    """Names of the classes of a label feature, and whether a row has a list of them."""
    multi_label = isinstance(feature, datasets.List)
    label = feature.feature if multi_label else feature
    if not isinstance(label, datasets.ClassLabel):
        raise SourceError(
            f"the column label holds {feature}, neither ClassLabel nor a list of them: use class_encode_column"
        )
    return label.names, multi_label


def _fault(row: int, what: str) -> SourceError:
    return SourceError(f"row {row} of the data set holds {what}: convert it with map, or leave it out with filter")
