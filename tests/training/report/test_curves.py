"""`medmnist_hf.training.report.curves`: curves of the logged values, with gaps for undefined ones."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medmnist_hf.training.report.curves import draw_curves, series


def history(epochs: int) -> list[dict[str, Any]]:
    """Entries as logged by `transformers.Trainer`."""
    entries: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        entries.append({"epoch": float(epoch), "step": 9 * epoch, "loss": 2 / epoch, "grad_norm": 1.0})
        entries[-1]["learning_rate"] = 1e-3 / epoch
        entries.append({"epoch": float(epoch), "eval_loss": 3 / epoch, "eval_auc": 1 - 0.5 / epoch})
        entries[-1] |= {"eval_acc": 0.9 - 0.5 / epoch, "eval_runtime": 0.1}
    return [*entries, {"epoch": float(epochs), "train_loss": 0.7, "train_runtime": 3.0}]


def curves(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    """Panel and legend -> points of a line."""
    return {
        f"{axes.get_title()}: {line.get_label()}": (
            np.asarray(line.get_xdata()).tolist(),
            np.asarray(line.get_ydata()).tolist(),
        )
        for axes in figure.axes
        for line in axes.lines
    }


def test_series_are_values_by_epoch_including_nan() -> None:
    entries = history(3)
    assert series(entries, "loss") == ([1, 2, 3], [2, 1, pytest.approx(2 / 3)])
    entries[5]["eval_auc"] = math.nan
    epochs, values = series(entries, "eval_auc")
    assert epochs == [1, 2, 3] and values[0] == 0.5 and math.isnan(values[2])
    assert series(entries, "eval_mae") == ([], [])


def test_each_panel_shows_the_logged_values() -> None:
    entries = history(5)
    entries[5]["eval_loss"] = math.nan
    lines = curves(draw_curves(entries, 4, "a title"))
    assert lines.keys() == {
        *("Loss: train", "Loss: validation", "Validation: AUC", "Validation: ACC"),
        "Learning rate: first layers",
        *(f"{panel}: best epoch, 4" for panel in ("Loss", "Validation", "Learning rate")),
    }
    for label, name in (
        ("Loss: train", "loss"),
        ("Validation: AUC", "eval_auc"),
        ("Validation: ACC", "eval_acc"),
        ("Learning rate: first layers", "learning_rate"),
    ):
        assert lines[label] == series(entries, name)
    epochs, losses = lines["Loss: validation"]
    assert epochs == [1, 2, 3, 4, 5] and [math.isnan(loss) for loss in losses] == [False, False, True, False, False]
    assert lines["Loss: best epoch, 4"][0] == [4, 4]


@pytest.mark.parametrize(("epochs", "marked"), [(1, True), (30, True), (31, False)])
def test_few_epochs_have_markers(epochs: int, marked: bool) -> None:
    figure = draw_curves(history(epochs), 1, "a title")
    markers = {line.get_marker() for axes in figure.axes for line in axes.lines[1:]}
    assert markers == ({"o", "s"} if marked else {"None"})


@pytest.mark.parametrize("epochs", [1, 2, 100])
def test_nothing_is_clipped_and_epochs_are_integers(epochs: int) -> None:
    title = f"organcmnist 224, timm/{'a_long_name.' * 4}in1k finetune, seed 4294967295"
    figure = draw_curves(history(epochs), epochs, title)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height
    panels = [axes.get_tightbbox() for axes in figure.axes]
    assert all(left.x1 < right.x0 for left, right in pairwise(panels))  # type: ignore[union-attr]
    low, high = figure.axes[0].get_xlim()
    ticks = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert ticks and all(tick == round(tick) for tick in ticks)


def test_a_training_with_undefined_metrics_is_drawn() -> None:
    entries = [entry | {name: math.nan for name in entry if name.startswith("eval_a")} for entry in history(3)]
    figure = draw_curves(entries, 3, "x")
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    assert all(math.isnan(value) for value in curves(figure)["Validation: AUC"][1])
