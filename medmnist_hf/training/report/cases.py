"""Test cases that a model was surest of, wrong ones and right ones, as pictures with what the model looked at.

Needs matplotlib, which is imported when a figure is made.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from medmnist_hf.catalog import Subset, Task
from medmnist_hf.evaluation.plots import STYLE, short_name
from medmnist_hf.scoring.predictions import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNT: Final = 4
"""Cases of each kind."""

_LINE: Final = 100
"""Letters of a line of the title."""

_SIDE, _GAP, _LEAD, _HEAD, _TEXT, _CAPTION = 2.2, 0.15, 0.24, 0.32, 0.45, 0.22
"""Inches: a picture, the space between two, a line of the title, a heading, the lines above a picture and a map."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a split and what was made of it.

    Attributes:
        row: Where it stands in the split.
        right: The decision is right.
        true: What is true, in words.
        decided: What was decided, in words.
        score: The score of what was decided, 0 to 1.
        label: The label that the decision is about: the class decided on, or a finding, there or not.
        name: Its name.
    """

    row: int
    right: bool
    true: str
    decided: str
    score: float
    label: int
    name: str


def choose(predictions: Predictions, entry: Subset, count: int = COUNT) -> tuple[list[Case], list[Case]]:
    """The wrong and the right decisions with the highest scores, whatever their labels.

    For the multi-label task a decision is about one finding of a row, and right ones are of findings that are there:
    nearly all rows lack nearly all findings.

    Args:
        predictions: Checked predictions.
        entry: The subset.
        count: How many of each kind at most.

    Returns:
        Wrong ones and right ones, each kind by falling score, then by row; a row is shown once in each kind, with the
        decision that is surest.
    """
    cases = _findings(predictions, entry) if predictions.task is Task.MULTI_LABEL else _classes(predictions, entry)
    return (
        _surest([case for case in cases if not case.right], count),
        _surest([case for case in cases if case.right], count),
    )


def _classes(predictions: Predictions, entry: Subset) -> list[Case]:
    chosen, columns = predictions.chosen, predictions.columns
    if predictions.task is Task.BINARY:
        columns = np.stack([1 - columns[0], columns[0]])
    assert predictions.ids is not None
    return [
        Case(
            row,
            int(label) == int(true),
            entry.labels[true],
            entry.labels[label],
            float(columns[label, row]),
            int(label),
            entry.labels[label],
        )
        for row, (label, true) in enumerate(zip(chosen, predictions.ids, strict=True))
    ]


def _findings(predictions: Predictions, entry: Subset) -> list[Case]:
    flagged, cases = predictions.flagged, []
    assert predictions.hot is not None
    for label, row in np.argwhere(flagged | predictions.hot):
        there, found = bool(predictions.hot[label, row]), bool(flagged[label, row])
        score, name = float(predictions.columns[label, row]), entry.labels[label]
        words = (name if there else f"no {name}", name if found else f"no {name}")
        cases.append(Case(int(row), there == found, *words, score if found else 1 - score, int(label), name))
    return cases


def _surest(cases: Sequence[Case], count: int) -> list[Case]:
    """The surest decisions by falling score, one for each row."""
    rows: dict[int, Case] = {}
    for case in sorted(cases, key=lambda case: (-case.score, case.row)):
        rows.setdefault(case.row, case)
    return list(rows.values())[:count]


def draw_cases(
    wrong: Sequence[Case],
    right: Sequence[Case],
    images: npt.NDArray[np.uint8],
    maps: npt.NDArray[np.float32] | None,
    title: str,
) -> "Figure":
    """Draw cases, each with its map over it below, under the label that the map speaks for.

    Args:
        wrong: Wrong decisions.
        right: Right ones; there is at least one case.
        images: Their images in this order, uint8 (N, H, W), (N, H, W, 3) or (N, D, H, W). Of a volume one slice is
            drawn: where voxels times map are most in sum, or else the one in the middle.
        maps: How much each pixel or voxel speaks for the case's label, float32 (N, H, W) or (N, D, H, W) in 0..1.
        title: Lines above the figure.

    Returns:
        A figure that belongs to no window and to no global state of matplotlib.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    groups = [(name, cases) for name, cases in (("Wrong", wrong), ("Right", right)) if cases]
    lines = [line for part in title.splitlines() for line in textwrap.wrap(part, _LINE)]
    rows, begin = 1 if maps is None else 2, len(lines) * _LEAD
    above_map = _GAP if maps is None else _GAP + _CAPTION
    columns, height = max(COUNT, len(wrong), len(right)), _HEAD + _TEXT + rows * _SIDE + (rows - 1) * above_map + _GAP
    width, total = columns * (_SIDE + _GAP) + _GAP, begin + len(groups) * height
    with rc_context(STYLE):
        figure = Figure(figsize=(width, total))

        def write(top: float, text: str, **options: Any) -> None:
            figure.text(_GAP / width, 1 - top / total, text, **options)

        def place(left: float, top: float) -> "Axes":
            axes = figure.add_axes((left / width, 1 - (top + _SIDE) / total, _SIDE / width, _SIDE / total))
            axes.set(xticks=[], yticks=[], frame_on=False)
            return axes

        for line, text in enumerate(lines):
            write((line + 0.8) * _LEAD, text, fontsize=10.5)
        at = 0
        for group, (name, cases) in enumerate(groups):
            above = begin + group * height
            write(above + 0.7 * _HEAD, f"{name}, surest first", fontsize=10, fontweight="bold")
            for column, case in enumerate(cases):
                image, seen, where = _flat(images[at], None if maps is None else maps[at])
                left, top = _GAP + column * (_SIDE + _GAP), above + _HEAD + _TEXT
                axes = place(left, top)
                _show(axes, image)
                told = (
                    f"row {case.row}{where}, score {case.score:.2f}",
                    f"true: {short_name(case.true)}",
                    f"predicted: {short_name(case.decided)}",
                )
                axes.set_title("\n".join(told), fontsize=8, loc="left", y=1.0)
                if seen is not None:
                    axes = place(left, top + _SIDE + above_map)
                    axes.set_title(f"speaks for: {short_name(case.name)}", fontsize=8, loc="left", y=1.0)
                    _show(axes, image)
                    axes.imshow(seen, cmap="viridis", vmin=0, vmax=1, alpha=0.7 * seen.clip(0, 1))
                at += 1
    return figure


def _flat(
    image: npt.NDArray[np.uint8], found: npt.NDArray[np.float32] | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None, str]:
    """An image and its map as they are; of a volume one slice of both, and which, counted from 0."""
    if image.ndim == 2 or image.shape[-1] == 3:
        return image, found, ""
    held = np.zeros(len(image)) if found is None else (image * found).sum(axis=(1, 2))
    at = int(held.argmax()) if held.any() else len(image) // 2
    return image[at], None if found is None else found[at], f", slice {at}"


def _show(axes: "Axes", image: npt.NDArray[Any]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
