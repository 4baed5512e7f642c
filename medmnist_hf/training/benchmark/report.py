"""A benchmark's report: its boards as Markdown, as CSV and as one HTML page that stands alone."""

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.cards.environment import plain
from medmnist_hf.files import write_atomically
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.benchmark.boards import Board, BoardScore, Row
from medmnist_hf.training.benchmark.forest_plot import forest
from medmnist_hf.training.benchmark.markup import render
from medmnist_hf.training.benchmark.origin import origin
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
    "A place is that of a row by test AUC among the published rows and itself: other rows of this report do not "
    "count, and scores equal to three decimals share a place. Published rows are those of the MedMNIST v2 paper (Yang "
    "et al., Scientific Data 10:41, 2023), which gives neither seeds nor intervals. Only runs on verified data, built "
    "from the official files, have a place. Runs on synthetic or unverified data have tables of their own.",
    "Every configuration that was run is in its table. Of those that are whole, all seeds run and no search "
    "interrupted, and that were scored on test, the chosen one has the best "
    "AUC on the validation split, and its test scores are the result. The best of many test scores is no result: it "
    "is partly luck.",
    "A score is the mean over the seeds ± their sample standard deviation, which one seed has not. The range with it "
    "goes from the mean of the lower to the mean of the upper ends of the seeds' 95 % intervals; the method that made "
    "them stands with it. It is the interval of one run: what another test set of this size may change. All seeds "
    "share the test images, so more seeds make it no narrower. What another seed may change is the deviation.",
)
LEGEND: Final = (
    "Test AUC: discs are own rows, the one with a ring was chosen on validation; lines are their 95 % intervals"
)
LEGEND_PUBLISHED: Final = "; squares are published rows, and the dashed line is at the best of them"

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that spreadsheets take for a formula (OWASP, "CSV Injection")."""

Unfinished = Sequence[tuple[str, str, str]]
"""Cells without results: name, state and what they failed by."""


def write_report(boards: Sequence[Board], unfinished: Unfinished, out: Path) -> tuple[Path, ...]:
    """Write ``report.md``, ``report.csv`` and ``report.html``, each whole or not at all.

    Runs on data that is not verified have a CSV of their own, ``report-synthetic.csv`` or ``report-unverified.csv``;
    one that an earlier report left is removed where there are none now.

    Args:
        boards: What was found, see `medmnist_hf.training.benchmark.boards.gather`.
        unfinished: Cells without results.
        out: Folder of the report, which exists.

    Returns:
        The files.
    """
    made = origin()
    contents = {"report.md": markdown(boards, unfinished, made), "report.html": html(boards, unfinished, made)}
    for provenance in Provenance:
        name = "report.csv" if provenance.comparable else f"report-{provenance}.csv"
        some = [board for board in boards if board.provenance is provenance]
        if some or provenance.comparable:
            contents[name] = csv_text(some)
        else:
            (out / name).unlink(missing_ok=True)
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


def markdown(boards: Sequence[Board], unfinished: Unfinished, made: str = "") -> str:
    """The report as GitHub-flavored Markdown; `made` says by what it was written, see `origin`."""
    lead = " ".join(filter(None, (_lead(boards), made)))
    parts = [f"# {TITLE}", *(f"> **{warning}**" for warning in _warnings(boards)), lead]
    for title, tables in _overview(boards, unfinished):
        parts += [f"## {title}", *(_markdown_table(table) for table in tables)]
    for board in boards:
        parts += [f"## {board.name}", _about(board), _markdown_table(board_table(board))]
        parts += [f"Note: {note}" for note in board.notes]
    parts += ["## How to read this", *map(plain, _reading(boards))]
    return "\n\n".join(parts) + "\n"


def html(boards: Sequence[Board], unfinished: Unfinished, made: str = "") -> str:
    """The report as one page: it needs no other file and no network, and all of it is there without scripts.

    Args:
        boards: What was found.
        unfinished: Cells without results.
        made: By what it was written, see `origin`.
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
                "id": "-".join([board.subset.flag, *([board.provenance] if board.provenance.banner else [])]),
                "subset": board.subset.flag,
                "name": board.name,
                "warning": board.provenance.warning,
                "about": _about(board),
                "table": board_table(board),
                "notes": board.notes,
                "legend": LEGEND + _methods(board) + (LEGEND_PUBLISHED if board.published else "") + ".",
                "drawing": forest(board),
            }
            for board in boards
        ],
        reading=_reading(boards),
    )


def _warnings(boards: Sequence[Board]) -> list[str]:
    """One line for each kind of data that is not verified, and which subsets it is of."""
    kinds: dict[Provenance, list[str]] = {}
    for board in boards:
        if not board.provenance.comparable:
            kinds.setdefault(board.provenance, []).append(board.subset.python_class)
    return [f"{kind.warning} Here: {', '.join(names)}." for kind, names in kinds.items()]


def _methods(board: Board) -> str:
    """How the intervals of the drawing were made, in brackets."""
    methods = dict.fromkeys(row.auc.method for row in board.own if row.auc.method)
    return f" ({', '.join(methods)})" if methods else ""


def _lead(boards: Sequence[Board]) -> str:
    tried, subsets = sum(board.tried for board in boards), len({board.subset.flag for board in boards})
    lead = f"Configurations: {tried}. Subsets: {subsets}."
    return lead + (" Published rows: those of the MedMNIST v2 paper." if any(one.published for one in boards) else "")


def _about(board: Board) -> str:
    rows = sorted({row.test_rows for row in board.own if row.test_rows is not None})
    tested = f"{' or '.join(f'{count:,}' for count in rows)} test samples"
    return f"{board.subset.task.capitalize()}, {tested}. Configurations tried: {board.tried}, all in the table."


def _overview(boards: Sequence[Board], unfinished: Unfinished) -> list[tuple[str, list[Table]]]:
    """Titles and tables of what comes before the boards."""
    parts = []
    for kind in Provenance:
        some = [board for board in boards if board.provenance is kind]
        if some:
            parts += [
                (kind.mark("Chosen on validation"), [chosen_table(some)]),
                (kind.mark("Subsets and models"), [models_table(some)]),
            ]
    if unfinished:
        parts.append(("Not finished", [unfinished_table(unfinished)]))
    return parts


def _reading(boards: Sequence[Board]) -> list[str]:
    machines = sorted({row.hardware for board in boards for row in board.own} - {""})
    return [*READING, *([f"Seconds were measured on {'; '.join(machines)}."] if machines else [])]


def _record(board: Board, row: Row) -> dict[str, object]:
    """A row as a line of the CSV."""
    record: dict[str, object] = {"subset": board.subset.flag, "provenance": board.provenance.value}
    for field in dataclasses.fields(row):
        if field.name == "links":  # the folder says it
            continue
        value = getattr(row, field.name)
        if isinstance(value, BoardScore):
            record |= {field.name: value.mean, f"{field.name}_std": value.std}
            if field.name in {"auc", "acc"}:  # of validation there are no intervals
                record |= {f"{field.name}_low": value.low, f"{field.name}_high": value.high}
                record[f"{field.name}_interval"] = value.method
        else:
            record[field.name] = value
    record["own"], record["chosen"] = int(row.own), int(row.chosen)
    record |= {name: " ".join(map(str, getattr(row, name))) for name in ("seeds", "partial")}
    return {name: _cell(value) for name, value in record.items()}


def _cell(value: object) -> object:
    """A value as a cell: nan is empty, and a text that a spreadsheet would compute begins with an apostrophe."""
    if isinstance(value, float) and math.isnan(value):
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _markdown_table(table: Table) -> str:
    def line(texts: Sequence[str]) -> str:
        return f"| {' | '.join(texts)} |"

    def told(cells: Sequence[TableCell]) -> str:
        return line([_markdown_cell(cell) for cell in cells])

    rules = ["---:" if column.numeric else "---" for column in table.columns]
    foot = [told(table.foot)] if table.foot else []
    heads = line([plain(column.name) for column in table.columns])
    return "\n".join([f"{table.caption}:\n", heads, line(rules), *(told(one.cells) for one in table.lines), *foot])


def _markdown_cell(cell: TableCell) -> str:
    text = f"**{plain(cell.text)}**" if cell.best else plain(cell.text)
    groups = (", ".join(f"[{plain(link.text)}](<{link.address}>)" for link in group) for group in cell.links)
    links = "; ".join(groups)
    return text + (f" ({plain(cell.detail)})" if cell.detail else "") + (f": {links}" if links else "")
