"""Forest plot of a board: the AUC of every row with its interval, as SVG for embedding in a page.

Colors come from the page's style sheet, by class, so the plot follows the light or dark scheme of the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from medmnist_hf.training.benchmark.markup import render
from medmnist_hf.training.benchmark.rows import Board, Row
from medmnist_hf.training.benchmark.tables import digits, facets_of

_WIDTH: Final = 1000
_NAMES: Final = 360
"""Right edge of the names; longer names are clipped."""
_LEFT, _RIGHT = 385, 815
"""Ends of the axis."""
_NUMBERS: Final = 835
"""Left edge of the numbers, outside the range of the marks."""
_ROW: Final = 24
_TOP: Final = 4
_AXIS: Final = 26
_LONGEST: Final = 44
_STEPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_TICKS: Final = 7


@dataclass(frozen=True, slots=True)
class _Mark:
    """Coordinates and texts of a drawn row.

    Attributes:
        kind: ``own``, ``chosen`` or ``published``.
        middle: y of the row's marks.
        name: Name, shortened to the available width.
        whole_name: Full name; for an own row, with its protocol and the folder of its run.
        auc: The AUC to three decimals.
        range: The ends of the interval; empty if unknown.
        x: x of the AUC.
        interval: x of the ends of the interval; None if unknown.
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


def is_comparable(board: Board) -> bool:
    """Whether all rows of a board may be compared, so that the best published one is marked."""
    return len({row.comparable for row in board.rows}) == 1


def forest(board: Board) -> Markup:
    """Draw a board as one ``<svg>`` element: the name, mark and numbers of each row over a common axis, best first.

    Own rows are discs on their intervals, the chosen one with a ring; published rows are squares, with a dashed line
    at the best of them if all rows have one protocol.

    Args:
        board: The board. Rows without a test AUC are not drawn; the text is empty if none has one.
    """
    rows = [row for row in board.rows if not math.isnan(row.auc.mean)]
    if not rows:
        return Markup()
    ticks, decimals = _ticks(rows)
    published = [row for row in rows if not row.own]
    best = max((row.auc.mean for row in published), default=None) if is_comparable(board) else None
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
    """Round tick values that enclose all means and intervals, and their number of decimals."""
    ends = [end for row in rows for end in (row.auc.mean, row.auc.low, row.auc.high) if not math.isnan(end)]
    for step in _STEPS:
        first, last = math.floor(min(ends) / step + 1e-9), math.ceil(max(ends) / step - 1e-9)
        if last - first < _MOST_TICKS:
            break
    first = min(first, last - 1)
    decimals = -math.floor(math.log10(step) + 1e-9)
    return [round(at * step, decimals) for at in range(first, last + 1)], decimals
