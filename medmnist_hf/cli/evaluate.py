"""Commands on prediction files: ``medmnist-hf evaluate``, ``medmnist-hf compare`` and ``medmnist-hf leaderboard``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medmnist_hf import catalog, console
from medmnist_hf.cli.data_options import RootToRead
from medmnist_hf.errors import MedMNISTError, ScoreError, one_line
from medmnist_hf.evaluation.plots import check_plot_path, save_plot
from medmnist_hf.evaluation.prediction_files import read_predictions
from medmnist_hf.evaluation.vertex import outputs
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.confidence import Interval
from medmnist_hf.scoring.metrics import CLASSWISE
from medmnist_hf.scoring.published import (
    LeaderboardRow,
    Standing,
    leaderboard,
    published_notes,
    published_results,
    published_size,
    published_split,
    stand,
)

if TYPE_CHECKING:
    from medmnist_hf.evaluation.evaluate import Evaluation, FileComparison

# Whoever asks for another command does not wait for `pyarrow`: the functions below import `evaluation`, which needs
# it.

Data = Annotated[
    str | None,
    typer.Option(
        help="The data set whose labels count, named as for other commands, e.g. you/pathmnist@v1 or an NPZ file. "
        "[default: the subset of the file's name]",
        metavar="DATA",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with all digits instead of a table.")]
Logits = Annotated[
    bool | None,
    typer.Option(
        "--from-logits/--as-is",
        help="What scores outside 0..1 are: logits, or scores to be taken as they are. Refused by default.",
        show_default=False,
    ),
]
Measures = Annotated[
    list[str] | None,
    typer.Option("--measure", help="A measure, e.g. ece or f1:3; repeatable.", show_default=False),
]
Resamples = Annotated[int, typer.Option(help="Resamples of intervals by bootstrap.", min=2)]
Seed = Annotated[int, typer.Option(help="Seed of intervals by bootstrap.", min=0)]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line of the wheel."""
    app.command(name="evaluate", epilog="Example: medmnist-hf evaluate runs/*.csv --root dist --ci")(evaluate)
    app.command(name="compare", epilog="Example: medmnist-hf compare runs/a runs/b --root dist --measure auc")(compare)
    app.command(name="leaderboard", epilog="Example: medmnist-hf leaderboard pathmnist run.csv --root dist")(board)


def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Prediction files or folders of runs; or batch predictions of Vertex AI, a JSONL file or a folder "
            "of shards for each.",
            show_default=False,
        ),
    ],
    *,
    root: RootToRead = None,
    data: Data = None,
    ci: Annotated[bool, typer.Option("--ci", help="Add 95 % intervals, by the method that the table names.")] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="Add measures of each class.")] = False,
    measure: Measures = None,
    from_logits: Logits = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw ROC curves, reliability and confusion matrix of one file.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score prediction files with the official AUC and ACC; numbers in the file name are not trusted.

    Whether the labels are official, unverified or synthetic is seen in the data; the scores are taken as those of the
    same images. Each kind has a table of its own.
    """
    from medmnist_hf.evaluation.evaluate import evaluate_file

    files = _prediction_files(files)
    if plot is not None:
        if len(files) != 1:
            raise ScoreError(f"--plot draws one file but {len(files)} are given: call once for each")
        check_plot_path(plot)
    done, failed = [], False
    for file in files:
        try:
            found = evaluate_file(
                file,
                data,
                measure or (),
                root=root,
                per_class=per_class,
                ci=ci,
                resamples=resamples,
                seed=seed,
                from_logits=from_logits,
            )
        except MedMNISTError as error:
            # One bad file of many hides none of the others; the exit code tells.
            console.print_error(_in_options(error))
            failed = True
            continue
        _warn(found)
        done.append(found)
    if as_json:
        console.print_json([_evaluation_facts(found) for found in done])
    elif done:
        _print_evaluations(done, per_class)
    if plot is not None and done:
        result = done[0].result
        title = f"{result.flag} {result.split} at {result.size}{f': {result.run}' if result.run else ''}"
        save_plot(plot, done[0].predictions, done[0].entry.labels, title, provenance=done[0].provenance)
    if failed:
        raise typer.Exit(1)


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="A prediction file or a run's folder.", show_default=False)
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another of the same split.", show_default=False)],
    *,
    root: RootToRead = None,
    data: Data = None,
    measure: Measures = None,
    from_logits: Logits = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Say whether predictions are better than others: DeLong's test for AUC, paired bootstrap for other measures.

    Of a run's folder they are those of its published seed, the best on validation, on test; a line says which.
    """
    from medmnist_hf.evaluation.evaluate import compare_files

    names = measure or ["auc", "acc"]
    first, second = (_prediction_files([path])[0] for path in (first, second))
    try:
        found = compare_files(
            first, second, data, names, root=root, resamples=resamples, seed=seed, from_logits=from_logits
        )
    except ScoreError as error:
        raise ScoreError(_in_options(error)) from None
    _warn(found)
    if as_json:
        console.print_json(_comparison_facts(found, first, second))
    else:
        _print_comparison(found, first, second)


def board(
    subset: Annotated[str, typer.Argument(help="Flag of a subset, e.g. pathmnist.", show_default=False)],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Prediction files of its test split, or folders of runs."),
    ] = None,
    *,
    root: RootToRead = None,
    data: Data = None,
    from_logits: Logits = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Rank the published results of a subset and yours: differences, and whether your 95 % interval covers them.

    A place is that among the published results and itself: other files do not count. Files scored on synthetic or
    unverified labels are listed apart, without places.
    """
    from medmnist_hf.evaluation.evaluate import evaluate_file

    entry = catalog.subset(subset)
    notes = list(published_notes(entry.flag))
    standings = []
    for file in _prediction_files(files or ()):
        claimed = read_predictions(file)
        if (claimed.flag, claimed.split) != (entry.flag, published_split()):
            raise ScoreError(
                f"{file}: of {claimed.flag} {claimed.split}, but the published results are of {entry.flag} "
                f"{published_split()}; give a file of that"
            )
        try:
            found = evaluate_file(
                file, data, root=root, ci=True, resamples=resamples, seed=seed, from_logits=from_logits
            )
        except ScoreError as error:
            raise ScoreError(_in_options(error)) from None
        _warn(found)
        if found.provenance.comparable and published_results(entry.flag) and found.result.size != published_size():
            notes.append(f"{file.name} is of size {found.result.size}, the published results of {published_size()}.")
        standing = stand(entry.flag, found.intervals["auc"], found.intervals["acc"], provenance=found.provenance)
        standings.append((found, standing))
    boards = {
        kind: leaderboard(
            entry.flag,
            [(_run(found), found.score.auc, found.score.acc) for found, _ in standings if found.provenance is kind],
            provenance=kind,
        )
        for kind in Provenance
    }
    if as_json:
        console.print_json(
            {
                "subset": entry.flag,
                "split": published_split(),
                "size": published_size(),
                "notes": notes,
                "rows": boards[Provenance.VERIFIED],
                "not_comparable": {kind: rows for kind, rows in boards.items() if not kind.comparable and rows},
                "files": [_evaluation_facts(found) | {"standing": standing} for found, standing in standings],
            }
        )
        return
    kinds = [kind for kind in Provenance if any(found.provenance is kind for found, _ in standings)]
    kinds = kinds or [Provenance.VERIFIED]  # the published results alone
    for kind in kinds:
        _print_banner(kind, first=kind is kinds[0])
        _print_board(entry.flag, kind, boards[kind])
    for found, standing in standings:
        _print_standing(found, standing)
    for note in notes if kinds[0].comparable else ():
        console.terminal().print(f"note: {note}", soft_wrap=True)


def _print_board(flag: str, kind: Provenance, rows: Sequence[LeaderboardRow]) -> None:
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


def _print_evaluations(done: "Sequence[Evaluation]", per_class: bool) -> None:
    kinds = [kind for kind in Provenance if any(found.provenance is kind for found in done)]
    for kind in kinds:
        _print_banner(kind, first=kind is kinds[0])
        _print_kind([found for found in done if found.provenance is kind], per_class)


def _print_banner(kind: Provenance, *, first: bool) -> None:
    """The line above a table of data that is not verified, apart from the table before it."""
    if not kind.comparable:
        console.terminal().print(("" if first else "\n") + kind.warning, soft_wrap=True)


def _print_kind(done: "Sequence[Evaluation]", per_class: bool) -> None:
    """Tables of files whose labels are of one kind."""
    extra = list(dict.fromkeys(name for found in done for name in found.metrics if ":" not in name or not per_class))
    titles = {"auc": "AUC", "acc": "ACC"} | {name: name for name in extra}
    heads = [_head(title, [found.intervals.get(name) for found in done]) for name, title in titles.items()]
    table = console.table("subset", "size", "split", "rows", *heads, "run", text=("subset", "split", "run"))
    for found in done:
        result, spans = found.result, found.intervals
        table.add_row(
            result.flag,
            str(result.size),
            result.split,
            f"{found.score.rows:,}",
            _digits(found.score.auc, spans.get("auc")),
            _digits(found.score.acc, spans.get("acc")),
            *(_digits(found.metrics[name], spans.get(name)) if name in found.metrics else "" for name in extra),
            found.provenance.mark(_run(found)),
        )
    console.terminal().print(table)
    for found in done if per_class else ():
        console.terminal().print(f"\n{found.result.flag} {_run(found)}", soft_wrap=True)
        first = found.predictions.class_ids[0]
        heads = [_head(name, [found.intervals.get(f"{name}:{first}")]) for name in CLASSWISE]
        classes = console.table("id", "class", "positive", *heads, text=("class",))
        for label in found.predictions.class_ids:
            names = [f"{name}:{label}" for name in CLASSWISE]
            cells = [_digits(found.metrics[name], found.intervals.get(name)) for name in names]
            classes.add_row(str(label), found.entry.labels[label], f"{found.positives(label):,}", *cells)
        console.terminal().print(classes)


def _print_comparison(found: "FileComparison", first: Path, second: Path) -> None:
    out = console.terminal()
    _print_banner(found.provenance, first=True)
    out.print(f"{found.flag} {found.split}, {found.rows:,} rows\nA  {first}\nB  {second}", soft_wrap=True)
    table = console.table("measure", "A", "B", "A - B", "95 % interval", "p", "method", text=("measure", "method"))
    for name, each in found.metrics.items():
        span = f"[{each.difference.low:+.4f}, {each.difference.high:+.4f}]"
        cells = (f"{each.first:.4f}", f"{each.second:.4f}", f"{each.difference.estimate:+.4f}", span, f"{each.p:.3g}")
        table.add_row(name, *cells, each.difference.method)
    out.print(table)


def _print_standing(found: "Evaluation", standing: Standing | None) -> None:
    where = "nothing is published to compare with"
    if not found.provenance.comparable:
        where = f"{found.provenance} data has no place"
    if standing is not None:
        auc_place, acc_place = _place(standing.auc_rank), _place(standing.acc_rank)
        where = f"place {auc_place} by AUC and {acc_place} by ACC of {standing.places}"
    auc, acc = (
        f"{_digits(span.estimate, span)} ({span.method})" for span in (found.intervals["auc"], found.intervals["acc"])
    )
    console.terminal().print(f"\n{_run(found)}: AUC {auc}, ACC {acc}: {where}", soft_wrap=True)
    if standing is None:
        return
    heads = ("AUC - published", "in interval", "ACC - published", "in interval", "method")
    table = console.table(*heads, text=("in interval", "method"))
    words = {True: "yes", False: "no", None: "unknown"}
    for each in standing.beside:
        table.add_row(
            f"{each.auc_difference:+.3f}",
            words[each.auc_covered],
            f"{each.acc_difference:+.3f}",
            words[each.acc_covered],
            each.published.method,
        )
    console.terminal().print(table)


def _evaluation_facts(found: "Evaluation") -> dict[str, Any]:
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


def _comparison_facts(found: "FileComparison", first: Path, second: Path) -> dict[str, Any]:
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


def _prediction_files(paths: Sequence[Path]) -> list[Path]:
    """Paths as they are, but for the folder of a run its prediction file, with a line that says which."""
    files = []
    for path in paths:
        if path.is_dir():
            from medmnist_hf.training.report.predictions import is_run, predictions_of_run

            if is_run(path):
                found = predictions_of_run(path)
                console.echo(f"{path}: {found.path.relative_to(path)} ({found.why})", err=True)
                path = found.path  # noqa: PLW2901
        files.append(path)
    return outputs(files)


def _run(found: "Evaluation") -> str:
    return found.result.run or found.path.name


def _digits(value: float, interval: Interval | None = None) -> str:
    if interval is None:
        return f"{value:.3f}"
    span = "unknown" if math.isnan(interval.low) else f"{interval.low:.3f}, {interval.high:.3f}"
    return f"{value:.3f} [{span}]"


def _head(title: str, intervals: "Sequence[Interval | None]") -> str:
    """Head of a column, with the method of the intervals in it."""
    methods = dict.fromkeys(interval.method for interval in intervals if interval is not None)
    return title + (f" [95 % {', '.join(methods)}]" if methods else "")


def _warn(found: "Evaluation | FileComparison") -> None:
    for line in found.warnings:
        console.echo(f"warning: {one_line(line)}", err=True)


def _in_options(error: MedMNISTError) -> str:
    """The message of the library in the words of the command line."""
    return str(error).replace("from_logits=True", "--from-logits").replace("from_logits=False", "--as-is")
