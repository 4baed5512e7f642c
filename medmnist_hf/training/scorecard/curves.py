"""Few-label curves of a subset: test AUC by the number of train rows, as points, as SVG, and whether they rise."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

from medmnist_hf.training.benchmark.tables import digits
from medmnist_hf.training.scorecard.card import LINEAR_PROBE, Estimate, ProtocolResult, SubsetResult
from medmnist_hf.training.scorecard.page import render

KINDS: Final = ("shots", "fraction")
"""Curves: few labels as rows of each class, and as a fraction of train; both end with all of train."""

_WIDTH, _HEIGHT = 360, 250
_LEFT, _RIGHT = 42, 346
_TOP, _BOTTOM = 24, 204
_NARROW: Final = 0.25
"""Range of AUC below which ticks are 0.05 apart."""
_LEAST: Final = 24.0
"""Least distance of two labels of the axis."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A point of a curve.

    Attributes:
        protocol: Name of its protocol.
        rows: Number of train rows, mean over the seeds.
        auc: Test AUC.
    """

    protocol: str
    rows: float
    auc: Estimate


def curve(part: SubsetResult, kind: str) -> list[CurvePoint]:
    """The points of a curve by ascending number of rows; empty without a result on few labels of this kind."""
    few = [result for result in part.results if result.labels.startswith(kind)]
    whole = part.result(LINEAR_PROBE)
    points = [_point(result) for result in (*few, *([whole] if whole and few else []))]
    return sorted((point for point in points if not math.isnan(point.auc.value)), key=lambda point: point.rows)


def falls(part: SubsetResult) -> Iterator[str]:
    """Describe where a curve falls although it has more labels, by more than the intervals of both points."""
    for kind in KINDS:
        points = curve(part, kind)
        for before, after in pairwise(points):
            if after.auc.high < before.auc.low:
                yield (
                    f"{part.subset}: AUC falls from {digits(before.auc.value)} ({before.protocol}) to "
                    f"{digits(after.auc.value)} ({after.protocol})"
                )


def draw_curves(part: SubsetResult) -> Markup:
    """Draw the curves of a subset as one ``<svg>`` element; empty if there is none with two points."""
    curves = {kind: points for kind in KINDS if len(points := curve(part, kind)) > 1}
    points = [point for each in curves.values() for point in each]
    if not points:
        return Markup()
    knn = part.result("knn")
    ends = [end for point in points for end in (point.auc.low, point.auc.value) if not math.isnan(end)]
    if knn and not math.isnan(knn.auc.value):
        ends.append(knn.auc.value)
    step = 0.05 if 1 - min(ends) < _NARROW else 0.1
    first = math.floor(min(ends) / step + 1e-9)
    ticks = [at * step for at in range(first, round(1 / step) + 1)]
    rows = sorted({point.rows for point in points})

    def x(value: float) -> float:
        low, high = math.log(rows[0]), math.log(rows[-1])
        return round(_LEFT + 12 + (math.log(value) - low) / (high - low or 1) * (_RIGHT - _LEFT - 24), 2)

    def y(value: float) -> float:
        return round(_BOTTOM - (value - ticks[0]) / (ticks[-1] - ticks[0] or 1) * (_BOTTOM - _TOP), 2)

    return render(
        "curves.svg.j2",
        name=part.subset,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_RIGHT,
        bottom=_BOTTOM,
        rows=[{"at": y(tick), "text": f"{tick:.2f}"} for tick in ticks],
        columns=[{"at": x(value), "text": f"{value:,.0f}"} for value in _spaced(rows, [x(value) for value in rows])],
        reference=y(knn.auc.value) if knn and not math.isnan(knn.auc.value) else None,
        banner=part.provenance.banner,
        curves=[
            {
                "kind": kind,
                "points": [
                    {
                        "x": x(point.rows),
                        "y": y(point.auc.value),
                        "low": y(_known(point.auc.low, point.auc.value)),
                        "high": y(_known(point.auc.high, point.auc.value)),
                        "about": f"{point.protocol}: {digits(point.auc.value)}",
                    }
                    for point in each
                ],
            }
            for kind, each in curves.items()
        ],
    )


def _point(result: ProtocolResult) -> CurvePoint:
    return CurvePoint(result.protocol, statistics.fmean(result.train_rows), result.auc)


def _known(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value


def _spaced(values: Sequence[float], places: Sequence[float]) -> list[float]:
    """The values whose labels fit side by side: the last one, and from the right those far enough from the next."""
    kept: list[tuple[float, float]] = []
    for value, place in zip(reversed(values), reversed(places), strict=True):
        if not kept or kept[-1][1] - place >= _LEAST:
            kept.append((value, place))
    return [value for value, _ in reversed(kept)]
