"""What is printed of scored prediction files: tables, and the facts that ``--json`` prints."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medmnist_hf import console
from medmnist_hf.evaluation.evaluate import Evaluation, FileComparison
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.confidence import Interval
from medmnist_hf.scoring.metrics import CLASSWISE
from medmnist_hf.scoring.published import LeaderboardRow, Standing


def print_board(flag: str, kind: Provenance, rows: Sequence[LeaderboardRow]) -> None:
    """One table: of verified data with the published rows and places, of other data with own rows alone."""
    ranked = any(not row.own for row in rows)
    heads = ("AUC", "place", "ACC", "place", "method") if ranked else ("AUC", "ACC", "method")
    table = console.table(*heads, text=("method",))
    for row in rows:
        name = f"{row.name}  (yours)" if row.own else row.name
        cells = (_digits(row.auc), _place(row.auc_rank), _digits(row.acc), _place(row.acc_rank), name)
        table.add_row(*(cells if ranked else (cells[0], cells[2], kind.mark(name))))
    console.terminal().print(table if table.rows else f"nothing is published of {flag}: name a prediction file")


def _place(rank: int | None) -> str:
    return "-" if rank is None else str(rank)


def print_evaluations(done: Sequence[Evaluation], per_class: bool) -> None:
    """Tables of scored files, one for each kind of data, with those of each class below if `per_class`."""
    kinds = [kind for kind in Provenance if any(found.provenance is kind for found in done)]
    for kind in kinds:
        print_banner(kind, first=kind is kinds[0])
        _print_kind([found for found in done if found.provenance is kind], per_class)


def print_banner(kind: Provenance, *, first: bool) -> None:
    """The line above a table of data that is not verified, apart from the table before it."""
    if not kind.comparable:
        console.terminal().print(("" if first else "\n") + kind.warning, soft_wrap=True)


def _print_kind(done: Sequence[Evaluation], per_class: bool) -> None:
    """Tables of files whose labels are of one kind."""
    extra = list(dict.fromkeys(name for found in done for name in found.metrics if ":" not in name or not per_class))
    titles = {"auc": "AUC", "acc": "ACC"} | {name: name for name in extra}
    heads = [_head(title, [found.intervals.get(name) for found in done]) for name, title in titles.items()]
    table = console.table("subset", "size", "split", "rows", *heads, "run", text=("subset", "split", "run"))
    names = run_names(done)
    for found, run in zip(done, names, strict=True):
        result, spans = found.result, found.intervals
        table.add_row(
            result.flag,
            str(result.size),
            result.split,
            f"{found.score.rows:,}",
            _digits(found.score.auc, spans.get("auc")),
            _digits(found.score.acc, spans.get("acc")),
            *(_digits(found.metrics[name], spans.get(name)) if name in found.metrics else "" for name in extra),
            found.provenance.mark(run),
        )
    console.terminal().print(table)
    for found, run in zip(done, names, strict=True) if per_class else ():
        console.terminal().print(f"\n{found.result.flag} {run}", soft_wrap=True)
        first = found.predictions.class_ids[0]
        heads = [_head(name, [found.intervals.get(f"{name}:{first}")]) for name in CLASSWISE]
        classes = console.table("id", "class", "positive", *heads, text=("class",))
        for label in found.predictions.class_ids:
            names = [f"{name}:{label}" for name in CLASSWISE]
            cells = [_digits(found.metrics[name], found.intervals.get(name)) for name in names]
            classes.add_row(str(label), found.entry.labels[label], f"{found.positives(label):,}", *cells)
        console.terminal().print(classes)


def print_comparison(found: FileComparison, first: Path, second: Path) -> None:
    """What was compared, and a table of the differences."""
    out = console.terminal()
    print_banner(found.provenance, first=True)
    out.print(f"{found.flag} {found.split}, {found.rows:,} rows\nA  {first}\nB  {second}", soft_wrap=True)
    table = console.table("measure", "A", "B", "A - B", "95 % interval", "p", "method", text=("measure", "method"))
    for name, each in found.metrics.items():
        span = f"[{each.difference.low:+.4f}, {each.difference.high:+.4f}]"
        cells = (
            f"{each.first:.4f}",
            f"{each.second:.4f}",
            f"{each.difference.estimate:+.4f}",
            span,
            "< 1e-32" if each.p == 0 else f"{each.p:.3g}",
        )
        table.add_row(name, *cells, each.difference.method)
    out.print(table)


def print_standing(found: Evaluation, run: str, standing: Standing | None) -> None:
    """Where a file stands among the published results, and how far from each; `standing` is None if nowhere."""
    where = "nothing is published to compare with"
    if not found.provenance.comparable:
        where = f"{found.provenance} data has no place"
    if standing is not None:
        auc_place, acc_place = _place(standing.auc_rank), _place(standing.acc_rank)
        where = f"place {auc_place} by AUC and {acc_place} by ACC of {standing.places}"
    auc, acc = (
        f"{_digits(span.estimate, span)} ({span.method})" for span in (found.intervals["auc"], found.intervals["acc"])
    )
    console.terminal().print(f"\n{run}: AUC {auc}, ACC {acc}: {where}", soft_wrap=True)
    if standing is None:
        return
    heads = ("AUC - published", "in interval", "ACC - published", "in interval", "method")
    table = console.table(*heads, text=("in interval", "method"))
    words = {True: "yes", False: "no", None: "unknown"}
    for each in standing.comparisons:
        table.add_row(
            f"{each.auc_difference:+.3f}",
            words[each.auc_covered],
            f"{each.acc_difference:+.3f}",
            words[each.acc_covered],
            each.published.method,
        )
    console.terminal().print(table)


def evaluation_facts(found: Evaluation) -> dict[str, Any]:
    """All that is known of a scored file, for JSON."""
    result = found.result
    facts: dict[str, Any] = {
        "file": str(found.path),
        "provenance": found.provenance,
        "subset": result.flag,
        "size": result.size,
        "split": result.split,
        "run": result.run,
        "rows": found.score.rows,
        "auc": found.score.auc,
        "acc": found.score.acc,
        "absent": found.score.absent,
        "name_auc": result.auc,
        "name_acc": result.acc,
        "warnings": found.warnings,
        "measures": found.metrics,
        "intervals": found.intervals,
    }
    if any(":" in name for name in found.metrics):
        facts["classes"] = [
            {"id": label, "label": found.entry.labels[label], "positive": found.positives(label)}
            for label in found.predictions.class_ids
        ]
    return facts


def comparison_facts(found: FileComparison, first: Path, second: Path) -> dict[str, Any]:
    """All that is known of a comparison, for JSON."""
    return {
        "first": str(first),
        "second": str(second),
        "provenance": found.provenance,
        "subset": found.flag,
        "split": found.split,
        "rows": found.rows,
        "measures": found.metrics,
        "warnings": found.warnings,
    }


def run_names(done: Sequence[Evaluation]) -> list[str]:
    """Name of the run of each file, or that of the file; where several are called so, with the folder it is in."""
    names = [found.result.run or found.path.name for found in done]
    return [
        f"{name} ({found.path.parent})" if names.count(name) > 1 else name
        for name, found in zip(names, done, strict=True)
    ]


def _digits(value: float, interval: Interval | None = None) -> str:
    if interval is None:
        return f"{value:.3f}"
    span = "unknown" if math.isnan(interval.low) else f"{interval.low:.3f}, {interval.high:.3f}"
    return f"{value:.3f} [{span}]"


def _head(title: str, intervals: Sequence[Interval | None]) -> str:
    """Head of a column, with the method of the intervals in it."""
    methods = dict.fromkeys(interval.method for interval in intervals if interval is not None)
    return title + (f" [95 % {', '.join(methods)}]" if methods else "")
