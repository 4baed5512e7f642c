"""A run on several subsets: one network, and the scores of each subset and their mean."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medmnist_hf.training.joint.results import (
    JointResult,
    JointSeed,
    SubsetResult,
    mean_of,
    read_joint_seed,
)
from medmnist_hf.training.methods.base import JointRun, Run
from medmnist_hf.training.report.publishable import selection_score
from medmnist_hf.training.results import EnsembleResult, Facts, SeedResult
from medmnist_hf.training.scoring import spreads
from medmnist_hf.training.sessions.session import Session


class JointSession(Session[JointSeed, JointResult]):
    """A run on several subsets."""

    def share(self, parts: tuple[Run, ...], workers: int | None) -> JointRun:
        """The runs of all subsets as one."""
        return JointRun(self.recipe, parts, self.processes.device, self.quiet, workers, echo=self.echo)

    def read_seed(self, folder: Path) -> JointSeed | None:
        """Read a `JointSeed`."""
        return read_joint_seed(folder)

    def combine(self, seed: int, subsets: Sequence[SeedResult]) -> JointSeed:
        """The means over the subsets, and each subset."""
        return JointSeed(
            seed,
            mean_of(subsets, lambda result: result.validation),
            mean_of(subsets, lambda result: result.test),
            {
                part.dataset: replace(result, facts=Facts())
                for part, result in zip(self.recipe.parts, subsets, strict=True)
            },
            subsets[0].facts,  # equal for all
        )

    def summarize(self, seeds: Sequence[JointSeed], ensembles: Sequence[EnsembleResult | None]) -> JointResult:
        """Summarize the seeds of each subset, and of the mean."""
        existing = [ensemble for ensemble in ensembles if ensemble is not None]
        mean = (
            EnsembleResult(
                mean_of(existing, lambda result: result.validation), mean_of(existing, lambda result: result.test), {}
            )
            if existing
            else None
        )
        subsets = {
            part.dataset: _summary([seed.subsets[part.dataset] for seed in seeds], ensemble)
            for part, ensemble in zip(self.recipe.parts, ensembles, strict=True)
        }
        return JointResult(self.recipe, _summary(seeds, mean), subsets, tuple(seeds))

    def publish(self, result: JointResult, folders: Mapping[int, Path]) -> int:
        """Select the seed with the best mean on validation; its model has no card."""
        select = self.recipe.select
        return max(result.seeds, key=lambda seed: selection_score(seed.validation, seed.facts, select)).seed


def _summary(seeds: Sequence[SeedResult | JointSeed], ensemble: EnsembleResult | None) -> SubsetResult:
    return SubsetResult(spreads([seed.validation for seed in seeds]), spreads([seed.test for seed in seeds]), ensemble)
