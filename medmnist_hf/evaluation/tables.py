"""Tables of scored prediction files for the terminal, and the values that ``--json`` prints."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medmnist_hf import console
from medmnist_hf.evaluation.by_group import FEWEST, MEASURES, SMALL, GroupEvaluation
from medmnist_hf.evaluation.evaluate import Evaluation, FileComparison
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.confidence import Interval
from medmnist_hf.scoring.metrics import CLASSWISE
from medmnist_hf.scoring.published import PublishedComparison


def print_evaluations(evaluations: Sequence[Evaluation], per_class: bool) -> None:
    """Print tables of scored files, one per provenance, followed by a table of each file's classes if `per_class`."""
    kinds = [kind for kind in Provenance if any(evaluation.provenance is kind for evaluation in evaluations)]
    for kind in kinds:
        print_banner(kind, first=kind is kinds[0])
        _print_kind([evaluation for evaluation in evaluations if evaluation.provenance is kind], per_class)


def print_banner(kind: Provenance, *, first: bool) -> None:
    """Print the warning above a table of data that is not verified, after a blank line unless it comes first."""
    if not kind.comparable:
        console.terminal().print(("" if first else "\n") + kind.warning, soft_wrap=True)


def _print_kind(evaluations: Sequence[Evaluation], per_class: bool) -> None:
    """Print the tables of files with labels of the same provenance."""
    extra = list(
        dict.fromkeys(
            name for evaluation in evaluations for name in evaluation.metrics if ":" not in name or not per_class
        )
    )
    titles = {"auc": "AUC", "acc": "ACC"} | {name: name for name in extra}
    heads = [
        _head(title, [evaluation.intervals.get(name) for evaluation in evaluations]) for name, title in titles.items()
    ]
    table = console.table("subset", "size", "split", "rows", *heads, "run", text=("subset", "split", "run"))
    runs = run_names(evaluations)
    for evaluation, run in zip(evaluations, runs, strict=True):
        result, values, intervals = evaluation.result, evaluation.metrics, evaluation.intervals
        table.add_row(
            result.flag,
            str(result.size),
            result.split,
            f"{evaluation.score.rows:,}",
            _digits(evaluation.score.auc, intervals.get("auc")),
            _digits(evaluation.score.acc, intervals.get("acc")),
            *(_digits(values[name], intervals.get(name)) if name in values else "" for name in extra),
            evaluation.provenance.mark(run),
        )
    console.terminal().print(table)
    for evaluation, run in zip(evaluations, runs, strict=True) if per_class else ():
        console.terminal().print(f"\n{evaluation.result.flag} {run}", soft_wrap=True)
        first = evaluation.predictions.class_ids[0]
        heads = [_head(name, [evaluation.intervals.get(f"{name}:{first}")]) for name in CLASSWISE]
        classes = console.table("id", "class", "positive", *heads, text=("class",))
        for label in evaluation.predictions.class_ids:
            names = [f"{name}:{label}" for name in CLASSWISE]
            cells = [_digits(evaluation.metrics[name], evaluation.intervals.get(name)) for name in names]
            classes.add_row(str(label), evaluation.entry.labels[label], f"{evaluation.positives(label):,}", *cells)
        console.terminal().print(classes)


def print_groups(result: GroupEvaluation, run: str) -> None:
    """Print the measures of each group of a column with intervals, and the gap between best and worst group."""
    out = console.terminal()
    out.print(f"\n{run} by {result.column}{f', {result.bins}' if result.bins else ''}", soft_wrap=True)
    heads = [_head(name, [group.intervals.get(name) for group in result.groups]) for name in MEASURES]
    table = console.table(result.column, "rows", *heads, "", text=(result.column, ""))
    for group in result.groups:
        known = group.intervals
        cells = (_digits(known[name].estimate, known[name]) if name in known else "undefined" for name in MEASURES)
        table.add_row(group.name, f"{group.rows:,}", *cells, "small" if group.small else "")
    out.print(table)
    for name, gap in result.gaps.items():
        out.print(f"{name}: worst for {gap.worst}, {gap.difference:.3f} below {gap.best}", soft_wrap=True)
    if any(group.small for group in result.groups):
        out.print(
            f"small: fewer than {SMALL} rows, or fewer than {FEWEST} of a class; left out of worst and best",
            soft_wrap=True,
        )


def print_comparison(comparison: FileComparison, first: Path, second: Path) -> None:
    """Print the two files and a table of the differences between their metrics."""
    out = console.terminal()
    print_banner(comparison.provenance, first=True)
    out.print(
        f"{comparison.flag} {comparison.split}, {comparison.rows:,} rows\nA  {first}\nB  {second}", soft_wrap=True
    )
    table = console.table("measure", "A", "B", "A - B", "95 % interval", "p", "method", text=("measure", "method"))
    for name, each in comparison.metrics.items():
        cells = (
            f"{each.first:.4f}",
            f"{each.second:.4f}",
            f"{each.difference.estimate:+.4f}",
            f"[{each.difference.low:+.4f}, {each.difference.high:+.4f}]",
            "< 1e-32" if each.p == 0 else f"{each.p:.3g}",
        )
        table.add_row(name, *cells, each.difference.method)
    out.print(table)


def print_comparisons(
    evaluation: Evaluation, run: str, where: str, comparisons: Sequence[PublishedComparison]
) -> None:
    """Print where a file stands among the published results, and its difference from each that is given.

    Args:
        evaluation: The scored file.
        run: Name of its run.
        where: Its place, or why it has none.
        comparisons: Its differences from published results; may be empty.
    """
    auc, acc = (
        f"{_digits(interval.estimate, interval)} ({interval.method})"
        for interval in (evaluation.intervals["auc"], evaluation.intervals["acc"])
    )
    console.terminal().print(f"\n{run}: AUC {auc}, ACC {acc}: {where}", soft_wrap=True)
    if not comparisons:
        return
    heads = ("AUC - published", "in AUC interval", "ACC - published", "in ACC interval", "method")
    table = console.table(*heads, text=("in AUC interval", "in ACC interval", "method"))
    words = {True: "yes", False: "no", None: "unknown"}
    for each in comparisons:
        table.add_row(
            f"{each.auc_difference:+.3f}",
            words[each.auc_covered],
            f"{each.acc_difference:+.3f}",
            words[each.acc_covered],
            each.published.method,
        )
    console.terminal().print(table)


def evaluation_facts(evaluation: Evaluation) -> dict[str, Any]:
    """Convert a scored file to values for JSON, with all digits."""
    result = evaluation.result
    facts: dict[str, Any] = {
        "file": str(evaluation.path),
        "provenance": evaluation.provenance,
        "subset": result.flag,
        "size": result.size,
        "split": result.split,
        "run": result.run,
        "rows": evaluation.score.rows,
        "auc": evaluation.score.auc,
        "acc": evaluation.score.acc,
        "absent": evaluation.score.absent,
        "name_auc": result.auc,
        "name_acc": result.acc,
        "warnings": evaluation.warnings,
        "measures": evaluation.metrics,
        "intervals": evaluation.intervals,
    }
    if any(":" in name for name in evaluation.metrics):
        facts["classes"] = [
            {"id": label, "label": evaluation.entry.labels[label], "positive": evaluation.positives(label)}
            for label in evaluation.predictions.class_ids
        ]
    return facts


def comparison_facts(comparison: FileComparison, first: Path, second: Path) -> dict[str, Any]:
    """Convert a comparison of two files to values for JSON, with all digits."""
    return {
        "first": str(first),
        "second": str(second),
        "provenance": comparison.provenance,
        "subset": comparison.flag,
        "split": comparison.split,
        "rows": comparison.rows,
        "measures": comparison.metrics,
        "warnings": comparison.warnings,
    }


def run_names(evaluations: Sequence[Evaluation]) -> list[str]:
    """Name of each file's run, or of the file if the run has none; equal names are followed by the file's folder."""
    names = [evaluation.result.run or evaluation.path.name for evaluation in evaluations]
    return [
        f"{name} ({evaluation.path.parent})" if names.count(name) > 1 else name
        for name, evaluation in zip(names, evaluations, strict=True)
    ]


def _digits(value: float, interval: Interval | None = None) -> str:
    if interval is None:
        return f"{value:.3f}"
    ends = "unknown" if math.isnan(interval.low) else f"{interval.low:.3f}, {interval.high:.3f}"
    return f"{value:.3f} [{ends}]"


def _head(title: str, intervals: Sequence[Interval | None]) -> str:
    """Column heading, with the methods of the intervals."""
    methods = dict.fromkeys(interval.method for interval in intervals if interval is not None)
    return title + (f" [95 % {', '.join(methods)}]" if methods else "")
