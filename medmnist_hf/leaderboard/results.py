"""Published results with what decides whether they may be compared: data, pretraining, training, and selection.

The figures of each source are in a file as it was read, named with its digest in ``sources.toml``.

Example:
    >>> from medmnist_hf.leaderboard.results import results
    >>> best = max(results("breastmnist"), key=lambda result: result.auc)
    >>> best.method, best.size, best.selected_on, best.auc, best.seeds
    ('swin_tiny_patch4_window7_224, last 60 % of the blocks', 224, 'validation', 0.9449, 10)
"""

import csv
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Annotated, Any, Final

from medmnist_hf.catalog import subset
from medmnist_hf.typed_json import Bounds, Name, OneOf, Share, decode

UNKNOWN: Final = "unknown"
"""Value of a text attribute that the source does not state."""

Adaptation = Annotated[
    str,
    OneOf("scratch", "full", "partial", "lora", "linear-probe", "knn", "frozen", "zero-shot", "private", UNKNOWN),
]
Labels = Annotated[str, OneOf("all", "few", "none")]


def is_pretrained(pretraining: str) -> str:
    """Whether a network with that pretraining is pretrained: ``yes``, ``no`` or ``unknown``."""
    return {"none": "no", UNKNOWN: UNKNOWN}.get(pretraining, "yes")


class SelectedOn(StrEnum):
    """Split on which epoch, seed or configuration of a result was chosen."""

    VALIDATION = "validation"
    TEST = "test"
    UNKNOWN = UNKNOWN


@dataclass(frozen=True, slots=True)
class Result:
    """A result on the test split of a subset, of one configuration.

    Attributes:
        method: Name of the configuration.
        subset: Flag of the subset.
        size: Size of the files, edge length in pixels or voxels.
        pretraining: Data of the pretraining, ``none`` or ``unknown``.
        adaptation: What was trained: ``scratch`` (all weights, from random ones), ``full`` (all, from pretrained
            ones), ``partial``, ``lora``, ``linear-probe``, ``knn``, ``frozen`` (another classifier on features),
            ``zero-shot``, ``private`` (with differential privacy) or ``unknown``.
        labels: Labels of the train split that were used: ``all``, ``few`` or ``none``.
        selected_on: ``validation``, ``test`` or ``unknown``.
        seeds: Number of trainings; 0 if unknown.
        auc: Mean test AUC, 0 to 1; nan if not published.
        auc_std: Standard deviation over seeds (N - 1); nan if not published or for one seed.
        acc: Mean test ACC by the official definition, 0 to 1; nan if not published or by another definition.
        acc_std: Standard deviation over seeds.
        test_rows: Number of rows of the test split.
        release: Release of the files, or ``unknown``.
        source: Key of the source in ``sources.toml``.
        locator: Where in the source.
        recomputed_by: Who computed the figures again from what; empty if nobody.
        note: What to know before comparing; may be empty.
    """

    method: Name
    subset: Name
    size: Annotated[int, Bounds(1)]
    pretraining: Name
    adaptation: Adaptation
    labels: Labels
    selected_on: Annotated[str, OneOf(*SelectedOn)]
    seeds: Annotated[int, Bounds(0)]
    auc: Share
    auc_std: Share
    acc: Share
    acc_std: Share
    test_rows: Annotated[int, Bounds(1)]
    release: Name
    source: Name
    locator: str
    recomputed_by: str
    note: str

    @property
    def pretrained(self) -> str:
        """Whether the weights were pretrained: ``yes``, ``no`` or ``unknown``."""
        return is_pretrained(self.pretraining)

    @property
    def is_clean(self) -> bool:
        """Whether it was selected on validation and nothing that decides its protocol is unknown."""
        return self.selected_on == SelectedOn.VALIDATION and UNKNOWN not in (self.pretraining, self.adaptation)


@dataclass(frozen=True, slots=True)
class Source:
    """Where results are from.

    Attributes:
        key: Its name in ``sources.toml``.
        title: What it is.
        url: Where it is published; empty for several places, which its rows name.
        locator: What was read there, with a digest where it is a file.
        file: The figures as they were read, a package and a path in it.
        sha256: SHA-256 of that file, 64 hex digits.
        recomputed_by: Who computed its figures again from what; empty if nobody.
    """

    key: str
    title: str
    url: str
    locator: str
    file: str
    sha256: str
    recomputed_by: str

    def read(self) -> bytes:
        """The bytes of the file of its figures."""
        package, _, path = self.file.partition("/")
        return resources.files(package).joinpath(path).read_bytes()


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("medmnist_hf.leaderboard").joinpath("sources.toml").read_text("utf-8"))


@cache
def sources() -> dict[str, Source]:
    """All sources by their key."""
    tables = {key: table for key, table in _tables().items() if isinstance(table, dict)}
    return {
        key: Source(key, **{name: value for name, value in table.items() if name != "rows"})
        for key, table in tables.items()
    }


@cache
def _results() -> tuple[Result, ...]:
    found = []
    for source in sources().values():
        rows = csv.DictReader(source.read().decode("utf-8").splitlines())
        found += [_result(source, {name: value for name, value in row.items() if value}) for row in rows]
    return tuple(found)


def _result(source: Source, row: dict[str, str]) -> Result:
    """One row of a source, with the values that hold for all of its rows or for its method."""
    defaults = {"labels": "all", "locator": source.locator, "recomputed_by": source.recomputed_by, "note": ""}
    values: dict[str, Any] = defaults | _tables()[source.key]["rows"] | _named(row)
    for table in _applicable("exceptions", source, values):
        values |= {name: value for name, value in table.items() if name in Result.__slots__ and name != "source"}
    notes = [values["note"]] + [table["text"] for table in _applicable("notes", source, values)]
    values["note"] = " ".join(f"{note[0].upper()}{note[1:].rstrip('.')}." for note in notes if note)
    values["test_rows"] = int(values.get("test_rows") or subset(values["subset"]).counts.test)
    for name in ("auc", "auc_std", "acc", "acc_std"):
        values[name] = float(values[name]) if name in values else None
    values |= {name: int(values.get(name, 0)) for name in ("size", "seeds")} | {"source": source.key}
    result: Result = decode({name: values[name] for name in Result.__slots__}, Result)
    return result


def _applicable(kind: str, source: Source, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The exceptions or notes of a source that hold for a row, by its method and subset."""
    return [
        table
        for table in _tables()[kind]
        if table["source"] == source.key
        and all(table.get(name, values[name]) == values[name] for name in ("method", "subset"))
    ]


def _named(row: dict[str, str]) -> dict[str, Any]:
    """A row under the names of `Result`."""
    if "strategy" not in row:
        return dict(row) | ({"locator": row["source"]} if "source" in row else {})
    kind, share, end = row["strategy"], row["unfrozen_percent"], row.get("unfrozen_from")
    adaptation, words = {
        "LP": ("linear-probe", "linear probe"),
        "full": ("full", "all weights"),
        "partial": ("partial", f"{'last' if end == 'end' else 'first'} {share} % of the blocks"),
    }[kind]
    means = {name: row[f"{name}_mean"] for name in ("auc", "acc") if f"{name}_mean" in row}
    return dict(row) | means | {"method": f"{row['backbone']}, {words}", "adaptation": adaptation}


def results(flag: str) -> tuple[Result, ...]:
    """The published results of one subset, by source, in its order.

    Args:
        flag: Flag of the subset, in any letter case.

    Raises:
        CatalogError: The flag is unknown.
    """
    name = subset(flag).flag
    return tuple(result for result in _results() if result.subset == name)
