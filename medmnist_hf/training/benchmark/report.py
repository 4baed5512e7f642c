"""A benchmark's report: its boards as Markdown, as CSV and as one HTML page that stands alone."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.files import write_atomically
from medmnist_hf.training.benchmark.boards import Board, BoardScore, Row
from medmnist_hf.training.benchmark.forest_plot import forest
from medmnist_hf.training.benchmark.markup import render
from medmnist_hf.training.benchmark.tables import (
    Table,
    TableCell,
    board_table,
    chosen_table,
    models_table,
    unfinished_table,
)

TITLE: Final = "MedMNIST benchmark"
READING: Final = (
    "Rows are placed by AUC on the test split; scores equal to three decimals share a place. Published rows are those "
    "of the MedMNIST v2 paper (Yang et al., Scientific Data 10:41, 2023), which gives neither seeds nor intervals.",
    "Every configuration that was run is in its table. Of those that were scored on test, the chosen one has the best "
    "AUC on the validation split, and its test scores are the result. The best of many test scores is no result: it "
    "is partly luck.",
    "A score is the mean over the seeds ± their sample standard deviation, which one seed has not. The range with it "
    "goes from the mean of the lower to the mean of the upper ends of the seeds' 95 % bootstrap intervals. It is the "
    "interval of one run: what another test set of this size may change. All seeds share the test images, so more "
    "seeds make it no narrower. What another seed may change is the deviation.",
)
LEGEND: Final = "Test AUC: discs are own rows on their 95 % intervals, the one with a ring was chosen on validation"
LEGEND_PUBLISHED: Final = "; squares are published rows, and the dashed line is at the best of them"

Unfinished = Sequence[tuple[str, str, str]]
"""Cells without results: name, state and what they failed by."""


def write_report(boards: Sequence[Board], unfinished: Unfinished, out: Path) -> tuple[Path, ...]:
    """Write ``report.md``, ``report.csv`` and ``report.html``, each whole or not at all.

    Args:
        boards: What was found, see `medmnist_hf.training.benchmark.boards.gather`.
        unfinished: Cells without results.
        out: Folder of the report, which exists.

    Returns:
        The files.
    """
    contents = {
        "report.md": markdown(boards, unfinished),
        "report.csv": csv_text(boards),
        "report.html": html(boards, unfinished),
    }
    for name, content in contents.items():
        write_atomically(out / name, content)
    return tuple(out / name for name in contents)


def csv_text(boards: Sequence[Board]) -> str:
    """One line for each row of each board, with all digits; what is not known is empty."""
    lines = [_record(board, row) for board in boards for row in board.rows]
    text = io.StringIO()
    if lines:
        table = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    return text.getvalue()


def markdown(boards: Sequence[Board], unfinished: Unfinished) -> str:
    """The report as GitHub-flavoured Markdown."""
    parts = [f"# {TITLE}", _lead(boards)]
    for title, tables in _overview(boards, unfinished):
        parts += [f"## {title}", *(_markdown_table(table) for table in tables)]
    for board in boards:
        parts += [f"## {board.subset.python_class}", _about(board), _markdown_table(board_table(board))]
        parts += [f"Note: {note}" for note in board.notes]
    parts += ["## How to read this", *_reading(boards)]
    return "\n\n".join(parts) + "\n"


def html(boards: Sequence[Board], unfinished: Unfinished) -> str:
    """The report as one page: no other file, no network, and all of it there without scripts."""
    return render(
        "report.html.j2",
        title=TITLE,
        lead=_lead(boards),
        overview=_overview(boards, unfinished),
        boards=[
            {
                "flag": board.subset.flag,
                "name": board.subset.python_class,
                "about": _about(board),
                "table": board_table(board),
                "notes": board.notes,
                "legend": LEGEND + (LEGEND_PUBLISHED if board.published else "") + ".",
                "drawing": forest(board),
            }
            for board in boards
        ],
        reading=_reading(boards),
    )


def _lead(boards: Sequence[Board]) -> str:
    tried = sum(len(board.own) for board in boards)
    return f"Configurations: {tried}. Subsets: {len(boards)}. Published rows: those of the MedMNIST v2 paper."


def _about(board: Board) -> str:
    tested = f"{board.subset.counts.test:,} test samples"
    return f"{board.subset.task.capitalize()}, {tested}. Configurations tried: {len(board.own)}, all in the table."


def _overview(boards: Sequence[Board], unfinished: Unfinished) -> list[tuple[str, list[Table]]]:
    """Titles and tables of what comes before the boards."""
    parts = []
    if boards:
        parts += [("Chosen on validation", [chosen_table(boards)]), ("Subsets and models", [models_table(boards)])]
    if unfinished:
        parts.append(("Not finished", [unfinished_table(unfinished)]))
    return parts


def _reading(boards: Sequence[Board]) -> list[str]:
    machines = sorted({row.hardware for board in boards for row in board.own} - {""})
    return [*READING, *([f"Seconds were measured on {'; '.join(machines)}."] if machines else [])]


def _record(board: Board, row: Row) -> dict[str, object]:
    """A row as a line of the CSV."""
    record: dict[str, object] = {"subset": board.subset.flag}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if isinstance(value, BoardScore):
            record |= {field.name: value.mean, f"{field.name}_std": value.std}
            if field.name in {"auc", "acc"}:  # of validation there are no intervals
                record |= {f"{field.name}_low": value.low, f"{field.name}_high": value.high}
        else:
            record[field.name] = value
    record["own"], record["chosen"] = int(row.own), int(row.chosen)
    record["seeds"] = " ".join(map(str, row.seeds))
    return {name: "" if isinstance(one, float) and math.isnan(one) else one for name, one in record.items()}


def _markdown_table(table: Table) -> str:
    def line(texts: Sequence[str]) -> str:
        return f"| {' | '.join(texts)} |"

    def told(cells: Sequence[TableCell]) -> str:
        return line([_plain(cell.text) + (f" ({_plain(cell.detail)})" if cell.detail else "") for cell in cells])

    rules = ["---:" if column.numeric else "---" for column in table.columns]
    foot = [told(table.foot)] if table.foot else []
    heads = line([_plain(column.name) for column in table.columns])
    return "\n".join([f"{table.caption}:\n", heads, line(rules), *(told(one.cells) for one in table.lines), *foot])


def _plain(text: str) -> str:
    """Text that Markdown takes as it is, on one line."""
    return re.sub(r"([\\`*\[\]<>|&~$])", r"\\\1", " ".join(text.split()))
