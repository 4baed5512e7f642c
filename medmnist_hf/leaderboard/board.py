"""The leaderboard of a subset under one protocol: ranks shared by significance, results selected on test apart.

Example:
    >>> from medmnist_hf.leaderboard.board import leaderboard
    >>> board = leaderboard("breastmnist", "224-pretrained")
    >>> board.ranked[0].name, board.ranked[0].auc_rank
    ('swin_tiny_patch4_window7_224, last 60 % of the blocks', 1)
    >>> [line.name for line in board.fenced]
    ['MedViTV2-L']
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from medmnist_hf.catalog import subset
from medmnist_hf.leaderboard.protocols import Protocol, protocol
from medmnist_hf.leaderboard.results import Result, SelectedOn, results
from medmnist_hf.leaderboard.uncertainty import acc_standard_error, auc_standard_error, with_seeds

SIGNIFICANT: Final = 2.0
"""Standard errors of a difference within which two results share a rank."""


@dataclass(frozen=True, slots=True)
class OwnResult:
    """A user's own result on the test split.

    Attributes:
        name: Its name.
        auc: AUC, 0 to 1.
        acc: ACC, 0 to 1.
        auc_error: Standard error of the AUC.
        acc_error: Standard error of the ACC.
    """

    name: str
    auc: float
    acc: float
    auc_error: float
    acc_error: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a leaderboard.

    Attributes:
        name: Name of the method, or of an own result.
        auc: AUC, 0 to 1; nan if not published.
        acc: ACC, 0 to 1, likewise.
        auc_error: Standard error of the AUC: of another test set of this size, and of the trainings where known.
        acc_error: Standard error of the ACC, likewise.
        auc_rank: Rank by AUC among the published results and this one; None for results that are not ranked.
        acc_rank: Rank by ACC, likewise.
        result: The published result; None for an own result.
    """

    name: str
    auc: float
    acc: float
    auc_error: float
    acc_error: float
    auc_rank: int | None = None
    acc_rank: int | None = None
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """The leaderboard of a subset under one protocol.

    Attributes:
        subset: Flag of the subset.
        protocol: The protocol.
        ranked: Published and own results that may be compared, best AUC first.
        fenced: Results that were selected on the test split, which are not ranked.
        left_out: Number of results left out for lack of facts, with ``clean``.
    """

    subset: str
    protocol: Protocol
    ranked: tuple[Line, ...]
    fenced: tuple[Line, ...]
    left_out: int


def leaderboard(
    flag: str,
    name: str,
    own: Iterable[OwnResult] = (),
    *,
    unranked: Iterable[OwnResult] = (),
    entries: Iterable[Result] = (),
    clean: bool = False,
    size: int | None = None,
) -> Board:
    """Rank the published results of a subset under one protocol, and own results among them.

    Two results share a rank if they differ by at most two standard errors of their difference, taken as if they were
    computed on different rows, which is more cautious than a paired test. An own result is ranked among the published
    ones only.

    Args:
        flag: Flag of the subset, in any letter case.
        name: Name of the protocol.
        own: Own results of the same protocol.
        unranked: Own results of another protocol, which are listed without ranks.
        entries: Further results, of any subset and protocol, which are treated like published ones.
        clean: Leave out results of which the split of the selection, the pretraining or the training is unknown.
        size: Only results on files of this size.

    Raises:
        CatalogError: The flag is unknown.
        ScoreError: The protocol is unknown.
    """
    rules = protocol(name)
    further = [each for each in entries if each.subset == subset(flag).flag]
    found = [each for each in (*results(flag), *further) if rules.admits(each) and size in (None, each.size)]
    fenced = [each for each in found if each.selected_on == SelectedOn.TEST]
    comparable = [each for each in found if each.selected_on != SelectedOn.TEST and (each.is_clean or not clean)]
    lines = [_line(each) for each in comparable]
    ranked = [_ranked(line, lines) for line in lines]
    if lines:
        ranked += [_ranked(line, [*lines, line]) for line in map(_own_line, own)]
    else:
        unranked = (*own, *unranked)
    ranked += map(_own_line, unranked)
    return Board(
        subset=subset(flag).flag,
        protocol=rules,
        ranked=tuple(sorted(ranked, key=lambda line: (_falling(line.auc), _falling(line.acc)))),
        fenced=tuple(sorted(map(_line, fenced), key=lambda line: (_falling(line.auc), _falling(line.acc)))),
        left_out=len(found) - len(fenced) - len(comparable),
    )


def _own_line(own: OwnResult) -> Line:
    return Line(own.name, own.auc, own.acc, own.auc_error, own.acc_error)


def _line(result: Result) -> Line:
    classes = len(subset(result.subset).labels)
    auc_error = auc_standard_error(result.auc, result.test_rows, classes)
    acc_error = acc_standard_error(result.acc, result.test_rows)
    return Line(
        result.method,
        result.auc,
        result.acc,
        with_seeds(auc_error, result.auc_std, result.seeds),
        with_seeds(acc_error, result.acc_std, result.seeds),
        result=result,
    )


def shared_ranks(values: Sequence[float], errors: Sequence[float]) -> list[int | None]:
    """Ranks, 1 for the largest value; a value within two standard errors of the first of a rank shares it.

    Args:
        values: Scores; nan for none.
        errors: Their standard errors; one that is nan shares a rank with equal values only.

    Returns:
        A rank per value: one more than the number of values above those that share it; None for nan.
    """
    order = sorted((index for index, value in enumerate(values) if not math.isnan(value)), key=lambda i: -values[i])
    ranks: list[int | None] = [None] * len(values)
    first, current = -1, 0
    for place, index in enumerate(order, start=1):
        difference, error = values[first] - values[index], math.hypot(errors[first], errors[index])
        if first < 0 or (difference > 0 and not difference <= SIGNIFICANT * error):
            first, current = index, place
        ranks[index] = current
    return ranks


def _ranked(line: Line, lines: Sequence[Line]) -> Line:
    place = next(index for index, other in enumerate(lines) if other is line)
    auc = shared_ranks([each.auc for each in lines], [each.auc_error for each in lines])[place]
    acc = shared_ranks([each.acc for each in lines], [each.acc_error for each in lines])[place]
    return Line(line.name, line.auc, line.acc, line.auc_error, line.acc_error, auc, acc, line.result)


def _falling(value: float) -> float:
    return math.inf if math.isnan(value) else -value
