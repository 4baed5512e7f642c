"""The facts of the catalog and the leaderboards, as the page reads them; every rank is computed here."""

import math
from collections.abc import Iterable
from typing import Any, Final

from medmnist_hf.catalog import NAMESPACE, Subset, collection, subsets
from medmnist_hf.leaderboard.board import SIGNIFICANT, Board, Line, leaderboard
from medmnist_hf.leaderboard.protocols import protocols
from medmnist_hf.leaderboard.results import Result, results, sources
from medmnist_hf.leaderboard.terminal import board_notes

_DIGITS: Final = 6
"""Decimals of standard errors, whose last bits depend on the machine."""


def subset_facts() -> dict[str, Any]:
    """The facts about MedMNIST and its subsets, in the order of the catalog."""
    facts = collection()
    return {
        "version": facts.version,
        "homepage": facts.homepage,
        "caveats": facts.caveats,
        "subsets": [_subset(entry) for entry in subsets()],
    }


def _subset(entry: Subset) -> dict[str, Any]:
    names, urls = collection().license_names, collection().license_urls
    return {
        "flag": entry.flag,
        "name": entry.python_class,
        "ndim": entry.ndim,
        "channels": entry.channels,
        "task": entry.task,
        "labels": entry.labels,
        "modality": entry.modality,
        "counts": {"train": entry.counts.train, "validation": entry.counts.validation, "test": entry.counts.test},
        "sizes": entry.sizes,
        "license": {"id": entry.license, "name": names[entry.license], "url": urls[entry.license]},
        "description": entry.description,
        "caveats": entry.caveats,
        "repository": f"{NAMESPACE}/{entry.flag}",
    }


def board_facts() -> dict[str, Any]:
    """What all leaderboards have in common: ``protocols``, ``sources``, and ``errors``, the reach of intervals."""
    return {
        "errors": SIGNIFICANT,
        "protocols": [
            {"name": each.name, "title": each.title, "description": each.description} for each in protocols().values()
        ],
        "sources": {key: {"title": each.title, "url": each.url} for key, each in sources().items()},
    }


def boards_of(flag: str, entries: Iterable[Result] = ()) -> dict[str, Any]:
    """The leaderboards of a subset under all protocols, with every choice of the page's filters.

    Args:
        flag: Flag of the subset.
        entries: Further results, see `medmnist_hf.leaderboard.board.leaderboard`.

    Returns:
        ``results``, and ``boards`` by protocol. A board has the values of its filters (``size``, ``clean``),
        ``ranked`` (index of the result, rank by AUC, rank by ACC), ``fenced`` (indices of the results selected on
        test), ``left_out`` and ``notes``. A value that is not known is null.
    """
    found = (*results(flag), *(entry for entry in entries if entry.subset == flag))
    order = {id(result): index for index, result in enumerate(found)}
    rows: list[dict[str, Any]] = [{}] * len(order)
    boards = {}
    for rules in protocols().values():
        admitted = [result for result in found if rules.admits(result)]
        if not admitted:
            continue
        choices = []
        sizes = sorted({result.size for result in admitted})
        for size in (None, *sizes) if len(sizes) > 1 else (None,):
            for clean in (False, True):
                board = leaderboard(flag, rules.name, entries=found[len(results(flag)) :], clean=clean, size=size)
                for line in (*board.ranked, *board.fenced):
                    rows[order[id(line.result)]] = _row(line)
                choices.append({"size": size, "clean": clean} | _board(board, order))
        boards[rules.name] = choices
    return {"results": rows, "boards": boards}


def _board(board: Board, order: dict[int, int]) -> dict[str, Any]:
    return {
        "ranked": [[order[id(line.result)], line.auc_rank, line.acc_rank] for line in board.ranked],
        "fenced": [order[id(line.result)] for line in board.fenced],
        "left_out": board.left_out,
        "notes": list(board_notes(board)),
    }


def _row(line: Line) -> dict[str, Any]:
    result = line.result
    assert result is not None  # only own results have none
    return {
        "method": result.method,
        "size": result.size,
        "pretraining": result.pretraining,
        "adaptation": result.adaptation,
        "selected_on": result.selected_on,
        "seeds": result.seeds,
        "auc": _value(line.auc, line.auc_error),
        "acc": _value(line.acc, line.acc_error),
        "test_rows": result.test_rows,
        "release": result.release,
        "source": result.source,
        "locator": result.locator,
        "recomputed_by": result.recomputed_by,
        "note": result.note,
    }


def _value(value: float, error: float) -> list[float] | None:
    """A score with the ends of its interval, which are two standard errors away; None if it is not published."""
    if math.isnan(value):
        return None
    reach = 0.0 if math.isnan(error) else SIGNIFICANT * error
    return [value, round(max(0.0, value - reach), _DIGITS), round(min(1.0, value + reach), _DIGITS)]
