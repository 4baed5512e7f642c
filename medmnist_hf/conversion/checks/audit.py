"""Audit the data of a built config: class balance, blank images, exact duplicates, and patients in several splits.

Two images are duplicates if all their decoded pixels are equal, however each is encoded. Only a 16-byte BLAKE2b digest
per image is kept, so memory grows by a few bytes per row, whatever the image size.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import repeat
from math import prod
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from medmnist_hf.array_types import UInt8Array
from medmnist_hf.catalog import SPLITS, Subset, Task, subset
from medmnist_hf.conversion.added_columns import AddedFiles
from medmnist_hf.conversion.checks.duplicates import Duplicates, Overlap, SplitRows, find_duplicates
from medmnist_hf.conversion.checks.leaks import GroupAudit, find_leaks, sentences
from medmnist_hf.conversion.near.filters import small_copies
from medmnist_hf.conversion.near.report import NearDuplicates, NearPair, find_near_duplicates, summarize
from medmnist_hf.data.decode import labels_of, pixels_of, row_errors
from medmnist_hf.data.shards import SHARD_ERRORS, check_footer
from medmnist_hf.errors import BuildError, SourceError, cannot_read, counted
from medmnist_hf.features import features_of
from medmnist_hf.files import read_document, regular_size
from medmnist_hf.manifest import AUDIT_NAME, GROUP, SOURCE_KINDS, Manifest, SplitRecord, read_manifest
from medmnist_hf.places.local_paths import check_text
from medmnist_hf.typed_json import OPTIONAL, Count, Md5, Name, OneOf, Sentence, Share, decode_versioned, encode

FORMAT: Final = 1
MAX_LISTED: Final = 20
"""Largest number of blank rows, groups of duplicates, and members of a group in an audit; its counts are complete."""

_DIGEST_BYTES: Final = 16
_BATCH_BYTES: Final = 4 << 20
_SLICES: Final = 8
"""Number of parts into which a batch is divided for the pool."""

_NAMED: Final = 3
"""Largest number of rows in a finding."""


@dataclass(frozen=True, slots=True)
class SplitAudit:
    """Audit of one split.

    Attributes:
        rows: Number of rows.
        catalog_rows: Number of rows in the catalog; None for a phantom.
        label_rows: Label name -> number of rows with this label.
        label_shares: Label name -> share of rows with this label, 0 to 1; in the multi-label task, its prevalence.
        absent: Labels that no row has.
        unlabeled: Number of rows without findings; 0 unless the task is multi-label.
        unlabeled_share: Share of rows without findings, 0 to 1.
        majority: The most frequent class, the first one in a tie; None in the multi-label task.
        accuracy_floor: Accuracy of the best constant prediction, 0 to 1: the share of the majority class. In the
            multi-label task, whose official accuracy is the mean over findings (``medmnist.evaluator.getACC``), the
            mean of max(prevalence, 1 - prevalence).
        blank: Number of rows whose pixels are all equal.
        blank_rows: The first of these rows, ascending.
    """

    rows: Count
    catalog_rows: Count | None
    label_rows: dict[str, Count]
    label_shares: dict[str, Share]
    absent: tuple[str, ...]
    unlabeled: Count
    unlabeled_share: Share
    majority: str | None
    accuracy_floor: Share
    blank: Count
    blank_rows: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """One audited config.

    Attributes:
        subset: Flag of the subset.
        size: Edge length in pixels or voxels.
        source: Source of the rows: ``zenodo``, ``folder`` or ``phantom``.
        md5: MD5 of the NPZ file that the config was built from.
        splits: Split name -> its audit, in the order train, validation, test.
        duplicates: Rows with equal pixels.
        findings: Findings for the card, as sentences without a full stop; never empty.
        groups: Patients, scans or lesions across splits; None if they are not known.
        near: Rows that show the same picture with other pixels; None if they were not searched for.
    """

    subset: Name
    size: Count
    source: Annotated[str, OneOf(*SOURCE_KINDS)]
    md5: Md5
    splits: dict[str, SplitAudit]
    duplicates: Duplicates
    findings: tuple[Sentence, ...]
    groups: GroupAudit | None = field(default=None, metadata=OPTIONAL)
    near: NearDuplicates | None = field(default=None, metadata=OPTIONAL)

    def to_json(self) -> str:
        """Serialize the audit as indented JSON with a final newline; equal audits give equal text."""
        return json.dumps({"format": FORMAT, **encode(self)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "the text") -> "Audit":
        """Parse an ``audit.json``.

        Args:
            text: Content of the file.
            where: Name of the file in errors.

        Raises:
            BuildError: The text is not an audit in this format.
        """
        try:
            audit: Audit = decode_versioned(text, cls, FORMAT)
        except ValueError as error:
            raise BuildError(f"{where} is not a valid audit ({error}): run medmnist-hf audit --save again") from None
        return audit


def audit_config(
    config_dir: Path,
    *,
    files: AddedFiles | None = None,
    workers: int | None = None,
    near: Callable[[list[NearPair]], object] | None = None,
    on_progress: Callable[[int], object] = lambda rows: None,
) -> Audit:
    """Audit one built config, without writing anything.

    Args:
        config_dir: Folder of the config, e.g. ``dist/pathmnist/28``.
        files: Files that name the patient or scan of each row, for a build without the column ``group``.
        workers: Decoding threads, on which the result does not depend; None for the default of `ThreadPoolExecutor`.
        near: Called with all near duplicates, leaks first, exact ones included; None does not search for them, which
            takes time that grows with the square of the number of rows.
        on_progress: Called with the number of rows just audited, and again with those just searched.

    Raises:
        BuildError: The folder has no build, or its shards are damaged or do not match the manifest.
        SourceError: A file of `files` is missing, or is not for this subset.
        ReadError: A file of `files` does not describe these rows.
    """
    check_text(config_dir)
    manifest = read_manifest(config_dir)
    entry = subset(manifest.subset)
    with ThreadPoolExecutor(workers) as pool:
        scans = {split: _Scan(config_dir, manifest, entry, split, pool) for split in SPLITS}
        rows = {split: scan.run(on_progress, copies=near is not None) for split, scan in scans.items()}
    splits = {split: _split_audit(entry, manifest, split, split_rows) for split, split_rows in rows.items()}
    duplicates = find_duplicates(rows, MAX_LISTED)
    groups = None
    if files is not None:
        groups = _groups_from(files, entry, rows)
    elif manifest.added is not None and manifest.added.kind is not None:
        groups = find_leaks(manifest.added.kind, {split: scan.groups for split, scan in scans.items()})
    summary: NearDuplicates | None = None
    if near is not None:
        pairs = find_near_duplicates(rows, on_progress=on_progress)
        near(pairs)
        summary = summarize(pairs, SPLITS, MAX_LISTED)
    return Audit(
        subset=entry.flag,
        size=manifest.size,
        source=manifest.source.kind,
        md5=manifest.source.md5,
        splits=splits,
        duplicates=duplicates,
        findings=(*_near_findings(entry, summary), *_findings(entry, splits, duplicates, groups)),
        groups=groups,
        near=summary,
    )


def keep_near(audit: Audit, config_dir: Path) -> Audit:
    """Add the near duplicates of the saved audit of a config to one that did not search for them.

    Args:
        audit: The new audit.
        config_dir: Folder of the config.

    Returns:
        The audit, as it is if it has its own, or if no audit of the same data with near duplicates was saved.
    """
    try:
        saved = Audit.from_json(read_document(config_dir / AUDIT_NAME).decode())
    except (OSError, ValueError, BuildError):  # there is none, or it is damaged and about to be replaced
        return audit
    if audit.near is not None or saved.near is None or saved.md5 != audit.md5:
        return audit
    findings = (*_near_findings(subset(audit.subset), saved.near), *audit.findings)
    return replace(audit, near=saved.near, findings=findings)


def _groups_from(files: AddedFiles, entry: Subset, rows: Mapping[str, SplitRows]) -> GroupAudit:
    """Read the groups of rows whose labels are known from their scan."""
    multi_label = entry.task is Task.MULTI_LABEL
    labels = {split: each.labels if multi_label else each.labels.argmax(axis=1) for split, each in rows.items()}
    added = files.read(entry, labels)
    if added.record.kind is None:
        raise SourceError(
            f"the names of source images of {entry.flag} do not identify its patients or scans: omit --source-ids"
        )
    return find_leaks(added.record.kind, {split: columns[GROUP] for split, columns in added.columns.items()})


class _Scan:
    """Scans one split of a config, shard by shard, in bounded memory."""

    def __init__(self, config_dir: Path, manifest: Manifest, entry: Subset, split: str, pool: Executor) -> None:
        self._config_dir, self._entry, self._pool, self._where = config_dir, entry, pool, f"{config_dir} {split}"
        self._record: SplitRecord = manifest.splits[split]
        self._size, self._shape = manifest.size, entry.file(manifest.size).image_shape
        self._types = features_of(entry, manifest.size, manifest.added_names).arrow_schema
        self.groups: list[str | None] = []
        self._multi_label = entry.task is Task.MULTI_LABEL
        self._classes = np.arange(len(entry.labels))

    def run(self, on_progress: Callable[[int], object], *, copies: bool) -> SplitRows:
        small: list[UInt8Array] = []
        digests: list[bytes] = []
        blank: list[bool] = []
        labels: list[npt.NDArray[np.bool_]] = []
        for batch in self._batches():
            first = len(blank)
            if GROUP in batch.schema.names:
                self.groups += batch.column(GROUP).to_pylist()
            with row_errors(self._fault, first):
                pixels = pixels_of(batch.column("image"), self._shape, self._pool)
                batch_labels = labels_of(batch.column("label"), len(self._entry.labels), multi_label=self._multi_label)
            for part_digests, part_blank in self._scan(pixels):
                digests.append(part_digests)
                blank += part_blank
            if copies:
                small.append(small_copies(pixels, self._entry.ndim))
            labels.append(
                batch_labels.astype(np.bool_) if self._multi_label else batch_labels[:, None] == self._classes
            )
            on_progress(len(batch))
        if len(blank) != self._record.rows:
            raise BuildError(
                f"{self._where} has {len(blank)} rows, but its manifest lists {self._record.rows}: "
                "build the config again with --force"
            )
        return SplitRows(
            np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2),
            np.array(blank, np.bool_),
            np.concatenate(labels) if labels else np.zeros((0, len(self._entry.labels)), np.bool_),
            np.concatenate(small) if small else None,
        )

    def _batches(self) -> Iterator[pa.RecordBatch]:
        rows = max(1, _BATCH_BYTES // prod(self._shape))
        for shard in self._record.shards:
            path = self._config_dir / shard.name
            try:
                regular_size(path)
                with pq.ParquetFile(path) as parquet:
                    check_footer(parquet.metadata, shard.rows, self._entry, self._size)
                    schema = parquet.schema_arrow
                    if (schema.names, schema.types) != (self._types.names, self._types.types):
                        raise BuildError(
                            f"{path} does not have the columns of {self._entry.flag}: "
                            "build the config again with --force"
                        )
                    yield from parquet.iter_batches(rows)
            except SHARD_ERRORS as error:
                raise BuildError(cannot_read(path, error, "build the config again with --force")) from None

    def _scan(self, pixels: UInt8Array) -> Iterator[tuple[bytes, list[bool]]]:
        """Yield the digests of a batch, and whether each row is blank, in parts."""
        channels = 3 if self._entry.channels == 3 and self._entry.ndim == 2 else 1
        step = max(1, -(-len(pixels) // _SLICES))
        starts = range(0, len(pixels), step)
        return self._pool.map(_scan_pixels, (pixels[start : start + step] for start in starts), repeat(channels))

    def _fault(self, row: int, what: str) -> BuildError:
        return BuildError(f"{self._where} row {row} holds {what}: build the config again with --force")


def _scan_pixels(images: UInt8Array, channels: int) -> tuple[bytes, list[bool]]:
    """Joined digests of images or volumes, and for each whether all its pixels are equal."""
    digests, blank = [], []
    for image in images:
        raw = image.tobytes()
        digests.append(hashlib.blake2b(raw, digest_size=_DIGEST_BYTES).digest())
        blank.append(raw == raw[:channels] * (len(raw) // channels))
    return b"".join(digests), blank


def _split_audit(entry: Subset, manifest: Manifest, split: str, split_rows: SplitRows) -> SplitAudit:
    rows = len(split_rows.labels)
    counts = split_rows.labels.sum(axis=0)
    shares = counts / max(1, rows)
    multi_label = entry.task is Task.MULTI_LABEL
    unlabeled = int((~split_rows.labels.any(axis=1)).sum())
    blank = np.flatnonzero(split_rows.blank)
    return SplitAudit(
        rows=rows,
        catalog_rows=None if manifest.source.synthetic else entry.counts[split],
        label_rows=dict(zip(entry.labels, counts.tolist(), strict=True)),
        label_shares=dict(zip(entry.labels, shares.tolist(), strict=True)),
        absent=tuple(label for label, count in zip(entry.labels, counts, strict=True) if not count),
        unlabeled=unlabeled,
        unlabeled_share=unlabeled / max(1, rows),
        majority=None if multi_label else entry.labels[int(counts.argmax())],
        accuracy_floor=float(np.maximum(shares, 1 - shares).mean() if multi_label else shares.max()),
        blank=len(blank),
        blank_rows=tuple(blank[:MAX_LISTED].tolist()),
    )


def _findings(
    entry: Subset, splits: dict[str, SplitAudit], duplicates: Duplicates, groups: GroupAudit | None
) -> Iterator[str]:
    thing = "volume" if entry.ndim == 3 else "image"
    for split, audit in splits.items():
        if audit.catalog_rows is not None and audit.catalog_rows != audit.rows:
            yield f"{split} has {audit.rows:,} rows where the catalog has {audit.catalog_rows:,}"
    if groups is not None:
        yield from sentences(groups, thing)
    for overlap in duplicates.overlaps:
        yield _overlap_sentence(overlap, thing, entry.task)
    for split, audit in splits.items():
        if audit.blank:
            yield _blank_sentence(audit, split, thing)
    if not duplicates.pictures and not any(audit.blank for audit in splits.values()):
        yield f"no {thing} is blank and no two are pixel-identical, within a split or across splits"
    for split, audit in splits.items():
        if audit.absent:
            yield f"{split} has no row labeled {', '.join(map(repr, audit.absent))}"
        if audit.unlabeled:
            yield f"{audit.unlabeled_share:.1%} of the rows of {split} have no finding"
    test = splits["test"]
    prediction = "the more frequent value of each finding" if test.majority is None else repr(test.majority)
    yield f"always predicting {prediction} has an accuracy of {test.accuracy_floor:.3f} on test"


def _near_findings(entry: Subset, near: NearDuplicates | None) -> Iterator[str]:
    """Sentences such as "3 images of train are near duplicates of 2 of test (4 pairs, 1 with different labels)"."""
    thing = "volume" if entry.ndim == 3 else "image"
    for overlap in near.overlaps if near else ():
        (first, rows), *others = overlap.rows.items()
        partner = "".join(f"{'one' if count == 1 else f'{count:,}'} of {other}" for other, count in others)
        label = f", {overlap.conflicting:,} with different labels" if overlap.conflicting else ""
        yield (
            f"{counted(rows, thing)} of {first} {'is a near duplicate' if rows == 1 else 'are near duplicates'} of "
            f"{partner or 'others of the same split'} ({counted(overlap.pairs, 'pair')}{label})"
        )
    if near and not near.pairs:
        yield f"no two {thing}s are near duplicates at a similarity of {near.threshold:g}"


def _blank_sentence(audit: SplitAudit, split: str, thing: str) -> str:
    verb, rows = ("is", "row") if audit.blank == 1 else ("are", "rows")
    examples = ", ".join(map(str, audit.blank_rows[:_NAMED]))
    more = f" and {audit.blank - _NAMED:,} more" if audit.blank > _NAMED else ""
    return f"{counted(audit.blank, thing)} of {split} {verb} blank (all pixels equal): {rows} {examples}{more}"


def _overlap_sentence(overlap: Overlap, thing: str, task: Task) -> str:
    """Describe an overlap.

    E.g. "1 image of train is pixel-identical to one of test, with another label: train row 115, test row 76".
    """
    (first, rows), *others = overlap.rows.items()
    sentence = f"{counted(rows, thing)} of {first} {'is' if rows == 1 else 'are'} pixel-identical"
    single_pair = overlap.pictures == 1 and sum(overlap.rows.values()) == 2
    other_labels = "another label" if others and task is not Task.MULTI_LABEL else "different labels"
    for other, partners in others:
        sentence += f" to {'one' if partners == 1 else f'{partners:,}'} of {other}"
    if not others and overlap.pictures > 1:
        sentence += f" in {overlap.pictures:,} groups"
    if overlap.conflicting:
        sentence += f", {'some ' if overlap.conflicting < overlap.pictures else ''}with {other_labels}"
    example = ", ".join(f"{member.split} row {member.row}" for member in overlap.example)
    return f"{sentence}: {'' if single_pair else 'e.g. '}{example}"
