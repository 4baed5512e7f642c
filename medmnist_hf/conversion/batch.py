"""Plan and build many configs in one run; a config that fails does not stop the others."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import pyarrow as pa

from medmnist_hf.catalog import (
    ALL,
    DEFAULT_SIZE,
    SPLITS,
    SplitCounts,
    Subset,
    is_config_name,
    sized_subset,
    subset,
    subsets,
)
from medmnist_hf.conversion.build import BuildOptions, BuildResult, build_config, find_reusable
from medmnist_hf.conversion.encode import encoder
from medmnist_hf.conversion.scratch import private_folder
from medmnist_hf.conversion.sharding import shard_ranges
from medmnist_hf.conversion.sources.phantom import phantom_counts
from medmnist_hf.conversion.sources.source import Phantom, Source, SourceFile, Zenodo
from medmnist_hf.errors import BuildError, CatalogError, MedMNISTError, first_line
from medmnist_hf.files import sole_process
from medmnist_hf.manifest import ARRAY, WORK_DIR


@dataclass(frozen=True, slots=True)
class Planned:
    """One config to build.

    Attributes:
        subset: The subset.
        size: Edge length in pixels or voxels.
        counts: Expected number of rows of each split.
        raw_bytes: Size of the uncompressed pixels of all rows.
        shards: Number of Parquet files of all splits.
    """

    subset: Subset
    size: int
    counts: SplitCounts
    raw_bytes: int
    shards: int

    @property
    def config_name(self) -> str:
        """Name of the config, e.g. ``28``."""
        return self.subset.config_name(self.size)

    @property
    def name(self) -> str:
        """Name for people, e.g. ``pathmnist 28``."""
        return f"{self.subset.base} {self.config_name}"

    def folder(self, out: Path) -> Path:
        """Its folder in a folder of builds."""
        return out / self.subset.base / self.config_name


@dataclass(frozen=True, slots=True)
class BuildOutcome:
    """The result of one planned config.

    Attributes:
        planned: The config.
        result: Result of the build; None if it failed.
        error: Why it failed; None if it succeeded.
        seconds: Duration, fetching included.
    """

    planned: Planned
    result: BuildResult | None
    error: MedMNISTError | None
    seconds: float

    @property
    def raw_bytes(self) -> int:
        """Size of the uncompressed pixels that were built; an unverified file may have more or fewer than planned."""
        records = self.result.manifest.splits.values() if self.result else ()
        return sum(record.rows for record in records) * prod(self.planned.subset.file(self.planned.size).image_shape)


def usable_cores() -> int:
    """Number of processor cores that this process may use: ``OMP_NUM_THREADS`` if set, as engines of jobs do."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads):
        return int(threads)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes(out: Path) -> int:
    """Free space, in bytes, on the disk of a folder that may not exist yet.

    Raises:
        BuildError: The folder or its parents are not accessible.
    """
    try:
        folder = out.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise BuildError(
            f"cannot access {out} ({error.strerror}): set --out to a folder that you can access"
        ) from None


def plan_run(flags: Sequence[str], sizes: Sequence[str], source: Source, options: BuildOptions) -> list[Planned]:
    """List the configs that a command line selects, without duplicates.

    Args:
        flags: Flags of subsets, optionally with a size (``pathmnist-64``), or ``all``.
        sizes: Sizes, or names of configs such as ``28-corrected``, or ``all`` for the official sizes; by default the
            sizes in `flags`, or 28. If `flags` is ``all``, a size selects the subsets that have it.
        source: Source of the NPZ files.
        options: Options of the build.

    Returns:
        The configs in the order of `flags`, or of the catalog for ``all``, and by ascending size.

    Raises:
        CatalogError: A subset or size is unknown, no selected subset has a size, or `sizes` contradicts `flags`.
        BuildError: The codec is unknown, or cannot store the images of a subset.
    """
    every = ALL in flags
    named: dict[str, list[str]] = {entry.flag: [] for entry in subsets()} if every else {}
    for flag in () if every else flags:
        entry, size = sized_subset(flag)
        config = entry.config_name(size or DEFAULT_SIZE)
        if size is not None and sizes and not {config, str(size)} & set(sizes):
            raise CatalogError(f"{flag} selects size {config}, but --size is {', '.join(sizes)}: omit one of them")
        named.setdefault(entry.flag, []).append(config)
    numbers = [_checked_config(text) for text in sizes if text != ALL]
    configs: dict[tuple[str, int], tuple[Subset, int]] = {}
    for entry in map(subset, named):
        implied = named[entry.flag] or [str(DEFAULT_SIZE)]
        names = [*(map(str, entry.sizes) if ALL in sizes else ()), *numbers] if sizes else implied
        found = [entry.config(name) for name in names if not every or name in entry.config_names]
        for each, size in sorted(found, key=lambda config: (config[0].variant, config[1])):
            configs[each.flag, size] = each, size
    if not configs:
        raise CatalogError(f"no subset has size {' or '.join(numbers)}: `medmnist-hf list` shows all sizes")
    return [_planned(entry, size, source, options) for entry, size in configs.values()]


def _checked_config(text: str) -> str:
    if not is_config_name(text):
        raise CatalogError(f"--size {text!r} is not a valid size: choose from 28, 64, 128, 224 and all")
    return text


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
    scratch: Path | None = None,
    on_start: Callable[[Planned], object] = lambda planned: None,
    on_bytes: Callable[[Planned, int, int | None], object] = lambda planned, received, total: None,
    on_progress: Callable[[Planned, int], object] = lambda planned, rows: None,
) -> list[BuildOutcome]:
    """Fetch and build every planned config; the card of a subset is written after each of its configs.

    A config that was built from the official file is not downloaded again.

    Args:
        run: The configs.
        source: Source of their NPZ files.
        out: Folder of all builds.
        options: Options of the build.
        write_card: Called with the folder of a subset whenever one of its configs is complete.
        scratch: Folder on a fast disk for downloads and unfinished shards, emptied after each config; None for the
            cache and `out`.
        on_start: Called with a config before it is fetched.
        on_bytes: Called with a config, the bytes received of its file, and the size of the file, None if unknown.
        on_progress: Called with a config and the number of rows just read, from several threads.

    Returns:
        One outcome per config, in order.
    """
    outcomes = []
    for planned in run:
        start = time.monotonic()
        result: BuildResult | None = None
        failure: MedMNISTError | None = None
        try:
            on_start(planned)
            with _workspace(planned, out, scratch) as folder:
                file = _built_from(planned, source, out, options) or source.fetch(
                    planned.subset, planned.size, into=folder, on_bytes=partial(on_bytes, planned)
                )
                result = build_config(
                    planned.subset,
                    planned.size,
                    file,
                    out,
                    options=options,
                    scratch=folder,
                    on_progress=partial(on_progress, planned),
                )
            write_card(result.config_dir.parent)
        except MedMNISTError as error:
            failure = error
        except (OSError, pa.ArrowException) as error:
            failure = _to_build_error(error, planned.folder(out))
        outcomes.append(BuildOutcome(planned, result, failure, time.monotonic() - start))
    return outcomes


@contextlib.contextmanager
def _workspace(planned: Planned, out: Path, scratch: Path | None) -> Iterator[Path | None]:
    """A private folder in `scratch`, for the only process that works on this config; None without `scratch`."""
    if scratch is None:
        yield None
        return
    config_dir = planned.folder(out)
    work = config_dir.parent / WORK_DIR
    work.mkdir(parents=True, exist_ok=True)
    # Without this lock, a second process would download the file to its own folder.
    lock = sole_process(work / f"{planned.config_name}.scratch.lock", f"building {config_dir}")
    with lock, private_folder(scratch) as folder:
        yield folder


def describe_existing(planned: Planned, source: Source, out: Path, options: BuildOptions) -> str:
    """What a run would do with an existing config, in a few words; empty if there is none. Reads no NPZ file."""
    final = planned.folder(out)
    if not final.exists():
        return ""
    if options.force:
        return "exists, and would be replaced"
    try:
        find_reusable(final, _known_file(planned, source), _codec_of(planned, options), options)
    except BuildError as error:
        return f"would fail: {error}"
    return "complete, and would be kept"


def _known_file(planned: Planned, source: Source) -> SourceFile | None:
    """The file that a source will deliver, where that is known without fetching it."""
    return source.expected_file(planned.subset, planned.size) if isinstance(source, Zenodo) else None


def _codec_of(planned: Planned, options: BuildOptions) -> str:
    return ARRAY if planned.subset.ndim == 3 else options.codec


def _built_from(planned: Planned, source: Source, out: Path, options: BuildOptions) -> SourceFile | None:
    """The file that an existing config was built from, without fetching it; None if it must be fetched."""
    file = _known_file(planned, source)
    if file is None:
        return None
    final = planned.folder(out)
    return file if find_reusable(final, file, _codec_of(planned, options), options) else None


def _to_build_error(error: Exception, config_dir: Path) -> BuildError:
    return BuildError(
        f"cannot finish {config_dir} ({first_line(error)}): check the disk and permissions, then run again"
    )
