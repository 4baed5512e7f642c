"""One call of `run`: open the data, run the unfinished seeds, and write everything into the folder of the run."""

import contextlib
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from safetensors import SafetensorError
from transformers import set_seed

from medmnist_hf import console
from medmnist_hf.array_types import FloatArray
from medmnist_hf.catalog import SPLITS
from medmnist_hf.data.arrays import read_arrays
from medmnist_hf.data.configs import open_config
from medmnist_hf.errors import DivergenceError, TrainingError, counted, is_full
from medmnist_hf.files import sole_process, write_atomically
from medmnist_hf.scoring.predictions import Predictions
from medmnist_hf.training.data.few_labels import validation_rows
from medmnist_hf.training.methods.base import Fitted, Run, TrainingRun
from medmnist_hf.training.methods.resume import checkpoint_folder, last_checkpoint
from medmnist_hf.training.methods.saved_model import check_saved
from medmnist_hf.training.models.saving import Built, save_model
from medmnist_hf.training.recipe import Recipe
from medmnist_hf.training.registry import method
from medmnist_hf.training.report.figures import can_draw, write_card, write_figures
from medmnist_hf.training.report.publishable import best_seed
from medmnist_hf.training.results import (
    RESULTS_NAME,
    SEED_RESULT_NAME,
    DataRecord,
    EnsembleResult,
    Facts,
    RunResult,
    SeedResult,
    read_seed,
)
from medmnist_hf.training.run_folder import BEST, CHECKPOINTS, LAST, LOCK_NAME, RunFolder, seed_folder
from medmnist_hf.training.scoring import check_scores, score_seed, summarize
from medmnist_hf.training.sessions.ensemble import ensemble, write_scores

_NO_SPACE: Final = re.compile(
    "No space left|quota exceeded|File too large"  # safetensors
    "|PytorchStreamWriter failed writing|unexpected pos"  # torch: a short write
)


class _OfSeed(Protocol):
    @property
    def facts(self) -> Facts:
        """What the method reports."""

    def to_json(self) -> str:
        """The text of ``result.json``."""


class _OfRun(Protocol):
    def to_json(self) -> str:
        """The text of ``results.json``."""


Seed = TypeVar("Seed", bound=_OfSeed)
Result = TypeVar("Result", bound=_OfRun)


class _OvertakenError(Exception):
    """Another process made the folder of the run while this one was still checking."""


def run_in(
    kind: "type[Session[Seed, Result]]", folder: RunFolder, processes: PartialState, quiet: bool, workers: int | None
) -> Result:
    """Run a session in a folder, again if another process made the folder in between."""
    while True:
        with (
            full_disk_as_error(folder.path),
            contextlib.ExitStack() as locks,
            contextlib.suppress(_OvertakenError),
        ):
            return kind(folder, processes, locks, quiet or not processes.is_main_process).run(workers)


@dataclass(slots=True, eq=False)
class Session(ABC, Generic[Seed, Result]):
    """One call of `run`. It locks the folder at once if it exists, otherwise when it makes it."""

    folder: RunFolder
    processes: PartialState
    locks: contextlib.ExitStack
    quiet: bool
    locked: bool = False
    claimed: bool = False

    @property
    def recipe(self) -> Recipe:
        """The recipe to run."""
        return self.folder.recipe

    def lock(self) -> None:
        """Lock the folder; with a launcher, the first process does so for all."""
        out, alone = self.folder.path, self.processes.num_processes == 1
        self.locked = True
        if self.processes.is_main_process:
            # Other processes of a launcher wait at a barrier, which times out after minutes with a traceback.
            self.locks.enter_context(sole_process(out / LOCK_NAME, f"running in {out}", wait=alone))

    @abstractmethod
    def share(self, parts: tuple[Run, ...], workers: int | None) -> TrainingRun:
        """What all seeds share, given the run of each subset."""

    @abstractmethod
    def read_seed(self, folder: Path) -> Seed | None:
        """Read the result of a seed; None if it has none."""

    @abstractmethod
    def combine(self, seed: int, subsets: Sequence[SeedResult]) -> Seed:
        """The result of a seed, given those of its subsets."""

    @abstractmethod
    def summarize(self, seeds: Sequence[Seed], ensembles: Sequence[EnsembleResult | None]) -> Result:
        """The results of the run, given those of its seeds, and the ensemble of each subset."""

    @abstractmethod
    def publish(self, result: Result, folders: Mapping[int, Path]) -> int:
        """Select the seed to publish, and write the card of its model if it has one."""

    def run(self, workers: int | None) -> Result:
        """Run all unfinished seeds and write the results."""
        recipe, out, processes = self.recipe, self.folder.path, self.processes
        if out.is_dir():
            self.lock()
        with processes.main_process_first():
            shared = self.share(tuple(self._open(workers)), workers)
        self.echo(f"  device   {_describe_device(processes.device)}")
        folders = {seed: seed_folder(out, seed) for seed in recipe.seeds}
        finished = {
            seed: None if self.folder.force else _if_complete(self.read_seed(folder))
            for seed, folder in folders.items()
        }
        processes.wait_for_everyone()  # all processes have read the folder before one writes
        to_draw = None in finished.values() and not recipe.scores_only
        draw = processes.is_main_process and to_draw and can_draw()
        try:
            seeds = self._run_seeds(shared, finished, folders, draw)
        except KeyboardInterrupt:
            saved = [seed for seed in map(self.read_seed, folders.values()) if seed] if self.claimed else []
            if any(seed.facts.partial for seed in saved):
                write_atomically(out / RESULTS_NAME, self.summarize(saved, [None] * len(shared.each)).to_json())
            raise
        self.claim(shared)
        ensembles = [
            ensemble(part, {seed: self.place(path, part) for seed, path in folders.items()}, self.place(out, part))
            if processes.is_main_process
            else None
            for part in shared.each
        ]
        result = self.summarize(seeds, ensembles)
        if processes.is_main_process:
            self.folder.link_best(self.publish(result, folders))
            write_atomically(out / RESULTS_NAME, result.to_json())
        return result

    def place(self, folder: Path, part: Run) -> Path:
        """The folder of a subset's prediction files and figures within that of a seed or of the run."""
        return folder / part.recipe.dataset if self.recipe.is_joint else folder

    def _open(self, workers: int | None) -> Iterator[Run]:
        """Check the data of all subsets, then read them."""
        configs = [
            open_config(part.source, part.config, part.root, revision=part.revision) for part in self.recipe.parts
        ]
        records = [DataRecord.of(config) for config in configs]
        self.folder.check(*records)
        for recipe, config, record in zip(self.recipe.parts, configs, records, strict=True):
            rows = ", ".join(f"{name} {count:,}" for name, count in record.rows.items())
            self.echo(f"  data     {config.where} ({record.provenance}): {rows} rows")
            data = {split: read_arrays(config, split) for split in SPLITS}
            yield Run(
                *(recipe, data, record, self.processes.device, self.quiet, workers),
                echo=self.echo,
                rows=validation_rows(recipe, data),
            )

    def echo(self, line: str) -> None:
        """Print a line of progress."""
        if not self.quiet:
            console.echo(line, err=True)

    def claim(self, shared: TrainingRun) -> None:
        """Claim the folder for this run; further calls do nothing."""
        if self.claimed:
            return
        self.claimed = True
        if self.processes.is_main_process:
            if not self.locked:
                out = self.folder.path
                out.mkdir(parents=True, exist_ok=True)
                self.lock()
                if self.processes.num_processes == 1 and any(path.name != LOCK_NAME for path in out.iterdir()):
                    raise _OvertakenError
            self.folder.claim(*(part.record for part in shared.each))
        self.processes.wait_for_everyone()

    def _run_seeds(
        self, shared: TrainingRun, finished: Mapping[int, Seed | None], folders: Mapping[int, Path], draw: bool
    ) -> list[Seed]:
        """Run all unfinished seeds; if a seed diverges, the others still run."""
        seeds, diverged = [], []
        for at, (seed, result) in enumerate(finished.items(), 1):
            self.echo(
                f"seed {seed}"
                + (f" ({at} of {len(finished)})" if len(finished) > 1 else "")
                + (": already finished" if result else "")
            )
            try:
                seeds.append(result or self._run_seed(shared.having(is_first=at == 1), seed, folders[seed], draw))
            except DivergenceError as error:
                diverged.append(f"seed {seed}: {error}")
        if diverged:
            raise DivergenceError("; ".join(diverged))
        return seeds

    def _run_seed(self, shared: TrainingRun, seed: int, folder: Path, draw: bool) -> Seed:
        """Run one seed, from its last checkpoint if it has one, and write its result."""

        def claim() -> None:
            self.claim(shared)
            folder.mkdir(exist_ok=True)

        start = time.monotonic()
        set_seed(seed)
        used = shared.for_seed(seed)
        for part in used.each:
            of = f" of {part.recipe.dataset}" if self.recipe.is_joint else ""
            for split, chosen in part.record.chosen.items():
                self.echo(f"  labels   {chosen.count:,} of {part.record.rows[split]:,} rows of {split}{of}")
        with full_disk_as_error(folder):
            fitted: Fitted = method(shared.recipe.method).fit(used.having(claim=claim), seed, folder)
            claim()
            seconds = round(fitted.earlier_seconds + time.monotonic() - start, 2)
            facts = fitted.facts | {"seconds": seconds}
            scored = list(_score_each(used, seed, fitted, facts))
            result = self.combine(seed, [each.result for each in scored])
            if self.processes.is_main_process:
                if not self.recipe.scores_only:
                    if fitted.built is not None:
                        _replace_model(used, fitted.built, fitted.scores["validation"], folder / BEST)
                    _keep_last(folder / CHECKPOINTS, folder / LAST)
                for each in scored:
                    _write_scored(each, self.place(folder, each.run), draw, None if self.recipe.is_joint else fitted)
                write_atomically(folder / SEED_RESULT_NAME, result.to_json())  # marks the seed as finished
                if not result.facts.partial:
                    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        self.processes.wait_for_everyone()
        if fitted.stopped:
            raise KeyboardInterrupt
        return result


class SingleSession(Session[SeedResult, RunResult]):
    """A run on one subset."""

    def share(self, parts: tuple[Run, ...], workers: int | None) -> TrainingRun:
        """The run of the subset."""
        return parts[0]

    def read_seed(self, folder: Path) -> SeedResult | None:
        """Read a `SeedResult`."""
        return read_seed(folder)

    def combine(self, seed: int, subsets: Sequence[SeedResult]) -> SeedResult:
        """The result of the subset."""
        return subsets[0]

    def summarize(self, seeds: Sequence[SeedResult], ensembles: Sequence[EnsembleResult | None]) -> RunResult:
        """Summarize the seeds."""
        return summarize(self.recipe, seeds, ensembles[0])

    def publish(self, result: RunResult, folders: Mapping[int, Path]) -> int:
        """Select the seed that is the best on validation, and write its card."""
        write_card({seed: folder / BEST for seed, folder in folders.items()}, result)
        return best_seed(result).seed


def _describe_device(device: torch.device) -> str:
    """A device with its name, or the CPU with the number of threads that torch uses."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({counted(torch.get_num_threads(), 'thread')})" if device.type == "cpu" else str(device)


def _if_complete(result: Seed | None) -> Seed | None:
    """The result of a finished seed; None if its search was interrupted."""
    return None if result is None or result.facts.partial else result


@dataclass(frozen=True, slots=True)
class _Scored:
    """A subset's part of a seed."""

    run: Run
    result: SeedResult
    scores: dict[str, FloatArray]
    predictions: dict[str, Predictions]


def _score_each(used: TrainingRun, seed: int, fitted: Fitted, facts: Mapping[str, Any]) -> Iterator[_Scored]:
    separated = {split: used.separate(scores, split) for split, scores in fitted.scores.items()}
    for at, part in enumerate(used.each):
        scores = {split: parts[at] for split, parts in separated.items()}
        predictions = {split: check_scores(part.recipe, part.labels(split), own) for split, own in scores.items()}
        result = score_seed(part.recipe, seed, predictions, facts=facts, data=part.record)
        yield _Scored(part, result, scores, predictions)


def _write_scored(scored: _Scored, folder: Path, draw: bool, fitted: Fitted | None) -> None:
    """Write scores and, if they are to be drawn, figures; those of the network and its training only with `fitted`."""
    folder.mkdir(exist_ok=True)
    run, result, splits = scored.run, scored.result, scored.predictions
    for split, scores in scored.scores.items():
        write_scores(run, folder, split, scores, f"seed{result.seed}")
    if draw:
        drawn, built = (result, fitted.built) if fitted else (replace(result, facts=Facts()), None)
        write_figures(run.recipe, drawn, folder, data=run.data, rows=run.rows, predictions=splits, built=built)


def _replace_model(shared: TrainingRun, built: Built, scores: FloatArray, folder: Path) -> None:
    """Save a model atomically over an existing one, after checking that the saved model reproduces the scores."""
    fresh = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    save_model(built, fresh)
    try:
        check_saved(shared, built, scores, fresh)
    except TrainingError:
        shutil.rmtree(fresh)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def _keep_last(checkpoints: Path, last: Path) -> None:
    """Keep weights and configuration of the last checkpoint; its other files are needed only to resume."""
    newest = last_checkpoint(checkpoints)
    if newest is None:
        return
    last.mkdir(exist_ok=True)
    for path in checkpoint_folder(newest.step, checkpoints).iterdir():
        if path.suffix == ".safetensors" or path.name.endswith("config.json"):
            shutil.copyfile(path, last / path.name)


@contextlib.contextmanager
def full_disk_as_error(folder: Path) -> Iterator[None]:
    """Raise a `TrainingError` if the disk gets full, and remove a checkpoint in the folder that is incomplete."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _no_space(error):
            raise
        last_checkpoint(folder / CHECKPOINTS)
        raise TrainingError(f"no space left for {folder}: make room, then run the same command again") from None


def _no_space(error: BaseException) -> bool:
    """Whether an error of Python, safetensors or torch reports a full disk or a limit on file sizes."""
    return is_full(error) or (not isinstance(error, OSError) and _NO_SPACE.search(str(error)) is not None)
