"""A board as a drawing: the AUC of every row with its interval, as SVG to stand within a page.

Colors are those of the page's style sheet, by class, so that the drawing is light or dark as the page is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from medmnist_hf.training.benchmark.boards import Board, Row
from medmnist_hf.training.benchmark.markup import render
from medmnist_hf.training.benchmark.tables import digits, facets_of

_WIDTH: Final = 1000
_NAMES: Final = 360
"""Names are left of this, and clipped there."""
_LEFT, _RIGHT = 385, 815
"""Ends of the axis."""
_NUMBERS: Final = 835
"""Numbers are right of this, where no mark is."""
_ROW: Final = 24
_TOP: Final = 4
_AXIS: Final = 26
_LONGEST: Final = 44
_STEPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_TICKS: Final = 7


@dataclass(frozen=True, slots=True)
class _Mark:
    """A row as it is drawn.

    Attributes:
        kind: ``own``, ``chosen`` or ``published``.
        middle: y of its marks.
        name: Its name as far as there is room.
        whole_name: Its name and, of an own row, its protocol and the folder of its run.
        auc: The AUC to three decimals.
        range: The ends of the interval; empty where they are not known.
        x: x of the AUC.
        interval: x of the ends.
        facets: See `medmnist_hf.training.benchmark.tables.facets_of`.
    """

    kind: str
    middle: int
    name: str
    whole_name: str
    auc: str
    range: str
    x: float
    interval: tuple[float, float] | None
    facets: tuple[tuple[str, str], ...]


def forest(board: Board) -> Markup:
    """One ``<svg>`` element: for each row its name, its mark over a common axis, and its numbers, best first.

    Args:
        board: What is drawn: rows whose test AUC is known; without any the text is empty. Own rows have a disc on
            their interval, the chosen one with a ring, published ones a square; a dashed line is at the best of them.
    """
    rows = [row for row in board.rows if not math.isnan(row.auc.mean)]
    if not rows:
        return Markup()
    ticks, decimals = _ticks(rows)
    best = max((row.auc.mean for row in rows if not row.own), default=None)
    return render(
        "forest.svg.j2",
        name=board.name,
        banner=board.provenance.banner,
        marks=[_mark(row, _TOP + _ROW * at + _ROW // 2, ticks) for at, row in enumerate(rows)],
        best=None if best is None else _x(best, ticks),
        ticks=[{"x": _x(tick, ticks), "text": f"{tick:.{decimals}f}"} for tick in ticks],
        bottom=_TOP + _ROW * len(rows),
        axis=_AXIS,
        row=_ROW,
        names=_NAMES,
        numbers=_NUMBERS,
        width=_WIDTH,
    )


def _mark(row: Row, middle: int, ticks: Sequence[float]) -> _Mark:
    name = f"{row.model} {row.method}, {row.size}" if row.own else row.model
    known = not math.isnan(row.auc.low)
    return _Mark(
        "chosen" if row.chosen else "own" if row.own else "published",
        middle,
        name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…",
        f"{name}, {row.protocol} ({row.folder})" if row.own else name,
        digits(row.auc.mean),
        f"{digits(row.auc.low)} to {digits(row.auc.high)}" if known else "",
        _x(row.auc.mean, ticks),
        (_x(row.auc.low, ticks), _x(row.auc.high, ticks)) if known else None,
        facets_of(row),
    )


def _x(value: float, ticks: Sequence[float]) -> float:
    return round(_LEFT + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_RIGHT - _LEFT), 2)


def _ticks(rows: Sequence[Row]) -> tuple[list[float], int]:
    """Round numbers around all means and intervals, and the decimals that they have."""
    ends = [one for row in rows for one in (row.auc.mean, row.auc.low, row.auc.high) if not math.isnan(one)]
    for step in _STEPS:
        first, last = math.floor(min(ends) / step + 1e-9), math.ceil(max(ends) / step - 1e-9)
        if last - first < _MOST_TICKS:
            break
    first = min(first, last - 1)
    decimals = -math.floor(math.log10(step) + 1e-9)
    return [round(at * step, decimals) for at in range(first, last + 1)], decimals
