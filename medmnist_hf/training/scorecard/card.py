"""A score card as typed records and as JSON: what each protocol scored on each subset, and the means over subsets."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Final

from medmnist_hf.embeddings.manifest import InputRecord, ModelRecord
from medmnist_hf.errors import TrainingError
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.results import DataRecord, Rank, Score
from medmnist_hf.typed_json import Bounds, Count, FileName, Name, Sentence, decode_versioned, encode

CARD_NAME: Final = "scorecard.json"

LINEAR_PROBE: Final = "linear-probe"
"""The protocol that stands for a model where there can be one result only."""

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score and its 95 % interval; values that are unknown are nan.

    Attributes:
        value: The score, or the mean over seeds.
        low: Lower end of the interval.
        high: Upper end.
        interval: What the interval is of, and its method.
    """

    value: Score
    low: Score
    high: Score
    interval: str


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """What one protocol scored on the test split of one subset.

    Attributes:
        protocol: Name of the protocol.
        definition: Options of the protocol, without seeds.
        labels: The labels it learned from, e.g. ``shots 5``; empty for all of train.
        seeds: Its seeds; on few labels, each has its own train rows.
        train_rows: Number of train rows of each seed; 0 if it does not learn from labels.
        auc: AUC.
        acc: ACC.
        ece: Expected calibration error, mean over the seeds.
        brier: Brier score, mean over the seeds.
        rank: Ranks among published results of the same protocol; None if there are none.
        rank_note: The protocol that it is ranked in, see `medmnist_hf.leaderboard.protocols`, or why it has no rank.
        seconds: Time of all seeds, in seconds.
        folder: Folder of the run within that of the card.
    """

    protocol: Name
    definition: Sentence
    labels: str
    seeds: tuple[Count, ...]
    train_rows: tuple[Count, ...]
    auc: Estimate
    acc: Estimate
    ece: Score
    brier: Score
    rank: Rank | None
    rank_note: str
    seconds: Annotated[float, Bounds(0, 1e12)]
    folder: FileName


@dataclass(frozen=True, slots=True)
class Missing:
    """A protocol without a result.

    Attributes:
        protocol: Name of the protocol.
        state: State of its run, or ``left out``.
        reason: Why; may be empty.
    """

    protocol: Name
    state: Name
    reason: str


@dataclass(frozen=True, slots=True)
class SubsetResult:
    """Results on one subset.

    Attributes:
        subset: Its flag.
        size: Size of its images in pixels or voxels.
        repository: Repository of the data set on the Hub, as ``user/name``.
        data: The data that was read; None without a result.
        model: The model with the digest of its weights, which for volumes are converted; None without stored features.
        read: What the model read, likewise.
        results: Results, in the order of the protocols.
        missing: Protocols without a result.
    """

    subset: Name
    size: Count
    repository: Name
    data: DataRecord | None
    model: ModelRecord | None
    read: InputRecord | None
    results: tuple[ProtocolResult, ...]
    missing: tuple[Missing, ...]

    @property
    def provenance(self) -> Provenance:
        """Provenance of the data; unverified without a result."""
        return Provenance.UNVERIFIED if self.data is None else self.data.provenance

    def result(self, protocol: str) -> ProtocolResult | None:
        """The result of a protocol, if there is one."""
        return next((each for each in self.results if each.protocol == protocol), None)


@dataclass(frozen=True, slots=True)
class MeanResult:
    """The mean of a protocol over subsets; its interval is that of the test rows within these subsets.

    Attributes:
        protocol: Name of the protocol.
        subsets: Flags of the subsets that it has a result on.
        auc: Mean AUC.
        acc: Mean ACC.
    """

    protocol: Name
    subsets: tuple[Name, ...]
    auc: Estimate
    acc: Estimate


@dataclass(frozen=True, slots=True)
class ScoreCard:
    """A score card.

    Attributes:
        model: Name of the model in a recipe, without the path of a local one.
        preset: Name of the preset.
        protocols: Names of all protocols, in order.
        subsets: Results of each subset.
        means: Means over subsets, of protocols with results on two subsets or more.
        releases: Library -> version or versions of the runs.
        hardware: What the runs ran on.
    """

    model: Name
    preset: Name
    protocols: tuple[Name, ...]
    subsets: tuple[SubsetResult, ...]
    means: tuple[MeanResult, ...] = ()
    releases: dict[str, str] = field(default_factory=dict)
    hardware: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether each protocol that applies has a result."""
        return all(each.state == LEFT_OUT for subset in self.subsets for each in subset.missing)

    def to_json(self) -> str:
        """The text of ``scorecard.json``."""
        return json.dumps({"format": _FORMAT} | encode(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "ScoreCard":
        """Read a ``scorecard.json``.

        Args:
            text: Content of the file; bytes are UTF-8.
            where: Name of the file in an error message.

        Raises:
            TrainingError: The file is damaged.
        """
        try:
            card: ScoreCard = decode_versioned(text, cls, _FORMAT)
        except ValueError as error:
            raise TrainingError(
                f"{where} is not a score card ({error}): write it again with medmnist-hf scorecard --report-only"
            ) from None
        return card


LEFT_OUT: Final = "left out"
"""State of a protocol that does not apply to a subset."""
