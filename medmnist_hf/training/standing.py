"""Where a run stands among the published results of its protocol."""

import math
from typing import Final

from medmnist_hf.leaderboard.board import Board, OwnResult, leaderboard
from medmnist_hf.leaderboard.protocols import Setting, protocols_of
from medmnist_hf.leaderboard.uncertainty import interval_standard_error, with_seeds
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import PAPER_MODELS, PIXELS, method
from medmnist_hf.training.results import EnsembleResult, Rank, RunResult

_ADAPTATIONS: Final = {"finetune": "full"} | {
    name: name for name in ("partial", "lora", "linear-probe", "knn", "zero-shot")
}
"""Method of a run on a pretrained model -> what was trained; other methods search for a classifier of its features."""


def setting_of(recipe: Recipe) -> Setting:
    """What decides with which results a run of a recipe may be compared."""
    fetched = recipe.pretrained and recipe.model not in PAPER_MODELS
    pretrained = recipe.model != PIXELS and (fetched or recipe.checkpoint is not None)
    adaptation = _ADAPTATIONS.get(recipe.method, "frozen") if pretrained else "scratch"
    return Setting(
        size=recipe.size,
        pretraining=recipe.model if pretrained else "none",
        adaptation=adaptation,
        labels="few" if recipe.few_labels else "all" if method(recipe.method).reads_labels else "none",
    )


def protocol_of(recipe: Recipe) -> str:
    """Name of the protocol in which runs of a recipe are ranked; empty if there is none, as for few labels."""
    return "" if recipe.few_labels else next(iter(protocols_of(setting_of(recipe))), "")


def own_mean(name: str, result: RunResult) -> OwnResult:
    """The means over the seeds of a run that scored test, as a result to rank."""
    test = result.test

    def error(measure: str) -> float:
        ends = (test.get(f"{measure}_{end}") for end in ("low", "high"))
        low, high = (math.nan if end is None else end.mean for end in ends)
        std = test[measure].std
        return with_seeds(interval_standard_error(low, high), math.nan if std is None else std, len(result.seeds))

    return OwnResult(name, test.auc.mean, test.acc.mean, error("auc"), error("acc"))


def own_ensemble(name: str, ensemble: EnsembleResult) -> OwnResult:
    """The ensemble of a run that scored test, as a result to rank."""
    test = ensemble.test

    def error(measure: str) -> float:
        return interval_standard_error(*(test.get(f"{measure}_{end}", math.nan) for end in ("low", "high")))

    return OwnResult(name, test.auc, test.acc, error("auc"), error("acc"))


def board_of(recipe: Recipe, *own: OwnResult) -> Board | None:
    """The leaderboard of the protocol and size of a recipe, with own results; None without published results.

    Args:
        recipe: A recipe on one subset.
        own: Results of runs of the recipe on verified data.
    """
    name = protocol_of(recipe)
    board = leaderboard(recipe.dataset, name, own, size=recipe.size) if name else None
    return board if board and any(line.result for line in board.ranked) else None


def rank_of(result: RunResult) -> Rank | None:
    """Ranks of the means of a run on verified data; None if it is not complete or has no defined test scores."""
    if not result.provenance.comparable or not result.test or result.partial:
        return None
    board = board_of(result.recipe, own_mean("", result))
    line = next((line for line in board.ranked if line.result is None), None) if board else None
    if board is None or line is None or line.auc_rank is None or line.acc_rank is None:
        return None
    return Rank(line.auc_rank, line.acc_rank, len(board.ranked), board.protocol.name)
