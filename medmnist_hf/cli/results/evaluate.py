"""Commands on prediction files: ``medmnist-hf evaluate`` and ``medmnist-hf compare``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmnist_hf import console
from medmnist_hf.cli.options.data import RootToRead
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import MedMNISTError, ScoreError, one_line
from medmnist_hf.evaluation.plots import check_plot_path, save_plot
from medmnist_hf.evaluation.prediction_files import PredictionName, predictions_of
from medmnist_hf.evaluation.vertex import outputs

if TYPE_CHECKING:
    from medmnist_hf.evaluation.evaluate import Evaluation, FileComparison

# `evaluation` is imported in the functions: it needs pyarrow, which would slow down every other command.

Data = Annotated[
    str | None,
    Panel.DATA.option(
        help="Data set with the labels: a subset, a repository (you/pathmnist@v1), a build or an NPZ file.",
        metavar="DATA",
        show_default="the subset in the file name",
    ),
]
Subset = Annotated[
    str | None,
    Panel.DATA.option(
        metavar="SUBSET",
        help="Subset of files whose name does not include it, e.g. pathmnist or pathmnist-64.",
    ),
]
Split = Annotated[
    str | None,
    Panel.DATA.option(help="Split of these files, with --subset: train, validation or test.", show_default="test"),
]
Json = Annotated[bool, Panel.OUTPUT.option("--json", help="Print JSON with all digits instead of a table.")]
Logits = Annotated[
    bool | None,
    Panel.EVALUATION.option(
        "--from-logits/--as-is",
        help="Read scores outside 0..1 as logits, or use them unchanged.",
        show_default="such scores are an error",
    ),
]
Measures = Annotated[
    list[str] | None,
    Panel.EVALUATION.option("--measure", help="A further measure, e.g. ece, or f1:3 for class 3."),
]
ComparedMeasures = Annotated[
    list[str] | None,
    Panel.EVALUATION.option("--measure", help="A measure to compare, e.g. auc, ece or f1:3.", show_default="auc, acc"),
]
Resamples = Annotated[int, Panel.EVALUATION.option(help="Resamples of bootstrap intervals.", min=2)]
Seed = Annotated[int, Panel.EVALUATION.option(help="Seed of bootstrap intervals.", min=0)]


def register(app: typer.Typer) -> None:
    """Add the commands to an app."""
    app.command(name="evaluate", epilog="Example: medmnist-hf evaluate predictions/*.csv --root dist --ci")(evaluate)
    app.command(name="compare", epilog="Example: medmnist-hf compare runs/a runs/b --root dist --measure auc")(compare)


def evaluate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Prediction files, folders of runs, or batch predictions of Vertex AI (a JSONL file or a folder "
            "of shards).",
            show_default=False,
        ),
    ],
    *,
    data: Data = None,
    root: RootToRead = None,
    subset: Subset = None,
    split: Split = None,
    measure: Measures = None,
    per_class: Annotated[bool, Panel.EVALUATION.option("--per-class", help="Add the measures of each class.")] = False,
    ci: Annotated[
        bool, Panel.EVALUATION.option("--ci", help="Add 95 % intervals; the table names their method.")
    ] = False,
    by: Annotated[
        str | None,
        Panel.EVALUATION.option(
            "--by",
            metavar="COLUMN",
            help="Add AUC, ACC and balanced accuracy of each group of a column of the data, e.g. sex or age.",
        ),
    ] = None,
    by_file: Annotated[
        Path | None,
        Panel.EVALUATION.option(
            "--by-file", metavar="CSV", help="CSV file with that column, one line per row of the split."
        ),
    ] = None,
    from_logits: Logits = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    plot: Annotated[
        Path | None,
        Panel.OUTPUT.option(help="Draw ROC curves, reliability diagram and confusion matrix of one file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score prediction files with the official AUC and ACC; numbers in the file name are not trusted.

    The data says whether its labels are official, unverified or synthetic; each kind has its own table. Scores are
    assumed to be for the same images.
    """
    from medmnist_hf.evaluation import tables
    from medmnist_hf.evaluation.by_group import GroupEvaluation, evaluate_by, read_column
    from medmnist_hf.evaluation.evaluate import evaluate_file

    if by_file is not None and by is None:
        raise ScoreError("--by-file needs the name of a column: add --by, e.g. --by sex")
    unnamed = _unnamed(subset, split)
    files = files_of(files)
    if plot is not None:
        if len(files) != 1:
            raise ScoreError(f"--plot draws one file, but {len(files)} are given: run the command once per file")
        check_plot_path(plot)
    evaluations, failed = [], False
    groups: list[GroupEvaluation] = []
    for file in files:
        try:
            evaluation = evaluate_file(
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
            if by is not None:
                values = read_column(by, evaluation, data, root=root, file=by_file)
                groups.append(evaluate_by(evaluation, by, values, resamples=resamples, seed=seed))
        except MedMNISTError as error:
            # A bad file must not hide the results of the others; the exit code reports it.
            console.print_error(in_options(error))
            failed = True
            continue
        print_warnings(evaluation)
        evaluations.append(evaluation)
    if as_json:
        facts = [tables.evaluation_facts(evaluation) for evaluation in evaluations]
        grouped = [{"by": each} for each in groups] or [{}] * len(facts)
        console.print_json([one | more for one, more in zip(facts, grouped, strict=True)])
    elif evaluations:
        tables.print_evaluations(evaluations, per_class)
        for each, run in zip(groups, tables.run_names(evaluations), strict=False):  # without --by, there are none
            tables.print_groups(each, run)
    if plot is not None and evaluations:
        first = evaluations[0]
        name = first.result
        title = f"{name.flag} {name.split} at {name.size}{f': {name.run}' if name.run else ''}"
        save_plot(plot, first.predictions, first.entry.labels, title, provenance=first.provenance)
        console.echo(f"wrote {plot}", err=True)
    if failed:
        raise typer.Exit(1)


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="A prediction file or the folder of a run.", show_default=False)
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one for the same split.", show_default=False)],
    *,
    data: Data = None,
    root: RootToRead = None,
    subset: Subset = None,
    split: Split = None,
    measure: ComparedMeasures = None,
    from_logits: Logits = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Test whether one model is better: DeLong's test for AUC, Student's paired t-test for ACC and other means.

    For the folder of a run, the test predictions of its published seed are used, the best one on validation.
    """
    from medmnist_hf.evaluation import tables
    from medmnist_hf.evaluation.evaluate import compare_files

    names, unnamed = measure or ["auc", "acc"], _unnamed(subset, split)
    first, second = (files_of([path])[0] for path in (first, second))
    try:
        comparison = compare_files(
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
        raise ScoreError(in_options(error)) from None
    print_warnings(comparison)
    if as_json:
        console.print_json(tables.comparison_facts(comparison, first, second))
    else:
        tables.print_comparison(comparison, first, second)


def _unnamed(subset: str | None, split: str | None) -> PredictionName | None:
    if subset is None and split is not None:
        raise ScoreError("--split is for files whose names do not include the subset: add --subset, e.g. pathmnist")
    return None if subset is None else predictions_of(subset, split)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Replace the folder of a run by its prediction file, and print which; other paths are unchanged."""
    files = []
    for path in paths:
        if path.is_dir():
            from medmnist_hf.training.report.predictions import is_run, predictions_of_run

            if is_run(path):
                predictions = predictions_of_run(path)
                console.echo(f"{path}: {predictions.path.relative_to(path)} ({predictions.why})", err=True)
                path = predictions.path  # noqa: PLW2901
            elif runs := sorted(filter(is_run, path.iterdir())):
                raise ScoreError(f"{path} is a folder of runs: give a run, e.g. {runs[0]}, or all as {path}/*/")
        files.append(path)
    return outputs(files)


def print_warnings(result: "Evaluation | FileComparison") -> None:
    """Print the warnings of a result on standard error."""
    for line in result.warnings:
        console.echo(f"warning: {one_line(line)}", err=True)


def in_options(error: MedMNISTError) -> str:
    """The message of an error of the library, with its arguments replaced by options of the command line."""
    words = {
        "from_logits=True": "--from-logits",
        "from_logits=False": "--as-is",
        "with subset and split": "with --subset and --split",
    }
    text = str(error)
    for word, option in words.items():
        text = text.replace(word, option)
    return text
