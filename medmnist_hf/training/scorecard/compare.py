"""Compare score cards on the same test rows: each further card with the first, protocol by protocol.

AUCs of a subset are compared by DeLong's test, means over subsets by the paired bootstrap. Means over seeds are
compared on the seeds that both cards have. p values are adjusted by Holm's method: those of all AUCs of all subsets,
protocols and cards are one family, those of all means another.
"""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import numpy as np

from medmnist_hf.errors import ScoreError, TrainingError, cannot_read
from medmnist_hf.files import read_document
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.bootstrap import bootstrap_mean_compare
from medmnist_hf.scoring.confidence import Comparison, holm
from medmnist_hf.scoring.delong import delong_compare_means
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import Predictions
from medmnist_hf.training.results import HEADLINE, Score
from medmnist_hf.training.scorecard.card import CARD_NAME, ProtocolResult, ScoreCard, SubsetResult
from medmnist_hf.training.scorecard.gather import predictions_on_test
from medmnist_hf.training.scorecard.tasks import read_labels
from medmnist_hf.typed_json import Bounds, Count, Name, Share, encode

COMPARISON_NAME: Final = "comparison.json"

_FORMAT: Final = 1
_Difference = Annotated[float, Bounds(-1, 1)]


@dataclass(frozen=True, slots=True)
class Difference:
    """A score of the first card and of another one, and their difference, first minus other.

    Attributes:
        protocol: Name of the protocol.
        measure: ``auc`` or ``acc``.
        subsets: The subset, or those of a mean.
        provenance: Provenance of their data.
        seeds: Number of seeds that both were averaged over, the largest of the subsets.
        first: Score of the first card.
        other: Score of the other card.
        difference: The difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: p value of the hypothesis that it is 0.
        adjusted: p value adjusted by Holm's method for all tests of its family.
    """

    protocol: Name
    measure: Name
    subsets: tuple[Name, ...]
    provenance: Provenance
    seeds: Count
    first: Score
    other: Score
    difference: _Difference
    low: _Difference
    high: _Difference
    p: Share
    adjusted: Share


@dataclass(frozen=True, slots=True)
class CardPair:
    """The first card compared with another one.

    Attributes:
        other: Name of the other card.
        protocols: Protocols that both have, with equal definitions.
        subsets: Subsets that both have.
        apart: What only one of them has, or both with different definitions; a sentence each.
        differences: AUC of each shared subset and protocol.
        means: Mean AUC and ACC of each shared protocol over the shared subsets, if these are two or more and their
            data has one provenance.
    """

    other: Name
    protocols: tuple[Name, ...]
    subsets: tuple[Name, ...]
    apart: tuple[str, ...]
    differences: tuple[Difference, ...]
    means: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class CardComparison:
    """Score cards side by side.

    Attributes:
        names: Names of the cards: their models, with the folder where models are equal.
        cards: The cards.
        pairs: The first card compared with each other one.
    """

    names: tuple[Name, ...]
    cards: tuple[ScoreCard, ...]
    pairs: tuple[CardPair, ...]

    def to_json(self) -> str:
        """The text of ``comparison.json``: names and pairs, without the cards."""
        values = {"format": _FORMAT, "cards": list(self.names), "pairs": encode(self.pairs)}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def read_card(folder: Path) -> ScoreCard:
    """Read the card of a folder.

    Raises:
        TrainingError: The folder has none, or it is damaged.
    """
    path = folder / CARD_NAME
    try:
        return ScoreCard.from_json(read_document(path), str(path))
    except OSError as error:
        raise TrainingError(cannot_read(path, error, "name folders of medmnist-hf scorecard")) from None


def compare_cards(folders: Sequence[Path]) -> CardComparison:
    """Compare score cards.

    Args:
        folders: Two or more folders of cards.

    Raises:
        TrainingError: There are fewer than two, one has no card, or they share no subset or no protocol.
        ScoreError: The cards are of different data or sizes.
        MedMNISTError: Predictions or labels are missing or damaged.
    """
    if len(folders) < 2:
        raise TrainingError("a comparison needs two score cards: medmnist-hf scorecard compare FOLDER FOLDER")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise TrainingError("the same score card is named twice: name each folder once")
    cards = [read_card(folder) for folder in folders]
    for folder, card in zip(folders[1:], cards[1:], strict=True):
        _check_data(folders[0], cards[0], folder, card)
    names = [
        card.model if [each.model for each in cards].count(card.model) == 1 else f"{card.model} ({folder})"
        for folder, card in zip(folders, cards, strict=True)
    ]
    pairs = [
        _pair(folders[0], cards[0], folder, card, name)
        for folder, card, name in zip(folders[1:], cards[1:], names[1:], strict=True)
    ]
    pairs = _adjusted(pairs)
    return CardComparison(tuple(names), tuple(cards), tuple(pairs))


def _scored(card: ScoreCard) -> dict[str, SubsetResult]:
    return {part.subset: part for part in card.subsets if part.results}


def _check_data(first: Path, card: ScoreCard, folder: Path, other: ScoreCard) -> None:
    """Check that shared subsets are the same rows."""
    shared = _scored(card).keys() & _scored(other).keys()
    if not shared:
        raise TrainingError(f"{first} and {folder} share no subset with results: compare cards of the same subsets")
    for flag in sorted(shared):
        own, its = _scored(card)[flag], _scored(other)[flag]
        if own.size != its.size:
            raise ScoreError(
                f"{first} is of {flag} at size {own.size}, {folder} at size {its.size}: compare cards of one size"
            )
        assert own.data is not None and its.data is not None
        same = own.data.identity == its.data.identity
        if not same or not np.array_equal(read_labels(first, flag, own.size), read_labels(folder, flag, its.size)):
            raise ScoreError(f"{first} and {folder} read different data of {flag}: compare cards of the same data")


def _pair(first: Path, card: ScoreCard, folder: Path, other: ScoreCard, name: str) -> CardPair:
    own, its = _scored(card), _scored(other)
    subsets = [flag for flag in own if flag in its]
    found: dict[str, list[_Shared]] = {}
    apart = [f"only one of them has {flag}" for flag in (own | its) if flag not in subsets]
    for protocol in dict.fromkeys((*card.protocols, *other.protocols)):
        for flag in subsets:
            one, two = own[flag].result(protocol), its[flag].result(protocol)
            if one is None or two is None:
                if one or two:
                    apart.append(f"only one of them has {protocol} on {flag}")
            elif one.definition != two.definition:
                apart.append(f"{protocol} differs on {flag}: {one.definition}; {two.definition}")
            elif not set(one.seeds) & set(two.seeds):
                apart.append(f"{protocol} has no common seed on {flag}")
            else:
                parts = _Part(first, own[flag], one), _Part(folder, its[flag], two)
                found.setdefault(protocol, []).append(_shared(*parts))
    if not found:
        raise TrainingError(f"{first} and {folder} share no protocol: compare cards of one preset")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        differences = [
            _difference(protocol, "auc", [part], delong_compare_means(part.first, part.other)["auc"])
            for protocol, parts in found.items()
            for part in parts
        ]
        several = {protocol: parts for protocol, parts in found.items() if len(parts) > 1}
        mixed = [protocol for protocol, parts in several.items() if len({part.provenance for part in parts}) > 1]
        means = [
            each for protocol, parts in several.items() if protocol not in mixed for each in _means(protocol, parts)
        ]
    if mixed:
        apart.append(f"means of {', '.join(mixed)}, as data of different provenance is not averaged")
    return CardPair(name, tuple(found), tuple(subsets), tuple(apart), tuple(differences), tuple(means))


@dataclass(frozen=True, slots=True)
class _Part:
    """The result of a card on a subset, and the folder of the card."""

    folder: Path
    subset: SubsetResult
    result: ProtocolResult


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """Predictions of a subset's test rows by both cards, of the same seeds."""

    subset: str
    provenance: Provenance
    first: list[Predictions]
    other: list[Predictions]


def _shared(first: _Part, other: _Part) -> _Shared:
    """The predictions of both cards for their common seeds."""
    mine, theirs = (predictions_on_test(part.folder, part.subset, part.result) for part in (first, other))
    seeds = [seed for seed in mine if seed in theirs]
    part = first.subset
    return _Shared(part.subset, part.provenance, [mine[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def _means(protocol: str, parts: Sequence[_Shared]) -> list[Difference]:
    found = bootstrap_mean_compare(
        {part.subset: part.first for part in parts}, {part.subset: part.other for part in parts}, HEADLINE
    )
    return [_difference(protocol, measure, parts, found[measure]) for measure in HEADLINE]


def _difference(protocol: str, measure: str, parts: Sequence[_Shared], found: Comparison) -> Difference:
    return Difference(
        protocol,
        measure,
        tuple(part.subset for part in parts),
        parts[0].provenance,
        max(len(part.first) for part in parts),
        found.first,
        found.second,
        found.difference.estimate,
        found.difference.low,
        found.difference.high,
        found.p,
        math.nan,
    )


def _adjusted(pairs: Sequence[CardPair]) -> list[CardPair]:
    """Adjust all p values of AUCs as one family, and all p values of means as another."""
    families: tuple[Callable[[CardPair], tuple[Difference, ...]], ...] = (
        lambda pair: pair.differences,
        lambda pair: pair.means,
    )
    rows, means = (iter(holm([each.p for pair in pairs for each in family(pair)])) for family in families)
    return [
        replace(
            pair,
            differences=tuple(replace(each, adjusted=next(rows)) for each in pair.differences),
            means=tuple(replace(each, adjusted=next(means)) for each in pair.means),
        )
        for pair in pairs
    ]
