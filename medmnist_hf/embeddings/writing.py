"""Write a feature store: shard by shard in a staging folder, resumable, and moved into place when it is complete.

Layout below the folder of a subset::

    28-timm-resnet18.a1_in1k/               a complete store: shards and manifest.json
    README.md                               the card of all stores in the folder
    .build/28-timm-resnet18.a1_in1k/        an unfinished store: plan.json and a record of each finished shard
    .build/28-timm-resnet18.a1_in1k/config/ its finished shards; this folder becomes the store
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, pairwise
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from datasets import Features
from numpy.typing import NDArray

from medmnist_hf import catalog
from medmnist_hf.conversion.parquet import finished_shard, write_shard
from medmnist_hf.conversion.sharding import RowRange, cut
from medmnist_hf.conversion.tables import label_column
from medmnist_hf.data.rows import regroup
from medmnist_hf.embeddings.card import write_card
from medmnist_hf.embeddings.manifest import (
    DTYPES,
    StoreManifest,
    StoreSplit,
    different_data,
    different_model,
    read_store,
)
from medmnist_hf.embeddings.stores import damaged_shard
from medmnist_hf.errors import BuildError, cannot_write
from medmnist_hf.features import embedding_features_of
from medmnist_hf.files import sole_process, sync_folder, write_atomically
from medmnist_hf.manifest import MANIFEST_NAME, README_NAME, WORK_DIR, Manifest, read_build
from medmnist_hf.places.local_paths import check_loadable

_PLAN_NAME: Final = "plan.json"
_GROUP_BYTES: Final = 4 << 20
"""Bytes of features in one row group, which a reader holds in memory twice."""

Extract = Callable[[str, Sequence[RowRange]], Iterator[NDArray[Any]]]
"""Maps a split and ranges of its rows to the features of these rows, one range after the other, in blocks (n, D)."""


@dataclass(frozen=True, slots=True)
class Written:
    """The result of writing a store.

    Attributes:
        folder: Folder of the store.
        manifest: Its manifest.
        reused: Whether the store was already complete, so that nothing was written.
        extracted: Number of rows whose features were computed; others were in finished shards.
    """

    folder: Path
    manifest: StoreManifest
    reused: bool
    extracted: int = 0


def shard_rows(images: Manifest, split: str) -> list[RowRange]:
    """The rows of each shard of a split."""
    edges = np.cumsum([0, *(shard.rows for shard in images.splits[split].shards)]).tolist()
    return [RowRange(start, stop) for start, stop in pairwise(edges)]


def plan_splits(images: Manifest) -> dict[str, StoreSplit]:
    """The splits of a store that is not written yet: without shards."""
    return {
        split: StoreSplit(record.rows, 0, record.pixels_sha256, record.labels_sha256, ())
        for split, record in images.splits.items()
    }


def write_store(
    root: Path,
    planned: StoreManifest,
    images: Manifest,
    labels: Callable[[str], NDArray[Any]],
    extract: Extract,
    *,
    force: bool = False,
    on_progress: Callable[[int], object] = lambda rows: None,
) -> Written:
    """Write a store and its card, or reuse an existing store of the same model and data.

    A killed process leaves either a complete store or none. The next run resumes after the last finished shard and
    produces the same bytes. If two processes write the same store, one waits for the other.

    Args:
        root: Folder of all stores.
        planned: The manifest, with splits of `plan_splits`.
        images: Manifest of the images, whose shards the store mirrors.
        labels: Maps a split to its labels, integers (N,) or (N, L).
        extract: Computes features; called once per split with unfinished shards.
        force: Replace an existing store of another model or of other data.
        on_progress: Called with the number of rows just finished.

    Raises:
        BuildError: The folder holds another store or a build of images, or is not writable; or a feature exceeds the
            range of float16.
    """
    check_loadable(root)
    final = root / planned.subset / planned.config_name
    work = final.parent / WORK_DIR
    if read_build(final.parent):
        raise BuildError(f"{final.parent} holds a build of images: name another folder with --out")
    try:
        work.mkdir(parents=True, exist_ok=True)
        with sole_process(work / f"{final.name}.lock", f"writing {final}"):
            manifest = None if force else find_reusable(final, planned, images)
            if manifest is not None:
                on_progress(manifest.rows)
                shutil.rmtree(work / final.name, ignore_errors=True)
                if not (final.parent / README_NAME).exists():
                    write_card(final.parent)
                return Written(final, manifest, reused=True)
            job = _StoreJob(planned, images, work / final.name, on_progress)
            manifest = job.run(final, labels, extract)
            write_card(final.parent)
            return Written(final, manifest, reused=False, extracted=job.extracted)
    except OSError as error:
        raise BuildError(cannot_write(final, error, "check the folder and run again")) from None


def find_reusable(final: Path, planned: StoreManifest, images: Manifest) -> StoreManifest | None:
    """Find a complete store that equals the planned one; None if there is no store.

    Raises:
        BuildError: The folder holds features of another model, input, type or data, or is damaged.
    """
    if not final.exists():
        return None
    manifest = read_store(final)
    differences = [
        different_model(manifest, planned.model, planned.input),
        f"type {manifest.dtype}, not {planned.dtype}" if manifest.dtype != planned.dtype else "",
        different_data(manifest, images)
        or ("" if manifest.images_id == images.content_id else "the same images in other shards"),
    ]
    if difference := "; ".join(filter(None, differences)):
        raise BuildError(
            f"{final} holds other features ({difference}): pass --force to replace them, or name another folder "
            "with --out"
        )
    if name := damaged_shard(final, manifest):
        raise BuildError(f"{final} is damaged ({name} is missing or truncated): pass --force to make it again")
    return manifest


class _StoreJob:
    """Writes one store, in the process that holds its lock."""

    def __init__(
        self, planned: StoreManifest, images: Manifest, stage: Path, on_progress: Callable[[int], object]
    ) -> None:
        self._planned, self._images, self._on_progress = planned, images, on_progress
        self._stage, self._shards = stage, stage / "config"
        self._entry = catalog.subset(planned.subset)
        self.extracted = 0

    @cached_property
    def _columns(self) -> Features:
        return embedding_features_of(self._entry, self._planned.size, self._planned.dtype, self._planned.width)

    def run(self, final: Path, labels: Callable[[str], NDArray[Any]], extract: Extract) -> StoreManifest:
        self._open_stage()
        splits = {split: self._write_split(split, labels(split), extract) for split in self._planned.splits}
        manifest = replace(self._planned, splits=splits)
        write_atomically(self._shards / MANIFEST_NAME, manifest.to_json())
        replaced = self._stage.with_name(f"{self._stage.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        if final.exists():
            # The card describes the previous store: with it, `datasets` would cache the new rows as the old ones.
            (final.parent / README_NAME).unlink(missing_ok=True)
            final.rename(replaced)
        self._shards.rename(final)
        sync_folder(final.parent)
        for left_over in (self._stage, replaced):
            shutil.rmtree(left_over, ignore_errors=True)
        return manifest

    def _open_stage(self) -> None:
        """Create the staging folder; finished shards stay in it if they were written with the same plan."""
        plan = json.dumps([self._planned.to_json(), self._images.content_id]) + "\n"
        path = self._stage / _PLAN_NAME
        if path.is_file() and path.read_text(encoding="utf-8") == plan:
            for left_over in self._stage.glob("**/.*.tmp"):
                left_over.unlink()
            self._shards.mkdir(exist_ok=True)
            return
        shutil.rmtree(self._stage, ignore_errors=True)
        self._shards.mkdir(parents=True)
        write_atomically(path, plan)

    def _write_split(self, split: str, labels: NDArray[Any], extract: Extract) -> StoreSplit:
        names = [shard.name for shard in self._images.splits[split].shards]
        ranges = dict(zip(names, shard_rows(self._images, split), strict=True))
        written = {name: finished_shard(self._shards / name, self._stage / f"{name}.json") for name in names}
        missing = [name for name in names if written[name] is None]
        self._on_progress(sum(len(ranges[name]) for name in names if name not in missing))
        groups = {name: self._groups(ranges[name]) for name in missing}
        features = regroup(
            extract(split, [ranges[name] for name in missing]) if missing else (),
            (len(rows) for name in missing for rows in groups[name]),
        )
        for name in missing:
            tables = (
                self._table(block, labels[rows.start : rows.stop])
                for rows, block in zip(groups[name], islice(features, len(groups[name])), strict=True)
            )
            written[name] = write_shard(self._shards / name, self._stage / f"{name}.json", self._columns, tables)
        finished = [shard for shard in written.values() if shard is not None]
        return replace(
            self._planned.splits[split],
            arrow_bytes=sum(shard.arrow_bytes for shard in finished),
            shards=tuple(shard.shard for shard in finished),
        )

    def _groups(self, rows: RowRange) -> list[RowRange]:
        most = max(1, _GROUP_BYTES // (self._planned.width * DTYPES[self._planned.dtype]))
        return cut(rows, ceil(len(rows) / most))

    def _table(self, block: NDArray[Any], labels: NDArray[Any]) -> pa.Table:
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(block, self._planned.dtype)
        if not np.isfinite(values).all():
            raise BuildError(
                f"a feature of {self._planned.model.id} exceeds the range of {self._planned.dtype}: "
                "pass --dtype float32"
            )
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), self._planned.width)
        self.extracted += len(values)
        self._on_progress(len(values))
        return pa.Table.from_arrays([lists, label_column(labels)], schema=self._columns.arrow_schema)
