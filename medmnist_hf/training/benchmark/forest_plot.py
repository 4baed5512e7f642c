"""A board as a drawing: the AUC of every row with its interval, as SVG to stand within a page.

Colours are those of the page's style sheet, by class, so that the drawing is light or dark as the page is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from medmnist_hf.training.benchmark.boards import Board, Row
from medmnist_hf.training.benchmark.markup import render

_WIDTH: Final = 400
_LEFT, _RIGHT = 8, 392
_ROW: Final = 34
_TOP: Final = 6
_AXIS: Final = 26
_LONGEST: Final = 50
_STEPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_TICKS: Final = 7


@dataclass(frozen=True, slots=True)
class _Mark:
    """A row as it is drawn: ``own``, ``chosen`` or ``published``; its top, name and AUC, and x of its marks."""

    kind: str
    top: int
    name: str
    auc: str
    x: float
    interval: tuple[float, float] | None


def forest(board: Board) -> Markup:
    """One ``<svg>`` element: for each row a line of text and its mark, best first, over a common axis.

    Args:
        board: What is drawn: rows whose test AUC is known; without any the text is empty. Own rows have a disc on
            their interval, the chosen one with a ring, published ones a square; a dashed line is at the best of them.
    """
    rows = [row for row in board.rows if not math.isnan(row.auc.mean)]
    if not rows:
        return Markup()
    ticks, digits = _ticks(rows)
    best = max((row.auc.mean for row in rows if not row.own), default=None)
    return render(
        "forest.svg.j2",
        name=board.name,
        banner=board.provenance.banner,
        marks=[_mark(row, _TOP + _ROW * at, ticks) for at, row in enumerate(rows)],
        best=None if best is None else _x(best, ticks),
        ticks=[{"x": _x(tick, ticks), "text": f"{tick:.{digits}f}"} for tick in ticks],
        bottom=_TOP + _ROW * len(rows),
        axis=_AXIS,
        left=_LEFT,
        right=_RIGHT,
        width=_WIDTH,
    )


def _mark(row: Row, top: int, ticks: Sequence[float]) -> _Mark:
    name = f"{row.model} {row.method}, {row.size}" if row.own else row.model
    known = not math.isnan(row.auc.low)
    return _Mark(
        "chosen" if row.chosen else "own" if row.own else "published",
        top,
        name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…",
        f"{row.auc.mean:.3f}",
        _x(row.auc.mean, ticks),
        (_x(row.auc.low, ticks), _x(row.auc.high, ticks)) if known else None,
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
    digits = -math.floor(math.log10(step) + 1e-9)
    return [round(at * step, digits) for at in range(first, last + 1)], digits
