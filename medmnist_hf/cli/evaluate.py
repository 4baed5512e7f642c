"""Commands on prediction files: ``medmnist-hf evaluate``, ``medmnist-hf compare`` and ``medmnist-hf leaderboard``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmnist_hf import catalog, console
from medmnist_hf.cli.data_options import RootToRead
from medmnist_hf.errors import MedMNISTError, ScoreError, one_line
from medmnist_hf.evaluation.plots import check_plot_path, save_plot
from medmnist_hf.evaluation.prediction_files import PredictionName, predictions_of, read_predictions
from medmnist_hf.evaluation.vertex import outputs
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.published import (
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
Subset = Annotated[
    str | None,
    typer.Option(
        metavar="SUBSET",
        help="What a file is of whose name does not say it, e.g. pathmnist or pathmnist-64.",
        show_default=False,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(help="Its split, with --subset: train, validation or test. [default: test]", show_default=False),
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
    app.command(name="evaluate", epilog="Example: medmnist-hf evaluate predictions/*.csv --root dist --ci")(evaluate)
    app.command(name="compare", epilog="Example: medmnist-hf compare runs/a runs/b --root dist --measure auc")(compare)
    app.command(name="leaderboard", epilog="Example: medmnist-hf leaderboard breastmnist mine.csv --root dist")(board)


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
    subset: Subset = None,
    split: Split = None,
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
    from medmnist_hf.evaluation import tables
    from medmnist_hf.evaluation.evaluate import evaluate_file

    unnamed = _unnamed(subset, split)
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
                unnamed=unnamed,
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
        console.print_json([tables.evaluation_facts(found) for found in done])
    elif done:
        tables.print_evaluations(done, per_class)
    if plot is not None and done:
        result = done[0].result
        title = f"{result.flag} {result.split} at {result.size}{f': {result.run}' if result.run else ''}"
        save_plot(plot, done[0].predictions, done[0].entry.labels, title, provenance=done[0].provenance)
        console.echo(f"wrote {plot}", err=True)
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
    subset: Subset = None,
    split: Split = None,
    measure: Measures = None,
    from_logits: Logits = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Say whether predictions are better than others: DeLong's test for AUC, Student's for means over rows as ACC.

    Of a run's folder they are those of its published seed, the best on validation, on test; a line says which.
    """
    from medmnist_hf.evaluation import tables
    from medmnist_hf.evaluation.evaluate import compare_files

    names, unnamed = measure or ["auc", "acc"], _unnamed(subset, split)
    first, second = (_prediction_files([path])[0] for path in (first, second))
    try:
        found = compare_files(
            first,
            second,
            data,
            names,
            root=root,
            unnamed=unnamed,
            resamples=resamples,
            seed=seed,
            from_logits=from_logits,
        )
    except ScoreError as error:
        raise ScoreError(_in_options(error)) from None
    _warn(found)
    if as_json:
        console.print_json(tables.comparison_facts(found, first, second))
    else:
        tables.print_comparison(found, first, second)


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
    from medmnist_hf.evaluation import tables
    from medmnist_hf.evaluation.evaluate import evaluate_file

    unnamed = predictions_of(subset, published_split())
    entry = catalog.subset(unnamed.flag)
    notes = list(published_notes(entry.flag))
    standings = []
    for file in _prediction_files(files or ()):
        claimed = read_predictions(file, unnamed)
        if (claimed.flag, claimed.split) != (entry.flag, published_split()):  # as the lines of Vertex AI say
            raise ScoreError(
                f"{file}: of {claimed.flag} {claimed.split}, but the published results are of {entry.flag} "
                f"{published_split()}; give a file of that"
            )
        try:
            found = evaluate_file(
                file,
                data,
                root=root,
                unnamed=unnamed,
                ci=True,
                resamples=resamples,
                seed=seed,
                from_logits=from_logits,
            )
        except ScoreError as error:
            raise ScoreError(_in_options(error)) from None
        _warn(found)
        if found.provenance.comparable and published_results(entry.flag) and found.result.size != published_size():
            notes.append(f"{file.name} is of size {found.result.size}, the published results of {published_size()}.")
        standing = stand(entry.flag, found.intervals["auc"], found.intervals["acc"], provenance=found.provenance)
        standings.append((found, standing))
    names = tables.run_names([found for found, _ in standings])
    boards = {
        kind: leaderboard(
            entry.flag,
            [
                (run, found.score.auc, found.score.acc)
                for run, (found, _) in zip(names, standings, strict=True)
                if found.provenance is kind
            ],
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
                "files": [
                    tables.evaluation_facts(found) | {"standing": standing and tables.standing_facts(standing)}
                    for found, standing in standings
                ],
            }
        )
        return
    kinds = [kind for kind in Provenance if any(found.provenance is kind for found, _ in standings)]
    kinds = kinds or [Provenance.VERIFIED]  # the published results alone
    for kind in kinds:
        tables.print_banner(kind, first=kind is kinds[0])
        tables.print_board(entry.flag, kind, boards[kind])
    for run, (found, standing) in zip(names, standings, strict=True):
        tables.print_standing(found, run, standing)
    for note in notes if kinds[0].comparable else ():
        console.terminal().print(f"note: {note}", soft_wrap=True)


def _unnamed(subset: str | None, split: str | None) -> PredictionName | None:
    if subset is None and split is not None:
        raise ScoreError("--split is for files whose names do not say what they are of: add --subset, e.g. pathmnist")
    return None if subset is None else predictions_of(subset, split)


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
            elif runs := sorted(filter(is_run, path.iterdir())):
                raise ScoreError(f"{path} holds runs: name them, e.g. {runs[0]}, or all by {path}/*/")
        files.append(path)
    return outputs(files)


def _warn(found: "Evaluation | FileComparison") -> None:
    for line in found.warnings:
        console.echo(f"warning: {one_line(line)}", err=True)


def _in_options(error: MedMNISTError) -> str:
    """The message of the library in the words of the command line."""
    words = {
        "from_logits=True": "--from-logits",
        "from_logits=False": "--as-is",
        "with subset and split": "with --subset and --split",
    }
    text = str(error)
    for word, option in words.items():
        text = text.replace(word, option)
    return text
