"""Write the report of a benchmark: its boards as Markdown, as CSV and as a self-contained HTML page."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.cards.environment import plain
from medmnist_hf.files import write_atomically
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.benchmark.forest_plot import forest, is_comparable
from medmnist_hf.training.benchmark.markup import render
from medmnist_hf.training.benchmark.origin import origin
from medmnist_hf.training.benchmark.rows import Board, BoardScore, Row
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
    "The place of a row is its rank by test AUC among the published rows of its protocol and itself. Other rows of "
    "this report do not affect it, and scores within two standard errors of each other share a place. The command "
    "medmnist-hf leaderboard lists the published rows with their sources; those selected on the test split are not "
    "among them. Only runs on verified data, built from the official files, and on all labels of train have a place. "
    "Runs on synthetic or unverified data, or on few labels, are in separate tables.",
    "The tables list every configuration that was run. The chosen configuration is the one with the best AUC on the "
    "validation split, among those that were scored on test and are complete: all seeds have run, and no search was "
    "interrupted. Its test scores are the result. The best of many test scores is not a result, because it is partly "
    "luck.",
    "A score is the mean over the seeds ± their sample standard deviation, which is undefined for one seed. Its range "
    "extends from the mean of the lower ends to the mean of the upper ends of the seeds' 95 % intervals, "
    "followed by their method. It is the interval of a single run: how much another test set of this size may change "
    "the score. All seeds share the test images, so more seeds do not narrow it. The variation between seeds is the "
    "standard deviation.",
)
LEGEND: Final = (
    "Test AUC: discs are own rows, the one with a ring was chosen on validation; lines are their 95 % intervals"
)
LEGEND_PUBLISHED: Final = "; squares are published rows"
LEGEND_BEST: Final = ", and the dashed line marks the best of them"

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""Prefixes of cells that spreadsheets evaluate as formulas (OWASP, "CSV Injection")."""

Unfinished = Sequence[tuple[str, str, str]]
"""Cells without results: name, state and reason of the failure."""


def write_report(boards: Sequence[Board], unfinished: Unfinished, out: Path) -> tuple[Path, ...]:
    """Write ``report.md``, ``report.csv`` and ``report.html``, each atomically.

    Runs on data that is not verified are written to ``report-synthetic.csv`` or ``report-unverified.csv``. Such a file
    of an earlier report is removed if there are no runs for it.

    Args:
        boards: The boards, see `medmnist_hf.training.benchmark.boards.gather`.
        unfinished: Cells without results.
        out: Existing folder of the report.

    Returns:
        Paths of the files.
    """
    made = origin()
    contents = {"report.md": markdown(boards, unfinished, made), "report.html": html(boards, unfinished, made)}
    for provenance in Provenance:
        name = "report.csv" if provenance.comparable else f"report-{provenance}.csv"
        its_boards = [board for board in boards if board.provenance is provenance]
        if its_boards or provenance.comparable:
            contents[name] = csv_text(its_boards)
        else:
            (out / name).unlink(missing_ok=True)
    for name, content in contents.items():
        write_atomically(out / name, content)
    return tuple(out / name for name in contents)


def csv_text(boards: Sequence[Board]) -> str:
    """Format all rows of all boards as CSV, with all digits; unknown values are empty."""
    lines = [_record(board, row) for board in boards for row in board.rows]
    text = io.StringIO()
    if lines:
        table = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    return text.getvalue()


def markdown(boards: Sequence[Board], unfinished: Unfinished, made: str = "") -> str:
    """Format the report as GitHub-flavored Markdown; `made` is its origin, see `origin`."""
    lead = " ".join(filter(None, (_lead(boards), made)))
    parts = [f"# {TITLE}", *(f"> **{warning}**" for warning in _warnings(boards)), lead]
    for title, tables in _overview(boards, unfinished):
        parts += [f"## {title}", *(markdown_table(table) for table in tables)]
    for board in boards:
        parts += [f"## {board.name}", _about(board), markdown_table(board_table(board))]
        parts += [f"Note: {note}" for note in board.notes]
    parts += ["## How to read this", *map(plain, _reading(boards))]
    return "\n\n".join(parts) + "\n"


def html(boards: Sequence[Board], unfinished: Unfinished, made: str = "") -> str:
    """Format the report as one HTML page that needs no other files and no network, and is complete without scripts.

    Args:
        boards: The boards.
        unfinished: Cells without results.
        made: Origin of the report, see `origin`.
    """
    return render(
        "report.html.j2",
        title=TITLE,
        warnings=_warnings(boards),
        lead=_lead(boards),
        made=made,
        overview=_overview(boards, unfinished),
        boards=[
            {
                "id": _id(board),
                "subset": board.subset.flag,
                "name": board.name,
                "warning": board.provenance.warning,
                "about": _about(board),
                "table": board_table(board),
                "notes": board.notes,
                "legend": _legend(board),
                "drawing": forest(board),
            }
            for board in boards
        ],
        reading=_reading(boards),
    )


def _id(board: Board) -> str:
    """Name of a board's section in the page."""
    provenance = board.provenance.value if board.provenance.banner else ""
    return "-".join(re.findall(r"[\w.]+", f"{board.subset.flag} {provenance} {board.labels}"))


def _warnings(boards: Sequence[Board]) -> list[str]:
    """One warning per kind of data that is not verified, with the subsets concerned."""
    kinds: dict[Provenance, dict[str, None]] = {}
    for board in boards:
        if not board.provenance.comparable:
            kinds.setdefault(board.provenance, {})[board.subset.python_class] = None
    return [f"{kind.warning} Subsets: {', '.join(names)}." for kind, names in kinds.items()]


def _methods(board: Board) -> str:
    """Methods of the intervals in the plot, in parentheses."""
    methods = dict.fromkeys(row.auc.method for row in board.own if row.auc.method)
    return f" ({', '.join(methods)})" if methods else ""


def _legend(board: Board) -> str:
    published = LEGEND_PUBLISHED + (LEGEND_BEST if is_comparable(board) else "") if board.published else ""
    return f"{LEGEND}{_methods(board)}{published}."


def _lead(boards: Sequence[Board]) -> str:
    tried, subsets = sum(board.tried for board in boards), len({board.subset.flag for board in boards})
    lead = f"Configurations: {tried}. Subsets: {subsets}."
    protocols = dict.fromkeys(row.ranked_in for board in boards for row in board.published)
    return lead + (f" Published rows: protocol {', '.join(protocols)}." if protocols else "")


def _about(board: Board) -> str:
    rows = sorted({row.test_rows for row in board.own if row.test_rows is not None})
    samples = f"{' or '.join(f'{count:,}' for count in rows)} test samples"
    return f"{board.subset.task.capitalize()}, {samples}. Configurations tried: {board.tried}, all in the table."


def _overview(boards: Sequence[Board], unfinished: Unfinished) -> list[tuple[str, list[Table]]]:
    """Titles and tables of the sections before the boards."""
    parts = []
    for kind, labels in dict.fromkeys((board.provenance, board.labels) for board in boards):
        its_boards = [board for board in boards if (board.provenance, board.labels) == (kind, labels)]
        few = f" ({labels})" if labels else ""
        parts += [
            (kind.mark("Chosen on validation") + few, [chosen_table(its_boards)]),
            (kind.mark("Subsets and models") + few, [models_table(its_boards)]),
        ]
    if unfinished:
        parts.append(("Not finished", [unfinished_table(unfinished)]))
    return parts


def _reading(boards: Sequence[Board]) -> list[str]:
    machines = sorted({row.hardware for board in boards for row in board.own} - {""})
    return [*READING, *([f"Times were measured on {'; '.join(machines)}."] if machines else [])]


def _record(board: Board, row: Row) -> dict[str, object]:
    """Convert a row to a line of the CSV."""
    record: dict[str, object] = {
        "subset": board.subset.flag,
        "provenance": board.provenance.value,
        "labels": board.labels or "all",
    }
    for field in dataclasses.fields(row):
        if field.name in {"links", "select", "selected"}:  # the folder and the protocol are enough
            continue
        value = getattr(row, field.name)
        if isinstance(value, BoardScore):
            record |= {field.name: value.mean, f"{field.name}_std": value.std}
            if field.name in {"auc", "acc"}:  # validation scores have no intervals
                record |= {f"{field.name}_low": value.low, f"{field.name}_high": value.high}
                record[f"{field.name}_interval"] = value.method
        else:
            record[field.name] = value
    record["own"], record["chosen"] = int(row.own), int(row.chosen)
    record |= {name: " ".join(map(str, getattr(row, name))) for name in ("seeds", "partial")}
    return {name: _cell(value) for name, value in record.items()}


def _cell(value: object) -> object:
    """Convert a value to a cell: nan becomes empty, and an apostrophe keeps formulas from being evaluated."""
    if isinstance(value, float) and math.isnan(value):
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def markdown_table(table: Table) -> str:
    """Format a table, with its caption before it, as GitHub-flavored Markdown."""

    def line(texts: Sequence[str]) -> str:
        return f"| {' | '.join(texts)} |"

    def row(cells: Sequence[TableCell]) -> str:
        return line([_markdown_cell(cell) for cell in cells])

    rules = ["---:" if column.numeric else "---" for column in table.columns]
    foot = [row(table.foot)] if table.foot else []
    heads = line([plain(column.name) for column in table.columns])
    return "\n".join(
        [f"{plain(table.caption)}:\n", heads, line(rules), *(row(each.cells) for each in table.lines), *foot]
    )


def _markdown_cell(cell: TableCell) -> str:
    text = f"**{plain(cell.text)}**" if cell.best else plain(cell.text)
    groups = (", ".join(f"[{plain(link.text)}](<{link.address}>)" for link in group) for group in cell.links)
    links = "; ".join(groups)
    return text + (f" ({plain(cell.detail)})" if cell.detail else "") + (f": {links}" if links else "")
