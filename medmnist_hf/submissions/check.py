"""Check an entry: recompute its scores, compare them with what it claims, and find where it would rank.

Example:
    >>> from medmnist_hf.submissions.check import check_entry
    >>> check_entry("my-entry", root="dist").faults  # doctest: +SKIP
    ()
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from medmnist_hf import catalog
from medmnist_hf.errors import MedMNISTError, ScoreError, cannot_read, first_line
from medmnist_hf.evaluation.labels import Labels, read_labels
from medmnist_hf.evaluation.prediction_files import ROUNDING, read_predictions
from medmnist_hf.files import read_document, regular_size
from medmnist_hf.hub.eval_results import TEST_SPLIT
from medmnist_hf.hub.files import inside
from medmnist_hf.leaderboard.board import leaderboard
from medmnist_hf.leaderboard.protocols import protocols
from medmnist_hf.leaderboard.results import results
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.official import score
from medmnist_hf.scoring.predictions import check
from medmnist_hf.submissions.entry import ENTRY_NAME, Claim, Entry, parse_entry
from medmnist_hf.submissions.folder import ROWS_NAME, SeedFile, entry_name, files_in, largest, sort_files
from medmnist_hf.submissions.rows import Row, ScoredFile, digest_of, parse_rows, row_of

LEAST_DECIMALS: Final = 3
"""Decimals to which a claim is compared at least: YAML has no way to write a last digit that is 0."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a result ranks under one protocol.

    Attributes:
        protocol: Name of the protocol.
        auc: Place by AUC; None if it is not ranked.
        acc: Place by ACC, likewise.
        of: Number of ranked results, including this one.
    """

    protocol: str
    auc: int | None
    acc: int | None
    of: int


@dataclass(frozen=True, slots=True)
class Checked:
    """An entry and what its check found.

    Attributes:
        name: Its name.
        entry: Its description.
        rows: The recomputed result of each subset, all of whose files could be scored.
        places: Subset -> the places of its result.
        provenance: Provenance of the labels that it was scored with.
        faults: What is wrong, a line each; empty for an entry that can be accepted.
    """

    name: str
    entry: Entry
    rows: tuple[Row, ...]
    places: Mapping[str, tuple[Place, ...]]
    provenance: Provenance
    faults: tuple[str, ...]


def read_entry(folder: Path) -> Entry:
    """Read the description of an entry.

    Raises:
        ScoreError: It is missing, cannot be read or is not valid.
    """
    where = f"{folder.resolve().name}/{ENTRY_NAME}"
    try:
        return parse_entry(read_document(inside(folder, ENTRY_NAME)), where)
    except FileNotFoundError:
        raise ScoreError(f"{where} is missing: medmnist-hf submit init writes one") from None
    except OSError as error:
        raise ScoreError(cannot_read(where, error, "check the file")) from None


def check_entry(
    folder: str | Path,
    known: Iterable[Row] = (),
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    only: str | None = None,
    published: bool = False,
    on_file: Callable[[str], object] = lambda path: None,
) -> Checked:
    """Score every file of an entry and compare it with its description and with other entries.

    Args:
        folder: The folder of the entry.
        known: The rows of the entries that were accepted before; those of the same name are left out.
        data: Name of the data set with the labels, for `only` one subset; by default the subset itself.
        root: Folder of builds or of NPZ files with the labels; see `medmnist_hf.evaluation.labels.read_labels`.
        only: Check only this subset.
        published: Whether the folder is that of a repository, which also holds the recomputed results.
        on_file: Called with the path of each file before it is read.

    Raises:
        ScoreError: The folder is missing, or its description is.
        MedMNISTError: The labels cannot be read.
    """
    folder = Path(folder)
    name = entry_name(folder)
    paths = files_in(folder, hidden=published)
    entry = read_entry(folder)
    files, faults = sort_files(paths)
    flags = [flag for flag in entry.results if only in (None, flag)]
    if only is not None:
        files = [file for file in files if file.name.flag == only]
    faults += _release_faults(entry)
    faults += _layout_faults(entry, files, flags)
    rows: list[Row] = []
    kinds: set[Provenance] = set()
    for flag in flags:
        claim = entry.results[flag]
        labels = read_labels(flag, entry.size, TEST_SPLIT, data, root=root)
        kinds.add(labels.provenance)
        scored: list[ScoredFile] = []
        found = [
            file
            for file in files
            if (file.name.flag, file.name.size, file.name.split) == (flag, entry.size, TEST_SPLIT)
        ]
        for file in found:
            on_file(file.path)
            try:
                scored.append(_scored(folder, file, labels))
            except MedMNISTError as error:
                faults.append(str(error).replace(f"{folder}/", ""))
        if scored and len(scored) == len(found):
            row = row_of(name, entry, flag, len(labels.values), scored)
            rows.append(row)
            faults += [*_claim_faults(flag, claim, row), *_duplicates(row, files)]
    others = [row for row in known if row.entry != name]
    faults += [fault for row in rows for fault in _known_faults(row, others)]
    if published and only is None:
        faults += _rows_faults(folder, rows)
    provenance = next((kind for kind in kinds if not kind.comparable), Provenance.VERIFIED)
    if not provenance.comparable:
        faults.append(f"the labels are {provenance}, so nothing is proved: give --root with the official data")
    places = {row.subset: tuple(_places(row, others)) for row in rows} if provenance.comparable else {}
    return Checked(name, entry, tuple(rows), places, provenance, tuple(dict.fromkeys(faults)))


def _release_faults(entry: Entry) -> list[str]:
    """Files of another release have other rows, even where their number is the same."""
    faults, current = [], catalog.collection().version
    if entry.release != current:
        faults.append(
            f"{ENTRY_NAME}: release is {entry.release}, but scores are recomputed on the files of release {current}: "
            "predict on these"
        )
    for flag, claim in entry.results.items():
        file = catalog.subset(flag).file(entry.size)
        if claim.md5 not in {"", file.md5}:
            faults.append(
                f"{ENTRY_NAME}: results.{flag}.md5 is {claim.md5}, but {file.name} of release {current} has "
                f"{file.md5}: predict on that file"
            )
    return faults


def _layout_faults(entry: Entry, files: Sequence[SeedFile], flags: Iterable[str]) -> list[str]:
    """Each seed has one file of the test split of each subset, in the size of the entry, and no other."""
    faults = []
    seeds = sorted({file.seed for file in files})
    if len(seeds) != entry.seeds:
        faults.append(f"{ENTRY_NAME}: seeds is {entry.seeds}, but there are {len(seeds)} folders of seeds with files")
    for file in files:
        name = file.name
        if name.flag not in entry.results:
            faults.append(f"{file.path}: {ENTRY_NAME} has no results of {name.flag}: add them, or remove the file")
        elif (name.size, name.split) != (entry.size, TEST_SPLIT):
            faults.append(
                f"{file.path}: predictions for {name.split} at size {name.size}, but the entry is for {TEST_SPLIT} at "
                f"size {entry.size}: remove it"
            )
    for flag in flags:
        for seed in seeds:
            count = sum((file.name.flag, file.seed) == (flag, seed) for file in files)
            if count != 1:
                faults.append(f"seed-{seed}: {count or 'no'} prediction files of {flag}: put one there")
    return faults


def _scored(folder: Path, file: SeedFile, labels: Labels) -> ScoredFile:
    """Score a file; a `ScoreError` names what is wrong with it."""
    try:
        path = inside(folder, file.path)
        if regular_size(path) > largest(file.path):
            raise ScoreError(f"{file.path}: has more than {largest(file.path):,} bytes")
    except OSError as error:
        raise ScoreError(f"{file.path}: cannot be read ({first_line(error)})") from None
    predictions, subset = read_predictions(path), catalog.subset(file.name.flag)
    rows, needed = len(predictions.scores), len(labels.values)
    if rows != needed:
        releases = {each.release for each in results(subset.flag) if each.test_rows == rows}
        older = f", which are those of the files {' or '.join(sorted(releases))}" if releases else ""
        raise ScoreError(
            f"{file.path}: {rows:,} rows{older}, but {subset.flag} {TEST_SPLIT} has {needed:,} in release "
            f"{catalog.collection().version}: predict every row of that file"
        )
    try:
        checked = check(labels.values, predictions.scores, subset.task, num_classes=len(subset.labels))
    except ScoreError as error:
        raise ScoreError(f"{file.path}: {error}") from None
    official = score(checked)
    for measure, claimed, value in (("AUC", file.name.auc, official.auc), ("ACC", file.name.acc, official.acc)):
        if claimed is not None and not abs(claimed - value) <= ROUNDING:
            raise ScoreError(
                f"{file.path}: its name claims {measure} {claimed:.3f}, but its scores give {value:.3f}: rename it"
            )
    return ScoredFile(file.seed, Path(file.path).name, official.auc, official.acc, digest_of(checked))


def _claim_faults(flag: str, claim: Claim, row: Row) -> list[str]:
    """Claims must equal the recomputed values to their last digit."""
    faults = []
    for name in ("auc", "auc_std", "acc", "acc_std"):
        claimed, value = getattr(claim, name), getattr(row, name)
        if math.isnan(claimed) or (name.endswith("_std") and math.isnan(value)):
            continue  # of one seed; the number of files is another fault
        decimals = max(LEAST_DECIMALS, -int(Decimal(repr(claimed)).as_tuple().exponent))
        if not abs(claimed - value) <= 0.5 * 10.0**-decimals * (1 + 1e-6):
            faults.append(
                f"{ENTRY_NAME}: results.{flag}.{name} claims {claimed}, but the files give {value:.{decimals}f}: "
                "correct it"
            )
    return faults


def _duplicates(row: Row, files: Sequence[SeedFile]) -> list[str]:
    """Two seeds never give the same scores in all rows."""
    paths = {(file.seed, Path(file.path).name): file.path for file in files}
    first: dict[str, str] = {}
    faults = []
    for file in row.files:
        path = paths[file.seed, file.file]
        before = first.setdefault(file.predictions, path)
        if before != path:
            faults.append(
                f"{path}: the same predictions as {before}: each seed is a training of its own, and a method without "
                "randomness has one seed"
            )
    return faults


def _known_faults(row: Row, others: Iterable[Row]) -> list[str]:
    faults = []
    for other in others:
        taken = {file.predictions: file.seed for file in other.files}
        for file in row.files if other.subset == row.subset else ():
            if file.predictions in taken:
                faults.append(
                    f"seed-{file.seed}/{file.file}: the same predictions as seed {taken[file.predictions]} of the "
                    f"entry {other.entry} ({other.method}), which was accepted before"
                )
        if row.has_same_protocol(other):
            faults.append(
                f"{row.subset}: the entry {other.entry} has {other.method} under the same protocol: say in method how "
                "this one differs"
            )
    return faults


def _rows_faults(folder: Path, rows: Sequence[Row]) -> list[str]:
    try:
        stated = parse_rows(read_document(inside(folder, ROWS_NAME)), ROWS_NAME)
    except FileNotFoundError:
        return [f"{ROWS_NAME} is missing: open the pull request by medmnist-hf submit push"]
    except OSError as error:
        return [cannot_read(ROWS_NAME, error, "open the pull request by medmnist-hf submit push")]
    except ScoreError as error:
        return [str(error)]
    if len(stated) == len(rows) and all(one.is_like(other) for one, other in zip(stated, rows, strict=True)):
        return []
    return [f"{ROWS_NAME} differs from what the prediction files give: run medmnist-hf submit push again"]


def _places(row: Row, others: Iterable[Row]) -> Iterable[Place]:
    result = row.result()
    for name in (name for name, rules in protocols().items() if rules.admits(result)):
        board = leaderboard(row.subset, name, entries=[*(other.result() for other in others), result])
        line = next((line for line in board.ranked if line.result is result), None)
        auc, acc = (None, None) if line is None else (line.auc_rank, line.acc_rank)
        yield Place(name, auc, acc, len(board.ranked))
