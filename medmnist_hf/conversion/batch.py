"""Many configs in one run: what is planned, and what became of each; one that fails does not stop the others."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pyarrow as pa

from medmnist_hf.catalog import ALL, DEFAULT_SIZE, SPLITS, SplitCounts, Subset, sized_subset, subset, subsets
from medmnist_hf.conversion.build import BuildOptions, BuildResult, build_config, usable
from medmnist_hf.conversion.encode import encoder
from medmnist_hf.conversion.sharding import shard_ranges
from medmnist_hf.conversion.sources.phantom import phantom_counts
from medmnist_hf.conversion.sources.source import Phantom, Source, SourceFile, Zenodo
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError, first_line
from medmnist_hf.manifest import ARRAY


@dataclass(frozen=True, slots=True)
class Planned:
    """One config that a run is to build.

    Attributes:
        subset: The subset.
        size: Edge length in pixels or voxels.
        counts: Rows of each split that the source is expected to have.
        raw_bytes: Pixels of all rows, uncompressed.
        shards: Parquet files of all splits.
    """

    subset: Subset
    size: int
    counts: SplitCounts
    raw_bytes: int
    shards: int


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """What became of one planned config.

    Attributes:
        planned: The config.
        result: What the build left; None if it failed.
        error: Why it failed; None if it did not.
        seconds: Time it took, fetching included.
    """

    planned: Planned
    result: BuildResult | None
    error: MedMNISTError | None
    seconds: float

    @property
    def raw_bytes(self) -> int:
        """Pixels of the rows that were built, uncompressed: an unverified file may have others than were planned."""
        records = self.result.manifest.splits.values() if self.result else ()
        return sum(record.rows for record in records) * prod(self.planned.subset.file(self.planned.size).image_shape)


def usable_cores() -> int:
    """Processor cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes(out: Path) -> int:
    """Free space where a folder is or would be; raises `BuildError` where that may not be looked at."""
    try:
        folder = out.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise BuildError(f"cannot look at {out} ({error.strerror}): give --out a folder that you may use") from None


def plan_run(flags: Sequence[str], sizes: Sequence[str], source: Source, options: BuildOptions) -> list[Planned]:
    """The configs that a command line asks for, each once, in the order of the catalogue and by ascending size.

    Args:
        flags: Flags of subsets, also with a size (``pathmnist-64``), or ``all``.
        sizes: Sizes, or ``all``; none for those of the names, or 28. With ``all`` subsets a size applies to those that
            have it.
        source: Where the files come from.
        options: How they are built.

    Raises:
        CatalogError: An unknown subset or size, a size that no subset asked for has, or another than the name's.
        BuildError: An unknown codec, or one that cannot hold the images of a subset.
    """
    every = ALL in flags
    named: dict[str, set[int]] = {entry.flag: set() for entry in subsets()} if every else {}
    for flag in () if every else flags:
        entry, size = sized_subset(flag)
        if size is not None and sizes and str(size) not in sizes:
            raise CatalogError(
                f"{flag} names size {size}, and --size {', '.join(sizes)} is given: leave one of them out"
            )
        named.setdefault(entry.flag, set()).add(size or DEFAULT_SIZE)
    numbers = {_size(text) for text in sizes if text != ALL}
    planned = []
    for entry in map(subset, named):
        usual = named[entry.flag] or {DEFAULT_SIZE}
        chosen = set(entry.sizes) if ALL in sizes else numbers or usual
        chosen = chosen & set(entry.sizes) if every else chosen
        planned += [_planned(entry, size, source, options) for size in sorted(chosen)]
    if not planned:
        raise CatalogError(
            f"no subset has size {' or '.join(map(str, sorted(numbers)))}: `medmnist-hf list` shows all"
        )
    return planned


def _size(text: str) -> int:
    if not text.isdecimal():
        raise CatalogError(f"--size {text!r} is no size: give 28, 64, 128, 224 or all")
    return int(text)


def _planned(entry: Subset, size: int, source: Source, options: BuildOptions) -> Planned:
    shape = entry.file(size).image_shape
    if entry.ndim == 2:
        try:
            encoder(options.codec, entry.channels)
        except BuildError as error:
            raise BuildError(f"{entry.flag}: {error}") from None
    counts = phantom_counts(entry, source.rows) if isinstance(source, Phantom) else entry.counts
    shards = sum(len(shard_ranges(counts[split], shape, options.max_shard_size)) for split in SPLITS)
    return Planned(entry, size, counts, counts.total * prod(shape), shards)


def build_all(
    run: Iterable[Planned],
    source: Source,
    out: Path,
    options: BuildOptions,
    *,
    write_card: Callable[[Path], object],
    on_start: Callable[[Planned], object] = lambda planned: None,
    on_bytes: Callable[[Planned, int, int | None], object] = lambda planned, done, total: None,
    on_progress: Callable[[Planned, int], object] = lambda planned, rows: None,
) -> list[BuildOutcome]:
    """Fetch and build every planned config; the card of a subset is written after each of its configs.

    Where the catalogue tells what a source will give, a config that was built of it is not fetched for again.

    Args:
        run: The configs.
        source: Where their files come from.
        out: Folder of all builds.
        options: How they are built.
        write_card: Called with the folder of a subset once one of its configs is complete.
        on_start: Called with a config when its turn comes.
        on_bytes: Called with a config, the bytes of its file that have arrived and those of the whole file, if known.
        on_progress: Called with a config and a number of its rows as they are read, from several threads.
    """
    outcomes = []
    for planned in run:
        start = time.monotonic()
        result: BuildResult | None = None
        failure: MedMNISTError | None = None
        try:
            on_start(planned)
            file = _built_from(planned, source, out, options) or source.fetch(
                planned.subset,
                planned.size,
                on_bytes=lambda done, total, planned=planned: on_bytes(planned, done, total),  # type: ignore[misc]
            )
            result = build_config(
                planned.subset,
                planned.size,
                file,
                out,
                options=options,
                on_progress=lambda rows, planned=planned: on_progress(planned, rows),  # type: ignore[misc]
            )
            write_card(result.config_dir.parent)
        except MedMNISTError as error:
            failure = error
        except (OSError, pa.ArrowException) as error:
            failure = _in_words(error, out / planned.subset.flag / str(planned.size))
        outcomes.append(BuildOutcome(planned, result, failure, time.monotonic() - start))
    return outcomes


def _built_from(planned: Planned, source: Source, out: Path, options: BuildOptions) -> SourceFile | None:
    """The file that a complete config was built from, known without fetching it; None where it has to be fetched."""
    if not isinstance(source, Zenodo):
        return None
    file = source.promised(planned.subset, planned.size)
    codec = ARRAY if planned.subset.ndim == 3 else options.codec
    return file if usable(out / planned.subset.flag / str(planned.size), file, codec, options) else None


def _in_words(error: Exception, config_dir: Path) -> BuildError:
    return BuildError(
        f"cannot finish {config_dir} ({first_line(error)}): check the disk and permissions, then run again"
    )
