"""The page of a score card, and the files in which a card is written."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from medmnist_hf.catalog import subset
from medmnist_hf.errors import counted
from medmnist_hf.files import write_atomically
from medmnist_hf.hub.eval_results import RESULTS_PATH, ModelResult, results_yaml
from medmnist_hf.jobs.submit import duration
from medmnist_hf.manifest import Provenance
from medmnist_hf.training.benchmark.tables import ABSENT, Column, Line, Table, TableCell, digits
from medmnist_hf.training.robustness.results import Robustness
from medmnist_hf.training.scorecard.card import (
    CARD_NAME,
    LINEAR_PROBE,
    Estimate,
    MeanResult,
    ProtocolResult,
    ScoreCard,
    SubsetResult,
)
from medmnist_hf.training.scorecard.curves import draw_curves, falls
from medmnist_hf.training.scorecard.page import Page, Section, html, markdown
from medmnist_hf.training.scorecard.robustness import READING as ROBUSTNESS_READING
from medmnist_hf.training.scorecard.robustness import robustness_of, robustness_table

MARKDOWN_NAME: Final = "scorecard.md"
HTML_NAME: Final = "scorecard.html"

READING: Final = (
    "Every protocol is described in the data of the package by the options of a recipe. Nearest neighbors and linear "
    "probes read frozen features. In a protocol on few labels, validation has few labels as well, and each seed draws "
    "its own train rows; test is always complete.",
    "Intervals are of 95 %. With all labels, they are over test rows: how much another test set of this size may "
    "change the score (DeLong for AUC, Wilson for ACC; of several seeds, the mean of their ends). On few labels, "
    "they are over label seeds: how well the mean is known, given that other rows could have been drawn (Student).",
    "The interval of a mean over subsets is over test rows within the subsets, by a bootstrap of 1,000 resamples; the "
    "subsets are fixed, and seeds are averaged. It does not say what other subsets would give.",
    "A result has a rank only among published results of its own protocol, as medmnist-hf leaderboard lists them: the "
    "same size of the files, the same part of the network trained, all labels, on verified data. Results within two "
    "standard errors share a rank, and results selected on test are left out. Runs on few labels have no rank.",
    "ECE is the expected calibration error and Brier the mean squared error of the probabilities, both on test; lower "
    "is better. Probabilities are as the protocol gives them, without recalibration.",
)


def write_card(card: ScoreCard, out: Path) -> tuple[Path, ...]:
    """Write a card as JSON, Markdown and HTML, and its results for the Hub, each atomically.

    The pages have a section on robustness if the folder has reports, see `robustness_of`. The file for the Hub is for
    the repository of the model. It holds the linear probes on verified data, and is removed if there are none.

    Args:
        card: The card.
        out: Existing folder.

    Returns:
        Paths of the files.

    Raises:
        TrainingError: A report on robustness is damaged, or is of another model.
        OSError: A file cannot be written.
    """
    page = card_page(card, robustness_of(out, card.model))
    contents = {CARD_NAME: card.to_json(), MARKDOWN_NAME: markdown(page), HTML_NAME: html(page)}
    results = "".join(_hub_results(card))
    if results:
        contents[RESULTS_PATH] = results
    else:
        (out / RESULTS_PATH).unlink(missing_ok=True)
    for name, content in contents.items():
        (out / name).parent.mkdir(exist_ok=True)
        write_atomically(out / name, content)
    return tuple(out / name for name in contents)


def card_page(card: ScoreCard, robustness: Sequence[Robustness] = ()) -> Page:
    """Make the page of a card, with a section on the robustness of runs of its model, if there are any."""
    drawings = [(part.subset, drawing) for part in card.subsets if (drawing := draw_curves(part))]
    sections = [
        Section("Subsets and protocols", tables=[overview(card, name) for name in ("auc", "acc")]),
        *([Section("Few labels", _about_curves(card), drawings=drawings)] if drawings else []),
        *(
            Section(part.provenance.mark(_name(part)), tables=[_details(part)])
            for part in card.subsets
            if part.results
        ),
        *([Section("Robustness", [ROBUSTNESS_READING], [robustness_table(robustness)])] if robustness else []),
        *(
            [Section("Without a result", tables=[_missing(card)])]
            if any(part.missing for part in card.subsets)
            else []
        ),
        Section("Model and data", tables=[_models(card), _data(card)]),
        Section("How to read this", [*READING, *_machines(card)]),
    ]
    return Page(f"Score card of {card.model}", list(_warnings(card)), _lead(card), sections)


def _lead(card: ScoreCard) -> str:
    done = sum(len(part.results) for part in card.subsets)
    seeds = sum(len(result.seeds) for part in card.subsets for result in part.results)
    state = "" if card.is_complete else " The card is not complete: the same command runs what is missing."
    return (
        f"Preset {card.preset}. Subsets: {len(card.subsets)}. Protocols: {len(card.protocols)}. Runs: {done}, with "
        f"{counted(seeds, 'seed')}.{state}"
    )


def _warnings(card: ScoreCard) -> Iterator[str]:
    for kind in Provenance:
        names = [part.subset for part in card.subsets if part.results and part.provenance is kind]
        if names and not kind.comparable:
            yield f"{kind.warning} Subsets: {', '.join(names)}."


def overview(card: ScoreCard, measure: str) -> Table:
    """Subsets by protocols, with the mean over subsets below."""
    means = {mean.protocol: mean for mean in card.means}
    columns = (Column("Subset"), *(Column(name, numeric=True) for name in card.protocols))
    lines = [
        Line(
            "own",
            (TableCell(part.provenance.mark(part.subset)), *(_score(part, name, measure) for name in card.protocols)),
        )
        for part in card.subsets
    ]
    foot = (
        TableCell("mean over subsets"),
        *(_mean(means.get(name), measure, len(card.subsets)) for name in card.protocols),
    )
    return Table(f"Test {measure.upper()}", columns, tuple(lines), foot=foot if means else ())


def _score(part: SubsetResult, protocol: str, measure: str) -> TableCell:
    result = part.result(protocol)
    missing = next((each.state for each in part.missing if each.protocol == protocol), "")
    return estimate_cell(getattr(result, measure)) if result else TableCell(ABSENT, missing)


def _mean(mean: MeanResult | None, measure: str, count: int) -> TableCell:
    if mean is None:
        return TableCell(ABSENT)
    cell = estimate_cell(getattr(mean, measure))
    some = "" if len(mean.subsets) == count else f", {len(mean.subsets)} of {count} subsets"
    return TableCell(cell.text, cell.detail + some)


def estimate_cell(estimate: Estimate) -> TableCell:
    """Cell with a score and the ends of its interval below."""
    low, high = digits(estimate.low), digits(estimate.high)
    return TableCell(digits(estimate.value), "" if low == ABSENT else f"{low} to {high}")


def _about_curves(card: ScoreCard) -> list[str]:
    fallen = [text for part in card.subsets for text in falls(part)]
    note = "; ".join(fallen) if fallen else "no curve falls by more than the intervals of both points"
    return [
        "Test AUC of linear probes by the number of train rows, on a logarithmic axis. Discs: 1, 5 and 10 rows of "
        "each class (shots); squares: 1 % and 10 % of train; both end with all of train. Bars are intervals: over "
        "label seeds on few labels, over test rows on all. The dashed line is kNN with all labels.",
        f"With more labels, a curve should rise: {note}.",
    ]


def _details(part: SubsetResult) -> Table:
    columns = (
        Column("Protocol"),
        *(Column(name, numeric=True) for name in ("Train rows", "Seeds", "AUC", "ACC", "ECE", "Brier")),
        Column("Rank by AUC and ACC"),
        Column("Time", numeric=True),
    )
    lines = [Line("own", tuple(_detail_cells(result))) for result in part.results]
    rows = "" if part.data is None else f", {part.data.rows['test']:,} test rows"
    return Table(f"{subset(part.subset).task.capitalize()}, size {part.size}{rows}", columns, tuple(lines))


def _detail_cells(result: ProtocolResult) -> Iterator[TableCell]:
    rows = sorted(set(result.train_rows))
    yield TableCell(result.protocol, result.definition)
    yield TableCell(" to ".join(f"{count:,}" for count in dict.fromkeys((rows[0], rows[-1]))))
    yield TableCell(str(len(result.seeds)))
    yield from (_with_kind(estimate) for estimate in (result.auc, result.acc))
    yield from (TableCell(digits(value)) for value in (result.ece, result.brier))
    rank = result.rank
    yield TableCell(f"{rank.auc} and {rank.acc} of {rank.of}" if rank else ABSENT, result.rank_note)
    yield TableCell(duration(result.seconds))


def _with_kind(estimate: Estimate) -> TableCell:
    cell = estimate_cell(estimate)
    return TableCell(cell.text, f"{cell.detail} {estimate.interval}" if cell.detail else "no interval")


def _missing(card: ScoreCard) -> Table:
    lines = [
        Line("own", tuple(map(TableCell, (part.subset, each.protocol, each.state, each.reason or ABSENT))))
        for part in card.subsets
        for each in part.missing
    ]
    return Table("Runs without a result", tuple(map(Column, ("Subset", "Protocol", "State", "Why"))), tuple(lines))


def _models(card: ScoreCard) -> Table:
    """Weights and input of the features, a line for all subsets that share them."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for part in card.subsets:
        if part.model is None or part.read is None or not part.results:
            continue
        size = f"{part.read.image_size} pixels" + (
            f", volumes by {part.read.volumetric}" if part.read.volumetric else ""
        )
        normalization = " / ".join(
            " ".join(f"{value:g}" for value in each) or "none" for each in (part.read.mean, part.read.std)
        )
        weights = f"{part.model.origin}" + (f", commit {part.model.revision}" if part.model.revision else "")
        line = (
            f"{size}, {part.read.channels} channels, resized by {part.read.resize}",
            normalization,
            f"{weights}; {part.model.parameters:,} values",
            part.model.weights_sha256,
        )
        groups.setdefault(line, []).append(part.subset)
    lines = [Line("own", tuple(map(TableCell, (", ".join(flags), *line)))) for line, flags in groups.items()]
    columns = (
        "Subsets",
        "Input",
        "Mean / standard deviation",
        "Weights without the classifier",
        "SHA-256 of the weights",
    )
    return Table(f"{card.model} as it computed the features", tuple(map(Column, columns)), tuple(lines))


def _data(card: ScoreCard) -> Table:
    lines = []
    for part in card.subsets:
        if part.data is not None:
            source, rows = part.data.source, part.data.rows
            counts = " / ".join(f"{count:,}" for count in rows.values())
            lines.append(
                Line(
                    "own", tuple(map(TableCell, (part.subset, str(part.provenance), source.file, source.md5, counts)))
                )
            )
    columns = ("Subset", "Labels", "File", "MD5", "Train / validation / test")
    return Table("The data", tuple(map(Column, columns)), tuple(lines))


def _machines(card: ScoreCard) -> list[str]:
    releases = ", ".join(f"{name} {version}" for name, version in card.releases.items())
    texts = [f"Releases: {releases}."] if releases else []
    return texts + ([f"Times are of all seeds of a run, on {'; '.join(card.hardware)}."] if card.hardware else [])


def _name(part: SubsetResult) -> str:
    return subset(part.subset).python_class


def _hub_results(card: ScoreCard) -> Iterator[str]:
    """The linear probe of each subset as entries for the Hub."""
    for part in card.subsets:
        result = part.result(LINEAR_PROBE)
        if result is None or not part.provenance.comparable or ABSENT in _shown(result.auc, result.acc):
            continue
        notes = "linear probe on frozen features, all train labels"
        if part.read is not None:
            notes += f", input of {part.read.image_size} pixels"
        scores = ModelResult(part.subset, part.size, result.auc.value, result.acc.value, part.provenance, notes=notes)
        yield results_yaml(scores, part.repository)


def _shown(*estimates: Estimate) -> Sequence[str]:
    return [digits(estimate.value) for estimate in estimates]
