"""Plot a set of predictions: ROC curves of the classes, a reliability diagram and a confusion matrix.

Requires matplotlib (extra ``plot``), which is imported when a figure is drawn.

Example:
    >>> from medmnist_hf.evaluation.plots import roc_curve
    >>> import numpy as np
    >>> roc_curve(np.array([0.2, 0.9, 0.4]), np.array([False, True, False]))[1].tolist()
    [0.0, 1.0, 1.0, 1.0]
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from medmnist_hf.array_types import Array, BoolArray, FloatArray, IntArray
from medmnist_hf.catalog import Task
from medmnist_hf.errors import BuildError, MedMNISTError, ScoreError, cannot_write
from medmnist_hf.extras import suggest_install
from medmnist_hf.files import write_atomically
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.metrics import Weighted, confusion_matrix, ece
from medmnist_hf.scoring.official import class_aucs
from medmnist_hf.scoring.predictions import ECE_BINS, Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: Final = ("png", "svg", "pdf")
"""Formats of a saved figure, chosen by the suffix of its file name."""

STYLE: Final[Any] = {"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False}
"""Matplotlib settings shared by all figures."""

_FEW: Final = 10
"""Number of distinct colors in the default color cycle."""

_LONG: Final = 24
"""Length in characters at which class names are shortened."""

_POINTS: Final = 2000
"""Largest number of points of a drawn ROC curve, more than a figure has pixels."""

_POINTS_PER_INCH: Final = 72
"""Font sizes are given in points."""


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Mean confidence and share of hits of each non-empty bin.

    Attributes:
        bins: Indices of the B non-empty bins among the `ECE_BINS` bins, ascending, intp of shape ``(B,)``.
        confidence: Mean confidence, float64 of shape ``(B,)``.
        hits: Share of hits, float64 of shape ``(B,)``.
        count: Number of rows (multi-label: of rows times labels), intp of shape ``(B,)``.
        error: Expected calibration error, see `medmnist_hf.scoring.metrics.ece`.
    """

    bins: IntArray
    confidence: FloatArray
    hits: FloatArray
    count: IntArray
    error: float


def roc_curve(column: Array, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """The ROC curve of one score column (Fawcett, Pattern Recognition Letters 27:861, 2006).

    Args:
        column: Scores, shape ``(N,)``.
        positive: Mask of the positive rows, shape ``(N,)``; there must be positive and negative rows.

    Returns:
        False and true positive rates from (0, 0) to (1, 1), one point per distinct score, by falling threshold.
    """
    order = np.argsort(-column, kind="stable")
    ranked, hits = column[order], np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    true, flagged = hits[last], last + 1
    total = int(hits[-1])
    rates = ((flagged - true) / (len(column) - total), true / total)
    return np.append(0.0, rates[0]), np.append(0.0, rates[1])


def reliability(predictions: Predictions) -> Reliability:
    """Reliability diagram over the bins of the expected calibration error (Guo et al., ICML 2017).

    Multi-class and ordinal: the confidence of the predicted class, and whether it is right. Binary: the score of the
    positive class, and whether the row is positive. Multi-label: the same for all labels together.

    Raises:
        ScoreError: The scores are not probabilities.
    """
    bins, gaps = predictions.calibration
    flat = bins.ravel()
    count = np.bincount(flat, minlength=ECE_BINS)
    used = np.flatnonzero(count)
    mean = np.bincount(flat, predictions.confidence.ravel(), ECE_BINS)[used] / count[used]
    gap = np.bincount(flat, gaps.ravel(), ECE_BINS)[used] / count[used]
    error = float(ece(Weighted(predictions))[0])
    return Reliability(used, mean, np.clip(mean + gap, 0, 1), count[used].astype(np.intp), error)


def check_plot_path(path: Path) -> None:
    """Check that a figure can be saved to a path, before any work is done.

    Raises:
        MedMNISTError: The suffix is not a supported format, the folder is missing, or matplotlib is not installed.
    """
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise MedMNISTError(f"{path}: figures are saved as {', '.join(FORMATS)}; name it plot.png, for example")
    if not path.parent.is_dir():
        raise MedMNISTError(f"{path.parent}: no such folder for the figure; create it first")
    with suggest_install("plot"):
        import matplotlib as mpl  # noqa: F401


def draw(predictions: Predictions, names: Sequence[str], title: str) -> "Figure":
    """Draw the figure of a set of predictions.

    Args:
        predictions: Checked predictions.
        names: Names of the classes or findings, index = stored label.
        title: Title above the figure.

    Returns:
        The figure, created without pyplot and therefore without a window.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(15, 5.2), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
        figure.suptitle(title, fontsize=11)
        _draw_roc(left, predictions, names)
        _draw_reliability(middle, predictions)
        if predictions.task is Task.MULTI_LABEL:
            _draw_findings(right, predictions, names)
        else:
            _draw_confusion(right, predictions, names)
    return figure


def stamp(figure: "Figure", provenance: Provenance) -> "Figure":
    """Write the banner of unverified or synthetic data across a figure, so that no crop of it lacks the banner.

    Args:
        figure: Figure to change in place.
        provenance: Provenance of the data; verified data has no banner.
    """
    if provenance.banner:
        width, height = figure.get_size_inches()
        size = min(1.25 * width / len(provenance.banner), 0.5 * height) * _POINTS_PER_INCH
        figure.text(
            0.5,
            0.5,
            provenance.banner,
            size=size,
            weight="bold",
            color="crimson",
            alpha=0.25,
            ha="center",
            va="center",
            rotation=12,
            zorder=100,
            in_layout=False,
        )
    return figure


def save_plot(
    path: str | Path, predictions: Predictions, names: Sequence[str], title: str, *, provenance: Provenance
) -> Path:
    """Draw the figure and save it atomically.

    Args:
        path: Path of the file; its suffix, one of `FORMATS`, determines the format.
        predictions: Checked predictions.
        names: Names of the classes or findings, index = stored label.
        title: Title above the figure.
        provenance: Provenance of the data; unless it is verified, its banner is in the title and across the figure.

    Raises:
        MedMNISTError: As for `check_plot_path`.
        BuildError: The file cannot be written.
    """
    path = Path(path)
    check_plot_path(path)
    buffer = io.BytesIO()
    figure = stamp(draw(predictions, names, provenance.mark(title)), provenance)
    figure.savefig(buffer, format=path.suffix.lower().lstrip("."), dpi=120)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise BuildError(cannot_write(path, error, "choose another place")) from None
    return path


def short_name(name: str) -> str:
    """The name of a class, shortened if it is long."""
    return name if len(name) <= _LONG else name[: _LONG - 1].rstrip() + "…"


def _draw_roc(axes: "Axes", predictions: Predictions, names: Sequence[str]) -> None:
    from matplotlib import colormaps

    aucs = class_aucs(predictions)
    colors = colormaps["tab10" if predictions.labels <= _FEW else "tab20"].resampled(20)
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    for label, value in enumerate(aucs):
        name = short_name(names[predictions.classes[label]])
        if math.isnan(value):
            axes.plot([], [], " ", label=f"{name}: undefined")
            continue
        false, true = roc_curve(predictions.columns[label], predictions.positive(label))
        kept = np.unique(np.linspace(0, len(false) - 1, min(len(false), _POINTS)).round().astype(int))
        color = colors(label if predictions.labels > _FEW else 2 * label)
        axes.plot(false[kept], true[kept], color=color, linewidth=1.5, label=f"{name}: {value:.3f}")
    defined = [value for value in aucs if not math.isnan(value)]
    mean = f", mean AUC {sum(defined) / len(defined):.3f}" if len(defined) > 1 else ""
    axes.set(title=f"ROC{mean}", xlabel="False positive rate", ylabel="True positive rate")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(loc="lower right", fontsize=7.5, frameon=True, framealpha=0.85, edgecolor="none", title="AUC")


def _draw_reliability(axes: "Axes", predictions: Predictions) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    try:
        diagram = reliability(predictions)
    except ScoreError:
        axes.set(title="Reliability", xticks=[], yticks=[])
        axes.text(0.5, 0.5, "scores are not probabilities", ha="center", va="center", color="0.4")
        return
    share = diagram.count / diagram.count.sum()
    centers = (np.arange(ECE_BINS) + 0.5) / ECE_BINS
    axes.bar(centers[diagram.bins], share, width=0.9 / ECE_BINS, color="0.87", label="share of the scores")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    axes.plot(diagram.confidence, diagram.hits, marker="o", markersize=4, linewidth=1.5, label="observed")
    x_label, y_label = {
        Task.BINARY: ("Score of the positive class", "Share of positive rows"),
        Task.MULTI_LABEL: ("Score of a finding", "Share with the finding"),
    }.get(predictions.task, ("Score of the predicted class", "Share of right predictions"))
    axes.set(title=f"Reliability, ECE {diagram.error:.3f}", xlabel=x_label, ylabel=y_label)
    axes.legend(loc="best", fontsize=8, framealpha=0.85, edgecolor="none")


def _draw_confusion(axes: "Axes", predictions: Predictions, names: Sequence[str]) -> None:
    table = confusion_matrix(predictions)
    sums = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(sums, 1)
    accuracy = np.trace(table) / table.sum()
    _grid(axes, shares, [[f"{count:,}" for count in row] for row in table], size=10 if len(table) <= _FEW // 2 else 7)
    short = [short_name(names[at]) for at in range(len(table))]
    axes.set_xticks(
        range(len(table)), short, rotation=0 if len(table) == 2 else 45, ha="center" if len(table) == 2 else "right"
    )
    axes.set_yticks(range(len(table)), short)
    axes.set(title=f"Confusion, ACC {accuracy:.3f}", xlabel="Predicted", ylabel="True (shade: share of the row)")


def _draw_findings(axes: "Axes", predictions: Predictions, names: Sequence[str]) -> None:
    tables = confusion_matrix(predictions)
    counts = tables.reshape(-1, 4)[:, ::-1]
    shares = counts / np.maximum(tables.sum(axis=2)[:, [1, 1, 0, 0]], 1)
    _grid(axes, shares, [[f"{count:,}" for count in row] for row in counts], size=7.5)
    axes.set_aspect("auto")
    axes.set_xticks(range(4), ["detected", "missed", "false alarm", "correctly absent"])
    axes.set_yticks(range(len(counts)), [short_name(names[at]) for at in range(len(counts))])
    right_share = (counts[:, 0].sum() + counts[:, 3].sum()) / counts.sum()
    axes.set(title=f"Findings at > 0.5, ACC {right_share:.3f}", xlabel="Shade: share of rows with/without it")


def _grid(axes: "Axes", shares: FloatArray, texts: list[list[str]], size: float) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.tick_params(length=0, labelsize=7.5)
    axes.spines[:].set_visible(False)
    for (row, column), share in np.ndenumerate(shares):
        color = "white" if share > 0.6 else "0.2"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=color, fontsize=size)
