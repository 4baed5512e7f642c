"""Corrupt data sets of `medmnist_hf.load` and arrays of `medmnist_hf.load_arrays`.

Example:
    >>> import medmnist_hf
    >>> test = medmnist_hf.load("breastmnist", 224, split="test")  # doctest: +SKIP
    >>> blurred = medmnist_hf.corrupt(test, "motion_blur", severity=3)  # doctest: +SKIP
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from medmnist_hf.array_types import IntArray, UInt8Array
from medmnist_hf.corruptions.apply import releases
from medmnist_hf.corruptions.arrays import check_images, corrupt_batch, corrupt_blocks, corrupt_rows, warn_of_size
from medmnist_hf.corruptions.registry import Corruption, find_corruption
from medmnist_hf.data.arrays import Arrays
from medmnist_hf.errors import SourceError, counted

_Data = TypeVar("_Data")


def corrupt(
    dataset: _Data,
    corruption: str,
    severity: int = 3,
    *,
    subset: str | None = None,
    rows: Sequence[int] | IntArray | None = None,
) -> _Data:
    """Corrupt the images of a data set as in MedMNIST-C; labels and other columns stay as they are.

    Random numbers depend on the subset, the corruption, the severity and the number of the row alone, so that any
    number of processes gives the same pixels. Rows are numbered as `dataset` has them: corrupt what `load` returned,
    then shuffle, filter or select; or pass the numbers of the rows that were selected before.

    Args:
        dataset: A `datasets.Dataset`; its streaming variant, which is corrupted while it is read; a dictionary of
            either by split; or the `Arrays` of `medmnist_hf.load_arrays`.
        corruption: Name of a corruption of the subset, see `medmnist_hf.corruptions.corruptions`.
        severity: 1 to 5.
        subset: Flag of the subset. Only for arrays, and data sets that are not from `medmnist_hf.load`, which do not
            name theirs.
        rows: Number of each row in its split; by default 0, 1, 2 and so on. Not for streams and dictionaries.

    Returns:
        The same type as `dataset`. Arrays are new; a `datasets.Dataset` is in the cache of `datasets`.

    Raises:
        CatalogError: The subset is unknown or holds volumes, it has no such corruption, or the severity is not valid.
        SourceError: The subset is not known, or the images are not those of the subset.
        MissingModuleError: The corruption needs OpenCV, and the extra ``corruptions`` is not installed.
    """
    corrupted: Any = _corrupt(dataset, corruption, severity, subset, rows)
    return corrupted  # type: ignore[no-any-return]  # it has the type of dataset


def _corrupt(data: Any, name: str, severity: int, flag: str | None, rows: Sequence[int] | IntArray | None) -> Any:
    if isinstance(data, Arrays):
        if flag is None:
            raise SourceError("arrays do not name their subset: pass subset, e.g. subset='breastmnist'")
        return Arrays(_corrupt_images(data.images, flag, name, severity, rows), data.labels)
    import datasets

    streams = isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict)
    if rows is not None and (streams or isinstance(data, dict)):
        raise SourceError("rows are for one split that is not streamed: leave them out")
    if isinstance(data, dict):
        return type(data)({split: _corrupt(part, name, severity, flag, None) for split, part in data.items()})
    if not streams and not isinstance(data, datasets.Dataset):
        raise SourceError(
            f"corrupt takes a data set of medmnist_hf.load or arrays of load_arrays, not {type(data).__name__}: "
            "use corrupt_batch for images"
        )
    if "image" not in (data.column_names or ()):
        raise SourceError("the data set has no column image: load it with medmnist_hf.load")
    found = find_corruption(flag or _subset_of(data), name)
    found.at(severity)
    plain = data.with_format(None)
    _check_first(plain, found)
    if streams:
        parts = list(range(data.num_shards))
        arguments = {"parts": parts, "stream": (plain, found, severity)}
        corrupted = datasets.IterableDataset.from_generator(_stream, data.features, arguments, data.split)
        for fact in ("description", "version", "homepage", "license", "citation"):
            setattr(corrupted.info, fact, getattr(data.info, fact))
        return corrupted
    numbers = range(len(data)) if rows is None else [int(row) for row in rows]
    if len(numbers) != len(data) or min(numbers, default=0) < 0:
        raise SourceError(
            f"{counted(len(data), 'row')} but {counted(len(numbers), 'row number')}: give one per row, 0 or more"
        )
    corrupted = plain.map(
        _corrupt_columns,
        with_indices=True,
        batched=True,
        batch_size=_ROWS,
        features=data.features,
        fn_kwargs={"corruption": found, "severity": severity, "rows": numbers, "releases": releases()},
        desc=f"{name} {severity}",
    )
    return corrupted.with_format(**data.format)


_ROWS: Final = 32
"""Rows that are decoded at a time."""

_BAR_AFTER: Final = 2.0
"""Seconds after which a progress bar appears."""


def _corrupt_images(
    images: UInt8Array, flag: str, name: str, severity: int, rows: Sequence[int] | IntArray | None
) -> UInt8Array:
    """Corrupt an array that may be large, with all cores and a progress bar; a few rows as `corrupt_batch` does."""
    if rows is not None or len(images) <= _ROWS:
        return corrupt_batch(images, flag, name, severity, rows=rows)
    from huggingface_hub import utils

    bars: Any = utils  # its stubs do not export tqdm
    first = corrupt_batch(images[:1], flag, name, severity)  # checks all arguments
    corrupted = np.empty((len(images), *first.shape[1:]), np.uint8)
    blocks = (images[at : at + _ROWS] for at in range(0, len(images), _ROWS))
    row = 0
    with bars.tqdm(total=len(images), desc=f"{name} {severity}", unit="row", delay=_BAR_AFTER) as bar:
        for block in corrupt_blocks(blocks, find_corruption(flag, name), severity):
            corrupted[row : row + len(block)] = block
            row += len(block)
            bar.update(len(block))
    return corrupted


def _subset_of(data: Any) -> str:
    """The subset that `medmnist_hf.load` noted in the feature of the images."""
    import datasets

    from medmnist_hf.data.stored_image import StoredImage

    feature = (data.features or {}).get("image")
    if isinstance(feature, datasets.Array3D):
        raise SourceError("the data set holds volumes, and MedMNIST-C has corruptions of images only")
    flags = feature.flags if isinstance(feature, StoredImage) else ()
    if len(flags) != 1:
        why = f"holds rows of {', '.join(flags)}" if flags else "does not name its subset"
        raise SourceError(f"the data set {why}: load one subset with medmnist_hf.load, or pass subset")
    return str(flags[0])


def _check_first(data: Any, corruption: Corruption) -> None:
    first = next(iter(data.select_columns("image")), None)
    if first is not None:
        image = np.asarray(first["image"])
        check_images(image[None], corruption)
        warn_of_size(corruption.subset, len(image))


def _corrupt_columns(
    columns: dict[str, list[Any]],
    indices: list[int],
    *,
    corruption: Corruption,
    severity: int,
    rows: Sequence[int],
    releases: dict[str, str],
) -> dict[str, list[Any]]:
    """Corrupt the column ``image`` of a batch, for `datasets.Dataset.map`, which caches by the arguments."""
    return {"image": _encoded(columns["image"], corruption, severity, [rows[index] for index in indices])}


def _stream(parts: list[int], stream: tuple[Any, Corruption, int]) -> Iterator[dict[str, Any]]:
    """Corrupt shards of a stream; with several workers, each has some of them.

    A row's number is its place in the whole split, so the rows of earlier shards are counted, unless they have just
    been read.
    """
    data, corruption, severity = stream
    counts: dict[int, int] = {}
    for part in parts:
        for earlier in range(part):
            if earlier not in counts:
                counts[earlier] = _count(data.shard(data.num_shards, earlier))
        row = sum(counts[earlier] for earlier in range(part))
        first = row
        for batch in data.shard(data.num_shards, part).iter(_ROWS):
            images = batch["image"]
            batch["image"] = _encoded(images, corruption, severity, range(row, row + len(images)))
            row += len(images)
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(batch, values, strict=True))
        counts[part] = row - first


def _count(part: Any) -> int:
    column = part.column_names[0] if part.column_names[0] != "image" else part.column_names[-1]
    return sum(len(batch[column]) for batch in part.select_columns(column).iter(1 << 12))


def _encoded(images: Sequence[Any], corruption: Corruption, severity: int, rows: Sequence[int]) -> list[Any]:
    """Corrupt decoded images, and encode them as the feature `datasets.Image` stores them."""
    import imagecodecs

    encoded = []
    for image, row in zip(images, rows, strict=True):
        batch = np.asarray(image)[None]
        check_images(batch, corruption)
        (corrupted,) = corrupt_rows(batch, corruption, severity, [row])
        encoded.append({"bytes": bytes(imagecodecs.png_encode(corrupted, level=1)), "path": None})
    return encoded
