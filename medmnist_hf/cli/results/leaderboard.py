"""``medmnist-hf leaderboard``: published results that may be compared, and yours among them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TextColumn

from medmnist_hf import catalog, console
from medmnist_hf.catalog import sized_subset
from medmnist_hf.cli.options.data import RootToRead
from medmnist_hf.cli.results.evaluate import Data, Json, Logits, Resamples, Seed, files_of, in_options, print_warnings
from medmnist_hf.console.program import Panel
from medmnist_hf.errors import ScoreError
from medmnist_hf.evaluation.prediction_files import predictions_of, read_predictions
from medmnist_hf.leaderboard.board import Line, OwnResult, leaderboard
from medmnist_hf.leaderboard.protocols import OFFICIAL, Protocol, Setting, protocol, protocols, protocols_of
from medmnist_hf.leaderboard.terminal import board_facts, board_notes, print_board, print_own
from medmnist_hf.leaderboard.uncertainty import interval_standard_error
from medmnist_hf.manifest import Provenance
from medmnist_hf.scoring.published import compare_with_published, published_split

if TYPE_CHECKING:
    from medmnist_hf.evaluation.evaluate import Evaluation
    from medmnist_hf.submissions.accepted import Accepted

_PROTOCOLS = ", ".join(protocols())


def register(app: typer.Typer) -> None:
    """Add the command to an app."""
    app.command(name="leaderboard", epilog="Example: medmnist-hf leaderboard breastmnist mine.csv --root dist")(board)


def board(
    subset: Annotated[
        str, typer.Argument(metavar="SUBSET", help="Name of a subset, e.g. pathmnist.", show_default=False)
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="Prediction files for its test split, or folders of runs."),
    ] = None,
    *,
    protocol_name: Annotated[
        str,
        Panel.EVALUATION.option(
            "--protocol", metavar="NAME", help=f"Results that may be compared with each other: {_PROTOCOLS}."
        ),
    ] = OFFICIAL,
    size: Annotated[int | None, Panel.DATA.option(help="Only results on files of this size.")] = None,
    clean: Annotated[
        bool,
        Panel.EVALUATION.option(
            "--clean", help="Leave out results whose selection, pretraining or training is unknown."
        ),
    ] = False,
    entries: Annotated[
        str | None,
        Panel.DATA.option(
            metavar="PLACE",
            help="Entries to recompute and rank too: an entry, a folder of entries, or their repository on the Hub.",
        ),
    ] = None,
    data: Data = None,
    root: RootToRead = None,
    from_logits: Logits = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """List the published results of a subset under one protocol, and rank your predictions among them.

    Results that were selected on the test split are listed apart, without a place. Each of your files is ranked among
    the published results only. Files scored on synthetic or unverified labels have a table of their own; runs of
    another protocol have no place.
    """
    from medmnist_hf.evaluation import tables
    from medmnist_hf.evaluation.evaluate import evaluate_file

    rules = protocol(protocol_name)
    unnamed = predictions_of(subset, published_split())
    entry = _subset(unnamed.flag, size or (None if files else sized_subset(subset)[1]), rules)
    settings = _settings_of_runs(files or ())
    scored: list[tuple[Evaluation, str]] = []
    for file in files or ():
        if not file.exists() and any(str(file) == each.flag for each in catalog.subsets()):
            raise ScoreError(f"{file} is a subset, not a file: one subset is listed at a time, so give it alone")
    for file in files_of(files or ()):
        claimed = read_predictions(file, unnamed)  # lines of Vertex AI name their images, and so subset and split
        if (claimed.flag, claimed.split) != (entry.flag, published_split()):
            raise ScoreError(
                f"{file} holds predictions for {claimed.flag} {claimed.split}: the published results are for "
                f"{entry.flag} {published_split()}, so give a file for these"
            )
        try:
            evaluation = evaluate_file(
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
            raise ScoreError(in_options(error)) from None
        print_warnings(evaluation)
        scored.append((evaluation, _why_apart(rules, size, evaluation, settings.get(file))))
    accepted = None if entries is None else _accepted(entries, entry.flag, data, root)
    names = tables.run_names([evaluation for evaluation, _ in scored])
    own = [
        (_own(name, evaluation), evaluation.provenance, why)
        for name, (evaluation, why) in zip(names, scored, strict=True)
    ]
    notes = [f"{each.name} has no place: {why}" for each, kind, why in own if kind.comparable and why]
    notes += () if accepted is None else accepted.notes
    ranked = [each for each, kind, why in own if kind.comparable and not why]
    apart = [each for each, kind, why in own if kind.comparable and why]
    further = () if accepted is None else accepted.results
    main = leaderboard(entry.flag, rules.name, ranked, unranked=apart, entries=further, clean=clean, size=size)
    others = {
        kind: [each for each, provenance, _ in own if provenance is kind] for kind in Provenance if not kind.comparable
    }
    lines = {line.name: line for line in main.ranked if line.result is None}
    published = sum(line.result is not None for line in main.ranked)
    comparisons = [
        compare_with_published(entry.flag, evaluation.intervals["auc"], evaluation.intervals["acc"])
        if rules.name == OFFICIAL and name in lines and not why
        else ()
        for name, (evaluation, why) in zip(names, scored, strict=True)
    ]
    if as_json:
        console.print_json(
            {"subset": entry.flag, "split": published_split()}
            | board_facts(main)
            | {
                "notes": [*board_notes(main), *notes],
                "not_comparable": {kind: rows for kind, rows in others.items() if rows},
                "files": [
                    tables.evaluation_facts(evaluation) | {"comparisons": each}
                    for (evaluation, _), each in zip(scored, comparisons, strict=True)
                ],
            }
        )
        return
    kinds = [kind for kind in Provenance if any(provenance is kind for _, provenance, _ in own)]
    kinds = kinds or [Provenance.VERIFIED]  # for the published results
    for kind in kinds:
        tables.print_banner(kind, first=kind is kinds[0])
        if kind.comparable:
            print_board(main)
        else:
            print_own(kind, others[kind])
    for name, (evaluation, why), each in zip(names, scored, comparisons, strict=True):
        where = why or _place(lines.get(name), published)
        if not evaluation.provenance.comparable:
            where = f"{evaluation.provenance} data is not ranked"
        tables.print_comparisons(evaluation, name, where, each)
    for note in notes if kinds[0].comparable else ():
        console.terminal().print(f"note: {note}", soft_wrap=True)


def _place(line: Line | None, published: int) -> str:
    """The places of a line of an own result among a number of published ones."""
    if line is None or not published:
        return "no published results to compare with"
    auc, acc = ("-" if rank is None else rank for rank in (line.auc_rank, line.acc_rank))
    return f"place {auc} by AUC and {acc} by ACC of {published + 1}"


def _accepted(place: str, flag: str, data: str | None, root: Path | None) -> "Accepted":
    """The entries of a place, scored with a line of progress."""
    from medmnist_hf.submissions.accepted import read_accepted

    with console.progress(TextColumn("{task.description}", markup=False)) as progress:
        task = progress.add_task(f"reading the entries of {place}", total=None)
        return read_accepted(
            place,
            flag,
            data=data,
            root=root,
            on_file=lambda path: progress.update(task, description=f"scoring {path}"),
        )


def _subset(flag: str, size: int | None, rules: Protocol) -> catalog.Subset:
    """Look up a subset that has a size, of which the protocol must be, if one is given.

    A variant has other test rows, so published results cannot be ranked with results on it.
    """
    entry = catalog.subset(flag)
    if size is not None:
        entry.file(size)
        if size not in rules.where.get("size", (size,)):
            fitting = [each.name for each in protocols().values() if size in each.where.get("size", ())]
            raise ScoreError(
                f"protocol {rules.name} is not for size {size}: give --protocol {' or '.join(fitting)}, or another "
                "--size"
            )
    if entry.variant:
        raise ScoreError(
            f"{entry.flag} has other test rows than {entry.base}, so published results cannot be ranked with results "
            "on it: score a file with medmnist-hf evaluate"
        )
    return entry


def _settings_of_runs(paths: Sequence[Path]) -> dict[Path, Setting]:
    """Prediction file of each path that is the folder of a run -> what decides its protocol."""
    folders = [path for path in paths if path.is_dir()]
    if not folders:
        return {}
    from medmnist_hf.training.report.predictions import is_run, predictions_of_run

    runs = [predictions_of_run(path) for path in folders if is_run(path)]
    return {run.path: run.setting for run in runs}


def _why_apart(rules: Protocol, size: int | None, evaluation: "Evaluation", setting: Setting | None) -> str:
    """Why an own result does not belong to a protocol, or to a size of it; empty if it does, as far as is known."""
    own, sizes = evaluation.result.size, rules.where.get("size")
    fitting = () if setting is None else protocols_of(setting)
    remedy = f": give --protocol {fitting[0]}" if fitting else ""
    if sizes and own not in sizes:
        return f"it has images of size {own}, protocol {rules.name} {' or '.join(map(str, sizes))}{remedy}"
    if size not in {None, own}:
        return f"it has images of size {own}, and results of size {size} are listed"
    if setting is None or rules.admits(setting):
        return ""
    return f"the run does not belong to protocol {rules.name}{remedy}"


def _own(name: str, evaluation: "Evaluation") -> OwnResult:
    auc, acc = (
        interval_standard_error(interval.low, interval.high)
        for interval in (evaluation.intervals[measure] for measure in ("auc", "acc"))
    )
    return OwnResult(name, evaluation.score.auc, evaluation.score.acc, auc, acc)
