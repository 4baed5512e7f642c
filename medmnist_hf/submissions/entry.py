"""The description of an entry, ``entry.yaml``: how its predictions were made, and the scores that it claims.

Example:
    >>> from medmnist_hf.submissions.entry import claimed
    >>> claimed(auc=[0.90, 0.92], acc=[0.80, 0.84])
    {'auc': 0.91, 'auc_std': 0.0141, 'acc': 0.82, 'acc_std': 0.0283}
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from medmnist_hf import catalog
from medmnist_hf.documents import parse_yaml
from medmnist_hf.errors import CatalogError, ScoreError, shorten
from medmnist_hf.hub.eval_results import to_yaml
from medmnist_hf.leaderboard.protocols import Setting, protocols_of
from medmnist_hf.leaderboard.results import UNKNOWN, Adaptation, Labels, SelectedOn
from medmnist_hf.typed_json import Bounds, Name, OneOf, Pattern, Share, attributes, decode

ENTRY_NAME: Final = "entry.yaml"
"""File with the description of an entry."""

MOST_SEEDS: Final = 100
"""Largest number of trainings of an entry."""

DECIMALS: Final = 4
"""Decimals of the scores that are written into a new entry."""

# Texts in a public table hold nothing that Markdown or HTML would take for a mark.
Text = Annotated[str, Pattern(r"[^<>|`\\\[\]]{1,120}", r"1 to 120 characters without < > | ` \ [ ]")]
# An address whose host is what it seems: no user name before it, no letters that look like others.
Url = Annotated[
    str,
    Pattern(
        r"(?a)(https:/{2}[\w.-]{1,100}(:\d{1,5})?([/?#][\w./?#:@%=&~+,;!-]{0,200})?)?", "an https:// address, or empty"
    ),
]
Note = Annotated[str, Pattern(r"[^<>|`\\\[\]]{0,500}", r"up to 500 characters without < > | ` \ [ ]")]
Resize = Annotated[str, OneOf("none", "nearest", "bilinear", "bicubic", "pad", "other", "unknown")]


@dataclass(frozen=True, slots=True)
class Claim:
    """The scores that an entry claims on one subset.

    Attributes:
        auc: Test AUC, 0 to 1; the mean over seeds.
        acc: Test ACC, likewise.
        auc_std: Standard deviation of the AUC over seeds (N - 1); nan for one seed.
        acc_std: Standard deviation of the ACC, likewise.
        md5: MD5 of the official NPZ file that was predicted, 32 hex digits; empty if it is not stated.
    """

    auc: Share
    acc: Share
    auc_std: Share
    acc_std: Share
    md5: Annotated[str, Pattern("|[0-9a-f]{32}", "32 hex digits, or empty")]


@dataclass(frozen=True, slots=True)
class Entry:
    """How the predictions of an entry were made; attributes without a description are those of `Result`.

    Attributes:
        method: Name of the configuration.
        size: Size of the files.
        image_size: Edge length of the network's input.
        resize: How images are brought to that size: ``none``, ``nearest``, ``bilinear``, ``bicubic``, ``pad``,
            ``other`` or ``unknown``.
        pretraining: Data of the pretraining, or ``none``.
        adaptation: What was trained; it must be known, as it decides the protocol.
        labels: Labels of the train split that were used.
        selected_on: Split on which epoch, seed or configuration was chosen.
        seeds: Number of trainings, with a folder each.
        release: Release of the official files.
        url: Where the code or the paper is; may be empty.
        note: What to know before comparing; may be empty.
        results: Flag of each subset -> the scores that are claimed on it.

    Raises:
        ValueError: Values contradict each other, or a text holds characters that are not shown.
    """

    method: Text
    size: Annotated[int, Bounds(1)]
    image_size: Annotated[int, Bounds(1, 4096)]
    resize: Resize
    pretraining: Text
    adaptation: Adaptation
    labels: Labels
    selected_on: Annotated[str, OneOf(*SelectedOn)]
    seeds: Annotated[int, Bounds(1, MOST_SEEDS)]
    release: Name
    url: Url
    note: Note
    results: dict[str, Claim]

    def __post_init__(self) -> None:
        for name in ("method", "pretraining", "note"):
            text = getattr(self, name)
            if not text.isprintable() or text != text.strip():
                raise ValueError(f"{name} begins or ends with a space, or holds characters that are not shown")
            if name != "note" and not any(each.isalnum() for each in text):
                raise ValueError(f"{name} has no letter and no digit")
        for name in ("pretraining", "adaptation"):
            if getattr(self, name) == UNKNOWN:
                raise ValueError(f"{name} is unknown, but decides which results an entry is compared with: find out")
        if not self.results:
            raise ValueError("results is empty: name a subset and its scores")
        for flag, claim in self.results.items():
            self._check_claim(flag, claim)
        if self.labels == "few" and not self.note:
            raise ValueError("labels is few and note is empty: say in note how many labels were used")
        if (self.resize == "none") != (self.image_size == self.size):
            raise ValueError(
                f"size is {self.size}, image_size {self.image_size} and resize {self.resize}: resize is none exactly "
                "if both sizes are equal"
            )
        if not protocols_of(self.setting):
            raise ValueError(
                f"size {self.size}, pretraining {self.pretraining}, adaptation {self.adaptation} and labels "
                f"{self.labels} belong to no protocol: correct them"
            )

    def _check_claim(self, flag: str, claim: Claim) -> None:
        where = f"results.{flag}"
        try:
            entry = catalog.subset(flag)
            entry.file(self.size)
        except CatalogError as error:
            raise ValueError(f"results: {error}") from None
        if entry.flag != flag:
            raise ValueError(f"results names {flag}: write {entry.flag}")
        if math.isnan(claim.auc + claim.acc):
            raise ValueError(f"{where} needs numbers for auc and acc")
        if math.isnan(claim.auc_std + claim.acc_std) is (self.seeds > 1):
            need = "auc_std and acc_std, as there are several seeds" if self.seeds > 1 else "no auc_std and acc_std"
            raise ValueError(f"{where} needs {need}")

    @property
    def setting(self) -> Setting:
        """What decides which protocols it belongs to."""
        return Setting(self.size, self.pretraining, self.adaptation, self.labels)


LEFT_OUT: Final = {"url": "", "note": ""}
"""Keys that may be left out, with their values."""

_CLAIM_LEFT_OUT: Final = {"auc_std": None, "acc_std": None, "md5": ""}

_ABOUT: Final = {
    "method": "name of the configuration, as the table shows it",
    "size": "size of the files that were read",
    "image_size": "edge length of the network's input",
    "resize": "how images were brought to it: none, nearest, bilinear, bicubic, pad, other or unknown",
    "pretraining": "data or name of the pretrained weights, or none",
    "adaptation": "scratch, full, partial, lora, linear-probe, knn, frozen, zero-shot or private",
    "labels": "labels of the train split that were used: all, few (say in note how many) or none",
    "selected_on": "split on which epoch, seed or configuration was chosen: validation, test or unknown",
    "seeds": "number of trainings; each has a folder, seed-0, seed-1, ...",
    "release": "release of the official files",
    "url": "where the code or the paper is, https://...",
    "note": "what to know before comparing",
    "results": "subset -> auc and acc, means over seeds; auc_std and acc_std (N - 1) of several seeds; md5 of the\n"
    "# official NPZ file if it is known",
}
"""Key of an entry -> what stands above it in a new file."""


def parse_entry(text: str | bytes, where: str = ENTRY_NAME) -> Entry:
    """Parse the text of an ``entry.yaml``.

    Args:
        text: The text; bytes are UTF-8.
        where: Name of the file in an error message.

    Raises:
        ScoreError: It is not valid; the message names what is wrong and, for an unknown key, the known ones.
    """
    try:
        table = parse_yaml(text.decode() if isinstance(text, bytes) else text, unique_keys=True)
        _check_keys(table, Entry, "")
        claims = table.get("results")
        if isinstance(claims, dict):
            for flag, claim in claims.items():
                _check_keys(claim, Claim, f" in results.{flag}")
            claims = {str(flag): _CLAIM_LEFT_OUT | claim for flag, claim in claims.items()}
        entry: Entry = decode(LEFT_OUT | table | {"results": claims}, Entry)
    except UnicodeDecodeError:
        raise ScoreError(f"{where} is not UTF-8 text") from None
    except ValueError as error:
        raise ScoreError(f"{where} is not valid: {error}") from None
    return entry


def _check_keys(table: Any, kind: type, where: str) -> None:
    names = attributes(kind)
    if not isinstance(table, dict):
        raise ValueError(f"{shorten(table)}{where} is not a table of keys and values: the keys are {', '.join(names)}")
    unknown = [key for key in table if key not in names]
    if unknown:
        listed = ", ".join(map(shorten, unknown[:5]))
        raise ValueError(f"unknown key {listed}{where}: the keys are {', '.join(names)}")


def entry_text(values: Mapping[str, Any]) -> str:
    """The text of an ``entry.yaml`` with a comment on each key.

    Args:
        values: Attributes of an entry; ``results`` holds a dictionary per subset. Missing ones are left empty, to be
            filled in.
    """
    lines = ["# An entry of a MedMNIST leaderboard; `medmnist-hf submit check` names what is missing."]
    for name, about in _ABOUT.items():
        lines += [f"# {about}", to_yaml({name: values.get(name, "")}).rstrip()]
    return "\n".join(lines) + "\n"


def claimed(auc: Sequence[float], acc: Sequence[float]) -> dict[str, float]:
    """The values of `Claim` for the scores of the seeds, rounded, without standard deviations for one seed."""
    values: dict[str, float] = {}
    for name, scores in (("auc", auc), ("acc", acc)):
        mean, std = mean_and_std(scores)
        values[name] = round(mean, DECIMALS)
        if not math.isnan(std):
            values[f"{name}_std"] = round(std, DECIMALS)
    return values


def mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (N - 1) of some values; the latter is nan for one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan
