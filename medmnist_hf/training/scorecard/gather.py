"""Make a score card from its folder: results, predictions, labels, manifests of features and states of tasks.

The same folder gives the same card, whatever ran its runs.
"""

import math
import statistics
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from medmnist_hf.catalog import subset
from medmnist_hf.embeddings.manifest import ModelRecord
from medmnist_hf.errors import TrainingError
from medmnist_hf.evaluation.prediction_files import files_of_split, read_predictions
from medmnist_hf.jobs.tasks import State
from medmnist_hf.scoring.bootstrap import bootstrap_mean
from medmnist_hf.scoring.confidence import Interval, student_quantile
from medmnist_hf.scoring.official import ScoreWarning
from medmnist_hf.scoring.predictions import Predictions, check
from medmnist_hf.training.report.publishable import repository
from medmnist_hf.training.results import HEADLINE, RESULTS_NAME, Rank, RunResult, read_results
from medmnist_hf.training.run_folder import seed_folder
from medmnist_hf.training.scorecard.card import (
    LEFT_OUT,
    Estimate,
    MeanResult,
    Missing,
    ProtocolResult,
    ScoreCard,
    SubsetResult,
)
from medmnist_hf.training.scorecard.plan import Plan, PlannedRun, read_plan
from medmnist_hf.training.scorecard.tasks import read_labels, read_manifest, states_of
from medmnist_hf.training.standing import board_of, rank_of

OVER_SEEDS: Final = "over label seeds, Student"
OVER_ROWS: Final = "over test rows"
NO_ROWS: Final = "no published rows of this protocol"
ZERO_SHOT: Final = "zero-shot"

_LEVEL: Final = 0.95


def gather(out: Path) -> ScoreCard:
    """Make the card of a folder.

    Raises:
        TrainingError: The folder has no plan, or one of its files is damaged.
        MedMNISTError: A prediction file or the labels are missing or damaged.
    """
    plan = read_plan(out)
    if plan is None:
        raise TrainingError(f"{out} holds no score card: name the folder of medmnist-hf scorecard with --out")
    results = {run.folder: result for run in plan.runs if (result := _complete(out / run.folder))}
    states = states_of(plan, out)
    parts = []
    for flag in plan.sizes:
        missing = [Missing(each.protocol, LEFT_OUT, each.reason) for each in plan.left_out if each.subset == flag]
        runs = [run for run in plan.runs if run.subset == flag]
        for run in runs:
            if run.folder not in results:
                status = states[run.folder]
                state = State.WAITING if status.state is State.DONE else status.state
                missing.append(Missing(run.protocol, str(state), status.note))
        scored = [(run, results[run.folder]) for run in runs if run.folder in results]
        parts.append(_subset(out, plan, flag, scored, missing))
    names = dict.fromkeys([run.protocol for run in plan.runs])
    means = [_mean(out, name, parts) for name in names if _averaged(name, parts)]
    return ScoreCard(
        plan.title,
        plan.preset,
        tuple(names),
        tuple(parts),
        tuple(means),
        _releases(results.values()),
        tuple(sorted({str(result.hardware) for result in results.values()})),
    )


def predictions_on_test(out: Path, subset_result: SubsetResult, result: ProtocolResult) -> dict[int, Predictions]:
    """Seed -> checked predictions of a run on test.

    Raises:
        MedMNISTError: A prediction file or the labels are missing or damaged.
    """
    flag, size = subset_result.subset, subset_result.size
    entry, labels = subset(flag), read_labels(out, flag, size)
    found = {}
    for seed in result.seeds:
        folder = seed_folder(out / result.folder, seed)
        files = files_of_split(folder, "test")
        if len(files) != 1:
            raise TrainingError(
                f"{folder} has {len(files)} prediction files of test instead of one: remove {out / result.folder} and "
                "run again"
            )
        scores = read_predictions(files[0]).scores
        found[seed] = check(labels, scores, entry.task, from_logits=False, num_classes=len(entry.labels))
    return found


def _complete(folder: Path) -> RunResult | None:
    """The results of a run; None if they are missing, partial or without test."""
    path = folder / RESULTS_NAME
    if not path.is_file():
        return None
    result = read_results(path)
    return None if result.partial or not result.test else result


def _subset(
    out: Path, plan: Plan, flag: str, runs: Sequence[tuple[PlannedRun, RunResult]], missing: Sequence[Missing]
) -> SubsetResult:
    first = runs[0][1] if runs else None
    if first and any(result.data.identity != first.data.identity for _, result in runs):
        raise TrainingError(f"{out}: runs on {flag} read different data: remove their folders and run again")
    store = read_manifest(out, flag)
    return SubsetResult(
        flag,
        plan.sizes[flag],
        repository(first.recipe) if first else flag,
        first.seeds[0].data if first else None,
        _public(store.model, plan) if store else None,
        store.input if store else None,
        tuple(_result(run, result) for run, result in runs),
        tuple(missing),
    )


def _public(model: ModelRecord, plan: Plan) -> ModelRecord:
    """The record of a model without the path of a local one."""
    return replace(model, id=plan.title, origin=model.origin.replace(plan.model, plan.title))


def _result(run: PlannedRun, result: RunResult) -> ProtocolResult:
    recipe, seeds = result.recipe, sorted(result.seeds, key=lambda seed: seed.seed)
    reads_labels = recipe.method != ZERO_SHOT
    rows = [
        seed.data.chosen["train"].count if "train" in seed.data.chosen else seed.data.rows["train"] for seed in seeds
    ]
    rank, note = _rank(result)
    return ProtocolResult(
        run.protocol,
        run.definition,
        recipe.few_labels,
        seeds=tuple(seed.seed for seed in seeds),
        train_rows=tuple(rows if reads_labels else [0] * len(seeds)),
        auc=_estimate(result, "auc"),
        acc=_estimate(result, "acc"),
        ece=_mean_of(result, "ece"),
        brier=_mean_of(result, "brier"),
        rank=rank,
        rank_note=note,
        seconds=sum(seed.facts.seconds or 0.0 for seed in seeds),
        folder=run.folder,
    )


def _mean_of(result: RunResult, name: str) -> float:
    return statistics.fmean(seed.test.get(name, math.nan) for seed in result.seeds)


def _estimate(result: RunResult, name: str) -> Estimate:
    """A score with its interval: over label seeds for several choices of few labels, otherwise over test rows."""
    values = [seed.test.get(name, math.nan) for seed in result.seeds]
    mean = statistics.fmean(values)
    if result.recipe.few_labels and len(values) > 1:
        half = student_quantile(_LEVEL, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
        return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half), OVER_SEEDS)
    low, high = (_mean_of(result, f"{name}_{end}") for end in ("low", "high"))
    methods = dict.fromkeys(seed.intervals[name] for seed in result.seeds if name in seed.intervals)
    return Estimate(mean, low, high, f"{OVER_ROWS}, {' and '.join(methods)}")


def _rank(result: RunResult) -> tuple[Rank | None, str]:
    """Ranks among the published results of the same protocol, and what they are among or why there are none."""
    if board_of(result.recipe) is None:
        return None, NO_ROWS
    if not result.provenance.comparable:
        return None, f"the data is {result.provenance}"
    rank = rank_of(result)
    return rank, f"among {rank.protocol}" if rank else "a score is undefined"


def _averaged(protocol: str, parts: Sequence[SubsetResult]) -> list[SubsetResult]:
    """The subsets to average a protocol over: two or more with a result, whose data has one provenance."""
    scored = [part for part in parts if part.result(protocol)]
    return scored if len(scored) > 1 and len({part.provenance for part in scored}) == 1 else []


def _mean(out: Path, protocol: str, parts: Sequence[SubsetResult]) -> MeanResult:
    scored = _averaged(protocol, parts)
    estimate = partial(_of_interval, f"{OVER_ROWS} within subsets, bootstrap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScoreWarning)
        found = bootstrap_mean(groups_of(out, protocol, scored), HEADLINE)
    return MeanResult(protocol, tuple(part.subset for part in scored), *(estimate(found[name]) for name in HEADLINE))


def groups_of(out: Path, protocol: str, parts: Iterable[SubsetResult]) -> dict[str, list[Predictions]]:
    """Flag of each subset -> predictions of a protocol's seeds; the subsets have a result."""
    groups = {}
    for part in parts:
        result = part.result(protocol)
        assert result is not None
        groups[part.subset] = list(predictions_on_test(out, part, result).values())
    return groups


def _of_interval(what: str, interval: Interval) -> Estimate:
    return Estimate(interval.estimate, interval.low, interval.high, what)


def _releases(results: Iterable[RunResult]) -> dict[str, str]:
    """Library -> its versions, of all runs."""
    versions: dict[str, dict[str, None]] = {}
    for result in results:
        for name, version in result.releases.items():
            versions.setdefault(name, {})[version] = None
    return {name: ", ".join(sorted(listed)) for name, listed in sorted(versions.items())}
