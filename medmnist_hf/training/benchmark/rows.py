"""A board of a benchmark and its rows: configurations that were run, and published results."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medmnist_hf.catalog import Subset
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.benchmark.links import Link


@dataclass(frozen=True, slots=True)
class BoardScore:
    """AUC or ACC of a configuration, 0 to 1; unknown values are nan.

    Attributes:
        mean: Mean over the seeds.
        std: Sample standard deviation over the seeds; nan for one seed.
        low: Lower end of the 95 % interval, see the module docstring.
        high: Upper end of the interval.
        method: Method of the seeds' intervals, see `medmnist_hf.scoring.intervals`; empty without intervals.
    """

    mean: float
    std: float = math.nan
    low: float = math.nan
    high: float = math.nan
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a board: a configuration, or a published result, for which only scores and size are known.

    Attributes:
        place: Place by test AUC among the published rows of its protocol and this one, see
            `medmnist_hf.leaderboard.board`. None if the AUC is unknown, the protocol has no published results, the
            data is not verified or the run is partial.
        places: Number of results that are ranked, this one included; 0 without a place.
        ranked_in: Name of the protocol of the leaderboard in which it is ranked; empty for few labels.
        own: Whether this is a configuration, not a published result.
        chosen: Whether `best_on_validation` selects this row on its board.
        model: Name of the model; for a published result, the method as published.
        method: Name of the method.
        size: Size of the images that were read, in pixels or voxels.
        protocol: Short description of the rest of the recipe, see `protocol`.
        seeds: The seeds.
        partial: Seeds without a complete result: their search was interrupted, or they were not run.
        test_rows: Number of rows of the test split; None for a published result.
        validation_auc: AUC on validation.
        validation_acc: ACC on validation.
        select: The measure by which epochs and seeds were selected.
        selected: Mean of its values on validation, higher is better, see `selection_score`.
        auc: AUC on test.
        acc: ACC on test.
        parameters: Number of parameters of the model; None if unknown.
        trained_parameters: Number of trained parameters; None if unknown.
        seconds: Mean time per seed; nan if unknown.
        hardware: Hardware that the seeds ran on.
        folder: Folder of the run, relative to the folder that was read; for several runs all, in the order of seeds.
        links: Links to the files of each run, its folder first, relative to the folder that was read.
    """

    place: int | None = None
    places: int = 0
    ranked_in: str = ""
    own: bool
    chosen: bool = False
    model: str
    method: str = ""
    size: int
    protocol: str = ""
    seeds: tuple[int, ...] = ()
    partial: tuple[int, ...] = ()
    test_rows: int | None = None
    validation_auc: BoardScore = BoardScore(math.nan)
    validation_acc: BoardScore = BoardScore(math.nan)
    select: str = "auc"
    selected: float = -math.inf
    auc: BoardScore
    acc: BoardScore
    parameters: int | None = None
    trained_parameters: int | None = None
    seconds: float = math.nan
    hardware: str = ""
    folder: str = ""
    links: tuple[tuple[Link, ...], ...] = ()

    @property
    def comparable(self) -> tuple[str, int]:
        """Protocol and size of the leaderboard in which it is ranked; equal for rows that may be compared."""
        return (self.ranked_in, self.size) if self.ranked_in else ("", 0)


@dataclass(frozen=True, slots=True)
class Board:
    """Configurations and published results of one subset, on data of one provenance and with equally many labels.

    Attributes:
        subset: The subset.
        provenance: Provenance of the data of the runs.
        labels: The labels that the runs used, such as ``fraction 0.01``; empty for all.
        rows: Configurations and, on verified data and all labels, published results of their protocols by falling
            test AUC, partial ones last.
        chosen: The configuration that `best_on_validation` selects; None if none is complete, or if runs of the same
            size read different files.
        tried: Number of configurations; smaller than the number of own rows if runs of a configuration are separate.
        alike: Whether runs of the same size read the same file; otherwise their scores cannot be compared.
        notes: Notes to read before comparing.
    """

    subset: Subset
    provenance: Provenance
    labels: str
    rows: tuple[Row, ...]
    chosen: Row | None
    tried: int
    alike: bool
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the subset with the labels used, preceded by the banner of unverified or synthetic data."""
        few = f" ({self.labels})" if self.labels else ""
        return self.provenance.mark(self.subset.python_class + few)

    @property
    def own(self) -> tuple[Row, ...]:
        """The configurations, by place."""
        return tuple(row for row in self.rows if row.own)

    @property
    def published(self) -> tuple[Row, ...]:
        """The published results, by place; may be empty."""
        return tuple(row for row in self.rows if not row.own)


def best_on_validation(rows: Sequence[Row]) -> Row | None:
    """Select the configuration with the best validation AUC, then ACC; ties go to the first.

    If all configurations selected their epochs by the same measure, it comes before AUC. The loss does not, because
    its values depend on options such as label smoothing. Configurations that were scored on test take precedence over
    those that were not. Partial ones are never selected, because resuming their search may change them.
    """
    measures = {row.select for row in rows}
    is_common = len(measures) == 1 and "loss" not in measures

    def key(row: Row) -> tuple[float, ...]:
        scores = (-1.0 if math.isnan(score.mean) else score.mean for score in (row.validation_auc, row.validation_acc))
        return float(not math.isnan(row.auc.mean)), row.selected if is_common else 0.0, *scores

    return max((row for row in rows if not row.partial), key=key, default=None)
