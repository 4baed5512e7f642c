"""A board as a drawing: the AUC of every row with its interval, as SVG to stand within a page.

Colours are those of the page's style sheet, by class, so that the drawing is light or dark as the page is.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from medmnist_hf.training.benchmark.boards import Board, Row

_WIDTH: Final = 400
_LEFT, _RIGHT = 8, 392
_ROW: Final = 34
_TOP: Final = 6
_AXIS: Final = 26
_LONGEST: Final = 50
_STEPS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_TICKS: Final = 7


def forest(board: Board) -> str:
    """One ``<svg>`` element: for each row a line of text and its mark, best first, over a common axis.

    Args:
        board: What is drawn: rows whose test AUC is known; without any the text is empty. Own rows have a disc on
            their interval, the chosen one with a ring, published ones a square; a dashed line is at the best of them.
    """
    rows = [row for row in board.rows if not math.isnan(row.auc.mean)]
    if not rows:
        return ""
    ticks, digits = _ticks(rows)
    bottom = _TOP + _ROW * len(rows)
    parts = [f'<path class="grid" d="M{_x(tick, ticks)} 0V{bottom}"/>' for tick in ticks]
    published = [row.auc.mean for row in rows if not row.own]
    if published:
        parts.append(f'<path class="best" d="M{_x(max(published), ticks)} 0V{bottom}"/>')
    for at, row in enumerate(rows):
        parts += _marks(row, _TOP + _ROW * at, ticks)
    for tick in ticks:
        anchor = {ticks[0]: "start", ticks[-1]: "end"}.get(tick, "middle")
        edge = {"start": 0, "end": _WIDTH, "middle": _x(tick, ticks)}[anchor]
        parts.append(
            f'<text class="tick" x="{edge}" y="{bottom + 18}" text-anchor="{anchor}">{tick:.{digits}f}</text>'
        )
    told = f"Test AUC on {board.subset.python_class} of {len(rows)} rows of the table, best first"
    return (
        f'<svg role="img" aria-label="{escape(told)}" viewBox="0 0 {_WIDTH} {bottom + _AXIS}">{"".join(parts)}</svg>'
    )


def _marks(row: Row, top: int, ticks: Sequence[float]) -> list[str]:
    name = f"{row.model} {row.method}, {row.size}" if row.own else row.model
    short = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
    x, y = _x(row.auc.mean, ticks), top + 20
    kind = "chosen" if row.chosen else "own" if row.own else "published"
    parts = [
        f'<text class="{kind}" x="{_LEFT}" y="{top + 11}">{escape(short)}</text>',
        f'<text class="{kind}" x="{_RIGHT}" y="{top + 11}" text-anchor="end">{row.auc.mean:.3f}</text>',
    ]
    if not math.isnan(row.auc.low):
        parts.append(f'<path class="interval" d="M{_x(row.auc.low, ticks)} {y}H{_x(row.auc.high, ticks)}"/>')
    if row.chosen:
        parts.append(f'<circle class="ring" cx="{x}" cy="{y}" r="7"/>')
    if row.own:
        parts.append(f'<circle class="own" cx="{x}" cy="{y}" r="4"/>')
    else:
        parts.append(f'<rect class="published" x="{x - 4:.2f}" y="{y - 4}" width="8" height="8"/>')
    return parts


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
