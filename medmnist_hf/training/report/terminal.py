"""Print the results of a run on the terminal, with the published results of its subset."""

import math
from collections.abc import Iterator
from pathlib import Path

from medmnist_hf import console
from medmnist_hf.errors import counted
from medmnist_hf.leaderboard.terminal import SHOWN, print_board
from medmnist_hf.own_code.names import public_code
from medmnist_hf.training.recipe import RECIPE_NAME
from medmnist_hf.training.registry import method
from medmnist_hf.training.report.publishable import best_seed
from medmnist_hf.training.results import (
    HEADLINE,
    RESULTS_NAME,
    EnsembleResult,
    Measures,
    RunResult,
    SeedResult,
    digits,
)
from medmnist_hf.training.run_folder import BEST, LAST, seed_folder
from medmnist_hf.training.standing import board_of, own_ensemble, own_mean
from medmnist_hf.training.tracking import TENSORBOARD


def own_name(result: RunResult) -> str:
    """Name of a run in a table, e.g. ``timm/resnet18 finetune (28)`` or ``FLAML, flattened pixels (28)``."""
    recipe, engine = result.recipe, method(result.recipe.method).engine
    few = f", {recipe.few_labels}" if recipe.few_labels else ""
    if engine is None:
        return f"{public_code(recipe.model)} {recipe.method} ({recipe.size}{few})"
    facts = [seed.facts for seed in result.seeds]
    mark = ", partial" if any(fact.partial for fact in facts) else ""
    return f"{engine.title}, {facts[0].inputs} ({recipe.size}{few}){mark}"


def print_results(result: RunResult, folder: Path) -> None:
    """Print each seed and, for a complete run with test scores on verified data, the place of their mean.

    Results on data that is not verified start with a warning and are shown without published results.

    Args:
        result: Results of the run.
        folder: The run's folder.
    """
    out = console.terminal()
    if not result.provenance.comparable:
        out.print(result.provenance.warning, soft_wrap=True)
    # Columns are identified by name, so a space distinguishes the column of ACC if both names are equal.
    auc, acc = (f"95 % {result.seeds[0].intervals.get(name, 'interval')}" for name in HEADLINE)
    acc += " " if acc == auc else ""
    seeds = console.table("seed", "validation AUC", "ACC", "test AUC", auc, "test ACC", acc, "seconds", text=())
    for seed in result.seeds:
        seeds.add_row(str(seed.seed), *_scored(seed), f"{seed.facts.seconds:,.1f}")
    if result.ensemble:
        seeds.add_row("ensemble", *_scored(result.ensemble), "")
    out.print(seeds)
    for seed in result.seeds:
        if seed.facts.engine:
            out.print(_search(seed), soft_wrap=True)
    split, means = ("test", result.test) if result.test else ("validation", result.validation)
    name = f"{result.recipe.dataset} {result.recipe.size}, {own_name(result)}, {_seeds(len(result.seeds))}"
    out.print(
        f"\n{result.provenance.mark(name)}: "
        f"{split} AUC {means.auc}, ACC {means.acc} on {_scored_rows(result, split):,} samples\n",
        soft_wrap=True,
    )
    if result.recipe.few_labels:
        out.print(f"trained on {train_rows(result)}, so without a place among the published results\n", soft_wrap=True)
    if result.rank:
        _print_leaderboard(result)
    out.print(f"written to {folder}:", soft_wrap=True)
    for name, about in _written(result, folder):
        out.print(f"  {name:<12s}  {about}", soft_wrap=True)


def train_rows(result: RunResult) -> str:
    """How many train rows the seeds of a run learned from, and why, e.g. ``55 of 546 train rows (fraction 0.1)``."""
    counts = sorted({seed.data.chosen["train"].count for seed in result.seeds if "train" in seed.data.chosen})
    few = f" of {result.data.rows['train']:,} train rows ({result.recipe.few_labels})"
    return " or ".join(f"{count:,}" for count in counts) + few


def _scored_rows(result: RunResult, split: str) -> int:
    chosen = result.data.chosen.get(split)
    return result.data.rows[split] if chosen is None else chosen.count


def _written(result: RunResult, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the names and descriptions of the files in a run's folder."""
    yield RESULTS_NAME, "scores, with the recipe, hardware and library releases"
    yield RECIPE_NAME, "the recipe, for --config"
    if (folder / BEST).exists():
        yield f"{BEST}/", f"the model with its card, from seed {best_seed(result).seed}, the best on validation"
    for seed in result.seeds:
        path = seed_folder(folder, seed.seed)
        parts = {
            "figures": "figures",
            BEST: "model of the best epoch",
            LAST: "model of the last epoch",
            TENSORBOARD: "log for TensorBoard",
        }
        existing = ", ".join(about for name, about in parts.items() if (path / name).exists())
        yield f"{path.name}/", "prediction files" + (f", {existing}" if existing else "")
    if result.ensemble:
        yield "*.csv", "prediction files of the ensemble"


def _seeds(count: int) -> str:
    return counted(count, "seed")


def _print_leaderboard(result: RunResult) -> None:
    name = own_name(result)
    own = [own_mean(name, result)]
    if result.ensemble:
        own.append(own_ensemble(f"{name}, ensemble of the seeds", result.ensemble))
    if board := board_of(result.recipe, *own):
        print_board(board, at_most=SHOWN)
        console.terminal().print()


def _search(seed: SeedResult) -> str:
    """Describe the search of a seed in one line."""
    facts = seed.facts
    report = f"{facts.engine}, {counted(facts.trials or 0, 'trial')} in {facts.search_seconds:,.0f} s"
    return f"seed {seed.seed}: {report}" + (f"; partial: {facts.partial}" if facts.partial else "")


def _scored(result: SeedResult | EnsembleResult) -> list[str]:
    """AUC and ACC on validation, and on test with intervals."""
    validation = [digits(result.validation.auc), digits(result.validation.acc)]
    return validation + [text for name in ("auc", "acc") for text in _with_interval(result.test, name)]


def _with_interval(test: Measures[float], name: str) -> tuple[str, str]:
    value, low, high = (digits(test.get(key, math.nan)) for key in (name, f"{name}_low", f"{name}_high"))
    return value, f"{low} to {high}" if test else "-"
