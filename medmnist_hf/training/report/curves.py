"""Figure of a training: losses, validation metrics and learning rate by epoch.

Requires matplotlib, which is imported when a figure is drawn.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from medmnist_hf.evaluation.plots import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW: Final = 30
"""Largest number of epochs for which each epoch has a marker."""

Entry = Mapping[str, float]


def series(history: Sequence[Entry], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a logged quantity, including values that are nan.

    Args:
        history: Entries as logged by `transformers.Trainer`.
        name: Name of the quantity, such as ``loss``, ``eval_auc`` or ``learning_rate``.
    """
    points = [(entry["epoch"], entry[name]) for entry in history if name in entry]
    return [float(epoch) for epoch, _ in points], [float(value) for _, value in points]


def draw_curves(history: Sequence[Entry], best_epoch: float, title: str) -> "Figure":
    """Draw the curves of a training.

    Args:
        history: Entries as logged by `transformers.Trainer`: ``epoch`` with ``loss`` and ``learning_rate``, or with
            ``eval_loss``, ``eval_auc`` and ``eval_acc``.
        best_epoch: Epoch of the saved model.
        title: Title above the figure.

    Returns:
        The figure, created without pyplot and therefore without a window.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(12, 3.8))
        figure.suptitle(title, fontsize=11)
        panels = figure.subplots(1, 3)
        figure.subplots_adjust(left=0.05, right=0.985, bottom=0.13, top=0.83, wspace=0.22)
        _draw(panels[0], "Loss", history, {"loss": "train", "eval_loss": "validation"}, best_epoch)
        _draw(panels[1], "Validation", history, {"eval_auc": "AUC", "eval_acc": "ACC"}, best_epoch)
        _draw(panels[2], "Learning rate", history, {"learning_rate": "first layers"}, best_epoch)
    return figure


def _draw(axes: "Axes", title: str, history: Sequence[Entry], names: Mapping[str, str], best_epoch: float) -> None:
    from matplotlib.ticker import MaxNLocator

    few = len(series(history, "eval_loss")[0]) <= _FEW
    axes.axvline(best_epoch, color="0.6", linestyle="--", linewidth=1, label=f"best epoch, {best_epoch:g}")
    for at, (name, label) in enumerate(names.items()):
        marker = ("o", "s")[at] if few else None
        axes.plot(*series(history, name), marker=marker, markersize=3.5, linewidth=1.5, label=label)
    axes.set(title=title, xlabel="Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(color="0.92")
    axes.legend(fontsize=8, framealpha=0.85, edgecolor="none")
