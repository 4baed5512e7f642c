"""Build one config from an NPZ file: in a staging folder, resumable, and moved into place when it is complete.

Layout below the folder of a subset::

    28/                    a complete config: shards and manifest.json
    .build/224/            an unfinished config: plan.json and a record of each finished shard
    .build/224/config/     its finished shards; this folder becomes 224/
    .build/224.lock        held by the process that builds it

With a scratch folder, shards are finished there, and the complete config is copied to .build/224/config/.
"""

import hashlib
import json
import os
import platform
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Executor, ThreadPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import numpy as np

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import SPLITS, Subset
from medmnist_hf.conversion.added_columns import AddedFiles
from medmnist_hf.conversion.encode import png_releases
from medmnist_hf.conversion.parquet import finished_shard, write_shard
from medmnist_hf.conversion.sharding import DEFAULT_SHARD_SIZE, shard_ranges
from medmnist_hf.conversion.sources.source import SourceFile
from medmnist_hf.conversion.tables import RowTables
from medmnist_hf.errors import BuildError, ReadError, cannot_write, is_full, is_read_only
from medmnist_hf.files import sole_process, sync_folder, write_atomically
from medmnist_hf.manifest import (
    ARRAY,
    MANIFEST_NAME,
    README_NAME,
    WORK_DIR,
    Manifest,
    SplitRecord,
    read_manifest,
    shard_name,
)
from medmnist_hf.places.local_paths import check_loadable
from medmnist_hf.statistics.recorded import RECORD_NAME, difference_from_recorded
from medmnist_hf.statistics.sums import PixelCounter
from medmnist_hf.typed_json import encode

_PLAN_NAME: Final = "plan.json"
LAYOUT: Final = 2
"""Increased when the encoder, the sharding or the Parquet options change, so that shards of two layouts never mix."""

_LABEL_ROWS: Final = 1 << 16
"""Rows whose labels are hashed at a time; converting them to int64 takes eight times their memory."""

_COPY_BYTES: Final = 1 << 20

_SHAPING: Final = ("medmnist-hf", "datasets", "pillow", "pyarrow")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How configs are built.

    Attributes:
        codec: ``png`` or ``webp`` for images; volumes are always arrays.
        max_shard_size: Size limit of a shard in bytes of raw pixels.
        threads: Encoding threads; the files do not depend on it.
        force: Replace a config that was built from another file or with other options.
        added: Files that add columns; None for none.
    """

    codec: str = "png"
    max_shard_size: int = DEFAULT_SHARD_SIZE
    threads: int = 2
    force: bool = False
    added: AddedFiles | None = None


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build.

    Attributes:
        config_dir: Folder of the config.
        manifest: Its manifest.
        reused: Whether the config was already complete, so that nothing was written.
    """

    config_dir: Path
    manifest: Manifest
    reused: bool


def releases() -> dict[str, str]:
    """Library versions, layout and machine architecture: everything that determines the bytes of a shard."""
    libraries = {name: version(name) for name in _SHAPING} | png_releases()
    return libraries | {"layout": str(LAYOUT), "machine": platform.machine()}


def build_config(
    subset: Subset,
    size: int,
    file: SourceFile,
    out: Path,
    *,
    options: BuildOptions | None = None,
    scratch: Path | None = None,
    on_progress: Callable[[int], object] = lambda rows: None,
) -> BuildResult:
    """Build ``OUT/<flag>/<size>`` from an NPZ file, or reuse an existing build.

    A build that is killed leaves either a complete config or none. The next run resumes after the last finished shard
    and produces the same bytes. If two processes build the same config, one waits for the other.

    Args:
        subset: Subset to build.
        size: Its size.
        file: The NPZ file, fetched from a source.
        out: Folder of all builds.
        options: Options of the build; None for the defaults of `BuildOptions`.
        scratch: Existing folder on a fast disk for unfinished shards, which are not resumed; None for `out`.
        on_progress: Called with the number of rows just read, from several threads.

    Raises:
        BuildError: The folder contains another build, or is not writable.
        ReadError: The file is damaged or does not contain this subset at this size. Nothing of it is kept.
        SourceError: `datasets` cannot read from the path `out`.
    """
    check_loadable(out)
    name = subset.config_name(size)
    final = out / subset.base / name
    work = final.parent / WORK_DIR
    options = options or BuildOptions()
    codec = ARRAY if subset.ndim == 3 else options.codec
    try:
        if not final.parent.exists():  # files that do not fit leave no folder
            RowTables(subset, size, codec, options.added).open(file)
        work.mkdir(parents=True, exist_ok=True)
        with sole_process(work / f"{name}.lock", f"building {final}"):
            stage = work / name
            manifest = find_reusable(final, file, codec, options)
            if manifest is None:
                tables = RowTables(subset, size, codec, options.added)
                build = _ConfigBuild(tables, file, stage, options, scratch=scratch, on_progress=on_progress)
                return BuildResult(final, build.run(final), reused=False)
            for left_over in (stage, _replaced(stage)):
                _remove(left_over)
            return BuildResult(final, manifest, reused=True)
    except OSError as error:
        if is_read_only(error) and (manifest := find_reusable(final, file, codec, options)):
            return BuildResult(final, manifest, reused=True)
        raise _to_build_error(error, final) from None


def _to_build_error(error: OSError, final: Path) -> BuildError:
    if is_full(error):
        return BuildError(f"no space left for {final}: free some space and run again, finished shards are kept")
    return BuildError(cannot_write(final, error, "check the folder and run again"))


def find_reusable(final: Path, file: SourceFile | None, codec: str, options: BuildOptions) -> Manifest | None:
    """Find an existing config that equals the one to build, without reading the NPZ file.

    Args:
        final: Folder of the config.
        file: File to build from; None if it is not known yet, so that any is accepted. An official file is the same
            file whichever source it came from.
        codec: ``png``, ``webp`` or ``array``.
        options: Options of the build; with `force`, no config is reusable.

    Returns:
        The manifest of the config; None if there is none to reuse.

    Raises:
        BuildError: The folder contains another build, or is damaged.
    """
    if not final.exists() or options.force:
        return None
    try:
        manifest = read_manifest(final)
    except BuildError:
        raise BuildError(f"{final} exists but is not a complete build: remove it or pass --force") from None
    pairs: list[tuple[str, object, object]] = []
    if file is not None:
        source = manifest.source
        official = source.md5 == file.md5 and source.verified and file.verified
        pairs += [
            ("source", source.kind, source.kind if official else file.kind),
            ("MD5", source.md5, file.md5),
        ]
    pairs += [
        ("codec", manifest.codec, codec),
        ("shard limit", manifest.max_shard_size, options.max_shard_size),
    ]
    added = options.added.columns_of(manifest.entry) if options.added else None
    built_from, requested_from = (each.described if each else "no CSV file" for each in (manifest.added, added))
    pairs.append(("columns of", built_from, requested_from))
    differing = [(name, built, requested) for name, built, requested in pairs if built != requested]
    if differing:
        raise BuildError(
            f"{final} was built with {', '.join(f'{name} {built}' for name, built, _ in differing)}, "
            f"not with {', '.join(f'{name} {requested}' for name, _, requested in differing)}: "
            "pass --force to replace it"
        )
    damaged = [shard.name for shard in manifest.shards if _bytes_of(final / shard.name) != shard.bytes]
    if damaged:
        raise BuildError(f"{final} is damaged ({damaged[0]} is missing or truncated): pass --force to rebuild it")
    return manifest


def _check_statistics(file: SourceFile, splits: dict[str, SplitRecord]) -> None:
    """Compare a build of an official file with the statistics recorded for it; raise a `ReadError` if they differ."""
    read = {split: record.statistics for split, record in splits.items() if record.statistics is not None}
    if file.verified and (difference := difference_from_recorded(file.md5, read)):
        raise ReadError(
            f"{file.path} has its official MD5, but {difference} in {RECORD_NAME}: this installation or that record "
            "is faulty, so reinstall this package, and report it if that does not help"
        )


def _labels_sha256(labels: UInt8Array) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(labels), _LABEL_ROWS):
        digest.update(labels[start : start + _LABEL_ROWS].astype("<i8").tobytes())
    return digest.hexdigest()


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _replaced(stage: Path) -> Path:
    """Path to which the previous config is moved until the new one is in place."""
    return stage.with_name(f"{stage.name}.replaced")


def _remove(path: Path) -> None:
    """Remove a folder with its contents, or a file; do nothing if neither exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Stopped(Exception):
    """Another split of the same config failed, or the user pressed Ctrl-C."""


class _ConfigBuild:
    """Builds one config, in the process that holds its lock."""

    def __init__(
        self,
        tables: RowTables,
        file: SourceFile,
        stage: Path,
        options: BuildOptions,
        *,
        scratch: Path | None,
        on_progress: Callable[[int], object],
    ) -> None:
        self._tables, self._file, self._options, self._on_progress = tables, file, options, on_progress
        self._scratch, self._on_disk = scratch, stage
        self._stage = stage if scratch is None else scratch / stage.name
        self._shards = self._stage / "config"
        self._reader = tables.open(file)
        self._stop = threading.Event()

    def run(self, final: Path) -> Manifest:
        self._open_stage()
        try:
            splits = self._build_splits()
            _check_statistics(self._file, splits)
        except ReadError:
            for left_over in (self._stage, self._on_disk):
                _remove(left_over)
            raise
        except OSError as error:
            if self._scratch is not None and is_full(error):
                raise BuildError(
                    f"no space left in {self._scratch}: name another --scratch, or leave it out"
                ) from None
            raise
        manifest = Manifest(
            subset=self._tables.subset.flag,
            size=self._tables.size,
            codec=self._tables.codec,
            max_shard_size=self._options.max_shard_size,
            source=self._file.record,
            splits=splits,
            releases=releases(),
            added=self._tables.added.record if self._tables.added else None,
        )
        write_atomically(self._shards / MANIFEST_NAME, manifest.to_json())
        self._move_in(final)
        return manifest

    def _plan(self) -> str:
        """Everything that the bytes depend on; shards of an interrupted run are reused only if this is equal."""
        plan: dict[str, object] = {
            "subset": self._tables.subset.flag,
            "size": self._tables.size,
            "codec": self._tables.codec,
            "md5": self._file.md5,
            "max_shard_size": self._options.max_shard_size,
            "rows": {split: self._reader.rows(split) for split in SPLITS},
            "releases": releases(),
        }
        if self._tables.added is not None:
            plan["added"] = encode(self._tables.added.record)
        return json.dumps(plan, indent=2) + "\n"

    def _open_stage(self) -> None:
        """Create the staging folder; finished shards stay in it if they were built with the same plan."""
        plan, path = self._plan(), self._stage / _PLAN_NAME
        if path.is_file() and path.read_text(encoding="utf-8") == plan:
            for left_over in self._stage.glob("**/.*.tmp"):
                left_over.unlink()
            # A run that is killed right after it moved the shards leaves a stage without their folder.
            self._shards.mkdir(exist_ok=True)
            return
        _remove(self._stage)
        self._shards.mkdir(parents=True)
        write_atomically(path, plan)

    def _build_splits(self) -> dict[str, SplitRecord]:
        """Build all splits at once, since each is a separate zip member; the first failure stops the others."""
        with ThreadPoolExecutor(self._options.threads) as encoders, ThreadPoolExecutor(len(SPLITS)) as readers:
            jobs = {split: readers.submit(self._build_split, split, encoders) for split in SPLITS}
            try:
                wait(jobs.values(), return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()
            failures = [error for job in jobs.values() if (error := job.exception()) is not None]
            for error in sorted(failures, key=lambda error: isinstance(error, _Stopped)):
                raise error
            return {split: job.result() for split, job in jobs.items()}

    def _build_split(self, split: str, encoders: Executor) -> SplitRecord:
        tables, reader = self._tables, self._reader
        ranges = shard_ranges(reader.rows(split), tables.image_shape, self._options.max_shard_size)
        names = [shard_name(split, index, len(ranges)) for index in range(len(ranges))]
        shards = {name: finished_shard(self._shards / name, self._record(name)) for name in names}
        missing = [(name, rows) for name, rows in zip(names, ranges, strict=True) if shards[name] is None]
        digest = hashlib.sha256()
        counter = PixelCounter(tables.subset.channels)

        def on_rows(block: UInt8Array) -> None:
            if self._stop.is_set():
                raise _Stopped
            digest.update(block.data)
            counter.add(block)
            self._on_progress(len(block))

        stream = tables.stream(reader, split, [rows for _, rows in missing], encoders, on_rows)
        for index, group in groupby(stream, key=itemgetter(0)):
            name = missing[index][0]
            row_groups = (table for _, _, table in group)
            shards[name] = write_shard(self._shards / name, self._record(name), tables.features, row_groups)
        written = [shard for shard in shards.values() if shard is not None]
        labels = reader.labels(split)
        label_names = tables.subset.labels
        counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(label_names))
        return SplitRecord(
            rows=len(labels),
            arrow_bytes=sum(shard.arrow_bytes for shard in written),
            label_histogram=dict(zip(label_names, counts.tolist(), strict=True)),
            unlabeled=int((labels.sum(axis=1) == 0).sum()) if labels.ndim == 2 else 0,
            pixels_sha256=digest.hexdigest(),
            labels_sha256=_labels_sha256(labels),
            shards=tuple(shard.shard for shard in written),
            pixels=counter.sums(),
        )

    def _record(self, name: str) -> Path:
        return self._stage / f"{name}.json"

    def _move_in(self, final: Path) -> None:
        """Move the finished config into place, replacing a previous one."""
        shards = self._shards if self._scratch is None else self._copy_to_disk()
        replaced = _replaced(self._on_disk)
        _remove(replaced)
        if final.exists():
            # The card describes the previous config: with it, `datasets` would cache the new rows as the old ones.
            (final.parent / README_NAME).unlink(missing_ok=True)
            final.rename(replaced)
        shards.rename(final)
        sync_folder(final.parent)
        for left_over in (self._stage, self._on_disk, replaced):
            _remove(left_over)

    def _copy_to_disk(self) -> Path:
        """Copy the finished config from the scratch folder to the disk of the builds."""
        _remove(self._on_disk)  # perhaps of a run without a scratch folder
        config = self._on_disk / self._shards.name
        config.mkdir(parents=True)
        for path in sorted(self._shards.iterdir()):
            with path.open("rb") as source, (config / path.name).open("xb") as target:
                shutil.copyfileobj(source, target, _COPY_BYTES)
                target.flush()
                os.fsync(target.fileno())
        sync_folder(config)
        return config
