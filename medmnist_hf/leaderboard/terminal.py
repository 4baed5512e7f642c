"""Leaderboards for the terminal, and the values that ``--json`` prints."""

import math
import statistics
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, Final

from medmnist_hf import console
from medmnist_hf.leaderboard.board import SIGNIFICANT, Board, Line, OwnResult
from medmnist_hf.leaderboard.protocols import OFFICIAL
from medmnist_hf.leaderboard.results import sources
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.published import published_notes

SHOWN: Final = 12
"""Number of published results that reports on other things list."""

_WIDE: Final = 2.0
"""Multiple of the median standard error of a board from which a place may say little."""

_TIES: Final = (
    "results share a place if they differ by at most two standard errors (SE): of another test set of this size, and "
    "of the seeds where these are published"
)


def print_board(board: Board, *, at_most: int | None = None) -> None:
    """Print the results that may be compared, those selected on test under a line of their own, and notes on them.

    Args:
        board: The board.
        at_most: Number of published results to print, see `shortened`; None for all.
    """
    board, more = (board, "") if at_most is None else shortened(board, at_most)
    out = console.terminal()
    out.print(f"{board.subset}, protocol {board.protocol.name}: {board.protocol.title}", soft_wrap=True)
    if board.ranked:
        out.print(_table(board.ranked, places=True))
    else:
        out.print(f"no published results for {board.subset} of this protocol: pass a prediction file", soft_wrap=True)
    if more:
        out.print(more, soft_wrap=True)
    if board.fenced:
        out.print("\nSelected on the test split, so not ranked:")
        out.print(_table(board.fenced, places=False))
    for note in board_notes(board):
        out.print(f"note: {note}", soft_wrap=True)


def shortened(board: Board, at_most: int) -> tuple[Board, str]:
    """A board with its first published results and all own ones, and a sentence on what it lacks.

    Args:
        board: A board.
        at_most: Number of published results to keep. If there are more, those selected on test are left out, too.
    """
    published = [line for line in board.ranked if line.result is not None]
    if len(published) <= at_most:
        return board, ""
    lacking = published[at_most:]
    ranked = tuple(line for line in board.ranked if all(line is not each for each in lacking))
    fenced = f" and {len(board.fenced)} selected on test" if board.fenced else ""
    text = f"{len(lacking)} more published results{fenced}: medmnist-hf leaderboard {board.subset}"
    name = board.protocol.name
    return replace(board, ranked=ranked, fenced=()), text + ("" if name == OFFICIAL else f" --protocol {name}")


def print_own(kind: Provenance, own: Sequence[OwnResult]) -> None:
    """Print own results on data that is not verified, which are not compared with published ones."""
    table = console.table("AUC", "ACC", "method", text=("method",))
    for each in sorted(own, key=lambda each: -each.auc):
        table.add_row(_digits(each.auc), _digits(each.acc), kind.mark(f"{each.name}  (yours)"))
    console.terminal().print(table)


def _table(lines: Sequence[Line], *, places: bool) -> Any:
    place = ("place",) if places else ()
    heads = ("AUC", "SE", *place, "ACC", "SE", *place, "selected on", "seeds", "method")
    table = console.table(*heads, text=("selected on", "method"))
    for line in lines:
        result = line.result
        auc_place, acc_place = ((_place(line.auc_rank),), (_place(line.acc_rank),)) if places else ((), ())
        table.add_row(
            *(_digits(line.auc), _digits(line.auc_error), *auc_place),
            *(_digits(line.acc), _digits(line.acc_error), *acc_place),
            "" if result is None else result.selected_on,
            "" if result is None else str(result.seeds or "unknown"),
            _name(line),
        )
    return table


def _name(line: Line) -> str:
    """Name of a line; further results than published ones say where they are from."""
    if line.result is None:
        return f"{line.name}  (yours)"
    return line.name if line.result.source in sources() else f"{line.name}  ({line.result.locator})"


def board_notes(board: Board) -> Iterator[str]:
    """What to know before comparing the lines of a board."""
    if len(board.ranked) > 1:
        yield _TIES
    if board.protocol.name == OFFICIAL and board.ranked:
        yield from published_notes(board.subset)
    yield from _wide_errors(board.ranked)
    if board.left_out:
        number = "1 result is" if board.left_out == 1 else f"{board.left_out} results are"
        yield f"{number} left out, as the selection, the pretraining or the training is unknown"
    results = [line.result for line in (*board.ranked, *board.fenced) if line.result is not None]
    for text in dict.fromkeys(result.note for result in results if result.note):
        methods = list(dict.fromkeys(result.method for result in results if result.note == text))
        more = f" and {len(methods) - 3} more" if len(methods) > 3 else ""
        yield f"{', '.join(methods[:3])}{more}: {text}"


def _wide_errors(lines: Sequence[Line]) -> Iterator[str]:
    """Results that are not published and share a better one's place only because their seeds differ widely."""
    for name in ("auc", "acc"):
        ranked = [line for line in lines if getattr(line, f"{name}_rank") is not None]
        usual = statistics.median([getattr(line, f"{name}_error") for line in ranked]) if ranked else math.nan
        for line in ranked:
            rank, error = getattr(line, f"{name}_rank"), getattr(line, f"{name}_error")
            best = max((each for each in ranked if getattr(each, f"{name}_rank") == rank), key=attrgetter(name))
            reach = SIGNIFICANT * math.hypot(getattr(best, f"{name}_error"), usual)
            is_published = line.result is not None and line.result.source in sources()
            if error > _WIDE * usual and getattr(best, name) - getattr(line, name) > reach and not is_published:
                yield (
                    f"the place of {line.name} by {name.upper()} says little: its standard error is "
                    f"{error / usual:.1f} times the usual one here"
                )


def board_facts(board: Board) -> dict[str, Any]:
    """Convert a board to values for JSON, with all digits."""
    used = dict.fromkeys(line.result.source for line in (*board.ranked, *board.fenced) if line.result is not None)
    rules = board.protocol
    return {
        "protocol": {"name": rules.name, "title": rules.title, "description": rules.description},
        "sources": {
            key: {"title": sources()[key].title, "url": sources()[key].url} for key in used if key in sources()
        },
        "rows": [_facts(line) for line in board.ranked],
        "selected_on_test": [_facts(line) for line in board.fenced],
        "left_out": board.left_out,
    }


def _facts(line: Line) -> dict[str, Any]:
    names: Collection[str] = ("name", "auc", "auc_error", "auc_rank", "acc", "acc_error", "acc_rank")
    return {name: getattr(line, name) for name in names} | {"own": line.result is None, "published": line.result}


def _place(rank: int | None) -> str:
    return "-" if rank is None else str(rank)


def _digits(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
