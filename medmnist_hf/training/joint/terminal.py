"""Print the results of a run on several subsets on the terminal: each subset and the mean."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmnist_hf import console
from medmnist_hf.errors import counted
from medmnist_hf.training.joint.results import JointResult
from medmnist_hf.training.recipe import RECIPE_NAME
from medmnist_hf.training.results import HEADLINE, RESULTS_NAME, digits
from medmnist_hf.training.run_folder import BEST


def print_joint_results(result: JointResult, folder: Path) -> None:
    """Print the scores of each subset and the mean, per seed and over all seeds.

    Results on data that is not verified start with a warning for each kind of data.

    Args:
        result: Results of the run.
        folder: The run's folder.
    """
    out, recipe = console.terminal(), result.recipe
    provenances = {part.data.provenance for seed in result.seeds for part in seed.subsets.values()}
    for provenance in sorted(provenances):
        if not provenance.comparable:
            out.print(provenance.warning, soft_wrap=True)
    table = console.table("seed", "subset", "validation AUC", "ACC", "test AUC", "test ACC", text=("subset",))
    for seed in result.seeds:
        for name, part in {**seed.subsets, "mean": seed}.items():
            table.add_row(str(seed.seed), name, *_scored(part))
    if len(result.seeds) > 1:
        overall = {**result.subsets, "mean": result.mean}
        for name, summary in overall.items():
            table.add_row("mean", name, *_scored(summary))
        for name, summary in overall.items():
            if summary.ensemble is not None:
                table.add_row("ensemble", name, *_scored(summary.ensemble))
    out.print(table)
    split, means = ("test", result.mean.test) if result.mean.test else ("validation", result.mean.validation)
    seeds = counted(len(result.seeds), "seed")
    name = f"{len(result.subsets)} subsets {recipe.size}, {recipe.model} {recipe.method}, {seeds}"
    for provenance in sorted(provenances):
        name = provenance.mark(name)
    out.print(f"\n{name}: mean {split} AUC {means.auc}, ACC {means.acc}\n", soft_wrap=True)
    out.print(f"written to {folder}:", soft_wrap=True)
    out.print(f"  {RESULTS_NAME:<12s}  scores, with the recipe, hardware and library releases", soft_wrap=True)
    out.print(f"  {RECIPE_NAME:<12s}  the recipe, for --config", soft_wrap=True)
    if (folder / BEST).exists():
        about = f"the model of the seed with the best mean {recipe.select} on validation"
        out.print(f"  {BEST + '/':<12s}  {about}", soft_wrap=True)
    out.print(f"  {'seed-*/':<12s}  prediction files of each subset", soft_wrap=True)


def _scored(result: Any) -> list[str]:
    return [_text(getattr(result, split), name) for split in ("validation", "test") for name in HEADLINE]


def _text(measures: Mapping[str, Any], name: str) -> str:
    value = measures.get(name)
    return "-" if value is None else digits(value) if isinstance(value, float) else str(value)
