"""Tables of a benchmark's report, independent of the output format."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from medmnist_hf.errors import counted
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.benchmark.links import Link
from medmnist_hf.training.benchmark.rows import Board, BoardScore, Row, best_on_validation

ABSENT: Final = "–"
PLACE: Final = "Place among published"
TEST_AUC: Final = "Test AUC"
ASCENDING: Final = "ascending"
DESCENDING: Final = "descending"
_UNLIKE: Final = "runs read different files"


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell of a table.

    Attributes:
        text: Its text.
        detail: A second line of text.
        key: Sort key; None is sorted last.
        best: Whether to mark the cell as the best.
        links: Links below the text, one group per run.
    """

    text: str
    detail: str = ""
    key: float | str | None = None
    best: bool = False
    links: tuple[tuple[Link, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its heading.
        numeric: Whether it has numbers.
        first: Sort order of the first click on the heading.
        facets: Model and method of all its cells, by which a page can be filtered.
    """

    name: str
    numeric: bool = False
    first: str = ASCENDING
    facets: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table.

    Attributes:
        kind: ``own``, ``chosen`` or ``published``.
        cells: Its cells.
        facets: Pairs of ``subset``, ``model`` or ``method`` and its value, by which a page can be filtered.
    """

    kind: str
    cells: tuple[TableCell, ...]
    facets: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        caption: Its caption.
        columns: Its columns.
        lines: Its lines.
        sorted_by: Index of the column that the lines are sorted by, in the order of its first click.
        foot: Cells of a last line that is not sorted; may be empty.
    """

    caption: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    sorted_by: int | None = None
    foot: tuple[TableCell, ...] = ()


def board_table(board: Board) -> Table:
    """Table of all rows of a board by test AUC; the column of places is omitted if the board has none.

    The best test AUC and ACC of each protocol are marked, published rows included, unless no configuration of the
    board is chosen.
    """
    whole = [row for row in board.rows if board.chosen is not None and not row.partial]
    groups = {row.comparable: [each for each in whole if each.comparable == row.comparable] for row in board.rows}
    best = {
        key: (_best(row.auc.mean for row in rows), _best(row.acc.mean for row in rows)) for key, rows in groups.items()
    }
    marks = "" if all(math.isnan(score) for pair in best.values() for score in pair) else "; the best scores in bold"
    has_places = bool(board.published)
    columns = (
        *([Column(PLACE, numeric=True)] if has_places else []),
        Column("Model"),
        Column("Method"),
        Column("Size", numeric=True),
        *(Column(name, numeric=True, first=DESCENDING) for name in (TEST_AUC, "Test ACC", "Validation AUC", "Seeds")),
        Column("Protocol"),
        Column("Trained parameters", numeric=True),
        Column("Seconds per seed", numeric=True),
    )
    lines = tuple(
        Line(
            _kind(row),
            (*([_place(row)] if has_places else []), *_cells(row, *best[row.comparable])),
            facets_of(row),
        )
        for row in board.rows
    )
    is_by_auc = board.published and not any(row.partial for row in board.rows)
    by_auc = next(at for at, column in enumerate(columns) if column.name == TEST_AUC)
    return Table(f"{board.name} by test AUC{marks}", columns, lines, sorted_by=by_auc if is_by_auc else None)


def chosen_table(boards: Sequence[Board]) -> Table:
    """Table of the configuration chosen on validation for each subset, with its place among the published rows.

    All boards have the same provenance and labels; published results are left out if it is not verified data with all
    labels.
    """
    ranked = _provenance(boards).comparable and not any(board.labels for board in boards)
    columns = (
        Column("Subset"),
        Column("Chosen"),
        *(Column(name, numeric=True, first=DESCENDING) for name in ("Test AUC", "Test ACC", "Validation AUC")),
        Column("Tried", numeric=True, first=DESCENDING),
        *([Column(PLACE, numeric=True)] if ranked else []),
        *([Column("Best published AUC", numeric=True, first=DESCENDING)] if ranked else []),
    )
    lines = []
    for board in boards:
        row, chosen = board.chosen, TableCell(ABSENT, "none is complete" if board.alike else _UNLIKE)
        scores = [TableCell(ABSENT)] * 3
        if row is not None:
            runs = tuple(links[:1] for links in row.links)
            chosen = TableCell(row.model, f"{row.method}, {row.size}", row.model, links=runs)
            scores = [score_cell(row.auc), score_cell(row.acc), score_cell(row.validation_auc)]
        comparable = [each for each in board.published if row and each.comparable == row.comparable]
        best = max(comparable, key=lambda row: row.auc.mean, default=None)
        cells = [_text(board.subset.flag), chosen, *scores, _number(board.tried)]
        if ranked:
            cells += [
                _place(row) if row else TableCell(ABSENT),
                TableCell(digits(best.auc.mean), best.model, best.auc.mean) if best else TableCell(ABSENT),
            ]
        subset = (("subset", board.subset.flag),)
        lines.append(Line("own", tuple(cells), subset + (facets_of(row) if row else ())))
    caption = _provenance(boards).mark("The result of each subset, chosen on validation and scored on test")
    return Table(caption, columns, tuple(lines))


def models_table(boards: Sequence[Board]) -> Table:
    """Table of subsets by models: test AUC and ACC of each model's configuration with the best validation AUC.

    All boards have the same provenance. A board whose runs of the same size read different files has no scores.
    """
    facets = {_model(row): facets_of(row) for board in boards for row in board.own}
    names = sorted(facets)
    rows_by_name: dict[str, list[Row]] = {name: [] for name in names}
    lines = []
    for board in boards:
        cells = [_text(board.subset.flag)]
        for name in names:
            if not board.alike:
                cells.append(TableCell(ABSENT, _UNLIKE))
                continue
            best = best_on_validation([row for row in board.own if _model(row) == name])
            rows = [] if best is None else [best]
            rows_by_name[name] += rows
            cells.append(_pair(rows))
        lines.append(Line("own", _best_marked(cells), (("subset", board.subset.flag),)))
    columns = (
        Column("Subset"),
        *(Column(name, numeric=True, first=DESCENDING, facets=facets[name]) for name in names),
    )
    foot = [TableCell(f"mean of {counted(len(boards), 'subset')}")]
    foot += [_pair(rows if len(rows) == len(boards) else []) for rows in rows_by_name.values()]
    marks = ", the best AUC of each line in bold" if len(names) > 1 else ""
    caption = _provenance(boards).mark(
        f"Test AUC / ACC{marks}; for each model, of its configuration that is best on validation"
    )
    return Table(caption, columns, tuple(lines), foot=_best_marked(foot) if len(boards) > 1 else ())


def unfinished_table(unfinished: Sequence[tuple[str, str, str]]) -> Table:
    """Table of cells without results: name, state and reason of the failure."""
    lines = tuple(Line("own", tuple(_text(text) for text in texts)) for texts in unfinished)
    return Table("Cells without results", (Column("Cell"), Column("State"), Column("Why")), lines)


def facets_of(row: Row) -> tuple[tuple[str, str], ...]:
    """Facets to filter a configuration by, without its subset; none for published rows, which are always shown."""
    return (("model", row.model), ("method", row.method)) if row.own else ()


def score_cell(score: BoardScore) -> TableCell:
    """Cell with a mean and its standard deviation, and the interval below."""
    if math.isnan(score.mean):
        return TableCell(ABSENT)
    spread = "" if math.isnan(score.std) else f" ± {digits(score.std)}"
    interval = "" if math.isnan(score.low) else f"{digits(score.low)} to {digits(score.high)} {score.method}".rstrip()
    return TableCell(f"{digits(score.mean)}{spread}", interval, score.mean)


def digits(value: float) -> str:
    """Format a score with three decimals."""
    return ABSENT if math.isnan(value) else f"{value:.3f}"


def _best_marked(cells: Sequence[TableCell]) -> tuple[TableCell, ...]:
    """Mark the best of two or more scores of a line, and all that are equal to three decimals."""
    best = _best(cell.key for cell in cells if isinstance(cell.key, float))
    return tuple(_marked(cell, best) for cell in cells)


def _best(scores: Iterable[float]) -> float:
    """The best of two or more scores, rounded to three decimals; nan for fewer than two."""
    known = [round(score, 3) for score in scores if not math.isnan(score)]
    return max(known) if len(known) > 1 else math.nan


def _marked(cell: TableCell, best: float) -> TableCell:
    """Mark a cell if its score is the best."""
    return replace(cell, best=True) if isinstance(cell.key, float) and round(cell.key, 3) == best else cell


def _kind(row: Row) -> str:
    return "chosen" if row.chosen else "own" if row.own else "published"


def _cells(row: Row, best_auc: float, best_acc: float) -> tuple[TableCell, ...]:
    states = [_kind(row)] if _kind(row) != "own" else []
    if row.partial:
        states.append(f"partial: {_seeds(row.partial)}")
        best_auc = best_acc = math.nan
    return (
        TableCell(row.model, "; ".join(states), row.model, links=row.links),
        _text(row.method),
        _number(row.size),
        _marked(score_cell(row.auc), best_auc),
        _marked(score_cell(row.acc), best_acc),
        score_cell(row.validation_auc),
        TableCell(str(len(row.seeds)), _seeds(row.seeds), len(row.seeds)) if row.seeds else TableCell(ABSENT),
        _text(row.protocol),
        _number(row.trained_parameters),
        TableCell(ABSENT) if math.isnan(row.seconds) else TableCell(f"{row.seconds:,.1f}", "", row.seconds),
    )


def _seeds(seeds: Sequence[int]) -> str:
    """Format ascending seeds as ``seeds 0-2, 7``, with a range for three or more consecutive seeds."""
    parts: list[list[int]] = []
    for seed in seeds:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    texts = (f"{part[0]}-{part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(texts)}"


def _text(text: str) -> TableCell:
    return TableCell(text, "", text) if text else TableCell(ABSENT)


def _number(value: int | None) -> TableCell:
    return TableCell(ABSENT) if value is None else TableCell(f"{value:,}", "", value)


def _place(row: Row) -> TableCell:
    """Cell with a place and, for a configuration, what it is among."""
    if row.place is None:
        return TableCell(ABSENT)
    return TableCell(f"{row.place} of {row.places}" if row.own else str(row.place), row.ranked_in, row.place)


def _provenance(boards: Sequence[Board]) -> Provenance:
    """Provenance of all boards of a table."""
    (provenance,) = {board.provenance for board in boards}
    return provenance


def _pair(rows: Sequence[Row]) -> TableCell:
    """Cell with mean AUC and ACC of rows; empty without rows."""
    if not rows:
        return TableCell(ABSENT)
    auc = statistics.fmean(row.auc.mean for row in rows)
    acc = statistics.fmean(row.acc.mean for row in rows)
    return TableCell(ABSENT) if math.isnan(auc) else TableCell(f"{digits(auc)} / {digits(acc)}", "", auc)


def _model(row: Row) -> str:
    return f"{row.model} {row.method}"
