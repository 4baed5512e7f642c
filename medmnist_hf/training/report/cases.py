"""Figure of the wrong and right test cases that a model was most confident about, with attribution maps.

Requires matplotlib, which is imported when a figure is drawn.
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
"""Number of wrong and of right cases."""

_LINE: Final = 100
"""Characters per line of the title."""

_SIDE, _GAP, _LEAD, _HEAD, _TEXT, _CAPTION = 2.2, 0.15, 0.24, 0.32, 0.45, 0.22
"""Sizes in inches: image, gap, line of the title, heading, text above an image, text above a map."""


@dataclass(frozen=True, slots=True)
class Case:
    """A row of a split and a decision of the model on it.

    Attributes:
        row: Row number in the split.
        right: Whether the decision is right.
        true: Name of the true class or finding; ``no`` and the name for an absent finding.
        decided: The predicted one, likewise.
        score: Score of the decision, 0 to 1.
        label: Label of the decision: the predicted class, or the finding, present or absent.
        name: Name of that label.
    """

    row: int
    right: bool
    true: str
    decided: str
    score: float
    label: int
    name: str


def choose(predictions: Predictions, entry: Subset, count: int = COUNT) -> tuple[list[Case], list[Case]]:
    """Select the wrong and the right decisions with the highest scores, of any label.

    In the multi-label task a decision concerns one finding of a row. Correctly absent findings are left out, since
    nearly all findings are absent in nearly all rows.

    Args:
        predictions: Checked predictions.
        entry: The subset.
        count: Largest number of wrong and of right decisions.

    Returns:
        Wrong and right decisions, each by falling score, then by row. A row occurs at most once in each list, with its
        decision of the highest score.
    """
    cases = _findings(predictions, entry) if predictions.task is Task.MULTI_LABEL else _classes(predictions, entry)
    return (
        _most_confident([case for case in cases if not case.right], count),
        _most_confident([case for case in cases if case.right], count),
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
        present, predicted = bool(predictions.hot[label, row]), bool(flagged[label, row])
        score, name = float(predictions.columns[label, row]), entry.labels[label]
        texts = (name if present else f"no {name}", name if predicted else f"no {name}")
        score = score if predicted else 1 - score
        cases.append(Case(int(row), present == predicted, *texts, score, int(label), name))
    return cases


def _most_confident(cases: Sequence[Case], count: int) -> list[Case]:
    """The decisions with the highest scores, at most one per row."""
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
    """Draw cases, each with a copy below it that is overlaid with its map.

    Args:
        wrong: Wrong decisions.
        right: Right decisions; there must be at least one case in total.
        images: Their images in this order, uint8 of shape (N, H, W), (N, H, W, 3) or (N, D, H, W). Of a volume one
            slice is drawn: the one with the largest sum of voxels times map, or the middle slice without a map.
        maps: How much each pixel or voxel supports the label of the case, 0 to 1, float32 of shape (N, H, W) or
            (N, D, H, W).
        title: Title above the figure; may have several lines.

    Returns:
        The figure, created without pyplot and therefore without a window.
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
            write(above + 0.7 * _HEAD, f"{name}, most confident first", fontsize=10, fontweight="bold")
            for column, case in enumerate(cases):
                image, heat, where = _flat(images[at], None if maps is None else maps[at])
                left, top = _GAP + column * (_SIDE + _GAP), above + _HEAD + _TEXT
                axes = place(left, top)
                _show(axes, image)
                lines_above = (
                    f"row {case.row}{where}, score {case.score:.2f}",
                    f"true: {short_name(case.true)}",
                    f"predicted: {short_name(case.decided)}",
                )
                axes.set_title("\n".join(lines_above), fontsize=8, loc="left", y=1.0)
                if heat is not None:
                    axes = place(left, top + _SIDE + above_map)
                    axes.set_title(f"support for: {short_name(case.name)}", fontsize=8, loc="left", y=1.0)
                    _show(axes, image)
                    axes.imshow(heat, cmap="viridis", vmin=0, vmax=1, alpha=0.7 * heat.clip(0, 1))
                at += 1
    return figure


def _flat(
    image: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32] | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None, str]:
    """Return an image and its map unchanged, or one slice of a volume and its map, with the text ``, slice N``."""
    if image.ndim == 2 or image.shape[-1] == 3:
        return image, heat, ""
    sums = np.zeros(len(image)) if heat is None else (image * heat).sum(axis=(1, 2))
    at = int(sums.argmax()) if sums.any() else len(image) // 2
    return image[at], None if heat is None else heat[at], f", slice {at}"


def _show(axes: "Axes", image: npt.NDArray[Any]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
