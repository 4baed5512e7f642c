"""Write and print the robustness of a model."""

from pathlib import Path

from rich.table import Table

from medmnist_hf import console
from medmnist_hf.corruptions.measures import baseline
from medmnist_hf.corruptions.published_json import published_json, published_name
from medmnist_hf.corruptions.registry import SEVERITIES
from medmnist_hf.files import write_atomically
from medmnist_hf.training.report.figures import can_draw
from medmnist_hf.training.results import digits
from medmnist_hf.training.robustness.figure import robustness_png
from medmnist_hf.training.robustness.results import CSV_NAME, FIGURE_NAME, INCOMPLETE, RESULT_NAME, Robustness


def write_robustness(result: Robustness, out: Path, architecture: str) -> tuple[Path, ...]:
    """Write a report as JSON, CSV and figure, and BE and rBE in the published form.

    Args:
        result: What was measured.
        out: Existing folder.
        architecture: Name of the model in the name of the file in the published form.

    Returns:
        Paths of the files.

    Raises:
        OSError: A file cannot be written.
    """
    flag, parts = result.identity.subset, (result.suffix, "augmented" if result.augmented else "", *result.marks)
    suffix = "-".join(filter(None, parts))
    contents: dict[str, str | bytes] = {
        RESULT_NAME: result.to_json(),
        CSV_NAME: result.to_csv(),
        published_name(flag, architecture, suffix): published_json(result.errors, result.caveats),
    }
    if INCOMPLETE not in result.marks:
        (out / published_name(flag, architecture, f"{suffix}-{INCOMPLETE}".strip("-"))).unlink(missing_ok=True)
    if can_draw():
        contents[FIGURE_NAME] = robustness_png(result)
    for name, content in contents.items():
        write_atomically(out / name, content)
    return tuple(out / name for name in contents)


def print_robustness(result: Robustness) -> None:
    """Print caveats, the means, and a line for each corruption."""
    out, errors = console.terminal(), result.errors
    for caveat in (*result.caveats, *result.notes):
        out.print(caveat, soft_wrap=True)
    clean = result.clean.scores[0]
    console.echo(
        f"{result.identity.subset} {result.identity.size}, {result.model} {result.method}".rstrip()
        + f"\nBE {digits(errors.be)}   rBE {digits(errors.rbe)}   clean error {digits(clean.error)}"
        f"   (of AlexNet: 1, 1 and {digits(baseline(result.identity.subset).clean)}; lower is better)\n"
    )
    out.print(_table(result))
    if errors.marks:
        console.echo("rBE of a corruption with a note says little, and the mean contains it: read BE first.")


def _table(result: Robustness) -> Table:
    errors, alexnet = result.errors, baseline(result.identity.subset)
    levels = [f"error {severity}" if severity == 1 else str(severity) for severity in SEVERITIES]
    table = console.table("corruption", "BE", "rBE", *levels, "mean", "AlexNet", "note", text=("corruption", "note"))
    for measured in result.corruptions:
        name = measured.corruption
        table.add_row(
            name,
            digits(errors.be_scores[name]),
            digits(errors.rbe_scores[name]),
            *(digits(each.error) for each in measured.scores),
            digits(measured.error),
            digits(alexnet.corrupted[name]),
            errors.marks.get(name, ""),
        )
    return table
