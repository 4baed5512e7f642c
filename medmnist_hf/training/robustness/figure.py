"""Figure of the robustness of a model: error by severity, a panel for each corruption.

Requires matplotlib, which is imported when the figure is drawn.
"""

import io
import math
from typing import TYPE_CHECKING, Final

from medmnist_hf.corruptions.measures import baseline
from medmnist_hf.evaluation.plots import STYLE, stamp
from medmnist_hf.training.robustness.results import Robustness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS: Final = 5


def draw_robustness(result: Robustness) -> "Figure":
    """Draw the curves of a model: its error on clean images and at each severity, next to the errors of AlexNet.

    Args:
        result: What was measured.

    Returns:
        The figure, created without pyplot and therefore without a window.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    errors, alexnet, size = result.errors, baseline(result.identity.subset), result.identity.size
    columns = min(_COLUMNS, len(result.corruptions))
    lines = math.ceil(len(result.corruptions) / columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 2.5 * max(columns, 3), 1.5 + 2.2 * lines), layout="constrained")
        title = f"{result.identity.subset} {size}, {result.model} {result.method}".rstrip()
        title += f"\nclean error {errors.clean:.3f}, BE {errors.be:.3f}, rBE {errors.rbe:.3f}"
        if size != 224:
            title += f"; corruptions at size {size} are not those of MedMNIST-C"
        figure.suptitle(result.provenance.mark(title), fontsize=11)
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for at, (axes, measured) in enumerate(zip(panels.flat, result.corruptions, strict=False)):
            name, values = measured.corruption, [errors.clean, *(each.error for each in measured.scores)]
            axes.plot(range(len(values)), values, marker="o", markersize=3.5, linewidth=1.5, label="error")
            lines_of_alexnet = (("mean of 1 to 5", alexnet.corrupted[name], "--"), ("clean", alexnet.clean, ":"))
            for label, value, line in lines_of_alexnet:
                axes.axhline(value, color="0.5", linestyle=line, linewidth=1, label=f"AlexNet, {label}")
            axes.set_title(f"{name}\nBE {errors.be_scores[name]:.2f}", fontsize=9)
            axes.set_xticks(range(len(values)), ["clean", *map(str, range(1, len(values)))])
            axes.set_ylim(0, None)
            axes.grid(color="0.92")
            if at + columns >= len(result.corruptions):  # the lowest panel of its column
                axes.tick_params(labelbottom=True)
                axes.set_xlabel("Severity")
        for axes in list(panels.flat)[len(result.corruptions) :]:
            axes.set_axis_off()
        figure.supylabel("1 − balanced accuracy", fontsize=9)
        handles, labels = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def robustness_png(result: Robustness) -> bytes:
    """The figure as PNG, with the banner of data that is not verified."""
    buffer = io.BytesIO()
    stamp(draw_robustness(result), result.provenance).savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
