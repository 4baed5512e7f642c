"""Rows of one config in blocks of bounded size, from a local build or the Hub, with labels as the NPZ file holds them.

Example:
    >>> from medmnist_hf.rows import open_rows
    >>> rows = open_rows("pathmnist", 224, root="dist")  # doctest: +SKIP
    >>> sum(len(block) for block in rows.images("test"))  # doctest: +SKIP
    7180
"""

import abc
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any, Final

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medmnist_hf import catalog
from medmnist_hf.catalog import Subset, Task
from medmnist_hf.errors import BuildError, MedMNISTError, SourceError
from medmnist_hf.features import features_of
from medmnist_hf.files import sha256_of
from medmnist_hf.loading import NAMESPACE, build_folder, load
from medmnist_hf.manifest import Manifest, Shard, read_manifest

UInt8Array = NDArray[np.uint8]

_BLOCK_BYTES: Final = 4 << 20
_BLOCK_ROWS: Final = 1024
_LABEL_ROWS: Final = 1 << 16


class Rows(abc.ABC):
    """The rows of a config, split by split and in the order of the source; pixels are read block by block.

    Attributes:
        entry: The subset.
        size: Edge length in pixels or voxels.
        where: What to call the config in an error, e.g. ``dist/pathmnist/28``.
    """

    def __init__(self, entry: Subset, size: int, where: str) -> None:
        self.entry, self.size, self.where = entry, size, where
        self.shape = entry.file(size).image_shape
        self.block_rows = min(_BLOCK_ROWS, max(1, _BLOCK_BYTES // prod(self.shape)))
        self._mode = "RGB" if entry.channels == 3 else "L"

    @abc.abstractmethod
    def count(self, split: str) -> int:
        """Number of rows of a split; raises `CatalogError` for an unknown one, `SourceError` for one not there."""

    @abc.abstractmethod
    def _column(self, split: str, name: str, rows: int) -> Iterator[Any]:
        """One column as Arrow arrays of at most `rows` rows, in row order."""

    @abc.abstractmethod
    def _take(self, split: str, indices: NDArray[np.int64]) -> Iterator[Any]:
        """The rows of the column ``image`` at ascending, distinct indices, as Arrow arrays."""

    def labels(self, split: str) -> UInt8Array:
        """Labels of a split.

        Returns:
            uint8 of shape (N, 1) with class ids, or (N, L) with 0 and 1 for the multi-label task.

        Raises:
            CatalogError: Unknown split.
            SourceError: The split is not there, or a label is none of this subset.
        """
        count, classes = self.count(split), len(self.entry.labels)
        multi = self.entry.task is Task.MULTI_LABEL
        labels = np.zeros((count, classes if multi else 1), np.uint8)
        row = 0
        for column in self._column(split, "label", _LABEL_ROWS):
            stop = row + len(column)
            if multi != pa.types.is_list(column.type):
                raise self._other(split, f"labels of {column.type}")
            values = column.flatten() if multi else column
            ids = np.asarray(values.to_numpy(zero_copy_only=False))
            if stop > count or values.null_count or column.null_count or not _in_range(ids, classes):
                raise self._other(split, "its labels")
            if multi:
                labels[np.repeat(np.arange(row, stop), np.asarray(column.value_lengths())), ids] = 1
            else:
                labels[row:stop, 0] = ids
            row = stop
        if row != count:
            raise self._other(split, f"{row} labels where {count} rows are stated")
        return labels

    def images(self, split: str) -> Iterator[UInt8Array]:
        """Stream the pixels of a split.

        Yields:
            uint8 of shape (n, H, W), (n, H, W, 3) or (n, D, H, W), about 4 MiB each.

        Raises:
            CatalogError: Unknown split.
            SourceError: The split is not there, or holds images of another kind.
            BuildError: A shard is missing or damaged.
        """
        with ThreadPoolExecutor() as pool:
            for column in self._image_column(split):
                yield self._pixels(column, split, pool)

    def files(self, split: str) -> Iterator[list[bytes]]:
        """Stream the images of a split as they are stored, without decoding; for 2D subsets alone.

        Yields:
            Encoded images: PNG, or WebP where the config was built so.

        Raises:
            CatalogError: Unknown split.
            SourceError: The split is not there, or holds no images.
            BuildError: A shard is missing or damaged.
        """
        for column in self._image_column(split):
            yield self._encoded(column, split)

    def sample(self, split: str, indices: NDArray[np.int64]) -> UInt8Array:
        """Decode some rows, in any order and also several times; only the row groups that hold them are read.

        Args:
            split: Name of a split.
            indices: Row numbers, each below `count`.

        Returns:
            uint8 of shape (len(indices), *shape of a row).

        Raises:
            CatalogError: Unknown split.
            SourceError: The split is not there, or holds images of another kind.
            BuildError: A shard is missing or damaged.
        """
        distinct, places = np.unique(indices, return_inverse=True)
        with ThreadPoolExecutor() as pool:
            blocks = [self._pixels(column, split, pool) for column in self._take(split, distinct)]
        found = np.concatenate(blocks) if blocks else np.zeros((0, *self.shape), np.uint8)
        if len(found) != len(distinct):
            raise self._other(split, f"{len(found)} of {len(distinct)} rows asked for")
        return np.asarray(found[places])

    def decoded(self, image: bytes, split: str) -> UInt8Array:
        """The pixels of one stored image, of the shape of a row.

        Raises:
            SourceError: It is no image, or one of another size or mode.
        """
        try:
            with PIL.Image.open(io.BytesIO(image)) as picture:
                if picture.mode != self._mode:
                    raise self._other(split, f"an image of mode {picture.mode}, not {self._mode}")
                pixels = np.asarray(picture)
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
            raise self._other(split, f"an unreadable image: {first_line(error)}") from None
        if pixels.shape != self.shape:
            raise self._other(split, f"an image of shape {pixels.shape}, not {self.shape}")
        return pixels

    def _image_column(self, split: str) -> Iterator[Any]:
        count, row = self.count(split), 0
        for column in self._column(split, "image", self.block_rows):
            row += len(column)
            if row <= count:
                yield column
        if row != count:
            raise self._other(split, f"{row} images where {count} rows are stated")

    def _pixels(self, column: Any, split: str, pool: ThreadPoolExecutor) -> UInt8Array:  # noqa: ANN401
        if self.entry.ndim == 2:
            return np.stack(list(pool.map(lambda image: self.decoded(image, split), self._encoded(column, split))))
        values = column.storage if isinstance(column, pa.ExtensionArray) else column
        try:
            rows = len(values)
            for _ in self.shape:
                values = values.flatten()
            voxels = np.asarray(values.to_numpy(zero_copy_only=False), np.uint8)
            return voxels.reshape(rows, *self.shape)
        except (pa.ArrowException, AttributeError, ValueError, TypeError):
            raise self._other(split, f"volumes that are not {self.shape} of uint8") from None

    def _encoded(self, column: Any, split: str) -> list[bytes]:  # noqa: ANN401
        if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
            raise self._other(split, f"a column of {column.type}, not of images")
        images: list[bytes] = column.field("bytes").to_pylist()
        if None in images:
            raise self._other(split, "images that are links to files")
        return images

    def _other(self, split: str, what: str) -> SourceError:
        return SourceError(
            f"{self.where} {split} does not hold what {self.entry.flag} at size {self.size} must ({what}): "
            "is it of this project? build it again"
        )


class _BuiltRows(Rows):
    """Rows of a local build, straight from its shards: nothing is copied to a cache."""

    def __init__(self, entry: Subset, size: int, folder: Path) -> None:
        super().__init__(entry, size, str(folder))
        self._folder = folder
        self._manifest: Manifest = read_manifest(folder)
        if (self._manifest.subset, self._manifest.size) != (entry.flag, size):
            raise BuildError(
                f"{folder} holds {self._manifest.subset} at size {self._manifest.size}: build it again with --force"
            )

    def count(self, split: str) -> int:
        _check_split(self.entry, split)
        if split not in self._manifest.splits:
            raise SourceError(f"{self.where} has no split {split}: build the config again with --force")
        return self._manifest.splits[split].rows

    def _shards(self, split: str) -> tuple[Shard, ...]:
        self.count(split)
        return self._manifest.splits[split].shards

    def _column(self, split: str, name: str, rows: int) -> Iterator[Any]:
        for shard in self._shards(split):
            path = self._folder / shard.name
            try:
                # Labels are read alone and checked against their range; whoever reads pixels reads all of the file.
                if path.stat().st_size != shard.bytes or (name == "image" and sha256_of(path) != shard.sha256):
                    raise _unreadable(path, "it is not the shard of the manifest")
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(rows, columns=[name]):
                        yield batch.column(name)
            except (OSError, pa.ArrowException, KeyError) as error:
                raise _unreadable(path, first_line(error)) from None

    def _take(self, split: str, indices: NDArray[np.int64]) -> Iterator[Any]:
        start = 0
        for shard in self._shards(split):
            stop = start + shard.rows
            if ((indices >= start) & (indices < stop)).any():
                yield from self._take_from(self._folder / shard.name, start, indices)
            start = stop

    @staticmethod
    def _take_from(path: Path, start: int, indices: NDArray[np.int64]) -> Iterator[Any]:
        try:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    stop = start + file.metadata.row_group(group).num_rows
                    inside = indices[(indices >= start) & (indices < stop)] - start
                    if inside.size:
                        column = file.read_row_group(group, columns=["image"]).column("image").combine_chunks()
                        yield column.take(pa.array(inside))
                    start = stop
        except (OSError, pa.ArrowException, KeyError) as error:
            raise _unreadable(path, first_line(error)) from None


class _HubRows(Rows):
    """Rows of a repository on the Hub, through the cache of `datasets`."""

    def __init__(self, entry: Subset, size: int, namespace: str) -> None:
        super().__init__(entry, size, f"{namespace}/{entry.flag}")
        try:
            self._splits: Any = load(entry.flag, size, namespace=namespace)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            why = first_line(error)
            raise SourceError(
                f"cannot load {self.where} at size {size} ({why}): check the name, the network and your token"
            ) from None
        for split, data in self._splits.items():
            if data.features != features_of(entry, size):
                raise self._other(split, "its columns")

    def count(self, split: str) -> int:
        _check_split(self.entry, split)
        if split not in self._splits:
            raise SourceError(f"{self.where} has no split {split}: choose from {', '.join(self._splits)}")
        return len(self._splits[split])

    def _column(self, split: str, name: str, rows: int) -> Iterator[Any]:
        for table in self._splits[split].select_columns([name]).with_format("arrow").iter(batch_size=rows):
            yield table.column(name).combine_chunks()

    def _take(self, split: str, indices: NDArray[np.int64]) -> Iterator[Any]:
        data = self._splits[split].select_columns(["image"]).with_format("arrow")
        for block in np.array_split(indices, -(-len(indices) // self.block_rows) or 1):
            yield data[block.tolist()].column("image").combine_chunks()


def open_rows(
    subset: str,
    size: int = catalog.DEFAULT_SIZE,
    *,
    root: str | Path | None = None,
    namespace: str | None = None,
) -> Rows:
    """Open a config for reading.

    Args:
        subset: Flag of the subset.
        size: Edge length in pixels or voxels.
        root: Folder of local builds, the ``--out`` of ``scripts/build.py``; None reads from the Hub.
        namespace: User or organisation on the Hub; that of MedMNIST if None.

    Raises:
        CatalogError: Unknown subset, or a size it does not have.
        SourceError: No such build in `root`, or no such repository on the Hub.
        BuildError: The build's manifest is unreadable or that of another config.
    """
    entry = catalog.subset(subset)
    config = str(entry.file(size).size)
    if root is None:
        return _HubRows(entry, size, namespace or NAMESPACE)
    folder = build_folder(Path(root).expanduser(), entry.flag, config, card=False)
    return _BuiltRows(entry, size, folder / config)


def first_line(error: BaseException) -> str:
    """What an exception says, cut to one line: an `OSError` without its path, others without further lines."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _check_split(entry: Subset, split: str) -> None:
    entry.counts[split]


def _in_range(ids: NDArray[Any], classes: int) -> bool:
    return ids.dtype.kind in "iu" and (not ids.size or (int(ids.min()) >= 0 and int(ids.max()) < classes))


def _unreadable(path: Path, why: str) -> MedMNISTError:
    return BuildError(f"cannot read {path} ({why}): build the config again with --force")
