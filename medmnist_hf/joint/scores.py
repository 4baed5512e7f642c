"""Score a joint model of several subsets: each subset by its own classes and official rules, then the mean.

Example:
    >>> import numpy as np
    >>> from medmnist_hf import JointLabels
    >>> from medmnist_hf.joint.scores import restrict
    >>> joint = JointLabels.of(["breastmnist", "pneumoniamnist"])
    >>> restrict(np.array([[0.1, 0.3, 0.2, 0.4]]), joint, 0).round(2).tolist()
    [[0.25, 0.75]]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medmnist_hf.array_types import Array, BoolArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import ScoreError
from medmnist_hf.joint.combine import joint_columns
from medmnist_hf.joint.labels import JointLabels
from medmnist_hf.scoring.inputs import plain
from medmnist_hf.scoring.official import Absent, Score, score
from medmnist_hf.scoring.predictions import check


@dataclass(frozen=True, slots=True, eq=False)
class SubsetPredictions:
    """The part of a joint model's predictions that belongs to one subset, as `write_predictions` takes it.

    Attributes:
        scores: Scores of the subset's own classes, shape ``(n, K)``.
        references: True labels within the subset: class ids, intp of shape ``(n,)``, or findings, bool of shape
            ``(n, K)``.
        rows: Positions of these rows in the data set, intp of shape ``(n,)``, ascending.
    """

    scores: Array
    references: IntArray | BoolArray
    rows: IntArray


@dataclass(frozen=True, slots=True)
class JointScore:
    """The official scores of each subset, and their mean.

    Attributes:
        scores: Flag of a subset -> its score.
        auc: Unweighted mean of the AUC over subsets, 0 to 1; nan if one is undefined.
        acc: Unweighted mean of the accuracy over subsets, 0 to 1.
    """

    scores: Mapping[str, Score]
    auc: float
    acc: float


def separate_predictions(
    scores: object, dataset: Any, *, from_logits: bool | None = None
) -> dict[str, SubsetPredictions]:
    """Separate the predictions of a joint model by subset, restricted to the classes of each.

    Args:
        scores: Shape ``(N, C)``, one column per global class: probabilities, or logits of any heads side by side.
        dataset: The rows of these scores, in order: a `datasets.Dataset` of `medmnist_hf.load_many`, also selected or
            shuffled.
        from_logits: As for `medmnist_hf.scoring.predictions.check`. By default, the probabilities of a single-label
            subset are divided by their sum over its own classes, and those of the multi-label task stay as they are.
            Logits are returned unchanged, since a softmax over the own classes does the same.

    Returns:
        Flag -> its part, in the order of the subsets; those without a row are left out.

    Raises:
        CatalogError: The data set has no column ``subset``.
        SourceError: It is not one split in memory, or its columns cannot be read.
        ScoreError: The scores have another shape.
    """
    joint = JointLabels.of(dataset)
    owners, hot = joint_columns(dataset, joint)
    table = np.asarray(plain(scores))
    if table.dtype.kind not in "biuf" or table.shape != (len(owners), joint.count):
        raise ScoreError(
            f"scores have shape {table.shape}, not {(len(owners), joint.count)}: "
            "pass one row per row of the data set and one column per class of all subsets"
        )
    separated = {}
    for number, entry in enumerate(joint.subsets):
        rows = np.flatnonzero(owners == number)
        if not rows.size:
            continue
        columns = joint.columns(entry.flag)
        own = hot[rows, columns]
        if hot[rows].sum() != own.sum():
            raise ScoreError(f"the data set has labels of other subsets in rows of {entry.flag}: load it again")
        references = own if entry.task is Task.MULTI_LABEL else own.argmax(axis=1)
        part = table[rows, columns] if from_logits is not None else restrict(table[rows], joint, number)
        separated[entry.flag] = SubsetPredictions(part, references, rows)
    return separated


def score_many(
    scores: object, dataset: Any, *, from_logits: bool | None = None, absent: Absent = "skip"
) -> JointScore:
    """Score a joint model: the official AUC and ACC of each subset, among its own classes, and their mean.

    Args:
        scores: As for `separate_predictions`.
        dataset: As for `separate_predictions`. For official scores, a whole split with each row once, as without
            ``balance="interleave"``.
        from_logits: As for `separate_predictions`.
        absent: As for `medmnist_hf.scoring.official.score`.

    Raises:
        CatalogError: The data set has no column ``subset``.
        SourceError: As for `separate_predictions`.
        ScoreError: The scores cannot be scored; the message names the subset.

    Warns:
        ScoreWarning: The AUC of a subset is nan.
    """
    joint = JointLabels.of(dataset)
    tasks = {entry.flag: entry.task for entry in joint.subsets}
    each = {}
    for flag, part in separate_predictions(scores, dataset, from_logits=from_logits).items():
        try:
            each[flag] = score(
                check(
                    part.references,
                    part.scores,
                    tasks[flag],
                    from_logits=from_logits,
                    num_classes=part.scores.shape[1],
                ),
                absent=absent,
            )
        except ScoreError as error:
            raise ScoreError(f"{flag}: {error}") from None
    return JointScore(
        each,
        float(np.mean([one.auc for one in each.values()])),
        float(np.mean([one.acc for one in each.values()])),
    )


def restrict(probabilities: Array, joint: JointLabels, number: int) -> Array:
    """The probabilities of one subset's own classes, which sum to 1 for a single-label subset.

    A row without any probability on them becomes uniform, since it does not distinguish them.

    Args:
        probabilities: Shape ``(N, C)``, a column per global class.
        joint: The subsets.
        number: Position of the subset.

    Returns:
        Shape ``(N, K)``.
    """
    entry = joint.subsets[number]
    own = probabilities[:, joint.columns(entry.flag)]
    if entry.task is Task.MULTI_LABEL or (own < 0).any():  # `check` refuses negative ones
        return own
    sums = own.sum(axis=1, keepdims=True, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(sums == 0, 1 / own.shape[1], own / sums)
    return np.asarray(shares, own.dtype if own.dtype.kind == "f" else np.float64)
